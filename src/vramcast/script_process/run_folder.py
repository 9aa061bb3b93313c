"""What a dry run's two processes tell each other: a folder of small files, so that the end of either loses nothing that was said."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from vramcast.errors import InputError, VramcastError
from vramcast.job.script import ScriptOptions
from vramcast.whole_file import replacing


class Request(BaseModel):
    """What the script's process is to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    """Path of a script, name of a module, or name of a Python program on the PATH."""
    arguments: tuple[str, ...] = ()
    is_module: bool = False
    options: ScriptOptions = ScriptOptions()
    timeline: Path | None = None
    snapshot: Path | None = None
    prints_to_stderr: bool = False
    """The script's own prints must not stand between the lines of an answer in JSON."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def counters(self) -> Path:
        """See `flight_log`."""
        return self.path / "counters"

    @property
    def put_aside(self) -> Path:
        """See `vramcast.put_aside`."""
        return self.path / "put_aside"

    def keep(self) -> None:
        """Originals of the user's files lie here that could not be put back."""
        (self.path / "kept").touch()

    @property
    def is_kept(self) -> bool:
        """Whether the folder must stay."""
        return (self.path / "kept").exists()

    @property
    def fatal_traceback(self) -> Path:
        """Where Python's fault handler writes the lines that ran when a fatal signal came."""
        return self.path / "fatal"

    # -- the request and its answers, one JSON document each

    def ask(self, request: Request) -> None:
        """Write the request."""
        self._write("request.json", request.model_dump_json())

    def request(self) -> Request:
        """Read the request."""
        return Request.model_validate_json((self.path / "request.json").read_bytes())

    def answer(self, answer: dict[str, Any]) -> None:
        """Write the answer: the JSON of a `ScriptRun`."""
        self._write("answer.json", json.dumps(answer))

    def answered(self) -> dict[str, Any] | None:
        """The answer; None where the process ended before it had one."""
        path = self.path / "answer.json"
        return json.loads(path.read_bytes()) if path.exists() else None

    def refuse(self, error: VramcastError) -> None:
        """Write why something asked for is bad input."""
        parts = [error.field, error.value, error.fix] if isinstance(error, InputError) else [str(error)]
        self._write("refusal.json", json.dumps(parts, default=str))

    def refused(self) -> VramcastError | None:
        """The error of `refuse`, if there is one."""
        path = self.path / "refusal.json"
        if not path.exists():
            return None
        parts = json.loads(path.read_bytes())
        return VramcastError(*parts) if len(parts) == 1 else InputError(*parts)

    def _write(self, name: str, text: str) -> None:
        with replacing(self.path / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")

    # -- what is said while the script runs, a line each: forks of the script share the file

    def say(self, kind: str, text: str) -> None:
        """Add a sentence of this kind (`refusal`, `child`, `ending`)."""
        line = json.dumps([kind, text]) + "\n"
        file = os.open(self.path / "said.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def said(self, kind: str) -> tuple[str, ...]:
        """The sentences of a kind, each once."""
        path = self.path / "said.jsonl"
        if not path.exists():
            return ()
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return tuple(dict.fromkeys(text for of, text in lines if of == kind))
