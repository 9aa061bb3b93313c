"""An explanation as markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vramcast.explain import Explanation, Guides, PeakFormula
from vramcast.plan import Advice
from vramcast.views.advice_rows import advice_line, bar_rows, saving_rows, waterfall_title
from vramcast.views.explain_rows import (
    DEFAULT_DEPTH,
    formula_line,
    instant_line,
    letter_lines,
    map_notes,
    map_rows,
    peaks_line,
    sum_rows,
    term_rows,
    tree_rows,
    winner_lines,
)
from vramcast.views.rows import VERDICTS, job_line, verdict_line
from vramcast.views.textbook_markdown import half_precision_markdown, model_textbook_markdown, textbook_markdown


def explanation_markdown(explanation: Explanation, depth: int = DEFAULT_DEPTH) -> str:
    """The whole explanation; the tree down to `depth` levels."""
    forecast = explanation.forecast
    lines = [
        f"# Where each byte of training {forecast.model} comes from",
        "",
        f"**{verdict_line(forecast)}**",
        "",
        *(f"- {line}" for line in (job_line(forecast), peaks_line(explanation), instant_line(explanation.instant))),
        "",
        "## What is alive at the allocated peak",
        "",
        *_tree(explanation, depth),
        "",
        "## The peak as a formula",
        "",
        *([explanation.why_no_formula] if explanation.formula is None else _formula(explanation.formula)),
        "",
        "## What each switch saves",
        "",
        *_advice(explanation.advice),
        "",
        "# The textbook beside the truth",
        "",
        model_textbook_markdown(explanation.textbook),
    ]
    return "\n".join(lines)


def guides_markdown(guides: Guides) -> str:
    """Every document of the textbook, and why fp16 saves so little."""
    return textbook_markdown(guides.rows) + "\n" + half_precision_markdown(guides.half_precision, guides.tensors)


def _tree(explanation: Explanation, depth: int) -> list[str]:
    rows = tree_rows(explanation.tree, depth)
    labels = [f"{row.branch}{row.name}{' ' if row.name and row.what else ''}{row.what}" for row in rows]
    width = max((len(label) for label in labels), default=0)
    body = [f"{label:<{width}}  {row.size:>12}  {row.share:>6.1%}" for label, row in zip(labels, rows, strict=True)]
    return ["```text", *body, "```"]


def _formula(formula: PeakFormula) -> Iterator[str]:
    yield formula_line(formula)
    yield ""
    terms = [(row.symbols, row.numbers, row.size, f"{row.share:.1%}", row.what) for row in term_rows(formula.here)]
    sums = [(f"**{name}**", "", f"**{size}**", "", "") for name, size in sum_rows(formula)]
    yield from _table(("term", "in numbers", "size", "share", "what"), [*terms, *sums], numbers={2, 3})
    yield ""
    yield from (f"- {line}" for line in letter_lines(formula))
    yield ""
    yield "Which sum is the largest, by batch size (down) and sequence length (across):"
    yield ""
    head, *body = map_rows(formula)
    yield from _table(head, body, numbers=set(range(len(head))))
    yield ""
    yield from (f"- {note}" for note in map_notes(formula))
    yield from (f"- {head}: {terms}" for head, terms in winner_lines(formula))


def _advice(advice: Advice) -> Iterator[str]:
    yield advice_line(advice)
    for title, rows in saving_rows(advice).items():
        yield from ("", f"### Each alone, {title}", "")
        cells = [(row.saved, row.device_used, row.flops, row.name, f"`{row.flags}`", row.cost) for row in rows]
        yield from _table(("saves", "device used", "FLOPs", "switch", "flags", "costs"), cells, numbers={0, 1, 2})
    for waterfall in advice.waterfalls:
        yield from ("", f"### {waterfall_title(waterfall).capitalize()}", "")
        bars = [
            (row.flags or row.name, row.device_used, row.saved, VERDICTS[row.verdict]) for row in bar_rows(waterfall)
        ]
        yield from _table(("switch", "device used", "saves", "verdict"), bars, numbers={1, 2})


def _table(head: Iterable[str], rows: Iterable[Iterable[str]], numbers: set[int]) -> list[str]:
    columns = list(head)
    marks = ["---:" if column in numbers else "---" for column in range(len(columns))]
    return [_line(columns), _line(marks), *(_line(row) for row in rows)]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
