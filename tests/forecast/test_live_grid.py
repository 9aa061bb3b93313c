"""A grid of live peaks is the same as its cells, whichever tape each of them takes."""

from vramcast.forecast.peaks import TapePeaks, peak_source
from vramcast.hardware import find_gpu
from vramcast.job import TrainingJob
from vramcast.models import load_model


def test_a_grid_of_live_peaks_is_its_cells(tiny_gpt2: str) -> None:
    job = TrainingJob(model=tiny_gpt2, sequence_length=64)
    source = TapePeaks(job, load_model(tiny_gpt2), find_gpu("a100-80gb"))
    batch_sizes, lengths = [1, 2, 7, 64], [2, 33, 64, 128]
    grid = source.live_grid(batch_sizes, lengths)
    assert grid.tolist() == [[source.live_bytes(each, length) for length in lengths] for each in batch_sizes]
    fresh = TapePeaks(job, load_model(tiny_gpt2), find_gpu("a100-80gb"))
    assert grid[1, 2] <= fresh.peaks(2, 64).allocated_bytes
    assert (grid[:, 1:] >= grid[:, :-1]).all()


def test_cards_share_a_source_where_they_run_a_job_alike() -> None:
    """Flash attention splits its keys by the number of multiprocessors: 132 and 114 of the two."""
    config, cards = load_model("gpt2", offline=True), [find_gpu("h100-sxm"), find_gpu("h100-pcie")]
    for precision, number in (("fp32", 1), ("bf16", 2)):
        job = TrainingJob(model="gpt2", sequence_length=64, precision=precision)
        assert len({id(peak_source(job, config, card)) for card in cards}) == number
