"""A verdict follows from an interval, and the interval from parts that have names and bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vramcast
from vramcast.errors import InputError
from vramcast.forecast.job_room import room_for
from vramcast.forecast.peaks import Peaks
from vramcast.forecast.room import Room, margin_bytes, room_of
from vramcast.forecast.uncertainty import Spread, Uncertainty, interval, spread_of
from vramcast.hardware import allocator_capacity_bytes, cuda_context_bytes, custom_gpu, find_gpu, nccl_bytes
from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import load_model
from vramcast.units import GIB, MIB

EXACT = Spread("one GPU", 0.0, 0.0, "a test")
GPU = custom_gpu(8 * GIB)
ROOM = Room(GPU, EXACT)
CONTEXT = cuda_context_bytes(GPU)
BELOW, ABOVE = CONTEXT.bytes - CONTEXT.low_bytes, CONTEXT.high_bytes - CONTEXT.bytes
CAPACITY = 8 * GIB - CONTEXT.bytes


@dataclass
class Job:
    """A job that reserves `natural` with room, and runs in `needed` by giving memory back."""

    natural: int
    needed: int

    def __post_init__(self) -> None:
        self.asked: list[int] = []

    def within(self, capacity: int) -> Peaks:
        self.asked.append(capacity)
        if self.needed <= capacity:
            return Peaks(1, min(self.natural, capacity), num_alloc_retries=2)
        return Peaks(1, capacity, out_of_memory=True)

    def placed(self, room: Room) -> tuple[str, int, int]:
        placement, peaks = room.place(Peaks(1, self.natural), self.within)
        return placement.verdict, peaks.reserved_bytes, len(self.asked)


@pytest.mark.parametrize(
    ("natural", "needed", "expected"),
    [
        (CAPACITY - ABOVE, 0, ("fits", CAPACITY - ABOVE, 0)),
        (CAPACITY - ABOVE + 1, 0, ("tight", CAPACITY - ABOVE + 1, 0)),
        (CAPACITY, 0, ("tight", CAPACITY, 0)),
        (CAPACITY + 1, CAPACITY, ("tight", CAPACITY, 1)),
        (CAPACITY + 1, CAPACITY + 1, ("tight", CAPACITY + 1, 1)),
        (CAPACITY + BELOW, CAPACITY + BELOW, ("tight", CAPACITY + BELOW, 1)),
        (CAPACITY + BELOW + 1, CAPACITY + BELOW, ("tight", CAPACITY + BELOW, 2)),
        (CAPACITY + BELOW + 1, CAPACITY + BELOW + 1, ("does_not_fit", CAPACITY + BELOW + 1, 2)),
        (99 * GIB, CAPACITY, ("tight", CAPACITY, 1)),
    ],
)
def test_fits_at_the_high_end_and_does_not_at_the_low_one(
    natural: int, needed: int, expected: tuple[str, int, int]
) -> None:
    assert Job(natural, needed).placed(ROOM) == expected


@given(
    natural=st.integers(0, 12 * GIB),
    needed=st.integers(0, 12 * GIB),
    low=st.floats(-0.1, 0),
    high=st.floats(0, 0.1),
    margin=st.sampled_from([None, "1GiB", "3%"]),
)
def test_the_verdict_is_what_the_ends_say(
    natural: int, needed: int, low: float, high: float, margin: str | None
) -> None:
    room = Room(GPU, Spread("one GPU", low, high, "a test"), margin=margin)
    job = Job(natural, min(needed, natural))
    placement, peaks = room.place(Peaks(1, natural), job.within)
    used = room.device_used(peaks.reserved_bytes, placement.parts)
    assert used.low_bytes <= peaks.reserved_bytes + room.outside_bytes <= used.high_bytes
    assert (placement.verdict == "fits") == (used.high_bytes <= room.gpu_memory_bytes)
    assert (placement.verdict == "does_not_fit") <= (used.low_bytes > room.gpu_memory_bytes)
    if peaks.reserved_bytes <= room.capacity_bytes:
        assert placement.verdict != "does_not_fit"


def test_parts_add_up_and_only_those_inside_the_allocator_move_reserved() -> None:
    parts = (
        Uncertainty(name="a", low_bytes=-3, high_bytes=5, counts_in="reserved", reason=""),
        Uncertainty(name="b", low_bytes=-7, high_bytes=11, counts_in="device_used", reason=""),
    )
    assert interval(100, parts, ("reserved",)) == (97, 105)
    assert interval(100, parts, ("reserved", "device_used")) == (90, 116)
    assert interval(2, parts, ("reserved",)).low_bytes == 0


def test_a_card_is_what_cuda_offers() -> None:
    gpu = find_gpu("rtx-4090")
    room = room_of(gpu)
    assert room.gpu_memory_bytes == gpu.cuda_total_bytes < gpu.memory_total_bytes
    assert room.capacity_bytes == allocator_capacity_bytes(gpu)


def test_several_gpus_hold_nccl_s_buffers() -> None:
    gpu = find_gpu("h100")
    alone, one_of_8 = room_of(gpu), room_of(gpu, "several GPUs", world_size=8)
    nccl = nccl_bytes(gpu, 8)
    assert one_of_8.outside_bytes - alone.outside_bytes == nccl.bytes > 0
    named = {part.name: part for part in one_of_8.parts(40 * GIB)}
    assert (named["NCCL"].low_bytes, named["NCCL"].high_bytes) == (
        nccl.low_bytes - nccl.bytes,
        nccl.high_bytes - nccl.bytes,
    )
    assert "NCCL" not in {part.name for part in alone.parts(40 * GIB)}
    spread = spread_of("several GPUs")
    assert named["spread of reserved memory"].high_bytes == int(40 * GIB * spread.high)


class TestMargin:
    @pytest.mark.parametrize(
        ("margin", "bytes_of_10_gib"), [(None, 0), ("0", 0), ("1GiB", GIB), ("3%", 322122547), (" 2.5 % ", 268435456)]
    )
    def test_is_a_size_or_a_share(self, margin: str | None, bytes_of_10_gib: int) -> None:
        assert margin_bytes(margin, 10 * GIB) == bytes_of_10_gib

    @pytest.mark.parametrize("margin", ["", "x", "-1GiB", "1GB", "101%", "-3%", "nan%", "%", "1e9%"])
    def test_anything_else_is_refused(self, margin: str) -> None:
        with pytest.raises(InputError, match=r"^margin="):
            room_of(GPU, margin=margin)

    def test_is_added_to_the_high_end_alone(self, tiny_gpt2: str) -> None:
        plain = vramcast.training(tiny_gpt2, sequence_length=64)
        careful = vramcast.training(tiny_gpt2, sequence_length=64, margin="1GiB")
        assert careful.device_used_bytes_high - plain.device_used_bytes_high == GIB
        same = ("device_used_bytes", "device_used_bytes_low", "reserved_bytes_low", "reserved_bytes_high")
        assert all(getattr(careful, name) == getattr(plain, name) for name in same)
        assert next(part for part in careful.uncertainty if part.name == "margin").high_bytes == GIB

    def test_turns_fits_into_tight(self, tiny_gpt2: str) -> None:
        card = {"gpu": "custom", "gpu_memory": "2GiB", "sequence_length": 64}
        assert vramcast.training(tiny_gpt2, **card).verdict == "fits"
        assert vramcast.training(tiny_gpt2, margin="2GiB", **card).verdict == "tight"


class TestReleases:
    """Keys and values repeated for every query head, as transformers up to 4.57 keeps them."""

    LLAMA = load_model("llama-3.2-1b")

    def more(self, job: TrainingJob | GenerationJob, model: str | None = None) -> int:
        config = self.LLAMA if model is None else load_model(model)
        return room_for(job, config, find_gpu("rtx-a6000")).more[0].high_bytes

    def test_the_published_difference_of_a_model_of_16_layers(self) -> None:
        """vc-007: 0.3355 GB between 4.57.6 and 5.23 on Llama-3.2-1B, 1 x 2048 in bf16."""
        job = TrainingJob(model="m", batch_size=1, sequence_length=2048, precision="bf16")
        assert self.more(job) == 16 * 2 * 2048 * 64 * (32 + 8) * 2 == 335_544_320

    def test_one_layer_s_where_nothing_is_kept(self) -> None:
        fields = {"model": "m", "batch_size": 1, "precision": "bf16"}
        assert self.more(TrainingJob(**fields, sequence_length=2048, checkpointing="full")) == 335_544_320 // 16
        assert self.more(GenerationJob(**fields, prompt_length=2000, max_new_tokens=48)) == 335_544_320 // 16

    def test_none_where_heads_are_not_shared_or_attention_is_eager(self) -> None:
        job = TrainingJob(model="m", batch_size=1, sequence_length=1024)
        assert self.more(job, "gpt2") == 0
        assert self.more(job.model_copy(update={"attention": "eager"})) == 0


@pytest.mark.parametrize("mib", [530, 560, 580, 620, 700, 720, 800, 1200])
def test_json_says_how_it_came_to_its_verdict(tiny_gpt2: str, mib: int) -> None:
    forecast = vramcast.training(
        tiny_gpt2, batch_size=2, sequence_length=64, gpu="custom", gpu_memory=f"{mib}MiB"
    ).to_dict()
    parts = forecast["uncertainty"]
    assert forecast["reserved_bytes_low"] == forecast["peak_reserved_bytes"] + sum(
        part["low_bytes"] for part in parts if part["counts_in"] == "reserved"
    )
    assert forecast["device_used_bytes_high"] == forecast["device_used_bytes"] + sum(p["high_bytes"] for p in parts)
    assert forecast["device_used_bytes_low"] == forecast["device_used_bytes"] + sum(p["low_bytes"] for p in parts)
    fits = forecast["device_used_bytes_high"] <= forecast["gpu_memory_bytes"] == mib * MIB
    assert (forecast["verdict"] == "fits") == fits
    assert all(part["name"] and part["reason"] for part in parts)


def test_spreads_have_a_source() -> None:
    for kind in ("one GPU", "one GPU, fp16 autocast", "several GPUs"):
        spread = spread_of(kind)  # type: ignore[arg-type]
        assert spread.low < 0 < spread.high
        assert spread.source
    assert replace(ROOM, spread=spread_of("one GPU")).most_capacity_bytes > ROOM.most_capacity_bytes
