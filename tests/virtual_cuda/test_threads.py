"""Threads of the code see the virtual GPU; known values survive what cannot change them."""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from virtual_gpu_helpers import allocated, virtual_gpu


def test_every_thread_is_on_the_gpu() -> None:
    def train(seed: int) -> torch.device:
        x = torch.randn(32, 32, device="cuda", requires_grad=True)
        for _ in range(5):
            (x @ x).relu().to("cpu").cuda().sum().backward()
        assert x.grad is not None
        return x.grad.device

    class Prefetcher(threading.Thread):
        def run(self) -> None:
            self.batch = torch.arange(3).pin_memory().to("cuda", non_blocking=True)

    with virtual_gpu() as machine:
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(train, range(8))) == {torch.device("cuda", 0)}
        prefetcher = Prefetcher()
        prefetcher.start()
        prefetcher.join()
        assert prefetcher.batch.tolist() == [0, 1, 2]
        kept = allocated(machine)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(train, range(4)))
        assert allocated(machine) == kept


def test_a_known_operand_decides() -> None:
    with virtual_gpu() as machine:
        unknown = torch.randn(4, device="cuda") > 0
        true, zero = torch.ones(4, dtype=torch.bool, device="cuda"), torch.zeros(4, dtype=torch.long, device="cuda")
        assert (unknown | true).tolist() == [True] * 4
        assert (true | unknown).all().item() is True
        assert (unknown.long() & zero).max().item() == 0
        assert (unknown & ~true).any().item() is False
        assert machine.assumptions.sentences() == []
        assert machine.value_of(unknown & true) is None
        assert machine.value_of(unknown.float() * 0.0 * torch.zeros(4, device="cuda")) is None
