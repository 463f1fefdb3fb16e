"""What MLflow's page shows of a sweep besides its trials: the prepared views with their links, and the parent run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from kdas.files.cache import content_id
from kdas.files.record import DamagedError
from kdas.records import Measure
from sweeps.mlflow_view import prepared, summary
from sweeps.mlflow_view.batches import send_in_parts
from sweeps.mlflow_view.content import datasets, environment_facts, flat
from sweeps.mlflow_view.names import Varied, log_name, short_names
from sweeps.mlflow_view.state import TrackingState
from sweeps.record.directory import SweepDirectory
from sweeps.record.paths import CONFIRM, SEARCH
from sweeps.record.spec_file import read_spec

# The page lets a user save a view of his own only while an experiment has fewer than 40. Ours beyond this number have
# no name, so they do not count: only their links open them.
_MOST_NAMED = 30
# More runs than fit side by side on a screen are no comparison.
_MOST_COMPARED = 40
_NOT_OF_RECIPE = {"sampler", "search", "loss"}
KIND, TRAINING = "mlflow.experimentKind", "custom_model_development"


class SweepPage:
    """Writes the views of one sweep into the experiment. Records what it wrote, and the links, in `state`."""

    def __init__(self, client: MlflowClient, state: TrackingState, directory: SweepDirectory) -> None:
        self._client, self._state, self._directory = client, state, directory

    def update(self, measure: Measure | None) -> None:
        """Write the views if they are not as the sweep is now."""
        views = self._views(measure)
        wanted = content_id([json.dumps(views, sort_keys=True)])
        if self._state.facts.get("views") != wanted:
            self._write(views)
            self._state.record(views=wanted)
        links = self._links(measure, views)
        if self._state.facts.get("links") != links:
            self._state.record(links=links)
        self._describe(links)

    def conclude(self) -> None:
        """Send the numbers of the answer. Those that an earlier answer had and this one lacks are no longer valid."""
        answer = self._answer()
        metrics = {} if answer is None else summary.answer_metrics(answer)
        known = self._client.get_run(self._parent).data.metrics
        gone = {name for name in known if name.startswith(summary.ANSWER_METRICS)} - metrics.keys()
        now = int(time.time() * 1000)
        sent = [Metric(name, value, now, 0) for name, value in (metrics | dict.fromkeys(gone, math.nan)).items()]
        if sent:
            self._client.log_batch(self._parent, metrics=sent)

    def _describe(self, links: Mapping[str, str]) -> None:
        """Send parameters, changing settings and the description of the sweep, as far as they are new."""
        note = summary.description(self._directory.name, self._answer(), links)
        tags = {**summary.sweep_tags(self.spec), "mlflow.note.content": note}
        wanted = content_id([json.dumps([summary.sweep_parameters(self.spec), tags], sort_keys=True)])
        if self._state.facts.get("described") == wanted:
            return
        known = self._client.get_run(self._parent).data.params
        # MLflow refuses another value for a parameter that it has.
        params = [Param(*each) for each in summary.sweep_parameters(self.spec).items() if each[0] not in known]
        send_in_parts(self._client, self._parent, params=params, tags=[RunTag(*each) for each in tags.items()])
        if data := datasets(self.spec, environment_facts(self._directory)) if self.spec else []:
            self._client.log_inputs(self._parent, data)
        self._state.record(described=wanted)

    @property
    def _parent(self) -> str:
        return str(self._state.facts["parent"])

    def _answer(self) -> dict[str, Any] | None:
        """The content of `answer.json`; None if there is no report."""
        try:
            content = json.loads((self._directory.path / "answer.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) and {"verdict", "methods", "phase"} <= content.keys() else None

    def _views(self, measure: Measure | None) -> dict[str, dict[str, Any]]:
        sweep_id, phase = self._state.sweep_id, CONFIRM if measure and measure.confirm_configs else SEARCH
        views = {"curves": prepared.curves_view(sweep_id, phase)}
        searched = searched_parameters(self.spec)
        return views | ({"search": prepared.search_view(sweep_id, searched)} if searched else {})

    def _links(self, measure: Measure | None, views: Mapping[str, Any]) -> dict[str, str]:
        """The part of each link after the server's address, by what it shows."""
        experiment = str(self._state.facts["experiment"])
        runs = self._finalists(measure)
        found = {"sweep": prepared.run_link(experiment, self._parent)}
        found |= {"finalists": prepared.comparison_link(experiment, runs)} if runs else {}
        return found | {name: prepared.view_link(experiment, self._key(name)) for name in views}

    def _finalists(self, measure: Measure | None) -> list[str]:
        """The runs of the confirmation; without one, of the fastest setting of each method. As many seeds as fit."""
        if measure is None:
            return []
        answer = self._answer()
        configs, seeds = measure.confirm_configs, measure.confirm_seeds
        if not configs and answer is not None:
            configs, seeds = tuple(str(row["config_id"]) for row in answer["methods"]), measure.seeds
        some = sorted(seeds)[: max(1, _MOST_COMPARED // max(1, len(configs)))]
        trials = [f"{config}-s{seed}" for config in configs for seed in some]
        return [self._state.trials[trial].run for trial in trials if trial in self._state.trials]

    def _write(self, views: Mapping[str, Mapping[str, Any]]) -> None:
        experiment = str(self._state.facts["experiment"])
        tags = self._client.get_experiment(experiment).tags
        if KIND not in tags:  # versions of MLflow without a switch between its two modes choose by it
            self._client.set_experiment_tag(experiment, KIND, TRAINING)
        for name, view in views.items():
            key = prepared.TAG + self._key(name)
            has_room = key in tags or sum(each.startswith(prepared.TAG) for each in tags) < _MOST_NAMED
            named = prepared.saved(f"{self._directory.name}: {name}", view, int(time.time() * 1000))
            self._client.set_experiment_tag(experiment, key, named if has_room else json.dumps(view))

    def _key(self, name: str) -> str:
        return f"kdas-{self._state.sweep_id[:12]}-{name}"

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The resolved sweep file; empty if it is missing or damaged."""
        try:
            return read_spec(self._directory.spec_file)
        except (FileNotFoundError, DamagedError):
            return {}


def searched_parameters(spec: Mapping[str, Any]) -> list[str]:
    """The short names of the parameters that all trials of a sweep's search have.

    Without a search of its own, those of the first method that is searched.
    """
    search = next(filter(None, _searches(spec)), {})
    short = short_names(search)
    shown = {name: log_name(short[name]) if values.get("log") else short[name] for name, values in search.items()}
    return [shown[name] for name, values in search.items() if not values.get("when")]


def varied_settings(spec: Mapping[str, Any]) -> Varied:
    """In what the trials of a sweep differ."""
    searched = [each for search in _searches(spec) for each in search.items()]
    set_by_methods = (name for method in _methods(spec) for name, _ in flat(_recipe_of(method)))
    mixed = (
        name
        for name, values in searched
        if len({isinstance(each, (int, float)) for each in values.get("choices") or []}) > 1
    )
    return Varied(
        names=tuple(dict.fromkeys([*(name for name, _ in searched), *set_by_methods])),
        mixed=frozenset(mixed),
        log=frozenset(name for name, values in searched if values.get("log")),
    )


def _recipe_of(method: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the recipe that a method sets; those of its parts are too different to be compared."""
    return {key: value for key, value in method.items() if "sampler" in method and key not in _NOT_OF_RECIPE}


def _searches(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each or {} for each in (spec.get("search"), *(method.get("search") for method in _methods(spec)))]


def _methods(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in (spec.get("baselines") or {}).values() if isinstance(each, dict)]
