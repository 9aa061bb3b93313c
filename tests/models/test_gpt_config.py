"""The short configurations of the package's own GPT."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.models import Dimensions, load_model, model_from_fields
from vramcast.models.gpt_config import gpt_parameters

SHORT = {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 16, "vocab_size": 32, "dropout": 0.1, "bias": False}


def _read(**changes: Any) -> Any:
    return model_from_fields({**SHORT, **changes}, name="x", source="file", origin="x.json")


def test_short_form_needs_no_model_type(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"name": "Mine", **SHORT, "batch_size": 4}))
    model = load_model(path)
    assert (model.name, model.source, model.model_type) == ("mine", "file", "vramcast_gpt")
    assert model.dimensions == Dimensions(
        num_hidden_layers=2,
        hidden_size=8,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=4,
        intermediate_size=32,
        vocab_size=32,
        context_length=16,
        tie_word_embeddings=False,
    )
    assert model.fields == {
        "model_type": "vramcast_gpt",
        **SHORT,
        "tie_word_embeddings": False,
        "batch_size": 4,
    }
    assert model.assumptions == ()


def test_hugging_face_spelling_is_accepted_at_the_door() -> None:
    model = _read(hidden_size=8, num_hidden_layers=2)
    assert "hidden_size" not in model.fields
    fields = {
        "model_type": "vramcast_gpt",
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "hidden_size": 8,
        "block_size": 16,
    }
    same = model_from_fields({**fields, "vocab_size": 32}, name="x", source="file", origin="x.json")
    assert same.dimensions == model.dimensions


def test_what_is_assumed_or_ignored_is_said() -> None:
    fields = {key: value for key, value in SHORT.items() if key != "vocab_size"}
    model = model_from_fields({**fields, "device": "cuda", "n_inner": 64}, name="x", source="file", origin="x.json")
    assert model.dimensions.vocab_size == 50304
    assert model.assumptions == (
        "vocab_size is not given; 50304 is assumed",
        "keys of the configuration that have no effect: device, n_inner",
    )


def test_parameters_worked_by_hand() -> None:
    # Embeddings 32*8 + 16*8, head 32*8; a layer 3*64 + 64 + 2*256 + 2*8; last norm 8.
    assert _read().parameters == 256 + 128 + 256 + 2 * (192 + 64 + 512 + 16) + 8
    # Tied: the head's 256 once. Biases: a layer 24 + 8 + 32 + 8 + 2*8, last norm 8.
    assert _read(tie_word_embeddings=True).parameters == _read().parameters - 256
    assert _read(bias=True).parameters == _read().parameters + 2 * (24 + 8 + 32 + 8 + 16) + 8


def test_parameters_of_the_guides_150m() -> None:
    tables = 50_304 * 768 * 2 + 1_024 * 768
    layers = 16 * (12 * 768**2 + 2 * 768)
    assert load_model("150M_1024").parameters == tables + layers + 768 == 191_324_928
    assert load_model("150M").parameters == 191_324_928 - (1_024 - 256) * 768


def test_why_the_guide_prints_another_figure() -> None:
    # Its calculator counts 8 E of LayerNorm a layer and 2 E at the end; weights without biases are 2 E and E.
    published = 191_399_424
    assert published == 191_324_928 + 16 * (8 - 2) * 768 + (2 - 1) * 768


@given(
    layers=st.integers(1, 100),
    width=st.integers(1, 4096),
    vocab=st.integers(1, 10**6),
    context=st.integers(1, 10**5),
    tied=st.booleans(),
    bias=st.booleans(),
)
def test_parameters_grow_by_whole_layers_and_rows(
    layers: int, width: int, vocab: int, context: int, tied: bool, bias: bool
) -> None:
    def count(layers: int, vocab: int, context: int) -> int:
        sizes = dict(
            num_hidden_layers=layers, hidden_size=width, num_attention_heads=1, num_key_value_heads=1, head_dim=width
        )
        more = dict(intermediate_size=4 * width, vocab_size=vocab, context_length=context)
        return gpt_parameters(Dimensions(**sizes, **more, tie_word_embeddings=tied), bias)

    base = count(layers, vocab, context)
    assert count(layers, vocab + 1, context) - base == (1 if tied else 2) * width
    assert count(layers, vocab, context + 1) - base == width
    assert count(2 * layers, vocab, context) - base == layers * (12 * width**2 + (13 if bias else 2) * width)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_head": 3}, r"n_embd=8: is not divisible by n_head=3"),
        ({"dropout": 1.0}, r"dropout=1\.0: must be a probability"),
        ({"dropout": "0.1"}, r"dropout='0\.1': must be a probability"),
        ({"bias": "no"}, r"bias='no': must be true or false"),
        ({"batch_size": 0}, r"batch_size=0: must be between 1 and"),
        ({"block_size": None}, r"block_size=None: missing"),
        ({"n_layer": 2.0}, r"n_layer=2\.0: must be a whole number"),
    ],
)
def test_unusable_short_form(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _read(**changes)
