"""Advice as plain rows of text."""

from dataclasses import dataclass

from vramcast.plan import Advice, SwitchSaving, Waterfall
from vramcast.units import format_gib
from vramcast.views.rows import VERDICTS

EFFECT_NAMES = {
    "same_mathematics": "leaves the mathematics as it is",
    "changes_numerics": "changes the precision",
    "changes_training": "changes the training",
}


@dataclass(frozen=True, slots=True)
class SavingRow:
    """One switch alone."""

    name: str
    flags: str
    saved: str
    device_used: str
    verdict: str | None
    """The verdict's key; None where the job cannot run with it."""
    flops: str
    """Change of the FLOPs of a step, such as `+33%`."""
    cost: str


@dataclass(frozen=True, slots=True)
class BarRow:
    """One bar of a waterfall."""

    name: str
    flags: str
    device_used: str
    share: float
    """Of the first bar, 0 to 1 (or more)."""
    saved: str
    verdict: str
    flops: str


def advice_line(advice: Advice) -> str:
    """`DOES NOT FIT  device used 25.38 GiB of 24.00 GiB (rtx-3090)`."""
    used, total = format_gib(advice.device_used_bytes), format_gib(advice.gpu_memory_bytes)
    return f"{VERDICTS[advice.verdict]}  device used {used} of {total} ({advice.gpu})"


def saving_rows(advice: Advice) -> dict[str, list[SavingRow]]:
    """Switches by what they change, each group with what saves most first; groups without a switch are left out."""
    groups = {
        title: [_saving_row(advice, switch) for switch in advice.switches if switch.effect == effect]
        for effect, title in EFFECT_NAMES.items()
    }
    return {title: rows for title, rows in groups.items() if rows}


def waterfall_title(waterfall: Waterfall) -> str:
    """What may be changed, and where it ends."""
    allowed = "any switch" if len(waterfall.effects) > 1 else "the mathematics left as it is"
    return f"one after the other, {allowed}: {'fits' if waterfall.fits else 'does not come to fit'}"


def bar_rows(waterfall: Waterfall) -> list[BarRow]:
    """The bars from the job as asked on."""
    first = waterfall.bars[0]
    return [
        BarRow(
            name=bar.name,
            flags=bar.flags,
            device_used=format_gib(bar.device_used_bytes),
            share=bar.device_used_bytes / first.device_used_bytes,
            saved=format_gib(-bar.saved_bytes) if bar.saved_bytes else "",
            verdict=bar.verdict,
            flops=flops_change(bar.flops_per_step, first.flops_per_step),
        )
        for bar in waterfall.bars
    ]


def flops_change(flops: int, before: int) -> str:
    """`+33%`, or nothing where the FLOPs are unchanged or unknown."""
    if not before or flops == before:
        return ""
    return f"{flops / before - 1:+.0%}"


def _saving_row(advice: Advice, switch: SwitchSaving) -> SavingRow:
    if switch.saved_bytes is None or switch.device_used_bytes is None or switch.flops_per_step is None:
        return SavingRow(switch.name, switch.flags, "", "", None, "", f"cannot run: {switch.refusal}")
    return SavingRow(
        name=switch.name,
        flags=switch.flags,
        saved=format_gib(switch.saved_bytes),
        device_used=format_gib(switch.device_used_bytes),
        verdict=switch.verdict,
        flops=flops_change(switch.flops_per_step, advice.flops_per_step),
        cost=switch.cost,
    )
