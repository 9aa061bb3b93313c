"""Rows of the textbook as plain data for JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vramcast.textbook import HalfPrecisionAnswer, KeptTensors, ModelTextbook, TextbookRow


def textbook_json(book: ModelTextbook) -> list[dict[str, Any]]:
    """Every formula at the sizes of a job beside its forecast."""
    return rows_json(book.rows)


def rows_json(rows: Iterable[TextbookRow]) -> list[dict[str, Any]]:
    """Claim and truth in the base unit that each row names."""
    return [
        {
            "document": row.figure.document,
            "section": row.figure.section,
            "name": row.figure.name,
            "formula": row.figure.formula_text,
            "unit": row.unit,
            "claimed": row.claimed_value,
            "true": row.true_value,
            "error": row.error,
            "holds": row.holds,
            "departures": list(row.departures),
            "reason": row.reason,
        }
        for row in rows
    ]


def half_precision_json(answer: HalfPrecisionAnswer, tensors: Iterable[KeptTensors]) -> dict[str, Any]:
    """Why fp16 saves little, in bytes."""
    return {
        "sentence": answer.sentence,
        "rows": [
            {
                "batch_size": row.batch_size,
                "category": row.category,
                "fp32_bytes": row.fp32_bytes,
                "fp16_bytes": row.fp16_bytes,
            }
            for row in answer.rows
        ],
        "kept_for_backward": [
            {
                "operator": row.operator,
                "dtype": row.dtype,
                "fp32_bytes": row.fp32_bytes,
                "fp16_bytes": row.fp16_bytes,
            }
            for row in tensors
        ],
    }
