"""How a refused command names what was typed, and when it offers something near."""

from __future__ import annotations

import pytest
from cyclopts import App

from vramcast.cli.main import app
from vramcast.cli.nearness import METHODS, nearest
from vramcast.cli.refusals import refusal
from vramcast.errors import InputError, ModelConfigError, RecordingError, UnknownGPUError, VramcastError

FLAGS = "batch-size sequence-length precision optimizer attention checkpointing dropout gradient-accumulation-steps gpu gpu-memory"
FLAGS += " max-grad-norm expandable-segments trace json check offline steps tokens mfu price allow-tf32 kv-cache-dtype"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("bach-size", "batch-size"),
        ("batchsize", "batch-size"),
        ("batch", "batch-size"),
        ("per-device-train-batch-size", "batch-size"),
        ("seq-len", "sequence-length"),
        ("grad-acc-steps", "gradient-accumulation-steps"),
        ("gradient-checkpointing", "checkpointing"),
        ("mixed-precision", "precision"),
        ("kv-cache", "kv-cache-dtype"),
        ("optmizer", "optimizer"),
        ("lora", None),
        ("load", None),
        ("zork", None),
        ("lr", None),
        ("offload", None),
        ("bs", None),
        ("model-parallel", None),
    ],
)
def test_only_what_is_near_is_offered(typed: str, meant: str | None) -> None:
    assert nearest(typed, {flag: flag for flag in FLAGS.split()}) == meant


def test_no_flag_is_a_method_of_several_words() -> None:
    """A flag that exists is never unknown; the words of methods must not hide a slip in one that does."""
    words = {word for flag in FLAGS.split() for word in flag.split("-")}
    assert METHODS & words == set()


def said(error: Exception, words: str, parser: App = app) -> str:
    return refusal(error, parser, words.split())


@pytest.mark.parametrize(
    ("error", "words", "named"),
    [
        (InputError("sequence_length", 5, "x"), "training gpt2", "--sequence-length=5: x"),
        (InputError("sequence_length", 5, "x"), "training gpt2 --sequence_length 5", "--sequence_length=5: x"),
        (InputError("sequence_length", 5, "x"), "training gpt2 --Sequence-Length=5", "--Sequence-Length=5: x"),
        (
            InputError("batch_size x sequence_length", "1 x 5", "x"),
            "training gpt2 --batch_size 1",
            "--batch_size x --sequence-length='1 x 5': x",
        ),
        (UnknownGPUError("gpu", "zork", "x"), "training gpt2 --gpu zork", "--gpu='zork': x"),
        (UnknownGPUError("gpu", "zork", "x"), "fit gpt2 --on l4 zork", "--on='zork': x"),
        (UnknownGPUError("gpu", "zork", "x"), "fit gpt2 --price=zork=1 --on l4", "--price='zork': x"),
        (
            InputError("gpu_memory", "2GB", "x"),
            "run --gpu custom --gpu_memory 2GB a.py --gpu x",
            "--gpu_memory='2GB': x",
        ),
        (InputError("price_per_gpu_hour", 2.0, "x"), "training gpt2 --price 2", "--price=2.0: x"),
        (InputError("price_file /a b", "z", "x"), "fit gpt2 --price_file /a", "--price_file /a b='z': x"),
        (InputError("--input", "a", "x"), "gpt train --input_file a", "--input_file='a': x"),
        (InputError("--config", None, "x"), "gpt train --name a", "--config=None: x"),
        (InputError("--from", "a", "x"), "gpt train --from=a", "--from='a': x"),
        (InputError("--zork", "a", "x"), "gpt train", "--zork='a': x"),
        (InputError("VRAMCAST_CACHE", "a", "x"), "tapes record gpt2", "VRAMCAST_CACHE='a': x"),
        (ModelConfigError("model", "a", "x"), "training a", "model='a': x"),
        (ModelConfigError("dropout", 2, "x"), "training a --dropout 0.1", "dropout=2: x"),
        (ModelConfigError("vocab_size", 2, "x"), "gpt train --vocab_size 5", "vocab_size=2: x"),
        (InputError("gpu", "a", "x"), "no-such-command", "gpu='a': x"),
        (InputError("gpu", "a", "x"), "", "gpu='a': x"),
        (RecordingError("a\nb  c"), "training gpt2", "a b c"),
        (VramcastError("y" * 9000), "training gpt2", "y" * 100),
    ],
    ids=str,
)
def test_a_field_is_called_as_the_flag_was_typed(error: Exception, words: str, named: str) -> None:
    message = said(error, words)
    assert message.startswith(named)
    assert "\n" not in message
    assert len(message) <= 500
