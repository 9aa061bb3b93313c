"""Where a MODEL is looked for: presets, paths, the Hub."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.errors import MissingExtraError, ModelConfigError, UnknownModelError, VramcastError
from vramcast.models import load_model, model_from_fields
from vramcast.models.families import GPT, families
from vramcast.tapes.structure import structure_of

GPT2 = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 8, "vocab_size": 32, "n_positions": 16}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "my-model"
    home.mkdir()
    (home / "config.json").write_text(json.dumps(GPT2))
    return home


def test_folder_file_and_path_object_are_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(str(folder))
    assert (model.name, model.source, model.parameters) == ("my-model", "file", None)
    assert model == load_model(folder / "config.json")
    monkeypatch.chdir(folder)
    assert load_model("config.json").dimensions == model.dimensions
    assert load_model(".").name == "my-model"


def test_preset_wins_over_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "config.json").write_text(json.dumps(GPT2))
    monkeypatch.chdir(tmp_path)
    assert load_model("gpt2").source == "preset"
    assert load_model("./gpt2").source == "file"


def test_our_own_key_counts_only_in_presets(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**GPT2, "_vramcast": {"parameters": 1}}))
    model = load_model(path)
    assert model.parameters is None
    assert "_vramcast" not in model.fields


SMALL_GPT = {"model_type": "vramcast_gpt", "n_layer": 3, "n_head": 2, "n_embd": 8, "block_size": 16, "vocab_size": 32}


def test_a_trained_gpt_written_as_a_gpt2_is_the_gpt(tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain" / "config.json", tmp_path / "marked" / "config.json"
    for path, fields in (
        (plain, SMALL_GPT),
        (marked, {**GPT2, "vramcast": {"vocabulary_sha256": "0", "gpt": SMALL_GPT}}),
    ):
        path.parent.mkdir()
        path.write_text(json.dumps(fields))
    model = load_model(marked)
    assert (model.name, model.origin) == ("marked", str(marked))
    names = {"name": "plain", "origin": str(plain)}
    assert model.model_copy(update=names) == load_model(plain)
    assert model.model_type == GPT


@pytest.mark.parametrize("mark", [{"vocabulary_sha256": "0"}, {}, None, 1, "gpt", ["gpt"], {"gpt": None}], ids=str)
def test_the_key_without_a_gpt_changes_nothing(mark: Any) -> None:
    given: dict[str, Any] = {"name": "x", "source": "file", "origin": "x"}
    assert model_from_fields({**GPT2, "vramcast": mark}, **given) == model_from_fields(GPT2, **given)


@pytest.mark.parametrize("gpt", [1, "gpt2", [SMALL_GPT], True])
def test_a_trained_gpt_that_is_no_object(tmp_path: Path, gpt: Any) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**GPT2, "vramcast": {"gpt": gpt}}))
    with pytest.raises(ModelConfigError, match=r"vramcast\.gpt=.*must be an object.*config\.json\]"):
        load_model(path)


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GPT2).encode())
    assert load_model(path).dimensions.hidden_size == 8


def test_language_model_of_a_multimodal_config_is_unwrapped(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llava", "text_config": GPT2, "vision_config": {"hidden_size": 9}}))
    model = load_model(path)
    assert (model.model_type, model.dimensions.hidden_size) == ("gpt2", 8)
    assert model.assumptions == ("only the language model (text_config) of 'llava' is counted, not its other towers",)


def test_aliases_are_renamed_to_what_transformers_reads() -> None:
    fields = {"model_type": "llama", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 9, "intermediate_size": 3}
    model = model_from_fields(fields, name="x", source="file", origin="x")
    own = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    assert model.fields == {"model_type": "llama", "vocab_size": 9, "intermediate_size": 3, **own}


def test_explicit_head_dim_need_not_divide() -> None:
    fields = {
        "model_type": "qwen3",
        "hidden_size": 100,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "head_dim": 16,
    }
    rest = {"num_key_value_heads": 4, "vocab_size": 9, "intermediate_size": 3}
    assert model_from_fields({**fields, **rest}, name="x", source="file", origin="x").dimensions.head_dim == 16


@pytest.mark.parametrize("model_type", sorted(set(families()) - {GPT}))
def test_absent_fields_take_the_default_of_the_configuration_class(model_type: str) -> None:
    transformers = pytest.importorskip("transformers")
    minimal = {"hidden_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 32, "vocab_size": 300_000}
    wide = (
        {} if families()[model_type].intermediate_factor else {families()[model_type].keys("intermediate_size")[0]: 128}
    )
    ours = model_from_fields(
        {"model_type": model_type, **minimal, **wide}, name="x", source="file", origin="x"
    ).dimensions
    theirs = transformers.AutoConfig.for_model(model_type, **minimal, **wide)
    assert ours.context_length == theirs.max_position_embeddings
    assert ours.tie_word_embeddings == theirs.tie_word_embeddings
    assert ours.head_dim == (getattr(theirs, "head_dim", None) or 64)
    window = getattr(theirs, "sliding_window", None) if getattr(theirs, "use_sliding_window", True) else None
    assert ours.sliding_window == window
    assert ours.num_experts_per_token == getattr(theirs, "num_experts_per_tok", None)
    if model_type != "falcon":  # its class reports the heads, its attention takes one (multi_query)
        assert ours.num_key_value_heads == getattr(theirs, "num_key_value_heads", 32)


@pytest.mark.parametrize(
    "name", ["", "gpt3", "no-such-model", "dir/missing.json", "~nobody-of-that-name/x", "a\0b", "x" * 5000]
)
def test_unknown_name(name: str) -> None:
    with pytest.raises(UnknownModelError, match=r"no preset, file or folder of that name"):
        load_model(name)


def test_unknown_name_offers_close_presets() -> None:
    with pytest.raises(UnknownModelError, match=r"model='llama-3-9b'.*did you mean llama-3-8b"):
        load_model("llama-3-9b")
    with pytest.raises(UnknownModelError, match=r"model='\?'.*`vramcast models` lists the presets"):
        load_model("?")


def test_messages_name_what_the_user_wrote_it_under(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"^--config='llama-3-9b': no preset"):
        load_model("llama-3-9b", field="--config")
    with pytest.raises(ModelConfigError, match=r"^--from='/.*: this folder has no config\.json"):
        load_model(tmp_path, field="--from")
    (tmp_path / "config.json").write_text(json.dumps({**GPT2, "n_head": 3}))
    with pytest.raises(ModelConfigError, match=r"^n_embd=8: is not divisible by n_head=3"):
        load_model(tmp_path, field="--config")


def test_what_a_file_is_of_besides_is_said(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    fields = {**GPT2, "architectures": ["GPT2ForSequenceClassification"], "auto_map": {"AutoModel": "modeling_x.X"}}
    path.write_text(json.dumps({**fields, "n_ctx": 16, "_comment": "mine"}))
    model = load_model(path)
    assert model.assumptions == (
        "the file is of GPT2ForSequenceClassification; a head over the vocabulary is counted",
        "code of its own (auto_map) is not run; transformers' class of gpt2 is",
        "keys of the configuration that have no effect: n_ctx",
    )
    assert model.fields.keys() == {*GPT2, "architectures"}
    path.write_text(json.dumps({**GPT2, "architectures": ["GPT2LMHeadModel"], "_name_or_path": "x"}))
    assert load_model(path).assumptions == ()


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"type": "linear", "factor": 2.0}, {"rope_type": "linear", "factor": 2.0}),
        ({"rope_type": "yarn", "type": "linear"}, {"rope_type": "yarn"}),
        ({"type": "su"}, {"rope_type": "su"}),
        (None, None),
    ],
)
def test_the_kind_of_a_rotary_embedding_has_one_name(given: Any, read: Any) -> None:
    fields = {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "vocab_size": 9,
    }
    named: dict[str, Any] = {"name": "x", "source": "file", "origin": "x"}
    model = model_from_fields({**fields, "intermediate_size": 9, "rope_scaling": given}, **named)
    assert model.fields["rope_scaling"] == read
    phi = {**fields, "model_type": "phi3", "intermediate_size": 9, "rope_scaling": {"type": "su", "long_factor": []}}
    assert model_from_fields(phi, **named).fields["rope_scaling"] == {"rope_type": "longrope", "long_factor": []}


def test_tensors_that_a_model_keeps_for_its_caller_change_its_structure() -> None:
    named: dict[str, Any] = {"name": "x", "source": "file", "origin": "x"}
    plain, keeping = (model_from_fields({**GPT2, **more}, **named) for more in ({}, {"output_hidden_states": True}))
    assert structure_of(plain) != structure_of(keeping)
    said = model_from_fields({**GPT2, "output_hidden_states": False, "return_dict": False}, **named)
    assert structure_of(plain) == structure_of(said)


def test_an_opt_that_projects_its_embeddings_is_another_structure() -> None:
    """As published for 350M parameters: two matrices between embeddings of 512 and layers of 1024."""
    named: dict[str, Any] = {"name": "x", "source": "file", "origin": "x"}
    fields = {"model_type": "opt", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 9}
    plain, same, narrow = (
        structure_of(model_from_fields({**fields, "ffn_dim": 96, **more}, **named))
        for more in ({}, {"word_embed_proj_dim": 64}, {"word_embed_proj_dim": 32})
    )
    assert plain == same
    assert {name: value for name, value in narrow.items() if name not in plain} == {"word_embed_proj_dim": 32}


def test_null_switches_are_read_as_transformers_reads_them() -> None:
    named: dict[str, Any] = {"name": "x", "source": "file", "origin": "x"}
    falcon = {
        "model_type": "falcon",
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "vocab_size": 9,
    }
    assert model_from_fields({**falcon, "multi_query": None}, **named).dimensions.num_key_value_heads == 4
    assert model_from_fields(falcon, **named).dimensions.num_key_value_heads == 1


def test_folder_without_config(tmp_path: Path) -> None:
    with pytest.raises(ModelConfigError, match=r"this folder has no config\.json"):
        load_model(tmp_path)


def test_unreadable_and_special_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelConfigError, match=r"not a regular file"):
        load_model("/dev/null")

    def refuse(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ModelConfigError, match=r"cannot be read \(Permission denied\); check path and permissions"):
        load_model(folder / "config.json")


def test_weights_by_mistake(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(ModelConfigError, match=r"larger than 16 MiB; give a config\.json, not weights"):
        load_model(path)


@given(st.text(max_size=40))
def test_any_name_is_read_or_refused(name: str) -> None:
    try:
        load_model(name, offline=True)
    except VramcastError as error:
        assert str(error)


class _Hub:
    """Stands for huggingface_hub: what is cached, and what a download does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hub = pytest.importorskip("huggingface_hub")
        self.asked: list[str] = []
        self.cached: Path | None = None
        self.answer: Path | Exception = AssertionError("the Hub must not be asked")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(self.hub, "try_to_load_from_cache", lambda *_: str(self.cached) if self.cached else None)
        monkeypatch.setattr(self.hub, "hf_hub_download", self._download)

    def _download(self, hub_id: str, filename: str) -> str:
        self.asked.append(f"{hub_id}:{filename}")
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> _Hub:
    return _Hub(monkeypatch)


def test_hub_is_asked_for_an_unknown_id(hub: _Hub, folder: Path) -> None:
    hub.answer = folder / "config.json"
    model = load_model("someone/some-model")
    assert hub.asked == ["someone/some-model:config.json"]
    assert (model.name, model.source, model.dimensions.hidden_size) == ("someone/some-model", "hub", 8)
    assert model.origin == "https://huggingface.co/someone/some-model"


def test_hub_cache_is_read_even_offline(hub: _Hub, folder: Path) -> None:
    hub.cached = folder / "config.json"
    assert load_model("someone/some-model", offline=True).source == "hub"
    assert hub.asked == []


@pytest.mark.parametrize("switch", ["1", "true", "ON"])
def test_offline_never_asks(hub: _Hub, monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    with pytest.raises(UnknownModelError, match=r"not in the Hub cache, and offline"):
        load_model("someone/some-model", offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", switch)
    with pytest.raises(UnknownModelError, match=r"and offline; use a preset"):
        load_model("someone/some-model")
    assert hub.asked == []


def _response_error(name: str) -> Exception:
    errors = pytest.importorskip("huggingface_hub.errors")
    response = SimpleNamespace(headers={}, request=None)
    error: Exception = getattr(errors, name)("no", response=response)
    return error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("GatedRepoError", UnknownModelError, r"is gated: accept its licence.*hf auth login"),
        ("RepositoryNotFoundError", UnknownModelError, r"no such model on the Hub, or it is private; use a preset"),
        ("RemoteEntryNotFoundError", ModelConfigError, r"its repository has no config\.json"),
    ],
)
def test_what_the_hub_refuses(hub: _Hub, error: str, kind: type[Exception], message: str) -> None:
    hub.answer = _response_error(error)
    with pytest.raises(kind, match=message):
        load_model("someone/some-model")


def test_no_network(hub: _Hub) -> None:
    errors = pytest.importorskip("huggingface_hub.errors")
    for failure in (
        ConnectionError("no route"),
        TimeoutError(),
        errors.LocalEntryNotFoundError("not cached, no network"),
    ):
        hub.answer = failure
        with pytest.raises(
            UnknownModelError, match=rf"could not be asked \({type(failure).__name__}\).*a preset such as gpt2"
        ):
            load_model("someone/gpt2-mediun")


def test_hub_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"someone/some-model.*pip install 'vramcast\[record\]'"):
        load_model("someone/some-model")


def test_reading_models_and_gpus_imports_nothing_heavy() -> None:
    code = (
        "import sys, vramcast.models as m, vramcast.hardware as h; m.load_model('gpt2'); h.find_gpu('h100');"
        "heavy = {'torch', 'transformers', 'numpy', 'rich', 'huggingface_hub'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
