from __future__ import annotations

import pytest
from validation.campaign_jobs import KINDS, CampaignJob, all_jobs, find_job, rehearsal_jobs

from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import model_from_fields

JOBS = (*all_jobs(), *rehearsal_jobs())
MODEL_JOBS = [job for job in JOBS if job.kind != "probe"]


def test_ids_are_unique_and_kinds_known() -> None:
    assert len({job.id for job in JOBS}) == len(JOBS)
    assert {job.kind for job in JOBS} == set(KINDS)


def test_probes_come_first_and_the_campaign_is_about_sixty_jobs() -> None:
    assert [job.kind for job in all_jobs()[:3]] == ["probe"] * 3
    assert 55 <= len([job for job in all_jobs() if job.kind != "probe"]) <= 65


def test_no_two_jobs_ask_the_same() -> None:
    asked = [(job.kind, repr(sorted(job.fields.items()))) for job in JOBS]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("job", MODEL_JOBS, ids=lambda job: job.id)
def test_a_job_is_one_that_vramcast_accepts(job: CampaignJob) -> None:
    kind = TrainingJob if job.kind == "training" else GenerationJob
    assert kind(model=job.fields["model"], **job.options())


@pytest.mark.parametrize("job", MODEL_JOBS, ids=lambda job: job.id)
def test_the_measured_model_is_the_forecast_model(job: CampaignJob) -> None:
    fields = job.config()
    read = model_from_fields(fields, name="config", source="file", origin="test")
    assert read.fields == fields


def test_config_takes_the_jobs_own_values() -> None:
    job = CampaignJob("x", "training", fields={"model": "gpt2", "config": {"n_layer": 2}})
    assert job.config()["n_layer"] == 2
    assert job.config()["n_embd"] == 768


def test_an_unknown_job_is_named() -> None:
    with pytest.raises(KeyError, match="no-such-job"):
        find_job("no-such-job")
