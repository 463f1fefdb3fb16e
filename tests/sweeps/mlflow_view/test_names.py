"""Names that tell trials apart."""

from __future__ import annotations

import pytest
from mlflow.utils.validation import (
    _validate_logged_model_name,
    _validate_model_alias_name,
    _validate_model_alias_name_reserved,
)

from sweeps.mlflow_view.names import aliases, run_name, settings, short_names
from sweeps.record.job import Job
from tests.sweeps.mlflow_view.conftest import described


def test_a_run_is_named_after_what_its_configuration_sets(jobs: list[Job]) -> None:
    searched = "start_rate 0.6 · end_rate 0.3844 · sampling_period 1, 3, 5, 10 · penalty_lambda 1000 · threshold 0.2"
    assert run_name(described(jobs[0], "kdas_search", searched)) == (
        "kdas_search start=.6 end=.384 period=1,3,5,10 lambda=1e3 thr=.2 seed=1"
    )
    assert run_name(described(jobs[0], "plain_half", "epochs 4")) == "plain_half epochs=4 seed=1"


@pytest.mark.parametrize("words", ["every sample", "defaults"])
def test_words_that_set_nothing_are_left_out_of_the_name(jobs: list[Job], words: str) -> None:
    assert run_name(described(jobs[0], "plain_kd", words)) == "plain_kd seed=1"
    assert settings(described(jobs[0], "plain_kd", words)) == {}


@pytest.mark.parametrize(
    ("value", "shown"),
    [("1000", "1e3"), ("1e+03", "1e3"), ("0.066", ".066"), ("1e-05", "1e-5"), ("12", "12"), ("120000", "1.2e5")],
)
def test_numbers_are_as_short_as_they_can_be(jobs: list[Job], value: str, shown: str) -> None:
    assert f"lambda={shown} " in run_name(described(jobs[0], "kdas", f"penalty_lambda {value}"))


def test_a_short_name_is_the_last_word_unless_another_has_it() -> None:
    names = ("start_rate", "loss.temperature", "teacher.temperature")
    assert list(short_names(names).values()) == ["START_RATE", "TEMPERATURE", "TEACHER.TEMPERATURE"]


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (["kdas_search", "plain-kd"], ["kdas_search", "plain-kd"]),
        (["a b", "a/b", "a-b"], ["a-b-2", "a-b-3", "a-b"]),
        (["KD", "kd"], ["KD", "kd-2"]),  # some databases do not tell them apart
        (["latest", "V12", "Best"], ["method-latest", "method-V12", "method-Best"]),
        (["ω=½", "(.)"], ["ω-½", "---"]),
    ],
)
def test_aliases_are_the_methods_names_or_near_them(methods: list[str], expected: list[str]) -> None:
    found = aliases(methods)
    assert [found[method] for method in methods] == expected


def test_mlflow_accepts_every_alias() -> None:
    methods = ["x" * 400, "x" * 400 + "y", "", "v1", "latest", "a.b:c/d", "ä ö", "\n"]
    found = aliases(methods)
    assert len({alias.lower() for alias in found.values()}) == len(methods)
    for alias in found.values():
        _validate_model_alias_name(alias)
        _validate_model_alias_name_reserved(alias)
        _validate_logged_model_name(alias)
