"""What the package knows of transformers' configuration classes, against the release that is installed."""

import json
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models.class_fields import read_classes

from vramcast.errors import ModelConfigError
from vramcast.models import load_model, model_from_fields, preset_names
from vramcast.models.class_fields import FILE, check_field_types, keys_without_effect, kind_of, language_model_type
from vramcast.models.families import GPT, families

TABLE: dict[str, Any] = json.loads(resources.files("vramcast.models").joinpath(FILE).read_text(encoding="utf-8"))


def test_the_file_says_what_the_classes_say() -> None:
    transformers = pytest.importorskip("transformers")
    if transformers.__version__ != TABLE["transformers"]:
        pytest.skip(
            f"the file is of transformers {TABLE['transformers']}; write it anew with tests.models.class_fields"
        )
    assert read_classes(TABLE["nested"]) == TABLE


def test_every_family_is_in_it() -> None:
    assert set(TABLE["fields"]) == set(TABLE["defaults"]) == set(families()) - {GPT}
    assert TABLE["fields"]["llama"]["attention_bias"] == "boolean"
    assert TABLE["defaults"]["gemma3_text"]["num_attention_heads"] == 8


@pytest.mark.parametrize("name", preset_names())
def test_presets_have_fields_of_these_types_and_none_without_effect(name: str) -> None:
    model = load_model(name, offline=True)
    check_field_types(model.model_type, model.fields)
    if model.model_type != GPT:
        assert keys_without_effect(families()[model.model_type], model.model_type, model.fields) == []


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"attention_bias": {}}, r"^attention_bias=\{\}: must be true or false$"),
    ({"attention_bias": "true"}, r"^attention_bias='true': must be true or false$"),
    ({"attention_bias": None}, r"^attention_bias=None: must be true or false$"),
    ({"hidden_act": None}, r"^hidden_act=None: must be a string$"),
    ({"rms_norm_eps": 1}, r"^rms_norm_eps=1: must be a decimal number, such as 1\.0$"),
    ({"head_dim": "16"}, r"^head_dim='16': must be a whole number or null$"),
    ({"pad_token_id": True}, r"^pad_token_id=True: must be a whole number or null$"),
    ({"eos_token_id": [1, "2"]}, r"must be a whole number, a list of whole numbers or null$"),
    ({"rope_scaling": "linear"}, r"^rope_scaling='linear': must be an object or null$"),
    ({"rope_theta": []}, r"^rope_theta=\[\]: must be a decimal number, such as 1\.0, a whole number or null$"),
    ({"attention_dropout": float("nan")}, r"^attention_dropout=nan: must be a probability from 0 to 1$"),
    ({"attention_dropout": float("inf")}, r"^attention_dropout=inf: must be a probability"),
    ({"attention_dropout": -0.1}, r"^attention_dropout=-0\.1: must be a probability"),
    ({"partial_rotary_factor": 1e30}, r"^partial_rotary_factor=1e\+30: must be a share of the head"),
    ({"rope_parameters": {"partial_rotary_factor": 0}}, r"^partial_rotary_factor=0: must be a share of the head"),
    ({"rope_parameters": {"full_attention": {"partial_rotary_factor": "x"}}}, r"^partial_rotary_factor='x': must be"),
    ({"initializer_range": 1.5}, r"^initializer_range=1\.5: must be from 0\.0 to 1\.0$"),
    ({"initializer_range": float("nan")}, r"^initializer_range=nan: must be from 0\.0 to 1\.0$"),
    ({"layerdrop": 0.1}, r"^layerdrop=0\.1: drops layers at random"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_a_field_of_another_type_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelConfigError, match=message):
        check_field_types("llama", fields)


TAKEN: list[dict[str, Any]] = [
    {"attention_bias": True, "rms_norm_eps": 1e-6, "head_dim": None, "eos_token_id": [1, 2], "pad_token_id": None},
    {"attention_dropout": 0, "rope_theta": 10000, "rope_scaling": None, "time_step_limit": [0.0, float("inf")]},
    {"attention_dropout": None, "layerdrop": 0.0, "rms_norm_eps": float("inf"), "partial_rotary_factor": 1.0},
]


@pytest.mark.parametrize("fields", TAKEN, ids=str)
def test_what_the_class_takes_is_taken(fields: dict[str, Any]) -> None:
    check_field_types("llama", fields)


VALUES = [None, {}, [], "", -1, 0, 1.5, True, [1], ["a"]]


@pytest.mark.parametrize("model_type", sorted(set(families()) - {GPT}))
def test_types_are_judged_as_transformers_judges_them(model_type: str) -> None:
    transformers = pytest.importorskip("transformers")
    if transformers.__version__ != TABLE["transformers"]:
        pytest.skip(f"the file is of transformers {TABLE['transformers']}")
    config_class = type(transformers.AutoConfig.for_model(model_type))
    for name, kinds in TABLE["fields"][model_type].items():
        for value in VALUES if kinds and "dropout" not in name and "pdrop" not in name and name != "layerdrop" else []:
            ours = theirs = True
            try:
                check_field_types(model_type, {name: value})
            except ModelConfigError:
                ours = False
            try:
                for validator in config_class.__validators__[name]:
                    validator(value)
            except (TypeError, ValueError):
                theirs = False
            assert (name, value, ours) == (name, value, theirs)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(model_type=st.sampled_from(sorted(families())), data=st.data(), value=JSON)
def test_any_value_in_any_field_is_taken_or_refused_in_one_line(
    model_type: str, data: st.DataObject, value: Any
) -> None:
    names = [*TABLE["fields"].get(model_type, {}), *TABLE["common"], *TABLE["read"], "text_config", "architectures"]
    name = data.draw(st.sampled_from(names))
    fields = {"model_type": model_type, "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}
    sizes = {"vocab_size": 100, "block_size": 32, "ffn_dim": 96, "intermediate_size": 96}
    try:
        model_from_fields({**fields, **sizes, name: value}, name="x", source="file", origin="x.json")
    except ModelConfigError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 400


def test_which_language_model_is_inside() -> None:
    assert language_model_type("llava", None) == "llama"
    assert language_model_type("llava", "mistral") == "mistral"
    assert language_model_type("gemma3", "gemma2") == "gemma3_text"
    assert language_model_type("internvl_chat", "qwen2") == "qwen2"
    assert language_model_type("nobody", None) is None
    assert language_model_type(["llava"], None) is None


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [
        ("bert", "an encoder"),
        ("t5", "an encoder-decoder"),
        ("qwen3_moe", "a language model"),
        ("qwen2_vl", "a model of several towers"),
        ("vit", "a vision model"),
        ("wav2vec2", "a model of sound"),
        ("nosuch", None),
        ("llama", None),
    ],
)
def test_kinds_of_models(model_type: str, kind: str | None) -> None:
    assert kind_of(model_type) == kind


def test_keys_without_effect() -> None:
    fields = {"model_type": "llama", "n_embd": 8, "hidden_size": 8, "_name_or_path": "x", "torch_dtype": "x", "zork": 1}
    assert keys_without_effect(families()["llama"], "llama", fields) == ["zork"]
