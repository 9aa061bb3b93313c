"""The parts that flash attention's forward splits the keys into: worked by hand, and against PyTorch's steps in float32."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.kernels.split_keys import MOST_SPLITS, flash_forward_buffers, key_parts

H100, RTX_3060 = 132, 28
GPT2 = {"batch_size": 1, "query_length": 1024, "key_length": 1024, "num_heads": 12, "head_dim": 64}
F32 = np.float32


def parts_in_float32(query_blocks: int, places: int, key_blocks: int) -> int:
    """The steps of `num_splits_heuristic`, one after the other, in numpy's float32."""
    if F32(query_blocks) >= F32(0.8) * F32(places):
        return 1
    efficiencies, best = [F32(0)], F32(0)
    for parts in range(1, min(MOST_SPLITS, places, key_blocks) + 1):
        blocks_of_a_part = -(-key_blocks // parts)
        if parts > 1 and blocks_of_a_part == -(-key_blocks // (parts - 1)):
            efficiencies.append(F32(-1))
            continue
        waves = F32(query_blocks * parts) / F32(places)
        efficiencies.append(waves / np.ceil(waves))
        best = max(best, efficiencies[-1])
    for parts in range(1, len(efficiencies)):
        if float(efficiencies[parts]) >= 0.85 * float(best):
            return parts
    return 1


def test_gpt2_of_one_sequence_on_an_h100() -> None:
    """12 heads x 16 blocks of queries are 192 of 264 places; 4 blocks of keys of 256.

    Occupancy of 1, 2 and 4 parts: 0.727, 1.45/2 and 2.91/3 = 0.970, of which 85 % are 0.824. 3 parts are 2 with one left empty.
    lse 4 * 4 * 12 * 1024, out 4 * 4 * 12 * 1024 * 64.
    """
    assert key_parts(192, 264, 4) == 4
    assert flash_forward_buffers(**GPT2, multiprocessors=H100) == (196_608, 12_582_912)


@pytest.mark.parametrize(
    ("changes", "multiprocessors"),
    [
        ({"batch_size": 8}, H100),  # 1536 blocks on 264 places
        ({}, RTX_3060),  # 192 blocks on 56 places
        ({"key_length": 256}, H100),  # a single block of keys
        ({"query_length": 0}, H100),
    ],
)
def test_keys_are_left_whole_where_nothing_is_to_be_gained(changes: dict[str, int], multiprocessors: int) -> None:
    assert flash_forward_buffers(**{**GPT2, **changes}, multiprocessors=multiprocessors) == (0, 0)


@pytest.mark.parametrize(
    ("head_dim", "parts", "rounded"), [(64, 2, 64), (72, 4, 96), (128, 4, 128), (136, 8, 192), (256, 8, 256)]
)
def test_wide_heads_have_small_blocks_of_keys(head_dim: int, parts: int, rounded: int) -> None:
    """8 blocks of queries on 264 places take as many parts as there are: 512 keys in blocks of 256, 128 and 64."""
    sizes = {"batch_size": 1, "query_length": 64, "key_length": 512, "num_heads": 8, "head_dim": head_dim}
    rows = parts * 8 * 64
    assert flash_forward_buffers(**sizes, multiprocessors=H100) == (4 * rows, 4 * rows * rounded)


def test_the_limit_of_four_fifths_is_reckoned_in_float32() -> None:
    """0.8f x 160 is a little more than 128, but in float32 it is 128: enough blocks, though 5 parts would leave no place empty."""
    assert key_parts(128, 160, 5) == 1
    assert key_parts(127, 160, 5) == 5


@given(st.integers(1, 400), st.integers(1, 400), st.one_of(st.integers(1, 12), st.integers(1, 2000)))
def test_parts_are_those_of_the_steps_in_float32(query_blocks: int, places: int, key_blocks: int) -> None:
    assert key_parts(query_blocks, places, key_blocks) == parts_in_float32(query_blocks, places, key_blocks)


@pytest.mark.parametrize("places", range(20, 400, 10))
def test_parts_around_the_limit(places: int) -> None:
    for query_blocks in range(places * 4 // 5 - 1, places * 4 // 5 + 2):
        for key_blocks in (2, 7, 40):
            expected = parts_in_float32(query_blocks, places, key_blocks)
            assert key_parts(query_blocks, places, key_blocks) == expected


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 200)), min_size=1, max_size=30))
def test_arrays_give_what_each_case_gives(cases: list[tuple[int, int, int]]) -> None:
    found = key_parts(*np.array(cases, dtype=np.int64).T)
    assert isinstance(found, np.ndarray) and found.dtype == np.int64
    assert found.tolist() == [key_parts(*case) for case in cases]


def test_a_grid_is_what_its_cells_are() -> None:
    batch_sizes, lengths = np.arange(1, 5)[:, None], np.array([[256, 257, 640, 1024]])
    sizes = {**GPT2, "batch_size": batch_sizes, "query_length": lengths, "key_length": lengths}
    sums, results = flash_forward_buffers(**sizes, multiprocessors=H100)  # type: ignore[arg-type]
    for i, batch_size in enumerate(batch_sizes.flat):
        for j, length in enumerate(lengths.flat):
            cell = {**GPT2, "batch_size": int(batch_size), "query_length": int(length), "key_length": int(length)}
            assert (sums[i, j], results[i, j]) == flash_forward_buffers(**cell, multiprocessors=H100)  # type: ignore[index]
