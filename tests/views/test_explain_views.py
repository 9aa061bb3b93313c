"""An explanation as rows, on the terminal and as markdown."""

import io
from itertools import pairwise

import pytest
from rich.console import Console

from vramcast.explain import (
    Holder,
    Letter,
    LiveSum,
    MemoryNode,
    PeakFormula,
    PeakInstant,
    Term,
    Winner,
    memory_tree,
)
from vramcast.explain.explanation import Explanation, explanation_of
from vramcast.forecast.answer import training_answer
from vramcast.job import TrainingJob
from vramcast.timeline import Allocation
from vramcast.units import GIB, MIB
from vramcast.views.explain_markdown import explanation_markdown
from vramcast.views.explain_rows import (
    instant_line,
    letter_lines,
    map_notes,
    map_rows,
    sum_rows,
    term_rows,
    tree_rows,
    winner_lines,
)
from vramcast.views.explain_terminal import print_explanation


def tree() -> MemoryNode:
    mlp = [
        (Allocation(GIB, category="activations", module=f"layers.{n}.mlp", op="mm", dtype="float32", shape=(8, 4)), GIB)
        for n in range(2)
    ]
    weights = Allocation(GIB, category="parameters", op="copy_from_host", dtype="float32", shape=(4,))
    return memory_tree([*mlp, (weights, GIB + MIB)])


def term(count: int, per_layer: int, size: str, nbytes: int, *holders: Holder) -> Term:
    return Term(
        count=count,
        per_layer=per_layer,
        outside=count - 2 * per_layer,
        size=size,
        numbers=size.replace("B", "8"),
        each_bytes=nbytes,
        bytes=count * nbytes,
        holders=holders,
    )


def formula() -> PeakFormula:
    act = Holder(category="activations", module="layers.*.mlp.act", op="gelu", tensors=4)
    weight = Holder(category="parameters", module="", op="copy_from_host", tensors=1)
    terms = (term(5, 2, "4·B", GIB, act, weight), term(1, 0, "8·B", 512, weight), term(1, 0, "2·B", 512, act))
    total = LiveSum(bytes=5 * GIB + 1024, step=2, phase="backward", module="layers.1", op="mul", terms=terms)
    winners = (Winner(sum=total, batch_size=8, sequence_length=128, cells=2),)
    return PeakFormula(
        sums=7,
        here=total,
        unused_bytes=MIB,
        letters=(Letter(letter="B", meaning="batch size", value=8192),),
        winners=winners,
        batch_sizes=(1, 8),
        sequence_lengths=(128, 256),
        map=((None, None), (0, 1)),
    )


def test_the_tree_draws_its_branches() -> None:
    lines = [(row.branch + row.name, row.what, row.size) for row in tree_rows(tree())]
    assert lines == [
        ("activations", "", "2.00 GiB"),
        ("└─ layers.*.mlp × 2", "mm float32 [8, 4] × 2", "2.00 GiB"),
        ("parameters", "", "1.00 GiB"),
        ("└─ ", "copy_from_host float32 [4]", "1.00 GiB"),
        ("unused ends of blocks", "", "1.00 MiB"),
    ]
    assert [row.name for row in tree_rows(tree(), depth=1)] == ["activations", "parameters", "unused ends of blocks"]


def test_the_instant_is_a_sentence() -> None:
    instant = PeakInstant(
        step=2, phase="backward", module="lm_head", op="mm", dtype="float32", shape=(8, 4), bytes=2 * MIB
    )
    assert instant_line(instant) == "reached in backward of step 2 in lm_head, when mm makes float32 [8, 4], 2.00 MiB"
    loading = instant.model_copy(update={"step": 0, "phase": "load", "module": ""})
    assert instant_line(loading).startswith("reached in load, when")


def test_terms_are_written_with_symbols_and_numbers() -> None:
    rows = [(row.symbols, row.numbers, row.size, row.what) for row in term_rows(formula().here)]
    assert rows == [
        ("(2·L + 1) × 4·B", "5 × 4·8", "5.00 GiB", "mlp.act gelu, parameters"),
        ("2 smaller terms", "", "1.00 KiB", ""),
    ]
    assert sum_rows(formula()) == [
        ("everything alive", "5.00 GiB"),
        ("unused ends of blocks", "1.00 MiB"),
        ("allocated peak", "5.00 GiB"),
    ]
    assert letter_lines(formula()) == ["B = 8,192  batch size"]


def test_the_map_names_winners_and_holes() -> None:
    assert map_rows(formula()) == [["", "128", "256"], ["1", "·", "·"], ["8", "A", "o"]]
    assert len(map_notes(formula())) == 2
    ((head, terms),) = winner_lines(formula())
    assert head == "A  backward of step 2, mul: the peak in 2 of 2 cells"
    assert terms.startswith("(2·L + 1) × 4·B + 1 × 8·B")
    assert terms.endswith("5.00 GiB at batch 8, sequence 128")


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch, tiny_gpt2: str) -> Explanation:
    answer = training_answer(TrainingJob(model=tiny_gpt2, batch_size=4, sequence_length=64))
    monkeypatch.setattr(explanation_of.__module__ + ".training_forecast", lambda job, offline: answer.forecast)
    return explanation_of(answer)


def test_the_terminal_shows_all_parts(explained: Explanation) -> None:
    console = Console(file=io.StringIO(), width=120)
    print_explanation(explained, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for part in ("FITS", "peak reserved", "activations", "L = 2", "saves", "GPT-2"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 120


def test_without_a_formula_it_says_why(explained: Explanation) -> None:
    traced = explained.model_copy(update={"formula": None, "why_no_formula": "traced, so no formula"})
    console = Console(file=io.StringIO(), width=120)
    print_explanation(traced, console)
    assert isinstance(console.file, io.StringIO)
    assert "traced, so no formula" in console.file.getvalue()
    assert "traced, so no formula" in explanation_markdown(traced)


def test_markdown_has_whole_tables(explained: Explanation) -> None:
    lines = explanation_markdown(explained).splitlines()
    assert lines[0].startswith("# Where each byte of training")
    for before, line in pairwise(lines):
        if line.startswith("|") and before.startswith("|"):
            assert line.replace("\\|", "").count("|") == before.replace("\\|", "").count("|")
    assert lines.count("```text") == lines.count("```") == 1
