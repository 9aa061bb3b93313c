"""Numbers put into a tape: sizes, the conditions it holds under, the timeline."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_tapes import LOSS, ONCE, SCRATCH, SIZES, VALUES, WEIGHT, accumulating_tape, made_tape

from vramcast.kernels import AttentionCall, AttentionChoice, Backend, scratch_buffers
from vramcast.tapes import BoundTape, Expression, why_not
from vramcast.tapes.binding import backend_at, size_values
from vramcast.tapes.folding import folded
from vramcast.tapes.peak import live_sets
from vramcast.tapes.tape import AllocRow, AttentionGuard, FreeRow, Guard, Program, ScratchSize, Section, Segment
from vramcast.timeline import EventKind

A100, T4 = (8, 0), (7, 5)


def bound(**changes: int) -> BoundTape:
    return BoundTape(made_tape(), {**VALUES, **changes})


def test_sizes_are_bytes_at_the_dimensions() -> None:
    sizes = size_values(SIZES, {**VALUES, "B": 100, "T": 100})
    scratch = scratch_buffers("embedding_backward", {"num_tokens": 10_000, "vocab_size": 10, "hidden_size": 16})
    assert sizes == [4 * 16 * 16, 2 * 100 * 100 * 16, 4, scratch[0], 4 * 16 * 16, 8 * 16 * 16]


def test_a_buffer_that_is_not_taken_is_not_in_the_timeline() -> None:
    shared = made_tape()
    few, many = (BoundTape(shared, {**VALUES, "B": size, "T": size}) for size in (4, 100))
    for tape, taken in ((few, 0), (many, 3)):
        found = [each for each in tape.timeline().allocations if each.op == "embedding_dense_backward"]
        assert len(found) == taken
        assert tape.allocation_bytes.count(0) == 3 - taken
    assert few.unrolled is many.unrolled


def test_the_timeline_names_layers_and_shapes() -> None:
    timeline = bound().timeline()
    weight, activation = timeline.allocations[1], timeline.allocations[5]
    assert (weight.module, weight.shape, weight.nbytes, weight.category) == ("layers.1", (16, 16), 1024, "parameters")
    assert (activation.module, activation.shape, activation.phase) == ("layers.2", (8, 16), "forward")
    assert timeline.marks[:2] == ["after_load", "after_forward"]
    assert EventKind.HOST_WAIT_STREAM in {event.kind for event in timeline.events}


def test_every_event_of_the_timeline_is_one_of_the_lists() -> None:
    tape = BoundTape(accumulating_tape(), {**VALUES, "T": 4000}, 4)
    timeline = tape.timeline()
    births = [event.target for event in timeline.events if event.kind == EventKind.ALLOC]
    assert births == list(range(len(tape.allocation_bytes)))
    assert [each.nbytes for each in timeline.allocations] == tape.allocation_bytes
    assert len(timeline.events) == len(tape.unrolled.events) + len(tape.unrolled.marks) + len(tape.unrolled.others)


def test_parameters_are_those_that_are_loaded() -> None:
    assert bound(L=5).parameters == 5 * 16 * 16


def test_operators_of_a_later_step() -> None:
    (operator,) = bound(B=3).operators()
    assert (operator.name, operator.calls, operator.extents, operator.flops) == ("mm", 3, (1, 12, 16, 16), 2 * 12 * 256)
    assert operator.reads == (4 * 12 * 16, 4 * 16 * 16)
    accumulating = BoundTape(accumulating_tape(), VALUES, 5)
    assert [each.calls for each in accumulating.operators()] == [5 * 3]


@pytest.mark.parametrize("micro_batches", [2, 4, 6])
def test_kernels_grow_with_layers_and_micro_batches(micro_batches: int) -> None:
    tape = replace(accumulating_tape(), kernels={"flash": (4 * 3 * 2, 4 * 3)})
    assert BoundTape(tape, {**VALUES, "L": 5}, micro_batches).kernels() == {"flash": 3 * micro_batches * (5 + 2)}


def test_live_bytes_count_blocks() -> None:
    live = bound().live_bytes()
    assert live[:3].tolist() == [1024, 2048, 3072]
    loss = int((bound().unrolled.size == LOSS).argmax())
    assert live[loss] - live[loss - 1] == 512
    assert bound().peak_live_bytes() == live.max()


def test_kinds_of_sizes() -> None:
    assert isinstance(SIZES[WEIGHT], Expression) and not isinstance(SIZES[SCRATCH], Expression)


CONDITIONS: list[tuple[str, int, bool]] = [
    ("==", 1, False),
    ("==", 8, True),
    ("!=", 8, False),
    ("<", 8, False),
    ("<", 9, True),
    ("<=", 8, True),
    (">", 8, False),
    (">", 7, True),
    (">=", 8, True),
    (">=", 9, False),
    ("multiple of", 4, True),
    ("multiple of", 3, False),
    ("no multiple of", 3, True),
    ("no multiple of", 8, False),
]


@pytest.mark.parametrize(("kind", "number", "holds"), CONDITIONS)
def test_conditions(kind: str, number: int, holds: bool) -> None:
    guard = Guard(kind, Expression(1, ("D",)), Expression(number))
    assert guard.holds(VALUES) == holds
    reason = why_not(made_tape(guards=(guard,)), VALUES, A100)
    assert reason == (None if holds else f"it was recorded for D {kind} {number}")


@pytest.mark.parametrize(
    ("changes", "layers", "reason"),
    [
        ({"min_layers": 4}, 3, "4 layers and more"),
        ({"min_layers": 3, "max_layers": 3}, 4, "3 layers"),
        ({"layers_per_repetition": 2}, 3, "another rest"),
        ({"layers_per_repetition": 2, "layers_left_over": 1}, 3, None),
        ({"min_layers": 3}, 3, None),
    ],
)
def test_numbers_of_layers(changes: dict[str, int], layers: int, reason: str | None) -> None:
    found = why_not(made_tape(**changes), {**VALUES, "L": layers}, A100)
    assert found is None if reason is None else reason in str(found)


def attention(backend: Backend, **fields: Any) -> AttentionGuard:
    call = AttentionCall("float16", 4, 8, 8, 2, 2, 64, 64, False, False, True, 0.0, True, False)
    enabled = frozenset(fields.pop("enabled", ("flash", "efficient", "math")))
    sizes = tuple(
        (name, Expression(1, (letter,)))
        for name, letter in (
            ("query_length", "T"),
            ("key_length", "T"),
            ("num_heads", "H"),
            ("num_key_value_heads", "K"),
            ("head_dim", "D"),
            ("value_head_dim", "D"),
        )
    )
    return AttentionGuard(AttentionChoice(replace(call, **fields), enabled, False, backend), sizes)


def flash_forward(buffer: int) -> ScratchSize:
    sizes = {"batch_size": "B", "query_length": "T", "key_length": "T", "num_heads": "H", "head_dim": "D"}
    letters = {**sizes, "multiprocessors": "m"}
    arguments = tuple((name, (Expression(1, (letter,)),)) for name, letter in letters.items())
    return ScratchSize("flash_attention_forward", arguments, buffer)


def test_attention_must_take_the_same_backend() -> None:
    tape = made_tape(attention=(attention("flash"),), sizes=(*SIZES, flash_forward(0)))
    assert why_not(tape, {**VALUES, "D": 256}, A100) is None
    assert why_not(tape, {**VALUES, "D": 264}, A100) == "it was recorded for flash attention, and this takes efficient"
    assert why_not(tape, VALUES, T4) == "it was recorded for flash attention, and this takes efficient"


@pytest.mark.parametrize(
    ("fields", "is_outdated"),
    [({}, True), ({"dropout": 0.1}, False), ({"query_length": 1}, False), ({"query_length": 2}, True)],
)
def test_a_tape_without_the_buffers_of_flash_forward_is_outdated(fields: dict[str, Any], is_outdated: bool) -> None:
    reason = why_not(made_tape(attention=(attention("flash", **fields),)), VALUES, A100)
    assert (reason is not None and "flash_attention_forward" in reason and "record it anew" in reason) is is_outdated
    with_buffers = made_tape(attention=(attention("flash", **fields),), sizes=(*SIZES, flash_forward(1)))
    assert why_not(with_buffers, VALUES, A100) is None


def test_other_backends_have_no_buffers_in_forward() -> None:
    assert why_not(made_tape(attention=(attention("efficient", enabled=("efficient",)),)), VALUES, A100) is None


def test_buffers_follow_the_multiprocessors_and_are_left_out_where_empty() -> None:
    rows = (AllocRow(0, 0, None), AllocRow(1, 0, None), FreeRow("own", 0, 0, ONCE), FreeRow("own", 0, 1, ONCE))
    tape = made_tape(
        sizes=(flash_forward(0), flash_forward(1)),
        sections=(Section("after_step", (Segment(None, rows),)),),
        program=Program(0, (), ()),
    )
    sizes = {**VALUES, "B": 1, "T": 1024, "H": 12, "D": 64, "L": 1}
    h100, rtx_3060 = (BoundTape(tape, {**sizes, "m": multiprocessors}) for multiprocessors in (132, 28))
    assert [a.nbytes for a in h100.timeline().allocations] == [196_608, 12_582_912]
    assert (rtx_3060.allocation_bytes, rtx_3060.timeline().allocations) == ([0, 0], [])
    assert h100.peak_live_bytes() == 196_608 + 12_582_912
    peaks = folded(live_sets(tape, 1), h100.values).peaks_bytes(np.array([1, 8]), np.array([1024, 1024]))
    assert peaks.tolist() == [196_608 + 12_582_912, 0]


def test_attention_that_cannot_run_takes_none() -> None:
    guard = attention("flash", enabled=("flash",))
    assert backend_at(guard, VALUES, T4) == "none"
    assert why_not(made_tape(attention=(guard,)), VALUES, T4) == (
        "it was recorded for flash attention, and this takes none"
    )
