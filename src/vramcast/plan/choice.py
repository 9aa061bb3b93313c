"""Which of the cards that fit to take."""

from collections.abc import Iterable, Sequence

from vramcast.plan.fit_matrix import Basis, Choice, FitRow


def choose_card(rows: Sequence[FitRow]) -> Choice | None:
    """The cheapest card on which the job fits, by the prices given; without prices the smallest, then the one of lower bandwidth.

    A card where it is tight is taken only if there is none where it fits. Prices are the user's: a card without one is no candidate for
    the cheapest. None where the job fits on no card.
    """
    candidates = _best_verdict(rows)
    priced = _best_verdict([row for row in rows if row.usd_per_hour is not None])
    if priced:
        return _choice(min(priced, key=lambda row: (row.usd_per_hour, *_size(row))), "cheapest card that fits")
    if not candidates:
        return None
    any_price = any(row.usd_per_hour is not None for row in rows)
    basis: Basis = "smallest card that fits (no priced card does)" if any_price else "smallest card that fits"
    return _choice(min(candidates, key=_size), basis)


def _best_verdict(rows: Iterable[FitRow]) -> list[FitRow]:
    for verdict in ("fits", "tight"):
        found = [row for row in rows if row.verdict == verdict]
        if found:
            return found
    return []


def _size(row: FitRow) -> tuple[int, float]:
    bandwidth = row.memory_bandwidth_bytes_per_second
    return row.gpu_memory_bytes, float("inf") if bandwidth is None else bandwidth


def _choice(row: FitRow, basis: Basis) -> Choice:
    assert row.verdict is not None
    return Choice(gpu=row.gpu, basis=basis, verdict=row.verdict, usd_per_hour=row.usd_per_hour)
