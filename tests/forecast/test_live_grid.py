"""A grid of live peaks is the same as its cells, whichever tape each of them takes."""

from vramcast.forecast.peaks import TapePeaks
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
