"""The published measurements: reading them, and saying why a row is not forecast."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vramcast.units import GB, GIB, MIB

DATA = Path(__file__).parent / "data" / "measured.jsonl"
UNITS = {"GiB": GIB, "MiB": MIB, "GB": GB, "B": 1}
Kind = Literal["allocated", "reserved", "nvidia-smi", "unspecified"]
_KINDS: dict[str, Kind] = {
    "max_allocated": "allocated",
    "max_reserved": "reserved",
    "nvidia_smi": "nvidia-smi",
    "unspecified": "unspecified",
}
_PLAIN_KERNEL_PROVIDERS = ("huggingface", "torch")


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
    kind = _KINDS.get(fields["metric"])
    unit = re.search(r"converted as (\w+)", fields["unit_note"])
    if kind is None or unit is None or unit.group(1) not in UNITS:
        raise ValueError(
            f"{fields['id']}: cannot read metric {fields['metric']!r} with unit note {fields['unit_note']!r}"
        )
    return Published(fields["id"], kind, fields["value_bytes"], unit.group(1), fields["completeness"], fields)


def load_rows(path: Path = DATA) -> list[Published]:
    """All rows in the order of the file.

    Raises:
        ValueError: an id occurs twice.
    """
    with path.open(encoding="utf-8") as lines:
        rows = [parse_row(json.loads(line)) for line in lines if line.strip()]
    if len({row.id for row in rows}) != len(rows):
        raise ValueError(f"{path} holds an id twice")
    return rows


def why_not_forecast(row: Published) -> str:
    """Reason for which a row without a workload has none; the first that applies."""
    fields = row.fields
    return (
        _grade(row)
        or _sharding(row, fields["sharding"]["type"])
        or _numbers(fields)
        or _code(fields)
        or "no workload is written for it yet"
    )


def _grade(row: Published) -> str | None:
    if row.grade == "A":
        return None
    return f"graded {row.grade}: the source leaves inputs open that a forecast needs"


def _sharding(row: Published, kind: str) -> str | None:
    if kind.startswith("zero"):
        return "DeepSpeed ZeRO: flat buffers and buckets of an engine that is not run here"
    if row.world_size != 1:
        return f"several GPUs ({kind}, {row.world_size})"
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
    provider = (fields["extra"] or {}).get("provider")
    if provider is not None and provider not in _PLAIN_KERNEL_PROVIDERS:
        return "Triton kernels of Liger: their buffers are no PyTorch operators"
    if fields["workload"] == "kernel" and "cce loss" in fields["quote_context"]:
        return "Triton kernels of Cut Cross-Entropy: their buffers are no PyTorch operators"
    return None
