"""Where recorders find their result type."""

from vramcast.timeline.recording import Recording

__all__ = ["Recording"]
