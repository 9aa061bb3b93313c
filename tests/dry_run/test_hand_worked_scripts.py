"""Small scripts whose peak was worked out by hand."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vramcast.dry_run import Launch, run_script
from vramcast.job.script import ScriptOptions

SCRIPTS = [json.loads(line) for line in (Path(__file__).parent / "scripts.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", SCRIPTS, ids=[case["name"] for case in SCRIPTS])
def test_peak(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shape = (1024, 1024) if case["name"] == "load_real_weights" else (2**20,)
    torch.save({"weight": torch.zeros(shape)}, "model.pt")
    Path("train.py").write_text(case["script"])
    monkeypatch.setattr(sys, "stdin", io.StringIO(case["stdin"] or ""))
    answer = run_script(Launch("train.py", tuple(case["arguments"])), ScriptOptions(until_end=True)).answer
    assert (answer.ended, answer.peak_allocated_bytes) == ("end", case["peak_allocated_bytes"])
