"""The guides' formulas and tables, each figure beside the truth that vramcast forecasts, with the reason they differ."""

from vramcast.textbook.claim import Claim, computed_claim, format_value, parse_claim
from vramcast.textbook.compare import Answer, compare, forecast_answer
from vramcast.textbook.document import Document
from vramcast.textbook.documents import all_documents, documents
from vramcast.textbook.figure import TextbookFigure, TextbookRow
from vramcast.textbook.formula import Formula
from vramcast.textbook.half_precision import ActivationGrowth, HalfPrecisionAnswer, PrecisionRow, why_fp16_saves_little
from vramcast.textbook.half_precision_tensors import KeptTensors, half_precision_tensors, kept_for_backward
from vramcast.textbook.model_textbook import ModelTextbook, NotApplicable, for_model

__all__ = [
    "ActivationGrowth",
    "Answer",
    "Claim",
    "Document",
    "Formula",
    "HalfPrecisionAnswer",
    "KeptTensors",
    "ModelTextbook",
    "NotApplicable",
    "PrecisionRow",
    "TextbookFigure",
    "TextbookRow",
    "all_documents",
    "compare",
    "computed_claim",
    "documents",
    "for_model",
    "forecast_answer",
    "format_value",
    "half_precision_tensors",
    "kept_for_backward",
    "parse_claim",
    "why_fp16_saves_little",
]
