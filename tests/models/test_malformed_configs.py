"""Configurations that must be refused, each with a message that names field, value and fix."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.errors import InputError, ModelConfigError, VramcastError
from vramcast.models import load_model, model_from_fields
from vramcast.models.strict_json import parse_object

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 32,
}
GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 8,
    "vocab_size": 32,
    "n_positions": 16,
}


OPT = {
    "model_type": "opt",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 96,
    "vocab_size": 100,
}
MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 4}


def _without(base: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in base.items() if key not in keys}


MALFORMED: list[tuple[str, object, str]] = [
    ("missing hidden_size", _without(LLAMA, "hidden_size"), r"hidden_size=None: missing; add it .*'hidden_size': 768"),
    ("missing layers", _without(LLAMA, "num_hidden_layers"), r"num_hidden_layers=None: missing"),
    ("missing heads", _without(LLAMA, "num_attention_heads"), r"num_attention_heads=None: missing"),
    ("missing vocabulary", _without(LLAMA, "vocab_size"), r"vocab_size=None: missing"),
    ("missing feed-forward", _without(LLAMA, "intermediate_size"), r"intermediate_size=None: missing"),
    ("null hidden_size", {**LLAMA, "hidden_size": None}, r"hidden_size=None: missing"),
    ("missing in GPT-2 spelling", _without(GPT2, "n_embd"), r"n_embd=None: missing"),
    ("string for a number", {**LLAMA, "hidden_size": "64"}, r"hidden_size='64': must be a whole number, not a string"),
    (
        "decimal number",
        {**LLAMA, "num_hidden_layers": 2.5},
        r"num_hidden_layers=2\.5: must be a whole number, not a decimal",
    ),
    ("boolean for a number", {**LLAMA, "num_hidden_layers": True}, r"num_hidden_layers=True: .*not a boolean"),
    ("list for a number", {**LLAMA, "vocab_size": [100]}, r"vocab_size=\[100\]: .*not a list"),
    ("object for a number", {**LLAMA, "head_dim": {}}, r"head_dim=\{\}: .*not an object"),
    ("long value is shortened", {**LLAMA, "vocab_size": "9" * 5000}, r"vocab_size=.{0,100}: must be a whole number"),
    ("zero layers", {**LLAMA, "num_hidden_layers": 0}, r"num_hidden_layers=0: must be between 1 and 2000"),
    ("negative width", {**LLAMA, "hidden_size": -64}, r"hidden_size=-64: must be between 1 and 1000000"),
    ("absurd width", {**LLAMA, "hidden_size": 10**7}, r"hidden_size=10000000: must be between"),
    ("absurd depth", {**LLAMA, "num_hidden_layers": 10_000}, r"num_hidden_layers=10000: must be between 1 and 2000"),
    ("absurd vocabulary", {**LLAMA, "vocab_size": 10**9}, r"vocab_size=1000000000: must be between"),
    ("zero context", {**LLAMA, "max_position_embeddings": 0}, r"max_position_embeddings=0: must be between"),
    (
        "heads do not divide",
        {**LLAMA, "num_attention_heads": 6},
        r"hidden_size=64: is not divisible by num_attention_heads=6.*head_dim",
    ),
    (
        "heads do not divide, GPT-2",
        {**GPT2, "n_head": 3},
        r"n_embd=8: is not divisible by n_head=3; change one of them \[",
    ),
    (
        "key/value heads do not divide",
        {**LLAMA, "num_key_value_heads": 3},
        r"num_key_value_heads=3: does not divide num_attention_heads=4",
    ),
    ("zero key/value heads", {**LLAMA, "num_key_value_heads": 0}, r"num_key_value_heads=0: must be between"),
    ("disagreeing aliases", {**GPT2, "hidden_size": 16}, r"hidden_size=16: disagrees with n_embd=8"),
    (
        "flag is a string",
        {**LLAMA, "tie_word_embeddings": "true"},
        r"tie_word_embeddings='true': must be true or false",
    ),
    (
        "negative window",
        {**LLAMA, "model_type": "mistral", "sliding_window": -1},
        r"sliding_window=-1: must be between",
    ),
    ("more experts used than there are", MIXTRAL, r"num_experts_per_tok=4: exceeds the number of experts, 2"),
    (
        "layer_types too short",
        {**LLAMA, "layer_types": ["full_attention"]},
        r"layer_types=.*1 entries for num_hidden_layers=2",
    ),
    (
        "layer_types not a list",
        {**LLAMA, "layer_types": "full_attention"},
        r"layer_types='full_attention': must be a list",
    ),
    (
        "no model_type",
        _without(LLAMA, "model_type"),
        r"model_type=None: missing; add .*\"model_type\": \"llama\".*n_layer, n_head",
    ),
    ("empty object", {}, r"model_type=None: missing"),
    ("model_type is a list", {**LLAMA, "model_type": ["llama"]}, r"model_type=\['llama'\]: must be a string"),
    (
        "encoder",
        {"model_type": "bert", "hidden_size": 768},
        r"model_type='bert': is an encoder; only decoder-only .*`vramcast run --gpu NAME your_script\.py`",
    ),
    ("encoder-decoder", {"model_type": "t5"}, r"model_type='t5': is an encoder-decoder; only decoder-only"),
    ("encoder-decoder by its flag", {"model_type": "new", "is_encoder_decoder": True}, r"'new': is an encoder-decoder"),
    ("state-space model", {"model_type": "mamba"}, r"model_type='mamba': is a state-space model"),
    ("unknown type", {"model_type": "nosuch"}, r"model_type='nosuch': is not a known type; `vramcast run --gpu NAME"),
    (
        "a slip",
        {"model_type": "llamma"},
        r"model_type='llamma': is not a known type \(did you mean llama\?\); `vramcast",
    ),
    (
        "a type of transformers that is not read",
        {"model_type": "qwen3_moe", "hidden_size": 2048, "num_experts": 128},
        r"model_type='qwen3_moe': is a language model of a type that is not read here; `vramcast run --gpu NAME",
    ),
    (
        "a family with an encoder",
        {**LLAMA, "is_encoder_decoder": True},
        r"model_type='llama': is an encoder-decoder; only decoder-only",
    ),
    (
        "multimodal without a language type",
        {"model_type": "somebodys_own", "text_config": {"hidden_size": 8}},
        r"model_type=None: missing",
    ),
    ("an infinite size", {**LLAMA, "hidden_size": math.inf}, r"hidden_size=inf: must be a whole number, not a decimal"),
    ("no number", {**LLAMA, "vocab_size": math.nan}, r"vocab_size=nan: must be a whole number, not a decimal number"),
    (
        "a size of 300 digits",
        {**LLAMA, "vocab_size": 10**300},
        r"vocab_size=\(a whole number of about 301 digits\): must",
    ),
    (
        "sizes of single layers",
        {**LLAMA, "per_layer_config": {"0": {"intermediate_size": 8}}},
        r"per_layer_config=.*sizes of their own, which is not read here; `vramcast run",
    ),
    (
        "an OPT without its last normalisation",
        {**OPT, "_remove_final_layer_norm": True},
        r"_remove_final_layer_norm=True: leaves out the last normalisation, which is not read here",
    ),
    (
        "an OPT with a projection of no width",
        {**OPT, "word_embed_proj_dim": 0},
        r"word_embed_proj_dim=0: must be between 1",
    ),
    ("boolean for an object", {**LLAMA, "rope_parameters": True}, r"rope_parameters=True: must be an object or null"),
    (
        "multimodal with an encoder",
        {"model_type": "x", "text_config": {"model_type": "bert"}},
        r"'bert': is an encoder",
    ),
    ("JSON list", [LLAMA], r"holds a JSON list; a model configuration is an object"),
    ("JSON string", "llama", r"holds a JSON string"),
    ("JSON null", None, r"holds a JSON null"),
]


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in MALFORMED], ids=[case[0] for case in MALFORMED])
def test_malformed_config(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ModelConfigError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


NOT_JSON = [
    ("empty file", b"", r"not valid JSON at line 1, column 1"),
    ("truncated", json.dumps(LLAMA, indent=1).encode()[:60], r"not valid JSON at line \d+.*is the file complete\?"),
    ("YAML", b"hidden_size: 64", r"not valid JSON"),
    ("comment", b'{"batch_size": 16 // Instead of 32\n}', r"not valid JSON at line 1"),
    ("infinity in Python's spelling", b'{"hidden_size": inf}', r"not valid JSON at line 1"),
    ("duplicate key", b'{"hidden_size": 64, "hidden_size": 65}', r"names 'hidden_size' twice"),
    ("binary", b"\x93NUMPY\xff\xfe", r"not a text file in UTF-8"),
    ("nested too deeply", b'{"a":' + b"[" * 100_000, r"nested more than 64 deep"),
    ("nested 65 deep", b'{"a":' + b"[" * 65 + b"]" * 65 + b"}", r"nested more than 64 deep"),
    (
        "a number of 5000 digits",
        b'{"hidden_size": ' + b"9" * 5000 + b"}",
        r"^hidden_size='999.*is a number of 5000 digits",
    ),
    ("such a number in a list", b'{"a": {"b": [0, -' + b"9" * 5000 + b"]}}", r"^b='-999.*is a number of 5000 digits"),
    ("such a number in lists", b'{"a": [[' + b"9" * 5000 + b"]]}", r"holds a number of more than 4300 digits"),
    ("such a number alone", b"9" * 5000, r"holds a JSON number"),
]


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in NOT_JSON], ids=[case[0] for case in NOT_JSON])
def test_not_json(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ModelConfigError, match=message) as caught:
        load_model(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_limit_of_digits_that_a_user_set_is_not_pythons_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(640)
        with pytest.raises(ModelConfigError, match=r"^hidden_size='999.*is a number of 700 digits"):
            parse_object('{"hidden_size": ' + "9" * 700 + "}", "x")
    finally:
        sys.set_int_max_str_digits(before)


def test_numbers_that_are_not_finite_are_read_as_python_reads_them() -> None:
    read = parse_object('{"a": [0.0, Infinity, -Infinity], "b": {"c": NaN}, "d": 1e999}', "x")
    assert read["a"] == [0.0, math.inf, -math.inf]
    assert math.isnan(read["b"]["c"])
    assert read["d"] == math.inf


def test_a_field_that_no_size_needs_may_be_infinite(tmp_path: Path) -> None:
    """As in the published files of Nemotron-H and Falcon-H1."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA, "time_step_limit": [0.0, math.inf]}))
    model = load_model(path)
    assert model.dimensions == model_from_fields(LLAMA, name="x", source="file", origin="x").dimensions
    assert model.assumptions == ("keys of the configuration that have no effect: time_step_limit",)


def test_many_keys_are_read_and_the_one_that_comes_twice_is_found() -> None:
    """Where each key is compared with every other, these take minutes."""
    many = ", ".join(f'"k{number}": {number}' for number in range(200_000))
    read = parse_object(f"{{{many}}}", "x")
    assert (len(read), read["k199999"]) == (200_000, 199_999)
    with pytest.raises(ModelConfigError, match=r"names 'k7' twice; keep one of them"):
        parse_object(f'{{{many}, "k7": 0}}', "x")
    model = model_from_fields({**read, **LLAMA}, name="x", source="file", origin="x")
    assert set(model.fields) == set(LLAMA)
    (note,) = model.assumptions
    assert note.startswith("keys of the configuration that have no effect: k0, k1,") and note.endswith(
        " and 199988 more"
    )


def test_a_long_value_is_cut_wherever_it_comes_from() -> None:
    for value in ("9" * 10_000, 10**10_000, [0] * 10_000, {"a": "b" * 10_000}, [10**10_000], {"a": [-(10**5000)]}):
        message = str(InputError("field", value, "write another"))
        assert message.startswith("field=") and message.endswith(": write another")
        assert len(message) < 200
    assert str(InputError("field", "a\nb", "one\n  line")) == r"field='a\nb': one line"
    assert str(InputError("field", 12, "x" * 10_000)).count("x") < 500


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from([*LLAMA, "head_dim", "tie_word_embeddings", "layer_types", "text_config"]), value=JSON)
def test_any_value_in_any_field_is_read_or_refused_by_name(key: str, value: Any) -> None:
    try:
        model = model_from_fields({**LLAMA, key: value}, name="x", source="file", origin="x.json")
    except VramcastError as error:
        assert "[x.json]" in str(error)
        return
    sizes = model.dimensions.model_dump(exclude={"tie_word_embeddings"}, exclude_none=True)
    assert all(type(size) is int and size > 0 for size in sizes.values())
    assert model.dimensions.num_attention_heads % model.dimensions.num_key_value_heads == 0
