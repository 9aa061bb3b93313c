"""The report as a page: `docs/accuracy.md` is what `python -m validation --markdown docs/accuracy.md` wrote last."""

from collections import Counter
from typing import Any

from vramcast.units import GIB

HEAD = """# Accuracy

Forecasts beside measurements published by others, written by `python -m validation --markdown docs/accuracy.md`. No constant is
fitted; the published figures are read after the forecast is made. Each row runs the publisher's model and loop, written anew, on
the virtual GPU with the library behaviour of its time. Rows of one sweep are not independent of each other. Sources:
`validation/data/README.md`. Bars are of rows graded A on one GPU.
"""


SAFETY = """Each published reserved or nvidia-smi figure beside the interval that the same forecast shows: `reserved_bytes_low` to
`_high`, or `device_used_bytes_low` to `_high` with the product's own estimate of context and NCCL. "Fits" means that the high end fits, so
it would have been false on a card between the high end and the published figure. Widths are means, of the reserved peak; the last column
leaves out what is outside PyTorch's allocator. Grade B: the source leaves an input open that is assumed here. What an interval is made of:
[verdicts](verdicts.md).

Four rows of 2022 (`hfbert`) ran before CUDA loaded kernels lazily. Their page publishes the context, 1343 MiB, and it stands for the
product's estimate of a V100, 394 MiB, which is of today's CUDA: with that the four would lie 0.5 to 0.8 GiB above the high end.
"""


def to_markdown(report: dict[str, Any]) -> str:
    """A page from the plain data of a report: summary, every row, notes, and what is not forecast."""
    parts = [HEAD, "## Summary\n", _summary(report["summaries"]), "## Rows\n", _rows(report["comparisons"])]
    notes = [row for row in report["comparisons"] if row["error"] is not None and abs(row["error"]) > 0.01]
    if notes:
        parts += ["## Misses above 1 %\n", "\n".join(f"- **{row['id']}**: {row['notes']}" for row in notes) + "\n"]
    parts += ["## Safety\n", SAFETY, _safety(report["safety"]["kinds"]), _intervals(report["safety"]["rows"])]
    parts += ["## Not forecast\n", _not_forecast(report["not_forecast"])]
    return "\n".join(parts)


def _summary(summaries: list[dict[str, Any]]) -> str:
    lines = [
        "| metric | rows | median absolute error | within 0.5 % | within 1 % | within 2 % |",
        "|---|---|---|---|---|---|",
    ]
    for summary in summaries:
        shares = (summary[f"within_{bar}_percent"] for bar in ("half", "one", "two"))
        cells = [
            summary["kind"],
            str(summary["count"]),
            f"{summary['median_error']:.3%}",
            *(f"{share:.0%}" for share in shares),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _rows(comparisons: list[dict[str, Any]]) -> str:
    lines = ["| id | workload | metric | forecast GiB | published GiB | error |", "|---|---|---|---|---|---|"]
    for row in comparisons:
        figures = (row["predicted_bytes"], row["published_bytes"])
        forecast, published = (f"{value / GIB:.4f}" if value is not None else "" for value in figures)
        error = f"{row['error']:+.3%}" if row["error"] is not None else row["failure"]
        lines.append(f"| {row['id']} | {row['workload']} | {row['metric']} | {forecast} | {published} | {error} |")
    return "\n".join(lines) + "\n"


def _safety(kinds: list[dict[str, Any]]) -> str:
    lines = [
        '| job | figure | grade | rows | inside | false "fits" | width GiB | width | width inside PyTorch |',
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in kinds:
        counts = (str(kind[name]) for name in ("rows", "inside", "false_fits"))
        shares = (f"{kind[name]:.2f}%" for name in ("width_percent", "reserved_width_percent"))
        cells = [kind["job"], kind["figure"], kind["grade"], *counts, f"{kind['width_bytes'] / GIB:.2f}", *shares]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _intervals(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| id | figure | grade | low GiB | best | published | high | inside |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = (row[f"{name}_bytes"] / GIB for name in ("low", "best", "published", "high"))
        inside = "yes" if row["inside"] else "above" if row["false_fit"] else "below"
        lines.append(
            f"| {row['id']} | {row['figure']} | {row['grade']} | {' | '.join(f'{each:.4f}' for each in figures)} | {inside} |"
        )
    return "\n".join(lines) + "\n"


def _not_forecast(rows: list[dict[str, Any]]) -> str:
    reasons = Counter(row["reason"] for row in rows)
    lines = ["| reason | rows |", "|---|---|", *(f"| {reason} | {count} |" for reason, count in reasons.most_common())]
    return "\n".join(lines) + "\n"
