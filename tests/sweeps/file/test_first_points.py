"""The points that a search tries first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sweeps.searches import BY_SAMPLER, RATE, Load, proposals

PAPER = {"start_rate": 0.6, "sampling_period": [1, 3, 5, 10]}


def test_paper_s_setting_comes_first_though_the_file_does_not_name_it(load: Load, tmp_path: Path) -> None:
    other = {"start_rate": 0.5, "sampling_period": 1}
    search = {"start_rate": RATE, "sampling_period": [[1, 3, 5, 10], 1]}
    spec = load(search, known_points=[other])
    assert list(spec.space.first) == [PAPER, other]
    assert proposals(spec, tmp_path, 2) == [PAPER, other]
    written = load(search, known_points=[other, PAPER, other])
    assert list(written.space.first) == [PAPER, other]


@pytest.mark.parametrize(
    ("search", "content", "first"),
    [
        ({"start_rate": {"low": 0.7, "high": 0.9}}, {}, []),  # the paper's 0.6 is outside
        ({"fraction": RATE}, {"sampler": "static_random"}, []),
        ({"exclusion_rate": {"low": 0, "high": 0.1}}, {}, [{"exclusion_rate": 0.05}]),
        ({"exclusion_rate": {"low": 0, "high": 0.1}}, {"preset": "paper", "validation": 0.2}, [{"exclusion_rate": 0}]),
        ({"kd_weight": {"low": 1, "high": 20}, "batch_size": [32, 64]}, {}, [{"kd_weight": 9, "batch_size": 64}]),
        ({"kd_weight": {"low": 1, "high": 20}}, {"loss": {"name": "dkd", "beta": 2}}, [{"kd_weight": 1}]),
        ({"loss.temperature": {"low": 1, "high": 8, "step": 1}}, {}, [{"loss.temperature": 4}]),
        ({"loss.entropy_adaptive": [True, False]}, {}, [{"loss.entropy_adaptive": False}]),
        ({"optimizer.learning_rate": {"low": 0.01, "high": 0.1}}, {}, [{"optimizer.learning_rate": 0.05}]),
        ({"optimizer.name": ["adamw", "sgd"]}, {}, [{"optimizer.name": "sgd"}]),
        (
            {"optimizer.learning_rate": {"low": 0.01, "high": 0.1}},
            {"preset": "official", "validation": 0.2, "student": "ShuffleV2"},
            [{"optimizer.learning_rate": 0.01}],
        ),
    ],
)
def test_paper_s_setting_is_that_of_the_preset_as_far_as_it_is_searched(
    load: Load, search: dict[str, Any], content: dict[str, Any], first: list[dict[str, Any]]
) -> None:
    assert list(load(search, **content).space.first) == first


def test_paper_s_sampler_is_first_among_several(load: Load) -> None:
    (first,) = load({"sampler": ["random", "kdas"], "start_rate": RATE, "threshold": [0.1, 0.2]}).space.first
    assert (first["sampler"]["name"], first["start_rate"], first["threshold"]) == ("kdas", 0.6, 0.2)


def test_known_point_names_a_sampler_as_the_file_does(load: Load) -> None:
    spec = load(BY_SAMPLER, known_points=[{"sampler": "static_random", "fraction": 0.5, "kd_weight": 0.5}])
    assert [point["sampler"]["name"] for point in spec.space.first] == ["static_random"]
