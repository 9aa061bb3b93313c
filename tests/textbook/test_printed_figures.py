"""Every formula prints the figure of its document, and says so where the document's own arithmetic is off."""

import pytest

from vramcast.textbook import TextbookFigure, activation_ratio, adamw_account, all_documents, gpt2_requirements
from vramcast.textbook import transformer_memory_calculator as calculator

SMALL = {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768, "vocab_size": 50257}
MEDIUM = {"num_hidden_layers": 24, "num_attention_heads": 16, "hidden_size": 1024, "vocab_size": 50257}
XL = {"num_hidden_layers": 48, "num_attention_heads": 25, "hidden_size": 1600, "vocab_size": 50257}
FLOPS = {"sequence_length": 1024, "hidden_size": 1600, "intermediate_size": 6400}
FIGURES = [figure for document in all_documents() for figure in document.figures]


def figure_id(figure: TextbookFigure) -> str:
    return f"{figure.document}: {figure.section}: {figure.name}"


@pytest.mark.parametrize(
    ("millions", "text"), [(117, "0.468 GB"), (345, "1.380 GB"), (762, "3.048 GB"), (1500, "6.000 GB")]
)
def test_parameter_bytes(millions: int, text: str) -> None:
    nbytes = gpt2_requirements.parameter_bytes(num_parameters=millions * 10**6, bytes_per_value=4)
    assert f"{nbytes / 1e9:.3f} GB" == text
    assert gpt2_requirements.parameter_bytes(num_parameters=millions * 10**6, bytes_per_value=2) == nbytes // 2


def test_activation_bytes_are_not_what_the_document_prints() -> None:
    nbytes = gpt2_requirements.activation_bytes(
        batch_size=1, sequence_length=1024, hidden_size=768, num_hidden_layers=12, bytes_per_value=4
    )
    assert nbytes == 37_748_736 == 36 * 2**20
    figure = next(figure for figure in FIGURES if figure.claim.text == "37.5 MB")
    assert figure.formula_value == nbytes
    assert figure.claim.low == 37_500_000
    assert "37.7 MB or 36.0 MiB" in figure.arithmetic_note


def test_gpt2_small_training_is_in_the_range_of_the_document() -> None:
    values = 3 * 117_000_000 + 1024 * 768 * 12 + 12 * 1024 * 1024
    nbytes = gpt2_requirements.training_bytes(
        num_parameters=117_000_000,
        batch_size=1,
        sequence_length=1024,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        bytes_per_value=4,
    )
    assert nbytes == 4 * values
    assert 1e9 < nbytes < 1.5e9


def test_calculator_prints_its_own_figures() -> None:
    assert calculator.model_parameters(num_hidden_layers=12, hidden_size=768, vocab_size=50257) == 123_568_896
    sizes = {**SMALL, "batch_size": 8, "sequence_length": 1024}
    assert calculator.activation_values(**sizes) == 3_088_334_848
    nbytes = calculator.training_bytes(**sizes, bytes_per_value=4)
    assert nbytes == 4 * (4 * 123_568_896 + 2 * 3_088_334_848)
    # 26.68 is cut off to 26.6, not rounded.
    assert int(nbytes / 1e8) / 10 == 26.6


@pytest.mark.parametrize(("sizes", "gigabytes"), [(SMALL, "5.1"), (MEDIUM, "12.5")])
def test_calculator_at_batch_one(sizes: dict[str, int], gigabytes: str) -> None:
    nbytes = calculator.training_bytes(**sizes, batch_size=1, sequence_length=1024, bytes_per_value=4)
    assert f"{nbytes / 1e9:.1f}" == gigabytes


def test_activation_ratio_is_the_quotient_of_the_two_sizes() -> None:
    heads = {"num_attention_heads": 12, "head_dim": 64}
    model = activation_ratio.model_values(num_hidden_layers=12, **heads)
    activations = activation_ratio.activation_values(batch_size=3, sequence_length=1024, num_hidden_layers=12, **heads)
    ratio = activation_ratio.activation_to_model_ratio(batch_size=3, sequence_length=1024, **heads)
    assert model == 4 * 12 * 768**2
    assert activations == 3 * 12 * 12 * 1024 * (1024 + 128)
    assert ratio == activations / model == 18.0
    assert activation_ratio.long_sequence_ratio(batch_size=3, sequence_length=1024, **heads) == 16.0


def test_account_sums_to_its_closed_form() -> None:
    batch, length, width, heads, layers, words = 7, 11, 13, 5, 3, 17
    block = 18 * batch * length * width + 8 * width + 64 * width**2 + 2 * batch * heads * length**2
    whole = layers * block + batch * length * width + 4 * width + batch * length * words + 4 * words * width
    assert whole == adamw_account.training_values(
        batch_size=batch,
        sequence_length=length,
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        vocab_size=words,
    )


def test_account_of_gpt2_xl() -> None:
    sizes = {**XL, "sequence_length": 1024}
    per_sequence, fixed = adamw_account.values_per_sequence(**sizes), adamw_account.fixed_values(**sizes)
    assert (f"{per_sequence / 1e9:.5f}", f"{fixed / 1e9:.4f}") == ("3.98526", "8.1866")
    assert (f"{4 * per_sequence:.8e}", f"{4 * fixed:.8e}") == ("1.59410463e+10", "3.27463424e+10")
    largest = adamw_account.largest_batch(**sizes, memory_bytes=80 * 10**9, bytes_per_value=4)
    assert f"{largest:.3f}" == "2.964"
    assert int(largest) == 2
    assert adamw_account.training_values(**sizes, batch_size=2) == fixed + 2 * per_sequence


def test_account_describes_a_model_of_two_billion_parameters() -> None:
    block = adamw_account.block_parts(batch_size=0, sequence_length=0, hidden_size=1600, num_attention_heads=25)
    final = adamw_account.final_parts(batch_size=0, sequence_length=0, hidden_size=1600, vocab_size=50257)
    assert 48 * sum(part.parameters for part in block) + sum(part.parameters for part in final) == 2_046_646_400


def test_account_of_flops_and_time() -> None:
    assert f"{adamw_account.forward_flops(**FLOPS, batch_size=1):.8e}" == "9.05969664e+10"
    assert f"{adamw_account.forward_flops(**FLOPS, batch_size=1024):.8e}" == "9.27712936e+13"
    assert f"{adamw_account.step_flops(**FLOPS, batch_size=1024):.8e}" == "2.78313881e+14"
    steps = {**FLOPS, "batch_size": 1024, "num_steps": 400_000}
    assert f"{adamw_account.training_flops(**steps):.8e}" == "1.11325552e+20"
    seconds = adamw_account.training_seconds(**steps, flops_per_second=9_750_000_000_000)
    assert f"{seconds:.2f}" == "11418005.37"
    assert f"{seconds / 86400:.0f}" == "132"


@pytest.mark.parametrize("figure", [figure for figure in FIGURES if figure.formula_value is not None], ids=figure_id)
def test_formula_prints_its_figure_or_the_difference_is_noted(figure: TextbookFigure) -> None:
    assert figure.formula_value is not None
    assert figure.claim.prints(figure.formula_value) is not bool(figure.arithmetic_note)
