"""Command line: random training jobs, each answered by its tape and by a trace at full size, which must be equal.

`python -m validation.tape_equality --cases 300 --seed 1` draws them; `--case ID` repeats one.
"""

import argparse
import json
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from validation.tape_equality_cases import Case, case_of, drawn_groups, family_names, real_cases
from validation.tape_equality_compare import OUTCOMES, Result, compare

PROCESSES = 2
HEAD = """# Tapes against traces

Random training jobs over the model families of the presets, each answered twice: by a tape, recorded at small dimensions
and bound to the job's, and by running the model's own code at full size. Compared are every event, every allocation, every
operator and the forecasts made of them; equal means equal to the byte. A job without a tape is traced, and says why.
Written by `python -m validation.tape_equality --markdown FILE`.
"""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Flags of `python -m validation.tape_equality`."""
    parser = argparse.ArgumentParser(prog="python -m validation.tape_equality", description=__doc__)
    parser.add_argument("--cases", metavar="N", type=int, default=60, help="jobs to draw (default %(default)s)")
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="of the draw (default %(default)s)")
    parser.add_argument("--only", metavar="FAMILY", default="", help=f"one of {', '.join(family_names())}")
    parser.add_argument("--case", metavar="ID", help="repeat one case")
    parser.add_argument(
        "--real-sizes", action="store_true", help="real models at jobs people run, instead of random ones"
    )
    parser.add_argument(
        "--processes", metavar="N", type=int, default=PROCESSES, help="cases at a time (default %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every case as JSON")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the counts as a page")
    return parser.parse_args(arguments)


def groups_of(flags: argparse.Namespace) -> list[list[Case]]:
    """The cases asked for, those together that may share a tape."""
    if flags.case is not None:
        return [[case_of(flags.case)]]
    if flags.real_sizes:
        return [[case] for case in real_cases()]
    return list(drawn_groups(flags.seed, flags.cases, flags.only))


def compare_group(group: list[Case]) -> list[Result]:
    """Every case of a group, in this process."""
    return [compare(case) for case in group]


def compare_all(groups: Sequence[list[Case]], processes: int) -> Iterator[list[Result]]:
    """Results group by group, in the order in which they finish."""
    if processes == 1 or len(groups) == 1:
        yield from map(compare_group, groups)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vramcast.virtual_cuda", "validation.tape_equality_compare"])
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for future in as_completed([pool.submit(compare_group, group) for group in groups]):
            yield future.result()


def counts_by_family(results: Sequence[Result]) -> dict[str, Counter[str]]:
    """Family -> how many cases came out how."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        counts.setdefault(result.family, Counter())[result.outcome] += 1
    return dict(sorted(counts.items()))


def to_markdown(results: Sequence[Result]) -> str:
    """The page of a run."""
    lines = [HEAD, f"| family | {' | '.join(OUTCOMES)} |", "|---|" + "---|" * len(OUTCOMES)]
    for family, counts in counts_by_family(results).items():
        lines.append(f"| {family} | {' | '.join(str(counts[outcome]) for outcome in OUTCOMES)} |")
    total = Counter(result.outcome for result in results)
    lines.append(f"| all | {' | '.join(str(total[outcome]) for outcome in OUTCOMES)} |")
    for outcome in OUTCOMES[1:]:
        if total[outcome]:
            lines += ["", f"## {outcome}", ""]
            lines += [f"- {result.id}: {result.reason}" for result in results if result.outcome == outcome]
    return "\n".join(lines) + "\n"


def to_json(results: Sequence[Result]) -> dict[str, Any]:
    """Every case of a run as plain data."""
    return {
        "counts": Counter(result.outcome for result in results),
        "cases": [result.to_dict() for result in results],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and answer the exit code: 1 where a tape differs from its trace."""
    flags = parse_arguments(arguments)
    console = Console(stderr=True)
    try:
        groups = groups_of(flags)
    except ValueError as error:
        console.print(str(error))
        return 2
    results: list[Result] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("comparing", total=sum(len(group) for group in groups))
        for found in compare_all(groups, flags.processes):
            results += found
            if flags.json is not None:  # a long run that is stopped keeps what it found
                flags.json.write_text(json.dumps(to_json(results), indent=1) + "\n", encoding="utf-8")
            progress.update(task, advance=len(found))
            for result in found:
                if result.outcome in ("different", "failed"):
                    progress.console.print(f"{result.id}: {result.outcome}: {result.reason}", markup=False)
    results.sort(key=lambda result: result.id)
    print(to_markdown(results).removeprefix(HEAD).strip())
    if flags.markdown is not None:
        flags.markdown.write_text(to_markdown(results), encoding="utf-8")
    return 1 if any(result.outcome in ("different", "failed") for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
