"""Small valid inputs for each parser, made by code, the same bytes every time."""

from pathlib import Path

ROOT = Path(__file__).parents[3]
BUNDLE = ROOT / "exports" / "mnist"
