"""What a sweep's processes load before the first trial. Each second of it is one that every sweep waits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

LOADED = "import sys, {}; print(*(name for name in {!r} if name in sys.modules))"


@pytest.mark.parametrize(
    ("module", "too_heavy"),
    [
        ("sweeps.__main__", ("torch", "numpy", "pandas", "pydantic", "ray", "mlflow", "optuna")),
        # torchvision imports torch's compiler.
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


TRIAL = """
import sys
import torch
from kdas.__main__ import app
from kdas.compute.optimizer import optimizer_of
from kdas.models import create
from kdas.recipe.optimizer import OptimizerConfig
from kdas.training import calibrate

calibrate.doubts = lambda calibration: ""  # on a busy machine prices are measured once, not three times
app(["train", "trial.yaml"], standalone_mode=False)
network = create("resnet8", 10)
for name in ("adamw", "muon", "dot"):
    optimizer = optimizer_of(network, OptimizerConfig(name=name))
    network(torch.ones(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
print("loaded:", *(name for name in ("torch._dynamo", "sympy") if name in sys.modules))
"""


def test_a_trial_that_does_not_compile_loads_no_compiler(tmp_path: Path) -> None:
    """It would take two seconds of each worker's start, and 75 MB of its memory."""
    recipe = "dataset: digits\nepochs: 1\nstudent: resnet8\nteacher: {model: resnet8, epochs: 1}\nsampler: kdas\n"
    (tmp_path / "trial.yaml").write_text(recipe)
    path = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", TRIAL], cwd=tmp_path, env=path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].split() == ["loaded:"]
