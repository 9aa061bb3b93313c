"""A document: its formulas and its figures, read from the TOML file beside the functions."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import resources
from typing import Any, get_args

from vramcast.errors import VramcastError
from vramcast.job import GenerationJob, TrainingJob
from vramcast.job.checking import checked_job
from vramcast.textbook.assumptions import ASSUMPTIONS
from vramcast.textbook.claim import Unit, computed_claim, parse_claim
from vramcast.textbook.figure import Job, Relation, TextbookFigure
from vramcast.textbook.formula import Formula, FormulaFunction
from vramcast.textbook.quantity import QUANTITIES
from vramcast.textbook.sizes import bytes_per_value

_FIGURE_KEYS = {
    "section", "name", "printed", "formula", "arguments", "job", "second_job", "quantity", "relation", "reason",
    "scale", "measured", "arithmetic_note",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """One guide of the textbook."""

    name: str
    title: str
    source: str
    formulas: tuple[Formula, ...]
    figures: tuple[TextbookFigure, ...]

    def formula(self, name: str) -> Formula:
        """Its formula of that name."""
        return next(formula for formula in self.formulas if formula.name == name)


def read_table(name: str) -> dict[str, Any]:
    """The data file of a document."""
    text = resources.files("vramcast.textbook").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def read_document(name: str, functions: Sequence[FormulaFunction]) -> Document:
    """The document whose data file is `<name>.toml` and whose formulas are `functions`.

    Raises:
        VramcastError: file and functions do not name the same formulas, or an entry has a wrong word.
    """
    table = read_table(name)
    known = {function.__name__: function for function in functions}
    if known.keys() != table["formulas"].keys():
        odd = ", ".join(sorted(known.keys() ^ table["formulas"].keys()))
        raise VramcastError(f"{name}.toml: formulas without a function, or functions without an entry: {odd}")
    formulas = {key: _formula(name, key, known[key], entry) for key, entry in table["formulas"].items()}
    figures = tuple(read_figure(name, entry, formulas) for entry in table.get("figures", ()))
    return Document(name, table["title"], table["source"], tuple(formulas.values()), figures)


def read_figure(document: str, entry: dict[str, Any], formulas: dict[str, Formula]) -> TextbookFigure:
    """A figure from its entry in the data file; what it leaves out is that of its formula."""
    odd = entry.keys() - _FIGURE_KEYS
    if odd:
        raise VramcastError(f"{document}.toml, {entry.get('name')!r}: unknown keys {', '.join(sorted(odd))}")
    formula = formulas[entry["formula"]] if "formula" in entry else None
    value = None if formula is None else formula.evaluate(entry["arguments"])
    if "printed" in entry:
        claim = parse_claim(entry["printed"])
    elif formula is not None and value is not None:
        claim = computed_claim(value, formula.unit)
    else:
        raise VramcastError(f"{document}.toml, {entry['name']!r}: neither a printed figure nor a formula")
    job = read_job(entry["job"]) if "job" in entry else None
    quantity = entry.get("quantity") or (formula.quantity if formula else None)
    return TextbookFigure(
        document=document,
        section=entry["section"],
        name=entry["name"],
        claim=claim,
        claimed_for=job,
        quantity=_word(document, quantity, QUANTITIES),
        reason=_one_line(entry.get("reason") or (formula.reason if formula else "")),
        formula_text=formula.text if formula else "",
        formula_value=value,
        arithmetic_note=_one_line(entry.get("arithmetic_note", "")),
        measured=entry.get("measured", False),
        relation=_word(document, entry.get("relation", "alone"), get_args(Relation)),
        second_job=read_job(entry["second_job"]) if "second_job" in entry else None,
        scale=_scale(entry, formula, job),
    )


def read_job(entry: dict[str, Any]) -> Job:
    """A job from its entry: `workload` and the fields of a job; a model that ends in .json is a file of this folder."""
    fields = {key: value for key, value in entry.items() if key != "workload"}
    if fields["model"].endswith(".json"):
        fields["model"] = str(resources.files("vramcast.textbook").joinpath(fields["model"]))
    if entry["workload"] == "training":
        return checked_job(TrainingJob, fields)
    return checked_job(GenerationJob, fields)


def _scale(entry: dict[str, Any], formula: Formula | None, job: Job | None) -> Fraction:
    if "scale" in entry:
        return Fraction(entry["scale"])
    if formula is None or job is None or entry.get("quantity", formula.quantity) != formula.quantity:
        return Fraction(1)
    return formula.truth_scale(bytes_per_value(job))


def _formula(document: str, name: str, function: FormulaFunction, entry: dict[str, Any]) -> Formula:
    return Formula(
        document=document,
        name=name,
        text=entry["text"],
        unit=_word(document, entry["unit"], get_args(Unit)),
        quantity=_word(document, entry["quantity"], QUANTITIES),
        workloads=tuple(entry["workloads"]),
        assumes=tuple(_word(document, word, ASSUMPTIONS) for word in entry.get("assumes", ())),
        reason=_one_line(entry["reason"]),
        function=function,
        scale=Fraction(entry.get("scale", "1")),
        in_values=entry.get("in_values", False),
        per_sequence=entry.get("per_sequence", False),
    )


def _word(document: str, word: Any, known: Sequence[str]) -> Any:
    if word not in known:
        raise VramcastError(f"{document}.toml: {word!r} is none of {', '.join(known)}")
    return word


def _one_line(text: str) -> str:
    return " ".join(text.split())
