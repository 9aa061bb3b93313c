"""Real models from a configuration; on the virtual GPU no weight is downloaded, drawn or held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch

from vramcast.errors import InputError
from vramcast.record.failures import refused_configuration
from vramcast.tapes.structure_rules import rules

if TYPE_CHECKING:
    from vramcast.models import ModelConfig

REFERENCE_MODEL_TYPE = "vramcast_gpt"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_NOT_OF_THE_MODEL = ("model_type", "batch_size", "num_labels", "id2label", "label2id", "problem_type")
"""The last four are of classifiers; transformers would make a table of as many labels as are named."""


def weight_dtype(precision: str) -> torch.dtype:
    """Dtype the weights are kept in: fp32 under autocast."""
    return DTYPES.get(precision, torch.float32)


def autocast_region(precision: str, device: str = "cuda") -> Any:
    """A fresh autocast region for `amp-*` precisions, nothing otherwise."""
    if not precision.startswith("amp-"):
        return nullcontext()
    return torch.autocast(device, DTYPES[precision.removeprefix("amp-")])


@contextmanager
def attention_backend(attention: str) -> Iterator[None]:
    """Only the named SDPA backend for `flash`, `efficient` and `math`; PyTorch's own choice otherwise."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backends = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "math": SDPBackend.MATH,
    }
    with sdpa_kernel([backends[attention]]) if attention in backends else nullcontext():
        yield


class ModelBuilder:
    """Builds the model class that really runs a configuration; called on the virtual GPU, it draws no weights.

    The configuration is checked and the model's code imported when this is made, before anything is patched.
    """

    def __init__(
        self, config: ModelConfig, *, attention: str, dtype: torch.dtype, dropout: float | None = None
    ) -> None:
        """Check the configuration.

        Raises:
            ModelConfigError: transformers refuses the configuration.
            InputError: the model has no path for this attention.
        """
        quiet_transformers()
        from transformers import AutoConfig, AutoModelForCausalLM

        if config.model_type == REFERENCE_MODEL_TYPE:
            from vramcast.gpt import register

            register()
        # A copy: configuration classes complete the dictionaries they are given.
        fields = {key: deepcopy(value) for key, value in config.fields.items() if key not in _NOT_OF_THE_MODEL}
        self.name, self.dtype = config.name, dtype
        self.notes: list[str] = []
        """What a forecast of this model must say besides."""
        with refused_configuration(config.name, "refuses this configuration", fields):
            if dropout is not None:
                fields |= _dropout_fields(config.model_type, fields, dropout)
            self._config = AutoConfig.for_model(config.model_type, **fields)
            self._class: Any = AutoModelForCausalLM._model_mapping[type(self._config)]
        self._attention = self._implementation(attention)

    def _implementation(self, attention: str) -> str:
        """`eager` or `sdpa`, as transformers names them."""
        if attention == "eager" or self._class._supports_sdpa:
            return "eager" if attention == "eager" else "sdpa"
        if attention != "sdpa":
            fix = f"{self._class.__name__} has no path through scaled_dot_product_attention; use --attention eager"
            raise InputError("attention", attention, fix)
        self.notes.append(
            f"{self._class.__name__} has no sdpa path; eager attention is used, as transformers does by default"
        )
        return "eager"

    def __call__(self) -> Any:
        """The model, its parameters on the (virtual) host.

        Raises:
            ModelConfigError: transformers cannot build it.
        """
        with refused_configuration(self.name, "cannot build this model"):
            return self._class._from_config(self._config, attn_implementation=self._attention, dtype=self.dtype)


def _dropout_fields(model_type: str, fields: dict[str, Any], dropout: float) -> dict[str, Any]:
    """Every dropout field this kind of configuration knows, set to `dropout`."""
    from transformers import AutoConfig

    known = {*fields, *AutoConfig.for_model(model_type).to_dict()}
    return {name: dropout for name in rules()["dropout"] if name in known}


def enable_checkpointing(model: Any) -> None:
    """Activation checkpointing of every block; transformers renamed its method in 5.23."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


def quiet_transformers() -> None:
    """Silence advice that transformers prints about weights and devices a forecast has nothing to do with."""
    from transformers.utils import logging

    logging.set_verbosity_error()
