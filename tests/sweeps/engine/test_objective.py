"""How configurations are ranked."""

from __future__ import annotations

from kdas.records import is_searched
from kdas.training.trial import Inputs
from sweeps.engine.objective import best_first
from sweeps.file.confirm import ConfirmConfig
from sweeps.file.spec import SweepSpec
from sweeps.record.directory import SweepDirectory
from tests.sweeps.conftest import train_on_paper
from tests.sweeps.engine.test_agenda import agenda_of


def test_equal_values_are_ranked_by_accuracy_and_equal_accuracies_by_id() -> None:
    values = {"a": [10.0], "b": [10.0], "c": [10.0], "d": [4.0]}
    accuracies = {"a": 0.5, "b": 0.7, "c": 0.7, "d": 0.1}
    assert best_first(values, ["minimize"], accuracies) == ["d", "b", "c", "a"]
    both = {"a": [0.9, 3.0], "b": [0.9, 3.0], "c": [0.8, 5.0]}
    assert best_first(both, ["maximize", "minimize"], accuracies) == ["b", "a", "c"]


def test_of_settings_that_all_missed_the_most_accurate_is_confirmed(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    budget = spec.budget.model_copy(update={"configurations": 4})
    confirm = ConfirmConfig(top=1, seeds=[11])
    agenda = agenda_of(spec.model_copy(update={"budget": budget, "confirm": confirm}), inputs, directory)
    accuracies: dict[str, float] = {}
    confirmed = set()
    while (job := agenda.next_job()) is not None:
        accuracy = 0.9
        if is_searched(job.method):
            accuracy = accuracies.setdefault(job.config_id, 0.3 + 0.07 * (len(accuracies) * 3 % 5))
            confirmed |= {job.config_id} if job.config.seed == 11 else set()
        train_on_paper(directory, job, [0.2, accuracy])
        agenda.ended(job)
    assert len(accuracies) == 4
    assert confirmed == {max(accuracies, key=lambda config_id: accuracies[config_id])}
