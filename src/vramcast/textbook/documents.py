"""All documents of the textbook, each figure beside the truth."""

from functools import cache

from vramcast.progress import Progress
from vramcast.textbook.activation_ratio import activation_ratio
from vramcast.textbook.adamw_account import adamw_account
from vramcast.textbook.compare import Answer, compare, forecast_answer, remembering
from vramcast.textbook.document import Document
from vramcast.textbook.figure import TextbookRow
from vramcast.textbook.gpt2_requirements import gpt2_requirements
from vramcast.textbook.trainer_guide import trainer_guide
from vramcast.textbook.transformer_memory_calculator import transformer_memory_calculator


@cache
def all_documents() -> tuple[Document, ...]:
    """The five documents, in the order of what they explain."""
    return (
        gpt2_requirements(),
        transformer_memory_calculator(),
        trainer_guide(),
        activation_ratio(),
        adamw_account(),
    )


def documents(
    *, answer: Answer | None = None, progress: Progress | None = None, offline: bool = True
) -> tuple[TextbookRow, ...]:
    """Every figure of every document beside the truth: about a hundred jobs, a few minutes where each is traced.

    Args:
        answer: where the truth comes from; the real forecasts if not given. Each job is asked for once.
        progress: told of every figure.
        offline: the documents' models are presets, so the Hub is not needed.

    Raises:
        MissingExtraError: the forecasts need torch, which is not installed.
    """
    remembered = forecast_answer(offline=offline) if answer is None else remembering(answer)
    figures = [figure for document in all_documents() for figure in document.figures]
    rows = []
    for done, figure in enumerate(figures):
        if progress is not None:
            progress("textbook beside truth", done, len(figures))
        rows.append(compare(figure, remembered))
    if progress is not None:
        progress("textbook beside truth", len(figures), len(figures))
    return tuple(rows)
