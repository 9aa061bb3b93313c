"""A virtual GPU shown to people: one line anywhere, the bar of its forecast in a notebook, and a display that follows the steps."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vramcast.errors import VramcastError
from vramcast.units import format_bytes

if TYPE_CHECKING:
    from vramcast.virtual_cuda.machine import VirtualGPU

NO_NOTEBOOK = "{}: gpu.show() draws in a Jupyter notebook; elsewhere use print(gpu) or print(gpu.forecast())"


def one_line(machine: VirtualGPU) -> str:
    """`<VirtualGPU rtx-3090: allocated 1.20 GiB (peak 3.40 GiB), reserved 3.00 GiB (peak 4.10 GiB)>`."""
    sizes = [0, 0, 0, 0]
    if "allocators" in vars(
        machine
    ):  # asking for them would fix the allocator's settings before the code has made its own
        now = machine.allocator.statistics.all
        sizes = [now.allocated_bytes, now.allocated_bytes_peak, now.reserved_bytes, now.reserved_bytes_peak]
    allocated, allocated_peak, reserved, reserved_peak = map(format_bytes, sizes)
    return (
        f"<VirtualGPU {machine.gpu.name}: allocated {allocated} (peak {allocated_peak}), "
        f"reserved {reserved} (peak {reserved_peak})>"
    )


def html_bar(machine: VirtualGPU) -> str:
    """The forecast of everything recorded so far, as HTML."""
    from vramcast.views.html import forecast_html

    return forecast_html(machine.forecast())


class LiveDisplay:
    """One output of a notebook cell that shows the forecast so far."""

    def __init__(self, machine: VirtualGPU) -> None:
        """Put it under the running cell.

        Raises:
            VramcastError: there is no notebook.
        """
        self._machine = machine
        self._display, self._html = _notebook()
        self._shown = self._peaks()
        self._handle = self._display(self._html(html_bar(machine)), display_id=True)

    def after_step(self, optimizer: Any = None) -> None:
        """Draw again if the step raised a peak: else nothing that is drawn has changed, and drawing replays the whole run."""
        peaks = self._peaks()
        if peaks != self._shown:
            self._shown = peaks
            self._handle.update(self._html(html_bar(self._machine)))

    def _peaks(self) -> tuple[int, int]:
        return self._machine.peak_allocated_bytes, self._machine.peak_reserved_bytes


def _notebook() -> tuple[Any, Any]:
    """IPython's `display` and `HTML`."""
    try:
        import IPython
        from IPython.display import HTML, display
    except ImportError:
        raise VramcastError(NO_NOTEBOOK.format(f"IPython is not installed for {sys.executable}")) from None
    if IPython.get_ipython() is None:
        raise VramcastError(NO_NOTEBOOK.format("this is no IPython session"))
    return display, HTML
