"""A measuring command sets the allocator of its process; tests run it in theirs."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def environment_as_before() -> Iterator[None]:
    """What one test sets is not there for the next."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
