"""What it costs to show a sweep on an MLflow server with users and passwords, on PostgreSQL, all on this machine.

A replayed sweep of synthetic curves, `benchmarks.scale`, is uploaded over HTTP as at a sweep's end, then read back from
the database. Per trial: wall milliseconds, and processor milliseconds of follower, server and database.

Run it on its own, with the number of trials: `python -m benchmarks.tracking 100`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import scale
from benchmarks.mlflow_server import running_server

ROWS = 240


def shown(num_trials: int, folder: Path) -> dict[str, float]:
    """Upload a sweep of about `num_trials` trials and read it back. Returns: the figures."""
    scale.ROWS = ROWS
    spec_file = scale.write_spec(num_trials, folder)
    # Capped trials would have fewer evaluations.
    spec_file.write_text(f"{spec_file.read_text(encoding='utf-8')}scheduler: none\n", encoding="utf-8")
    from sweeps.record.directory import SweepDirectory

    directory = SweepDirectory(folder / spec_file.stem)
    scale.replayed(spec_file, directory)
    # Commits that are not synced would be faster than a group's own server.
    with running_server() as (server, database):
        os.environ["MLFLOW_TRACKING_URI"] = server.uri
        from sweeps.mlflow_view.view import MlflowView

        view = MlflowView(directory)
        before = time.perf_counter(), time.process_time(), server.processor_s(), database.processor_s()
        view.update()
        after = time.perf_counter(), time.process_time(), server.processor_s(), database.processor_s()
        uploaded = sum(1 for _ in directory.trials())
        names = ("wall", "follower_cpu", "server_cpu", "database_cpu")
        figures = {
            f"{name}_ms_per_trial": 1000 * (end - start) / uploaded
            for name, start, end in zip(names, before, after, strict=True)
        }
        from analysis.mlflow_store import load_store

        began, used = time.perf_counter(), time.process_time()
        stored = load_store(server.database, target=scale.TARGET, budget_ref_s=scale.TAU_REF_S)
        figures |= {"read_back_s": time.perf_counter() - began, "read_back_cpu_s": time.process_time() - used}
        assert len(stored.trials) == uploaded
        return {"trials": uploaded, "evaluations": len(stored.curves), **figures}


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(shown(int(sys.argv[1]), Path(name)), indent=1))
