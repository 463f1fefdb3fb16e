"""The parts that a file may name are known without torch, exactly as they are with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from kdas import data, losses, models, samplers, transforms
from kdas.parts import known
from kdas.parts.registry import Part

PACKAGES: list[tuple[Any, str]] = [
    (data, "DATASETS"),
    (losses, "LOSSES"),
    (models, "MODELS"),
    (samplers, "SAMPLERS"),
    (transforms, "TRANSFORMS"),
]


def described(registry: Iterable[Part[Any]]) -> list[Any]:
    return [
        (part.name, part.schema.model_json_schema(), part.source, list(map(str, part.needs)), part.usual, part.summary)
        for part in registry
    ]


@pytest.mark.parametrize(("package", "name"), PACKAGES, ids=[name for _, name in PACKAGES])
def test_what_is_read_apart_is_what_is_imported(package: Any, name: str) -> None:
    apart = known._read_registry(package.__name__, name)
    real = getattr(package, name)
    assert apart is not real
    # Other tests register parts of their own.
    ours = [part for part in real if not part.is_own]
    assert sorted(described(apart), key=str) == sorted(described(ours), key=str)


@pytest.mark.parametrize(("package", "name"), PACKAGES, ids=[name for _, name in PACKAGES])
def test_registry_is_the_imported_one_once_there_is_one(
    package: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(package, name)
    monkeypatch.setattr(real, "_parts", {})
    assert getattr(known, name).names() == []


def test_package_that_cannot_be_read_apart_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "kdas.losses")
    monkeypatch.setattr(known, "_read_registry", lambda *names: 1 / 0)
    assert "kd" in known.LOSSES.names()


@pytest.mark.parametrize(("package", "name"), PACKAGES, ids=[name for _, name in PACKAGES])
def test_reading_apart_leaves_the_process_as_it_was(package: Any, name: str) -> None:
    program = (
        "import sys, warnings, os\n"
        "from kdas.parts import known\n"
        "def state(): return list(warnings.filters), dict(os.environ), list(sys.path), sys.excepthook\n"
        "before = state()\n"
        f"known._read_registry({package.__name__!r}, {name!r})\n"
        "assert state() == before\n"
        "warnings.warn('still possible')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "still possible" in done.stderr, done.stderr


def test_names_parameters_and_defaults_are_known_without_torch() -> None:
    program = (
        "import sys\n"
        "from kdas.parts.known import DATASETS, LOSSES, MODELS, SAMPLERS\n"
        "assert SAMPLERS.checked('kdas')['sampling_period'] == [1, 3, 5, 10]\n"
        "assert LOSSES['dkd'].usual == {'ce_weight': 1.0, 'kd_weight': 1.0}\n"
        "assert 'ShuffleV2' in MODELS.names() and 'cifar100' in DATASETS.names()\n"
        "print([name for name in ('torch', 'torchvision', 'numpy', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
