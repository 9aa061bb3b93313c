"""Fine-tunes a small GPT-2 with Hugging Face's Trainer: fp16 autocast, accumulation, checkpointing, evaluation, saving."""

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments


class Tokens(Dataset):
    """Random tokens in place of a corpus."""

    def __len__(self):
        return 256

    def __getitem__(self, index):
        ids = torch.randint(0, 50257, (512,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids}


model = GPT2LMHeadModel(GPT2Config())
arguments = TrainingArguments(
    output_dir="trainer-output",
    per_device_train_batch_size=8,
    gradient_accumulation_steps=2,
    fp16=True,
    gradient_checkpointing=True,
    max_steps=6,
    eval_strategy="steps",
    eval_steps=2,
    save_steps=3,
    dataloader_num_workers=2,
    report_to="none",
)
trainer = Trainer(model=model, args=arguments, train_dataset=Tokens(), eval_dataset=Tokens())
trainer.train()
