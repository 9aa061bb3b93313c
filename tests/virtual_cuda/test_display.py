"""A virtual GPU on a terminal and in a notebook."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from virtual_gpu_helpers import virtual_gpu

from vramcast.allocator import AllocatorConfig
from vramcast.errors import VramcastError
from vramcast.units import format_gib
from vramcast.views.html import forecast_html
from vramcast.views.rows import CATEGORY_COLORS
from vramcast.virtual_cuda import VirtualGPU

SIDE = 1024


def take_steps(count: int, batch: int = 8) -> None:
    model = torch.nn.Linear(SIDE, SIDE, bias=False).cuda()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for _ in range(count):
        model(torch.randn(batch, SIDE, device="cuda")).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_one_line_before_inside_and_after() -> None:
    machine = virtual_gpu("rtx-3090")
    assert repr(machine) == "<VirtualGPU rtx-3090: allocated 0 B (peak 0 B), reserved 0 B (peak 0 B)>"
    with machine:
        kept = torch.empty(SIDE, SIDE, device="cuda")
        gone = torch.empty(SIDE, SIDE, device="cuda")
        del gone
        inside = repr(machine)
        del kept
    assert inside == "<VirtualGPU rtx-3090: allocated 4.00 MiB (peak 8.00 MiB), reserved 20.00 MiB (peak 20.00 MiB)>"
    assert repr(machine) == inside.replace("allocated 4.00 MiB", "allocated 0 B")


def test_one_line_leaves_the_allocator_settings_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    machine = virtual_gpu(allocator_config="environment")
    repr(machine)
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    assert machine.allocator_config == AllocatorConfig(expandable_segments=True)


def test_the_bar_of_nothing_yet() -> None:
    machine = virtual_gpu("rtx-3090")
    assert "FITS" in machine._repr_html_()
    with machine:
        assert not any(color in machine._repr_html_() for color in CATEGORY_COLORS.values())


def test_the_bar_is_of_the_moment_and_of_the_whole_run() -> None:
    with virtual_gpu("rtx-3090") as machine:
        model = torch.nn.Linear(SIDE, SIDE, bias=False).cuda()
        before = machine._repr_html_()
        model(torch.randn(8, SIDE, device="cuda")).sum().backward()
        inside = machine._repr_html_()
        events = len(machine.timeline.events)
        machine._repr_html_()
        assert len(machine.timeline.events) == events  # a look changes nothing
        assert format_gib(machine.peak_allocated_bytes) in inside
    assert CATEGORY_COLORS["parameters"] in before
    assert CATEGORY_COLORS["gradients"] not in before
    assert CATEGORY_COLORS["gradients"] in inside
    assert machine._repr_html_() == forecast_html(machine.forecast())


class Notebook:
    """The parts of IPython that a live display needs."""

    def __init__(self) -> None:
        self.drawn: list[str] = []
        self.session: object | None = self
        self.package, self.display_module = ModuleType("IPython"), ModuleType("IPython.display")
        vars(self.package).update(get_ipython=lambda: self.session, display=self.display_module)
        vars(self.display_module).update(HTML=str, display=self._display)

    def _display(self, html: str, *, display_id: bool) -> Notebook:
        assert display_id
        self.update(html)
        return self

    def update(self, html: str) -> None:
        self.drawn.append(html)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    made = Notebook()
    monkeypatch.setitem(sys.modules, "IPython", made.package)
    monkeypatch.setitem(sys.modules, "IPython.display", made.display_module)
    return made


def test_a_live_display_follows_the_steps(notebook: Notebook) -> None:
    with virtual_gpu("rtx-3090") as machine:
        machine.show()
        assert notebook.drawn == [machine._repr_html_()]
        take_steps(1)
        assert len(notebook.drawn) == 2
        assert CATEGORY_COLORS["optimizer_states"] in notebook.drawn[-1]
        take_steps(3)
        settled = len(notebook.drawn)
        take_steps(1, batch=1)
        assert len(notebook.drawn) == settled  # no peak was raised, so nothing would look different
        kept = torch.empty(64, SIDE, SIDE, device="cuda")
        assert len(notebook.drawn) == settled
        del kept
    assert len(notebook.drawn) == settled + 1
    assert notebook.drawn[-1] == machine._repr_html_()


def test_a_display_made_beforehand_follows_too(notebook: Notebook) -> None:
    machine = virtual_gpu("rtx-3090")
    machine.show()
    with machine:
        take_steps(1)
        assert len(notebook.drawn) == 2
        torch.empty(64, SIDE, SIDE, device="cuda")
    assert notebook.drawn[2:] == [machine._repr_html_()]


def refused(machine: VirtualGPU) -> str:
    with pytest.raises(VramcastError) as error:
        machine.show()
    assert machine.step_listeners == []
    return str(error.value)


def test_without_a_notebook_it_says_what_to_do(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook.session = None
    assert "print(gpu)" in refused(virtual_gpu())
    assert notebook.drawn == []
    monkeypatch.setitem(sys.modules, "IPython", None)
    assert "IPython is not installed" in refused(virtual_gpu())
