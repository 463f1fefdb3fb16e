"""Shared by all tests: a separate cache, and property tests that depend on neither chance nor timing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine must not fail a test, so neither an example nor its generation has a deadline. Examples depend on the
# test alone, so the suite does not pass or fail by chance; `--hypothesis-profile=search` draws new ones.
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
