"""Small tensors keep known content; what is not known is answered by a stated rule, with the line that asked."""

import pytest
import torch
from torch import nn
from virtual_gpu_helpers import virtual_gpu

from vramcast.errors import RecordingError


def test_masks_and_indices_are_known() -> None:
    with virtual_gpu() as machine:
        mask = torch.tensor([[1, 1, 0], [1, 1, 1]]).cuda()
        assert not mask.bool().all()
        assert (mask == 1).sum().item() == 5
        assert mask.nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
        assert mask.cumsum(-1).max().item() == 3
        assert mask[mask.bool()].shape == (5,)
        assert torch.arange(4, device="cuda")[2].item() == 2
        assert [int(x) for x in mask.sum(1)] == [2, 3]
        assert torch.equal(mask, mask.clone())
        assert mask.cpu().numpy().tolist() == [[1, 1, 0], [1, 1, 1]]
        assert f"{torch.tensor(0.5).cuda():.2f}" == "0.50"
        assert machine.assumptions.sentences() == []


def test_views_of_known_values_follow_writes_through_each_other() -> None:
    with virtual_gpu():
        x = torch.zeros(2, 3, device="cuda")
        row = x[1]
        row.add_(2)
        x[0, 0] = 7
        assert x.tolist() == [[7.0, 0.0, 0.0], [2.0, 2.0, 2.0]]
        row.uniform_()
        x_known = x.sum()
        assert row.device == x_known.device


def test_an_unknown_write_makes_all_aliases_forget() -> None:
    with virtual_gpu() as machine:
        x = torch.zeros(4, device="cuda")
        view = x[:2]
        x.normal_()
        assert view.tolist() == [0.0, 0.0]
        assert any("unknown tensor of shape (2,)" in sentence for sentence in machine.assumptions.sentences())


def test_a_result_written_to_out_is_forgotten() -> None:
    with virtual_gpu() as machine:
        out = torch.ones(4, device="cuda")
        torch.add(torch.randn(4, device="cuda"), 1, out=out)
        assert bool(out.sum() > 100) is False
        assert len(machine.assumptions.sentences()) == 1


def test_overwriting_makes_unknown_memory_known() -> None:
    with virtual_gpu() as machine:
        x = torch.empty(3, device="cuda")
        x.copy_(torch.tensor([1.0, 2.0, 3.0]))
        y = torch.empty(2, device="cuda").fill_(5)
        assert (x.tolist(), y.tolist()) == ([1.0, 2.0, 3.0], [5.0, 5.0])
        base = torch.empty(4, device="cuda")
        base[:2].zero_()
        assert machine.value_of(base) is None


def test_new_data_brings_its_own_value() -> None:
    with virtual_gpu() as machine:
        parameter = nn.Parameter(torch.full((2,), 3.0))
        assert parameter.tolist() == [3.0, 3.0]
        parameter.data = parameter.data.cuda()
        assert parameter.tolist() == [3.0, 3.0]
        parameter.data = torch.randn(2, device="cuda")
        assert machine.value_of(parameter) is None


def test_copies_are_independent() -> None:
    import copy

    with virtual_gpu():
        x = torch.zeros(2, device="cuda")
        twin = copy.deepcopy(x)
        x.add_(1)
        assert (x.tolist(), twin.tolist()) == ([1.0, 1.0], [0.0, 0.0])


def test_random_and_uninitialised_content_is_unknown() -> None:
    with virtual_gpu() as machine:
        for made in (
            torch.rand(2, device="cuda"),
            torch.empty(2, device="cuda"),
            torch.randint(0, 5, (2,), device="cuda"),
        ):
            assert machine.value_of(made) is None
        large = torch.zeros(65_537, device="cuda")
        assert machine.value_of(large) is None
        assert machine.value_of(torch.zeros(65_536, device="cuda")) is not None


@pytest.mark.parametrize(
    ("dtype", "answer"),
    [(torch.bool, False), (torch.uint8, 0), (torch.int64, 1), (torch.float32, 1.0), (torch.bfloat16, 1.0)],
)
def test_an_unknown_scalar_is_assumed_and_reported_with_its_line(dtype: torch.dtype, answer: object) -> None:
    with virtual_gpu() as machine:
        unknown = torch.empty((), device="cuda", dtype=dtype)
        read = unknown.item()
        assert (read, type(read)) == (answer, type(answer))
        (sentence,) = machine.assumptions.sentences()
        assert "test_known_values.py:" in sentence
        assert "test_an_unknown_scalar" in sentence
        assert f"read as {answer}" in sentence


def test_repeated_assumptions_are_counted() -> None:
    with virtual_gpu() as machine:
        loss = torch.randn(4, device="cuda").sum()
        for _ in range(3):
            float(loss)
        assert [sentence.endswith("(3 times)") for sentence in machine.assumptions.sentences()] == [True]


def test_unknown_selections_are_bounded_and_said_so() -> None:
    with virtual_gpu() as machine:
        x = torch.randn(6, 4, device="cuda")
        chosen = x > 0
        assert x[chosen].shape == (24,)
        assert chosen.nonzero().shape == (24, 2)
        assert torch.masked_select(x, chosen).shape == (24,)
        assert x[x.sum(1) > 0].shape == (6, 4)
        assert torch.unique(x).shape == (24,)
        assert len(machine.assumptions.sentences()) == 5
        assert all("test_known_values.py" in sentence for sentence in machine.assumptions.sentences())


def test_a_selection_without_a_bound_is_refused() -> None:
    with virtual_gpu():
        counts = torch.randint(0, 9, (4,), device="cuda")
        with pytest.raises(RecordingError, match=r"repeat_interleave.*output_size"):
            torch.repeat_interleave(counts)
        assert torch.repeat_interleave(torch.tensor([1, 2]).cuda()).tolist() == [0, 1, 1]
        assert torch.bincount(counts, minlength=16).shape == (16,)


def test_cuda_tensors_are_not_numpy_arrays() -> None:
    with virtual_gpu(), pytest.raises(TypeError, match=r"Use Tensor.cpu\(\)"):
        torch.zeros(2, device="cuda").numpy()


def test_printing_reads_no_values() -> None:
    with virtual_gpu() as machine:
        assert (
            repr(torch.randn(2, device="cuda")) == "tensor(<virtual>, shape=(2,), dtype=torch.float32, device='cuda:0')"
        )
        assert machine.assumptions.sentences() == []
