"""`vramcast gpt` on the command line: spellings, exit codes, what is printed."""

import json
from pathlib import Path

import pytest
from micro_model import Train

from vramcast.cli import main
from vramcast.forecast import training_forecast
from vramcast.gpt.errors import DoesNotFitError
from vramcast.gpt.report import TrainingReport
from vramcast.gpt.settings import TrainSettings
from vramcast.gpt.start import named_config
from vramcast.job import TrainingJob
from vramcast.models import load_model


def run(*arguments: str) -> int:
    """Exit code of a command, run in this process."""
    with pytest.raises(SystemExit) as ended:
        main(["gpt", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def flags(run_training: Train, text: Path, micro: str, models_dir: Path) -> list[str]:
    """Of a short run; `run_training` is asked for so that no tape is recorded."""
    return ["--config", micro, "--input", str(text), "--models-dir", str(models_dir), "--max-iters", "2"]


def test_train_and_generate(flags: list[str], models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", *flags, "--name", "m") == 0
    said = capsys.readouterr().out
    assert "peak reserved" in said
    assert "no GPU is present" in said
    assert "step 2: validation loss" in said
    assert "not comparable with a GPU's" in " ".join(said.split())
    where = ["--name", "m", "--models-dir", str(models_dir)]
    assert run("generate", *where, "--prompt", "the tape", "--max-new-tokens", "5", "--seed", "1") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("the tape")
    assert "5 tokens" in captured.err


def test_json_is_all_that_is_printed(flags: list[str], models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", *flags, "--name", "m", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema_version"], answer["step"], len(answer["losses"])) == (1, 2, 2)
    assert answer["forecast"]["peak_reserved_bytes"] > 0
    assert run("generate", "--name", "m", "--models-dir", str(models_dir), "--prompt", "a", "--greedy", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["tokens"]) == 100


def test_the_guides_spelling(
    run_training: Train, text: Path, micro: str, models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--config_file", micro, "--model_name", "m", "--input_file", str(text), "--max_iters", "1"]
    assert run("train", *given, "--models-dir", str(models_dir)) == 0
    where = ["--model_name", "m", "--models-dir", str(models_dir), "--prompt", "the"]
    assert run("generate", *where, "--max_new_tokens", "3") == 0
    assert "3 tokens" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tiny", "tiny_char", "small", "150M", "200M_1024", "500M_1024"])
def test_a_config_of_the_guide_is_found_by_its_path(name: str) -> None:
    settings = TrainSettings(name="m", input=Path("text"), config=f"configs/{name}.json")
    assert named_config(settings) == load_model(name)


def test_bad_input_is_one_line(flags: list[str], capsys: pytest.CaptureFixture[str], models_dir: Path) -> None:
    for more, says in (
        (["--name", "m", "--input", "nothing.txt"], "--input='nothing.txt': no such file"),
        (["--name", "m", "--learning-rate", "-1"], "--learning-rate"),
        (["--name", "m", "--precision", "fp8"], "--precision"),
        ([], "--name"),
    ):
        arguments = [word for word in flags if "--input" not in more or word not in ("--input", flags[3])]
        assert run("train", *arguments, *more) == 2
        captured = capsys.readouterr()
        assert says in captured.err
        assert captured.err.count("\n") <= 2
        assert not captured.out
    assert run("generate", "--name", "m", "--models-dir", str(models_dir), "--prompt", "x") == 2


def test_a_refusal_exits_with_one(
    flags: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(settings: TrainSettings, report: TrainingReport) -> None:
        forecast = training_forecast(TrainingJob(model="tiny_char"))
        report.forecast(forecast, gpu_is_present=True)
        raise DoesNotFitError(forecast, "--checkpointing full")

    monkeypatch.setattr("vramcast.gpt.training.train", refuse)
    assert run("train", *flags, "--name", "m", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["refused"], answer["flags_that_fit"]) == (True, "--checkpointing full")
