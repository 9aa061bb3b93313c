"""A tape as text: every allocation with its formula and the row that frees it."""

import pytest
from small_tape import small_tape

from vramcast.forecast.answer import training_answer
from vramcast.forecast.source import TapeSource
from vramcast.job import TrainingJob
from vramcast.tapes import BoundTape, Expression
from vramcast.tapes.lifetimes import lifetimes
from vramcast.tapes.show import shown_sections
from vramcast.tapes.size_text import letters_of, numbers_text, size_text
from vramcast.tapes.tape import ScratchSize
from vramcast.tapes.unrolling import unroll
from vramcast.views.tapes_rows import section_lines, tape_head_lines

DUMP = """\
load, up to the mark after_load
 for each of L layers:
 │    1 + 4·E²          float32  [E, E]          copy_from_host                   parameters  → never
forward, up to the mark after_forward
      1 + 8·B·T         int64    [B, T]          copy_from_host                   inputs      → backward 3
      2 · host wait stream
 for each of L layers, 0 to 2:
 │    3 + 4·B·E·T       float32  [B, T, E]       linear mm                        activations → backward 2, same layer
 │    4 + 4·B·E·T       float32  [B, T, E]       layers.* relu                    temporary   → row 5
 │    5 − frees row 4
backward, up to the mark after_backward
 for each of L layers, 2 to 0:
 │    1 + 4·E²          float32  [E, E]          linear mm                        gradients   → zero_grad 1
 │    2 − frees forward 3, same layer
      3 − frees forward 1
optimizer, up to the mark after_optimizer
  nothing
zero_grad, up to the mark after_step
 for each of L layers:
 │    1 − frees backward 1"""


def test_the_dump_of_a_small_tape() -> None:
    lines = [line for section in shown_sections(small_tape(), 3) for line in section_lines(section)]
    assert "\n".join(lines) == DUMP


def test_the_head_says_what_the_tape_is() -> None:
    lines = tape_head_lines(small_tape(), {"B": 2, "T": 16, "L": 3, "E": 64, "V": 1000})
    assert lines[:4] == [
        "model     matrices",
        "settings  precision fp32",
        "recorded  torch 2.13.0",
        "holds for B > 1",
    ]
    # The vocabulary is in no size of this tape.
    assert lines[4] == "letters   B = 2 batch size, T = 16 sequence length, L = 3 layers, E = 64 hidden size"
    assert lines[-1] == "certified B=2 L=2"


def test_a_limit_counts_what_is_left_out() -> None:
    forward = shown_sections(small_tape(), 3)[1]
    lines = section_lines(forward, limit=2)
    assert lines[:3] == section_lines(forward)[:3]
    assert lines[3:] == ["  … 4 more lines"]
    assert section_lines(forward, limit=6) == section_lines(forward)


def test_lifetimes_are_those_of_the_events() -> None:
    tape = small_tape()
    unrolled, found = unroll(tape, 3), lifetimes(tape, 3)
    freed = {~event for event in unrolled.event_list if event < 0}
    assert len(found) == len(unrolled.size)
    assert {number for number, lifetime in enumerate(found) if lifetime.death is not None} == freed
    for lifetime in found:
        assert lifetime.death is None or lifetime.birth < lifetime.death


@pytest.mark.parametrize("accumulation", [1, 4])
def test_every_row_of_a_real_tape_is_shown_once(tiny_llama: str, accumulation: int) -> None:
    job = TrainingJob(model=tiny_llama, batch_size=2, sequence_length=32, gradient_accumulation_steps=accumulation)
    source = training_answer(job).source
    assert isinstance(source, TapeSource)
    bound: BoundTape = source.bound
    sections = shown_sections(bound.tape, bound.values["L"], bound.micro_batches)
    names = [section.name for section in sections]
    assert names[0] == "load"
    assert len(names) == len(set(names))
    for section in sections:
        numbers = [row.number for block in section.blocks for row in block.rows]
        assert numbers == sorted(set(numbers))
        for row in (row for block in section.blocks for row in block.rows):
            assert row.freed if row.sign == "+" else row.freeing
    parameters = [row for block in sections[0].blocks for row in block.rows if row.category == "parameters"]
    assert {row.freed for row in parameters} == {"never"}


SCRATCH = ScratchSize("embedding_backward", (("num_tokens", (Expression(1, ("B", "T")),)),), 2)


def test_sizes_as_text() -> None:
    size = Expression(32, ("B", "D/8", "T", "T"))
    values = {"B": 8, "D": 64, "T": 1024}
    assert size_text(size) == "4·B·D·T²"
    assert numbers_text(size, values) == "4·8·64·1024²"
    assert numbers_text(Expression(4, ("T+1", "up32(T)")), {"T": 5}) == "4·(5+1)·up32(5)"
    assert numbers_text(Expression(512), values) == ""
    assert letters_of(size) == {"B", "D", "T"}
    assert letters_of(Expression(1, ("up32(T)",))) == {"T"}
    assert (size_text(SCRATCH), letters_of(SCRATCH)) == ("embedding_backward scratch 2", {"B", "T"})
