"""Sends much to a run in few calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

# MLflow's limits for one call.
METRICS_PER_CALL, PARAMS_PER_CALL, TAGS_PER_CALL = 1000, 100, 100


def send_in_parts(
    client: MlflowClient,
    run: str,
    metrics: Sequence[Metric] = (),
    params: Sequence[Param] = (),
    tags: Sequence[RunTag] = (),
) -> None:
    """Send in as few calls as the store allows, since a call costs about the same whatever it contains."""
    parts = (_parts(metrics, METRICS_PER_CALL), _parts(params, PARAMS_PER_CALL), _parts(tags, TAGS_PER_CALL))
    for some_metrics, some_params, some_tags in zip_longest(*parts, fillvalue=()):
        client.log_batch(run, metrics=some_metrics, params=some_params, tags=some_tags)


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
