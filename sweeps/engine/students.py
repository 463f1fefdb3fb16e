"""Decides whose students are kept while a search runs, so that they do not fill the disk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set as AbstractSet

from sweeps.file.blocks import KeepStudents
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.paths import SEARCH
from sweeps.record.trial import TrialFolder


class Shelf:
    """The students of the search's trials. Those of the confirmation are all kept and are not looked after here."""

    def __init__(self, policy: KeepStudents, directory: SweepDirectory) -> None:
        self.policy, self._directory = policy, directory
        self._of_search: dict[str, list[TrialFolder]] = defaultdict(list)
        if policy == "finalists":
            for folder in directory.trials():
                if folder.student.is_dir() and folder.damage() is None and folder.description["phase"] == SEARCH:
                    self._of_search[folder.description["config_id"]].append(folder)

    def ended(self, job: Job) -> None:
        folder = self._directory.trial(job.trial_id)
        if self.policy == "finalists" and job.phase == SEARCH and folder.student.is_dir():
            self._of_search[job.config_id].append(folder)

    def keep_only(self, config_ids: AbstractSet[str]) -> None:
        """Remove the students of the search's other configurations: they can no longer be the best."""
        for config_id in [each for each in self._of_search if each not in config_ids]:
            for folder in self._of_search.pop(config_id):
                folder.discard_student()
