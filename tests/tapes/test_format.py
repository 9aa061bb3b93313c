"""Tapes as files: what is read is what was written, and a damaged file is named."""

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_tapes import accumulating_tape, made_tape

from vramcast.kernels import AttentionCall, AttentionChoice
from vramcast.tapes.expressions import Expression, TapeError
from vramcast.tapes.format import dump, from_json, load, read_tape, to_json
from vramcast.tapes.tape import FORMAT_VERSION, AttentionGuard, Tape

CALL = AttentionCall("bfloat16", 4, 8, 8, 6, 2, 64, 64, False, False, True, 0.1, True, True)
ATTENTION = AttentionGuard(
    AttentionChoice(CALL, frozenset({"flash", "math"}), True, "flash"),
    (("query_length", Expression(1, ("T",))), ("num_heads", Expression(1, ("G", "K")))),
)


def full_tape() -> Tape:
    return made_tape(attention=(ATTENTION,), max_layers=9, min_layers=2, layers_per_repetition=2, layers_left_over=1)


@pytest.mark.parametrize("tape", [made_tape(), accumulating_tape(), full_tape()], ids=["plain", "accumulating", "full"])
def test_round_trip(tape: Tape) -> None:
    assert load(dump(tape), "here") == tape
    assert dump(load(dump(tape), "here")) == dump(tape)


def test_the_same_tape_gives_the_same_bytes() -> None:
    assert dump(made_tape()) == dump(made_tape())


def test_a_file_is_gzipped_json_that_says_what_it_is() -> None:
    data = json.loads(gzip.decompress(dump(made_tape())))
    assert data["format"] == "vramcast tape"
    assert data["version"] == FORMAT_VERSION
    assert data["guards"] == [[[1, "B"], ">", [1]]]
    assert data["layers"] == [1, 0, 1, None]
    assert data["sections"][1]["segments"][0][:2] == [0, "a"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match=r"nothing\.json\.gz: cannot be read"):
        read_tape(tmp_path / "nothing.json.gz")


@pytest.mark.parametrize("keep", [0, 1, 20, 0.5, -1])
def test_a_truncated_file_is_named(tmp_path: Path, keep: float) -> None:
    path, data = tmp_path / "cut.json.gz", dump(made_tape())
    path.write_bytes(data[: int(keep if keep in (0, 1, 20, -1) else keep * len(data))])
    with pytest.raises(TapeError, match=r"cut\.json\.gz: damaged tape"):
        read_tape(path)


@pytest.mark.parametrize("position", range(10, 400, 30))
def test_a_flipped_byte_is_noticed(position: int) -> None:
    data = bytearray(dump(full_tape()))
    data[position % len(data)] ^= 0x41
    with pytest.raises(TapeError, match="here: damaged tape"):
        load(bytes(data), "here")


@pytest.mark.parametrize("content", [b"", b"no json", b"\xff\xfe", b"[1, 2]", b"null", b'{"format": "something"}'])
def test_other_content_is_refused(content: bytes) -> None:
    with pytest.raises(TapeError, match=r"^here: "):
        load(gzip.compress(content), "here")


def test_another_version_is_refused() -> None:
    data = {**to_json(made_tape()), "version": FORMAT_VERSION + 1}
    with pytest.raises(
        TapeError, match=f"here: tape format {FORMAT_VERSION + 1}, this vramcast reads {FORMAT_VERSION}"
    ):
        from_json(data, "here")


Change = Callable[[dict[str, Any]], object]


def setting(*path: Any, to: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        place: Any = data
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


SEGMENT = ("sections", 2, "segments", 1)
DAMAGES: dict[str, Change] = {
    "no sizes": lambda data: data.pop("sizes"),
    "no program": lambda data: data.pop("program"),
    "no tables": lambda data: data.pop("expressions"),
    "three numbers of layers": setting("layers", to=[1, 0, 1]),
    "a size that is a word": setting("sizes", 0, to="4·E"),
    "an unknown letter": setting("sizes", 0, to=[4, "Q"]),
    "an unknown scratch rule": setting("sizes", 3, "rule", to="nothing"),
    "a scratch rule without its arguments": setting("sizes", 3, "arguments", to=[]),
    "a size past the end": setting("sections", 1, "segments", 0, 2, 0, 0, to=99),
    "a size before the start": setting("sections", 1, "segments", 0, 2, 0, 0, to=-1),
    "a label past the end": setting("sections", 1, "segments", 0, 2, 1, 0, to=99),
    "a place past the end": setting("sections", 1, "segments", 0, 2, 2, 0, to=99),
    "a place before the start": setting("sections", 1, "segments", 0, 2, 2, 0, to=-2),
    "a place of words": setting("places", 0, to=["a", "b", "c"]),
    "a row before the start": setting(*SEGMENT, 3, 2, 0, to=-5),
    "a segment before the start": setting(*SEGMENT, 3, 1, 0, to=-5),
    "a death of an unknown section": setting("strings", to=["nowhere"] * 40),
    "an unknown kind of row": setting(*SEGMENT, 1, to="ax"),
    "more kinds than rows": setting(*SEGMENT, 1, to="aff"),
    "fewer kinds than rows": setting(*SEGMENT, 1, to="a"),
    "columns of different lengths": setting(*SEGMENT, 3, 0, to=[]),
    "a string that is a number": setting("strings", 0, to=7),
    "an expression that is none": setting("expressions", 0, to=[]),
    "a label of too few columns": setting("labels", 0, to=[1, 2]),
    "an operator of too few columns": setting("sections", 1, "operators", 0, to=[1]),
    "an operator of an unknown formula": setting("sections", 1, "operators", 0, 6, to=99),
    "a section past the end": setting("program", "first", to=[1, 2, 3, 99]),
    "a section before the start": setting("program", "load", to=-1),
    "a condition that is none": setting("guards", 0, 1, to="like"),
    "a condition without an end": setting("guards", 0, to=[[1, "B"], ">"]),
    "an attention call with another field": setting("attention", 0, "call", "colour", to="red"),
    "an attention size that is a word": setting("attention", 0, "sizes", 0, to=["query_length", "T"]),
    "kernels that are a list": setting("kernels", to=[]),
    "a section that is a number": setting("sections", 1, to=3),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_content_is_named(damage: Change) -> None:
    data = copy.deepcopy(json.loads(json.dumps(to_json(full_tape()))))
    damage(data)
    with pytest.raises(TapeError, match=r"^here: damaged tape \(.*\); delete it or record it anew$"):
        from_json(data, "here")
