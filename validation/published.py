"""The published measurements: reading them, and saying why a row is not forecast."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vramcast.units import GB, GIB, MIB

DATA = tuple(Path(__file__).parent / "data" / name for name in ("measured.jsonl", "measured_2.jsonl"))
UNITS = {"GiB": GIB, "MiB": MIB, "GB": GB, "B": 1}
Kind = Literal["allocated", "reserved", "nvidia-smi", "unspecified", "allocated after forward", "outside PyTorch"]
_KINDS: dict[str, Kind] = {
    "max_allocated": "allocated",
    "max_reserved": "reserved",
    "nvidia_smi": "nvidia-smi",
    "nvidia-smi": "nvidia-smi",
    "unspecified": "unspecified",
    "allocated_after_forward": "allocated after forward",
    "outside_pytorch": "outside PyTorch",
}
_NOT_COMPARED: dict[Kind, str] = {
    "allocated after forward": "memory held after forward, no peak: not compared yet",
    "outside PyTorch": "memory outside PyTorch, without a job: what context and NCCL are estimated from, so it tests nothing",
}
_LIGER_PROVIDERS = ("liger", "liger_tiled")
_UNIT_NOTES = (
    r"(?:converted|taken) as (GiB|MiB|GB|B)\b",
    r"^(?:published )?(?:in )?(GiB|MiB|GB|bytes)\b",
    r"printed to [\d.]+ (GiB)\b",
)
"""What a unit note says the figure was converted from, the plainest wording first."""


@dataclass(frozen=True)
class Published:
    """One published point.

    Attributes:
        id: Such as `rasbt-001`.
        kind: Which of the memory figures was published.
        value_bytes: The figure.
        unit: Unit it was published in.
        grade: A: every input of a forecast is stated or readable in the linked script; B: one or two are assumed;
            C: loose.
        fields: The whole row.
    """

    id: str
    kind: Kind
    value_bytes: int
    unit: str
    grade: str
    fields: Mapping[str, Any]

    @property
    def workload(self) -> str:
        """What ran, in the row's own words."""
        return f"{self.fields['workload']}: {self.fields['quote_context']}"

    @property
    def world_size(self) -> int | None:
        """GPUs that took part."""
        size: int | None = self.fields["sharding"]["world_size"]
        return size


def parse_row(fields: Mapping[str, Any]) -> Published:
    """One line of the file.

    Raises:
        ValueError: an unknown metric or unit; the message names the row.
    """
    kind, unit = _KINDS.get(fields["metric"]), _unit(fields["unit_note"])
    if kind is None or unit is None:
        raise ValueError(
            f"{fields['id']}: cannot read metric {fields['metric']!r} with unit note {fields['unit_note']!r}"
        )
    return Published(fields["id"], kind, fields["value_bytes"], unit, fields["completeness"], fields)


def _unit(note: str) -> str | None:
    found = next((match for pattern in _UNIT_NOTES if (match := re.search(pattern, note))), None)
    if found is None:
        return None
    return "B" if found[1] == "bytes" else found[1]


def load_rows(*paths: Path) -> list[Published]:
    """All rows in the order of the files, by default of all that there are.

    Raises:
        ValueError: an id occurs twice.
    """
    paths = paths or DATA
    lines = (line for path in paths for line in path.read_text(encoding="utf-8").splitlines())
    rows = [parse_row(json.loads(line)) for line in lines if line.strip()]
    twice = [id for id, count in Counter(row.id for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"{' and '.join(path.name for path in paths)} hold an id twice: {', '.join(twice)}")
    return rows


def why_not_forecast(row: Published) -> str:
    """Reason for which a row without a workload has none; the first that applies."""
    fields = row.fields
    return (
        _NOT_COMPARED.get(row.kind)
        or _grade(row)
        or _engine(fields)
        or _numbers(fields)
        or _code(fields)
        or _several(row)
        or "no workload is written for it yet"
    )


def _grade(row: Published) -> str | None:
    if row.grade == "A":
        return None
    return f"graded {row.grade}: the source leaves inputs open that a forecast needs"


def _engine(fields: Mapping[str, Any]) -> str | None:
    if fields["sharding"]["type"].startswith("zero"):
        return "DeepSpeed ZeRO: flat buffers and buckets of an engine that is not run here"
    return None


def _numbers(fields: Mapping[str, Any]) -> str | None:
    described = f"{fields['weight_dtype']} {fields['optimizer']}".lower()
    if "bnb" in described or "bitsandbytes" in described or "nf4" in described:
        return "bitsandbytes: packed weights or 8-bit states made by kernels of their own"
    if any(word in described for word in ("int4", "int8", "float8")):
        return "quantised weights: packed by kernels of torchao"
    return None


def _code(fields: Mapping[str, Any]) -> str | None:
    if fields["compile"] not in (False, "unknown"):
        return "torch.compile: the compiler decides what is kept and reuses buffers"
    if (fields["extra"] or {}).get("provider") in _LIGER_PROVIDERS:
        return "Triton kernels of Liger: their buffers are no PyTorch operators"
    if fields["workload"] == "kernel" and fields["quote_context"].startswith("cce "):
        return "Triton kernels of Cut Cross-Entropy: their buffers are no PyTorch operators"
    return None


def _several(row: Published) -> str | None:
    if row.world_size == 1:
        return None
    return f"no workload is written for it yet: several GPUs ({row.fields['sharding']['type']})"
