"""The Python of docs/measure.md is run as it stands there, with a tiny model in place of `gpt2`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from vramcast.measure import ForecastCallback

DOCS = Path(__file__).parents[2] / "docs" / "measure.md"


def snippet() -> str:
    """The one block of Python above the campaign."""
    above, _, _ = DOCS.read_text(encoding="utf-8").partition("## The campaign")
    (code,) = re.findall(r"```python\n(.*?)```", above, flags=re.DOTALL)
    return str(code)


def trainer_arguments(path: str, folder: Path) -> dict[str, Any]:
    """What stands for the dots."""
    return {
        "model": transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(path)),
        "args": transformers.TrainingArguments(
            output_dir=str(folder),
            max_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            dataloader_pin_memory=False,
            disable_tqdm=True,
        ),
        "train_dataset": [{"input_ids": torch.arange(16), "labels": torch.arange(16)} for _ in range(8)],
    }


def test_the_snippet_runs(tiny_gpt2: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"transformers": transformers, "arguments": trainer_arguments(tiny_gpt2, tmp_path / "out")}
    names["train"] = lambda: names["trainer"].train()
    code = snippet().replace("Trainer(..., ", "Trainer(**arguments, ").replace('"gpt2"', repr(tiny_gpt2))
    exec(compile(code, str(DOCS), "exec"), names)  # the last line is `run.measurement.peaks`
    forecast = names["forecast"]
    assert forecast.model == "tiny-gpt2"
    (callback,) = (each for each in names["trainer"].callback_handler.callbacks if isinstance(each, ForecastCallback))
    # Training inside the block is measured twice: by the block, and by the callback, whose watch lies in the other.
    for measurement in (callback.measurement, names["run"].measurement):
        assert measurement.forecast is forecast
        assert {row.name for row in measurement.categories} >= {"parameters", "activations"}
    assert capsys.readouterr().out.count("peak of live tensors") == 2
