"""What cards cost per hour, as the user says: none ship with the package, for they change from day to day."""

import csv
import math
import tomllib
from collections.abc import Iterable
from pathlib import Path

from vramcast.errors import InputError
from vramcast.hardware import find_gpu

Prices = dict[str, float]
"""Canonical name of a card -> US dollars per hour."""

CUSTOM = "custom"
_EXAMPLE = "h100-sxm=2.49"


def parse_prices(flags: Iterable[str]) -> Prices:
    """Prices written as `NAME=USD_PER_HOUR`.

    Raises:
        InputError: no `=`, an unknown card, no number, or one card with two prices.
    """
    pairs = []
    for flag in flags:
        name, equals, price = flag.partition("=")
        if not equals:
            raise InputError("price", flag, f"write NAME=USD_PER_HOUR, such as {_EXAMPLE}")
        pairs.append((name.strip(), price.strip()))
    return checked_prices(pairs, "price")


def read_prices(path: Path) -> Prices:
    """Prices from a file: TOML with a line `"h100-sxm" = 2.49` per card, or CSV with the columns `gpu` and `usd_per_hour`.

    Raises:
        InputError: the file cannot be read, is neither, or holds something else; names the file.
    """
    readers = {".toml": _from_toml, ".csv": _from_csv}
    if path.suffix.lower() not in readers:
        raise InputError("price_file", str(path), "give a .toml or a .csv file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("price_file", str(path), f"cannot be read: {error}") from error
    return checked_prices(readers[path.suffix.lower()](text, str(path)), f"price_file {path}")


def checked_prices(pairs: Iterable[tuple[str, object]], field: str) -> Prices:
    """Prices by the canonical names of the cards.

    Raises:
        InputError: an unknown card, a price that is no number of 0 or more, or one card with two prices.
    """
    prices: Prices = {}
    for name, value in pairs:
        canonical = CUSTOM if name == CUSTOM else find_gpu(name).name
        if canonical in prices:
            raise InputError(field, name, f"{canonical} has a price already; give one for each card")
        prices[canonical] = _price(field, name, value)
    return prices


def _price(field: str, name: str, value: object) -> float:
    try:
        price = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        price = math.nan
    if not math.isfinite(price) or price < 0:
        raise InputError(field, f"{name}={value}", f"write the price as US dollars per hour, such as {_EXAMPLE}")
    return price


def _from_toml(text: str, path: str) -> list[tuple[str, object]]:
    try:
        return list(tomllib.loads(text).items())
    except tomllib.TOMLDecodeError as error:
        raise InputError("price_file", path, f'not TOML ({error}); write lines such as "h100-sxm" = 2.49') from error


def _from_csv(text: str, path: str) -> list[tuple[str, object]]:
    rows = csv.DictReader(text.splitlines())
    if not {"gpu", "usd_per_hour"} <= set(rows.fieldnames or ()):
        raise InputError("price_file", path, "the first line must name the columns: gpu,usd_per_hour")
    return [(row["gpu"].strip(), (row["usd_per_hour"] or "").strip()) for row in rows]
