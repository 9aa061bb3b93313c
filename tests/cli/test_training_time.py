"""FLOPs, time and cost beside the memory of `vramcast training` and `vramcast generation`."""

import json
import re
from typing import Any

import pytest
from tests.cli.test_commands import CONTRACT_KEYS, run

from vramcast.compute import ANY_IMPLEMENTATION, EAGER_RUN, TimeOptions, training_time
from vramcast.forecast.answer import training_answer
from vramcast.job import TrainingJob

SMALL = ("--batch-size", "2", "--sequence-length", "64")
CUSTOM = ("--gpu", "custom", "--gpu-memory", "24GiB")


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(*arguments, "--json") == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_json_has_the_time_beside_the_contract(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    answer = document(capsys, "training", tiny_gpt2, *SMALL)
    assert set(answer) >= CONTRACT_KEYS | {"time"}
    source = training_answer(TrainingJob(model=tiny_gpt2, batch_size=2, sequence_length=64))
    expected = training_time(source.source.operators["step"], source.gpu, source.job)
    assert answer["time"] == json.loads(json.dumps(expected.to_dict()))
    assert sum(answer["time"]["flops_per_step"].values()) == answer["flops_per_step"]


def test_text_says_how_much_and_how_fast(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    assert run("training", tiny_gpt2, *SMALL) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("FITS")
    said = " ".join(printed.split())
    for label in ("FLOPs per step", "at least", "tokens/s", "bound of this code run eagerly is limited by", EAGER_RUN):
        assert label in said
    assert ANY_IMPLEMENTATION in said
    assert "1.75 times the first bound" in said
    assert "at an MFU" not in said


def test_a_cost_made_from_a_bound_says_at_least(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    paid = ("--tokens", "1000000000", "--price", "2.5")
    assert run("training", tiny_gpt2, *SMALL, *paid) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("cost at least") == said.count("cost") == 2
    assert said.count("GPU-hours") == len(re.findall(r"at least [\d.,]+ GPU-hours", said)) == 2
    assert run("training", tiny_gpt2, *SMALL, *paid, "--mfu", "0.4") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (said.count("cost at least"), said.count("cost")) == (2, 3)
    assert "at an MFU of 0.4 of" in said and "your assumption" in said
    runs = document(capsys, "training", tiny_gpt2, *SMALL, *paid, "--mfu", "0.4")["time"]
    assert [runs[name]["at_least"] for name in ("lower_bound_run", "run")] == [True, False]
    assert runs["any_implementation"]["lower_bound_run"]["cost"] <= runs["lower_bound_run"]["cost"]


def test_every_flag_of_time_reaches_it(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    flags = "--mfu 0.25 --tokens 1000000 --sequences-per-step 6 --price 2.5 --allow-tf32"
    took = document(capsys, "training", tiny_gpt2, *SMALL, *flags.split())["time"]
    answer = training_answer(TrainingJob(model=tiny_gpt2, batch_size=2, sequence_length=64))
    options = TimeOptions(mfu=0.25, tokens=10**6, sequences_per_step=6, price_per_gpu_hour=2.5, allow_tf32=True)
    expected = training_time(answer.source.operators["step"], answer.gpu, answer.job, options)
    assert took == json.loads(json.dumps(expected.to_dict()))
    assert (took["peak_dtype"], took["run"]["steps"], took["run"]["cost"]) == ("tf32", 2605, expected.run.cost)  # type: ignore[union-attr]


def test_both_names_of_the_price(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    runs = [
        document(capsys, "training", tiny_gpt2, *SMALL, "--steps", "10", flag, "2")["time"]["lower_bound_run"]
        for flag in ("--price", "--price-per-gpu-hour")
    ]
    assert runs[0] == runs[1]
    assert runs[0]["cost"] > 0


def test_trace_gives_the_same_answer(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    tape, trace = (document(capsys, "training", tiny_gpt2, *SMALL, *flag) for flag in ((), ("--trace",)))
    assert (tape.pop("engine"), trace.pop("engine")) == ("tape", "trace")
    said = tape.pop("assumptions"), trace.pop("assumptions")
    assert sorted(said[0]) == sorted(said[1])
    assert tape == trace


def test_a_custom_gpu_has_flops_and_no_time(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    answer = document(capsys, "training", tiny_gpt2, *SMALL, *CUSTOM)
    assert answer["time"] is None
    assert answer["flops_per_step"] > 0
    assert run("training", tiny_gpt2, *SMALL, *CUSTOM) == 0
    printed = capsys.readouterr().out
    assert "FLOPs per step" in printed
    assert "no time is told" in printed
    assert "tokens/s" not in printed


def test_generation_tells_the_time_of_a_token(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    sizes = ("--prompt-length", "16", "--max-new-tokens", "8")
    answer = document(capsys, "generation", tiny_gpt2, *sizes)
    assert set(answer) >= CONTRACT_KEYS | {"time"}
    took = answer["time"]
    assert (took["prompt_length"], took["new_tokens"]) == (16, 8)
    assert took["first_decode_step"]["flops"] < took["prefill"]["flops"]
    assert took["last_decode_step"]["flops"] == answer["flops_per_step"]
    assert run("generation", tiny_gpt2, *sizes) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "mean decode step at least" in said
    assert EAGER_RUN in said and ANY_IMPLEMENTATION in said
    assert took["any_implementation"]["lower_bound_seconds"] < took["lower_bound_seconds"]
    assert run("generation", tiny_gpt2, *sizes, *CUSTOM) == 0
    assert "FLOPs of first decode step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--mfu 0", "--mfu='0': must be greater than 0"),
        ("--mfu 1.5", "--mfu='1.5': must be at most 1"),
        ("--mfu nan", "--mfu='nan': write a number"),
        ("--steps 0", "--steps='0': must be at least 1"),
        ("--tokens 1e9", "--tokens='1e9': write a whole number"),
        ("--price -1", "--price='-1': must be at least 0"),
        ("--price 1", "give steps or tokens"),
        ("--steps 5 --tokens 5", "give one of them"),
        ("--sequences-per-step 3", "must be a multiple of batch_size=2"),
        ("--gpu custom --gpu-memory 24GiB --mfu 0.4", "its peak rate and memory bandwidth are not known"),
        ("--gpu custom --gpu-memory 24GiB --steps 10", "no time can be told"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], tiny_gpt2: str, flags: str, message: str) -> None:
    assert message in refusal(capsys, "training", tiny_gpt2, *SMALL, *flags.split())


def test_tf32_on_a_card_of_unknown_rates_is_refused(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    sizes = ("--prompt-length", "16", "--max-new-tokens", "2")
    assert "no time can be told" in refusal(capsys, "generation", tiny_gpt2, *sizes, *CUSTOM, "--allow-tf32")
