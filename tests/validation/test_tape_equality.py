"""A tape with numbers put in is the trace: a sample of `python -m validation.tape_equality`, and the command itself."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from validation.tape_equality_cases import Case, case_of, draw_group, drawn_groups, family_names, real_cases
from validation.tape_equality_compare import Result, compare, timeline_differences

from validation import tape_equality
from vramcast.timeline import Allocation, Timeline

SAMPLE = [("gpt2", 1), ("llama", 2), ("mistral", 3), ("mixtral", 4), ("gpt_neox", 5)]
CASES_OF_A_FAMILY = 5
"""The first of a group, which share a path."""


@pytest.mark.parametrize(("family", "seed"), SAMPLE)
def test_tapes_are_traces(family: str, seed: int) -> None:
    results = [compare(case) for case in draw_group(seed, family, 0)[:CASES_OF_A_FAMILY]]
    assert [(result.id, result.outcome, result.reason) for result in results] == [
        (result.id, "equal", "") for result in results
    ]
    assert all(result.events > 500 for result in results)


def test_a_draw_is_the_same_every_time() -> None:
    first, again = (list(drawn_groups(7, 40)) for _ in range(2))
    assert first == again
    assert sum(len(group) for group in first) == 40
    assert list(drawn_groups(8, 40)) != first


def test_a_case_can_be_drawn_alone() -> None:
    for group in islice(drawn_groups(1, 60), 10):
        for case in group:
            assert case_of(case.id) == case


def test_one_family_alone_draws_the_same_cases() -> None:
    everything = {case.id: case for group in drawn_groups(3, 200) for case in group}
    for group in drawn_groups(3, 6, "qwen3"):
        assert [everything[case.id] for case in group] == group
    with pytest.raises(ValueError, match="no family 'bert'"):
        next(drawn_groups(3, 6, "bert"))


def all_drawn(cases: int) -> list[Case]:
    return [case for group in drawn_groups(1, cases) for case in group]


def test_the_draw_reaches_what_decides_a_path() -> None:
    cases = all_drawn(600)
    dimensions = [case.config.dimensions for case in cases]
    assert {case.family for case in cases} == set(family_names())
    assert {1, 2} <= {case.job.batch_size for case in cases}
    assert {1, 2} <= {case.job.sequence_length for case in cases}
    assert {1, 2, 3, 14} <= {each.num_hidden_layers for each in dimensions}
    assert {1} <= {each.num_attention_heads for each in dimensions}
    assert any(each.head_dim > 256 for each in dimensions) and any(each.head_dim % 8 for each in dimensions)
    assert {1, 2, 3, 4, 5} <= {case.job.gradient_accumulation_steps for case in cases}
    sides = {
        (case.job.sequence_length or 0) - window
        for case in cases
        if (window := case.config.dimensions.sliding_window) is not None
    }
    assert {-1, 0, 1} <= sides


def test_real_jobs_are_whole() -> None:
    cases = real_cases()
    assert len({case.id for case in cases}) == len(cases)
    assert all(case.job.sequence_length is not None for case in cases)


def made_timeline(**changes: Any) -> Timeline:
    timeline = Timeline()
    allocation = Allocation(512, category="activations", phase="forward", op="mm", shape=(128,), dtype="float32")
    timeline.free(timeline.alloc(replace(allocation, **changes)))
    timeline.mark("after_load")
    return timeline


@pytest.mark.parametrize(
    "changes",
    [
        {"nbytes": 516},
        {"stream": 1},
        {"category": "temporary"},
        {"phase": "load"},
        {"module": "head"},
        {"op": "bmm"},
        {"dtype": "int32"},
        {"shape": (64, 2)},
    ],
)
def test_any_difference_of_an_allocation_is_found(changes: dict[str, Any]) -> None:
    assert list(timeline_differences(made_timeline(), made_timeline())) == []
    (difference,) = timeline_differences(made_timeline(), made_timeline(**changes))
    assert difference.startswith("event 0 of 3: ALLOC 0")


def test_other_events_and_marks_are_found() -> None:
    longer, renamed = made_timeline(), made_timeline()
    longer.mark("after_forward")
    renamed.marks[0] = "after_step"
    assert len(list(timeline_differences(made_timeline(), longer))) == 2
    assert len(list(timeline_differences(made_timeline(), renamed))) == 1


RESULTS = [
    Result("gpt2-1-0-0", "gpt2", "equal", "", {"batch_size": 2}, 900, 0.1, 1.0),
    Result("gpt2-1-0-1", "gpt2", "traced", "the layers follow no period", {}, 0),
    Result("phi-1-0-0", "phi", "different", "event 3", {}, 0),
]


def test_the_page_counts_and_names() -> None:
    page = tape_equality.to_markdown(RESULTS)
    assert "| gpt2 | 1 | 1 | 0 | 0 | 0 |" in page
    assert "| all | 1 | 1 | 0 | 1 | 0 |" in page
    assert "## traced\n\n- gpt2-1-0-1: the layers follow no period" in page


def test_the_command_writes_its_files_and_fails_on_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tape_equality, "compare", lambda case: replace(RESULTS[2], id=case.id))
    arguments = ["--case", "gpt2-1-0-3", "--json", str(tmp_path / "r.json"), "--markdown", str(tmp_path / "r.md")]
    assert tape_equality.main(arguments) == 1
    assert json.loads((tmp_path / "r.json").read_text())["cases"][0]["id"] == "gpt2-1-0-3"
    assert "gpt2-1-0-3: event 3" in (tmp_path / "r.md").read_text()
    assert "| phi | 0 | 0 | 0 | 1 | 0 |" in capsys.readouterr().out
    monkeypatch.setattr(tape_equality, "compare", lambda case: RESULTS[0])
    assert tape_equality.main(arguments) == 0


def test_a_family_that_is_none_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert tape_equality.main(["--only", "bert"]) == 2
    assert "no family 'bert'" in capsys.readouterr().err
