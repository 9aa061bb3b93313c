"""A machine without torch and without a network: `python torch_free_world.py training gpt2` asks one question there.

Without arguments it asks all of `QUESTIONS`, each in a fresh process, and exits with 1 if one is not answered as it should be. Needs
nothing but the standard library and vramcast, so it runs against an installed wheel as well as against a checkout.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, NamedTuple

HIDDEN = ("torch", "transformers", "accelerate", "huggingface_hub")
INSTALL_LINE = "Install it with: pip install 'vramcast[record]'"
NOT_SHIPPED = {
    **{"model_type": "gpt2", "n_layer": 2, "n_head": 4, "n_embd": 64, "n_positions": 128, "vocab_size": 1000},
    "activation_function": "relu",
}
"""No preset has this structure."""


class Question(NamedTuple):
    """A command and what it must end with."""

    command: str
    code: int = 0
    says: str = ""
    """Part of what is printed, on stdout with code 0, else on stderr."""


QUESTIONS = (
    Question("--version"),
    Question("gpus --json", says='"a100-80gb"'),
    Question("models --json", says='"gpt2"'),
    Question("training gpt2", says="peak reserved"),
    Question("training gpt2 --batch-size 8 --json", says='"engine": "tape"'),
    Question("training llama-3-8b --precision bf16 --checkpointing full --json", says='"engine": "tape"'),
    Question("generation gpt2", says="KV cache"),
    Question("generation gpt2 --json", says='"engine": "tape"'),
    Question("fit gpt2", says="a100-80gb"),
    Question("fit gpt2 --on rtx-4090 --json", says='"largest_batch"'),
    Question("sweep gpt2 --batch-sizes 1,8 --sequence-lengths 256,1024", says="device used"),
    Question("sweep gpt2 --batch-sizes 1,8 --sequence-lengths 256,1024 --json", says='"peak_reserved_bytes"'),
    Question("explain gpt2", says="The peak as a formula"),
    Question("explain gpt2 --json", says='"formula"'),
    Question("tapes show gpt2", says="holds for"),
    Question("tapes list gpt2", says="model of gpt2"),
    Question("training NOT_SHIPPED", code=2, says=INSTALL_LINE),
    Question("training gpt2 --trace", code=2, says=INSTALL_LINE),
    Question("training nobody/has-this-model", code=2, says="vramcast: "),
)


def problem_with(question: Question, folder: Path) -> str | None:
    """Ask in a fresh process with an empty cache; None where the answer is the right one."""
    config = folder / "config.json"
    config.write_text(json.dumps(NOT_SHIPPED), encoding="utf-8")
    arguments = [str(config) if word == "NOT_SHIPPED" else word for word in question.command.split()]
    environment = {**os.environ, "VRAMCAST_CACHE": str(folder / "cache"), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, encoding="utf-8", env=environment
    )
    said = done.stdout if question.code == 0 else done.stderr
    if done.returncode != question.code:
        return f"exit code {done.returncode} instead of {question.code}: {done.stderr.strip() or done.stdout.strip()}"
    if question.says not in said:
        return f"does not say {question.says!r}: {said.strip()}"
    if question.code and (done.stdout or said.count("\n") != 1):
        return f"a refusal is one line on stderr: {done.stdout}{done.stderr}"
    return None


def ask_in_this_process(arguments: list[str]) -> None:
    """Hide the libraries, close the network, run the command line."""
    for i, finder in enumerate(sys.meta_path):
        if finder is PathFinder:
            sys.meta_path[i] = _HidingFinder()  # type: ignore[call-overload]
    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, _refuse)
    socket.getaddrinfo = _refuse  # type: ignore[assignment]
    from vramcast.cli import main

    main(arguments)


class _HidingFinder:
    """Finds what is on the path, but for some libraries."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.partition(".")[0] in HIDDEN else PathFinder.find_spec(name, path, target)

    @staticmethod
    def find_distributions(*args: Any, **kwargs: Any) -> Any:
        return PathFinder.find_distributions(*args, **kwargs)

    @staticmethod
    def invalidate_caches() -> None:
        PathFinder.invalidate_caches()


def _refuse(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError(f"reached for the network: {args[1:] or kwargs}")


def ask_all() -> int:
    """1 if a question is not answered as it should be."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for question in QUESTIONS:
            began = time.perf_counter()
            problem = problem_with(question, Path(folder))
            failed += problem is not None
            print(f"{time.perf_counter() - began:5.2f} s  vramcast {question.command}: {problem or 'ok'}", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    if sys.argv[1:]:
        ask_in_this_process(sys.argv[1:])
    sys.exit(ask_all())
