"""Tapes of an older form: they lack buffers that were not modelled when they were recorded."""

from __future__ import annotations

from vramcast.tapes.tape import AttentionGuard, ScratchSize, Tape

FLASH_FORWARD = "flash_attention_forward"


def missing_rule(tape: Tape) -> str | None:
    """The scratch rule that a recording of the same job would have today and this tape has not; None where it has all."""
    if not any(map(_takes_flash_forward, tape.attention)):
        return None
    has_rule = any(isinstance(size, ScratchSize) and size.rule == FLASH_FORWARD for size in tape.sizes)
    return None if has_rule else FLASH_FORWARD


def _takes_flash_forward(guard: AttentionGuard) -> bool:
    """As `virtual_cuda/scratch/attention.py` has it: without dropout, and for more than one query."""
    call = guard.choice.call
    return guard.choice.backend == "flash" and call.dropout == 0 and call.query_length > 1
