"""Command lines that answer a question about memory from a cold start, and how long each takes as a process.

Every command runs as it would after installation: bytecode is there (it is written to a folder of our own by a first run that does not
count) and nothing is asked of the network.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ACCELERATE = """
import sys, types
from accelerate.commands import estimate
from accelerate.commands.accelerate_cli import main
estimate.verify_on_hub = lambda repo, token=None: types.SimpleNamespace(config={}, library_name="transformers")
sys.argv = ["accelerate", "estimate-memory", sys.argv[1], "--library_name", "transformers"]
main()
"""
"""`accelerate estimate-memory` asks the Hub whether the model exists, and then for its config.json. The first answer is given here, the
second is a local folder; the rest is its own code, so the time is without the network's."""

GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 50257,
    "n_positions": 1024,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "tie_word_embeddings": True,
}
GPT2_FOR_LLM_ANALYSIS = {
    "name": "gpt2",
    "model_type": "gpt2",
    "vocab_size": 50257,
    "max_seq_len": 1024,
    "hidden_dim": 768,
    "num_layers": 12,
    "n_head": 12,
    "ffn_embed_dim": 3072,
}


class Timing(NamedTuple):
    """Seconds of one run."""

    wall_seconds: float
    cpu_seconds: float


class Command(NamedTuple):
    """A command and what it is."""

    name: str
    arguments: list[str]
    environment: Mapping[str, str] = os.environ


def commands(folder: Path, peers_python: str | None) -> list[Command]:
    """The floor of any Python program, vramcast, and its peers.

    Args:
        folder: for configurations and bytecode.
        peers_python: interpreter of an environment with `llm-analysis`; None leaves it out.
    """
    model, other = folder / "gpt2", folder / "gpt2-llm-analysis.json"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(GPT2))
    other.write_text(json.dumps(GPT2_FOR_LLM_ANALYSIS))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "HF_HUB_OFFLINE": "1"}
    python = [sys.executable]
    question = ["training", "gpt2", "--batch-size", "8", "--json", "--offline"]
    found = [
        Command("python -c pass", [*python, "-c", "pass"], environment),
        Command("python -c 'import numpy, pydantic, cyclopts'", [*python, "-c", DEPENDENCIES], environment),
        Command("vramcast training gpt2 --json", [*python, "-m", "vramcast", *question], environment),
        Command("accelerate estimate-memory", [*python, "-c", ACCELERATE, str(model)], environment),
    ]
    if peers_python is not None:
        job = ["--batch_size_per_gpu", "8", "--total_num_tokens", "8192", "--gpu_name", "a100-sxm-80gb"]
        train = ["-m", "llm_analysis.analysis", "train", "--model_name", str(other), *job]
        found.append(Command("llm-analysis train", [peers_python, *train], environment))
    return found


DEPENDENCIES = "import numpy, cyclopts; from pydantic import BaseModel; type('A', (BaseModel,), {})"
"""What vramcast is built on, with one model: pydantic loads most of itself when the first is made."""


def run(command: Command) -> Timing:
    """One run, from starting the process to its end.

    Raises:
        RuntimeError: the command failed; the message ends with the last line it wrote.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(
        command.arguments, env=dict(command.environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{command.name}: {said.decode().strip().splitlines()[-1]}")
    return Timing(wall, usage.ru_utime + usage.ru_stime)
