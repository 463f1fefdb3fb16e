"""Where the checkout lies, and what may lie beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
# Real images and numbers of official codes: not part of the repository, so not everywhere.
SHARED = ROOT.parent / "shared"
GOLDEN = ROOT / "tests" / "golden"
STORED_SWEEP = ROOT / "tests" / "analysis" / "stored" / "digits_kd"
