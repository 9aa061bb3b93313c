"""Which attention backend is taken, as a pure function of the call and the GPU."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramcast.kernels import AttentionCall, AttentionChoice, NoBackendError, choose_backend

ALL = frozenset(("flash", "efficient", "math", "cudnn"))
T4, V100, A100, RTX_3090, RTX_4090, H100, RTX_5090 = (7, 5), (7, 0), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0)

CALL = AttentionCall(
    dtype="bfloat16", dimensions=4, query_length=128, key_length=128, num_heads=8, num_key_value_heads=8, head_dim=64,
    value_head_dim=64, has_mask=False, mask_requires_grad=False, is_causal=True, dropout=0.0, requires_grad=True,
    enable_gqa=False,
)  # fmt: skip


@pytest.mark.parametrize("capability", [A100, RTX_3090, RTX_4090, H100, RTX_5090])
@pytest.mark.parametrize(
    ("change", "backend"),
    [
        ({}, "flash"),
        ({"dtype": "float16"}, "flash"),
        ({"dtype": "float32"}, "efficient"),
        ({"dtype": "float64"}, "math"),
        ({"has_mask": True}, "efficient"),
        ({"has_mask": True, "head_dim": 60, "value_head_dim": 60}, "math"),
        ({"head_dim": 60, "value_head_dim": 60}, "flash"),
        ({"head_dim": 256, "value_head_dim": 256, "dropout": 0.0, "requires_grad": False}, "flash"),
        ({"head_dim": 264, "value_head_dim": 264}, "efficient"),
        ({"value_head_dim": 32}, "efficient"),
        ({"dtype": "float32", "head_dim": 6, "value_head_dim": 6}, "math"),
        ({"key_length": 256}, "efficient"),
        ({"key_length": 256, "is_causal": False}, "flash"),
        ({"dimensions": 3}, "math"),
        ({"query_length": 0}, "math"),
        ({"last_strides_are_one": False}, "math"),
        ({"num_key_value_heads": 2}, "math"),
        ({"num_key_value_heads": 2, "enable_gqa": True}, "flash"),
        ({"num_key_value_heads": 2, "enable_gqa": True, "dtype": "float32"}, "math"),
    ],
)
def test_from_ampere_on(capability: tuple[int, int], change: dict[str, object], backend: str) -> None:
    assert choose_backend(replace(CALL, **change), capability, ALL).backend == backend  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("capability", "change", "backend"),
    [
        (T4, {"dtype": "float16"}, "efficient"),
        (V100, {"dtype": "float16"}, "efficient"),
        (T4, {"dtype": "bfloat16"}, "math"),
        (V100, {"dtype": "float32"}, "efficient"),
        (T4, {"dtype": "float32", "head_dim": 6, "value_head_dim": 6}, "efficient"),
        (V100, {"dtype": "float16", "head_dim": 60, "value_head_dim": 60}, "math"),
        (RTX_4090, {"head_dim": 200, "value_head_dim": 200}, "efficient"),
        (RTX_4090, {"head_dim": 192, "value_head_dim": 192}, "flash"),
        (RTX_4090, {"head_dim": 256, "value_head_dim": 256}, "flash"),
        (RTX_4090, {"head_dim": 256, "value_head_dim": 256, "dropout": 0.1}, "efficient"),
        (A100, {"head_dim": 200, "value_head_dim": 200, "dropout": 0.1}, "flash"),
    ],
)
def test_by_generation(capability: tuple[int, int], change: dict[str, object], backend: str) -> None:
    assert choose_backend(replace(CALL, **change), capability, ALL).backend == backend  # type: ignore[arg-type]


def test_flags_and_preference() -> None:
    assert choose_backend(CALL, A100, ALL - {"flash"}).backend == "efficient"
    assert choose_backend(CALL, A100, frozenset({"math"})).backend == "math"
    assert choose_backend(CALL, A100, frozenset({"cudnn"})).backend == "cudnn"
    assert choose_backend(CALL, H100, ALL, prefer_cudnn=True).backend == "cudnn"
    assert choose_backend(replace(CALL, dtype="float32"), H100, ALL, prefer_cudnn=True).backend == "efficient"
    with pytest.raises(NoBackendError, match=r"No available kernel.*flash: takes no attention mask"):
        choose_backend(replace(CALL, has_mask=True), A100, frozenset({"flash"}))


@given(
    dtype=st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
    head_dim=st.integers(1, 300),
    has_mask=st.booleans(),
    lengths=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    capability=st.sampled_from([(5, 2), (6, 1), T4, V100, A100, RTX_4090, H100, (10, 0), RTX_5090]),
    enabled=st.sets(st.sampled_from(sorted(ALL))),
)
def test_every_call_has_a_backend_and_a_reason_for_each_refusal(
    dtype: str, head_dim: int, has_mask: bool, lengths: tuple[int, int], capability: tuple[int, int], enabled: set[str]
) -> None:
    call = replace(
        CALL,
        dtype=dtype,
        head_dim=head_dim,
        value_head_dim=head_dim,
        has_mask=has_mask,
        query_length=lengths[0],
        key_length=lengths[1],
    )
    choice = choose_backend(call, capability, frozenset(enabled | {"math"}))  # type: ignore[arg-type]
    assert choice.backend in enabled | {"math"}
    assert all(reason for _, reason in choice.refused)
    assert choice.backend not in {backend for backend, _ in choice.refused}


def test_a_choice_tells_whether_it_holds_at_other_sizes() -> None:
    """A key longer than the causal query takes flash away; a wider head on a consumer card as well."""

    def holds(choice: AttentionChoice, capability: tuple[int, int], **sizes: int) -> bool:
        call = replace(choice.call, **sizes)  # type: ignore[arg-type]
        return choose_backend(call, capability, choice.enabled, choice.prefer_cudnn).backend == choice.backend

    choice = AttentionChoice(CALL, ALL, False, "flash")
    assert holds(choice, A100, query_length=4096, key_length=4096)
    assert not holds(choice, A100, key_length=129)
    assert holds(choice, A100, head_dim=200, value_head_dim=200)
    assert not holds(choice, RTX_4090, head_dim=200, value_head_dim=200)
    assert {choice, replace(choice)} == {choice}
