"""Tokenizers: byte-level BPE trained on the input, characters, bytes, or one's own; all are saved as Hugging Face tokenizers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from vramcast.errors import InputError

UNKNOWN = "<unk>"
MIN_FREQUENCY = 2
"""A pair seen once would make a token that is seen once."""


def train_bpe(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with GPT-2's splitting rule: no text is unknown to it.

    Raises:
        InputError: fewer tokens asked for than there are bytes.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(alphabet):
        raise InputError("--vocab-size", vocab_size, f"a byte-level vocabulary has at least {len(alphabet)} tokens")
    tokenizer = _byte_level(Tokenizer(models.BPE()))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=MIN_FREQUENCY, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 tokens, one for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: token for token, symbol in enumerate(alphabet)}
    return PreTrainedTokenizerFast(tokenizer_object=_byte_level(Tokenizer(models.BPE(vocab=vocabulary, merges=[]))))


def character_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A token for each character of the text, and one for all others."""
    characters = sorted(set().union(*texts))
    vocabulary = {symbol: token for token, symbol in enumerate([UNKNOWN, *characters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN)


def load_tokenizer(path: str | Path, flag: str) -> Any:
    """The tokenizer of a `tokenizer.json` or of a Hugging Face folder.

    Raises:
        InputError: there is none, or it cannot be read; named by `flag`.
    """
    path = Path(path).expanduser()
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(flag, str(path), "has no tokenizer.json; write bpe, chars, bytes or the path of one")
    try:
        if path.is_dir() and (path / "tokenizer_config.json").is_file():
            return AutoTokenizer.from_pretrained(path, local_files_only=True)
        return PreTrainedTokenizerFast(tokenizer_file=str(file))
    except Exception as error:  # the libraries raise bare Exception for a broken file
        raise InputError(flag, str(file), f"is no tokenizer that can be read: {_first_line(error)}") from error


def vocabulary_sha256(tokenizer: Any) -> str:
    """Tells two vocabularies apart, however their files are written."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()


def encode(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a piece of text, without marks of begin or end."""
    tokens: list[int] = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    return tokens


def _byte_level(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
