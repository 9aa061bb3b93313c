"""The error of an allocator that can find no more memory."""

from vramcast.errors import VramcastError
from vramcast.units import format_bytes


class AllocatorOutOfMemory(VramcastError):
    """A request does not fit, not even after everything cached was given back. All figures are bytes at that moment."""

    def __init__(
        self,
        *,
        requested_bytes: int,
        allocated_bytes: int,
        reserved_bytes: int,
        free_bytes: int,
        capacity_bytes: int | None,
        allowed_bytes: int | None,
    ) -> None:
        self.requested_bytes = requested_bytes
        self.allocated_bytes = allocated_bytes
        self.reserved_bytes = reserved_bytes
        self.free_bytes = free_bytes
        self.capacity_bytes = capacity_bytes
        self.allowed_bytes = allowed_bytes
        limits = [] if capacity_bytes is None else [f"{format_bytes(capacity_bytes)} for the allocator"]
        limits += [] if allowed_bytes is None else [f"{format_bytes(allowed_bytes)} allowed by the memory fraction"]
        held = f"{format_bytes(allocated_bytes)} allocated, {format_bytes(reserved_bytes)} reserved"
        super().__init__(
            f"GPU out of memory: tried to allocate {format_bytes(requested_bytes)} ({requested_bytes} bytes), limit "
            f"{' and '.join(limits)}; {held}, {format_bytes(free_bytes)} free."
        )
