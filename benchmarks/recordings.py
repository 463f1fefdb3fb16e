"""Recorded sweeps in small form, to compare searches and schedulers on curves that were really trained.

`python -m benchmarks.recordings runs/NAME` adds one: a finished sweep without scheduler, as `make simulate` takes it.
What is kept is what a replay needs: settings, costs and accuracies. `docs/benchmarks.md` says how each was recorded.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kdas.records import CurveRow, Measure, Status
from sweeps.engine.plan import identity
from sweeps.file.loading import recorded_spec
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.trial import Recorded
from sweeps.replay.recorded import Curve, Recording, load_recording

STORED = Path(__file__).parents[1] / "tests" / "sweeps" / "replay" / "recordings"
# Digits of costs that are kept.
_DIGITS = 6


def stored() -> dict[str, Path]:
    """The files by their names."""
    return {file.name.removesuffix(".json.gz"): file for file in sorted(STORED.glob("*.json.gz"))}


def write(recording: Recording, file: Path) -> None:
    """Write the curves of plain distillation and of all searched configurations, each on every seed."""
    spec = recording.spec.model_dump(mode="json")
    # Places on the machine that recorded it.
    spec["dataset"].pop("path", None)
    measure = {**vars(recording.measure), "data_source": spec["dataset"]["name"]}
    content = {
        "sweep": spec,
        "measure": measure,
        "plain": [_short(recording.curve(job)) for job in recording.plan.plain],
        "searched": [
            {"point": point, "curves": [_short(recording.curve(job)) for job in recording.plan.searched(point)]}
            for point in recording.points
        ],
    }
    # Without a time, the same recording gives the same bytes.
    file.write_bytes(gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0))


def read(file: Path) -> Recording:
    """The recording that was written."""
    content = json.loads(gzip.decompress(file.read_bytes()))
    spec = SweepSpec.model_validate(content["sweep"])
    plan = plan_of(spec)
    points = [each["point"] for each in content["searched"]]
    curves: dict[str, dict[int, Curve]] = {}
    jobs_and_curves = [(plan.plain, content["plain"])]
    jobs_and_curves += [(plan.searched(each["point"]), each["curves"]) for each in content["searched"]]
    for jobs, shorts in jobs_and_curves:
        for job, short in zip(jobs, shorts, strict=True):
            curves.setdefault(identity(job.config), {})[job.config.seed] = _whole(job, short)
    measure: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in content["measure"].items()
    }
    return Recording(spec, plan, Measure(**measure), points, curves)


def _short(curve: Curve) -> dict[str, Any]:
    return {
        "status": curve.status,
        "cost_ref_s": [float(f"{each.row.cost_ref_s:.{_DIGITS}g}") for each in curve.rows],
        "val_accuracy": [round(each.row.val_accuracy, _DIGITS) for each in curve.rows],
    }


def _whole(job: Job, short: dict[str, Any]) -> Curve:
    return Curve(list(_rows(job, short["cost_ref_s"], short["val_accuracy"])), Status(short["status"]))


def _rows(job: Job, costs: Sequence[float], accuracies: Sequence[float]) -> Iterator[Recorded]:
    """Rows with what a replay reads; the other columns are 0."""
    for number, (cost_ref_s, val_accuracy) in enumerate(zip(costs, accuracies, strict=True), start=1):
        row = CurveRow(
            trial_id=job.trial_id,
            config_id=job.config_id,
            dataset="",
            pair="",
            seed=job.config.seed,
            epoch=0,
            step=number,
            samples_trained=0,
            samples_scored=0,
            teacher_forwards=0,
            flops=0,
            cost_ref_s=cost_ref_s,
            cost_as_run_s=0,
            wall_s=0,
            eval_s=0,
            data_s=0,
            num_cotenants=0,
            calibration_id="",
            device="",
            train_loss=0,
            val_accuracy=val_accuracy,
            test_accuracy=0,
            sampling_rate=0,
            learning_rate=0,
        )
        yield Recorded(row, [], 0.0)


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        directory = SweepDirectory(folder)
        write(load_recording(recorded_spec(directory.spec_file), directory), STORED / f"{folder.name}.json.gz")
