"""Scripts as users write them, small enough for a test."""

MODEL = """
import torch
from torch import nn
import torch.nn.functional as F


class Net(nn.Module):
    def __init__(self, vocabulary=512, width=64, layers=2):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, ids, targets):
        x = self.embedding(ids)
        for layer in self.layers:
            x = x + F.gelu(layer(x))
        logits = self.head(x)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return loss
"""

TRAIN = """
import argparse
import torch
from model import Net

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--batch", type=int, default=32)
args = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"
model = Net().to(device)
optimizer = torch.optim.AdamW(model.parameters())
for step in range(args.steps):
    ids = torch.randint(0, 512, (args.batch, 65)).to(device)
    loss = model(ids[:, :-1], ids[:, 1:].contiguous())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    print("step", step, torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())
print("done")
"""

HALVING = """
import torch

batch = 64
while True:
    try:
        x = torch.empty(batch, 1024, 256, device="cuda")
        break
    except torch.cuda.OutOfMemoryError:
        batch //= 2
        torch.cuda.empty_cache()
print(batch)
"""
