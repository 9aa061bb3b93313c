"""What cannot be trained is refused in one line, and nothing on disk changes."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from micro_model import MICRO, Train

from vramcast.errors import InputError, VramcastError
from vramcast.gpt.report import Silence
from vramcast.gpt.run_folder import RunFolder


def test_settings_that_do_not_go_together(run_training: Train, models_dir: Path, tmp_path: Path) -> None:
    uneven = tmp_path / "uneven.json"
    uneven.write_text(json.dumps(MICRO | {"n_head": 3}))
    quantized = tmp_path / "quantized.json"
    quantized.write_text(json.dumps(MICRO | {"quantization_config": {"quant_method": "gptq"}}))
    short = tmp_path / "short.txt"
    short.write_text("the tape\n")
    for settings, says in (
        ({"config": str(uneven)}, "n_embd=32: is not divisible by n_head=3"),
        ({"config": None}, "--config=None"),
        ({"config": "no-such-preset"}, "^--config='no-such-preset': no preset, file or folder of that name"),
        (
            {"config": "configs/no-such.json"},
            "^--config='configs/no-such.json': no preset, file or folder of that name",
        ),
        ({"config": str(tmp_path)}, r"^--config='.*: this folder has no config\.json"),
        ({"config": str(quantized)}, r"^quantization_config='gptq': its weights are quantised"),
        ({"input": short}, "fewer than one sequence of 32"),
        ({"sequence_length": 33}, "learned positions up to its context length 32"),
        ({"vocab_size": 100}, "at least 256 tokens"),
        ({"tokenizer": "bytes", "vocab_size": 100}, "256 tokens, the model's embedding 100 rows"),
        ({"tokenizer": "no-such-file"}, r"has no tokenizer\.json"),
        ({"precision": "amp-fp16"}, "needs a GPU"),
        ({"attention": "flash"}, "needs a GPU"),
        ({"pretrained": str(tmp_path)}, r"^--from='.*: this folder has no config\.json"),
        ({"pretrained": "no-such-folder"}, "no such folder"),
        ({"pretrained": str(tmp_path), "config": "tiny"}, "leave out --config or --from"),
        ({"gpu": "no-such-card"}, "not in the hardware file"),
        ({"name": "../m"}, "plain folder name"),
        ({"name": "a\nb"}, "plain folder name"),
        ({"name": "\udcff"}, "plain folder name"),
    ):
        with pytest.raises(InputError, match=says):
            run_training(**settings)
        assert not models_dir.exists() or not list(models_dir.iterdir())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_not_the_checkpoints_is_refused(run_training: Train, models_dir: Path, tmp_path: Path) -> None:
    run_training(max_iters=2)
    before = snapshot(models_dir)
    wider = tmp_path / "wider.json"
    wider.write_text(json.dumps(MICRO | {"n_embd": 64}))
    for settings, says in (
        ({"config": str(wider)}, "is not the model of the checkpoint"),
        ({"optimizer": "sgd"}, "has states of adamw"),
        ({"tokenizer": "bytes"}, "is not the tokenizer of the checkpoint"),
        ({"tokenizer": "chars"}, "is not the tokenizer of the checkpoint"),
        ({"vocab_size": 4096}, "the model has"),
    ):
        with pytest.raises(InputError, match=says):
            run_training(**settings)
        assert snapshot(models_dir) == before


def test_a_truncated_checkpoint_is_noticed(run_training: Train, models_dir: Path) -> None:
    for file in ("model.safetensors", "trainer_state-00000002.safetensors"):
        run_training(name=file, max_iters=2)
        path = models_dir / file / file
        path.write_bytes(path.read_bytes()[:-50])
        with pytest.raises(InputError, match=r"no trainer state in .* belongs to its"):
            run_training(name=file)


def test_a_folder_that_is_no_run_is_left_alone(run_training: Train, models_dir: Path) -> None:
    (models_dir / "m").mkdir(parents=True)
    (models_dir / "m" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        run_training()
    assert snapshot(models_dir) == {"m/notes.txt": b"mine"}


def test_another_familys_tokenizer_is_refused(run_training: Train, models_dir: Path, tmp_path: Path) -> None:
    run_training(max_iters=2)
    run_training(name="chars", tokenizer="chars", max_iters=2)
    with pytest.raises(InputError, match=r"embedding .* rows"):
        run_training(name="tuned", pretrained=str(models_dir / "chars"), tokenizer=str(models_dir / "m"))


LIMITED = """
import resource, sys
from vramcast.cli import main
size = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
main(sys.argv[2:])
"""


def limited_run(size: int, *arguments: str) -> Any:
    """`vramcast gpt train` where no file can grow beyond `size` bytes, as on a full disk."""
    command = [sys.executable, "-c", LIMITED, str(size), "gpt", "train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ)


def test_a_full_disk_loses_nothing(run_training: Train, text: Path, micro: str, models_dir: Path) -> None:
    assert resource.RLIM_INFINITY  # the limit is there on this system
    run_training(max_iters=2)
    before = snapshot(models_dir)
    weights = len(before["m/model.safetensors"])
    arguments = ["--config", micro, "--input", str(text), "--models-dir", str(models_dir), "--max-iters", "4"]
    done = limited_run(weights // 2, *arguments, "--name", "m")
    assert done.returncode == 2, done.stderr
    assert "vramcast: --models-dir=" in done.stderr
    assert "is whole" in done.stderr
    assert "Traceback" not in done.stderr
    after = snapshot(models_dir)
    # The log is written first; the run that goes on replaces the steps that no checkpoint came of.
    assert after.pop("m/log.jsonl").startswith(before["m/log.jsonl"])
    assert after == {name: data for name, data in before.items() if name != "m/log.jsonl"}
    assert run_training(max_iters=4).resumed_from == 2
    assert snapshot(models_dir)["m/log.jsonl"].count(b"\n") == 4


class Notes(Silence):
    """Keeps what is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        """Something that a user should know."""
        self.told.append(text)


@pytest.mark.parametrize("cut", [3, 30], ids=["in the last line", "in the line before"])
def test_a_log_that_was_cut_does_not_end_a_run(run_training: Train, models_dir: Path, cut: int) -> None:
    run_training(max_iters=2)
    log = models_dir / "m" / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-cut])
    kept = sum(line.endswith(b"}") for line in log.read_bytes().splitlines())
    notes = Notes()
    assert run_training(notes, max_iters=4).step == 4
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [*range(1, kept + 1), 3, 4]
    assert sum("log.jsonl: a line is cut or damaged and left out (line " in told for told in notes.told) == 1
    assert run_training(notes := Notes(), max_iters=6).step == 6
    assert not any("log.jsonl" in told for told in notes.told)


def test_the_unquantised_model_may_be_trained(run_training: Train, tmp_path: Path) -> None:
    quantized = tmp_path / "quantized.json"
    quantized.write_text(json.dumps(MICRO | {"quantization_config": {"quant_method": "gptq"}}))
    assert run_training(config=str(quantized), ignore_quantization=True, max_iters=1).step == 1


def test_errors_are_for_users() -> None:
    with pytest.raises(VramcastError):
        RunFolder(Path("models"), "")
