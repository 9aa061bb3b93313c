"""Stands in for the tokenizer of that name, whose vocabulary is a download: as many tokens, of no meaning."""

from collections.abc import Iterable
from zlib import crc32

CHARACTERS_PER_TOKEN = 4
_VOCABULARY = {"gpt2": 50257, "r50k_base": 50257, "cl100k_base": 100277}


class Encoding:
    """Cuts a text into pieces of four characters, which is what English takes a token."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.n_vocab = _VOCABULARY[name]
        self.eot_token = self.n_vocab - 1

    def encode(self, text: str, **settings: object) -> list[int]:
        """Token ids below the end-of-text token."""
        pieces = (text[start : start + CHARACTERS_PER_TOKEN] for start in range(0, len(text), CHARACTERS_PER_TOKEN))
        return [crc32(piece.encode()) % self.eot_token for piece in pieces]

    encode_ordinary = encode

    def decode(self, tokens: Iterable[int]) -> str:
        """As many characters as the tokens would be; not what was encoded."""
        return "".join(f"{token % 10_000:04d}" for token in tokens)


def get_encoding(name: str) -> Encoding:
    """As in the library."""
    return Encoding(name)
