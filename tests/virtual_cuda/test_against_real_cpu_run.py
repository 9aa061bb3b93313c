"""The virtual GPU against real CPU tensors with real values: the same allocations and frees, event for event.

Settings under which CPU and CUDA take the same kernels are compared with CUDA's kernel layer on: fp32, no dropout,
attention written out or by the math path, the optimizer's implementation named. CUDA's dropout is another kernel by
design, so with dropout the layer is switched off; what the layer then changes is asserted by itself. Workspaces and
scratch buffers exist on CUDA alone and are left out, as are the optimizer's step counters, which live on the CPU in
both runs. Under any dispatch mode, and so under the recorder of the real run, the autograd engine sums gradients into
new tensors; `test_gradient_sums` compares its sums in place with a real run that no mode watches, so here both sides
make new ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from storage_recorder import RealStorageRecorder, Step, steps
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from virtual_gpu_helpers import virtual_gpu

import vramcast.virtual_cuda.machine
from vramcast.record.building import enable_checkpointing, quiet_transformers
from vramcast.virtual_cuda.gradient_sums import GradientSums

VOCAB, BATCH, LENGTH = 96, 2, 16


@pytest.fixture(autouse=True)
def gradient_sums_make_new_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GradientSums, "is_in_place", lambda self, args, kwargs: False)


def gpt2(attention: str, dropout: float) -> Any:
    config = GPT2Config(
        n_layer=2, n_head=2, n_embd=32, n_positions=32, vocab_size=VOCAB, bos_token_id=0, eos_token_id=0,
        attn_pdrop=dropout, resid_pdrop=dropout, embd_pdrop=dropout,
    )  # fmt: skip
    return GPT2LMHeadModel._from_config(config, attn_implementation=attention)


def llama(attention: str, dropout: float) -> Any:
    config = LlamaConfig(
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, hidden_size=32, intermediate_size=48,
        vocab_size=VOCAB, max_position_embeddings=32, attention_dropout=dropout,
    )  # fmt: skip
    return LlamaForCausalLM._from_config(config, attn_implementation=attention)


def train(
    model: Any,
    device: str,
    begin: Callable[[], None],
    *,
    checkpointing: bool = False,
    foreach: bool = False,
    clip: bool = False,
    keep_losses: bool = False,
) -> None:
    quiet_transformers()
    model.train()
    if checkpointing:
        enable_checkpointing(model)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=foreach)
    tokens = torch.randint(0, VOCAB, (BATCH, LENGTH)).to(device)
    losses = []
    begin()
    with sdpa_kernel([SDPBackend.MATH]):
        for _ in range(2):
            for _ in range(2 if clip else 1):
                loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
                loss.backward()
            if clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=foreach)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses += [loss] if keep_losses else []
    del loss


def real_steps(build: Callable[[], Any], **settings: bool) -> list[Step]:
    recorder, start = RealStorageRecorder(), []
    model = build()
    with recorder:
        train(model, "cpu", lambda: start.append(len(recorder.timeline.events)), **settings)
    return steps(recorder.timeline, since=start[0])


def virtual_steps(build: Callable[[], Any], **settings: bool) -> list[Step]:
    start: list[int] = []
    with virtual_gpu() as machine:
        train(build().to("cuda"), "cuda", lambda: start.append(len(machine.timeline.events)), **settings)
    assert machine.assumptions.sentences() == []
    return steps(machine.timeline, since=start[0])


@pytest.fixture
def no_cuda_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vramcast.virtual_cuda.machine, "cuda_kernel_layer", lambda machine: nullcontext())


@pytest.mark.parametrize(
    ("family", "attention", "settings"),
    [
        (gpt2, "eager", {}),
        (gpt2, "sdpa", {"checkpointing": True}),
        (gpt2, "eager", {"clip": True}),
        (llama, "eager", {"checkpointing": True}),
        (llama, "sdpa", {}),
        (llama, "eager", {"foreach": True, "clip": True}),
    ],
)
def test_event_for_event(family: Any, attention: str, settings: dict[str, bool]) -> None:
    def build() -> Any:
        return family(attention, 0.0)

    real = real_steps(build, **settings)
    assert len(real) > 1000
    assert virtual_steps(build, **settings) == real


@pytest.mark.usefixtures("no_cuda_kernels")
@pytest.mark.parametrize(
    ("family", "attention", "checkpointing"), [(gpt2, "eager", True), (gpt2, "sdpa", False), (llama, "sdpa", True)]
)
def test_event_for_event_with_dropout(family: Any, attention: str, checkpointing: bool) -> None:
    def build() -> Any:
        return family(attention, 0.1)

    real = real_steps(build, checkpointing=checkpointing)
    assert any(operator == "empty_like" for _, operator, _ in real)  # the mask
    assert virtual_steps(build, checkpointing=checkpointing) == real


def test_cuda_dropout_is_the_only_difference_its_layer_makes() -> None:
    """One mask of a byte an element instead of a mask in fp32 that is made, scaled and multiplied."""

    def build() -> Any:
        return gpt2("eager", 0.1)

    real, virtual = Counter(real_steps(build)), Counter(virtual_steps(build))
    assert {operator for _, operator, _ in virtual - real} == {"native_dropout", "native_dropout_backward"}
    assert {operator for _, operator, _ in real - virtual} == {"empty_like", "mul"}


def test_a_reference_kept_longer_is_seen() -> None:
    """The comparison can fail: keeping the losses moves one free."""

    def build() -> Any:
        return gpt2("eager", 0.0)

    real = real_steps(build, keep_losses=True)
    assert virtual_steps(build, keep_losses=True) == real
    assert virtual_steps(build) != real
