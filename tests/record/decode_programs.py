"""A make-believe generation, written directly as a timeline: what the decode tests unroll."""

from dataclasses import dataclass

from vramcast.record.decode_unrolling import GenerationRun
from vramcast.timeline import Allocation, Event, EventKind, Timeline


@dataclass(frozen=True)
class Program:
    """Layers whose caches grow by concatenation up to a window, and a mask that is padded to a multiple."""

    layers: int = 2
    token_bytes: int = 48
    window: int | None = None
    mask_multiple: int = 1
    token_noise: tuple[int, ...] = (0,)
    """Extra bytes of one temporary, by sequence length modulo the number of entries."""

    def run(self, prompt_length: int, max_new_tokens: int, stop_after: int | None = None) -> GenerationRun:
        timeline = Timeline()
        timeline.alloc(Allocation(4096, category="parameters", op="weight"))
        run = GenerationRun(timeline, len(timeline.allocations), [], [])
        ids = timeline.alloc(Allocation(8 * prompt_length, op="prompt"))
        caches = [timeline.alloc(self._cache(prompt_length)) for _ in range(self.layers)]
        for step in range(max_new_tokens):
            if step:
                ids = self._step(timeline, ids, caches, prompt_length + step)
            timeline.mark("step")
            run.boundaries.append(len(timeline.events))
            if stop_after is not None and step == stop_after:
                run.timeline = run.head(stop_after)
                return run
        for index in (ids, *caches):
            timeline.free(index)
        return run

    def _cache(self, length: int) -> Allocation:
        kept = min(length, self.window or length)
        return Allocation(self.token_bytes * kept, category="kv_cache", op="cat", shape=(1, kept))

    def _step(self, timeline: Timeline, ids: int, caches: list[int], length: int) -> int:
        mask = None
        if length % self.mask_multiple or self.mask_multiple == 1:
            padded = -(-length // self.mask_multiple) * self.mask_multiple
            mask = timeline.alloc(Allocation(2 * padded, op="constant_pad_nd", shape=(1, padded)))
        for layer, old in enumerate(caches):
            scores = timeline.alloc(Allocation(4 * min(length, self.window or length), op="bmm"))
            caches[layer] = timeline.alloc(self._cache(length))
            timeline.free(old)
            timeline.free(scores)
        noise = self.token_noise[length % len(self.token_noise)]
        temporary = timeline.alloc(Allocation(100 + noise, op="argmax"))
        timeline.events.append(Event(EventKind.HOST_WAIT_STREAM, 0, 0))
        timeline.free(temporary)
        if mask is not None:
            timeline.free(mask)
        longer = timeline.alloc(Allocation(8 * (length + 1), op="cat"))
        timeline.free(ids)
        return longer


def without_marks(timeline: Timeline) -> list[Event]:
    """The events of a timeline but for its marks."""
    return [event for event in timeline.events if event.kind is not EventKind.MARK]
