"""Flash attention's forward: into how many parts it splits the keys, and what the parts take.

Shapes: B batch, H query heads, T queries, S keys, D head dim.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING

from vramcast.kernels.arithmetic import ceil_divide, round_up, where
from vramcast.kernels.scratch_registry import scratch_rule

if TYPE_CHECKING:
    from vramcast.kernels.arithmetic import Integers

FP32_BYTES = 4
QUERY_BLOCK = 64
MOST_SPLITS = 128
WAVES_PER_MULTIPROCESSOR = 2
"""Blocks of 128 threads that run at once on a multiprocessor."""
NARROW_HEAD, MIDDLE_HEAD = 64, 128
_FLOAT32 = Struct("f")


@scratch_rule("flash_attention_forward")
def flash_forward_buffers(
    *,
    batch_size: Integers,
    query_length: Integers,
    key_length: Integers,
    num_heads: Integers,
    head_dim: Integers,
    multiprocessors: Integers,
) -> tuple[Integers, ...]:
    """Row sums and results of each part of the keys; nothing where the keys are not split.

    Shapes: softmax_lse_accum fp32 [parts, B, H, T], out_accum fp32 [parts, B, H, T, D'] with D' = D rounded up to 32 (64 above 128).
    It holds without dropout, with which the kernel never splits.

    Source: `set_params_splitkv` in `aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp`.
    """
    key_block = where(head_dim <= NARROW_HEAD, 256, where(head_dim <= MIDDLE_HEAD, 128, 64))
    parts = key_parts(
        batch_size * num_heads * ceil_divide(query_length, QUERY_BLOCK),
        WAVES_PER_MULTIPROCESSOR * multiprocessors,
        ceil_divide(key_length, key_block),
    )
    rows = where(parts > 1, parts, 0) * batch_size * num_heads * query_length
    rounded_head = round_up(head_dim, where(head_dim <= MIDDLE_HEAD, 32, 64))
    return FP32_BYTES * rows, FP32_BYTES * rows * rounded_head


def key_parts(query_blocks: Integers, places: Integers, key_blocks: Integers) -> Integers:
    """Into how many parts the keys are split, so that too few blocks of queries still occupy the whole card.

    Args:
        query_blocks: blocks of queries of all heads and sequences.
        places: blocks that run at once.
        key_blocks: blocks of keys of one head.
    """
    if isinstance(query_blocks, int) and isinstance(places, int) and isinstance(key_blocks, int):
        return _key_parts(query_blocks, places, key_blocks)
    import numpy as np

    cases = np.stack(np.broadcast_arrays(query_blocks, places, key_blocks)).astype(np.int64)
    parts = np.ones(cases.shape[1:], dtype=np.int64)
    # Of a grid only the small cells may split, and many of them are alike.
    may_split = (cases[0] < cases[1]) & (cases[2] > 1)
    distinct, which = np.unique(cases[:, may_split], axis=1, return_inverse=True)
    found = [_key_parts(*case) for case in distinct.T.tolist()]
    parts[may_split] = np.array(found, dtype=np.int64)[which.reshape(-1)]
    return parts


@lru_cache(maxsize=1 << 14)
def _key_parts(query_blocks: int, places: int, key_blocks: int) -> int:
    """The fewest parts that come within 85 % of the best occupancy, in the float32 that PyTorch reckons with.

    Source: `num_splits_heuristic` in `flash_api.cpp`.
    """
    if not query_blocks or query_blocks >= _float32(_float32(0.8) * places):
        return 1
    efficiency = {
        parts: _occupancy(query_blocks * parts, places)
        for parts in range(1, max(min(MOST_SPLITS, places, key_blocks), 1) + 1)
        # As many parts as leave each the same number of blocks as one part fewer would: one of them is empty.
        if parts == 1 or ceil_divide(key_blocks, parts) != ceil_divide(key_blocks, parts - 1)
    }
    enough = 0.85 * max(efficiency.values())
    return next(parts for parts, share in efficiency.items() if share >= enough)


def _occupancy(blocks: int, places: int) -> float:
    """Share of the places that are taken, on the average of all waves."""
    waves = _float32(blocks / places)
    return _float32(waves / -(-waves // 1))


def _float32(value: float) -> float:
    """The nearest number of single precision; of a quotient of two such numbers that is what a division in float32 gives."""
    nearest: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
    return nearest
