"""One job over many cards, and how few replays that takes."""

from collections.abc import Callable

import pytest
from plan_fakes import FakePeaks, affine, tiny_config

import vramcast
from vramcast.errors import InputError
from vramcast.forecast.peaks import PeakSource
from vramcast.forecast.room import room_of
from vramcast.hardware import GPU, all_gpus, custom_gpu, find_gpu
from vramcast.job import GenerationJob, TrainingJob
from vramcast.plan import fit, fit_model
from vramcast.units import GIB, KIB, MIB

JOB = TrainingJob(model="tiny", batch_size=8, sequence_length=512)


def shared(source: PeakSource) -> Callable[[GPU], PeakSource]:
    return lambda gpu: source


def test_a_row_says_what_its_card_takes() -> None:
    gpu = find_gpu("rtx-3090")
    source = affine(2 * GIB, 2 * MIB)
    [row] = fit(JOB, tiny_config(), [gpu], source=shared(source)).rows
    capacity = room_of(gpu).capacity_bytes
    assert row.peak_reserved_bytes == row.peak_allocated_bytes == 10 * GIB
    assert row.device_used_bytes == 10 * GIB + row.context_bytes
    assert row.headroom_bytes == capacity - 10 * GIB
    assert row.verdict == "fits"
    assert row.largest_batch is not None and row.longest_length is not None
    assert row.largest_batch.largest == (capacity - 2 * GIB) // GIB
    assert (row.longest_length.largest, row.longest_length.stopped_by) == (1024, "limit")


def test_it_is_told_how_much_is_missing() -> None:
    gpu = custom_gpu(2 * GIB)
    [row] = fit(JOB, tiny_config(), [gpu], source=shared(affine(2 * GIB, 2 * MIB))).rows
    assert (row.verdict, row.peak_reserved_bytes) == ("does_not_fit", 10 * GIB)
    assert row.largest_batch is not None and row.longest_length is not None
    assert row.largest_batch.largest == row.longest_length.largest == 0
    assert row.largest_batch.shortfall_bytes == 3 * GIB - room_of(gpu).capacity_bytes
    assert row.longest_length.shortfall_bytes == 2 * GIB + 2 * 16 * MIB - room_of(gpu).capacity_bytes


def test_the_length_defaults_as_in_a_forecast_and_ends_with_the_model() -> None:
    job = TrainingJob(model="tiny")
    assert fit(job, tiny_config(), all_gpus()[:1], source=shared(affine(0, 1))).length == 1024
    short = fit(job, tiny_config(n_positions=256), all_gpus()[:1], source=shared(affine(0, 1)))
    assert (short.length, short.longest_length) == (256, 256)
    with pytest.raises(InputError, match="learned positions up to its context length 256"):
        fit(JOB, tiny_config(n_positions=256), all_gpus()[:1], source=shared(affine(0, 1)))


def test_a_generation_asks_for_the_prompt() -> None:
    job = GenerationJob(model="tiny", batch_size=2, prompt_length=100, max_new_tokens=24)
    matrix = fit(job, tiny_config(), [find_gpu("rtx-3090")], source=shared(affine(GIB, MIB)))
    assert (matrix.workload, matrix.length_field, matrix.length, matrix.longest_length) == (
        "generation",
        "prompt_length",
        100,
        1000,
    )
    row = matrix.rows[0]
    assert row.longest_length is not None
    assert (row.longest_length.largest, row.longest_length.stopped_by) == (1000, "limit")


def test_a_card_that_cannot_run_the_job_says_why() -> None:
    def source(gpu: GPU) -> PeakSource:
        if gpu.architecture == "pascal":
            raise InputError("attention", "flash", "no kernel on this card")
        return affine(GIB, KIB)

    matrix = fit(JOB, tiny_config(), [find_gpu("gtx-1070"), find_gpu("rtx-3090")], source=source)
    refused, taken = matrix.rows
    assert refused.refusal == "attention='flash': no kernel on this card"
    assert (refused.verdict, refused.largest_batch, refused.headroom_bytes) == (None, None, None)
    assert (taken.refusal, taken.verdict) == (None, "fits")
    with pytest.raises(InputError, match="no kernel on this card"):
        fit(JOB, tiny_config(), [find_gpu("gtx-1070")], source=source)


def test_an_error_of_a_search_is_not_taken_for_a_card_that_cannot_run() -> None:
    def live(batch_size: int, length: int) -> int:
        if batch_size > 100:
            raise InputError("batch_size", batch_size, "beyond any tensor")
        return batch_size * length

    source = FakePeaks(live, live, live)
    with pytest.raises(InputError, match="beyond any tensor"):
        fit(JOB, tiny_config(), [find_gpu("rtx-3090")], source=shared(source))


def by_generation(source: Callable[[], FakePeaks]) -> tuple[dict[object, FakePeaks], Callable[[GPU], PeakSource]]:
    """One source for the cards of a compute capability, as kernels are chosen by it."""
    sources: dict[object, FakePeaks] = {}
    return sources, lambda gpu: sources.setdefault(gpu.compute_capability, source())


@pytest.mark.parametrize("fragmentation", [0.0, 0.04, 0.12])
def test_all_cards_take_few_replays(fragmentation: float) -> None:
    """At 7 ms a replay and 0.1 ms for live bytes, all cards of the hardware file are to take less than two seconds."""
    sources, source = by_generation(lambda: affine(2 * GIB, MIB, fragmentation))
    matrix = fit(JOB, tiny_config(), all_gpus(), source=source)
    assert len(matrix.rows) == len(all_gpus()) > 49
    replays = sum(len(fake.peaks_calls) for fake in sources.values())
    live = sum(fake.live_calls for fake in sources.values())
    assert len(sources) == len({gpu.compute_capability for gpu in all_gpus()})
    assert replays <= 200  # for all cards x 3 answers: as asked, batch, length
    assert live <= 1000
    assert 7 * replays + 0.1 * live < 2000


def test_shared_replays_change_no_answer() -> None:
    _, source = by_generation(lambda: affine(2 * GIB, 700 * KIB, 0.1))
    together = fit(JOB, tiny_config(), all_gpus(), source=source)
    alone = [fit(JOB, tiny_config(), [gpu], source=lambda gpu: affine(2 * GIB, 700 * KIB, 0.1)) for gpu in all_gpus()]
    assert list(together.rows) == [matrix.rows[0] for matrix in alone]


def test_a_price_without_its_card_is_told() -> None:
    matrix = fit(JOB, tiny_config(), [find_gpu("l4")], source=shared(affine(0, 1)), prices={"l4": 1.0, "t4": 2.0})
    assert matrix.rows[0].usd_per_hour == 1.0
    assert matrix.assumptions == ("prices without effect, for their cards were not asked for: t4",)


def test_progress_counts_the_cards() -> None:
    told: list[tuple[str, int, int]] = []
    fit(JOB, tiny_config(), all_gpus()[:3], source=shared(affine(0, 1)), progress=lambda *step: told.append(step))
    assert [(done, total) for _, done, total in told] == [(0, 3), (1, 3), (2, 3)]


def test_json_has_only_plain_values() -> None:
    document = fit(JOB, tiny_config(), all_gpus()[:2], source=shared(affine(GIB, KIB))).to_dict()
    assert document["schema_version"] == 1
    assert (document["batch_size"], document["length_field"], document["length"]) == (8, "sequence_length", 512)
    assert document["settings"]["sequence_length"] == 512
    assert "gpu" not in document["settings"]
    for row in document["rows"]:
        assert all(isinstance(value, int) for key, value in row.items() if key.endswith("_bytes"))


def test_fit_model_names_its_cards(tiny_gpt2: str) -> None:
    with pytest.raises(InputError, match="not in the hardware file"):
        fit_model(tiny_gpt2, on=["rtx-9999"])
    with pytest.raises(InputError, match="choose one of training or generation"):
        fit_model(tiny_gpt2, workload="serving")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no such field"):
        fit_model(tiny_gpt2, bach_size=1)
    with pytest.raises(InputError, match="write the price as US dollars per hour"):
        fit_model(tiny_gpt2, on=["l4"], prices={"l4": -1})


def test_a_real_model_on_a_small_card(tiny_gpt2: str) -> None:
    """The forecast at the largest batch agrees, and the forecast at the next one does not fit."""
    card = {"gpu": "custom", "gpu_memory": "560MiB"}
    matrix = fit_model(tiny_gpt2, batch_size=2, sequence_length=128, **card)
    [row] = matrix.rows
    assert row.largest_batch is not None and row.longest_length is not None
    largest = row.largest_batch.largest
    at_largest = vramcast.training(tiny_gpt2, batch_size=largest, sequence_length=128, **card)
    capacity = room_of(custom_gpu(560 * MIB)).capacity_bytes
    assert at_largest.peak_reserved_bytes <= capacity
    after = vramcast.training(tiny_gpt2, batch_size=largest + 1, sequence_length=128, **card)
    assert at_largest.peak_reserved_bytes == row.largest_batch.peak_reserved_bytes
    assert at_largest.verdict in ("fits", "tight")
    assert after.peak_reserved_bytes > capacity
    assert row.largest_batch.verdict == at_largest.verdict
    assert (row.longest_length.largest, row.longest_length.stopped_by) == (128, "limit")
    assert row.verdict == vramcast.training(tiny_gpt2, batch_size=2, sequence_length=128, **card).verdict


def test_a_real_generation_agrees_with_its_forecast(tiny_llama: str) -> None:
    card = {"gpu": "custom", "gpu_memory": "100MiB"}
    lengths = {"prompt_length": 100, "max_new_tokens": 4}
    matrix = fit_model(tiny_llama, workload="generation", **lengths, **card)
    forecast = vramcast.generation(tiny_llama, **lengths, **card)
    [row] = matrix.rows
    assert (row.verdict, row.peak_allocated_bytes, row.peak_reserved_bytes) == (
        "does_not_fit",
        forecast.peak_allocated_bytes,
        forecast.peak_reserved_bytes,
    )
    assert row.largest_batch is not None and row.longest_length is not None
    assert row.largest_batch.largest == row.longest_length.largest == 0
    assert matrix.longest_length == 256 - 4
