"""Everything that ships with an answer is answered without torch, without transformers and without a network."""

from pathlib import Path

import pytest
from tests.cli.torch_free_world import QUESTIONS, Question, problem_with


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.command for question in QUESTIONS])
def test_answered_without_torch(tmp_path: Path, question: Question) -> None:
    assert problem_with(question, tmp_path) is None


def test_what_it_checks_can_fail(tmp_path: Path) -> None:
    wrong_code, wrong_words = Question("--version", code=2), Question("--version", says="torch")
    assert "exit code 0 instead of 2" in str(problem_with(wrong_code, tmp_path))
    assert "does not say 'torch'" in str(problem_with(wrong_words, tmp_path))
