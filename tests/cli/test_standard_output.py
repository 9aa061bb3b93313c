"""An answer's exit code is its verdict's, whatever becomes of what is printed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from vramcast.cli.output import SafeOutput

FITS = ["training", "gpt2", "--check", "--gpu", "a100-80gb"]
DOES_NOT = ["training", "gpt2", "--check", "--batch-size", "64", "--gpu", "rtx-3060-12gb"]


def vramcast(words: Sequence[str], shell: str = "{}", **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a shell's words, with the exit code that the shell sees."""
    command = " ".join([sys.executable, "-m", "vramcast", *words])
    return subprocess.run(
        ["bash", "-c", shell.format(command)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("words", [FITS, DOES_NOT])
@pytest.mark.parametrize(
    "shell",
    ["{} >&-", "{} | head -1; exit ${{PIPESTATUS[0]}}", "{} | true; exit ${{PIPESTATUS[0]}}", "{} >&- 2>&- <&-"],
)
def test_nobody_needs_to_read_it(words: list[str], shell: str) -> None:
    done = vramcast(words, shell)
    assert (done.returncode, done.stderr) == (0 if words is FITS else 1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("words", [FITS, [*DOES_NOT, "--json"]])
def test_a_full_disk_is_told(words: list[str]) -> None:
    done = vramcast(words, "{} > /dev/full")
    assert done.returncode == (0 if words is FITS else 1)
    assert done.stderr == "vramcast: the answer could not be written: No space left on device\n"


def test_letters_that_ascii_has_not_are_written_with_those_it_has() -> None:
    done = vramcast(DOES_NOT, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.isascii()
    assert "activations        ####" in done.stdout
    assert "?" not in done.stdout


def test_help_and_refusals_too() -> None:
    assert vramcast(["--help"], "{} >&-").returncode == 0
    assert vramcast(["training", "gpt2", "--gpu", "nope"], "{} >&- 2>&-").returncode == 2


class Failing(io.TextIOWrapper):
    """A stream whose disk is full."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_after_a_failure_nothing_is_tried_again(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as raw:
        output = SafeOutput(Failing(raw))
        assert output.write("one") == 3
        assert output.failure is not None and output.failure.errno == 28
        output.write("two")
        output.flush()
    assert not output.isatty()
    with pytest.raises(OSError, match="no standard output"):
        output.fileno()


def test_without_a_stream_everything_is_dropped() -> None:
    output = SafeOutput(None)
    assert (output.write("x"), output.writable(), output.buffer, output.failure) == (1, True, None, None)
