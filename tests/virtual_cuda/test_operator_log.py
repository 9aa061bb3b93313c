"""Every operator on GPU 0 with its sizes, against numbers worked by hand and against real CPU runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from virtual_gpu_helpers import virtual_gpu

from vramcast.record.building import enable_checkpointing, quiet_transformers
from vramcast.timeline import Operator, OperatorTable
from vramcast.virtual_cuda import VirtualGPU
from vramcast.virtual_cuda.gradient_sums import GradientSums
from vramcast.virtual_cuda.operator_rules import named_stems, operator_rule

aten = torch.ops.aten
VOCAB, BATCH, LENGTH = 96, 2, 16


@contextmanager
def logged(machine: VirtualGPU) -> Iterator[list[Operator]]:
    """The operators of the block, once it is left."""
    found: list[Operator] = []
    interval = machine.operators.begin()
    yield found
    found += machine.operators.end(interval).table()


def traffic(operators: list[Operator]) -> list[tuple[str, str, int, int]]:
    return [(operator.name, operator.kind, operator.bytes_read, operator.bytes_written) for operator in operators]


def only(operators: list[Operator], name: str) -> Operator:
    (operator,) = [operator for operator in operators if operator.name == name]
    return operator


# -- sizes of one call -------------------------------------------------------------------------------------------------


def test_a_matrix_product_with_bias() -> None:
    with virtual_gpu() as machine:
        linear = torch.nn.Linear(20, 30, device="cuda", dtype=torch.bfloat16)
        x = torch.empty(10, 20, device="cuda", dtype=torch.bfloat16)
        with logged(machine) as operators, torch.no_grad():
            linear(x)
    assert operators == [
        Operator("t", "view", "forward", "", "bfloat16"),
        Operator("addmm", "matmul", "forward", "", "bfloat16", (1, 10, 30, 20), 12000, (60, 400, 1200), (600,)),
    ]


def test_what_is_read_and_written() -> None:
    with virtual_gpu() as machine:
        x, row = torch.empty(8, 16, device="cuda"), torch.empty(16, device="cuda")
        with logged(machine) as operators:
            x * x
            x * 2.5
            x.add_(row)
            x + row.expand(8, 16)
            torch.cat([x, x, row[None]])
            torch.softmax(x, -1)
            x.to(torch.float16)
            torch.embedding(x, torch.empty(5, dtype=torch.long, device="cuda"))
    assert [entry for entry in traffic(operators) if entry[1] != "view"] == [
        ("mul", "pointwise", 512, 512),  # both: a tensor given twice is read once, a number goes by value
        ("add_", "pointwise", 576, 512),
        ("add", "pointwise", 576, 512),  # an expanded row is read once
        ("cat", "copy", 576, 1088),
        ("_softmax", "reduction", 512, 512),
        ("_to_copy", "copy", 512, 256),
        ("empty", "other", 0, 0),
        ("embedding", "copy", 552, 320),
    ]
    assert only(operators, "mul").calls == 2


def test_factories_are_other_and_only_fills_write() -> None:
    with virtual_gpu() as machine, logged(machine) as operators:
        torch.empty(7, device="cuda")
        torch.zeros(7, device="cuda")
        torch.arange(7, device="cuda")
        torch.ones(7, device="cuda", dtype=torch.float16).new_empty(3)
    assert traffic(operators) == [
        ("empty", "other", 0, 0),
        ("zeros", "other", 0, 28),
        ("arange", "other", 0, 56),
        ("ones", "other", 0, 14),
        ("new_empty", "other", 14, 0),
    ]
    assert [operator.dtype for operator in operators] == ["float32", "float32", "int64", "float16", "float16"]


def test_views_move_nothing() -> None:
    with virtual_gpu() as machine:
        x = torch.empty(4, 6, device="cuda")
        with logged(machine) as operators:
            x.view(24)[3:].unsqueeze(0).expand(2, 21)
            x.transpose(0, 1).reshape(24)
            x.chunk(2)
            x.detach()
    views = ["view", "slice", "unsqueeze", "expand", "transpose", "_unsafe_view", "split", "detach"]
    assert traffic([operator for operator in operators if operator.name != "clone"]) == [
        (name, "view", 0, 0) for name in views
    ]
    assert only(operators, "clone").bytes_written == 96


def test_lists_of_tensors() -> None:
    with virtual_gpu() as machine:
        x = [torch.empty(4, 3, device="cuda"), torch.empty(5, device="cuda")]
        y = [torch.empty_like(tensor) for tensor in x]
        with logged(machine) as operators:
            torch._foreach_addcmul_(x, y, y, value=0.1)
            torch._foreach_sqrt(x)
            torch._foreach_norm(x)
    assert traffic(operators) == [
        ("_foreach_addcmul_", "pointwise", 2 * 68, 68),
        ("_foreach_sqrt", "pointwise", 68, 68),
        ("_foreach_norm", "reduction", 68, 8),
    ]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_fused_optimizer_writes_gradients_only_to_unscale_them(scaled: bool) -> None:
    with virtual_gpu() as machine:
        weight = torch.nn.Parameter(torch.empty(250, device="cuda"))
        optimizer = torch.optim.AdamW([weight], fused=True)
        scaler = torch.amp.GradScaler("cuda", enabled=scaled)
        with logged(machine) as operators:
            scaler.scale(weight.sum()).backward()
            scaler.step(optimizer)
            scaler.update()
    fused = only(operators, "_fused_adamw_")
    assert (fused.kind, fused.phase, fused.bytes_written) == ("pointwise", "optimizer", 4000 if scaled else 3000)
    assert fused.bytes_read == 4000 + 4 + (8 if scaled else 0)  # the step counter, the scale and its flag


def test_an_out_argument_is_written_and_not_read() -> None:
    with virtual_gpu() as machine:
        a, b, out = (torch.empty(8, 8, device="cuda") for _ in range(3))
        with logged(machine) as operators:
            torch.mm(a, b, out=out)
            torch.ops.aten.mm.out(a, a, out=out)
    assert [(o.bytes_read, o.bytes_written, o.extents) for o in operators] == [
        (512, 256, (1, 8, 8, 8)),
        (256, 256, (1, 8, 8, 8)),
    ]


# -- extents and FLOPs -------------------------------------------------------------------------------------------------

sizes = st.integers(1, 40)


@settings(max_examples=25, deadline=None)
@given(sizes, sizes, sizes, sizes)
def test_extents_of_every_product(batch: int, m: int, n: int, k: int) -> None:
    with virtual_gpu() as machine:

        def empty(*shape: int) -> torch.Tensor:
            return torch.empty(shape, device="cuda", dtype=torch.float16)

        a, b, a3, b3 = empty(m, k), empty(k, n), empty(batch, m, k), empty(batch, k, n)
        with logged(machine) as operators:
            aten.mm(a, b)
            aten.addmm(empty(n), a, b)
            aten.bmm(a3, b3)
            aten.baddbmm(empty(1, 1, n), a3, b3)
            aten.addbmm(empty(m, n), a3, b3)
            aten.mv(a, empty(k))
            aten.addmv(empty(m), a, empty(k))
            aten.dot(empty(k), empty(k))
    products = {operator.name: operator for operator in operators if operator.kind == "matmul"}
    extents = {name: operator.extents for name, operator in products.items()}
    assert extents == {
        "mm": (1, m, n, k), "addmm": (1, m, n, k), "bmm": (batch, m, n, k), "baddbmm": (batch, m, n, k),
        "addbmm": (batch, m, n, k), "mv": (1, m, 1, k), "addmv": (1, m, 1, k), "dot": (1, 1, 1, k),
    }  # fmt: skip
    for operator in products.values():
        b, m, n, k = operator.extents
        assert operator.flops == 2 * b * m * n * k
    assert machine.flops == sum(operator.flops * operator.calls for operator in operators)


def test_products_of_experts() -> None:
    """4 experts, 10 tokens among them, hidden size 6, intermediate size 8; how the tokens are dealt is not known."""
    with virtual_gpu("h100-80gb") as machine:
        tokens = torch.empty(10, 6, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        weights = torch.empty(4, 6, 8, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        offsets = torch.empty(4, device="cuda", dtype=torch.int32)
        with logged(machine) as operators:
            torch._grouped_mm(tokens, weights, offs=offsets).sum().backward()
    products = [operator for operator in operators if operator.name == "_grouped_mm"]
    assert [operator.flops for operator in products] == [2 * 10 * 6 * 8] * 3
    assert sorted(operator.extents for operator in products) == [(1, 6, 8, 10), (1, 10, 6, 8), (1, 10, 8, 6)]


@pytest.mark.parametrize("backend", [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION])
@pytest.mark.parametrize("is_causal", [False, True])
def test_fused_attention(backend: SDPBackend, is_causal: bool) -> None:
    grouped = backend is SDPBackend.FLASH_ATTENTION
    key_value_heads = 2 if grouped else 6
    keys = 10 if is_causal else 12
    with virtual_gpu() as machine, sdpa_kernel([backend]):
        q = torch.empty(3, 6, 10, 16, device="cuda", dtype=torch.float16, requires_grad=True)
        k, v = (
            torch.empty(3, key_value_heads, keys, 16, device="cuda", dtype=torch.float16, requires_grad=True)
            for _ in range(2)
        )
        with logged(machine) as operators:
            F.scaled_dot_product_attention(q, k, v, is_causal=is_causal, enable_gqa=grouped).sum().backward()
    forward, backward = [operator for operator in operators if operator.kind == "attention"]
    assert forward.extents == backward.extents == (3, 6, key_value_heads, 10, keys, 16, int(is_causal))
    assert (forward.phase, backward.phase) == ("load", "backward")  # no module has run yet
    assert forward.flops == 2 * 2 * 3 * 6 * 10 * keys * 16
    assert backward.flops == 5 * forward.flops // 2
    assert forward.bytes_read == q.numel() * 2 + 2 * k.numel() * 2


def test_variable_lengths_in_one_row() -> None:
    """Two sequences of 5 and 7 tokens, one after the other."""
    extents = operator_rule(aten._flash_attention_forward.default).extents
    q, offsets = torch.empty(12, 6, 16, device="meta"), torch.empty(3, dtype=torch.int32, device="meta")
    named = {"query": q, "key": q[:, :2], "cum_seq_q": offsets, "max_q": 7, "max_k": 7, "is_causal": True}
    assert extents is not None
    assert extents((), named) == (2, 6, 2, 7, 7, 16, 1)
    dense = {"query": torch.empty(3, 10, 6, 16), "key": torch.empty(3, 12, 6, 16), "custom_mask_type": 0}
    efficient = operator_rule(aten._efficient_attention_forward.default).extents
    assert efficient is not None
    assert efficient((), dense) == (3, 6, 6, 10, 12, 16, 0)


# -- what counts, and as what ------------------------------------------------------------------------------------------


def test_only_gpu_0_counts() -> None:
    with virtual_gpu(device_count=2) as machine, logged(machine) as operators:
        on_host = torch.ones(4) + machine.host_tensor((4,), torch.float32)
        other = torch.ones(4, device="cuda:1") * 2
        on_host.to("cuda").exp()
        other.to("cpu")
    assert [operator.name for operator in operators] == ["_to_copy", "exp"]


def test_reading_a_scalar_is_a_copy() -> None:
    with virtual_gpu() as machine:
        x = torch.zeros((), device="cuda")
        with logged(machine) as operators:
            x.item()
            bool(x)
            torch.zeros(()).item()
    assert operators == [
        Operator("_local_scalar_dense", "copy", "load", "", "float32", reads=(4,), calls=2),
    ]


def test_a_copied_handle_is_no_dispatch() -> None:
    """A dispatch mode sees a `detach` where autograd keeps a result; a real run dispatches none there."""
    with virtual_gpu() as machine:
        x = torch.empty(4, device="cuda", requires_grad=True)
        with logged(machine) as operators:
            x.exp().sum().backward()
        # One from the accumulator of the gradient.
        assert [operator.calls for operator in operators if operator.name == "detach"] == [1]
        with logged(machine) as operators, torch.no_grad():
            x.detach().data.exp()
        assert [operator.calls for operator in operators if operator.name == "detach"] == [1]


def test_sums_of_gradients_are_logged_in_place() -> None:
    with virtual_gpu() as machine:
        x = torch.empty(4, device="cuda", requires_grad=True)
        y = x * 1
        with logged(machine) as operators:
            (y.tanh() + y.exp() + y.sigmoid()).sum().backward()
    assert [(o.name, o.phase, o.calls) for o in operators if o.name in ("add", "add_")] == [
        ("add", "load", 2),
        ("add_", "backward", 2),
    ]


def test_every_operator_has_one_kind_and_every_name_in_the_table_exists() -> None:
    missing = [stem for stem in named_stems() if not (hasattr(aten, stem) or hasattr(aten, f"{stem}_"))]
    assert missing == []
    kinds = {"addmm_": "matmul", "masked_fill_": "pointwise", "index_copy_": "copy", "_foreach_max": "reduction",
             "_foreach_maximum_": "pointwise", "_foreach_copy_": "copy", "_foreach_zero_": "other", "topk": "other",
             "convolution": "other", "sort": "other", "uniform_": "other", "squeeze_": "other"}  # fmt: skip
    found = {}
    for name in kinds:
        packet = getattr(aten, name)
        found[name] = operator_rule(getattr(packet, packet.overloads()[0])).kind
    assert found == kinds


# -- whole models, against a real CPU run ------------------------------------------------------------------------------


def gpt2() -> Any:
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=32, n_positions=32, vocab_size=VOCAB, bos_token_id=0, eos_token_id=0,
        attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel._from_config(config, attn_implementation="eager")


def llama() -> Any:
    config = LlamaConfig(
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, hidden_size=32, intermediate_size=48,
        vocab_size=VOCAB, max_position_embeddings=32,
    )  # fmt: skip
    return LlamaForCausalLM._from_config(config, attn_implementation="eager")


def prepared(build: Callable[[], Any], device: str, checkpointing: bool) -> tuple[Any, torch.Tensor]:
    quiet_transformers()
    model = build().to(device).train()
    if checkpointing:
        enable_checkpointing(model)
    return model, torch.randint(0, VOCAB, (BATCH, LENGTH)).to(device)


def loss_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    return model(input_ids=tokens, labels=tokens, use_cache=False).loss


FAMILIES = pytest.mark.parametrize("build", [gpt2, llama])
CHECKPOINTING = pytest.mark.parametrize("checkpointing", [False, True])


@FAMILIES
@CHECKPOINTING
def test_flops_are_those_that_torch_counts_on_a_cpu(build: Callable[[], Any], checkpointing: bool) -> None:
    model, tokens = prepared(build, "cpu", checkpointing)
    with FlopCounterMode(display=False) as forward:
        loss = loss_of(model, tokens)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    with virtual_gpu() as machine:
        model, tokens = prepared(build, "cuda", checkpointing)
        with logged(machine) as operators:
            loss_of(model, tokens).backward()
    flops = Counter[str]()
    for operator in operators:
        flops[operator.phase] += operator.flops * operator.calls
    assert flops["forward"] == forward.get_total_flops() > 0
    assert flops["backward"] + flops["recompute"] == backward.get_total_flops()
    assert (flops["recompute"] > 0) is checkpointing
    assert machine.flops == sum(flops.values()) == OperatorTable(tuple(operators)).flops


class _RealDispatches(TorchDispatchMode):
    """Names of all operators of a real run."""

    def __init__(self) -> None:
        super().__init__()
        self.names = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[func._schema.name.rpartition("::")[2]] += 1
        return func(*args, **(kwargs or {}))


@FAMILIES
@CHECKPOINTING
def test_every_dispatch_of_a_real_run_is_logged(
    build: Callable[[], Any], checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GradientSums, "is_in_place", lambda self, args, kwargs: False)  # as under any mode
    model, tokens = prepared(build, "cpu", checkpointing)
    with _RealDispatches() as real:
        loss_of(model, tokens).backward()
    with virtual_gpu() as machine:
        model, tokens = prepared(build, "cuda", checkpointing)
        with logged(machine) as operators:
            loss_of(model, tokens).backward()
    names = Counter[str]()
    for operator in operators:
        names[operator.name] += operator.calls
    assert {name for name in names | real.names if names[name] != real.names[name]} <= {"detach"}
    assert names["detach"] <= real.names["detach"]


@FAMILIES
def test_dispatches_are_those_that_the_profiler_sees_without_any_mode(build: Callable[[], Any]) -> None:
    model, tokens = prepared(build, "cpu", False)
    with torch.autograd.profiler.profile() as profile:
        loss_of(model, tokens).backward()
    with virtual_gpu() as machine:
        model, tokens = prepared(build, "cuda", False)
        with logged(machine) as operators:
            loss_of(model, tokens).backward()
    for name in ("detach", "mm", "addmm", "bmm", "t", "embedding", "tanh", "silu", "neg"):
        real = sum(event.name == f"aten::{name}" for event in profile.function_events)
        assert sum(operator.calls for operator in operators if operator.name == name) == real, name


# -- intervals of a program that nobody cut ----------------------------------------------------------------------------


def test_without_optimizer_steps_everything_is_one_run() -> None:
    with virtual_gpu() as machine:
        a = torch.empty(4, 5, device="cuda")
        (a @ a.t()).exp()
    recording = machine.recording()
    assert list(recording.operators) == ["run"]
    assert [operator.name for operator in recording.operators["run"]] == ["empty", "t", "mm", "exp"]
    assert recording.flops_per_step == recording.operators["run"].flops == 2 * 4 * 4 * 5


def trained(steps: int, optimizers: int = 1, validations: int = 0) -> VirtualGPU:
    with virtual_gpu() as machine:
        layers = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 1)).cuda()
        used = [torch.optim.SGD(layer.parameters()) for layer in list(layers)[:optimizers]]
        for _ in range(steps):
            layers(torch.empty(3, 8, device="cuda")).sum().backward()
            for optimizer in used:
                optimizer.step()
                optimizer.zero_grad()
        for _ in range(validations):
            layers(torch.empty(3, 8, device="cuda"))
    return machine


STEP_FLOPS = 2 * 3 * 8 * (8 + 1) * 2 + 2 * 3 * 8  # forward, gradients of weights, gradient of the second layer's input


def test_the_first_optimizer_step_is_part_of_the_run() -> None:
    recording = trained(1).recording()
    assert list(recording.operators) == ["run"]
    assert recording.operators["run"].flops == recording.flops_per_step == STEP_FLOPS


@pytest.mark.parametrize("optimizers", [1, 2])
def test_the_last_step_lies_between_the_last_two_optimizer_steps(optimizers: int) -> None:
    three, six = (trained(steps, optimizers, validations=2).recording() for steps in (3, 6))
    assert list(three.operators) == ["step"]
    assert three.operators == six.operators
    assert three.operators["step"].flops == three.flops_per_step == STEP_FLOPS
    stepped = sum(o.calls for o in three.operators["step"] if o.phase == "optimizer" and o.kind == "pointwise")
    assert stepped == optimizers


def test_nothing_is_kept_without_a_recording() -> None:
    with virtual_gpu(record=False) as machine:
        a = torch.empty(4, 5, device="cuda")
        a @ a.t()
    assert machine.flops == 160
    assert machine.recording().operators == {}
