"""Which models share a tape: a configuration without its sizes.

Two models of one structure run the same operators in the same order; they differ in dimensions alone. So a structure is
the configuration, completed by the defaults of its class, without the dimensions, without what changes no event (names,
token ids, epsilons), with every other decimal number reduced to "some number", and with the list of layer types folded
to its period. A field that is not known to be harmless stays: at worst a tape is recorded that could have been shared.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from vramcast.models import ModelConfig
from vramcast.models.config import Dimensions
from vramcast.models.families import families
from vramcast.tapes.structure_rules import rules


class LayerPattern(NamedTuple):
    """How the kinds of layers repeat."""

    period: int
    """Layers after which the pattern starts anew; 1 where all are alike."""
    left_over: int
    """Layers beyond a whole number of periods."""
    kinds: tuple[str, ...] = ()
    """Kind of each layer of one period, empty where the configuration lists none."""


class UnrepeatedLayers(Exception):
    """The layers of a model follow no period, so it has no tape."""


def structure_of(config: ModelConfig) -> dict[str, Any]:
    """What two models must have in common to share tapes; JSON values in a fixed order.

    Raises:
        UnrepeatedLayers: the layer types follow no period.
    """
    family = families()[config.model_type]
    pattern = layer_pattern(config)
    sizes = {family.keys(name)[0] for name in Dimensions.model_fields if family.keys(name)}
    skipped = {*rules()["harmless"], *rules()["sizes"], *rules()["dropout"], *sizes, "layer_types", "model_type"}
    defaults = config_defaults().get(config.model_type, {})
    fields = {
        name: _reduced(name, value)
        for name, value in sorted({**defaults, **config.fields}.items())
        if name not in skipped and not name.startswith("_")
    }
    dimensions = config.dimensions
    return {
        "model_type": config.model_type,
        "tied": dimensions.tie_word_embeddings,
        "windowed": dimensions.sliding_window is not None,
        "layers": [pattern.period, *pattern.kinds],
        **fields,
    }


def layer_pattern(config: ModelConfig) -> LayerPattern:
    """The period of a model's layer types.

    Raises:
        UnrepeatedLayers: there is none shorter than a third of the model.
    """
    layers = config.dimensions.num_hidden_layers
    kinds = config.fields.get("layer_types")
    if kinds is None:
        if config.fields.get(families()[config.model_type].window_switch or "", False):
            raise UnrepeatedLayers(f"{config.name} switches to a sliding window at some layer")
        period = rules()["periods"].get(config.model_type, 1)
        return LayerPattern(period, layers % period)
    for period in range(1, max(layers // 3, 1) + 1):
        if all(kinds[i] == kinds[i % period] for i in range(layers)):
            return LayerPattern(period, layers % period, tuple(kinds[:period]))
    raise UnrepeatedLayers(f"the layer types of {config.name} follow no period")


def has_dropout(config: ModelConfig, dropout: float | None) -> bool:
    """Whether any dropout is on: as asked, else as the configuration (or its class) says."""
    fields = {**config_defaults().get(config.model_type, {}), **config.fields}
    known = [name for name in rules()["dropout"] if name in fields]
    return any((fields[name] if dropout is None else dropout) for name in known)


def dropout_pattern(config: ModelConfig, dropout: float | None) -> list[str]:
    """Names of the dropout fields that are not zero, in order."""
    fields = {**config_defaults().get(config.model_type, {}), **config.fields}
    known = [name for name in rules()["dropout"] if name in fields]
    return sorted(name for name in known if (fields[name] if dropout is None else dropout))


def _reduced(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in sorted(value.items()) if key not in rules()["harmless"]}
        if kept.get("rope_type", "default") in rules()["static_rope_types"]:
            # How the frequencies are found changes their values alone; they are computed once, before the model is moved.
            return {key: item for key, item in kept.items() if key in rules()["exact"]}
        return kept
    if isinstance(value, float) and name not in rules()["exact"]:
        return "number" if value else 0
    return value


@cache
def config_defaults() -> dict[str, dict[str, Any]]:
    """Model type -> defaults of its configuration class, as the release of transformers that was recorded has them."""
    defaults: dict[str, dict[str, Any]] = json.loads(_text("config_defaults.json"))
    return defaults


def _text(name: str) -> str:
    return resources.files("vramcast.tapes").joinpath("data", name).read_text(encoding="utf-8")
