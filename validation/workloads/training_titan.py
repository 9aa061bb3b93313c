"""torchtitan on eight H100s of 96 GB, as rank 0 runs it: FSDP2 and FSDP1, whole or selective checkpointing.

Parameters are fp32 shards, computed in bf16 and reduced in fp32; AdamW over lists, gradients clipped. Selective checkpointing saves what
matrix products and attention return, but every second product. In March 2024 the loop held on to its fp32 logits; in December it dropped
them before backward, and its start script asked for expandable segments. "Peak active" counts what waits for another stream, so it is the
active peak here too.

Source: github.com/pytorch/torchtitan, train.py and torchtrain/parallelisms/parallelize_llama.py at 83c879f1 (pull request 165) and
e28832e7 (FSDP1); train.py, run_llama_train.sh and torchtitan/parallelisms/parallelize_llama.py at 9dec370a.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from validation.workloads.result import WorkloadResult, result_of
from validation.workloads.training_titan_model import Block, Llama
from vramcast.allocator import AllocatorConfig
from vramcast.hardware import find_gpu
from vramcast.virtual_cuda import VirtualGPU
from vramcast.virtual_cuda.patches.distributed_environment import distributed_environment

GPU = "h100-nvl"
"""For the 96 GB; its kernels are those of every H100."""
WORLD_SIZE, STEPS = 8, 3
_MM = torch.ops.aten.mm.default
_SAVED = {
    _MM,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
}
_SHARDING = (
    "The installed PyTorch shards. Where the PyTorch of 2024 took a reduce-scatter's input, and whether it kept the root gathered, moves "
    "reserved memory by 1 to 3 GiB: read from the difference, not from its source. Ranks differ, too."
)
_WAITING = "Frees that wait for another stream are taken to happen at once; far behind the CPU they hold 1.27 GiB more."
NOTES = {"fsdp2": _SHARDING, "fsdp": _SHARDING, "fsdp1": _WAITING}


def selective_contexts() -> Any:
    """Forward and recomputation of one block."""
    products: dict[bool, int] = defaultdict(int)

    def policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        if operator == _MM:
            products[context.is_recompute] += 1
        skipped = operator == _MM and products[context.is_recompute] % 2 == 0
        saved = operator in _SAVED and not skipped
        return CheckpointPolicy.MUST_SAVE if saved else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


def wrapped(block: Block, checkpointing: str) -> nn.Module:
    """A block that is recomputed."""
    options = {"context_fn": selective_contexts} if checkpointing == "selective" else {}
    return checkpoint_wrapper(block, preserve_rng_state=False, **options)


def shard_each(model: Llama, checkpointing: str, *, reshard_root: bool | None) -> None:
    """FSDP2: each block, and the rest; the last block stays gathered, for backward begins with it."""
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    last = len(model.blocks) - 1
    for i, block in enumerate(model.blocks):
        model.blocks[i] = wrapped(block, checkpointing)
        fully_shard(model.blocks[i], mp_policy=policy, reshard_after_forward=i < last)
    fully_shard(model, mp_policy=policy, reshard_after_forward=reshard_root)
    model.to_empty(device="cuda")


def shard_flat(model: Llama, checkpointing: str) -> nn.Module:
    """FSDP1: one flat parameter for each block, checkpointing inside of it."""
    half = MixedPrecision(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for i, block in enumerate(model.blocks):
        model.blocks[i] = wrapped(block, checkpointing)
    return FullyShardedDataParallel(
        model,
        auto_wrap_policy=ModuleWrapPolicy({Block}),
        mixed_precision=half,
        device_id=0,
        param_init_fn=lambda module: module.to_empty(device="cuda", recurse=False),
    )


class Loop:
    """A few steps."""

    def __init__(self, machine: VirtualGPU, model: nn.Module, row: dict[str, Any], *, keeps_logits: bool) -> None:
        self.machine, self.model, self.keeps_logits = machine, model, keeps_logits
        self.shape = (row["batch_size"], row["seq_len"])
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, foreach=True
        )

    def clip(self) -> None:
        """To a norm of 1."""
        if isinstance(self.model, FullyShardedDataParallel):
            self.model.clip_grad_norm_(1.0)
        else:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)

    def batch(self) -> Tensor:
        """Tokens or labels."""
        return self.machine.host_tensor(self.shape, torch.long).to("cuda")

    def train(self) -> None:
        """Names of one step live until those of the next take their place."""
        self.model.train()
        for _ in range(STEPS):
            token_ids = self.batch()
            labels = self.batch()
            self.optimizer.zero_grad()
            logits = self.model(token_ids)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(0, 1))
            if not self.keeps_logits:
                del logits
            loss.backward()
            self.clip()
            self.optimizer.step()
            if self.keeps_logits:
                loss.item()


def forecast_run(row: dict[str, Any], *, of_march: bool) -> WorkloadResult:
    """Peaks of rank 0; of a row that prints the active peak, that."""
    kind, checkpointing = row["sharding"]["type"], row["checkpointing"]
    config = AllocatorConfig(expandable_segments=not of_march)
    gpu = VirtualGPU(find_gpu(GPU), torch_version="2.4.0" if of_march else "2.6.0", allocator_config=config)
    with distributed_environment(WORLD_SIZE), gpu as machine:
        dist.init_process_group("nccl")
        with torch.device("meta"):
            tokens = 2 * 32_768 if of_march else row["seq_len"]
            llama = Llama(row["model"], flattened=of_march, table_tokens=tokens)
        if kind == "fsdp1":
            model = shard_flat(llama, checkpointing)
        else:
            shard_each(llama, checkpointing, reshard_root=None if of_march else True)
            llama.make_table()
            model = llama
        Loop(machine, model, row, keeps_logits=of_march).train()
        result = result_of(machine, NOTES[kind])
        active = machine.allocator.statistics.all.active_bytes_peak
    return WorkloadResult(active, result.peak_reserved_bytes, result.notes, room=result.room)


WORKLOADS = {f"titan165-00{number}": partial(forecast_run, of_march=True) for number in (1, 3, 5, 6, 8)}
WORKLOADS["titan-001"] = partial(forecast_run, of_march=False)
