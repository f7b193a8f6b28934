"""The fuzzing package lies under scripts/, which is nobody's import path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
