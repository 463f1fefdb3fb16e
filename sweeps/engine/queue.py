"""Jobs that wait to start, and jobs that are running."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from sweeps.record.job import Job


class JobQueue:
    """First in, first out, except for jobs that are held; a job whose worker was lost comes first again."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self._out: set[str] = set()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_out(self) -> int:
        return len(self._out)

    @property
    def is_idle(self) -> bool:
        """Whether no job waits or runs."""
        return not self._waiting and not self._out

    def expects(self, trial_id: str) -> bool:
        """Whether the trial waits or runs."""
        return trial_id in self._out or any(job.trial_id == trial_id for job in self._waiting)

    def add(self, jobs: Iterable[Job]) -> None:
        self._waiting.extend(jobs)

    def next_ready(self, is_held: Callable[[Job], bool]) -> Job | None:
        """The first job that may start. If nothing runs, one that is held may: nothing would ever release it."""
        ready = next((job for job in self._waiting if not is_held(job)), None)
        return self._waiting[0] if ready is None and self._waiting and not self._out else ready

    def take(self, is_held: Callable[[Job], bool]) -> Job | None:
        """The next job that may start, which counts as running from now on."""
        job = self.next_ready(is_held)
        if job is not None:
            self._waiting.remove(job)
            self._out.add(job.trial_id)
        return job

    def come_back(self, job: Job) -> None:
        """Report that a running job has ended."""
        self._out.discard(job.trial_id)

    def put_back(self, job: Job) -> None:
        """Report that a running job lost its worker: it becomes the next one."""
        self._out.discard(job.trial_id)
        self._waiting.appendleft(job)

    def withdraw(self, is_unwanted: Callable[[Job], bool]) -> list[Job]:
        """Remove unwanted jobs from the queue. Returns: the removed jobs."""
        withdrawn = [job for job in self._waiting if is_unwanted(job)]
        if withdrawn:
            self._waiting = deque(job for job in self._waiting if not is_unwanted(job))
        return withdrawn
