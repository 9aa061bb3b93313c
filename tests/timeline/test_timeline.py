"""A timeline keeps the order of births and deaths."""

from hypothesis import given
from hypothesis import strategies as st

from vramcast.allocator import replay
from vramcast.timeline import CATEGORIES, Allocation, Event, EventKind, Timeline


def test_alloc_free_and_mark_append_events() -> None:
    timeline = Timeline()
    first, second = timeline.alloc(Allocation(512)), timeline.alloc(Allocation(1024, category="parameters"))
    timeline.mark("after_load")
    timeline.free(first)
    assert timeline.events == [
        Event(EventKind.ALLOC, first),
        Event(EventKind.ALLOC, second),
        Event(EventKind.MARK, 0),
        Event(EventKind.FREE, first),
    ]
    assert list(timeline.mark_positions()) == [("after_load", 2)]
    assert timeline.live_at(2) == [first, second]
    assert timeline.live_at(3) == [second]


def test_categories_are_those_of_the_contract() -> None:
    contract = "parameters|buffers|gradients|optimizer_states|activations|temporary|kv_cache|inputs|workspace"
    assert set(CATEGORIES) == set(contract.split("|"))


@given(st.lists(st.tuples(st.integers(1, 1 << 24), st.booleans()), max_size=40))
def test_live_set_is_what_the_allocator_holds(program: list[tuple[int, bool]]) -> None:
    timeline, live = Timeline(), []
    for nbytes, frees in program:
        live.append(timeline.alloc(Allocation(nbytes)))
        if frees:
            timeline.free(live.pop(0))
    assert timeline.live_at(len(timeline.events)) == live
    assert replay(timeline).allocated_bytes >= sum(timeline.allocations[index].nbytes for index in live)
