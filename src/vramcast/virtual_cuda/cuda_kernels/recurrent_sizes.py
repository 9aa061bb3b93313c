"""Sizes of the buffers that cuDNN's recurrent layers take, in elements or bytes; some of them cuDNN alone knows."""

from __future__ import annotations

from typing import NamedTuple

RELU, TANH, LSTM, GRU = range(4)
"""cuDNN's modes."""
CUDNN_MODES = {"RNN_RELU": RELU, "RNN_TANH": TANH, "LSTM": LSTM, "GRU": GRU}
"""By the name a module has for them."""
GATES = {RELU: 1, TANH: 1, LSTM: 4, GRU: 3}
KEPT_PER_STEP = {RELU: 1, TANH: 1, LSTM: 5, GRU: 4}
"""Vectors of the hidden size that backward needs of each step: the gates, and the LSTM's cell or the GRU's hidden part of its candidate."""
RESIDENT_THREADS = 2048
GENERATOR_STATE_BYTES = 24


class RecurrentLayers(NamedTuple):
    """Shape of one call: `tokens` steps in all sequences, through L layers in one or two directions."""

    mode: int
    input_size: int
    hidden_size: int
    projection_size: int
    num_layers: int
    directions: int

    @property
    def output_size(self) -> int:
        """Features that a layer gives in each direction."""
        return self.projection_size or self.hidden_size

    def weight_elements(self) -> int:
        """Elements of the flat weight buffer: matrices, two biases for each gate (also where the module has none), and projections.

        Assumes: cuDNN pads nothing between them. Source: `get_num_weights` and `get_parameters` in `aten/src/ATen/native/cudnn/RNN.cpp`;
        `CUDNN_RNN_DOUBLE_BIAS` in `RNNDescriptor`.
        """
        gates = GATES[self.mode] * self.hidden_size
        inner = self.output_size * self.directions
        first = gates * (self.input_size + self.output_size + 2) + self.projection_size * self.hidden_size
        others = gates * (inner + self.output_size + 2) + self.projection_size * self.hidden_size
        return self.directions * (first + (self.num_layers - 1) * others)

    def reserve_bytes(self, tokens: int, dtype_bytes: int, dropout: bool) -> int:
        """Reserve space of a training forward, which lives until backward.

        Formula: N * (L * directions * kept * H + (L - 1) * directions * output) * dtype_bytes, and a byte for each element that is
        dropped out between layers. Assumes: cuDNN keeps what backward needs and no more; it publishes no formula.
        """
        between = tokens * (self.num_layers - 1) * self.directions * self.output_size
        kept = tokens * self.num_layers * self.directions * KEPT_PER_STEP[self.mode] * self.hidden_size
        return (kept + between) * dtype_bytes + (between if dropout else 0)

    def workspace_bytes(self, tokens: int, dtype_bytes: int) -> int:
        """Workspace of one call: the input projections of one layer for all steps, N * directions * gates * H elements.

        Assumes: as `reserve_bytes`.
        """
        return tokens * self.directions * GATES[self.mode] * self.hidden_size * dtype_bytes


def dropout_state_bytes(multiprocessors: int) -> int:
    """Random states that cuDNN keeps on each GPU once a recurrent layer drops out: 24 bytes for each thread the GPU can hold.

    Assumes: 2048 threads a multiprocessor. cuDNN publishes no formula; PyTorch's source says "slightly over 2MB" (`get_dropout_state`).
    """
    return multiprocessors * RESIDENT_THREADS * GENERATOR_STATE_BYTES
