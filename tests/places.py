"""Paths of the checkout, and of what may be beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
# Real images, and numbers of official code. They are not part of the repository, so they may be missing.
SHARED = ROOT.parent / "shared"
GOLDEN = ROOT / "tests" / "golden"
STORED_SWEEP = ROOT / "tests" / "analysis" / "stored" / "digits_kd"
