"""Optuna proposes configurations and hears of each once, when all its seeds are in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from kdas.records import UserError
from kdas.seeding import derived_seed
from sweeps.spec import SweepSpec

optuna.logging.set_verbosity(optuna.logging.WARNING)


class ConfigurationSearch:
    """Ask and tell on a durable study: a restart goes on where it stood."""

    def __init__(
        self,
        study_file: Path,
        spec: SweepSpec,
    ) -> None:
        self._space, self._algorithm = spec.space, spec.algorithm
        storage = JournalStorage(JournalFileBackend(str(study_file)))
        self._study = optuna.create_study(
            study_name="search", storage=storage, direction="minimize", load_if_exists=True
        )
        if not self._study.get_trials(deepcopy=False):
            for point in self._space.first:
                self._study.enqueue_trial(self._space.to_optuna(point))

    def asked(self) -> list[tuple[int, dict[str, Any], TrialState]]:
        """Every proposal so far: its number, its parameters, and what became of it."""
        trials = self._study.get_trials(deepcopy=False)
        points = [(trial, self._space.from_optuna(trial.params)) for trial in trials]
        return [
            (trial.number, point, trial.state)
            for trial, point in points
            if trial.state is not TrialState.WAITING and point is not None
        ]

    def ask(self) -> tuple[int, dict[str, Any]]:
        """The next proposal: its number and its parameters."""
        # A sampler of its own for every question makes the answer a function of seed, number and what was told,
        # not of how often the sweep was stopped in between.
        num_asked = sum(trial.state is not TrialState.WAITING for trial in self._study.get_trials(deepcopy=False))
        self._study.sampler = self._sampler(derived_seed(self._algorithm.seed, "proposal", num_asked) % 2**31)
        trial = self._study.ask()
        return trial.number, self._space.drawn(trial)

    def tell(self, number: int, mean_restricted_s: float | None) -> None:
        """The mean over seeds of min(time to target, budget); None if a seed crashed and there is no such mean."""
        before = self._study.get_trials(deepcopy=False)[number]
        if before.state is TrialState.FAIL:  # crashed once and retried since: a study takes no second answer
            if mean_restricted_s is not None:
                self._study.add_trial(
                    optuna.trial.create_trial(
                        params=before.params, distributions=before.distributions, value=mean_restricted_s
                    )
                )
            return
        if mean_restricted_s is None:
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, mean_restricted_s)

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        match self._algorithm.name:
            case "random":
                return optuna.samplers.RandomSampler(seed=seed)
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed, n_startup_trials=self._algorithm.startup)
        raise UserError(f"algorithm.name: {self._algorithm.name} cannot be run yet. Say tpe or random.")
