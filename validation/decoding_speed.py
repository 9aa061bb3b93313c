"""Published speeds of generation beside the lower bounds of the same job: of the code run eagerly, and of any implementation."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vramcast.compute import GenerationTime, decode_time
from vramcast.forecast.answer import generation_answer
from vramcast.job import GenerationJob

DATA = Path(__file__).parent / "data" / "decoding_speed.toml"
GPU = "a100-80gb"
NEW_TOKENS = 2048


@dataclass(frozen=True)
class PublishedDecoding:
    """One row of the data file: who generated, from how long a prompt, and how fast."""

    model: str
    engine: Literal["transformers", "vllm"]
    prompt_length: int
    tokens_per_second: float
    """New tokens over the whole time, prefill included."""

    @property
    def seconds(self) -> float:
        """Of the whole generation."""
        return NEW_TOKENS / self.tokens_per_second


def load_decodings() -> list[PublishedDecoding]:
    """All rows, in the order of the file."""
    return [PublishedDecoding(**row) for row in tomllib.loads(DATA.read_text(encoding="utf-8"))["row"]]


def bounds_of(model: str, prompt_length: int) -> GenerationTime:
    """Lower bounds of one sequence generated from a prompt of `prompt_length` tokens."""
    job = GenerationJob(
        model=model, prompt_length=prompt_length, max_new_tokens=NEW_TOKENS, batch_size=1, precision="bf16", gpu=GPU
    )
    answer = generation_answer(job, offline=True)
    return decode_time(answer.source.operators, answer.gpu, job)
