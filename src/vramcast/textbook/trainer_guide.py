"""Formulas and tables of the memory guide of a GPT trainer: training and generation, batch and block sizes, which GPU to take."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from vramcast.forecast.answer import resolve_gpu
from vramcast.hardware import GPU
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import load_model
from vramcast.textbook.claim import Claim, parse_claim
from vramcast.textbook.document import Document, read_document, read_table
from vramcast.textbook.figure import Job, TextbookFigure
from vramcast.units import GIB

NAME = "trainer_guide"
BATCH_WITHOUT_CONFIG = 1


def weight_bytes(*, num_parameters: int, bytes_per_value: int) -> int:
    """One value for each parameter."""
    return num_parameters * bytes_per_value


def gradient_bytes(*, num_parameters: int, bytes_per_value: int) -> int:
    """One value for each parameter."""
    return num_parameters * bytes_per_value


def optimizer_bytes(*, num_parameters: int, bytes_per_value: int) -> int:
    """Momentum and variance of each parameter."""
    return 2 * num_parameters * bytes_per_value


def static_bytes(*, num_parameters: int, bytes_per_value: int) -> int:
    """The "4x" of the guide: weights, gradients and two optimizer states."""
    return 4 * num_parameters * bytes_per_value


def attention_scores(*, batch_size: int, num_attention_heads: int, sequence_length: int) -> int:
    """Values of one layer's scores [B, H, T, T]."""
    return batch_size * num_attention_heads * sequence_length**2


def activation_scale(*, batch_size: int, sequence_length: int, num_hidden_layers: int, hidden_size: int) -> int:
    """What activations are said to grow with: B x T^2 x L x E."""
    return batch_size * sequence_length**2 * num_hidden_layers * hidden_size


@cache
def trainer_guide() -> Document:
    """The document with its figures and every row of its tables."""
    functions = (weight_bytes, gradient_bytes, optimizer_bytes, static_bytes, attention_scores, activation_scale)
    document = read_document(NAME, functions)
    tables = read_table(NAME)
    rows = [*_memory_tables(tables), *_gpu_tables(tables)]
    return replace(document, figures=(*document.figures, *rows))


def _memory_tables(tables: dict[str, Any]) -> Iterator[TextbookFigure]:
    """Training memory, generation memory and their ratio, for every row of every table."""
    for table in tables["memory_tables"]:
        for row in table["rows"]:
            training, generation = _training_job(row), _generation_job(row)
            label = row.get("label", row["model"])
            yield _figure(table, f"{label}: training", row["training"], training, table["training_reason"])
            yield _figure(table, f"{label}: generation", row["generation"], generation, table["generation_reason"])
            if "ratio" in row:
                ratio = _figure(table, f"{label}: ratio", row["ratio"], training, table["ratio_reason"])
                yield replace(ratio, relation="ratio", second_job=generation)


def _gpu_tables(tables: dict[str, Any]) -> Iterator[TextbookFigure]:
    """Whether the job of each goal fits the card named as minimum and the one named as better."""
    for table in tables["gpu_tables"]:
        for row in table["rows"]:
            for column in ("minimum", "better"):
                yield _card_figure(table, row, column, tables["cards"])


def _card_figure(table: dict[str, Any], row: dict[str, Any], column: str, cards: dict[str, Any]) -> TextbookFigure:
    text, name = row[column], f"{row['goal']}: {table[column]} GPU"
    if "model" not in row:
        return _figure(table, name, Claim(text, 0, 0, "bytes"), None, "the guide names no model for it")
    gpu = _card(cards[text])
    settings = {"gpu": cards[text]["gpu"], "gpu_memory": cards[text].get("gpu_memory")}
    job = _training_job(row, **settings) if table["workload"] == "training" else _generation_job(row, **settings)
    notes = [table["reason"], cards[text].get("note", "")]
    if column == "better" and _whole_gib(gpu) < _whole_gib(_card(cards[row["minimum"]])):
        notes.append(f"the guide's {table['better']} card has less memory than its minimum")
    claim = Claim(text, 0, gpu.memory_total_bytes, "bytes")
    return replace(_figure(table, name, claim, job, "; ".join(filter(None, notes))), relation="fits")


def _card(entry: dict[str, Any]) -> GPU:
    return resolve_gpu(entry["gpu"], entry.get("gpu_memory"))


def _whole_gib(gpu: GPU) -> int:
    # Two cards of one size on the box differ by a few MiB in what their drivers report.
    return round(gpu.memory_total_bytes / GIB)


def _training_job(row: dict[str, Any], **settings: Any) -> TrainingJob:
    """The configuration's own batch and block size unless the row names others."""
    config = load_model(row["model"], offline=True)
    return TrainingJob(
        model=row["model"],
        batch_size=row.get("batch_size", config.fields.get("batch_size", BATCH_WITHOUT_CONFIG)),
        sequence_length=row.get("sequence_length", config.dimensions.context_length),
        **settings,
    )


def _generation_job(row: dict[str, Any], **settings: Any) -> GenerationJob:
    """One sequence that fills the block: half of it prompt, half of it new."""
    length = row.get("sequence_length", load_model(row["model"], offline=True).dimensions.context_length)
    return GenerationJob(
        model=row["model"],
        prompt_length=length // 2,
        max_new_tokens=length - length // 2,
        precision="fp32",
        **settings,
    )


def _figure(table: dict[str, Any], name: str, claim: str | Claim, job: Job | None, reason: str) -> TextbookFigure:
    return TextbookFigure(
        document=NAME,
        section=table["section"],
        name=name,
        claim=parse_claim(claim) if isinstance(claim, str) else claim,
        claimed_for=job,
        quantity="device_used",
        reason=" ".join(reason.split()),
    )
