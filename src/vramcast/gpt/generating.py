"""Generating text with a trained model, token by token, by transformers' own `generate`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from tokenizers.decoders import DecodeStream
from transformers import set_seed
from transformers.generation.streamers import BaseStreamer

from vramcast.errors import InputError
from vramcast.forecast import Forecast
from vramcast.gpt.generation_forecast import forecast_generation, windows
from vramcast.gpt.measured import measured_peaks, reset_peaks
from vramcast.gpt.model_folder import folder_tokenizer, load_folder, read_config
from vramcast.gpt.report import ForecastReport, MeasuredPeaks, Silence
from vramcast.gpt.run_folder import RunFolder
from vramcast.gpt.settings import GenerateSettings
from vramcast.gpt.tokenizer import encode
from vramcast.measure.announcement import announced_run
from vramcast.record.building import weight_dtype
from vramcast.result import Result


class GenerationResult(Result):
    """What was generated."""

    schema_version: int = 1
    text: str
    """After the prompt."""
    tokens: tuple[int, ...]
    tokens_per_second: float
    device: str
    forecast: Forecast | None = None
    """None where none was asked for or none could be made."""
    measured: MeasuredPeaks | None = None
    """Peaks from loading the model on; None without a GPU."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return self.model_dump(mode="json")


def generate(
    settings: GenerateSettings,
    write: Callable[[str], None] = lambda text: None,
    report: ForecastReport | None = None,
) -> GenerationResult:
    """Go on from a prompt. `vramcast watch` knows of it, if it was forecast.

    Args:
        settings: what is asked.
        write: told the prompt, then every piece of text as soon as its token is there.
        report: told the forecast.

    Raises:
        InputError: a setting is not usable, or the model cannot be read.
        DoesNotFitError: the forecast says so and `settings.force` is not set; nothing was started.
    """
    folder, flag = _folder(settings)
    config = read_config(folder, flag)
    tokenizer = folder_tokenizer(folder, config, flag)
    prompt = _prompt(tokenizer, settings.prompt)
    forecast = forecast_generation(settings, config, len(prompt), report or Silence())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with nullcontext() if forecast is None else announced_run(forecast):
        reset_peaks(device)
        model = load_folder(folder, flag, attention="sdpa", dtype=weight_dtype(settings.precision)).to(device).eval()
        if settings.seed is not None:
            set_seed(settings.seed)
        write(settings.prompt)
        streamer = _Writer(tokenizer, write)
        begin = time.perf_counter()
        tokens = _continue(model, prompt, config.dimensions.context_length, settings, streamer)
        seconds = time.perf_counter() - begin
    return GenerationResult(
        text=streamer.text,
        tokens=tuple(tokens),
        tokens_per_second=len(tokens) / seconds,
        device=str(device),
        forecast=forecast,
        measured=measured_peaks(device),
    )


def _continue(
    model: Any, prompt: list[int], context: int, settings: GenerateSettings, streamer: BaseStreamer
) -> list[int]:
    """New tokens, at most as many as asked for: a text may end before."""
    stops = _stop_tokens(model)
    tokens = list(prompt)
    for read, new in windows(len(prompt), settings.max_new_tokens, context):
        if len(tokens) > len(prompt) and tokens[-1] in stops:
            break
        window_ids = torch.tensor([tokens[-read:]], device=model.device)  # (1, T)
        out = model.generate(
            window_ids,
            attention_mask=torch.ones_like(window_ids),
            max_new_tokens=new,
            use_cache=settings.kv_cache,
            pad_token_id=0,
            streamer=streamer,
            **_sampling(settings),
        )
        tokens += out[0, read:].tolist()
    return tokens[len(prompt) :]


def _sampling(settings: GenerateSettings) -> dict[str, Any]:
    if settings.greedy:
        return {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
    return {
        "do_sample": True,
        "temperature": settings.temperature,
        "top_k": settings.top_k or 0,
        "top_p": settings.top_p or 1.0,
    }


def _stop_tokens(model: Any) -> set[int]:
    stop = model.generation_config.eos_token_id
    return set() if stop is None else {stop} if isinstance(stop, int) else set(stop)


class _Writer(BaseStreamer):  # type: ignore[misc]
    """Decodes token by token; a character whose bytes are not all there yet waits for the rest."""

    def __init__(self, tokenizer: Any, write: Callable[[str], None]) -> None:
        self._tokenizer, self._write = tokenizer.backend_tokenizer, write
        self._stream = DecodeStream(skip_special_tokens=True)
        self._skip_prompt = True
        self.text = ""

    def put(self, value: torch.Tensor) -> None:
        """The prompt first, then a token at a time."""
        if self._skip_prompt:
            self._skip_prompt = False
            return
        for token in value.flatten().tolist():
            piece = self._stream.step(self._tokenizer, token)
            if piece:
                self.text += piece
                self._write(piece)

    def end(self) -> None:
        """Another prompt may follow."""
        self._skip_prompt = True


def _folder(settings: GenerateSettings) -> tuple[Path, str]:
    if (settings.name is None) == (settings.pretrained is None):
        raise InputError("--name", settings.name, "give one of --name and --from")
    if settings.pretrained is not None:
        folder, flag = Path(settings.pretrained).expanduser(), "--from"
    else:
        assert settings.name is not None
        folder, flag = RunFolder(settings.models_dir, settings.name).place, "--name"
    if not folder.is_dir():
        raise InputError(
            flag,
            settings.pretrained or settings.name,
            f"there is no model in {folder}; train one with `vramcast gpt train`",
        )
    return folder, flag


def _prompt(tokenizer: Any, text: str) -> list[int]:
    if not text:
        raise InputError("--prompt", text, "write at least one character to go on from")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # bytes of the command line that are no UTF-8 come as lone surrogates
        raise InputError("--prompt", text, "is no UTF-8 text; write it in UTF-8") from error
    tokens = encode(tokenizer, text)
    unknown = tokenizer.unk_token_id
    if not tokens or (unknown is not None and unknown in tokens):
        strange = [character for character in text if unknown in encode(tokenizer, character)]
        fix = f"the model's tokenizer does not know {''.join(dict.fromkeys(strange))!r}"
        raise InputError("--prompt", text, fix)
    return tokens
