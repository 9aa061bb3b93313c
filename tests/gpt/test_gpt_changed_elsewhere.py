"""A model that was changed as the GPT-2 its folder describes, by who knows nothing of vramcast."""

from pathlib import Path

import pytest
import torch
from micro_model import Train
from transformers import AutoModelForCausalLM, GPT2LMHeadModel

from vramcast.errors import InputError
from vramcast.forecast import Forecast
from vramcast.gpt import ReferenceGPTForCausalLM
from vramcast.gpt.model_folder import load_folder, read_config
from vramcast.gpt.report import Silence

SEEN = torch.arange(20)[None]


class Told(Silence):
    """Keeps the forecast it is told."""

    told: Forecast

    def forecast(self, forecast: Forecast, gpu_is_present: bool) -> None:
        self.told = forecast


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(SEEN).logits
    return found


@pytest.fixture
def elsewhere(forecasting_training: Train, models_dir: Path) -> GPT2LMHeadModel:
    """What a trained model is to transformers."""
    forecasting_training(max_iters=2, eval_iters=1)
    model: GPT2LMHeadModel = AutoModelForCausalLM.from_pretrained(models_dir / "m")
    return model


@pytest.mark.slow
def test_biases_given_elsewhere_are_kept_forecast_and_told(
    elsewhere: GPT2LMHeadModel, forecasting_training: Train, models_dir: Path
) -> None:
    torch.manual_seed(0)
    for name, parameter in elsewhere.named_parameters():
        if name.endswith(".bias"):
            torch.nn.init.normal_(parameter)
    elsewhere.save_pretrained(models_dir / "biased")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (models_dir / "biased" / file).write_bytes((models_dir / "m" / file).read_bytes())
    read = load_folder(models_dir / "biased", "--from", attention="sdpa", dtype=torch.float32)
    assert isinstance(read, ReferenceGPTForCausalLM)
    torch.testing.assert_close(logits(read), logits(elsewhere))
    told = Told()
    tuned = forecasting_training(told, name="tuned", pretrained=str(models_dir / "biased"), max_iters=1, batch_size=4)
    assert any("its weights have biases" in line for line in told.told.assumptions)
    assert told.told.parameters == tuned.parameters == sum(parameter.numel() for parameter in elsewhere.parameters())
    saved = read_config(models_dir / "tuned")
    assert saved.fields["bias"] is True
    assert saved.parameters == tuned.parameters
    resumed = forecasting_training(name="tuned", max_iters=2)
    assert (resumed.resumed_from, resumed.parameters) == (1, tuned.parameters)


def test_biases_of_zero_are_no_biases(elsewhere: GPT2LMHeadModel, models_dir: Path) -> None:
    elsewhere.save_pretrained(models_dir / "same")
    assert read_config(models_dir / "same").fields == read_config(models_dir / "m").fields


def test_another_size_than_the_mark_says_is_refused(
    elsewhere: GPT2LMHeadModel, forecasting_training: Train, models_dir: Path
) -> None:
    elsewhere.resize_token_embeddings(600)
    elsewhere.save_pretrained(models_dir / "larger")
    with pytest.raises(InputError, match=r"vocab_size=600: vramcast\.gpt says \d+: the model was changed elsewhere"):
        forecasting_training(name="tuned", pretrained=str(models_dir / "larger"))
