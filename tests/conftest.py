"""What all tests share: a cache of their own, and property tests that depend on neither luck nor the clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail: neither an example nor the drawing of one has a deadline. Examples are a function
# of the test alone, so whether the suite passes is no matter of luck; `--hypothesis-profile=search` draws new ones.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("kdas", _PATIENT, derandomize=True)
settings.register_profile("search", _PATIENT)
settings.load_profile("kdas")


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's own cache is neither read nor written."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("KDAS_CACHE", str(folder))
        yield folder
