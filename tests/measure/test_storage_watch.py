"""What the watch sees of plain code, byte by byte."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vramcast.measure.live import live_readings
from vramcast.measure.storage_watch import StorageWatch
from vramcast.timeline import Allocation, Timeline

FLOAT = 4


def peak_of(watch: StorageWatch) -> int:
    return live_readings(watch.timeline).peak_bytes


def test_views_share_and_results_die() -> None:
    with StorageWatch("cpu") as watch:
        first = torch.ones(100)
        second = first.view(10, 10).t()[2:]
        third = first * 2
        del first, second
        _ = third.exp()
    assert peak_of(watch) == 2 * FLOAT * 100
    assert [allocation.op for allocation in watch.timeline.allocations] == ["ones", "mul", "exp"]


def test_a_storage_that_grows_is_counted_anew() -> None:
    with StorageWatch("cpu") as watch:
        kept = torch.ones(10)
        kept.resize_(1000)
    assert peak_of(watch) == FLOAT * 1000


def test_inference_mode_hides_nothing() -> None:
    weight, rows = torch.ones(50, 50), torch.ones(3, 50)

    def forward() -> torch.Tensor:
        return F.linear(rows, weight).softmax(-1).sum()

    with StorageWatch("cpu") as plain, torch.no_grad():
        forward()
    with StorageWatch("cpu") as inference, torch.inference_mode():
        forward()
    assert peak_of(inference) == peak_of(plain) > FLOAT * 50 * 50


def test_backward_tells_activations_from_what_is_temporary() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 32, bias=False), torch.nn.ReLU(), torch.nn.Linear(32, 1, bias=False))
    with StorageWatch("cpu") as watch:
        model(torch.ones(4, 8)).sum().backward()
    kept = {
        (allocation.op, allocation.phase)
        for allocation in watch.timeline.allocations
        if allocation.category == "activations"
    }
    assert ("relu", "forward") in kept
    gradients = [item.nbytes for item in watch.timeline.allocations if item.category == "gradients"]
    assert sorted(gradients) == sorted(parameter.nbytes for parameter in model.parameters())


def test_hooks_and_mode_are_gone_afterwards() -> None:
    with StorageWatch("cpu") as watch:
        pass
    model = torch.nn.Linear(4, 4)
    model(torch.ones(1, 4)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert watch.timeline.allocations == []


def test_the_peak_of_a_timeline_leaves_workspaces_out() -> None:
    timeline = Timeline()
    kept = timeline.alloc(Allocation(10, category="parameters", phase="load"))
    timeline.alloc(Allocation(1000, category="workspace"))
    first = timeline.alloc(Allocation(5, phase="forward"))
    timeline.mark("here")
    timeline.free(first)
    timeline.alloc(Allocation(4, phase="backward"))
    timeline.free(kept)
    readings = live_readings(timeline)
    assert (readings.peak_bytes, readings.peak_phase) == (15, "forward")
    assert readings.breakdown == {"parameters": 10, "temporary": 5}
    assert readings.marks == [{"name": "here", "live_bytes": 15}]


def test_a_timeline_that_ends_at_its_peak() -> None:
    timeline = Timeline()
    timeline.alloc(Allocation(3))
    assert live_readings(timeline).peak_bytes == 3
    assert live_readings(Timeline()).peak_bytes == 0
