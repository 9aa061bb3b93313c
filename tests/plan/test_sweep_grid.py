"""Every cell of a sweep is the forecast of that cell; a quick sweep is a lower bound and says no more."""

import csv
import io

import pytest
from plan_fakes import affine, tiny_config
from rich.console import Console

import vramcast
from vramcast.errors import InputError
from vramcast.forecast.room import room_of
from vramcast.hardware import custom_gpu, find_gpu
from vramcast.job import TrainingJob
from vramcast.plan import Sweep, sweep, sweep_model
from vramcast.units import GIB, MIB, format_gib
from vramcast.views.sweep_csv import sweep_csv
from vramcast.views.sweep_terminal import print_sweep

JOB = TrainingJob(model="tiny", precision="bf16")
GPU = find_gpu("rtx-3060-12gb")


def a_sweep(quick: bool = False) -> Sweep:
    source = affine(GIB, MIB)
    return sweep(JOB, tiny_config(), GPU, [1, 8, 16], [512, 1024], quick=quick, source=source)


def printed(grid: Sweep) -> str:
    out = io.StringIO()
    print_sweep(grid, Console(file=out, width=140))
    return out.getvalue()


def test_cells_are_in_order_with_their_peaks() -> None:
    grid = a_sweep()
    context = room_of(GPU).outside_bytes
    for row in grid.rows:
        expected = GIB + row.batch_size * row.sequence_length * MIB
        assert row.live_bytes == row.peak_allocated_bytes == row.peak_reserved_bytes == expected
        assert row.device_used_bytes == expected + context
    assert [(row.batch_size, row.sequence_length) for row in grid.rows] == [
        (batch_size, length) for batch_size in (1, 8, 16) for length in (512, 1024)
    ]
    assert [row.verdict for row in grid.rows] == ["fits", "fits", "fits", "fits", "fits", "does_not_fit"]


def test_a_quick_sweep_replays_nothing() -> None:
    source = affine(GIB, MIB)
    grid = sweep(JOB, tiny_config(), GPU, [1, 16], [1024], quick=True, source=source)
    assert source.peaks_calls == []
    assert [(row.live_bytes, row.verdict, row.device_used_bytes) for row in grid.rows] == [
        (2 * GIB, None, None),
        (17 * GIB, "does_not_fit", None),
    ]


def test_csv_is_the_grid_in_bytes() -> None:
    rows = list(csv.DictReader(io.StringIO(sweep_csv(a_sweep()))))
    assert [int(row["peak_reserved_bytes"]) for row in rows] == [row.peak_reserved_bytes for row in a_sweep().rows]
    assert list(rows[0]) == [
        "batch_size",
        "sequence_length",
        "peak_allocated_bytes",
        "peak_reserved_bytes",
        "device_used_bytes",
        "verdict",
    ]
    quick = list(csv.DictReader(io.StringIO(sweep_csv(a_sweep(quick=True)))))
    assert [int(row["live tensors (lower bound of allocated) bytes"]) for row in quick] == [
        row.live_bytes for row in a_sweep().rows
    ]


def test_the_terminal_says_what_it_shows() -> None:
    text = printed(a_sweep())
    assert "device used (nvidia-smi: reserved + CUDA context) on rtx-3060-12gb" in text
    outside = room_of(GPU).outside_bytes
    assert f"{format_gib(17 * GIB + outside)} x" in text and f"{format_gib(9 * GIB + outside)}  " in text
    assert "precision bf16" in text
    quick = printed(a_sweep(quick=True))
    assert quick.startswith("live tensors (lower bound of allocated) on rtx-3060-12gb")
    assert "17.00 GiB x" in quick


def test_json_carries_its_version() -> None:
    document = a_sweep().to_dict()
    assert (document["schema_version"], document["gpu"], document["quick"]) == (1, GPU.name, False)
    assert document["settings"]["precision"] == "bf16"
    assert not {"batch_size", "sequence_length", "gpu"} & set(document["settings"])


@pytest.mark.parametrize(
    ("batch_sizes", "lengths", "message"),
    [
        ([], [1], "batch_sizes"),
        ([1], [], "sequence_lengths"),
        ([0], [1], "must be between 1 and"),
        ([10**8], [1], "must be between 1 and"),
        ([1], [128, 2048], "learned positions up to its context length 1024"),
    ],
)
def test_bad_grids(batch_sizes: list[int], lengths: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sweep(JOB, tiny_config(), GPU, batch_sizes, lengths, source=affine(0, 1))


def test_a_sweep_takes_lists() -> None:
    with pytest.raises(InputError, match="write batch_sizes"):
        sweep_model("gpt2", batch_sizes=[1], sequence_lengths=[1], batch_size=3)


def test_progress_counts_the_cells() -> None:
    told: list[int] = []
    sweep(
        JOB,
        tiny_config(),
        custom_gpu(GIB),
        [1, 2],
        [3],
        source=affine(0, 1),
        progress=lambda _, done, __: told.append(done),
    )
    assert told == [0, 1]


SAME = (
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "device_used_bytes",
    "device_used_bytes_low",
    "device_used_bytes_high",
    "verdict",
)


def test_cells_of_a_real_model_are_its_forecasts(tiny_gpt2: str) -> None:
    card = {"gpu": "custom", "gpu_memory": "600MiB"}
    grid = sweep_model(tiny_gpt2, batch_sizes=[1, 16], sequence_lengths=[64, 128], precision="amp-bf16", **card)
    for row in grid.rows:
        sizes = {"batch_size": row.batch_size, "sequence_length": row.sequence_length}
        forecast = vramcast.training(tiny_gpt2, precision="amp-bf16", **sizes, **card)
        assert row.model_dump(exclude={*sizes, "live_bytes"}) == {key: getattr(forecast, key) for key in SAME}
        assert row.live_bytes <= forecast.peak_allocated_bytes
