"""Command line: real scripts, unmodified, on a virtual GPU, in a table with the figures published for them.

`python -m validation.scripts --sources FOLDER --markdown docs/scripts.md` runs those of `scripts.toml`. Data that they would download
are made in their place: text of common words, random tokens, and a tokenizer whose tokens mean nothing.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from validation.published import load_rows

ROOT = Path(__file__).parent
OWN_SCRIPTS = ROOT.parent / "examples" / "scripts"
GPU = "a100-80gb"
_GIB, _MIB = 2**30, 2**20
_WORDS = (
    "the of and to in a that was it her had with as for she be his not but is on which at have him so from they".split()
)
HEAD = """# Scripts on a virtual GPU

Training scripts by others and by us, each run unmodified by `vramcast run --gpu a100-80gb` on two CPU cores. Other people's scripts
are not part of this repository; what they would download (text, token files, a tokenizer's vocabulary) was made in its place.
Peak reserved is beside the figure its author published from an A100, where there is one. Seconds and host memory are those of the dry run.
Written by `python -m validation.scripts`.
"""


@dataclass(frozen=True)
class Script:
    """One row of `scripts.toml`."""

    name: str
    origin: str
    command: list[str]
    folder: str = ""
    options: list[str] = field(default_factory=list)
    data: str = ""
    published: str = ""
    note: str = ""


def scripts() -> list[Script]:
    """All of them, in the order of the file."""
    rows = tomllib.loads((ROOT / "scripts.toml").read_text(encoding="utf-8"))["script"]
    return [Script(**row) for row in rows]


def make_openwebtext(folder: Path) -> None:
    """Random GPT-2 tokens, as nanoGPT's `prepare.py` would leave them."""
    for name, tokens in (("train", 4_000_000), ("val", 400_000)):
        path = folder / "data" / "openwebtext" / f"{name}.bin"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.random.default_rng(1).integers(0, 50257, tokens, dtype=np.uint16).tofile(path)


def make_novel(folder: Path) -> None:
    """A text as long as Middlemarch, 1.8 MB."""
    _write_words(folder / "middlemarch.txt", 1_800_000)


def make_wikitext(folder: Path) -> None:
    """Three files of lines."""
    for name, characters in (("train", 1_000_000), ("valid", 100_000), ("test", 100_000)):
        _write_words(folder / "data" / "wikitext-2" / f"{name}.txt", characters)


def _write_words(path: Path, characters: int) -> None:
    if path.exists():
        return
    draw, text = random.Random(1), ""
    words: list[str] = []
    while len(text) < characters:
        words += [draw.choice(_WORDS) for _ in range(10_000)]
        text = " ".join(words)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text[:characters].replace(" so ", " so\n"), encoding="utf-8")


MAKERS: dict[str, Callable[[Path], None]] = {
    "openwebtext": make_openwebtext,
    "novel": make_novel,
    "wikitext": make_wikitext,
}


def run(script: Script, sources: Path, work: Path) -> dict[str, Any]:
    """The answer of `vramcast run --json`; scripts of ours run in the folder `work`.

    Raises:
        RuntimeError: there was none; tells what was printed on stderr.
    """
    folder = work if script.origin == "ours" else sources / script.folder
    if script.data:
        MAKERS[script.data](folder)
    name, *arguments = script.command
    path = str(OWN_SCRIPTS / name) if script.origin == "ours" else name
    command = [sys.executable, "-m", "vramcast", "run", "--gpu", GPU, "--json", *script.options, path, *arguments]
    before = os.environ.get("PYTHONPATH")
    paths = os.pathsep.join([str(ROOT / "stand_ins"), *([before] if before else [])])
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise RuntimeError(f"{script.name}: exit code {done.returncode}: {done.stderr[-2000:]}") from None
    return answer


def row_of(script: Script, answer: dict[str, Any]) -> list[str]:
    """Cells of the table."""
    reserved = answer["peak_reserved_bytes"]
    published, error = "", ""
    if script.published:
        figure = next(row.value_bytes for row in load_rows() if row.id == script.published)
        published, error = f"{figure / _GIB:.4f} ({script.published})", f"{reserved / figure - 1:+.3%}"
    ended = {"steps": f"{answer['optimizer_steps']} steps", "end": "to its end"}.get(answer["ended"], answer["ended"])
    return [
        f"{script.name} ({script.origin})",
        ended,
        f"{answer['peak_allocated_bytes'] / _GIB:.4f}",
        f"{reserved / _GIB:.4f}",
        published,
        error,
        f"{answer['seconds']:.0f}",
        f"{answer['host_memory_bytes'] / _MIB:.0f}",
        script.note or answer["error"][:80],
    ]


HEADINGS = [
    "script", "ran", "allocated GiB", "reserved GiB", "published reserved", "error", "seconds", "host MiB", "note",
]  # fmt: skip


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown, with the headings."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scripts and print or write the table; 1 if one gave no answer."""
    parser = argparse.ArgumentParser(prog="python -m validation.scripts", description=__doc__)
    parser.add_argument("--sources", metavar="FOLDER", type=Path, help="other people's scripts, each at its `folder`")
    parser.add_argument("--only", metavar="TEXT", default="", help="scripts whose name contains this")
    parser.add_argument("--work", metavar="FOLDER", type=Path, default=Path("build/scripts"))
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the table as a page")
    flags = parser.parse_args(arguments)
    flags.work.mkdir(parents=True, exist_ok=True)
    console, rows, failed = Console(stderr=True), [], False
    for script in scripts():
        if flags.only not in script.name or (script.origin != "ours" and flags.sources is None):
            continue
        try:
            rows.append(row_of(script, run(script, flags.sources, flags.work)))
        except RuntimeError as error:
            failed = True
            console.print(str(error), markup=False)
        else:
            console.print(" | ".join(rows[-1]), markup=False)
    text = f"{HEAD}\n{table(rows)}"
    if flags.markdown is not None:
        flags.markdown.write_text(text, encoding="utf-8")
    else:
        print(text)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
