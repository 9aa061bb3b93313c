"""Optimizers run their own code with the implementation CUDA would choose; their memory follows from it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from virtual_gpu_helpers import allocated, allocations, virtual_gpu

WIDTH, LAYERS = 256, 4
PARAMETER_BYTES = LAYERS * WIDTH * WIDTH * 4


def step_peaks(make: Callable[[Any], torch.optim.Optimizer], steps: int = 2, bias: bool = False) -> list[int]:
    """Bytes above what is held before each step, at the step's peak."""
    with virtual_gpu() as machine:
        model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=bias) for _ in range(LAYERS))).cuda()
        optimizer = make(model.parameters())
        peaks = []
        for _ in range(steps):
            model(torch.randn(2, WIDTH, device="cuda")).sum().backward()
            torch.cuda.reset_peak_memory_stats()
            before = allocated(machine)
            optimizer.step()
            peaks.append(torch.cuda.max_memory_allocated() - before)
            optimizer.zero_grad()
        return peaks


def test_adamw_by_default_takes_one_more_copy_of_the_parameters() -> None:
    first, second = step_peaks(torch.optim.AdamW)
    assert first == 3 * PARAMETER_BYTES  # both moments are born here, too
    assert second == PARAMETER_BYTES


def test_fused_adamw_takes_nothing_but_its_states() -> None:
    first, second = step_peaks(lambda p: torch.optim.AdamW(p, fused=True))
    assert first == 2 * PARAMETER_BYTES + 512 * LAYERS  # step counters are on the GPU
    assert second == 0


@pytest.mark.parametrize(("bias", "extra"), [(True, 2 * WIDTH * WIDTH * 4 + WIDTH * 4), (False, 3 * WIDTH * WIDTH * 4)])
def test_the_loop_takes_two_of_the_largest_tensor_and_what_the_last_turn_left(bias: bool, extra: int) -> None:
    """sqrt and quotient of this tensor, and the denominator of the tensor before it, which a local name still holds."""
    first, second = step_peaks(lambda p: torch.optim.AdamW(p, foreach=False), bias=bias)
    assert second == extra
    assert first == 2 * PARAMETER_BYTES + extra + (2 * LAYERS * WIDTH * 4 if bias else 0)


@pytest.mark.parametrize(
    ("settings", "extra"), [({}, 0), ({"momentum": 0.9}, 0), ({"weight_decay": 0.1}, PARAMETER_BYTES)]
)
def test_sgd(settings: dict[str, float], extra: int) -> None:
    assert step_peaks(lambda p: torch.optim.SGD(p, lr=0.1, **settings))[1] == extra


@pytest.mark.parametrize(
    ("optimizer", "states"),
    [
        ("SGD", 0),
        ("Adam", 2),
        ("AdamW", 2),
        ("RMSprop", 1),
        ("Adagrad", 1),
        ("NAdam", 2),
        ("RAdam", 2),
        ("Adadelta", 2),
        ("Adamax", 2),
    ],
)
def test_states_are_as_large_as_the_parameters(optimizer: str, states: int) -> None:
    with virtual_gpu() as machine:
        layer = nn.Linear(WIDTH, WIDTH, bias=False).cuda()
        stepper = getattr(torch.optim, optimizer)(layer.parameters(), lr=0.1)
        for _ in range(2):
            layer(torch.randn(2, WIDTH, device="cuda")).sum().backward()
            stepper.step()
            stepper.zero_grad()
        live = [machine.timeline.allocations[i] for i in machine.timeline.live_at(len(machine.timeline.events))]
        held = [a for a in live if a.category == "optimizer_states" and a.nbytes == WIDTH * WIDTH * 4]
        assert len(held) == states
        assert machine.optimizer_steps == 2


def test_adafactor_keeps_rows_and_columns() -> None:
    with virtual_gpu() as machine:
        layer = nn.Linear(WIDTH, WIDTH, bias=False).cuda()
        stepper = torch.optim.Adafactor(layer.parameters())
        layer(torch.randn(2, WIDTH, device="cuda")).sum().backward()
        stepper.step()
        assert {a.nbytes for a in machine.timeline.allocations if a.category == "optimizer_states"} == {WIDTH * 4}


def test_lbfgs_runs_its_closure_in_the_forward_phase() -> None:
    with virtual_gpu() as machine:
        layer = nn.Linear(WIDTH, WIDTH, bias=False).cuda()
        stepper = torch.optim.LBFGS(layer.parameters(), max_iter=2)
        x = torch.randn(2, WIDTH, device="cuda")

        def closure() -> torch.Tensor:
            stepper.zero_grad()
            loss = layer(x).sum()
            loss.backward()
            return loss

        stepper.step(closure)
        products = {a.phase for a in allocations(machine) if a.op == "mm"}
        assert products == {"forward", "backward"}


def test_clipping_the_norm() -> None:
    with virtual_gpu() as machine:
        model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))).cuda()
        model(torch.randn(2, WIDTH, device="cuda")).sum().backward()
        since, before = len(machine.timeline.allocations), allocated(machine)
        total = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        made = [(a.op, a.nbytes) for a in machine.timeline.allocations[since:]]
        assert made[:LAYERS] == [("_foreach_norm", 4)] * LAYERS
        assert made[LAYERS] == ("_foreach_norm", LAYERS * 4)  # partial sums, one chunk of 65,536 elements each
        assert total.device.type == "cuda"
        del total
        assert allocated(machine) == before


def test_gradient_scaler_steps_and_keeps_its_scale() -> None:
    with virtual_gpu() as machine:
        layer = nn.Linear(WIDTH, WIDTH).cuda()
        stepper = torch.optim.AdamW(layer.parameters())
        scaler = torch.amp.GradScaler("cuda")
        for _ in range(2):
            with torch.autocast("cuda", torch.float16):
                loss = layer(torch.randn(2, WIDTH, device="cuda")).sum()
            scaler.scale(loss).backward()
            scaler.unscale_(stepper)
            nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            scaler.step(stepper)
            scaler.update()
            stepper.zero_grad()
        assert machine.optimizer_steps == 2
        assert scaler.get_scale() == 65536.0
        assert machine.assumptions.sentences() == []
