"""The textbook against real forecasts of tiny models, and without torch."""

import subprocess
import sys

from vramcast.job import GenerationJob, TrainingJob
from vramcast.textbook import compare, for_model, forecast_answer, half_precision_tensors, why_fp16_saves_little
from vramcast.textbook.adamw_account import adamw_account

NO_TORCH = """
import sys
import vramcast.textbook
assert len(vramcast.textbook.all_documents()) == 5
heavy = {"torch", "transformers", "rich"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_documents_are_read_without_torch() -> None:
    subprocess.run([sys.executable, "-c", NO_TORCH], check=True)


def test_formulas_that_are_right_agree_with_a_tiny_gpt2(tiny_gpt2: str) -> None:
    book = for_model(TrainingJob(model=tiny_gpt2, batch_size=2, attention="eager"))
    rows = {(row.figure.document, row.figure.name): row for row in book.rows}
    assert book.forecast.parameters == 172_288
    # 2 layers: 11 biases of E in each but the norms' weights and biases, which are counted; positions and the last norm are not.
    left_out = 128 * 64 + 2 * 64 + 2 * 9 * 64
    assert rows["transformer_memory_calculator", "model parameters"].claimed_value == 172_288 - left_out
    for name in ("weight bytes", "gradient bytes", "optimizer bytes"):
        row = rows["trainer_guide", name]
        # Tensors of a few bytes take a block of 512.
        assert row.claimed_value <= (row.true_value or 0) <= 1.1 * row.claimed_value, name


def test_a_tiny_llama_departs_and_generates(tiny_llama: str) -> None:
    training = for_model(TrainingJob(model=tiny_llama))
    broken = {clause.split("=")[0] for row in training.rows for clause in row.departures}
    assert {"num_key_value_heads", "intermediate_size", "attention"} <= broken
    generation = for_model(GenerationJob(model=tiny_llama, prompt_length=20, max_new_tokens=5))
    assert {row.figure.quantity for row in generation.rows} == {"parameters", "peak_allocated", "parameter_count"}


def test_the_flops_of_one_block_are_those_of_a_tiny_gpt2(tiny_gpt2: str) -> None:
    job = TrainingJob(model=tiny_gpt2, batch_size=2, sequence_length=128, attention="eager")
    flops = adamw_account().formula("step_flops")
    sizes = {"batch_size": 2, "sequence_length": 128, "hidden_size": 64, "intermediate_size": 256}
    third_matrix = 3 * 2 * 2 * 128 * 64 * 256
    head = 3 * 2 * 2 * 128 * 64 * 1000
    assert forecast_answer()(job).flops_per_step == 2 * (flops.evaluate(sizes) - third_matrix) + head


def test_why_fp16_saves_little_on_a_tiny_gpt2(tiny_gpt2: str) -> None:
    found = why_fp16_saves_little(tiny_gpt2, (8, 4), sequence_length=128)
    rows = {(row.batch_size, row.category): row for row in found.rows}
    assert rows[8, "parameters"].saved_bytes == 0
    assert 0 < rows[8, "activations"].saved_bytes < rows[8, "activations"].fp32_bytes / 2
    full, half = found.growth
    assert full.per_sequence_bytes > half.per_sequence_bytes > full.per_sequence_bytes / 2
    tensors = half_precision_tensors(TrainingJob(model=tiny_gpt2, batch_size=8, attention="eager"))
    softmax = next(row for row in tensors if row.operator == "_softmax")
    assert softmax.fp32_bytes == softmax.fp16_bytes == 2 * 8 * 4 * 128 * 128 * 4
    copies = [row for row in tensors if row.operator == "_to_copy" and row.dtype == "float16"]
    assert copies[0].fp32_bytes == 0 < copies[0].fp16_bytes


def test_a_figure_of_the_documents_beside_the_truth() -> None:
    document = adamw_account()
    figure = next(figure for figure in document.figures if figure.name == "forward, one sequence")
    row = compare(figure)
    # 48 layers of two matrices and the head, against one layer of three.
    layer = 2 * 1024 * 1600 * (4 * 1600 + 2 * 1024 + 2 * 6400)
    assert row.true_value == 48 * layer + 2 * 1024 * 1600 * 50257
    assert row.claimed_value == 90_596_966_400
