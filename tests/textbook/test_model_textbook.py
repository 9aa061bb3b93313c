"""Every formula at the sizes of one model."""

from textbook_fakes import a_forecast

from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import load_model
from vramcast.textbook import all_documents, for_model
from vramcast.textbook.model_textbook import ModelTextbook
from vramcast.textbook.sizes import job_sizes


def claims(book: ModelTextbook) -> dict[str, float]:
    return {f"{row.figure.document}.{row.figure.name}": row.claimed_value for row in book.rows}


def test_gpt2_training_at_batch_8_prints_the_documents_figures() -> None:
    job = TrainingJob(model="gpt2", batch_size=8, attention="eager")
    found = claims(for_model(job, answer=a_forecast))
    assert found["transformer_memory_calculator.model parameters"] == 123_568_896
    assert found["transformer_memory_calculator.activation values"] == 3_088_334_848
    assert found["activation_ratio.activation to model ratio"] == 48.0
    assert found["gpt2_requirements.parameter bytes"] == 400


def test_every_formula_is_either_evaluated_or_said_not_to_apply() -> None:
    wanted = sorted(f"{formula.document}.{formula.name}" for doc in all_documents() for formula in doc.formulas)
    for job in (TrainingJob(model="gpt2"), GenerationJob(model="llama-3-8b")):
        book = for_model(job, answer=a_forecast)
        evaluated = [f"{row.figure.document}.{row.figure.name.replace(' ', '_')}" for row in book.rows]
        left = [f"{left.formula.document}.{left.formula.name}" for left in book.not_applicable]
        assert sorted(evaluated + left) == wanted
        assert all(row.reason for row in book.rows)


def test_generation_says_which_formulas_are_about_training() -> None:
    book = for_model(GenerationJob(model="gpt2"), answer=a_forecast)
    reasons = {left.formula.name: left.reason for left in book.not_applicable}
    assert reasons["optimizer_state_bytes"] == "is about training"
    assert reasons["training_seconds"] == "is about training"
    assert "gpt2_requirements.inference bytes" in claims(book)


def test_missing_sizes_are_named() -> None:
    book = for_model(TrainingJob(model="gpt2"), answer=a_forecast)
    reasons = {left.formula.name: left.reason for left in book.not_applicable}
    assert reasons["training_seconds"] == "needs num_steps, flops_per_second, which the job does not say"
    assert reasons["activation_scale"].startswith("a scale and no size")


def test_departures_are_told_beside_the_value() -> None:
    job = TrainingJob(model="llama-3.2-1b", optimizer="sgd")
    rows = {(row.figure.document, row.figure.name): row for row in for_model(job, answer=a_forecast).rows}
    states = rows["gpt2_requirements", "optimizer state bytes"]
    assert states.departures == ("optimizer='sgd' does not keep Adam's two states",)
    assert len(rows["transformer_memory_calculator", "model parameters"].departures) == 2


def test_values_are_compared_with_bytes_of_the_precision() -> None:
    for precision, nbytes in (("fp32", 4), ("bf16", 2)):
        job = TrainingJob(model="gpt2", batch_size=5, precision=precision)
        rows = {(row.figure.document, row.figure.name): row for row in for_model(job, answer=a_forecast).rows}
        assert rows["activation_ratio", "activation values"].true_value == 5000 / nbytes
        assert rows["adamw_account", "values per sequence"].true_value == 5000 / nbytes / 5


def test_sequence_length_is_filled_in_as_in_a_forecast() -> None:
    config = load_model("llama-3-8b")
    assert job_sizes(config, TrainingJob(model="llama-3-8b"), 1)["sequence_length"] == 1024
    generation = GenerationJob(model="llama-3-8b", prompt_length=30, max_new_tokens=12)
    assert job_sizes(config, generation, 1)["sequence_length"] == 42
