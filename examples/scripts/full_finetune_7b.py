"""Full fine-tuning of a Llama-2-7B shape in bf16 with activation checkpointing and fused AdamW."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.set_default_dtype(torch.bfloat16)
model = LlamaForCausalLM(LlamaConfig()).to("cuda")  # the configuration's defaults are Llama-2-7B's
model.gradient_checkpointing_enable()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)

for step in range(10):
    ids = torch.randint(0, model.config.vocab_size, (1, 2048), device="cuda")
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    print(f"step {step}: loss {loss.item():.3f}")
