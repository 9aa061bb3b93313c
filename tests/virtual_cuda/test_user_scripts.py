"""Small scripts the way users write them, with the libraries users take, run unmodified from loading to the last checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from virtual_gpu_helpers import virtual_gpu

pytestmark = pytest.mark.filterwarnings("ignore")


class Rows(Dataset[Any]):
    def __init__(self, count: int = 16) -> None:
        self.rows = torch.randint(0, 96, (count, 16))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=96, n_positions=32, bos_token_id=0, eos_token_id=0)
    )


def llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            num_hidden_layers=2, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=96,
        )
    )  # fmt: skip


def weights_on_disk(folder: Path) -> list[str]:
    return [
        path.name for path in folder.rglob("*") if path.suffix in (".safetensors", ".bin", ".pt") and path.is_file()
    ]


@pytest.mark.parametrize("precision", ["fp16"])
def test_trainer_saves_resumes_and_loads_the_best(tmp_path: Path, precision: str) -> None:
    def arguments(epochs: int) -> TrainingArguments:
        return TrainingArguments(
            str(tmp_path), **{precision: True}, per_device_train_batch_size=4, gradient_accumulation_steps=2,
            num_train_epochs=epochs, gradient_checkpointing=True, eval_strategy="epoch", save_strategy="epoch",
            load_best_model_at_end=True, metric_for_best_model="eval_loss", logging_steps=1, report_to=[],
            dataloader_num_workers=1, save_total_limit=1, disable_tqdm=True,
        )  # fmt: skip

    with virtual_gpu() as machine:
        Trainer(gpt2(), arguments(1), train_dataset=Rows(), eval_dataset=Rows(4)).train()
        trainer = Trainer(gpt2(), arguments(2), train_dataset=Rows(), eval_dataset=Rows(4))
        trainer.train(resume_from_checkpoint=True)
        trainer.save_model(str(tmp_path / "final"))
        assert next(trainer.model.parameters()).is_cuda
        assert trainer.state.global_step == 4 and machine.optimizer_steps == 4
    assert set(weights_on_disk(tmp_path)) <= {"scheduler.pt", "scaler.pt", "training_args.bin"}


def test_accelerate_loop(tmp_path: Path) -> None:
    from accelerate import Accelerator

    with virtual_gpu() as machine:
        accelerator = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=2)
        model = gpt2()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        loader = DataLoader(Rows(), batch_size=4, shuffle=True, num_workers=1, pin_memory=True)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
        for batch in loader:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        assert accelerator.gather_for_metrics(loss.detach().repeat(4)).shape == (4,)
        accelerator.save_state(str(tmp_path))
        accelerator.load_state(str(tmp_path))
        accelerator.save_model(model, str(tmp_path / "model"))
        assert machine.optimizer_steps == 2
    assert weights_on_disk(tmp_path) == []


def test_lora(tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    with virtual_gpu():
        base = llama().to(torch.bfloat16)
        base.gradient_checkpointing_enable()
        base.enable_input_require_grads()
        model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
        arguments = TrainingArguments(
            str(tmp_path / "run"), bf16=True, per_device_train_batch_size=4, max_steps=2, report_to=[], save_steps=1
        )
        Trainer(model, arguments, train_dataset=Rows()).train()
        assert {p.grad is not None for p in model.parameters() if p.requires_grad} <= {True, False}
        model.save_pretrained(tmp_path / "adapter")
        loaded = PeftModel.from_pretrained(llama().to("cuda", torch.bfloat16), tmp_path / "adapter").merge_and_unload()
        tokens = torch.ones(1, 4, dtype=torch.long, device="cuda")
        assert loaded.generate(tokens, max_new_tokens=3, do_sample=False, pad_token_id=0).shape[1] <= 7
    assert "adapter_model.safetensors" not in weights_on_disk(tmp_path)


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_lightning(tmp_path: Path, precision: str) -> None:
    import lightning

    class Model(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = gpt2()

        def training_step(self, batch: Any, index: int) -> Any:
            return self.model(**batch).loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", self.model(**batch).loss)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    with virtual_gpu() as machine:
        best = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, monitor="val_loss", save_last=True)
        trainer = lightning.Trainer(
            max_epochs=2, precision=precision, accelerator="gpu", devices=1, gradient_clip_val=1.0, callbacks=[best],
            logger=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Model(), DataLoader(Rows(), 4, num_workers=1, pin_memory=True), DataLoader(Rows(4), 4))
        trainer.validate(dataloaders=DataLoader(Rows(4), 4), ckpt_path="best", verbose=False)
        assert Model.load_from_checkpoint(best.best_model_path) is not None
        assert machine.optimizer_steps == 8
    assert all(path.stat().st_size < 200 for path in tmp_path.glob("*.ckpt"))


def test_a_plain_loop_with_memory_mapped_data(tmp_path: Path) -> None:
    np.random.default_rng(0).integers(0, 96, 2000).astype(np.uint16).tofile(tmp_path / "train.bin")

    def batch() -> list[torch.Tensor]:
        data = np.memmap(tmp_path / "train.bin", dtype=np.uint16, mode="r")
        starts = torch.randint(len(data) - 17, (4,))
        rows = [[torch.from_numpy(data[i + s : i + s + 16].astype(np.int64)) for i in starts] for s in (0, 1)]
        return [torch.stack(row).pin_memory().to("cuda", non_blocking=True) for row in rows]

    with virtual_gpu() as machine:
        raw = gpt2().to("cuda")
        optimizer = torch.optim.AdamW(raw.parameters(), lr=1e-3, fused=True)
        scaler = torch.amp.GradScaler("cuda", enabled=False)
        model, best = torch.compile(raw), 1e9
        for _ in range(2):
            x, y = batch()
            with torch.amp.autocast("cuda", torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(model(x).logits.view(-1, 96), y.view(-1))
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            best = min(best, loss.item())
            torch.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": best}, tmp_path / "ckpt"
            )
        checkpoint = torch.load(tmp_path / "ckpt", map_location="cuda")
        again = gpt2()
        again.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        assert again.lm_head.weight is again.transformer.wte.weight and checkpoint["best"] == 1.0
        assert machine.optimizer_steps == 2
