"""Generating: with and without cache the same, seeds, sampling, past the context, streaming."""

from pathlib import Path
from typing import Any

import pytest
from micro_model import Train

from vramcast.errors import InputError
from vramcast.gpt import generate
from vramcast.gpt.generating import GenerationResult
from vramcast.gpt.settings import GenerateSettings


@pytest.fixture
def trained(run_training: Train, models_dir: Path) -> Path:
    run_training(max_iters=40, learning_rate=1e-2, eval_interval=40, eval_iters=1)
    return models_dir


def generated(models_dir: Path, **settings: Any) -> GenerationResult:
    defaults: dict[str, Any] = {"name": "m", "models_dir": models_dir, "prompt": "the tape", "max_new_tokens": 20}
    return generate(GenerateSettings(**defaults | settings))


def test_the_cache_changes_nothing(trained: Path) -> None:
    for max_new_tokens in (25, 70):  # 70 goes past the context of 32 twice
        with_cache = generated(trained, greedy=True, max_new_tokens=max_new_tokens)
        without = generated(trained, greedy=True, max_new_tokens=max_new_tokens, kv_cache=False)
        assert with_cache.tokens == without.tokens
        assert len(with_cache.tokens) == max_new_tokens


def test_a_seed_gives_the_same_text(trained: Path) -> None:
    first = generated(trained, seed=1)
    assert generated(trained, seed=1).text == first.text
    assert generated(trained, seed=2).text != first.text
    assert generated(trained, seed=1, temperature=0.5).text != first.text


def test_sampling_from_one_token_is_greedy(trained: Path) -> None:
    greedy = generated(trained, greedy=True).tokens
    assert generated(trained, top_k=1).tokens == greedy
    assert generated(trained, top_p=1e-6).tokens == greedy
    assert generated(trained, temperature=1e-4, seed=5).tokens == greedy


def test_text_is_told_as_it_is_made(trained: Path) -> None:
    pieces: list[str] = []
    settings = GenerateSettings(name="m", models_dir=trained, prompt="the tape", max_new_tokens=30, seed=3)
    result = generate(settings, pieces.append)
    assert pieces[0] == "the tape"
    assert "".join(pieces[1:]) == result.text
    assert len(pieces) > 15


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_generates(trained: Path, precision: str) -> None:
    assert len(generated(trained, precision=precision, seed=1).tokens) == 20


def test_a_folder_by_its_path(trained: Path) -> None:
    by_name = generated(trained, greedy=True)
    assert generated(trained, greedy=True, name=None, pretrained=str(trained / "m")).tokens == by_name.tokens


def test_an_unusable_request_is_refused(trained: Path) -> None:
    for settings, says in (
        ({"prompt": ""}, "--prompt='': write at least one character"),
        ({"prompt": "\udcff"}, "is no UTF-8 text"),
        ({"name": "other"}, "there is no model in"),
        ({"name": None}, "give one of --name and --from"),
        ({"name": "a/b"}, "plain folder name"),
    ):
        with pytest.raises(InputError, match=says):
            generated(trained, **settings)


def test_a_character_the_model_never_saw_is_named(run_training: Train, models_dir: Path) -> None:
    run_training(tokenizer="chars", eval_iters=1)
    with pytest.raises(InputError, match=r"tokenizer does not know '€'"):
        generated(models_dir, prompt="the € tape")


def test_another_tokenizer_in_the_folder_is_noticed(run_training: Train, models_dir: Path) -> None:
    run_training(name="m", eval_iters=1)
    run_training(name="bytes", tokenizer="bytes", eval_iters=1)
    (models_dir / "m" / "tokenizer.json").write_bytes((models_dir / "bytes" / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match="not the one the model was trained with"):
        generated(models_dir)


def test_truncated_weights_are_refused(trained: Path) -> None:
    weights = trained / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated"):
        generated(trained)
