from pathlib import Path

import pytest
from tests.put_aside.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
