"""The helpers give for arrays what they give for each int."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vramcast.kernels.arithmetic import ceil_divide, minimum, round_up, where

sizes = st.integers(0, 1 << 40)


def test_by_hand() -> None:
    assert (minimum(3, 5), where(True, 1, 2), where(False, 1, 2)) == (3, 1, 2)
    assert [round_up(value, 64) for value in (0, 1, 64, 65)] == [0, 64, 64, 128]
    assert [ceil_divide(value, 10) for value in (0, 1, 10, 11)] == [0, 1, 1, 2]
    assert round_up(10**30 + 1, 10) == 10**30 + 10


@given(st.lists(st.tuples(sizes, sizes), min_size=1, max_size=20), st.integers(1, 1 << 20))
def test_arrays_give_what_each_int_gives(pairs: list[tuple[int, int]], multiple: int) -> None:
    one, other = np.array(pairs, dtype=np.int64).T
    for by_array, by_int in [
        (minimum(one, other), [minimum(a, b) for a, b in pairs]),
        (minimum(one, pairs[0][1]), [minimum(a, pairs[0][1]) for a, _ in pairs]),
        (where(one < other, one, 0), [where(a < b, a, 0) for a, b in pairs]),
        (ceil_divide(one, multiple), [ceil_divide(a, multiple) for a, _ in pairs]),
        (round_up(one, multiple), [round_up(a, multiple) for a, _ in pairs]),
    ]:
        assert isinstance(by_array, np.ndarray) and by_array.dtype == np.int64
        assert by_array.tolist() == by_int


def test_ints_need_neither_numpy_nor_torch() -> None:
    code = (
        "import sys; from vramcast.kernels import scratch_buffers;"
        "scratch_buffers('embedding_backward', {'num_tokens': 5000, 'vocab_size': 100, 'hidden_size': 8});"
        "sys.exit(bool({'numpy', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
