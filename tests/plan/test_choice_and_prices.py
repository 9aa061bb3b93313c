"""The card to take, by the prices the user gives or by size; prices are never made up."""

from pathlib import Path
from typing import Any

import pytest

from vramcast.errors import InputError
from vramcast.plan import FitRow, parse_prices, read_prices
from vramcast.plan.choice import choose_card
from vramcast.units import GIB


def card(gpu: str, gib: int, verdict: Any = "fits", price: float | None = None, bandwidth: int | None = 10) -> FitRow:
    return FitRow(
        gpu=gpu,
        gpu_memory_bytes=gib * GIB,
        memory_bandwidth_bytes_per_second=bandwidth,
        context_bytes=0,
        context_uncertainty_bytes=0,
        usd_per_hour=price,
        verdict=verdict,
    )


CHOICES = [
    ([card("big", 80), card("small", 24)], ("small", "smallest card that fits")),
    (
        [card("fast", 24, bandwidth=20), card("slow", 24), card("unknown", 24, bandwidth=None)],
        ("slow", "smallest card that fits"),
    ),
    (
        [card("none", 8, "does_not_fit"), card("tight", 12, "tight"), card("fits", 80)],
        ("fits", "smallest card that fits"),
    ),
    ([card("none", 8, "does_not_fit"), card("tight", 12, "tight")], ("tight", "smallest card that fits")),
    (
        [card("cheap", 80, price=1.0), card("dear", 24, price=2.0), card("unpriced", 16)],
        ("cheap", "cheapest card that fits"),
    ),
    ([card("larger", 80, price=1.0), card("smaller", 24, price=1.0)], ("smaller", "cheapest card that fits")),
    ([card("own", 24, price=0.0), card("dear", 24, price=2.0)], ("own", "cheapest card that fits")),
    ([card("tight", 24, "tight", 1.0), card("dear", 80, "fits", 5.0)], ("dear", "cheapest card that fits")),
    (
        [card("priced", 8, "does_not_fit", 1.0), card("unpriced", 24)],
        ("unpriced", "smallest card that fits (no priced card does)"),
    ),
]


@pytest.mark.parametrize(("rows", "expected"), CHOICES)
def test_choice(rows: list[FitRow], expected: tuple[str, str]) -> None:
    choice = choose_card(rows)
    assert choice is not None
    assert (choice.gpu, choice.basis) == expected
    assert choice.verdict == next(row.verdict for row in rows if row.gpu == choice.gpu)


def test_no_choice_where_nothing_fits() -> None:
    refused = card("refused", 80, None, 1.0)
    assert choose_card([card("none", 8, "does_not_fit", 1.0), refused]) is None
    assert choose_card([]) is None


def test_prices_are_by_canonical_name() -> None:
    assert parse_prices(["H100 SXM=2.49", "rtx3090 = 0", "custom=1"]) == {
        "h100-sxm": 2.49,
        "rtx-3090": 0.0,
        "custom": 1.0,
    }


def test_price_files(tmp_path: Path) -> None:
    expected = {"h100-sxm": 2.49, "rtx-3090": 1.0}
    (tmp_path / "prices.toml").write_text('"h100-sxm" = 2.49\nrtx-3090 = 1\n', encoding="utf-8")
    (tmp_path / "prices.csv").write_text("gpu,region,usd_per_hour\nh100-sxm,eu,2.49\nrtx-3090,us,1\n", encoding="utf-8")
    assert read_prices(tmp_path / "prices.toml") == read_prices(tmp_path / "prices.csv") == expected


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("h100-sxm", "write NAME=USD_PER_HOUR"),
        ("rtx-9999=1", "not in the hardware file"),
        ("l4=cheap", "write the price as US dollars per hour"),
        ("l4=-1", "write the price as US dollars per hour"),
        ("l4=nan", "write the price as US dollars per hour"),
        ("l4=", "write the price as US dollars per hour"),
    ],
)
def test_bad_prices(flag: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_prices([flag])


def test_a_card_has_one_price() -> None:
    with pytest.raises(InputError, match="h100-sxm has a price already"):
        parse_prices(["h100-sxm=1", "H100 SXM=2"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("prices.json", "{}", "give a .toml or a .csv file"),
        ("prices.toml", "h100-sxm 2.49", "not TOML"),
        ("prices.toml", "[h100-sxm]\nprice = 1", "US dollars per hour"),
        ("prices.toml", "h100-sxm = true", "US dollars per hour"),
        ("prices.csv", "name,price\nl4,1\n", "gpu,usd_per_hour"),
        ("prices.csv", "gpu,usd_per_hour\nl4\n", "US dollars per hour"),
        ("prices.csv", "", "gpu,usd_per_hour"),
    ],
)
def test_bad_price_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_prices(tmp_path / name)


def test_a_missing_price_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_prices(tmp_path / "prices.csv")
