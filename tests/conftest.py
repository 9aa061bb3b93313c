"""Shared by all tests: no network, small models, and one place for the tolerance of nothing."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TINY_GPT2 = {"model_type": "gpt2", "n_layer": 2, "n_head": 4, "n_embd": 64, "n_positions": 128, "vocab_size": 1000}
TINY_LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 1000,
    "max_position_embeddings": 256,
}


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tapes are recorded into a folder of this session: tests share them, and nothing is written to the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VRAMCAST_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))  # where dry runs keep what they put aside
        yield


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection to another host is an error, unless the test is marked `network`."""
    if "network" in request.keywords:
        return

    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family not in (socket.AF_INET, socket.AF_INET6):
            connect(self, address)  # between processes of this machine
            return
        raise RuntimeError(f"a test tried to reach {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def write_config(folder: Path, fields: dict[str, Any]) -> str:
    """A folder with a config.json of these fields; returns the folder's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    return str(folder)


@pytest.fixture
def tiny_gpt2(tmp_path: Path) -> str:
    """Path of a two-layer GPT-2."""
    return write_config(tmp_path / "tiny-gpt2", TINY_GPT2)


@pytest.fixture
def tiny_llama(tmp_path: Path) -> str:
    """Path of a two-layer Llama with grouped heads."""
    return write_config(tmp_path / "tiny-llama", TINY_LLAMA)
