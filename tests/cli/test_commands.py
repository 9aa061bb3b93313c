"""What the commands print and with which code they exit."""

import json
import subprocess
import sys

import pytest

from vramcast.cli import main

CONTRACT_KEYS = {
    "schema_version",
    "workload",
    "model",
    "parameters",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "device_used_bytes",
    "peak_phase",
    "breakdown",
    "instants",
    "flops_per_step",
    "engine",
    "gpu",
    "gpu_memory_bytes",
    "verdict",
    "assumptions",
}


def run(*arguments: str) -> int:
    """Exit code of a command, run in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert run(*arguments, "--json") == 0
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def test_training_json_keeps_the_contract(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    answer = run_json(capsys, "training", tiny_gpt2, "--batch-size", "2", "--sequence-length", "64")
    assert set(answer) >= CONTRACT_KEYS
    assert (answer["schema_version"], answer["workload"], answer["engine"]) == (1, "training", "tape")
    breakdown = answer["breakdown"]
    assert isinstance(breakdown, list)
    assert sum(item["bytes"] for item in breakdown) == answer["peak_allocated_bytes"]
    names = [instant["name"] for instant in answer["instants"]]  # type: ignore[attr-defined]
    assert {"after_load", "after_forward", "backward_peak", "optimizer_peak"} <= set(names)
    sizes = [value for key, value in answer.items() if key.endswith("_bytes")]
    assert all(isinstance(size, int) for size in sizes)


def test_generation_json_keeps_the_contract(capsys: pytest.CaptureFixture[str], tiny_llama: str) -> None:
    answer = run_json(capsys, "generation", tiny_llama, "--prompt-length", "32", "--max-new-tokens", "20")
    assert set(answer) >= CONTRACT_KEYS
    assert answer["workload"] == "generation"
    assert sum(item["bytes"] for item in answer["breakdown"]) == answer["peak_allocated_bytes"]  # type: ignore[attr-defined]


def test_peaks_are_ordered(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    answer = run_json(capsys, "training", tiny_gpt2)
    assert answer["peak_allocated_bytes"] <= answer["peak_reserved_bytes"] < answer["device_used_bytes"]  # type: ignore[operator]


def test_text_begins_with_the_verdict(capsys: pytest.CaptureFixture[str], tiny_gpt2: str) -> None:
    assert run("training", tiny_gpt2) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("FITS  needs")
    for label in ("torch.cuda.max_memory_allocated()", "torch.cuda.max_memory_reserved()", "nvidia-smi", "assumptions"):
        assert label in printed


def test_check_exits_with_1_when_it_does_not_fit(tiny_gpt2: str) -> None:
    small = ("training", tiny_gpt2, "--gpu", "custom", "--gpu-memory", "300MiB")
    assert run(*small) == 0
    assert run(*small, "--check") == 1
    assert run("training", tiny_gpt2, "--check") == 0


def test_gpus_and_models_list_their_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("gpus", "--json") == 0
    gpus = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert gpus["a100-80gb"]["memory_total_bytes"] == 81920 << 20
    assert run("models", "--json") == 0
    models = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert models["gpt2"]["parameters"] == 124_439_808
    assert run("gpus") == run("models") == 0
    assert "rtx-3060-12gb" in capsys.readouterr().out


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    import vramcast

    assert run("--version") == 0
    assert vramcast.__version__ in capsys.readouterr().out


HEAVY = ("torch", "transformers", "nicegui", "matplotlib", "huggingface_hub", "rich", "cyclopts")


def modules_after(statement: str) -> set[str]:
    """Heavy packages that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_vramcast_is_light() -> None:
    assert (
        modules_after("import vramcast, vramcast.forecast, vramcast.allocator, vramcast.models, vramcast.hardware")
        == set()
    )


def test_a_refused_command_loads_no_torch() -> None:
    refused = (
        "from vramcast.cli import main\ntry: main(['training', 'gpt2', '--batch-size', '0'])\nexcept SystemExit: pass"
    )
    assert modules_after(refused) <= {"rich", "cyclopts"}
