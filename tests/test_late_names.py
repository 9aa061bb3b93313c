"""Names of a package that are imported at first use."""

import subprocess
import sys

import pytest

import vramcast.allocator
from vramcast.late_names import late_names


def test_a_name_is_what_its_module_defines() -> None:
    from vramcast.allocator.snapshot_reader import read_snapshot

    assert vramcast.allocator.read_snapshot is read_snapshot


def test_every_public_name_of_the_allocator_is_there() -> None:
    assert not [name for name in vramcast.allocator.__all__ if not hasattr(vramcast.allocator, name)]


def test_another_name_is_refused_as_by_any_module() -> None:
    find = late_names("vramcast.allocator", {"snapshot_reader": ["read_snapshot"]})
    with pytest.raises(AttributeError, match=r"module 'vramcast\.allocator' has no attribute 'no_such_name'"):
        find("no_such_name")


def test_a_forecast_waits_for_no_snapshot_reader_and_no_terminal() -> None:
    code = (
        "import sys, vramcast.forecast;"
        "late = {'vramcast.allocator.snapshot_reader', 'rich', 'cyclopts', 'platformdirs', 'torch', 'numpy.ma'};"
        "print(sorted(late & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
