"""Scripts for accelerate and the Hugging Face Trainer, written the usual way, as one rank of eight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate
import accelerate.state
import pytest
import torch
import torch.distributed as dist
from distributed_helpers import live_by_category, one_rank, padded_shards, rounded
from torch.utils.data import DataLoader, Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
LAYER = "LlamaDecoderLayer"


class Sequences(Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens = torch.arange(index, index + 32) % 256
        return {"input_ids": tokens, "labels": tokens}


def model() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
            tie_word_embeddings=False, use_cache=False,
        )
    )  # fmt: skip


def shard_bytes(world_size: int) -> int:
    return sum(
        rounded(4 * elements)
        for elements in padded_shards((parameter.shape for parameter in model().parameters()), world_size)
    )


def accelerated(plugin: Any = None) -> tuple[accelerate.Accelerator, Any]:
    accelerator = accelerate.Accelerator(mixed_precision="bf16", fsdp_plugin=plugin)
    network = model()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    network, optimizer, loader = accelerator.prepare(network, optimizer, DataLoader(Sequences(), batch_size=4))
    for _, batch in zip(range(2), loader, strict=False):
        loss = network(**batch).loss
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        assert accelerator.gather(loss.detach()).shape == (8,)
    accelerator.wait_for_everyone()
    assert len(loader) == 256 // 4 // 8
    return accelerator, (network, optimizer)


def test_accelerate_takes_ddp() -> None:
    before = dict(accelerate.state.PartialState._shared_state)
    with one_rank(8, initialize=False) as machine:
        accelerator, kept = accelerated()
        assert type(kept[0]).__name__ == "DistributedDataParallel"
        assert (accelerator.num_processes, dist.get_backend()) == (8, "nccl")
        live = live_by_category(machine)
        assert live["optimizer_states"] == 2 * shard_bytes(1)
        assert live["gradients"] == shard_bytes(1)  # the buckets
    assert accelerate.state.PartialState._shared_state == before


def test_accelerate_takes_fsdp(tmp_path: Path) -> None:
    with one_rank(8, initialize=False) as machine:
        plugin = accelerate.FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", transformer_cls_names_to_wrap=[LAYER]
        )
        accelerator, kept = accelerated(plugin)
        assert isinstance(kept[0], torch.distributed.fsdp.FSDPModule)
        live = live_by_category(machine)
        assert (live["parameters"], live["optimizer_states"]) == (shard_bytes(8), 2 * shard_bytes(8))
        accelerator.save_state(tmp_path)
        assert any("checkpoint.save was left out" in line for line in machine.assumptions.sentences())
    assert not dist.is_initialized()


def train(output: Path, **settings: Any) -> Any:
    arguments = TrainingArguments(
        output_dir=str(output), max_steps=2, per_device_train_batch_size=4, bf16=True, report_to=[], save_strategy="no",
        disable_tqdm=True, **settings,
    )  # fmt: skip
    trainer = Trainer(model(), arguments, train_dataset=Sequences())
    trainer.train()
    return trainer


def test_the_trainer_takes_ddp(tmp_path: Path) -> None:
    with one_rank(8, initialize=False) as machine:
        trainer = train(tmp_path)
        assert type(trainer.model_wrapped).__name__ == "DistributedDataParallel"
        assert trainer.args.world_size == 8
        live = live_by_category(machine)
        steps = 512 * len(list(trainer.model.parameters()))  # the fused optimizer keeps its step counts on the GPU
        assert (live["parameters"], live["optimizer_states"]) == (shard_bytes(1), 2 * shard_bytes(1) + steps)


def test_the_trainer_takes_fsdp(tmp_path: Path) -> None:
    with one_rank(8, initialize=False) as machine:
        trainer = train(tmp_path, fsdp=True, fsdp_config={"fsdp_version": 2, "transformer_layer_cls_to_wrap": [LAYER]})
        assert isinstance(trainer.model_wrapped, torch.distributed.fsdp.FSDPModule)
        live = live_by_category(machine)
        steps = 512 * len(list(trainer.model.parameters()))
        assert (live["parameters"], live["optimizer_states"]) == (shard_bytes(8), 2 * shard_bytes(8) + steps)


def test_the_trainer_alone_is_not_distributed(tmp_path: Path) -> None:
    with one_rank(8, initialize=False):
        train(tmp_path)
    with one_rank(1, initialize=False):
        assert type(train(tmp_path).model_wrapped).__name__ == "LlamaForCausalLM"
