"""Connects the agenda to Ray Tune: a searcher, a scheduler and a callback; and runs it."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

# Before Ray: sets the environment variables that Ray reads when it is imported.
from sweeps.execution import ray_setup  # isort: skip

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from kdas.records import STOPPED_STATUSES, Status
from sweeps.command import ending
from sweeps.command.options import cluster_address
from sweeps.engine.agenda import Agenda
from sweeps.engine.prices import Prices
from sweeps.engine.slots import Slots
from sweeps.execution.actor import FULL_PAUSE_S, NO_ROOM, TrialActor, ray_config
from sweeps.execution.progress import Progress
from sweeps.execution.silence import Silence
from sweeps.execution.tune_setup import WarmWorkers
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job

LOST = "the worker process was lost (out of memory, killed, or its machine failed)"
# Trials crash on a full disk, so none starts while less than this is free.
LEAST_FREE_BYTES = 500_000_000
# Ray's memory monitor ends workers while anything on the machine uses up its memory. That may take minutes to pass.
MEMORY_PATIENCE = 10


class Peers(Protocol):
    """With whom a sweep shares its machine, or the machines that it has."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Ray's ids of the machines that trials may run on; empty for any."""

    def share(self) -> int:
        """How many trials this sweep may run at present."""

    def news(self) -> list[str]:
        """Lines that say what has changed since the last call."""


class Unpickled:
    """For objects that Ray pickles in order to restore them. We never restore them, so nothing is written.

    The sweep directory is the record; a restart is a new Tuner over the missing trials.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        raise AssertionError("a sweep is never restored from Ray's own state")


class AgendaSearcher(Unpickled, Searcher):
    """Lets Ray Tune draw its trials from the agenda. `jobs` are the running ones, by Ray's trial ids.

    Args: budget_ref_s: reference seconds that a trial may spend; has_room_for: whether a machine can hold such a trial;
        retries: how often in a row a trial is resumed after its worker was lost, before a new evaluation;
        peers: with whom the sweep shares its slots, or the machines that it has; look: called once a second while
        there is no trial to run, as `TuneCallback`'s.
    """

    def __init__(
        self,
        agenda: Agenda,
        directory: SweepDirectory,
        prices: Prices,
        budget_ref_s: float,
        slots: Slots,
        has_room_for: Callable[[Slots], bool],
        retries: int,
        progress: Progress,
        peers: Peers,
        look: Callable[[], None] = ending.check,
    ) -> None:
        super().__init__(metric="val_accuracy", mode="max")
        self._agenda, self._directory, self._progress = agenda, directory, progress
        self._prices, self._budget_ref_s, self.slots, self._retries = prices, budget_ref_s, slots, retries
        self._has_room_for, self._peers, self._look = has_room_for, peers, look
        self.jobs: dict[str, Job] = {}
        self._stopped: dict[str, Status] = {}
        # Losses of a trial since it last came further, and the cost up to which it had come.
        self._losses: Counter[str] = Counter()
        self._furthest: Counter[str] = Counter()
        self._short_of_memory: set[str] = set()
        self._says_full = False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        # While there is no trial to run, Ray asks once a second for ten minutes, and does nothing else.
        self._look()
        # One trial too many would use up a proposal before the results that it should be based on are in.
        if self._agenda.num_out >= self._peers.share() or self._disk_is_full():
            return None
        job = self._agenda.next_job()
        if job is None:
            return Searcher.FINISHED if self._agenda.is_finished else None
        self.jobs[trial_id] = job
        self._count()
        folder = self._directory.trial(job.trial_id)
        folder.begin(job)
        # Most lost workers ran out of memory: the trial resumes with twice the resources, beside fewer others.
        wide = self.slots.widened()
        slots = wide if self._losses[job.trial_id] and self._has_room_for(wide) else self.slots
        prices, keeps = self._prices.of(job.config), self._agenda.keeps_students
        config = ray_config(job, self._directory, prices, self._budget_ref_s, slots, keeps_student=keeps)
        return config | {"machines": self._peers.ids}

    def _disk_is_full(self) -> bool:
        free = shutil.disk_usage(self._directory.path).free
        if free >= LEAST_FREE_BYTES:
            self._says_full = False
            return False
        if not self._says_full:
            self._says_full = True
            self._progress.say(
                f"{self._directory.path}: {free / 1e6:.0f} MB are free. New trials wait until"
                f" {LEAST_FREE_BYTES / 1e6:.0f} MB are free. The sweep resumes by itself."
            )
        return True

    def says_full(self, path: str) -> None:
        """Print once that trials wait, because a file of the record did not fit on the disk."""
        if not self._says_full:
            self._says_full = True
            self._progress.say(
                f"{path}: the disk is full. Trials wait until there is room. The sweep resumes by itself."
            )

    def wait_for_room(self, path: Path) -> None:
        """Wait 2 seconds, since a file of the record did not fit on the disk. Raises: KeyboardInterrupt: on Ctrl-C."""
        self.says_full(str(path))
        until = time.monotonic() + FULL_PAUSE_S
        while time.monotonic() < until:
            ending.check()
            time.sleep(0.1)

    def stops(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Report an evaluation. Returns: whether the trial should stop."""
        job = self.jobs[trial_id]
        # A trial that resumes may repeat evaluations: only a new one shows that it will come to its end.
        if result["cost_ref_s"] > self._furthest[job.trial_id]:
            self._furthest[job.trial_id] = result["cost_ref_s"]
            self._losses[job.trial_id] = 0
        status = self._agenda.evaluated(job, result["cost_ref_s"], result["val_accuracy"])
        if status is not None:
            self._stopped[trial_id] = status
        return status is not None

    def ran_out_of_memory(self, trial_id: str) -> None:
        """Ray's memory monitor has ended the worker of a trial that is about to be reported as lost."""
        self._short_of_memory.add(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._completed(trial_id, result, error)
        self._count()

    def _count(self) -> None:
        # Ray reports the start of a trial only some time after asking for it.
        waiting = sum(job.trial_id not in self._progress.running for job in self.jobs.values())
        self._progress.num_to_come = self._agenda.num_to_come + waiting

    def _completed(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        job = self.jobs[trial_id]
        folder = self._directory.trial(job.trial_id)
        status = self._stopped.pop(trial_id, None)
        if error and folder.status is Status.RUNNING:
            self._losses[job.trial_id] += 1
            patience = MEMORY_PATIENCE if trial_id in self._short_of_memory else 1
            if self._losses[job.trial_id] <= self._retries * patience:
                self._agenda.lost(job)
                return
            folder.end(Status.CRASHED, LOST)
        elif status in STOPPED_STATUSES:
            folder.end(status, why=self._agenda.why(job))
        elif status is None and result:
            # Ray does not show a trial's last evaluation to its scheduler.
            self._agenda.evaluated(job, result["cost_ref_s"], result["val_accuracy"])
        self._agenda.ended(job)


class AgendaScheduler(Unpickled, FIFOScheduler):
    """Stops what the agenda stops, and gives a warm worker to a trial without one.

    Ray's own scheduler gives it to the trial that has waited longest and ends the worker that is starting for that
    trial. If a trial takes less time than starting a worker, one slot then does all the work. At every event, that
    scheduler also looks through all trials so far.

    Args: warm: which workers stay while there is no trial for them; None if that is left to Ray.
    """

    def __init__(self, searcher: AgendaSearcher, warm: WarmWorkers | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher, self._warm = searcher, warm
        self._unplaced: list[Any] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._unplaced.append(trial)
        if self._warm is not None:
            self._warm.serve(tune_controller, trial.placement_group_factory)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        # Ray places a trial as soon as it is chosen. Choosing it again would take it from its worker.
        return self._unplaced.pop() if self._unplaced else None

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        # Ray tells the searcher next, but not why.
        if ray_setup.was_ended_by_memory_monitor(trial):
            self._searcher.ran_out_of_memory(trial.trial_id)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if NO_ROOM in result:
            self._searcher.says_full(result[NO_ROOM])
            return self.CONTINUE
        return self.STOP if self._searcher.stops(trial.trial_id, result) else self.CONTINUE


class TuneCallback(Unpickled, tune.Callback):
    """Passes Ray's reports of trials to the progress display, and ends workers that have fallen silent.

    Args: look: called ten times a second, between two steps of Ray Tune; an error that it raises ends the run.
    """

    def __init__(
        self,
        progress: Progress,
        directory: SweepDirectory,
        searcher: AgendaSearcher,
        look: Callable[[], None],
        silence: Silence,
    ) -> None:
        self._progress, self._directory, self._searcher = progress, directory, searcher
        self._look, self._jobs, self._silence = look, searcher.jobs, silence

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._look()
        for ray_id, silent_s in self._silence.look().items():
            self._progress.say(
                f"{self._jobs[ray_id].trial_id} has reported nothing for {silent_s / 60:.0f} min, much longer than"
                " trials take between two evaluations. Its worker is ended, and it resumes."
            )
            ray_setup.end_worker(next(trial for trial in trials if trial.trial_id == ray_id))
        if self._silence.stays_silent:
            raise ray_setup.SilentWorkerError

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        job = self._jobs[trial.trial_id]
        self._silence.started(trial.trial_id)
        self._progress.started(job, resumes=self._directory.trial(job.trial_id).checkpoint.exists())

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Any, **info: Any) -> None:
        self._silence.reported(trial.trial_id)
        if NO_ROOM not in result:
            self._progress.evaluated(self._jobs[trial.trial_id], result["cost_ref_s"], result["val_accuracy"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial.trial_id)
        ray_setup.forget_trial(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.on_trial_complete(iteration, trials, trial)

    def lose_all(self) -> None:
        """Report every running trial as one whose worker was lost."""
        for ray_id in list(self._jobs):
            self._searcher.on_trial_complete(ray_id, error=True)
            self._ended(ray_id)

    def _ended(self, ray_id: str) -> None:
        # Ray tells the searcher first, so nothing asks for this job again.
        job = self._jobs.pop(ray_id)
        self._silence.ended(ray_id)
        self._progress.ended(job, self._directory.trial(job.trial_id))


def fitted(searcher: AgendaSearcher, callback: TuneCallback, scratch: Path) -> bool:
    """Run the missing trials. Returns: False if Ray gave up, so that its running trials must run again."""
    warm = None if cluster_address() else WarmWorkers(searcher.slots.trials_at_once)
    tuner = tune.Tuner(
        tune.with_resources(TrialActor, _resources),
        tune_config=tune.TuneConfig(
            search_alg=searcher, scheduler=AgendaScheduler(searcher, warm), num_samples=-1, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        ),
    )
    try:
        tuner.fit()
    except Exception as error:
        # Other errors are our own bugs, or would recur at once.
        if not (searcher.jobs and ray_setup.is_of_ray(error)):
            raise
        callback.lose_all()
        return False
    return True


def _resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
    bundles = [{"CPU": config["cpus"], "GPU": config["gpus"]}]
    if not config["machines"]:
        return tune.PlacementGroupFactory(bundles)
    # Ray would also place trials on a machine that has just joined, before we know that it can train.
    among = {"ray.io/node-id": f"in({','.join(config['machines'])})"}
    return tune.PlacementGroupFactory(bundles, bundle_label_selector=[among])
