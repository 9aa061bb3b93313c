"""Whatever transformers says of a configuration that was read comes out as one line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vramcast.errors import InputError, ModelConfigError, RecordingError
from vramcast.job import TrainingJob
from vramcast.models import ModelConfig, model_from_fields

torch = pytest.importorskip("torch")
building = pytest.importorskip("vramcast.record.building")
failures = pytest.importorskip("vramcast.record.failures")

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
}


def config_of(**fields: Any) -> ModelConfig:
    return model_from_fields({**LLAMA, **fields}, name="mine", source="file", origin="x.json")


def refusal_of(config: ModelConfig, **asked: Any) -> str:
    with pytest.raises(ModelConfigError) as caught:
        building.ModelBuilder(config, attention="sdpa", dtype=torch.float32, **asked)()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"layer_types": ["sliding", "round"]}, "model='mine': transformers refuses this configuration: ValueError: "),
        (
            {"rope_scaling": {"rope_type": "longrope"}},
            "model='mine': transformers refuses this configuration: KeyError: ",
        ),
        ({"dtype": "zork"}, "model='mine': transformers refuses this configuration: AttributeError: "),
        ({"to_dict": 5}, "model='mine': transformers "),
        ({"hidden_act": "swishy"}, "model='mine': transformers cannot build this model: KeyError: 'swishy'"),
        ({"pad_token_id": 100}, "model='mine': transformers cannot build this model: AssertionError: "),
    ],
    ids=str,
)
def test_what_transformers_refuses(fields: dict[str, Any], says: str) -> None:
    assert refusal_of(config_of(**fields)).startswith(says)


def test_a_field_that_its_strict_classes_refuse_is_named_with_its_value() -> None:
    """As another release may refuse what is taken here."""
    config = config_of()
    config = config.model_copy(update={"fields": {**config.fields, "mlp_bias": {"a": 1}}})
    says = "mlp_bias={'a': 1}: transformers refuses this configuration: TypeError: Field 'mlp_bias' expected bool, got dict"
    assert refusal_of(config).startswith(says)
    assert refusal_of(config, dropout=0.1).startswith(says)


def test_advice_on_old_spellings_is_not_printed() -> None:
    """In tests a warning is an error, so one would be told as the reason."""
    fields = {"model_type": "opt", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 96}
    fields |= {"vocab_size": 100, "rope_scaling": {"type": "yarn"}}
    config = model_from_fields(fields, name="mine", source="file", origin="x.json")
    assert "KeyError: " in refusal_of(config)


def test_heads_of_classifiers_are_left_out() -> None:
    """A table of as many labels would fill memory before anything is refused."""
    model = building.ModelBuilder(config_of(num_labels=10**12, id2label=[]), attention="sdpa", dtype=torch.float32)()
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


def test_what_was_read_stays_as_it_was() -> None:
    """Configuration classes complete the dictionaries they are given, and the fields are a tape's key."""
    config = config_of(rope_scaling={"rope_type": "linear", "factor": 2.0})
    building.ModelBuilder(config, attention="sdpa", dtype=torch.float32)
    assert config.fields["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_dropout_is_set_in_every_field_that_a_key_of_tapes_knows(dropout: float) -> None:
    fields = {**LLAMA, "model_type": "starcoder2", "num_key_value_heads": 2}
    config = model_from_fields(fields, name="mine", source="file", origin="x.json")
    built = building.ModelBuilder(config, attention="sdpa", dtype=torch.float32, dropout=dropout)._config
    assert (built.attention_dropout, built.residual_dropout, built.embedding_dropout) == (dropout, dropout, dropout)


def test_a_refused_configuration_is_bad_input_and_a_failed_recording() -> None:
    """The recorder's own sizes may not go with a list in a configuration that is right: then there is no tape."""
    assert issubclass(failures.ConfigurationRefused, InputError)
    assert issubclass(failures.ConfigurationRefused, RecordingError)


JOB = TrainingJob(model="mine", sequence_length=8)


def test_errors_beneath_the_models_code_are_one_line() -> None:
    from transformers.activations import ACT2FN

    with pytest.raises(RecordingError, match=r"^the model's own code cannot run this configuration: KeyError: 'nope'$"):
        with failures.explained(JOB, "batch_size x sequence_length"):
            ACT2FN["nope"]


def test_errors_of_ours_pass_as_they_are() -> None:
    for error in (KeyError("mine"), InputError("a", 1, "b"), RecordingError("c"), torch.OutOfMemoryError("d")):
        with pytest.raises(type(error)) as caught, failures.explained(JOB, "batch_size x sequence_length"):
            raise error
        assert caught.value is error
    for error in (InputError("a", 1, "b"), RecordingError("c"), torch.OutOfMemoryError("d")):
        with pytest.raises(type(error)) as caught, failures.refused_configuration("mine", "refuses"):
            raise error
        assert caught.value is error


def test_a_long_reason_of_many_lines_is_cut() -> None:
    with pytest.raises(ModelConfigError) as caught, failures.refused_configuration("mine", "refuses it"):
        raise ValueError("\n".join(["a line"] * 500))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 260
    job = SimpleNamespace(batch_size=1, sequence_length=8)
    with pytest.raises(RecordingError) as broken, failures.explained(job, "batch_size x sequence_length"):
        raise RuntimeError("shapes cannot be multiplied\n" * 500)
    assert "\n" not in str(broken.value)
    assert len(str(broken.value)) < 300
