"""What a sweep's processes load before the first trial. Each second of it is one that every sweep waits."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.places import ROOT

LOADED = "import sys, {}; print(*(name for name in {!r} if name in sys.modules))"


@pytest.mark.parametrize(
    ("module", "too_heavy"),
    [
        ("sweeps.command.front", ("torch", "numpy", "pandas", "pydantic", "ray", "mlflow", "optuna")),
        # torch imports its compiler for the first optimizer, torchvision at once.
        (
            "sweeps.run",
            ("ray", "mlflow", "jsonschema", "pandas", "sklearn", "scipy.special", "torchvision", "torch._dynamo"),
        ),
    ],
)
def test_a_process_does_not_load_what_it_needs_later_or_never(module: str, too_heavy: tuple[str, ...]) -> None:
    code = LOADED.format(module, too_heavy)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
