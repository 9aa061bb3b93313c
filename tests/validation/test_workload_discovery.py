"""Every module of the folder takes part, and no row is claimed twice."""

import sys
from pathlib import Path

import pytest
from validation.workloads import discover

from validation import workloads


def test_kernels_and_training_are_found() -> None:
    assert {"rasbt-001", "hfbert-006", "liger-005", "cce-006"} <= discover().keys()


def test_a_new_module_is_found_and_a_second_claim_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_first.py").write_text("WORKLOADS = {'made-001': print}\n", encoding="utf-8")
    (tmp_path / "made_helper.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(workloads, "__path__", [str(tmp_path)])
    assert discover() == {"made-001": print}
    (tmp_path / "made_second.py").write_text("WORKLOADS = {'made-001': len}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"made_second claims .* made-001"):
        discover()
    for name in [name for name in sys.modules if name.startswith("validation.workloads.made_")]:
        del sys.modules[name]
