"""From the object of a config.json to a checked `ModelConfig`: nothing that changes memory is left out without a word."""

from __future__ import annotations

import difflib
from typing import Any

from vramcast.errors import LONGEST_VALUE, ModelConfigError, shortened, shown
from vramcast.models.class_fields import LANGUAGE_MODEL, check_field_types, keys_without_effect, kind_of
from vramcast.models.config import ModelConfig, ModelSource
from vramcast.models.dimensions import read_dimensions, read_size, use_own_spelling
from vramcast.models.families import GPT, WAY, families, upper_limit, why_unsupported
from vramcast.models.gpt_config import complete_gpt_fields, gpt_parameters, looks_like_gpt
from vramcast.models.language_model import language_model, with_class_sizes
from vramcast.models.presets import OWN_KEY
from vramcast.models.quantization import without_quantization

TRAINED_KEY = "vramcast"
"""Key of a config.json that `vramcast gpt train` wrote; `gpt` in it is the reference GPT whose equal the file describes as a GPT-2."""
ADAPTER_KEY = "peft_type"
"""Key of an adapter_config.json: the kind of an adapter of PEFT."""
MOST_NAMED = 12
"""Keys without effect that a note names."""
EMBEDDING_WIDTH = "word_embed_proj_dim"
_WITHOUT_EFFECT = ("return_dict", "auto_map")
"""What changes no tensor of a model of transformers' own; code that `auto_map` names is another model, which is said."""
_CHANGES_LAYERS = {
    "per_layer_config": "gives single layers sizes of their own",
    "_remove_final_layer_norm": "leaves out the last normalisation",
}
"""What changes a model's layers in a way that its dimensions and kinds of layers do not tell."""
_OFF_BY_DEFAULT = ("output_hidden_states", "output_attentions")
"""Tensors that a model keeps for its caller where these are true; false says nothing."""
_HEADS_OF_LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel")
_OF_PHI3 = {"su": "longrope", "yarn": "longrope"}
"""What Phi-3's class makes of the names that its early files have."""


def model_from_fields(
    fields: dict[str, Any], *, name: str, source: ModelSource, origin: str, ignore_quantization: bool = False
) -> ModelConfig:
    """A `ModelConfig` from the object of a config.json, checked.

    Args:
        fields: the object.
        name: what the model is called.
        source: where it was found.
        origin: address or path, for messages.
        ignore_quantization: read quantised weights as the unquantised model's, and say so in its assumptions.

    Raises:
        ModelConfigError: a field is missing or not usable; the message ends with `origin`.
    """
    try:
        return _from_fields(fields, name, source, origin, ignore_quantization)
    except ModelConfigError as error:
        raise ModelConfigError(error.field, error.value, f"{error.fix} [{origin}]") from None


def _from_fields(
    fields: dict[str, Any], name: str, source: ModelSource, origin: str, ignore_quantization: bool
) -> ModelConfig:
    own = fields.get(OWN_KEY, {}) if source == "preset" else {}
    whole = _trained_fields({key: value for key, value in fields.items() if key != OWN_KEY})
    _refuse_adapter(whole)
    language, notes = language_model(whole)
    is_inner = language is not whole
    if looks_like_gpt(language):
        language["model_type"] = GPT
    model_type = _supported_type(language, whole.get("model_type") if is_inner else None)
    language, more = without_quantization(language, ignore_quantization)
    notes += more
    language, more = _as_its_class_reads(model_type, language, is_inner)
    notes += more
    dimensions = read_dimensions(families()[model_type], language)
    check_field_types(model_type, language)
    parameters = own.get("parameters")
    if model_type == GPT:
        parameters = gpt_parameters(dimensions, language["bias"])
    return ModelConfig(
        name=name,
        source=source,
        origin=origin,
        model_type=model_type,
        fields=language,
        dimensions=dimensions,
        parameters=parameters,
        has_learned_positions=families()[model_type].learned_positions,
        assumptions=notes,
    )


def _trained_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of what was trained. A reference GPT is written as a GPT-2 with biases, which takes more memory to train."""
    rest = {key: value for key, value in fields.items() if key != TRAINED_KEY}
    written = fields.get(TRAINED_KEY)
    trained = written.get("gpt") if isinstance(written, dict) else None
    if trained is None:
        return rest
    if not isinstance(trained, dict):
        fix = "must be an object with the sizes of the GPT; put back what `vramcast gpt train` wrote, or remove the key"
        raise ModelConfigError(f"{TRAINED_KEY}.gpt", trained, fix)
    return dict(trained)


def _refuse_adapter(fields: dict[str, Any]) -> None:
    kind = fields.get(ADAPTER_KEY)
    if kind is not None and "model_type" not in fields:
        base = fields.get("base_model_name_or_path")
        fix = f"is an adapter of {shown(base)}, not a model; {WAY} and adds the adapter"
        raise ModelConfigError(ADAPTER_KEY, kind, fix)


def _supported_type(fields: dict[str, Any], whole: object) -> str:
    """The model type; `whole` is that of the model of several towers that these fields are the language model of."""
    model_type = fields.get("model_type")
    if model_type is None:
        fix = (
            'missing; add the architecture, such as "model_type": "llama", or write n_layer, n_head, n_embd, block_size'
        )
        raise ModelConfigError("model_type", None, fix)
    if not isinstance(model_type, str):
        raise ModelConfigError("model_type", model_type, 'must be a string, such as "llama"')
    if model_type not in families() or fields.get("is_encoder_decoder") is True:
        raise ModelConfigError("model_type", model_type, f"{_why_not(fields, model_type, whole)}; {WAY}")
    return model_type


def _why_not(fields: dict[str, Any], model_type: str, whole: object) -> str:
    if fields.get("is_encoder_decoder") is True:
        kind: str | None = "an encoder-decoder"
    else:
        kind = why_unsupported(model_type) or kind_of(model_type)
    if kind == LANGUAGE_MODEL or (kind is None and isinstance(whole, str)):
        inside = f", inside {shown(whole)}" if isinstance(whole, str) else ""
        return f"is a language model of a type that is not read here{inside}"
    if kind is not None:
        return f"is {kind}; only decoder-only language models are read here"
    close = difflib.get_close_matches(model_type, families(), n=1, cutoff=0.75)
    return "is not a known type" + (f" (did you mean {close[0]}?)" if close else "")


def _as_its_class_reads(
    model_type: str, fields: dict[str, Any], is_inner: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields in the spelling of the configuration class, and notes on what was filled in or left out."""
    notes = _other_code(model_type, fields)
    fields = use_own_spelling(families()[model_type], fields)
    if model_type == GPT:
        fields, more = complete_gpt_fields(fields)
        return fields, (*notes, *more)
    for key, what in _CHANGES_LAYERS.items():
        if fields.get(key):
            raise ModelConfigError(key, fields[key], f"{what}, which is not read here; {WAY}")
    if is_inner:
        fields, more = with_class_sizes(model_type, fields)
        notes += more
    fields = {key: _own_value(model_type, key, value) for key, value in fields.items() if _counts(key, value)}
    fields, more = _without_dead_keys(model_type, _without_usual_projection(fields))
    return fields, (*notes, *more)


def _other_code(model_type: str, fields: dict[str, Any]) -> tuple[str, ...]:
    """That the file is of another class than the one that is forecast."""
    notes = []
    named = fields.get("architectures")
    classes = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    if classes and not any(name.endswith(_HEADS_OF_LANGUAGE_MODELS) for name in classes):
        notes.append(
            f"the file is of {shortened(', '.join(classes), LONGEST_VALUE)}; a head over the vocabulary is counted"
        )
    if fields.get("auto_map"):
        notes.append(f"code of its own (auto_map) is not run; transformers' class of {model_type} is")
    return tuple(notes)


def _without_dead_keys(model_type: str, fields: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Without keys that nothing reads, named in a note unless they are marked as private or as a comment."""
    dead = keys_without_effect(families()[model_type], model_type, fields)
    if not dead:
        return fields, ()
    dropped = set(dead)
    rest = {key: value for key, value in fields.items() if key not in dropped}
    named = [key for key in dead if not key.startswith("_")]
    if not named:
        return rest, ()
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    told = ", ".join(shortened(key, LONGEST_VALUE) for key in named[:MOST_NAMED])
    return rest, (f"keys of the configuration that have no effect: {told}{more}",)


def _counts(key: str, value: object) -> bool:
    return key not in _WITHOUT_EFFECT and (key not in _OFF_BY_DEFAULT or bool(value))


def _without_usual_projection(fields: dict[str, Any]) -> dict[str, Any]:
    """OPT projects its embeddings only where they are of another width than its layers: then the model has two matrices more."""
    width = fields.get(EMBEDDING_WIDTH)
    if EMBEDDING_WIDTH not in fields or (width is not None and width != fields.get("hidden_size")):
        if width is not None:
            read_size(EMBEDDING_WIDTH, width, upper_limit("hidden_size"))
        return fields
    return {key: value for key, value in fields.items() if key != EMBEDDING_WIDTH}


def _own_value(model_type: str, key: str, value: Any) -> Any:
    """The kind of a rotary embedding under the key that classes read first; earlier files call it `type`."""
    if key not in ("rope_scaling", "rope_parameters") or not isinstance(value, dict):
        return value
    kind = value.get("rope_type", value.get("type"))
    if model_type == "phi3" and isinstance(kind, str):
        kind = _OF_PHI3.get(kind, kind)
    rest = {name: item for name, item in value.items() if name not in ("rope_type", "type")}
    return rest if kind is None else {"rope_type": kind, **rest}
