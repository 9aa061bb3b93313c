"""A fit matrix on the terminal says what the rows say."""

import io

from plan_fakes import affine, tiny_config
from rich.console import Console

from vramcast.errors import InputError
from vramcast.forecast.peaks import PeakSource
from vramcast.forecast.room import room_of
from vramcast.hardware import GPU, find_gpu
from vramcast.job import TrainingJob
from vramcast.plan import FitMatrix, fit
from vramcast.units import GIB, MIB, format_gib
from vramcast.views.fit_rows import choice_line, fit_rows, notes
from vramcast.views.fit_terminal import print_fit

JOB = TrainingJob(model="tiny", batch_size=8, sequence_length=512)
CARDS = ("a100-80gb", "gtx-1070", "rtx-3060-12gb", "rtx-2060")


def a_source(gpu: GPU) -> PeakSource:
    if gpu.name == "gtx-1070":
        raise InputError("attention", "flash", "no kernel [here]")
    return affine(3 * GIB, 2 * MIB)


def a_matrix(prices: dict[str, float] | None = None, cards: tuple[str, ...] = CARDS) -> FitMatrix:
    return fit(JOB, tiny_config(), [find_gpu(name) for name in cards], source=a_source, prices=prices)


def printed(matrix: FitMatrix, width: int = 160) -> str:
    out = io.StringIO()
    print_fit(matrix, Console(file=out, width=width))
    return out.getvalue()


def test_the_choice_is_the_first_line() -> None:
    assert printed(a_matrix()).startswith("SMALLEST CARD THAT FITS  rtx-3060-12gb\n")
    priced = a_matrix({"a100-80gb": 1.5})
    assert choice_line(priced) == "CHEAPEST CARD THAT FITS  a100-80gb at $1.50 per hour"
    assert choice_line(a_matrix({"rtx-2060": 0.1})).startswith(
        "SMALLEST CARD THAT FITS (NO PRICED CARD DOES)  rtx-3060-12gb"
    )
    assert choice_line(a_matrix(cards=("rtx-2060",))) == "FITS NONE of the 1 cards"


def test_rows_are_by_memory() -> None:
    assert [row.gpu for row in fit_rows(a_matrix())] == ["rtx-2060", "gtx-1070", "rtx-3060-12gb", "a100-80gb"]


def test_cells() -> None:
    rows = {row.gpu: row for row in fit_rows(a_matrix())}
    room = room_of(find_gpu("a100-80gb")).capacity_bytes
    assert rows["a100-80gb"].largest_batch.rstrip("*") == str((room - 3 * GIB) // GIB)
    assert rows["a100-80gb"].longest_length == "1,024 max"
    assert rows["rtx-3060-12gb"].verdict_text == "FITS"
    assert rows["rtx-2060"].largest_batch == "2"
    assert rows["gtx-1070"].verdict_text == "CANNOT RUN"
    assert rows["gtx-1070"].largest_batch == ""


def test_missing_memory_is_told() -> None:
    [row] = fit_rows(fit(JOB, tiny_config(), [find_gpu("rtx-2060")], source=lambda gpu: affine(8 * GIB, 2 * MIB)))
    short = 9 * GIB - room_of(find_gpu("rtx-2060")).capacity_bytes
    assert row.largest_batch == f"0, short of {format_gib(short)}"
    assert row.headroom.startswith("-")


def test_the_limit_of_the_model_is_explained() -> None:
    assert "max: the model takes no more; there is memory for it" in notes(a_matrix())


def test_a_tight_largest_is_marked_and_explained() -> None:
    matrix = fit(JOB, tiny_config(), [find_gpu("rtx-2060")], source=lambda gpu: affine(0, 64 * 1024))
    [row] = fit_rows(matrix)
    assert row.largest_batch.endswith("*")
    assert any("runs by the best estimate" in note for note in notes(matrix))


def test_cards_that_cannot_run_are_explained_once() -> None:
    assert "cannot run on gtx-1070: attention='flash': no kernel [here]" in printed(a_matrix())


def test_prices_are_shown_only_if_given() -> None:
    assert "USD/hour" not in printed(a_matrix())
    assert "$1.50" in printed(a_matrix({"a100-80gb": 1.5}))
