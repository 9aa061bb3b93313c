"""Memory as a test: `pytest examples/test_memory.py`."""

from pathlib import Path

import vramcast

SCRIPT = Path(__file__).parent / "scripts" / "accelerate_loop.py"


def test_training_fits_a_small_card(tmp_path: Path) -> None:
    """The loop of this folder on a card of 8 GB, with room to spare."""
    run = vramcast.run(SCRIPT, gpu="rtx-3070", folder=tmp_path)
    assert run.verdict == "fits", run.out_of_memory
    assert run.peak_reserved_bytes < 6 * 2**30
