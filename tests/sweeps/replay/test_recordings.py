"""Racing on recorded sweeps: curves that were really trained, 60 configurations each."""

from __future__ import annotations

import gzip
import json
import statistics
from pathlib import Path

import pytest

from benchmarks.answer import CAPPED, RACED, RANDOM, replays
from benchmarks.recordings import read, stored, write
from sweeps.file.spec import SweepSpec
from sweeps.replay.simulate import Simulation

NAMES = sorted(stored())


def test_there_are_recordings_of_two_losses_and_of_photographs() -> None:
    recordings = [read(file) for file in stored().values()]
    assert {each.spec.dataset["name"] for each in recordings} == {"digits", "cifar10"}
    assert {each.spec.loss["name"] for each in recordings if each.spec.dataset["name"] == "digits"} == {"kd", "dkd"}
    assert all(len(each.points) >= 60 for each in recordings)


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    write(read(stored()[name]), tmp_path / "again")
    before, again = (json.loads(gzip.decompress(file.read_bytes())) for file in (stored()[name], tmp_path / "again"))
    # The settings as objects: files have some that sweeps did not have when they were recorded.
    assert SweepSpec.model_validate(again.pop("sweep")) == SweepSpec.model_validate(before.pop("sweep"))
    assert again == before


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_racing_finds_as_good_a_finalist_for_less(name: str) -> None:
    """The bounds are those that racing became the default for; docs/benchmarks.md has the means over 50 replays."""
    recording = read(stored()[name])
    simulation = Simulation(recording, surrogate=False)
    costs, regrets = {}, {}
    for setting in (RANDOM, CAPPED, RACED):
        outcomes = replays(simulation, setting, 6)
        costs[setting] = statistics.fmean(each.search_ref_s for each in outcomes)
        regrets[setting] = statistics.fmean(each.regret for each in outcomes)
    assert regrets[CAPPED] == 0, "capping is exact"
    assert regrets[RACED] <= 0.02
    # Of the photographs nine in ten trials miss the target, so little is known early, and on two seeds.
    of_random, of_capped = (0.4, 0.7) if recording.spec.dataset["name"] == "digits" else (0.9, 1.0)
    assert costs[RACED] <= of_random * costs[RANDOM]
    assert costs[RACED] <= of_capped * costs[CAPPED]
