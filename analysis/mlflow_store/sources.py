"""Where an MLflow store holds each of our columns, and the values of its runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from analysis.curves import PHASES
from analysis.mlflow_store.database import Run
from kdas.errors import UserError, alike, brief, nearest
from kdas.records import CURVE_KINDS, Status

# Instead of a metric: seconds from the start of the run until the evaluation was logged.
ELAPSED = "elapsed"
REQUIRED = ("val_accuracy", "cost_ref_s", "method", "seed")
# The numeric columns of an evaluation; our step is MLflow's step.
MEASURED = {
    name: kind for name, kind in CURVE_KINDS.items() if kind in ("int", "float") and name not in ("step", "seed")
}
# Where our tracker puts each column, in the notation of MLflow's search.
_OF_A_RUN = {
    **{name: f"tags.kdas.{name}" for name in ("sweep", "trial_id", "config_id", "method", "phase", "status", "device")},
    **{name: f"tags.kdas.{name}" for name in ("configuration", "calibration_id", "error", "data_source")},
    "seed": "params.seed",
    "threads": "params.threads",
    "dataset": "params.dataset.name",
    "pair": "params.pair",
}
SOURCES = {name: f"metrics.{name}" for name in MEASURED} | _OF_A_RUN
_MOST_WORDS, _MOST_NAMES = 6, 5
_STATUSES = {"FINISHED": Status.BUDGET, "FAILED": Status.CRASHED, "KILLED": Status.CRASHED}


def sources_with(names: Mapping[str, str]) -> dict[str, str]:
    """Our tracker's sources, overridden by those of the user's store.

    Raises: UserError: for an unknown column or an invalid source.
    """
    return SOURCES | {column: _checked(column, source) for column, source in names.items()}


def _checked(column: str, source: str) -> str:
    if column not in SOURCES:
        raise UserError(f"--name {column}={source}: unknown column {column}. {nearest(column, SOURCES)}")
    if source == ELAPSED and column in MEASURED:
        return source
    kind, _, key = source.partition(".")
    key = key.strip('`"')
    of_a_run = ("params", "tags") if column == "sweep" else ("params", "tags", "attributes")
    allowed = ("metrics", "params", "tags") if column in MEASURED else of_a_run
    if kind not in allowed or not key:
        example = f"{column}=metrics.{column}" if column in MEASURED else f"{column}=params.{column}"
        kinds = ", ".join(f"{name}.<key>" for name in allowed)
        raise UserError(f"--name {column}: expected one of {kinds}, got {source}. Write for example --name {example}.")
    return f"{kind}.{key}"


@dataclass(frozen=True)
class StoreRuns:
    """The runs of a sweep and their values.

    `texts` holds tags, parameters and attributes, `last` the last values of metrics: by source, then by run id.
    `sources` maps columns to sources; the user named those in `mapped`.
    """

    runs: tuple[Run, ...]
    texts: dict[str, dict[str, str]]
    last: dict[str, dict[str, float]]
    sources: dict[str, str]
    mapped: frozenset[str]

    def source(self, column: str) -> str | None:
        """The source of a column, None for an optional column that no run has.

        Raises: UserError: if no run has a required or mapped column.
        """
        source = self.sources[column]
        if source in self.texts or source in self.last or source == ELAPSED:
            return source
        if column not in REQUIRED and column not in self.mapped:
            return None
        known = list(self.last if column in MEASURED else self.texts)
        keys = {name.partition(".")[2]: name for name in known}
        similar = [keys[key] for key in alike(source.partition(".")[2], keys, most=_MOST_NAMES)]
        similar += [name for name in known if column.split("_")[0] in name.lower()]
        # Our tracker's own source first.
        near = list(dict.fromkeys([name for name in (SOURCES[column],) if name in known] + similar))[:_MOST_NAMES]
        there = near or self._of_the_user(column)
        hint = f"The store has {', '.join(there)}." if there else "The store has nothing like it."
        kind = "metrics" if column in MEASURED else "params"
        example = f"for example --name {column}={near[0]}" if near else f"--name {column}={kind}.<key>"
        time = f", or use the time of logging: --name {column}={ELAPSED}" if column == "cost_ref_s" else ""
        raise UserError(f"{column}: no run of the sweep has {source}. {hint} Name the source, {example}{time}")

    def _of_the_user(self, column: str) -> list[str]:
        """What the user logged, where nothing is named like the column: metrics, or else parameters."""
        names = sorted(self.last) if column in MEASURED else self.params()
        return [*names[:_MOST_NAMES], "..."] if len(names) > _MOST_NAMES else names

    def said(self, column: str) -> dict[str, str]:
        """The values of a text column by run id. Raises: as `source`."""
        source = self.source(column)
        return {} if source is None else self.texts.get(source, {})

    def needed(self, column: str, run: Run) -> str:
        """A value that a run must have. Raises: UserError: if it has none."""
        value = self.said(column).get(run.uuid, "")
        if not value:
            raise UserError(
                f"{column}: run {run.uuid} ({run.name}) has evaluations but no {self.sources[column]}. Log it, map"
                f" {column} to a source that all runs have, or delete the run in MLflow."
            )
        return value

    def whole_number(self, column: str, run: Run, text: str) -> int:
        """A whole number from text. Raises: UserError: if it is not one, or one of more than 64 bits."""
        try:
            number = int(text) if text.strip().lstrip("+-").isdigit() else int(float(text))
            if float(text).is_integer() and abs(number) < 2**63:
                return number
        except (ValueError, OverflowError):
            pass
        raise UserError(
            f"{column}: expected a whole number, got {brief(text)} ({self.sources[column]} of run {run.uuid}). Use"
            f" another source: --name {column}=params.<key>"
        )

    def config_id(self, run: Run) -> str:
        """A run's own id of its configuration, else a hash of all its parameters except the seed."""
        named = self.said("config_id").get(run.uuid)
        if named:
            return named
        values = {source: self.texts[source].get(run.uuid) for source in self.params()}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def identity(self, run: Run) -> tuple[str, ...]:
        """What a trial is alone in: its method, configuration, phase and seed; the run itself if it does not say."""
        method, seed = self.said("method").get(run.uuid), self.said("seed").get(run.uuid)
        if not method or not seed:
            return (run.uuid,)
        return (method, self.config_id(run), self.said("phase").get(run.uuid, PHASES[0]), seed)

    def params(self) -> list[str]:
        """The sources of all parameters except the seed, sorted by name."""
        return sorted(name for name in self.texts if name.startswith("params.") and name != self.sources["seed"])

    def is_sweep(self, run: Run) -> bool:
        """Whether it is the parent run that our tracker creates for a sweep."""
        named = self.texts.get("tags.kdas.sweep", {}), self.texts.get("tags.kdas.trial_id", {})
        return run.uuid in named[0] and run.uuid not in named[1]


def _in_words(store: StoreRuns, runs: list[Run], methods: list[str], config_ids: list[str]) -> list[str]:
    """Each run's settings in one line: its own text, else the parameters in which its method's configurations vary."""
    said = store.said("configuration")
    words: dict[str, list[str]] = {}
    for method in dict.fromkeys(methods):
        # One run per configuration: a parameter that differs within one does not describe it.
        of_method = {
            config: run
            for run, name, config in zip(runs, methods, config_ids, strict=True)
            if name == method and run.uuid not in said
        }
        differing = [name for name in store.params() if _differ(store.texts[name], of_method.values())]
        for config, run in of_method.items():
            mine = [(name, store.texts[name].get(run.uuid)) for name in differing]
            words[config] = [f"{_short(name)} {value}" for name, value in mine if value is not None][:_MOST_WORDS]
    return [
        said.get(run.uuid) or " · ".join(words.get(config, [])) for run, config in zip(runs, config_ids, strict=True)
    ]


def _differ(values: Mapping[str, str], runs: Iterable[Run]) -> bool:
    return len({values.get(run.uuid) for run in runs}) > 1


def _short(source: str) -> str:
    return source.removeprefix("params.").removeprefix("sampler.")


def identities(store: StoreRuns, runs: list[Run], sweep: str) -> dict[str, list[str]]:
    """Each trial's text values by column; `seed` is a whole number in digits.

    Raises: UserError: if a trial has no method or seed, or an unknown phase or status.
    """

    def said(column: str, other: str = "") -> list[str]:
        values = store.said(column)
        return [values.get(run.uuid, other) for run in runs]

    methods, config_ids = [store.needed("method", run) for run in runs], [store.config_id(run) for run in runs]
    trial_ids = store.said("trial_id")
    who = {name: said(name) for name in ("dataset", "pair", "calibration_id", "device", "error", "data_source")}
    teachers, students = store.texts.get("params.teacher.model", {}), store.texts.get("params.student", {})
    if store.source("pair") is None and teachers and students:
        who["pair"] = [f"{teachers.get(run.uuid, '')}->{students.get(run.uuid, '')}" for run in runs]
    who |= {"sweep": [sweep] * len(runs), "method": methods, "config_id": config_ids}
    who |= {"trial_id": [trial_ids.get(run.uuid, run.uuid) for run in runs], "phase": said("phase", PHASES[0])}
    who |= {"seed": [str(store.whole_number("seed", run, store.needed("seed", run))) for run in runs]}
    who |= {"configuration": _in_words(store, runs, methods, config_ids)}
    who |= {
        "status": [
            store.said("status").get(run.uuid) or _STATUSES.get(run.status, Status.RUNNING).value for run in runs
        ]
    }
    for column, known in (("phase", PHASES), ("status", tuple(Status))):
        for value in sorted(set(who[column]) - set(known)):
            near = alike(value, known)
            hint = f"Did you mean {near[0]}?" if near else f"Map {column} to another source, or leave it out."
            expected = f"expected one of {', '.join(known)}"
            raise UserError(f"{column}: {expected}, got {value!r} ({store.sources[column]}). {hint}")
    return who


def by_run(runs: Iterable[Run], say: Callable[[Run], str]) -> dict[str, str]:
    """A text for every run that has one, by run id."""
    return {run.uuid: text for run in runs if (text := say(run))}
