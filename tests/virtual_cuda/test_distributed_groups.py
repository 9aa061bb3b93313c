"""`torch.distributed` answers as it does on one rank of many, and the collectives keep the values that are known."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from distributed_helpers import one_rank
from torch.distributed import _functional_collectives as functional
from torch.distributed.device_mesh import init_device_mesh
from virtual_gpu_helpers import allocations, event_names, virtual_gpu

from vramcast.errors import InputError
from vramcast.hardware import nccl_bytes
from vramcast.virtual_cuda.patches.distributed_environment import distributed_environment


@pytest.mark.parametrize(
    ("backend", "configuration"),
    [
        ("nccl", "cuda:nccl"),
        (None, "cuda:nccl"),
        ("cpu:gloo,cuda:nccl", "cpu:gloo,cuda:nccl"),
        ("gloo", "cpu:gloo,cuda:gloo"),
    ],
)
def test_a_group_is_named_as_it_was_asked_for(backend: str | None, configuration: str) -> None:
    with one_rank(8, rank=3, initialize=False):
        assert dist.is_nccl_available()
        dist.init_process_group(backend, device_id=torch.device("cuda:0"))
        given = "nccl" if backend is None else backend
        assert (dist.get_rank(), dist.get_world_size()) == (3, 8)
        assert dist.get_backend() == given
        assert dist.get_backend_config() == configuration


def test_a_group_without_a_backend_is_for_the_gpu() -> None:
    with one_rank(2, initialize=False):
        dist.init_process_group()
        assert (dist.get_backend(), dist.get_backend_config()) == ("undefined", "cuda:nccl")


@pytest.mark.parametrize(
    "arguments", [{"rank": 1, "world_size": 4}, {"init_method": "tcp://somewhere:1234?rank=1&world_size=4"}]
)
def test_the_world_may_be_given_in_the_call(arguments: dict[str, object]) -> None:
    with virtual_gpu():
        dist.init_process_group("nccl", **arguments)  # type: ignore[arg-type]
        assert (dist.get_rank(), dist.get_world_size()) == (1, 4)


def test_a_world_nobody_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with virtual_gpu(), pytest.raises(InputError, match=r"RANK=None.*--world-size"):
        dist.init_process_group("nccl")
    assert not dist.is_initialized()


@pytest.mark.parametrize(("world_size", "rank", "field"), [(0, 0, "world_size"), (2, 2, "rank"), (2, -1, "rank")])
def test_an_environment_that_cannot_be(world_size: int, rank: int, field: str) -> None:
    with pytest.raises(InputError) as raised, distributed_environment(world_size, rank):
        pass
    assert raised.value.field == field


def test_collectives_take_this_rank_for_all() -> None:
    with one_rank(4, rank=1) as machine:
        x = torch.tensor([1.0, 2.0], device="cuda")
        dist.all_reduce(x)
        assert x.tolist() == [4.0, 8.0]
        dist.all_reduce(x, op=dist.ReduceOp.AVG)
        dist.all_reduce(x, op=dist.ReduceOp.MAX)
        dist.broadcast(x, 0)
        dist.reduce(x, 0, op=dist.ReduceOp.MIN)
        assert x.tolist() == [4.0, 8.0]
        flat = torch.empty(8, device="cuda")
        dist.all_gather_single(flat, x)
        assert flat.tolist() == [4.0, 8.0] * 4
        parts = [torch.empty_like(x) for _ in range(4)]
        dist.all_gather(parts, x)
        assert [part.tolist() for part in parts] == [[4.0, 8.0]] * 4
        dist.reduce_scatter_single(x, torch.arange(8.0, device="cuda"))
        assert x.tolist() == [8.0, 12.0]  # elements 2 and 3, four times each
        counts, received = torch.tensor([5, 6, 7, 8], device="cuda"), torch.empty(4, dtype=torch.int64, device="cuda")
        dist.all_to_all_single(received, counts)
        assert received.tolist() == [6] * 4
        flag = torch.tensor(True, device="cuda")
        dist.all_reduce(flag)
        assert flag.item() is True
        assert not [line for line in machine.assumptions.sentences() if "unknown" in line]


def test_an_unknown_value_stays_unknown() -> None:
    with one_rank(4) as machine:
        known, unknown = torch.zeros(2, device="cuda"), torch.randn(8, device="cuda")
        dist.reduce_scatter_single(known, unknown)
        assert machine.value_of(known) is None
        known = torch.zeros(2, device="cuda")
        dist.recv(known, 1)
        assert machine.value_of(known) is None
        assert (known.sum() > 0).item() is False
        assert any("an unknown bool value was read as False" in line for line in machine.assumptions.sentences())


def test_objects_of_this_rank_stand_for_all() -> None:
    with one_rank(3):
        gathered: list[object] = [None] * 3
        mine = {"loss": [1.5]}
        dist.all_gather_object(gathered, mine)
        assert gathered == [mine] * 3
        assert all(found is not mine for found in gathered)
        sent = [7, "a"]
        dist.broadcast_object_list(sent, src=0)
        assert sent == [7, "a"]
        received: list[object] = [None]
        dist.scatter_object_list(received, ["first", "second", "third"], src=0)
        assert received == ["first"]


def test_objects_of_another_rank_are_named_as_unknown() -> None:
    with one_rank(3, rank=1) as machine:
        dist.broadcast_object_list([None], src=0)
        assert any("sent by another rank are unknown" in line for line in machine.assumptions.sentences())


def test_a_synchronous_collective_is_nothing_to_the_allocator() -> None:
    with one_rank(8) as machine:
        x = torch.empty(256, device="cuda")
        before = len(machine.timeline.events)
        dist.all_reduce(x)
        assert len(machine.timeline.events) == before


def test_an_asynchronous_collective_holds_its_tensors_until_it_is_waited_for() -> None:
    with one_rank(8) as machine:
        x, out = torch.empty(256, device="cuda"), torch.empty(2048, device="cuda")
        before = len(machine.timeline.events)
        work = dist.all_gather_single(out, x, async_op=True)
        del x
        assert "free empty" not in event_names(machine, before)
        work.wait()
        # Ordered by events, and no use of another stream is recorded with the block: nothing defers its free.
        assert event_names(machine, before) == [
            "record_event", "stream_wait_event", "record_event", "stream_wait_event", "free empty",
        ]  # fmt: skip


def test_a_barrier_waits_and_takes_one_element() -> None:
    with one_rank(8) as machine:
        dist.barrier(device_ids=[0])
        assert [(allocation.op, allocation.nbytes) for allocation in allocations(machine)] == [("zeros", 4)]
        assert event_names(machine) == ["alloc zeros", "host_wait_stream", "free zeros"]


def test_groups_within_the_world() -> None:
    with one_rank(8, rank=5):
        assert dist.new_group([0, 1]) is dist.GroupMember.NON_GROUP_MEMBER
        pair = dist.new_group([4, 5], backend="gloo")
        assert (dist.get_rank(pair), dist.get_world_size(pair), dist.get_backend(pair)) == (1, 2, "gloo")
        quarter = dist.split_group(split_ranks=[[0, 1, 2, 3], [4, 5, 6, 7]])
        assert dist.get_process_group_ranks(quarter) == [4, 5, 6, 7]
        mesh = init_device_mesh("cuda", (2, 4), mesh_dim_names=("replicate", "shard"))
        assert (mesh["replicate"].get_local_rank(), mesh["shard"].get_local_rank()) == (1, 1)
        assert init_device_mesh("cuda", (8,)).size() == 8


def test_a_functional_collective_makes_one_tensor() -> None:
    with one_rank(4) as machine:
        x = torch.empty(256, device="cuda")
        before = len(machine.timeline.allocations)
        gathered = functional.wait_tensor(functional.all_gather_single(x, 0, dist.group.WORLD))
        assert gathered.shape == (1024,)
        assert [allocation.nbytes for allocation in allocations(machine, before)] == [4096]


def test_spawn_runs_the_first_process_here() -> None:
    ranks = []

    def worker(rank: int, world_size: int) -> None:
        dist.init_process_group("nccl", rank=rank, world_size=world_size)
        torch.nn.Linear(4, 4).to(rank)
        ranks.append((dist.get_rank(), dist.get_world_size()))

    with virtual_gpu() as machine:
        torch.multiprocessing.spawn(worker, args=(4,), nprocs=4)
        assert ranks == [(0, 4)]
        assert machine.assumptions.sentences()[0].startswith("process 0 of 4 was run in place of all,")


def test_what_is_assumed_is_said() -> None:
    with one_rank(8, rank=2) as machine:
        sentences = machine.assumptions.sentences()
        assert sentences[0].startswith("rank 2 of 8 processes was simulated")
        assert machine.world_size == 8
    forecast = machine.forecast()
    nccl = nccl_bytes(machine.gpu, 8)
    assert forecast.device_used_bytes - forecast.peak_reserved_bytes == machine.context_bytes() + nccl.bytes
    assert any(line.startswith("NCCL's buffers") for line in forecast.assumptions)
