"""Runs the missing trials of a sweep with Ray Tune."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

# Before Ray: sets the environment variables that Ray reads when it is imported.
from sweeps.execution import ray_setup  # isort: skip

from kdas.files.full import waiting_for_room
from sweeps.command import ending
from sweeps.engine.agenda import Agenda
from sweeps.engine.prices import Prices
from sweeps.engine.slots import Slots
from sweeps.execution.cluster import Members, has_room_for
from sweeps.execution.progress import Progress
from sweeps.execution.silence import Silence
from sweeps.prepare.neighbours import Neighbours
from sweeps.record.directory import SweepDirectory

if TYPE_CHECKING:
    from sweeps.execution.tuning import Peers

# Of trials whose workers start, on a cluster that may grow. The share of the machines that are there is less.
_MOST_PENDING = 1000


def run_trials(
    agenda: Agenda,
    directory: SweepDirectory,
    prices: Prices,
    budget_ref_s: float,
    evaluation_ref_s: float,
    slots: Slots,
    retries: int,
    progress: Progress,
    hear: Callable[[], None],
    members: Members | None,
) -> None:
    """Run the agenda to its end, or until Ctrl-C.

    Args: evaluation_ref_s: between two evaluations of a trial; hear: passes on what users ask; called ten times a
        second; members: of the cluster, None on this machine alone.
    Raises: RayLostError: if Ray itself is gone.
    """
    # Ray writes state that we never read back. It goes to a scratch folder that is removed at the end.
    scratch = directory.path / ".ray"
    shutil.rmtree(scratch, ignore_errors=True)
    with suppress(KeyboardInterrupt), ExitStack() as until_end:
        until_end.callback(shutil.rmtree, scratch, ignore_errors=True)
        if members is None:
            # A cluster divides its machines itself.
            peers: Peers = (neighbours := Neighbours(directory.name, slots))
            until_end.enter_context(neighbours.told())
        else:
            peers = members
        until_end.enter_context(ray_setup.started(slots.trials_at_once * slots.cpus_per_trial, _import_tune))
        from sweeps.execution.tuning import AgendaSearcher, TuneCallback, fitted

        ray_setup.keep_chatter(directory.chatter_file)
        ray_setup.allow_pending(slots.trials_at_once if members is None else _MOST_PENDING)
        until_end.enter_context(ending.deferred())
        heart = ray_setup.Heart()

        def look() -> None:
            ending.check()
            is_well = heart.check()
            hear()
            had_machines = peers.share() > 0
            for news in peers.news() if is_well else []:
                progress.say(news)
            progress.trials_at_once = max(1, peers.share())
            if not had_machines and peers.share() and searcher.jobs:
                raise ray_setup.MachinesReplacedError

        searcher = AgendaSearcher(
            agenda, directory, prices, budget_ref_s, slots, has_room_for, retries, progress, peers, look
        )
        until_end.enter_context(waiting_for_room(searcher.wait_for_room))
        # Those that share a device slow each other down.
        silence = Silence(evaluation_ref_s * (1 + slots.num_cotenants))
        callback = TuneCallback(progress, directory, searcher, look, silence)
        while not fitted(searcher, callback, scratch):
            progress.say("Ray lost more than a worker. Its trials start again.")


def _import_tune() -> None:
    """Import what runs trials, and with it Ray Tune: a second."""
    import sweeps.execution.tuning  # noqa: F401
