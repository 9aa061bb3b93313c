"""Text into tokens on disk, and batches from them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.errors import InputError
from vramcast.gpt.text import TextSpan, split_text
from vramcast.gpt.tokens import TokenFiles, TokenText, cached_tokens, check_lengths, drawn_batches


def as_bytes(text: str) -> list[int]:
    return list(text.encode())


@given(text=st.text(min_size=1, max_size=300), fraction=st.floats(0.01, 0.5))
def test_both_parts_together_are_the_text(tmp_path_factory: pytest.TempPathFactory, text: str, fraction: float) -> None:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(text.encode())
    train, validation = split_text(path, fraction)
    assert "".join([*train.pieces(), *validation.pieces()]) == text
    assert abs(train.num_bytes - len(text.encode()) * (1 - fraction)) <= 4


def test_pieces_do_not_cut_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vramcast.gpt.text.PIECE_BYTES", 5)
    path = tmp_path / "text.txt"
    path.write_bytes("é€𝄞".encode() * 20)
    pieces = list(TextSpan(path, 0, path.stat().st_size).pieces())
    assert len(pieces) > 5
    assert "".join(pieces) == "é€𝄞" * 20


def test_tokens_are_made_once(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("abcdefghij" * 10)
    calls: list[str] = []

    def encode(text: str) -> list[int]:
        calls.append(text)
        return as_bytes(text)

    spans = split_text(path, 0.1)
    first = cached_tokens(tmp_path / "tokens", spans, encode, "v")
    again = cached_tokens(tmp_path / "tokens", spans, encode, "v")
    assert bytes(again.train.tokens.astype(np.uint8)) == b"abcdefghij" * 9
    assert (first.validation.tokens == again.validation.tokens).all()
    assert len(calls) == 2  # one for each part
    cached_tokens(tmp_path / "tokens", spans, encode, "another vocabulary")
    assert len(calls) == 4


def test_another_text_is_tokenized_anew(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("a" * 40)
    cached_tokens(tmp_path / "tokens", split_text(path, 0.5), as_bytes, "v")
    path.write_text("b" * 60)
    files = cached_tokens(tmp_path / "tokens", split_text(path, 0.5), as_bytes, "v")
    assert files.train.tokens.tolist() == [ord("b")] * 30


def test_a_step_draws_the_same_however_many_processes_share_it() -> None:
    tokens = np.arange(1000, dtype=np.uint32)
    common = {"seed": 1, "step": 7, "micro_batches": 2, "length": 10}
    alone = drawn_batches(tokens, processes=1, process=0, batch_size=4, **common)
    shared = [drawn_batches(tokens, processes=2, process=process, batch_size=2, **common) for process in (0, 1)]
    assert alone.shape == (2, 4, 10)
    assert (np.concatenate(shared, axis=1) == alone).all()
    assert (drawn_batches(tokens, processes=1, process=0, batch_size=4, **common | {"step": 8}) != alone).any()


@given(length=st.integers(1, 50), extra=st.integers(0, 20), seed=st.integers(0, 2**63 - 1))
def test_windows_lie_within_the_text(length: int, extra: int, seed: int) -> None:
    tokens = np.arange(length + extra, dtype=np.uint32)
    drawn = drawn_batches(
        tokens, seed=seed, step=0, processes=1, process=0, micro_batches=1, batch_size=8, length=length
    )[0]
    assert (np.diff(drawn, axis=1) == 1).all()
    assert 0 <= drawn.min() <= drawn.max() < len(tokens)


@pytest.mark.parametrize(
    ("train", "validation", "says"), [(9, 5, "9 training tokens"), (50, 1, "1 tokens for validation")]
)
def test_too_short_a_text_is_refused(train: int, validation: int, says: str) -> None:
    parts = (TokenText(np.zeros(count, dtype=np.uint32), count) for count in (train, validation))
    with pytest.raises(InputError, match=says):
        check_lengths(TokenFiles(*parts), 10, Path("text.txt"))


@pytest.mark.parametrize(("content", "says"), [(b"", "is empty"), (b"\xff\xfe" * 10, "not text in UTF-8")])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        list(split_text(path, 0.1)[0].pieces())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        split_text(tmp_path / "nothing.txt", 0.1)
