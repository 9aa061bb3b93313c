"""Makes `validation`, a folder of the checkout and no part of the package, importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
