from __future__ import annotations

from typing import get_args

import pytest
from validation.campaign_jobs import KINDS, CampaignJob, _grid_rows, all_jobs, find_job, rehearsal_jobs
from validation.campaign_probes import PROBES

from vramcast.job import GenerationJob, TrainingJob
from vramcast.job.options import Attention, CacheKind, Checkpointing, GenerationPrecision, Optimizer, Precision
from vramcast.models import model_from_fields

JOBS = (*all_jobs(), *rehearsal_jobs())
MODEL_JOBS = [job for job in JOBS if job.kind != "probe"]


def test_ids_are_unique_and_kinds_known() -> None:
    assert len({job.id for job in JOBS}) == len(JOBS)
    assert {job.kind for job in JOBS} == set(KINDS)


def test_probes_come_first_and_the_campaign_is_about_two_hundred_jobs() -> None:
    assert [job.kind for job in all_jobs()[:3]] == ["probe"] * 3
    assert 190 <= len(all_jobs()) <= 210
    assert set(PROBES) == {job.fields["probe"] for job in all_jobs() if job.kind == "probe"}


def test_every_setting_a_job_can_have_is_measured() -> None:
    training = [TrainingJob(model="x", **job.options()) for job in all_jobs() if job.kind == "training"]
    assert {job.precision for job in training} == set(get_args(Precision))
    assert {job.attention for job in training} == set(get_args(Attention))
    assert {job.optimizer for job in training} == set(get_args(Optimizer))
    assert {job.checkpointing for job in training} == set(get_args(Checkpointing))
    generation = [GenerationJob(model="x", **job.options()) for job in all_jobs() if job.kind == "generation"]
    assert {job.precision for job in generation} == set(get_args(GenerationPrecision))
    assert {job.cache for job in generation} == set(get_args(CacheKind))


def test_a_grid_makes_a_job_of_every_combination() -> None:
    grid = {
        "id": "x",
        "kind": "training",
        "model": "gpt2",
        "vary": {"batch_size": [1, 2], "precision": ["fp32", "bf16"]},
    }
    rows = list(_grid_rows(grid))
    assert [row["id"] for row in rows] == ["x-b1-fp32", "x-b1-bf16", "x-b2-fp32", "x-b2-bf16"]
    assert rows[2] == {"id": "x-b2-fp32", "kind": "training", "model": "gpt2", "batch_size": 2, "precision": "fp32"}


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


@pytest.mark.parametrize("job", MODEL_JOBS, ids=lambda job: job.id)
def test_no_job_asks_a_kernel_for_what_it_refuses(job: CampaignJob) -> None:
    config, attention = job.config(), job.fields.get("attention")
    heads = config.get("num_attention_heads")
    if attention == "efficient":  # it has no grouped key and value heads
        assert config.get("num_key_value_heads", heads) == heads
    if attention == "flash":
        assert job.fields["precision"] != "fp32"


def test_config_takes_the_jobs_own_values() -> None:
    job = CampaignJob("x", "training", fields={"model": "gpt2", "config": {"n_layer": 2}})
    assert job.config()["n_layer"] == 2
    assert job.config()["n_embd"] == 768


def test_config_may_be_a_whole_model() -> None:
    whole = {"model_type": "gpt2", "n_layer": 1}
    assert CampaignJob("x", "training", fields={"model": "my own", "config": whole}).config() == whole


def test_an_unknown_job_is_named() -> None:
    with pytest.raises(KeyError, match="no-such-job"):
        find_job("no-such-job")
