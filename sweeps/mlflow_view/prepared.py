"""Views of a sweep that are prepared for MLflow's page, and the links that open them.

A view is a tag of the experiment, in the form that the page's own `Save view` writes. It is opened by its key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from sweeps.mlflow_view.content import CERTAIN_TTA_OR_BUDGET, TTA_OR_BUDGET

TAG = "mlflow.sharedViewState."
# The page has a mode for language models and one for training, and keeps the last one. The link chooses the latter.
_TRAINING = ("workflowType", "machine_learning")
_SECTION = "kdas"


def curves_view(sweep_id: str, phase: str) -> dict[str, Any]:
    """Accuracy over reference seconds, and time to the target, each averaged by method."""
    line = {
        **_card("LINE", "curves"),
        "metricKey": "val_accuracy",
        "selectedMetricKeys": ["val_accuracy"],
        "xAxisKey": "metric",
        "selectedXAxisMetricKey": "cost_ref_s",
        "useGlobalXaxisKey": False,
        # Without these the page draws a smoothed line instead of what was measured.
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": False,
    }
    of_method = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "kdas.method"}]}
    condition = f"tags.`kdas.trial_of` = '{sweep_id}' and tags.`kdas.phase` = '{phase}'"
    return _view(condition, "Accuracy over reference seconds", [line, _times()], columns=2) | {"groupBy": of_method}


def search_view(sweep_id: str, searched: Sequence[str]) -> dict[str, Any]:
    """The searched parameters of each trial of the search against its time to the target, where that is certain.

    Args: searched: names of parameters.
    """
    parallel = {
        **_card("PARALLEL", "search"),
        "selectedParams": list(searched),
        "selectedMetrics": [CERTAIN_TTA_OR_BUDGET],
        "showAllRuns": True,
    }
    of_search = "tags.`kdas.phase` = 'search' and tags.`kdas.method` LIKE '%_search'"
    condition = f"tags.`kdas.trial_of` = '{sweep_id}' and {of_search}"
    times = _times() | {"metricKey": CERTAIN_TTA_OR_BUDGET}
    return _view(condition, "Searched settings", [parallel, times], columns=1, parameters=searched)


def saved(name: str, view: Mapping[str, Any], at_ms: int) -> str:
    """The value of a view's tag. Args: name: under `Views` on the page; at_ms: milliseconds since 1970."""
    return json.dumps({"name": name, "createdAt": at_ms, "updatedAt": at_ms, "state": json.dumps(view)})


def view_link(experiment: str, key: str) -> str:
    """The part of an address after the server that opens a view as charts."""
    query = urlencode([("viewStateShareKey", key), ("compareRunsMode", "CHART"), _TRAINING])
    return f"#/experiments/{experiment}/runs?{query}"


def comparison_link(experiment: str, runs: Sequence[str]) -> str:
    """The part of an address after the server that compares these runs side by side."""
    ids = (json.dumps(each, separators=(",", ":")) for each in (list(runs), [experiment]))
    query = "&".join(f"{key}={quote(value)}" for key, value in zip(("runs", "experiments"), ids, strict=True))
    return f"#/compare-runs?{query}&{urlencode([_TRAINING])}"


def run_link(experiment: str, run: str) -> str:
    """The part of an address after the server that opens a run."""
    return f"#/experiments/{experiment}/runs/{run}?{urlencode([_TRAINING])}"


def _times() -> dict[str, Any]:
    return {**_card("BAR", "times"), "metricKey": TTA_OR_BUDGET}


def _card(kind: str, name: str) -> dict[str, Any]:
    return {
        "type": kind,
        "uuid": f"{_SECTION}-{name}",
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 1000,
    }


def _view(
    condition: str, title: str, cards: Sequence[Mapping[str, Any]], *, columns: int, parameters: Sequence[str] = ()
) -> dict[str, Any]:
    """A view with these charts, and without those that the page makes of each other metric."""
    section = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    shown = ["tags.`kdas.status`", f"metrics.`{TTA_OR_BUDGET}`", *(f"params.`{name}`" for name in parameters)]
    return {
        "searchFilter": condition,
        # By another order than that of time, or the page shows the parent run instead.
        "orderByKey": f"metrics.`{TTA_OR_BUDGET}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": ["attributes.`Dataset`", "attributes.`Source`", "attributes.`Models`", *shown],
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": list(cards),
        "compareRunSections": [
            {**section, "uuid": _SECTION, "name": title, "columns": columns, "cardHeight": 420},
            # Takes the charts that the page adds, closed.
            {**section, "uuid": "others", "name": "Model metrics", "display": False},
        ],
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
    }
