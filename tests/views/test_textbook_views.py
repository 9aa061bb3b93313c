"""The textbook as text: same cells on the terminal and in markdown."""

import io

import pytest
from rich.console import Console

from vramcast.job import TrainingJob
from vramcast.textbook import (
    ActivationGrowth,
    HalfPrecisionAnswer,
    KeptTensors,
    PrecisionRow,
    TextbookFigure,
    TextbookRow,
    all_documents,
    parse_claim,
)
from vramcast.textbook.claim import Claim
from vramcast.textbook.model_textbook import ModelTextbook, NotApplicable
from vramcast.views.textbook_markdown import half_precision_markdown, model_textbook_markdown, textbook_markdown
from vramcast.views.textbook_rows import error_text, textbook_tables
from vramcast.views.textbook_terminal import print_half_precision, print_model_textbook, print_textbook


def a_row(printed: str = "37.5 MB", true_value: float | None = 75_000_000, **changes: object) -> TextbookRow:
    claim = parse_claim(printed)
    figure = TextbookFigure(
        document="gpt2_requirements",
        section="Activations",
        name="GPT-2 small",
        claim=claim,
        claimed_for=TrainingJob(model="gpt2"),
        quantity="activations",
        reason="",
        formula_text="B x T",
        arithmetic_note="is 37.7 MB",
    )
    fields: dict[str, object] = {"reason": "one [tensor] | a layer", "unit": claim.unit}
    return TextbookRow(figure, claim.low, true_value, **{**fields, **changes})  # type: ignore[arg-type]


def test_cells_of_a_figure() -> None:
    (table,) = textbook_tables([a_row()])
    assert table.title == "Activations"
    assert table.rows == (
        ("GPT-2 small = B x T", "37.5 MB", "75.0 MB", "-50.0%", "false", "Is 37.7 MB. One [tensor] | a layer"),
    )
    assert table.note.startswith(all_documents()[0].title)


@pytest.mark.parametrize(
    ("row", "mark"),
    [
        (a_row("104 MB", 10**8), "true"),
        (a_row("106 MB", 10**8), "false"),
        (a_row("94 MB", 10**8), "false"),
        (a_row("74%", 0.7), "true"),
        (a_row("1 GB", None), ""),
        (a_row("100 GB", 10**9, holds=True), "true"),
        (a_row("1 GB", 10**9, holds=False), "false"),
    ],
)
def test_a_claim_is_true_within_five_percent(row: TextbookRow, mark: str) -> None:
    (table,) = textbook_tables([row])
    assert table.rows[0][4] == mark


def test_errors() -> None:
    assert error_text(a_row("5 GB", 10**9)) == "+400%"
    assert error_text(a_row("70%", 0.1)) == "+60 points"
    assert error_text(a_row("1 GB", None)) == ""
    assert [error_text(a_row(holds=holds)) for holds in (True, False)] == ["fits", "does not fit"]


def test_a_card_is_shown_with_its_own_text() -> None:
    row = a_row()
    figure = TextbookFigure(
        row.figure.document, "GPU", "150M", Claim("RTX 3060 (12GB)", 0, 1, "bytes"), None, "device_used", ""
    )
    (table,) = textbook_tables([TextbookRow(figure, 1, 16e9, "bytes", "", holds=False)])
    assert table.rows[0][:4] == ("150M", "RTX 3060 (12GB)", "16.00 GB", "does not fit")


def test_terminal_and_markdown_show_the_same_cells() -> None:
    out = io.StringIO()
    print_textbook([a_row()], Console(file=out, width=160))
    terminal, markdown = out.getvalue(), textbook_markdown([a_row()])
    for text in ("Activations", "37.5 MB", "75.0 MB", "-50.0%", "One [tensor]"):
        assert text in terminal
        assert text in markdown
    assert r"\| a layer" in markdown
    assert "| figure | claim | truth | error | mark | why |\n| --- | ---: | ---: | ---: | --- | --- |" in markdown


def test_a_models_textbook_names_departures_and_what_does_not_apply() -> None:
    formula = all_documents()[0].formulas[0]
    row = a_row(departures=("untied head",))
    book = ModelTextbook(None, (row,), (NotApplicable(formula, "is about training"),))  # type: ignore[arg-type]
    out = io.StringIO()
    print_model_textbook(book, Console(file=out, width=200))
    for text in (out.getvalue(), model_textbook_markdown(book)):
        assert "Does not hold here: untied head. One [tensor]" in text
        assert "is about training" in text


def test_half_precision() -> None:
    answer = HalfPrecisionAnswer(
        (PrecisionRow(8, "optimizer_states", 10**9, 10**9), PrecisionRow(8, "activations", 4 * 10**9, 3 * 10**9)),
        (ActivationGrowth("fp32", 10**9, 0),),
        "because",
    )
    tensors = (KeptTensors("_softmax", "float32", 2 * 10**9, 2 * 10**9),)
    markdown = half_precision_markdown(answer, tensors)
    assert "| 8 | activations | 4.00 GB | 3.00 GB | 1.00 GB |" in markdown
    assert "| _softmax | float32 | 2.00 GB | 2.00 GB |" in markdown
    assert "Kept for backward" not in half_precision_markdown(answer)
    out = io.StringIO()
    print_half_precision(answer, Console(file=out, width=120), tensors)
    assert "optimizer states" in out.getvalue()
    assert "because" in out.getvalue()
