"""What MLflow shows of a sweep as a whole, in its parent run: parameters, metrics and the description."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kdas.errors import make_command
from sweeps.mlflow_view.content import flat

# Keys that may change between two starts, or with the place of the data. MLflow never changes a parameter, so these are
# tags or left out.
_AS_TAGS = ("seeds", "budget", "confirm")
_LEFT_OUT = {
    *("plugins", "preset", "resources", "faults", "data_workers", "known_points", "cells"),
    *("dataset.path", "dataset.keep", "teacher.checkpoint", "warm_start.taken"),
}
# MLflow refuses other characters in names.
_REFUSED = re.compile(r"[^\w.\- :/]")
# How the names of an answer's metrics begin.
ANSWER_METRICS = ("answer/", "tta_ref_s/")
_MOST_METHODS = 15
# Servers of earlier versions refuse longer tags.
_LONGEST = 5000
_LINKS = {
    "finalists": ("the finalists side by side", "The scatter and box plots there take any metric and parameter."),
    "curves": ("accuracy over reference seconds, by method", "The bars are mean times to the target."),
    "search": ("the searched settings", "Each line is a trial; drag along an axis to select some."),
}


def sweep_parameters(spec: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a sweep that never change, by dotted names. Args: spec: the resolved sweep file."""
    content = {key: value for key, value in spec.items() if key not in {*_AS_TAGS, *_LEFT_OUT, "search"}}
    if teachers := content.get("teacher", {}).get("of"):
        of = [{key: value for key, value in each.items() if key != "checkpoint"} for each in teachers]
        content["teacher"] = {**content["teacher"], "of": of}
    found = {key: str(value) for key, value in flat(content) if key not in _LEFT_OUT}
    return {_REFUSED.sub("_", key): value for key, value in found.items()}


def sweep_tags(spec: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a sweep that may change, what is searched among them."""
    tags = {f"kdas.{key}": json.dumps(_without_none(spec[key])) for key in _AS_TAGS if spec.get(key)}
    searched = (spec.get("search") or {}).items()
    return tags | {_REFUSED.sub("_", f"kdas.search.{name}"): _range(values)[:_LONGEST] for name, values in searched}


def answer_metrics(answer: Mapping[str, Any]) -> dict[str, float]:
    """The ratio with the bounds of its interval, and the time of each method; a miss counts as the full budget.

    MLflow cannot store infinity, so a bound that is open is missing. Args: answer: the content of `answer.json`.
    """
    setting = answer.get("setting") or {}
    ratio, times = ANSWER_METRICS
    known = {f"{ratio}{name}": setting.get(name) for name in ("ratio", "ratio_low", "ratio_high")}
    known |= {f"{times}{_REFUSED.sub('_', row['method'])}": row["mean_upper_s"] for row in answer["methods"]}
    return {name: float(value) for name, value in known.items() if value is not None}


def description(name: str, answer: Mapping[str, Any] | None, links: Mapping[str, str]) -> str:
    """The description of a sweep in Markdown, with as many methods as fit.

    Args: answer: the content of `answer.json`, None before there is one.
    """
    for num_methods in range(_MOST_METHODS, -1, -1):
        text = "\n\n".join([*_verdict(name, answer, num_methods), *_how_to_compare(name, links)])
        if len(text) <= _LONGEST:
            break
    return text[:_LONGEST]


def _verdict(name: str, answer: Mapping[str, Any] | None, num_methods: int) -> Iterator[str]:
    if answer is None:
        yield f"No report yet. The sweep writes it at its end; `{make_command('report', name)}` does so at any time."
        return
    yield f"**{_literal(answer['verdict'])}**"
    yield from (f"> {_literal(text)}" for text in answer.get("cautions", ()))
    rows = answer["methods"]
    reference = next((f" to {_literal(str(each['method']))}" for each in rows if each.get("is_reference")), "")
    seeds = "fresh seeds" if answer["phase"] == "confirm" else "the seeds of the search"
    yield f"The fastest setting of each method on {seeds}, in reference seconds. A miss counts as the full budget."
    yield "\n".join([
        f"| method | setting | tuned | mean time | reached | ratio{reference} [95%] |",
        "|---|---|---|--:|--:|--:|",
        *(_row(each) for each in rows[:num_methods]),
    ])  # fmt: skip
    if len(rows) > num_methods:
        yield f"Not shown: {len(rows) - num_methods} of {len(rows)} methods. They are in `report.md` under Artifacts."


def _row(row: Mapping[str, Any]) -> str:
    reached = f"{row['num_reached']}/{row['num_trials']}"
    cells = (row["method"], row["configuration"], row["tuned"], row["time_text"], reached, row["ratio_text"])
    return f"| {' | '.join(_literal(str(each)) for each in cells)} |"


def _how_to_compare(name: str, links: Mapping[str, str]) -> Iterator[str]:
    yield "How to compare:"
    yield "\n".join(f"- [{words}]({links[kind]}). {hint}" for kind, (words, hint) in _LINKS.items() if kind in links)
    yield (
        "For runs of your own choice, tick them in the list and press Compare. Their parameters in capitals are what"
        " the settings differ in. The whole report is `report.html` under Artifacts, or"
        f" `{make_command('report', name)}`."
    )


def _literal(text: str) -> str:
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", " ".join(text.split()))


def _range(values: Mapping[str, Any]) -> str:
    """A range or a list of choices in words."""
    if values.get("choices"):
        shown = json.dumps(values["choices"])
    else:
        log = ", log" if values.get("log") else ""
        step = f", step {values['step']:g}" if values.get("step") else ""
        shown = f"{values['low']:g} to {values['high']:g}{log}{step}"
    when = f", when {json.dumps(values['when'])}" if values.get("when") else ""
    return shown + when


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return value
