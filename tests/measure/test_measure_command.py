from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from vramcast.cli import main
from vramcast.measure.records import read_records


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["measure", *arguments])
    code = end.value.code
    assert isinstance(code, int)
    return code


SMALL = ("--batch-size", "1", "--sequence-length", "16", "--trace")


def test_training_prints_forecast_beside_measured(
    tiny_gpt2: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "folder" / "m.jsonl"
    assert run("training", tiny_gpt2, *SMALL, "--steps", "2", "--record", str(path)) == 0
    printed = capsys.readouterr().out
    assert "training of tiny-gpt2 on cpu" in printed
    assert "peak of live tensors" in printed
    assert "optimizer states" in printed
    assert run("training", tiny_gpt2, *SMALL, "--json", "--record", str(path)) == 0
    assert json.loads(capsys.readouterr().out)["workload"] == "training"
    one, two = read_records(path)
    assert one.id == two.id
    assert one.status == "ok"


def test_generation_prints_forecast_beside_measured(tiny_gpt2: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("generation", tiny_gpt2, "--prompt-length", "8", "--max-new-tokens", "4", "--trace", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in answer["categories"]} >= {"parameters", "kv_cache"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "0"), "--steps=0: must be at least 1"),
        (("--record", "{folder}"), "is a folder"),
        (("--record", "{file}/m.jsonl"), "cannot be written"),
        (("--snapshot", "s.pickle"), "no CUDA device"),
        (("--batch-size", "0"), "--batch-size"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    tiny_gpt2: str, tmp_path: Path, arguments: tuple[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    flag, value = arguments
    value = value.format(folder=tmp_path, file=tmp_path / "file")
    assert run("training", tiny_gpt2, flag, value) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_a_missing_library_names_the_extra(
    tiny_gpt2: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import vramcast.errors

    monkeypatch.setattr(vramcast.errors, "find_spec", lambda name: None)
    assert run("training", tiny_gpt2) == 2
    assert "vramcast[measure]" in capsys.readouterr().err


def test_the_allocator_is_set_before_torch_is_there(tiny_gpt2: str) -> None:
    import subprocess

    code = (
        "import os, sys\nimport vramcast.cli.measure as command\nfrom vramcast.job import TrainingJob\n"
        f"with command._ready(TrainingJob(model={tiny_gpt2!r}, expandable_segments=True), None): pass\n"
        "assert 'torch' not in sys.modules\n"
        "print(os.environ['PYTORCH_CUDA_ALLOC_CONF'], os.environ['PYTORCH_ALLOC_CONF'])\n"
    )
    environment = {**os.environ, "PYTORCH_ALLOC_CONF": "max_split_size_mb:64"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["expandable_segments:True"] * 2
    assert "PYTORCH_ALLOC_CONF=max_split_size_mb:64 is set aside" in done.stderr
    assert "PYTORCH_CUDA_ALLOC_CONF" not in done.stderr


def test_help_loads_no_torch() -> None:
    import subprocess

    code = (
        "import sys\nfrom vramcast.cli import main\n"
        "try: main(['measure', 'training', '--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
