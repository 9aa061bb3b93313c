"""Tokens on disk: written once next to the model, memory-mapped after, and the batches drawn from them. Needs no torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vramcast.errors import InputError
from vramcast.gpt.text import TextSpan
from vramcast.gpt.writing import scratch_folder, writing
from vramcast.progress import Progress

Tokens = NDArray[np.unsignedinteger[Any]]


class TokenText(NamedTuple):
    """One part of the text as tokens."""

    tokens: Tokens
    num_bytes: int
    """Of the text in UTF-8."""


class TokenFiles(NamedTuple):
    """Both parts."""

    train: TokenText
    validation: TokenText


def cached_tokens(
    folder: Path,
    spans: tuple[TextSpan, TextSpan],
    encode: Callable[[str], list[int]],
    vocabulary: str,
    progress: Progress | None = None,
) -> TokenFiles:
    """The tokens of the text, from `folder` where they were made of this very file with this vocabulary, else made now.

    Raises:
        InputError: the text cannot be read, or `folder` not be written.
    """
    key = _key(spans, vocabulary)
    if _read_key(folder) != key:
        _write(folder, spans, encode, key, progress)
    train, validation = (
        TokenText(_mapped(folder / f"{part}.tokens"), span.num_bytes)
        for part, span in zip(("train", "validation"), spans, strict=True)
    )
    return TokenFiles(train, validation)


def check_lengths(files: TokenFiles, sequence_length: int, path: Path) -> None:
    """There must be one sequence to train on and one token to predict for validation.

    Raises:
        InputError: the text is too short.
    """
    train, validation = len(files.train.tokens), len(files.validation.tokens)
    if train < sequence_length:
        fix = f"has {train} training tokens, fewer than one sequence of {sequence_length}"
        raise InputError("--input", str(path), f"{fix}; use a longer text or a smaller --sequence-length")
    if validation < 2:
        fix = f"leaves {validation} tokens for validation"
        raise InputError("--input", str(path), f"{fix}; use a longer text or a larger --validation-fraction")


def drawn_batches(
    tokens: Tokens,
    *,
    seed: int,
    step: int,
    processes: int,
    process: int,
    micro_batches: int,
    batch_size: int,
    length: int,
) -> NDArray[np.int64]:
    """Sequences of one optimizer step for one process, drawn at random places: (micro batches, batch, length).

    They follow from seed and step alone, so that nothing has to be saved to go on, and two processes share what one would take.
    """
    draw = np.random.default_rng([seed, step])
    shape = (micro_batches, processes, batch_size)
    starts = draw.integers(0, len(tokens) - length, size=shape, endpoint=True)[:, process]
    windows: NDArray[np.int64] = tokens[starts[..., None] + np.arange(length)].astype(np.int64)
    return windows


def _key(spans: tuple[TextSpan, TextSpan], vocabulary: str) -> dict[str, Any]:
    status = spans[0].path.stat()
    return {
        "input": str(spans[0].path.resolve()),
        "bytes": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "validation_begins_at_byte": spans[1].begin,
        "vocabulary_sha256": vocabulary,
    }


def _read_key(folder: Path) -> Any:
    try:
        return json.loads((folder / "made_of.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write(
    folder: Path,
    spans: tuple[TextSpan, TextSpan],
    encode: Callable[[str], list[int]],
    key: dict[str, Any],
    progress: Progress | None,
) -> None:
    scratch = scratch_folder(folder.with_name(f".{folder.name}.unfinished"))
    with scratch as unfinished, writing(folder.parent, "no tokens were written"):
        for part, span in zip(("train", "validation"), spans, strict=True):
            _write_part(unfinished / f"{part}.tokens", span, encode, key["bytes"], progress)
        (unfinished / "made_of.json").write_text(json.dumps(key), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)


def _write_part(
    path: Path, span: TextSpan, encode: Callable[[str], list[int]], total: int, progress: Progress | None
) -> None:
    done = span.begin
    with path.open("wb") as file:
        for piece in span.pieces():
            np.array(encode(piece), dtype=np.uint32).tofile(file)
            done += len(piece.encode())
            if progress is not None:
                progress("tokenizing the text", done, total)


def _mapped(path: Path) -> Tokens:
    # An empty file cannot be mapped.
    return np.memmap(path, dtype=np.uint32, mode="r") if path.stat().st_size else np.empty(0, dtype=np.uint32)
