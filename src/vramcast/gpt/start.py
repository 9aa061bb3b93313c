"""How a run begins: a new model, one to fine-tune, or the checkpoint of that name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vramcast.errors import InputError
from vramcast.gpt.checkpoint import TrainerState, read_trainer_state
from vramcast.gpt.model_folder import check_vocabulary, folder_tokenizer, load_folder, read_config
from vramcast.gpt.run_folder import RunFolder
from vramcast.gpt.settings import TrainSettings
from vramcast.gpt.text import TextSpan
from vramcast.gpt.tokenizer import byte_tokenizer, character_tokenizer, load_tokenizer, train_bpe
from vramcast.gpt.writing import writing
from vramcast.job import TrainingJob
from vramcast.models import ModelConfig, load_model, model_from_fields
from vramcast.models.presets import find_preset
from vramcast.record.building import ModelBuilder, weight_dtype

ROWS_MULTIPLE = 64
"""The embedding's rows are rounded up to it: matrix units work on multiples of 64 halves (NVIDIA's matrix multiplication guide)."""


@dataclass(frozen=True)
class Start:
    """What a run starts from."""

    config: ModelConfig
    tokenizer: Any
    weights: Path | None
    """A folder to load them from; None: drawn at random."""
    state: TrainerState | None = None
    """The trainer state of a checkpoint; None for a new run."""

    def build(self, job: TrainingJob, flag: str) -> Any:
        """The model, on the host."""
        dtype = weight_dtype(job.precision)
        if self.weights is None:
            return ModelBuilder(self.config, attention=job.attention, dtype=dtype, dropout=job.dropout)()
        return load_folder(self.weights, flag, attention=job.attention, dtype=dtype, dropout=job.dropout)


def open_run(run: RunFolder, settings: TrainSettings, is_main: bool) -> None:
    """Whether the run is a new one; its folder is made empty by the main process."""
    if not settings.resume:
        run.start_over()
    if run.is_new and is_main:
        run.clear_building()


def begin(settings: TrainSettings, run: RunFolder, spans: tuple[TextSpan, TextSpan]) -> Start:
    """Tokenizer, configuration and weights of the run. Of several processes the main one comes first and saves the tokenizer.

    Raises:
        InputError: two things that do not belong together.
    """
    if not run.is_new:
        return _resumed(settings, run)
    if settings.pretrained is not None:
        return _fine_tuned(settings, run)
    config = named_config(settings)
    tokenizer = _tokenizer(settings, run, spans, config.dimensions.vocab_size)
    return Start(_with_vocabulary(config, tokenizer, settings.vocab_size), tokenizer, None)


def named_config(settings: TrainSettings) -> ModelConfig:
    """The architecture of --config: a file where there is one, else the preset of that name, `configs/150M.json` being 150M's.

    Raises:
        InputError: it was not given, or is not known.
    """
    if settings.config is None:
        raise InputError(
            "--config", None, "give a preset such as tiny, a JSON file, or a folder to fine-tune with --from"
        )
    path = Path(settings.config)
    preset = find_preset(path.stem) if path.suffix == ".json" and path.parent.name == "configs" else None
    if preset is not None and not path.exists():
        return load_model(preset)
    return load_model(settings.config, ignore_quantization=settings.ignore_quantization, field="--config")


def _resumed(settings: TrainSettings, run: RunFolder) -> Start:
    state = read_trainer_state(run)
    config = read_config(run.place, "--name")
    if settings.optimizer != state.optimizer:
        fix = f"the checkpoint has states of {state.optimizer}; go on with that one, or start over with --no-resume"
        raise InputError("--optimizer", settings.optimizer, fix)
    if settings.config is not None:
        _check_same_architecture(settings, named_config(settings), config)
    if settings.vocab_size not in (None, config.dimensions.vocab_size):
        raise InputError("--vocab-size", settings.vocab_size, _other_than(config.dimensions.vocab_size))
    tokenizer = folder_tokenizer(run.place, config, "--name")
    if "tokenizer" in settings.model_fields_set:
        _check_same_tokenizer(settings, tokenizer)
    return Start(config, tokenizer, run.place, state)


def _fine_tuned(settings: TrainSettings, run: RunFolder) -> Start:
    assert settings.pretrained is not None
    folder = Path(settings.pretrained).expanduser()
    if settings.config is not None:
        raise InputError(
            "--config", settings.config, "a fine-tuned model has its own configuration; leave out --config or --from"
        )
    if not folder.is_dir():
        raise InputError(
            "--from", settings.pretrained, "no such folder; give one that save_pretrained or gpt train wrote"
        )
    config = read_config(folder, "--from")
    if "tokenizer" in settings.model_fields_set:
        tokenizer = load_tokenizer(settings.tokenizer, "--tokenizer")
        check_vocabulary(tokenizer, config, "--tokenizer", settings.tokenizer)
    else:
        tokenizer = folder_tokenizer(folder, config, "--from")
    if settings.vocab_size not in (None, config.dimensions.vocab_size):
        raise InputError("--vocab-size", settings.vocab_size, _other_than(config.dimensions.vocab_size))
    with writing(run.place.parent, "nothing was trained"):
        tokenizer.save_pretrained(run.here)
    return Start(config, tokenizer, folder)


def _tokenizer(settings: TrainSettings, run: RunFolder, spans: tuple[TextSpan, TextSpan], rows: int) -> Any:
    if (run.here / "tokenizer.json").is_file():
        return load_tokenizer(run.here, "--tokenizer")
    train, validation = spans
    match settings.tokenizer:
        case "bpe":
            # Of the training text alone: tokens made for the validation text would flatter it.
            tokenizer = train_bpe(train.pieces(), settings.vocab_size or rows)
        case "bytes":
            tokenizer = byte_tokenizer()
        case "chars":
            tokenizer = character_tokenizer(piece for span in (train, validation) for piece in span.pieces())
        case path:
            tokenizer = load_tokenizer(path, "--tokenizer")
    with writing(run.place.parent, "nothing was trained"):
        tokenizer.save_pretrained(run.here)
    return tokenizer


def _with_vocabulary(config: ModelConfig, tokenizer: Any, vocab_size: int | None) -> ModelConfig:
    """The configuration with as many rows as were asked for, else as the tokenizer needs and at most its own."""
    needed = math.ceil((max(tokenizer.get_vocab().values()) + 1) / ROWS_MULTIPLE) * ROWS_MULTIPLE
    rows = vocab_size or min(needed, config.dimensions.vocab_size)
    fields = config.fields | {"vocab_size": rows}
    changed = model_from_fields(fields, name=config.name, source=config.source, origin=config.origin)
    notes = tuple(note for note in config.assumptions if "vocab_size" not in note)
    changed = changed.model_copy(update={"assumptions": notes})
    check_vocabulary(tokenizer, changed, "--vocab-size" if vocab_size else "--tokenizer", rows)
    return changed


def _check_same_architecture(settings: TrainSettings, asked: ModelConfig, saved: ModelConfig) -> None:
    wanted = asked.dimensions.model_copy(update={"vocab_size": saved.dimensions.vocab_size})
    if (asked.model_type, wanted) != (saved.model_type, saved.dimensions):
        fix = "is not the model of the checkpoint; leave it out to go on, or start over with --no-resume"
        raise InputError("--config", settings.config, fix)


def _check_same_tokenizer(settings: TrainSettings, saved: Any) -> None:
    """A tokenizer named on the command line must be the checkpoint's; that `bpe` was trained on this text is taken on trust."""
    vocabulary = saved.get_vocab()
    match settings.tokenizer:
        case "bpe":
            same = len(vocabulary) >= len(byte_tokenizer()) and set(byte_tokenizer().get_vocab()) <= set(vocabulary)
        case "bytes":
            same = vocabulary == byte_tokenizer().get_vocab()
        case "chars":
            same = (
                all(len(symbol) == 1 or symbol == saved.unk_token for symbol in vocabulary)
                and saved.unk_token is not None
            )
        case path:
            same = vocabulary == load_tokenizer(path, "--tokenizer").get_vocab()
    if not same:
        fix = "is not the tokenizer of the checkpoint; leave it out to go on, or start over with --no-resume"
        raise InputError("--tokenizer", settings.tokenizer, fix)


def _other_than(rows: int) -> str:
    return f"the model has {rows} rows; leave it out"
