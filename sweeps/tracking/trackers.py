"""The trackers that are switched on, by the variable `KDAS_TRACKING`."""

from __future__ import annotations

import os
from collections.abc import Callable

from kdas.errors import UserError, nearest
from kdas.parts.plugins import import_module
from sweeps.record.directory import SweepDirectory
from sweeps.tracking.interface import Tracker

VARIABLE = "KDAS_TRACKING"
DEFAULT = "mlflow"
_METHODS = ("update", "leave", "sync")
MakeTracker = Callable[[SweepDirectory], Tracker]


def trackers() -> dict[str, MakeTracker]:
    """What makes each tracker that is switched on, by name. Names are separated by commas or spaces; none is allowed.

    Raises: UserError: for a name that is unknown, given twice, or of a class that is no tracker.
    """
    names = os.environ.get(VARIABLE, DEFAULT).replace(",", " ").split()
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{VARIABLE}: {name} is given twice. Remove one.")
    return {name: _SHIPPED[name] if name in _SHIPPED else _own(name) for name in names}


def check() -> None:
    """Find out before anything is computed whether all trackers may be used.

    Raises: UserError: as `trackers`, and if MLflow's server lets this user only read.
    """
    if _mlflow in trackers().values():
        from sweeps.mlflow_view.address import is_server, tracking_uri

        if is_server(tracking_uri()):  # only then: it loads MLflow, which takes seconds
            from sweeps.mlflow_view.access import check_access

            check_access()


def _mlflow(directory: SweepDirectory) -> Tracker:
    from sweeps.mlflow_view.view import MlflowView

    return MlflowView(directory)


def _tensorboard(directory: SweepDirectory) -> Tracker:
    from sweeps.tracking.tensorboard import TensorBoard

    return TensorBoard(directory)


_SHIPPED: dict[str, MakeTracker] = {"mlflow": _mlflow, "tensorboard": _tensorboard}


def _own(name: str) -> MakeTracker:
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise UserError(
            f"{VARIABLE}={name}: unknown. {nearest(name, _SHIPPED)} Write your own tracker as package.module:Name."
        )
    try:
        module = import_module(module_name)
    except ValueError as error:
        raise UserError(f"{VARIABLE}={name}: {error}.") from error
    found: MakeTracker | None = getattr(module, attribute, None)
    missing = [method for method in _METHODS if not callable(getattr(found, method, None))]
    if not callable(found) or missing:
        lacks = f"has no {', '.join(missing)}" if callable(found) else "is no class of that module"
        raise UserError(f"{VARIABLE}={name}: {attribute} {lacks}. Write a class with update, leave and sync.")
    return found
