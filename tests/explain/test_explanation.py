"""An explanation of a real job: what it says is what the forecast says."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

import vramcast.explain.explanation as explanation
from vramcast.errors import InputError, MissingExtraError
from vramcast.explain import Explanation, explain_model, explanation_of
from vramcast.forecast import Forecast
from vramcast.forecast.answer import TrainingAnswer, training_answer
from vramcast.job import TrainingJob
from vramcast.units import MIB

FIELDS: dict[str, Any] = {"batch_size": 4, "sequence_length": 64}


@pytest.fixture
def no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every switch saves nothing, and no tape is recorded to find out."""
    asked: list[Forecast] = []

    def answered(*arguments: Any, **options: Any) -> TrainingAnswer:
        answer = training_answer(*arguments, **options)
        asked.append(answer.forecast)
        return answer

    monkeypatch.setattr(explanation, "training_answer", answered)
    monkeypatch.setattr(explanation, "training_forecast", lambda job, offline: asked[-1])


@pytest.mark.usefixtures("no_switches")
def test_everything_sums_to_the_peak(tiny_gpt2: str) -> None:
    found = explain_model(tiny_gpt2, **FIELDS)
    peak = found.forecast.peak_allocated_bytes
    assert found.tree.bytes == sum(child.bytes for child in found.tree.children) == peak
    assert found.formula is not None
    assert found.formula.here.bytes + found.formula.unused_bytes == peak
    # The categories of the forecast count whole blocks, those of the tree leave their unused ends out.
    blocks = {item.category: item.bytes for item in found.forecast.breakdown}
    for child in found.tree.children:
        assert child.kind == "unused_ends" or child.bytes <= blocks[child.name]


@pytest.mark.usefixtures("no_switches")
def test_the_instant_is_that_of_the_peak(tiny_gpt2: str) -> None:
    found = explain_model(tiny_gpt2, **FIELDS)
    assert found.instant.phase == found.forecast.peak_phase == "backward"
    # The first step has no optimizer states yet.
    assert found.instant.step == 2
    assert found.formula is not None
    assert (found.formula.here.step, found.formula.here.op) == (2, found.instant.op)
    assert found.instant.bytes >= 4 * 64 * 1000 * 4


@pytest.mark.usefixtures("no_switches")
def test_json_is_plain_and_whole(tiny_gpt2: str) -> None:
    found = explain_model(tiny_gpt2, **FIELDS)
    answer = json.loads(json.dumps(found.to_dict()))
    assert answer["schema_version"] == 1
    assert answer["forecast"]["peak_allocated_bytes"] == answer["tree"]["bytes"]
    assert {row["document"] for row in answer["textbook"]} == {row.figure.document for row in found.textbook.rows}
    assert isinstance(answer["formula"]["here"]["terms"][0]["bytes"], int)
    assert answer["advice"]["model"] == found.forecast.model


@pytest.mark.usefixtures("no_switches")
def test_a_traced_job_has_a_tree_and_no_formula(tiny_gpt2: str) -> None:
    job = TrainingJob(model=tiny_gpt2, **FIELDS)
    taped, traced = training_answer(job), training_answer(job, trace=True)
    explained: list[Explanation] = []
    for answer in (taped, traced):
        explanation.training_answer(job)
        explained.append(explanation_of(answer))
    assert explained[1].formula is None
    assert "traced" in explained[1].why_no_formula
    assert explained[0].tree == explained[1].tree
    assert explained[0].instant == explained[1].instant


def test_a_switch_without_a_tape_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch, tiny_gpt2: str) -> None:
    answer = training_answer(TrainingJob(model=tiny_gpt2, **FIELDS))

    def without_torch(job: TrainingJob, offline: bool) -> Forecast:
        if job.optimizer == "sgd":
            raise MissingExtraError("this switch", "record")
        return answer.forecast

    monkeypatch.setattr(explanation, "training_forecast", without_torch)
    switches = {switch.flags: switch for switch in explanation_of(answer).advice.switches}
    refused = [flags for flags, switch in switches.items() if switch.refusal is not None]
    assert refused == ["--optimizer sgd"]
    assert "vramcast[record]" in str(switches["--optimizer sgd"].refusal)
    assert len(switches) > 3


def test_a_job_that_fits_by_giving_memory_back_is_explained_as_it_runs(
    monkeypatch: pytest.MonkeyPatch, tiny_gpt2: str
) -> None:
    answer = training_answer(TrainingJob(model=tiny_gpt2, batch_size=16, sequence_length=128))
    natural = answer.forecast.peak_reserved_bytes
    tight = next(found for found in _on_smaller_and_smaller_cards(answer) if found.peak_reserved_bytes < natural)
    assert tight.verdict == "tight"
    explained = training_answer(answer.job.model_copy(update={"gpu": "custom", "gpu_memory": _memory(tight)}))
    monkeypatch.setattr(explanation, "training_forecast", lambda job, offline: tight)
    assert explanation_of(explained).tree.bytes == tight.peak_allocated_bytes


def _on_smaller_and_smaller_cards(answer: TrainingAnswer) -> Iterator[Forecast]:
    memory = answer.forecast.device_used_bytes
    for smaller in range(1, 40):
        update = {"gpu": "custom", "gpu_memory": str(memory - smaller * MIB)}
        yield training_answer(answer.job.model_copy(update=update)).forecast


def _memory(forecast: Forecast) -> str:
    return str(forecast.gpu_memory_bytes)


def test_bad_fields_are_named() -> None:
    with pytest.raises(InputError, match="optimizer='lion'"):
        explain_model("gpt2", optimizer="lion")
