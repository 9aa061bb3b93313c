"""Claim and truth side by side, with forecasts written by hand."""

from fractions import Fraction
from typing import Any

import pytest
from textbook_fakes import ACTIVATIONS, GRADIENTS, PARAMETERS, STATES, a_forecast

from vramcast.errors import VramcastError
from vramcast.job import GenerationJob, TrainingJob
from vramcast.textbook import TextbookFigure, compare, documents, parse_claim
from vramcast.textbook.compare import largest_batch_that_fits, remembering
from vramcast.textbook.figure import Job
from vramcast.textbook.quantity import QUANTITIES, read_quantity

JOB = TrainingJob(model="gpt2")


def figure(printed: str, **changes: Any) -> TextbookFigure:
    fields: dict[str, Any] = {
        "document": "gpt2_requirements",
        "section": "section",
        "name": "name",
        "claim": parse_claim(printed),
        "claimed_for": JOB,
        "quantity": "activations",
        "reason": "{activations} of {model}",
    }
    return TextbookFigure(**{**fields, **changes})


def test_error_is_claim_over_truth() -> None:
    row = compare(figure("4000 bytes"), a_forecast)
    assert (row.claimed_value, row.true_value, row.error) == (4000, 5000, pytest.approx(-0.2))
    assert row.reason == "0.0 MB of gpt2"


@pytest.mark.parametrize(
    ("printed", "claimed"), [("6000-7000 bytes", 6000), ("10-20 bytes", 20), ("1-9000 bytes", 5000)]
)
def test_of_a_range_the_nearest_point_counts(printed: str, claimed: int) -> None:
    assert compare(figure(printed), a_forecast).claimed_value == claimed


def test_relations_to_a_second_job() -> None:
    second = TrainingJob(model="gpt2-medium")

    def answer(job: Job) -> Any:
        return a_forecast(job, device_used_bytes=300 if job == JOB else 400)

    def true_value(relation: str) -> float | None:
        asked = figure("1 bytes", quantity="device_used", relation=relation, second_job=second, reason="{second_model}")
        row = compare(asked, answer)
        assert row.reason == "gpt2-medium"
        return row.true_value

    assert (true_value("difference"), true_value("ratio"), true_value("saving")) == (-100, 0.75, 0.25)


def test_a_relation_without_second_job_is_refused() -> None:
    with pytest.raises(VramcastError, match="needs a second_job"):
        compare(figure("1 bytes", relation="ratio"), a_forecast)


def test_scale_stays_exact() -> None:
    row = compare(figure("1 FLOPs", quantity="flops_per_step", scale=Fraction("409600000/3")), a_forecast)
    assert row.true_value == 409_600_000 * 1_000_000
    assert isinstance(row.true_value, int)


def test_a_card_holds_or_does_not() -> None:
    asked = figure("1 bytes", relation="fits", quantity="device_used", reason="{verdict}")
    assert compare(asked, a_forecast).holds is True
    row = compare(asked, lambda job: a_forecast(job, verdict="does_not_fit"))
    assert (row.holds, row.reason, row.claimed_value) == (False, "does not fit", 100_000)


def test_without_a_job_there_is_no_truth() -> None:
    row = compare(figure("1 bytes", claimed_for=None, reason="names no model"), a_forecast)
    assert (row.true_value, row.error, row.true_text, row.reason) == (None, None, "", "names no model")


@pytest.mark.parametrize("start", [1, 4, 5, 9])
@pytest.mark.parametrize("largest", [0, 1, 4, 7])
def test_largest_batch_is_found_from_any_start(start: int, largest: int) -> None:
    def answer(job: Job) -> Any:
        return a_forecast(job, verdict="fits" if job.batch_size <= largest else "does_not_fit")

    job = TrainingJob(model="gpt2", batch_size=start)
    assert largest_batch_that_fits(job, remembering(answer)) == largest
    row = compare(figure("2.964", relation="largest_batch", claimed_for=job), answer)
    assert row.true_value == largest


def test_gradients_are_read_between_backward_and_zero_grad() -> None:
    forecast = a_forecast(JOB)
    assert read_quantity(forecast, "gradients") == GRADIENTS
    assert read_quantity(forecast, "static") == PARAMETERS + STATES + GRADIENTS
    assert read_quantity(forecast, "activations_over_parameters") == ACTIVATIONS / PARAMETERS


def test_gradients_of_earlier_micro_batches_are_no_activations() -> None:
    job = TrainingJob(model="gpt2", gradient_accumulation_steps=2)
    assert read_quantity(a_forecast(job), "activations") == ACTIVATIONS - GRADIENTS


def test_every_quantity_is_read_of_both_workloads() -> None:
    for job in (JOB, GenerationJob(model="gpt2")):
        assert all(read_quantity(a_forecast(job), quantity) >= 0 for quantity in QUANTITIES)


def test_each_job_of_the_documents_is_asked_once_and_every_reason_is_told() -> None:
    asked: list[Job] = []
    told: list[tuple[int, int]] = []

    def answer(job: Job) -> Any:
        asked.append(job)
        return a_forecast(job, verdict="fits" if job.batch_size <= 2 else "does_not_fit")

    rows = documents(answer=answer, progress=lambda _, done, total: told.append((done, total)))
    assert len(asked) == len(set(asked))
    assert len(rows) > 140
    assert told == [(done, len(rows)) for done in range(len(rows) + 1)]
    assert all(row.reason and "{" not in row.reason for row in rows)
