"""`vramcast explain`: where each byte of a training job comes from."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vramcast.cli.parameters import EXIT_DONE, JsonFlag, ModelArgument, OfflineFlag
from vramcast.cli.showing import print_json, progress_on_terminal
from vramcast.errors import InputError
from vramcast.explain import Explanation, Guides, explain_model, guides
from vramcast.job import TrainingOptions

DEEPEST = 100


def explain(
    model: ModelArgument,
    /,
    *,
    options: Annotated[TrainingOptions, Parameter(name="*")] = TrainingOptions(),  # noqa: B008  (frozen)
    depth: Annotated[
        int | None, Parameter(help="Levels of the tree that are shown: 1 is categories.", show_default=False)
    ] = None,
    textbook: Annotated[
        bool, Parameter(negative="", help="Every document of the textbook too, and why fp16 saves so little.")
    ] = False,
    json: JsonFlag = False,
    markdown: Annotated[
        Path | None, Parameter(help="Write the explanation to this file as markdown instead of printing it.")
    ] = None,
    offline: OfflineFlag = False,
) -> int:
    """Where each byte of training MODEL comes from: live tensors at the peak, the formula, switches, textbook beside truth."""
    _check(depth, json, markdown)
    fields = {name: getattr(options, name) for name in sorted(options.model_fields_set)}
    with progress_on_terminal() as progress:
        explanation = explain_model(model, offline=offline, progress=progress, **fields)
        documents = guides(progress) if textbook else None
    if json:
        print_json({**explanation.to_dict(), **({} if documents is None else documents.to_dict())})
    elif markdown is not None:
        _write(markdown, explanation, documents, depth)
    else:
        _print(explanation, documents, depth)
    return EXIT_DONE


def _check(depth: int | None, json: bool, markdown: Path | None) -> None:
    """Flags that go together.

    Raises:
        InputError: they do not, or one is out of range.
    """
    if depth is not None and not 1 <= depth <= DEEPEST:
        raise InputError("--depth", depth, f"write a whole number from 1 to {DEEPEST}")
    if json and markdown is not None:
        raise InputError("--markdown", str(markdown), "choose one of --json and --markdown")
    if markdown is not None and not markdown.parent.is_dir():
        raise InputError("--markdown", str(markdown), f"there is no folder {markdown.parent}")


def _print(explanation: Explanation, documents: Guides | None, depth: int | None) -> None:
    from rich.console import Console

    from vramcast.views.explain_rows import DEFAULT_DEPTH
    from vramcast.views.explain_terminal import print_explanation, print_guides

    console = Console()
    print_explanation(explanation, console, depth or DEFAULT_DEPTH)
    if documents is not None:
        print_guides(documents, console)


def _write(path: Path, explanation: Explanation, documents: Guides | None, depth: int | None) -> None:
    from vramcast.views.explain_markdown import explanation_markdown, guides_markdown
    from vramcast.views.explain_rows import DEFAULT_DEPTH

    text = explanation_markdown(explanation, depth or DEFAULT_DEPTH)
    if documents is not None:
        text += "\n" + guides_markdown(documents)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError("--markdown", str(path), f"cannot be written: {error.strerror}") from error
    print(path)
