"""Validation loss: every token of the validation text but the first predicted once, from at most one sequence of context."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from vramcast.gpt.tokens import Tokens, TokenText


class Validation(NamedTuple):
    """The loss on text not trained on."""

    nats_per_token: float
    bits_per_byte: float
    """Comparable between tokenizers: bits to tell the text apart, for each of its bytes in UTF-8."""


def validate(
    model: nn.Module, accelerator: Accelerator, text: TokenText, *, length: int, batch_size: int, most_batches: int
) -> Validation:
    """Every process takes its share of the batches; all get the same answer."""
    batches = _batches(text.tokens, length, batch_size, most_batches)
    sums = torch.zeros(2, dtype=torch.float64)  # nats, predicted tokens
    model.eval()
    with torch.no_grad():
        for first in range(0, len(batches), accelerator.num_processes):
            # FSDP needs every process in every forward: who has no batch left runs the last one again and counts it nothing.
            mine = first + accelerator.process_index
            batch = torch.from_numpy(batches[min(mine, len(batches) - 1)]).to(accelerator.device)
            with accelerator.autocast():
                loss = model(input_ids=batch, labels=batch, use_cache=False).loss
            predicted = batch.shape[0] * (batch.shape[1] - 1) if mine < len(batches) else 0
            sums += torch.tensor([loss.item() * predicted, predicted], dtype=torch.float64)
    model.train()
    nats, predicted = accelerator.reduce(sums.to(accelerator.device), "sum").tolist()
    nats_per_token = nats / predicted
    return Validation(nats_per_token, nats_per_token * len(text.tokens) / (math.log(2) * text.num_bytes))


def _batches(
    tokens: Tokens, length: int, batch_size: int, most: int
) -> list[np.ndarray[tuple[int, int], np.dtype[np.int64]]]:
    """Windows that overlap by the one token that is context only; of a long text, batches spread evenly over it."""
    begins = list(range(0, len(tokens) - length + 1, length - 1))
    groups = [begins[at : at + batch_size] for at in range(0, len(begins), batch_size)]
    batches = [
        np.stack([tokens[begin : begin + length] for begin in group]).astype(np.int64)
        for group in _spaced(groups, most)
    ]
    tail = tokens[begins[-1] + length - 1 :] if begins else tokens
    if len(groups) <= most and len(tail) > 1:
        batches.append(tail[None].astype(np.int64))
    return batches


def _spaced(groups: list[list[int]], most: int) -> list[list[int]]:
    if len(groups) <= most:
        return groups
    return [groups[index * len(groups) // most] for index in range(most)]
