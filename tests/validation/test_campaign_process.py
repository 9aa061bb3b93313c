from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from validation.campaign_child import run_child
from validation.campaign_jobs import find_job
from validation.campaign_process import MeasuringProcess, allocator_variables

from vramcast.measure.records import read_records

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "validation" / "campaign.py"

_WRITES = """
import json, pathlib, sys
sys.stdin.readline()
outcome = {"status": "ok", "readings": {"peak_allocated_bytes": 7}, "seconds": 0.5}
pathlib.Path(sys.argv[-1]).write_text(json.dumps(outcome))
"""


def _process(code: str) -> MeasuringProcess:
    return MeasuringProcess([sys.executable, "-c", code])


def test_the_outcome_of_a_process_is_read() -> None:
    outcome = _process(_WRITES).finish(60)
    assert (outcome.status, outcome.readings, outcome.seconds) == ("ok", {"peak_allocated_bytes": 7}, 0.5)


def test_a_process_that_dies_is_a_failure_with_its_last_words() -> None:
    outcome = _process("import sys; sys.exit('no such library')").finish(60)
    assert outcome.status == "failed"
    assert "exit code 1" in outcome.message
    assert "no such library" in outcome.message


def test_a_process_that_hangs_is_ended() -> None:
    process = _process("import threading; threading.Event().wait()")
    outcome = process.finish(0.2)
    assert outcome.status == "timeout"
    assert process._process.returncode is not None


def test_an_outcome_counts_though_its_process_hangs_at_its_end() -> None:
    outcome = _process(f"{_WRITES}\nimport threading; threading.Event().wait()").finish(2)
    assert (outcome.status, outcome.readings) == ("ok", {"peak_allocated_bytes": 7})


def test_a_job_ends_with_the_campaign_that_waits_for_it() -> None:
    code = f"""
import sys, threading
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "src")!r}]
from validation.campaign_child import _await_turn
_await_turn()
print("measures", flush=True)
threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"measures\n"
        process.stdin.close()
        assert process.wait(60) == 3


def test_a_job_that_was_started_ahead_ends_with_the_campaign() -> None:
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'src')!r}]\n"
    code += "from validation.campaign_child import _await_turn; _await_turn()"
    assert subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL).returncode == 3


def test_a_process_that_was_on_the_gpu_before_its_turn_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    outcome = tmp_path / "outcome.json"
    run_child("tiny-fails", device="cpu", gpu="", outcome=outcome, wait=False)
    assert "before the job's turn" in json.loads(outcome.read_text())["readings"]["notes"]["early_context"]


def test_settings_of_the_surroundings_do_not_reach_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    asked = ("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE")
    code = f"import os, sys; sys.exit(' '.join(sorted(set({asked!r}) & set(os.environ))))"
    words = _process(code).finish(60).message.split()
    assert [word for word in words if word in asked] == ["CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE"]


def test_a_discarded_process_is_ended() -> None:
    process = _process("import threading; threading.Event().wait()")
    process.discard()
    assert process._process.returncode is not None


def test_a_job_gets_its_own_allocator_settings() -> None:
    assert set(allocator_variables(True).values()) == {"expandable_segments:True"}
    assert set(allocator_variables(False).values()) == {"expandable_segments:False"}


@pytest.mark.slow
def test_a_job_that_fails_leaves_a_record_and_is_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    command = [
        sys.executable,
        str(PROGRAM),
        "--device",
        "cpu",
        "--rehearse",
        "--only",
        "tiny-fails",
        "--out",
        str(path),
    ]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    (record,) = read_records(path)
    assert (record.id, record.status, record.gpu["name"]) == ("tiny-fails", "failed", "cpu")
    assert record.message.startswith("IndexError: ")
    assert record.job == find_job("tiny-fails").to_dict()
    assert "1 jobs to measure" in first.stdout
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "0 jobs to measure, 1 in" in second.stdout
    assert len(path.read_text().splitlines()) == 1


def test_no_cuda_is_said_at_once() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    run = subprocess.run([sys.executable, str(PROGRAM), "--budget-seconds", "60"], capture_output=True, text=True)
    assert run.returncode == 2
    assert "cannot use --device cuda" in run.stderr


def test_the_measuring_process_needs_no_pydantic() -> None:
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pydantic", "cyclopts", "rich"):
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "src")!r}]
import validation.campaign, validation.campaign_machine, validation.campaign_probes, validation.campaign_generation
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_list_is_printed_without_torch() -> None:
    code = """
import runpy, sys
sys.modules["torch"] = None
sys.argv = ["campaign.py", "--list"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROGRAM.parent)
    assert run.returncode == 0
    assert "train-gpt2-b8-fp32" in run.stdout


def test_a_measured_job_on_the_cpu_has_live_tensors_and_no_allocator(tmp_path: Path) -> None:
    outcome = tmp_path / "outcome.json"
    run_child("tiny-train-gpt2-fp32", device="cpu", gpu="", outcome=outcome, wait=False)
    result = json.loads(outcome.read_text())
    assert result["status"] == "ok"
    assert result["readings"]["peak_allocated_bytes"] is None
    names = [mark["name"] for mark in result["readings"]["marks"]]
    assert names == ["after_load", *["after_forward", "after_backward", "after_optimizer", "after_step"] * 3]
    live = result["readings"]["live"]
    assert live["peak_bytes"] == sum(live["breakdown"].values())
    assert [mark["name"] for mark in live["marks"]] == names


def test_a_job_is_measured_where_pydantic_is_absent(tmp_path: Path) -> None:
    outcome = tmp_path / "outcome.json"
    code = f"""
import sys
for name in ("pydantic", "cyclopts", "rich", "platformdirs", "pynvml"):
    sys.modules[name] = None
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "src")!r}]
from pathlib import Path
from validation.campaign_child import run_child
run_child("tiny-gen-gpt2-static", device="cpu", gpu="", outcome=Path({str(outcome)!r}), wait=False)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    result = json.loads(outcome.read_text())
    assert (result["status"], result["message"]) == ("ok", "")
    assert result["readings"]["notes"]["live"] == "not measured: import of pydantic halted; None in sys.modules"
    assert [mark["name"] for mark in result["readings"]["marks"]] == ["after_load", "after_prefill", "after_decode"]
