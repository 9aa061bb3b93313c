"""A GPT-2 under Lightning: bf16-mixed, clipping, validation."""

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset
from transformers import GPT2Config, GPT2LMHeadModel


class LanguageModel(lightning.LightningModule):
    """GPT-2 as a LightningModule."""

    def __init__(self):
        super().__init__()
        self.model = GPT2LMHeadModel(GPT2Config(n_layer=6))

    def training_step(self, batch, _):
        """The loss of a batch."""
        (ids,) = batch
        return self.model(input_ids=ids, labels=ids).loss

    def validation_step(self, batch, _):
        """Logs the loss of a batch."""
        (ids,) = batch
        self.log("validation_loss", self.model(input_ids=ids, labels=ids).loss)

    def configure_optimizers(self):
        """AdamW over everything."""
        return torch.optim.AdamW(self.parameters(), lr=3e-4)


def tokens(count):
    """Random tokens in place of a corpus."""
    return DataLoader(TensorDataset(torch.randint(0, 50257, (count, 512))), batch_size=8)


trainer = lightning.Trainer(
    max_steps=6, precision="bf16-mixed", gradient_clip_val=1.0, accelerator="gpu", devices=1, logger=False,
    val_check_interval=3, enable_checkpointing=False,
)  # fmt: skip
trainer.fit(LanguageModel(), tokens(64), tokens(16))
