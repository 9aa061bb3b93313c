"""Every malformed command and configuration gets one clear message, exit code 2 and no traceback."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TINY_GPT2, TINY_LLAMA, write_config

from vramcast.cli import main

COMMANDS: list[tuple[str, str]] = [
    ("training", "MODEL requires an argument"),
    ("trainin gpt2", 'Did you mean "training"'),
    ("training gpt2 8", "Unused Tokens: ['8']"),
    ("training gpt2 --bach-size 8", "Did you mean --batch-size"),
    ("training gpt2 --batch-size", "--batch-size requires an argument"),
    ("training gpt2 --batch-size 0", "--batch-size='0': must be at least 1"),
    ("training gpt2 --batch-size -8", "--batch-size='-8': must be at least 1"),
    ("training gpt2 --batch-size 1e3", "--batch-size='1e3': write a whole number"),
    ("training gpt2 --batch-size 2.5", "--batch-size='2.5': write a whole number"),
    ("training gpt2 --batch-size many", "--batch-size='many': write a whole number"),
    ("training gpt2 --batch-size 99999999999999999999", "must be at most 10000000"),
    ("training gpt2 --sequence-length 0", "--sequence-length='0': must be at least 1"),
    ("training gpt2 --sequence-length 2048", "learned positions up to its context length 1024"),
    ("training gpt2 --precision int8", "--precision='int8': choose one of fp32, amp-bf16"),
    ("training gpt2 --optimizer adamx", "--optimizer='adamx': choose one of adamw"),
    ("training gpt2 --attention flash3", "--attention='flash3': choose one of"),
    ("training gpt2 --checkpointing half", "--checkpointing='half': choose one of none or full"),
    ("training gpt2 --dropout 1", "--dropout='1': must be less than 1"),
    ("training gpt2 --dropout nan", "--dropout='nan': write a number"),
    ("training gpt2 --dropout -0.1", "--dropout='-0.1': must be at least 0"),
    ("training gpt2 --gradient-accumulation-steps 0", "must be at least 1"),
    ("training gpt2 --max-grad-norm inf", "--max-grad-norm='inf': write a number"),
    ("training gpt2 --max-grad-norm 0", "--max-grad-norm='0': must be greater than 0"),
    ("training gpt2 --gpu rtx-9999", "gpu='rtx-9999': not in the hardware file"),
    ("training gpt2 --gpu custom", "--gpu custom --gpu-memory 24GiB"),
    ("training gpt2 --gpu custom --gpu-memory 24GB", "'GB' is ambiguous"),
    ("training gpt2 --gpu custom --gpu-memory=-1GiB", "write a size such as 24GiB"),
    ("training gpt2 --gpu custom --gpu-memory 0GiB", "must be larger than zero"),
    ("training gpt2 --gpu custom --gpu-memory lots", "write a size such as 24GiB"),
    ("training gpt2 --gpu rtx-3090 --gpu-memory 24GiB", "has its own memory"),
    ("training gpt5", "model='gpt5'"),
    ("training nobody/nothing --offline", "nobody/nothing"),
    ("training ./no/such/folder", "./no/such/folder"),
    ("training ''", "model"),
    ("training gpt2 --attention flash", "No available kernel"),
    ("generation gpt2 --prompt-length 0", "--prompt-length='0': must be at least 1"),
    ("generation gpt2 --max-new-tokens 0", "--max-new-tokens='0': must be at least 1"),
    ("generation gpt2 --prompt-length 1000 --max-new-tokens 100", "context length 1024"),
    ("generation gpt2 --precision amp-bf16", "choose one of fp32, bf16 or fp16"),
    ("generation gpt2 --cache paged", "choose one of dynamic or static"),
    ("generation gpt2 --kv-cache-dtype int3", "--kv-cache-dtype='int3': choose one of"),
]


@pytest.mark.parametrize(("command", "message"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_command_is_refused(capsys: pytest.CaptureFixture[str], command: str, message: str) -> None:
    arguments = [argument.strip("'") for argument in command.split()]
    assert refusal(capsys, arguments) == 2
    assert message in capsys_text(capsys)


CONFIGS: list[tuple[str, dict[str, Any], str]] = [
    ("no model_type", {"hidden_size": 64}, "model_type"),
    ("unknown model_type", {**TINY_LLAMA, "model_type": "llamma"}, "llamma"),
    ("an encoder", {"model_type": "bert", "hidden_size": 64}, "an encoder"),
    ("heads do not divide", {**TINY_GPT2, "n_head": 7}, "7"),
    ("key heads do not divide", {**TINY_LLAMA, "num_key_value_heads": 3}, "num_key_value_heads"),
    ("no layers", {**TINY_LLAMA, "num_hidden_layers": 0}, "num_hidden_layers=0"),
    ("negative width", {**TINY_LLAMA, "hidden_size": -64}, "hidden_size=-64"),
    ("absurd vocabulary", {**TINY_LLAMA, "vocab_size": 10**12}, "vocab_size=1000000000000"),
    ("a word for a number", {**TINY_LLAMA, "intermediate_size": "wide"}, "intermediate_size='wide'"),
    (
        "a missing field",
        {key: value for key, value in TINY_LLAMA.items() if key != "num_attention_heads"},
        "num_attention_heads",
    ),
    ("an unknown activation", {**TINY_LLAMA, "hidden_act": "swishy"}, "swishy"),
]


@pytest.mark.parametrize(("fields", "message"), [row[1:] for row in CONFIGS], ids=[row[0] for row in CONFIGS])
def test_configuration_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    assert refusal(capsys, ["training", write_config(tmp_path / "model", fields)]) == 2
    assert message in capsys_text(capsys)


FILES = [
    ("truncated", json.dumps(TINY_LLAMA)[:-20]),
    ("empty", ""),
    ("a list", "[1, 2]"),
    ("not a number", json.dumps({**TINY_LLAMA, "hidden_size": float("nan")})),
]


@pytest.mark.parametrize("text", [row[1] for row in FILES], ids=[row[0] for row in FILES])
def test_file_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    assert refusal(capsys, ["training", str(path)]) == 2
    assert "config.json" in capsys_text(capsys)


def test_sizes_beyond_any_tensor_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = write_config(tmp_path / "model", {**TINY_LLAMA, "max_position_embeddings": 10**9})
    assert (
        refusal(
            capsys,
            ["training", folder, "--batch-size", "10000000", "--sequence-length", "100000000", "--attention", "eager"],
        )
        == 2
    )
    assert "larger than" in capsys_text(capsys)


_TEXTS: dict[int, str] = {}


def refusal(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> int:
    """Exit code of a command that must print one message on stderr, nothing on stdout, and no traceback."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    _TEXTS[id(capsys)] = captured.err
    assert captured.out == ""
    assert captured.err.startswith("vramcast: ")
    assert "Traceback" not in captured.err
    assert isinstance(ended.value.code, int)
    return ended.value.code


def capsys_text(capsys: pytest.CaptureFixture[str]) -> str:
    return _TEXTS[id(capsys)]


def test_a_configuration_that_its_model_cannot_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Phi turns half of each head, here an odd number of elements."""
    fields = {"model_type": "phi", "num_hidden_layers": 1, "hidden_size": 114, "num_attention_heads": 1}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**fields, "intermediate_size": 64, "vocab_size": 24, "max_position_embeddings": 64}))
    with pytest.raises(SystemExit) as end:
        main(["training", str(config), "--sequence-length", "32", "--batch-size", "2"])
    assert end.value.code == 2
    assert "its sizes do not go together" in capsys.readouterr().err
