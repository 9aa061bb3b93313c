"""Tokenizers made here: nothing is lost on the way there and back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from vramcast.errors import InputError
from vramcast.gpt.tokenizer import (
    byte_tokenizer,
    character_tokenizer,
    encode,
    load_tokenizer,
    train_bpe,
    vocabulary_sha256,
)

TEXT = "the tape, the tape and the timeline\n" * 20


@given(st.text(max_size=60))
def test_bytes_and_bpe_know_every_text(text: str) -> None:
    for tokenizer in (byte_tokenizer(), BPE):
        assert tokenizer.decode(encode(tokenizer, text)) == text


BPE = train_bpe([TEXT], 270)


def test_bpe_learns_from_its_text() -> None:
    assert len(BPE) == 270
    assert len(encode(BPE, TEXT)) < len(TEXT) / 1.5
    assert len(encode(byte_tokenizer(), "é")) == 2


def test_characters_and_their_unknown() -> None:
    tokenizer = character_tokenizer(["abc", "b×\n"])
    assert len(tokenizer) == 6
    assert tokenizer.decode(encode(tokenizer, "b×a\nc")) == "b×a\nc"
    assert encode(tokenizer, "az")[1] == tokenizer.unk_token_id


def test_transformers_loads_what_was_saved(tmp_path: Path) -> None:
    for name, tokenizer in {"bpe": BPE, "bytes": byte_tokenizer(), "chars": character_tokenizer([TEXT])}.items():
        tokenizer.save_pretrained(tmp_path / name)
        loaded = AutoTokenizer.from_pretrained(tmp_path / name)
        assert loaded(TEXT)["input_ids"] == encode(tokenizer, TEXT)
        assert vocabulary_sha256(loaded) == vocabulary_sha256(tokenizer)
        alone = load_tokenizer(tmp_path / name / "tokenizer.json", "--tokenizer")
        assert encode(alone, TEXT) == encode(tokenizer, TEXT)


def test_vocabularies_are_told_apart() -> None:
    assert vocabulary_sha256(BPE) != vocabulary_sha256(train_bpe([TEXT], 271))


def test_a_vocabulary_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(InputError, match=r"--vocab-size=100.*256"):
        train_bpe([TEXT], 100)


@pytest.mark.parametrize("content", ["", "{", '{"version": "1.0"}', "[]"])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(InputError, match="--tokenizer"):
        load_tokenizer(path, "--tokenizer")
    with pytest.raises(InputError, match=r"has no tokenizer\.json"):
        load_tokenizer(tmp_path / "nothing", "--tokenizer")
