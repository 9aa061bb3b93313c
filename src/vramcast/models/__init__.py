"""Architectures: presets of the package, local config.json files and Hub ids, read into checked dimensions."""

from vramcast.models.config import Dimensions, ModelConfig
from vramcast.models.presets import preset_names
from vramcast.models.reading import model_from_fields
from vramcast.models.resolve import load_model

__all__ = ["Dimensions", "ModelConfig", "load_model", "model_from_fields", "preset_names"]
