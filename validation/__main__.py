"""Command line: forecast every published row that has a workload, and show both figures side by side."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from validation import compare_records
from validation.markdown import to_markdown
from validation.published import Published, load_rows
from validation.report import print_report, split_rows, to_dict
from validation.running import PROCESSES, Comparison, run_all
from validation.safety import all_judged, missed_safety
from validation.summary import missed_bars
from validation.workloads import Workload, discover

BAD_INPUT = 2
RECORDS = Path(__file__).parent / "records"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Flags of `python -m validation`."""
    parser = argparse.ArgumentParser(prog="python -m validation", description=__doc__)
    parser.add_argument(
        "--only", metavar="PREFIX", default="", help="rows whose id begins so, such as rasbt or liger-03"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report as JSON too")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the report as a page too")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar of accuracy or safety is missed")
    parser.add_argument(
        "--processes", metavar="N", type=int, default=PROCESSES, help="workloads at a time (default %(default)s)"
    )
    parser.add_argument(
        "--records",
        metavar="FOLDER",
        type=Path,
        nargs="?",
        const=RECORDS,
        help="compare the records of the GPU campaign instead (default folder: validation/records)",
    )
    return parser.parse_args(arguments)


def run_with_progress(
    console: Console, rows: Sequence[Published], workloads: dict[str, Workload], processes: int
) -> list[Comparison]:
    """All comparisons in the order of the rows."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    done: dict[str, Comparison] = {}
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("forecasting", total=len(rows))
        for comparison in run_all(rows, workloads, processes):
            done[comparison.published.id] = comparison
            progress.update(task, advance=1, description=f"{comparison.published.id} done")
    return [done[row.id] for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and answer the exit code."""
    flags = parse_arguments(arguments)
    if flags.records is not None:
        return compare_records.main([str(flags.records)])
    console, progress_console = Console(), Console(stderr=True)
    workloads = discover()
    rows, excluded = split_rows(load_rows(), workloads)
    rows = [row for row in rows if row.id.startswith(flags.only)]
    excluded = [(row, reason) for row, reason in excluded if row.id.startswith(flags.only)]
    if not rows and not excluded:
        progress_console.print(f"--only={flags.only!r}: no row begins so; see validation/data/*.jsonl for the ids")
        return BAD_INPUT
    comparisons = run_with_progress(progress_console, rows, workloads, flags.processes)
    print_report(console, comparisons, excluded)
    if flags.json is not None:
        flags.json.write_text(json.dumps(to_dict(comparisons, excluded), indent=2) + "\n", encoding="utf-8")
    if flags.markdown is not None:
        flags.markdown.write_text(to_markdown(to_dict(comparisons, excluded)), encoding="utf-8")
    missed = [*missed_bars(comparisons), *missed_safety(all_judged(comparisons))] if flags.check else []
    for sentence in missed:
        progress_console.print(f"[red]{sentence}[/]")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
