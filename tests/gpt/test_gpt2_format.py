"""A reference GPT as a GPT-2: the same function, and the way back."""

import pytest
import torch
from transformers import GPT2LMHeadModel

from vramcast.gpt import ReferenceGPTConfig, ReferenceGPTForCausalLM
from vramcast.gpt.gpt2_format import from_gpt2, gpt2_config, has_biases, to_gpt2


def reference(**fields: object) -> ReferenceGPTForCausalLM:
    torch.manual_seed(0)
    sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 12, "vocab_size": 30}
    return ReferenceGPTForCausalLM(ReferenceGPTConfig(**sizes | fields)).eval()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_same_logits(bias: bool, tied: bool) -> None:
    model = reference(bias=bias, tie_word_embeddings=tied)
    if bias:
        torch.nn.init.normal_(model.blocks[1].attention.qkv_proj.bias)
    other = GPT2LMHeadModel(gpt2_config(model.config)).eval()
    loaded = other.load_state_dict(to_gpt2(model.state_dict(), model.config), strict=False)
    assert not loaded.unexpected_keys
    assert set(loaded.missing_keys) <= {"lm_head.weight"} if tied else not loaded.missing_keys
    tokens = torch.randint(30, (2, 12))
    with torch.no_grad():
        torch.testing.assert_close(other(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_way_back_is_exact(bias: bool, tied: bool) -> None:
    model = reference(bias=bias, tie_word_embeddings=tied)
    back = from_gpt2(to_gpt2(model.state_dict(), model.config), model.config)
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(weight, back[name]) for name, weight in model.state_dict().items())


def test_biases_are_not_dropped_in_silence() -> None:
    model = reference()
    weights = to_gpt2(model.state_dict(), model.config)
    assert not has_biases(weights)
    weights["transformer.ln_f.bias"] += 1
    assert has_biases(weights)
    with pytest.raises(ValueError, match="the weights have biases"):
        from_gpt2(weights, model.config)
