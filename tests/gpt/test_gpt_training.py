"""A run: forecast first, going on bit for bit, stopping cleanly, losing nothing."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from micro_model import Train
from transformers import AutoModelForCausalLM, AutoTokenizer

from vramcast.gpt.errors import TrainingError
from vramcast.gpt.report import Silence, StepReading


def logged(models_dir: Path, name: str = "m") -> list[float]:
    return [json.loads(line)["loss"] for line in (models_dir / name / "log.jsonl").read_text().splitlines()]


def test_interrupted_and_resumed_is_uninterrupted(run_training: Train, models_dir: Path) -> None:
    whole = run_training(name="whole", max_iters=6)
    first = run_training(name="parts", max_iters=2)
    second = run_training(name="parts", max_iters=6)
    assert (first.resumed_from, second.resumed_from) == (None, 2)
    assert first.losses + second.losses == whole.losses
    assert second.validation == whole.validation
    weights = [(models_dir / name / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]
    assert logged(models_dir, "parts") == list(whole.losses)


@pytest.mark.parametrize("optimizer", ["adamw-fused", "sgd", "sgd-momentum", "adafactor", "adagrad", "rmsprop"])
def test_every_optimizer_goes_on(run_training: Train, optimizer: str) -> None:
    common: dict[str, Any] = {"optimizer": optimizer, "eval_interval": 1, "eval_iters": 1}
    whole = run_training(name="whole", max_iters=4, **common)
    run_training(name="parts", max_iters=2, **common)
    assert run_training(name="parts", max_iters=4, **common).losses == whole.losses[2:]


@pytest.mark.parametrize("fields", [
    {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 32, "vocab_size": 512},
    {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32,
     "intermediate_size": 64, "max_position_embeddings": 32, "vocab_size": 512},
])  # fmt: skip
def test_other_families_train_and_go_on(run_training: Train, tmp_path: Path, fields: dict[str, Any]) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(fields))
    whole = run_training(name="whole", config=str(config))
    run_training(name="parts", config=str(config), max_iters=2)
    assert run_training(name="parts", config=str(config)).losses == whole.losses[2:]


def test_accumulated_micro_batches_are_one_batch(run_training: Train) -> None:
    whole = run_training(name="whole", dropout=0.0, batch_size=4)
    parts = run_training(name="parts", dropout=0.0, batch_size=2, gradient_accumulation_steps=2)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-6)


@pytest.mark.parametrize("settings", [
    {"precision": "amp-bf16"}, {"precision": "bf16"}, {"checkpointing": "full"}, {"attention": "eager"},
    {"schedule": "cosine", "warmup_iters": 2}, {"tokenizer": "chars"}, {"tokenizer": "bytes"}, {"sequence_length": 16},
])  # fmt: skip
def test_every_way_to_train_learns(run_training: Train, settings: dict[str, Any]) -> None:
    result = run_training(max_iters=8, learning_rate=1e-2, eval_interval=8, eval_iters=2, **settings)
    assert result.losses[-1] < result.losses[0]


def test_checkpointing_changes_no_loss(run_training: Train) -> None:
    plain = run_training(name="plain")
    assert run_training(name="checkpointed", checkpointing="full").losses == plain.losses


def test_transformers_loads_the_folder(run_training: Train, models_dir: Path) -> None:
    run_training()
    model = AutoModelForCausalLM.from_pretrained(models_dir / "m")
    tokenizer = AutoTokenizer.from_pretrained(models_dir / "m")
    assert type(model).__name__ == "GPT2LMHeadModel"
    tokens = tokenizer("the tape", return_tensors="pt")["input_ids"]
    assert model(tokens).logits.shape[-1] == model.config.vocab_size >= len(tokenizer)


def test_the_folder_is_as_readable_as_other_files(run_training: Train, models_dir: Path) -> None:
    before = os.umask(0o027)
    try:
        run_training(max_iters=4)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (models_dir / "m").rglob("*") if path.is_file()}
    assert {"model.safetensors", "trainer_state-00000004.safetensors", "config.json", "log.jsonl"} <= modes.keys()
    assert set(modes.values()) == {0o640}


def test_fine_tuning_starts_from_the_weights(run_training: Train, models_dir: Path) -> None:
    first = run_training(max_iters=30, learning_rate=1e-2, eval_interval=30)
    second = run_training(name="tuned", pretrained=str(models_dir / "m"), max_iters=2)
    assert first.validation is not None
    assert second.losses[0] < first.losses[0] - 0.5
    assert second.parameters == first.parameters


def test_validation_counts_every_token_once(run_training: Train, models_dir: Path, text: Path) -> None:
    result = run_training(tokenizer="bytes", dropout=0.0)
    assert result.validation is not None
    model = AutoModelForCausalLM.from_pretrained(models_dir / "m").eval()
    tokenizer = AutoTokenizer.from_pretrained(models_dir / "m")
    raw = text.read_bytes()
    tokens = tokenizer(raw[round(len(raw) * 0.9) :].decode(errors="ignore"))["input_ids"]
    nats = 0.0
    for begin in range(0, len(tokens) - 1, 31):
        window = torch.tensor([tokens[begin : begin + 32]])
        with torch.no_grad():
            logits = model(window).logits.log_softmax(-1)
        nats -= sum(logits[0, at, window[0, at + 1]].item() for at in range(window.shape[1] - 1))
    per_token = nats / (len(tokens) - 1)
    assert result.validation.nats_per_token == pytest.approx(per_token, rel=1e-5)
    assert result.validation.bits_per_byte == pytest.approx(per_token / math.log(2), rel=1e-5)


class Stopping(Silence):
    """Sends a signal to this process while a step is told."""

    def __init__(self, at: int, number: signal.Signals) -> None:
        self.at, self.number = at, number

    def step(self, reading: StepReading) -> None:
        if reading.step == self.at:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends(run_training: Train, number: signal.Signals) -> None:
    whole = run_training(name="whole", max_iters=6, eval_interval=6)
    handler = signal.getsignal(number)
    stopped = run_training(Stopping(2, number), name="stopped", max_iters=6, eval_interval=6)
    assert (stopped.ending, stopped.step, stopped.signal_number) == ("interrupted", 3, number)
    assert signal.getsignal(number) == handler
    assert stopped.losses + run_training(name="stopped", max_iters=6, eval_interval=6).losses == whole.losses


def test_a_loss_that_is_no_number_ends_the_run(
    run_training: Train, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(max_iters=2)
    before = (models_dir / "m" / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("vramcast.gpt.loop.training_step", lambda *given: torch.tensor(math.nan))
        with pytest.raises(TrainingError, match=r"the loss is nan at step 3; the last checkpoint in .* is whole"):
            run_training(max_iters=6, eval_interval=1)
    assert (models_dir / "m" / "model.safetensors").read_bytes() == before
    assert run_training(max_iters=4).resumed_from == 2


def test_weights_that_are_no_numbers_are_not_saved(
    run_training: Train, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiling(accelerator: Any, model: torch.nn.Module, *given: Any) -> torch.Tensor:
        with torch.no_grad():
            next(model.parameters())[3] = math.inf
        return torch.tensor(1.0)

    with monkeypatch.context() as patch:
        patch.setattr("vramcast.gpt.loop.training_step", spoiling)
        with pytest.raises(TrainingError, match=r"token_embedding\.weight is not finite after step 2"):
            run_training()
    assert run_training().resumed_from is None  # the checkpoint before the first step is there


def test_starting_over_keeps_the_old_model(run_training: Train, models_dir: Path) -> None:
    run_training()
    old = (models_dir / "m" / "model.safetensors").read_bytes()
    again = run_training(resume=False, seed=2, max_iters=2)
    assert again.resumed_from is None
    assert (models_dir / "m.previous-1" / "model.safetensors").read_bytes() == old
    assert sorted(path.name for path in models_dir.iterdir()) == ["m", "m.previous-1"]
