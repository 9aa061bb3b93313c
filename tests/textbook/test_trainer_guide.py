"""The guide's tables are in the textbook cell by cell, and where they contradict themselves."""

import re

import pytest

from vramcast.job import GenerationJob, TrainingJob
from vramcast.models import load_model
from vramcast.textbook import TextbookFigure
from vramcast.textbook.trainer_guide import activation_scale, trainer_guide

MEMORY_TABLES = {
    "Standard configs (block_size=256)": """
        | tiny         | ~500 MB         | ~100 MB           | 5:1    |
        | small        | ~2 GB           | ~300 MB           | 6.7:1  |
        | 150M         | ~8 GB           | ~1 GB             | 8:1    |
        | 200M         | ~10 GB          | ~1.2 GB           | 8.3:1  |
        | 250M         | ~12 GB          | ~1.5 GB           | 8:1    |""",
    "High-context configs (block_size=1024)": """
        | 150M_1024     | ~10 GB          | ~1.5 GB           | 6.7:1  |
        | 200M_1024     | ~12 GB          | ~2 GB             | 6:1    |
        | 250M_1024     | ~14 GB          | ~2.5 GB           | 5.6:1  |
        | 350M_1024     | ~18 GB          | ~3 GB             | 6:1    |
        | 500M_1024     | ~22 GB          | ~4 GB             | 5.5:1  |""",
    "Batch size (150M)": """
        | batch 8    | ~4 GB           | ~1 GB             |
        | batch 16   | ~6 GB           | ~1 GB             |
        | batch 32   | ~8 GB           | ~1 GB             |
        | batch 64   | ~14 GB          | ~1 GB             |""",
    "Block size (150M, batch 32)": """
        | block 128  | ~6 GB           | ~700 MB           | 8.6:1              |
        | block 256  | ~8 GB           | ~1 GB             | 8:1                |
        | block 512  | ~12 GB          | ~1.3 GB           | 9.2:1              |
        | block 1024 | ~20 GB          | ~1.5 GB           | 13.3:1             |""",
}
GPU_TABLES = {
    "GPU selection, training": """
        | Experiments        | RTX 2060 (8GB)           | RTX 3060 (12GB)     |
        | Small models       | RTX 3060 (12GB)          | RTX 3070 (8GB)      |
        | 150M standard      | RTX 3060 (12GB)          | RTX 3070 Ti (8GB)   |
        | 150M high-context  | RTX 3060 (12GB)          | RTX 3080 (10GB)     |
        | 250M standard      | RTX 3070 Ti (8GB)        | RTX 3080 (10GB)     |
        | 250M high-context  | RTX 3080 (10GB)          | RTX 3090 (24GB)     |
        | 500M high-context  | RTX 3090 (24GB)          | RTX 4090 (24GB)     |
        | Very large models  | RTX 4090 (24GB)          | A100 (40GB/80GB)    |""",
    "GPU selection, generation": """
        | Tiny/Small       | Any GPU (2GB+)    | GTX 1060 (6GB)   |
        | 150M             | GTX 1070 (8GB)    | RTX 2060 (8GB)   |
        | 250M             | RTX 2060 (8GB)    | RTX 3060 (12GB)  |
        | 500M             | RTX 3060 (12GB)   | RTX 3070 (8GB)   |
        | 500M high-context| RTX 3070 (8GB)    | RTX 3080 (10GB)  |""",
}


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table.strip().splitlines()]


def section(name: str) -> list[TextbookFigure]:
    return [figure for figure in trainer_guide().figures if figure.section == name]


@pytest.mark.parametrize(("name", "table"), MEMORY_TABLES.items())
def test_memory_tables_are_complete(name: str, table: str) -> None:
    wanted = [
        (f"{row[0]}: {column}", text)
        for row in cells(table)
        for column, text in zip(("training", "generation", "ratio"), row[1:], strict=False)
    ]
    assert [(figure.name, figure.claim.text) for figure in section(name)] == wanted


@pytest.mark.parametrize(("name", "table"), GPU_TABLES.items())
def test_gpu_tables_are_complete(name: str, table: str) -> None:
    wanted = [(row[0], text) for row in cells(table) for text in row[1:]]
    assert [(figure.name.split(":")[0], figure.claim.text) for figure in section(name)] == wanted


def test_cards_have_the_memory_that_the_guide_names() -> None:
    for figure in trainer_guide().figures:
        gigabytes = re.search(r"\((\d+)GB\)", figure.claim.text)
        if gigabytes and figure.claimed_for is not None:
            assert round(figure.claim.high / 2**30) == int(gigabytes[1]), figure.name


@pytest.mark.parametrize("name", [name for name in MEMORY_TABLES if "Batch" not in name])
def test_printed_ratios_are_those_of_the_printed_sizes(name: str) -> None:
    figures = section(name)
    for training, generation, ratio in zip(figures[::3], figures[1::3], figures[2::3], strict=True):
        assert ratio.claim.prints(training.claim.low / generation.claim.low), ratio.name
        assert ratio.second_job == generation.claimed_for


def test_jobs_are_those_of_the_configurations() -> None:
    for figure in section("High-context configs (block_size=1024)"):
        job = figure.claimed_for
        assert job is not None
        config = load_model(job.model)
        if isinstance(job, TrainingJob):
            assert (job.batch_size, job.sequence_length) == (config.fields["batch_size"], 1024)
        else:
            assert (job.batch_size, job.prompt_length + job.max_new_tokens) == (1, 1024)


def test_generation_stays_within_the_position_table() -> None:
    for figure in trainer_guide().figures:
        job = figure.claimed_for
        if isinstance(job, GenerationJob):
            assert job.prompt_length + job.max_new_tokens <= load_model(job.model).dimensions.context_length


def test_a_better_card_with_less_memory_is_named() -> None:
    small = {figure.name: figure.reason for figure in section("GPU selection, training")}
    assert "less memory than its minimum" in small["Small models: recommended GPU"]
    # Both have 24 GB on the box, and their drivers report 12 MiB of difference.
    assert "less memory" not in small["500M high-context: recommended GPU"]


def test_parts_of_the_breakdown_sum_to_the_total() -> None:
    sizes = [figure.claim.low for figure in section("150M, training (8 GB total)") if "text above" not in figure.name]
    assert sum(sizes[:-1]) == sizes[-1] == 8 * 10**9


def test_activation_scale_contradicts_the_tables() -> None:
    sizes = {"num_hidden_layers": 16, "hidden_size": 768}
    long = activation_scale(batch_size=24, sequence_length=1024, **sizes)
    assert long == 12 * activation_scale(batch_size=32, sequence_length=256, **sizes)
