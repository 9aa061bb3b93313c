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
    ("training gpt2 --bach-size 8", "Did you mean --batch-size?"),
    ("training gpt2 --seq-len 8", "Did you mean --sequence-length?"),
    ("training gpt2 --mixed-precision bf16", "Did you mean --precision?"),
    ("training gpt2 --zork 8", "Unknown option: --zork. `vramcast training --help` lists its flags."),
    ("training gpt2 --lora", "--lora: not a flag of `vramcast training`; `vramcast run --gpu NAME your_script.py`"),
    ("generation gpt2 --load-in-4bit", "--load-in-4bit: not a flag of `vramcast generation`; `vramcast run"),
    ("training gpt2 --zero-stage=3", "--zero-stage: not a flag of `vramcast training`; `vramcast run"),
    ("fit gpt2 --tensor-parallel-size 2", "--tensor-parallel-size: not a flag of `vramcast fit`; `vramcast run"),
    ("tapes recrod gpt2", 'Did you mean "record"?'),
    ("trace gpt2", "Commands: training, generation"),
    ("training gpt2 --batch-size", "--batch-size requires an argument"),
    ("training gpt2 --batch-size 0", "--batch-size='0': must be at least 1"),
    ("training gpt2 --batch-size -8", "--batch-size='-8': must be at least 1"),
    ("training gpt2 --batch-size 1e3", "--batch-size='1e3': write a whole number"),
    ("training gpt2 --batch-size 2.5", "--batch-size='2.5': write a whole number"),
    ("training gpt2 --batch-size many", "--batch-size='many': write a whole number"),
    ("training gpt2 --batch-size 99999999999999999999", "must be at most 10000000"),
    ("training gpt2 --batch-size " + "9" * 5000, "write a whole number"),
    ("measure training gpt2 --steps " + "9" * 5000, "--steps"),
    ("training gpt2 --batch_size 0", "--batch_size='0': must be at least 1"),
    ("training " + "x" * 5000, "no preset, file or folder of that name"),
    ("training gpt2 --sequence-length 0", "--sequence-length='0': must be at least 1"),
    ("training gpt2 --sequence-length 2048", "--sequence-length=2048: gpt2 has learned positions up to its context"),
    ("training gpt2 --sequence_length=2048", "--sequence_length=2048: gpt2 has learned positions"),
    ("training gpt2 --precision int8", "--precision='int8': choose one of fp32, amp-bf16"),
    ("training gpt2 --optimizer adamx", "--optimizer='adamx': choose one of adamw"),
    ("training gpt2 --optimizer lion", "`vramcast run --gpu NAME your_script.py` follows a script with any other"),
    ("training gpt2 --attention flash3", "--attention='flash3': choose one of"),
    ("training gpt2 --checkpointing half", "--checkpointing='half': choose one of none or full"),
    ("training gpt2 --dropout 1", "--dropout='1': must be less than 1"),
    ("training gpt2 --dropout nan", "--dropout='nan': write a number"),
    ("training gpt2 --dropout -0.1", "--dropout='-0.1': must be at least 0"),
    ("training gpt2 --gradient-accumulation-steps 0", "must be at least 1"),
    ("training gpt2 --max-grad-norm inf", "--max-grad-norm='inf': write a number"),
    ("training gpt2 --max-grad-norm 0", "--max-grad-norm='0': must be greater than 0"),
    ("training gpt2 --gpu rtx-9999", "--gpu='rtx-9999': not in the hardware file"),
    ("fit gpt2 --on l4 rtx-9999", "--on='rtx-9999': not in the hardware file"),
    ("fit gpt2 --on l4 --price rtx-9999=1", "--price='rtx-9999': not in the hardware file"),
    ("training gpt2 --price 2", "--price=2.0: a cost needs an amount of training"),
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
    ("generation gpt2 --prompt-length 1000 --max-new-tokens 100", "--prompt-length + --max-new-tokens=1100: gpt2 has"),
    ("generation gpt2 --precision amp-bf16", "choose one of fp32, bf16 or fp16"),
    ("generation gpt2 --cache paged", "choose one of dynamic or static"),
    ("generation gpt2 --kv-cache-dtype int3", "--kv-cache-dtype='int3': choose one of"),
    ("gpt train --config tiny", "--input or --input-file requires an argument: Text to train on, in UTF-8"),
    ("gpt train --model_name a --config_file tiny", "--input or --input_file requires an argument: Text"),
    ("gpt train --name a --input", "--input requires an argument"),
    ("gpt train --model_name a --input_file no/such --config tiny", "--input_file='no/such': no such file"),
    ("gpt train --name a --input no/such --config tiny", "--input='no/such': no such file"),
    (f"gpt train --name a --input {__file__} --config no-such", "--config='no-such': no preset, file or folder"),
    (f"gpt train --name a --input {__file__} --config_file no-such", "--config_file='no-such': no preset, file"),
    (f"gpt train --name a --input {__file__} --from no/such", "--from='no/such': no such folder"),
    ("gpt generate --prompt x --from no/such", "--from='no/such': there is no model in"),
    ("gpt generate --prompt x --model_name no-such", "--model_name='no-such'"),
]


@pytest.mark.parametrize(("command", "message"), COMMANDS, ids=[command[:60] for command, _ in COMMANDS])
def test_command_is_refused(
    capsys: pytest.CaptureFixture[str], command: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
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
    ("an object for a switch", {**TINY_LLAMA, "attention_bias": {}}, "attention_bias={}: must be true or false"),
    (
        "a range that transformers checks",
        {**TINY_LLAMA, "initializer_range": 5.0},
        "initializer_range=5.0: must be from 0.0 to 1.0",
    ),
    ("an unknown kind of layer", {**TINY_LLAMA, "layer_types": ["a", "b"]}, "transformers refuses this configuration"),
    ("factors that are no list", {**TINY_LLAMA, "rope_scaling": {"rope_type": "longrope"}}, "transformers"),
    ("a type that is not read", {**TINY_LLAMA, "model_type": "qwen3_moe"}, "`vramcast run --gpu NAME your_script.py`"),
    ("quantised weights", {**TINY_LLAMA, "quantization_config": {"quant_method": "fp8"}}, "--ignore-quantization"),
    (
        "a negative size",
        {**TINY_LLAMA, "vocab_size": -(10**30)},
        "vocab_size=-1000000000000000000000000000000: must be",
    ),
    ("an endless size", {**TINY_LLAMA, "vocab_size": 10**4000}, "vocab_size=(a whole number of about 4001 digits)"),
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


def test_a_file_with_a_number_that_python_does_not_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps({**TINY_LLAMA, "hidden_size": 0}).replace('"hidden_size": 0', f'"hidden_size": {"9" * 9000}')
    )
    assert refusal(capsys, ["training", str(path)]) == 2
    assert "hidden_size='999" in capsys_text(capsys)


def test_the_unquantised_model_is_answered_for_when_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sizes = ["--sequence-length", "64", "--json"]
    plain = write_config(tmp_path / "plain", TINY_LLAMA)
    folder = write_config(
        tmp_path / "model", {**TINY_LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    )
    answers = []
    for arguments in (["training", plain, *sizes], ["training", folder, *sizes, "--ignore-quantization"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0]["peak_allocated_bytes"] == answers[1]["peak_allocated_bytes"]
    assert answers[0]["engine"] == answers[1]["engine"] == "tape"
    assert answers[1]["assumptions"][0].startswith("quantization_config (gptq, 4 bits) is ignored as asked")


ODD = [None, {}, [], "", "x", -1, 0, 1e30, 10**18, float("nan"), float("inf"), True, ["a"], {"a": 1}]
ODD_FIELDS = (
    "hidden_size num_key_value_heads head_dim attention_bias attention_dropout hidden_act rms_norm_eps rope_scaling rope_theta "
    "tie_word_embeddings eos_token_id pad_token_id layer_types architectures num_labels id2label dtype torch_dtype use_cache "
    "output_hidden_states attn_implementation quantization_config text_config to_dict per_layer_config initializer_range"
).split()


@pytest.mark.parametrize("field", ODD_FIELDS)
def test_an_odd_value_is_answered_or_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, field: str
) -> None:
    """Two values of each field, another two of the next: all are met, and the test stays small."""
    at = ODD_FIELDS.index(field)
    for value in (ODD[at % len(ODD)], ODD[(at + 5) % len(ODD)]):
        folder = write_config(tmp_path / "model", {**TINY_LLAMA, field: value})
        with pytest.raises(SystemExit) as ended:
            main(["training", folder, "--sequence-length", "8", "--trace", "--json"])
        captured = capsys.readouterr()
        if ended.value.code == 0:
            assert json.loads(captured.out)["parameters"] > 0
        else:
            assert (ended.value.code, captured.out, captured.err.count("\n")) == (2, "", 1)
            assert captured.err.startswith("vramcast: ") and len(captured.err) < 500


_TEXTS: dict[int, str] = {}


def refusal(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> int:
    """Exit code of a command that must print one message on stderr, nothing on stdout, and no traceback."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    _TEXTS[id(capsys)] = captured.err
    assert captured.out == ""
    assert captured.err.startswith("vramcast: ")
    assert captured.err.count("\n") == 1
    assert len(captured.err) < 520
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
