from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vramcast
from vramcast.forecast import Forecast
from vramcast.measure.announcement import announced_run, announced_runs, announcement_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VRAMCAST_CACHE", str(tmp_path))
    return announcement_folder()


@pytest.fixture(scope="module")
def forecast() -> Forecast:
    return vramcast.training("gpt2", batch_size=2, offline=True)


def test_a_run_is_announced_for_as_long_as_it_lasts(folder: Path, forecast: Forecast) -> None:
    with announced_run(forecast):
        (run,) = announced_runs()
        assert (run.pid, run.what, run.gpu) == (os.getpid(), "training of gpt2", "a100-80gb")
        assert run.peak_reserved_bytes == forecast.peak_reserved_bytes
        assert run.device_used_bytes == forecast.device_used_bytes
    assert announced_runs() == []
    assert list(folder.iterdir()) == []


def test_it_ends_with_an_error_too(folder: Path, forecast: Forecast) -> None:
    with pytest.raises(KeyError), announced_run(forecast):
        raise KeyError
    assert announced_runs() == []


def test_what_a_killed_run_left_is_removed(folder: Path, forecast: Forecast) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with announced_run(forecast):
        (path,) = folder.glob("*.json")
        plain = json.loads(path.read_text())
        left = folder / f"{gone.pid}.json"
        left.write_text(json.dumps(plain | {"pid": gone.pid}))
        assert [run.pid for run in announced_runs()] == [os.getpid()]
        assert not left.exists()


def test_files_of_another_form_are_passed_over(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "1.json").write_text('{"other": 1}')
    (folder / "2.json").write_text('{"pid": ')
    assert announced_runs() == []


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forecast: Forecast
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VRAMCAST_CACHE", str(tmp_path / "file"))
    ran = False
    with pytest.warns(UserWarning, match="will not know of this run"), announced_run(forecast):
        ran = True
    assert ran


def test_the_torch_free_parts_of_the_room_load_no_torch() -> None:
    code = (
        "import sys, vramcast.measure, vramcast.measure.announcement, vramcast.measure.nvml, vramcast.measure.records\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
