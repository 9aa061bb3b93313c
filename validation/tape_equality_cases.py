"""Random training jobs: structures of the presets, sizes around everything at which a kernel changes its path."""

import random
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from vramcast.job import TrainingJob
from vramcast.models import ModelConfig, load_model, model_from_fields
from vramcast.models.families import families

DATA = Path(__file__).parent / "data" / "tape_equality.toml"
CASES_OF_A_GROUP = 6
"""Sizes drawn for the same structure and settings, which may share a tape."""
LONGEST = 700
MOST_ELEMENTS = 3_000_000
"""Of one score matrix, all heads and sequences: more than any threshold, and quick."""


@dataclass(frozen=True)
class Case:
    """One job with its model."""

    id: str
    family: str
    config: ModelConfig
    job: TrainingJob

    @property
    def description(self) -> dict[str, Any]:
        """What was drawn, as plain data."""
        sizes = self.config.dimensions.model_dump(exclude_none=True)
        return {**self.job.model_dump(exclude_defaults=True), **sizes}


@cache
def tables() -> dict[str, Any]:
    """What is drawn from: families, settings, real jobs."""
    return tomllib.loads(DATA.read_text(encoding="utf-8"))


def family_names() -> list[str]:
    """Every family that cases are drawn from."""
    return list(tables()["families"])


def drawn_groups(seed: int, cases: int, only: str = "") -> Iterator[list[Case]]:
    """Groups of cases, family after family in turn; the same for the same seed, whichever families are taken.

    Raises:
        ValueError: no family of that name.
    """
    if only and only not in family_names():
        raise ValueError(f"no family {only!r}; choose one of {', '.join(family_names())}")
    number = made = 0
    while made < cases:
        for family in family_names():
            if (not only or family == only) and made < cases:
                group = draw_group(seed, family, number)[: cases - made]
                made += len(group)
                yield group
        number += 1


def draw_group(seed: int, family: str, number: int) -> list[Case]:
    """Cases of one structure and one choice of settings."""
    draw = random.Random(f"{seed} {family} {number}")
    base = load_model(draw.choice(tables()["families"][family]))
    settings = {name: draw.choice(values) for name, values in tables()["settings"].items()}
    path = _drawn_path(base, draw)
    cases = []
    for i in range(CASES_OF_A_GROUP):
        own_path = path if i < CASES_OF_A_GROUP - 1 else _drawn_path(base, draw)
        cases.append(_case(f"{family}-{seed}-{number}-{i}", family, base, settings, own_path, draw))
    return cases


class _Path(NamedTuple):
    """What sizes of a group have in common, so that they may share a tape; the last of a group draws its own."""

    one_sequence: bool
    one_token: bool
    one_key_value_head: bool
    one_query_per_group: bool
    head_unit: int
    fills_window: bool


def _drawn_path(base: ModelConfig, draw: random.Random) -> _Path:
    has_groups = base.dimensions.num_key_value_heads != base.dimensions.num_attention_heads
    return _Path(
        one_sequence=draw.random() < 0.3,
        one_token=draw.random() < 0.1,
        one_key_value_head=families()[base.model_type].multi_query is not None or draw.random() < 0.25,
        one_query_per_group=draw.random() < (0.2 if has_groups else 0.8),
        head_unit=draw.choice((8, 8, 8, 2)),
        fills_window=draw.random() < 0.6,
    )


def case_of(name: str) -> Case:
    """The case with this id, drawn anew."""
    family, seed, number, index = name.rsplit("-", 3)
    return draw_group(int(seed), family, int(number))[int(index)]


def real_cases() -> list[Case]:
    """Real models at jobs people run."""
    cases = []
    for number, fields in enumerate(tables()["real"]):
        config = load_model(fields["model"])
        length = fields.get("sequence_length", min(config.dimensions.context_length, 1024))
        job = TrainingJob(**{**fields, "sequence_length": length})
        cases.append(Case(f"real-{number:02}-{config.name}", config.name, config, job))
    return cases


def _case(
    name: str, family: str, base: ModelConfig, settings: Mapping[str, Any], path: _Path, draw: random.Random
) -> Case:
    sizes = _sizes(base, path, draw)
    sequence_length = _sequence_length(draw, path, sizes.get("sliding_window"))
    most = max(MOST_ELEMENTS // (sequence_length**2 * sizes["num_attention_heads"]), 2)
    batch_size = 1 if path.one_sequence else min(draw.choice((2, 3, 4, 5, 7, 8, 13, 16, 32, 40)), most)
    sizes["context_length"] = sequence_length + draw.choice((0, 0, 1, 17, 300))
    job = TrainingJob(
        model=name,
        batch_size=batch_size,
        sequence_length=sequence_length,
        precision=settings["precision"],
        attention=settings["attention"],
        checkpointing=settings["checkpointing"],
        dropout=None if settings["dropout"] == "own" else settings["dropout"],
        optimizer=settings["optimizer"],
        gradient_accumulation_steps=draw.choice((2, 3, 4, 5)) if settings["accumulates"] else 1,
        max_grad_norm=None if settings["max_grad_norm"] == "none" else settings["max_grad_norm"],
        expandable_segments=settings["expandable_segments"],
        gpu=settings["gpu"],
    )
    return Case(name, family, config_with(base, sizes, name), job)


def _sequence_length(draw: random.Random, path: _Path, window: int | None) -> int:
    if path.one_token:
        return 1
    if window is not None and draw.random() < 0.7:
        offset = draw.choice((0, 1, 7, 20)) if path.fills_window else -draw.choice((1, 2, 7, 20))
        return max(window + offset, 2)
    return draw.choice(
        (
            2,
            2 * draw.randint(1, LONGEST // 2) + 1,
            2 ** draw.randint(2, 9),
            draw.choice((8, 16, 32, 128)) * draw.randint(1, 5) + draw.choice((-1, 0, 1)),
            draw.randint(3, LONGEST),
        )
    )


def _sizes(base: ModelConfig, path: _Path, draw: random.Random) -> dict[str, int]:
    family, own = families()[base.model_type], base.dimensions
    key_value_heads = 1 if path.one_key_value_head else draw.choice((2, 3, 4, 5))
    per_group = 1 if path.one_query_per_group else draw.choice((2, 3, 4, 7))
    heads = key_value_heads * per_group
    head_dim = path.head_unit * draw.randint(1, 256 // path.head_unit)
    if path.head_unit == 8 and draw.random() < 0.1:
        head_dim = 8 * draw.randint(33, 40)
    unit = 8 if own.num_experts is not None and draw.random() < 0.8 else 1
    hidden = heads * head_dim
    if family.explicit_head_dim and draw.random() < 0.5:
        hidden = heads * unit * draw.randint(2, 60)
    sizes = {
        "num_hidden_layers": draw.choice((1, 2, 3, 4, 5, 6, 7, 8, 12, 14)),
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": key_value_heads,
        "head_dim": head_dim,
        "intermediate_size": unit * draw.randint(2, 500 // unit),
        "vocab_size": draw.choice((draw.randint(2, 60), draw.randint(61, 3000), draw.randint(3001, 60_000))),
    }
    if own.sliding_window is not None:
        sizes["sliding_window"] = draw.choice((2, 16, 33, 64, 100, 128, 300, 512))
    if own.num_experts is not None:
        sizes["num_experts"] = draw.randint(1, 8)
        sizes["num_experts_per_token"] = draw.randint(1, min(sizes["num_experts"], 3))
    return sizes


def config_with(base: ModelConfig, sizes: Mapping[str, int], name: str) -> ModelConfig:
    """The structure of `base` with other sizes."""
    family = families()[base.model_type]
    fields = dict(base.fields)
    for dimension, value in sizes.items():
        keys = family.keys(dimension)
        if keys and (dimension != "head_dim" or family.explicit_head_dim) and _is_said(base, dimension, keys[0]):
            fields[keys[0]] = value
    layers = sizes["num_hidden_layers"]
    if "layer_types" in fields:
        kinds = fields["layer_types"]
        fields["layer_types"] = [kinds[i % len(kinds)] for i in range(layers)]
    for key, value in (
        ("original_max_position_embeddings", sizes["context_length"]),
        ("word_embed_proj_dim", sizes["hidden_size"]),
        ("max_window_layers", layers),
        *((key, 0) for key in ("bos_token_id", "eos_token_id", "pad_token_id") if isinstance(fields.get(key), int)),
    ):
        if key in fields:
            fields[key] = value
    return model_from_fields(fields, name=name, source="file", origin="drawn at random")


def _is_said(base: ModelConfig, dimension: str, key: str) -> bool:
    """Whether a size is written down: a model with one key and value head for all, or a feed-forward by rule, leaves it out."""
    family = families()[base.model_type]
    if dimension == "num_key_value_heads":
        return family.multi_query is None or key in base.fields
    return dimension != "intermediate_size" or base.fields.get(key) is not None or family.intermediate_factor is None
