"""The search's journal, completed from the trials that it had proposed."""

from __future__ import annotations

from typing import Any

from kdas.errors import UserError
from kdas.files.journal import Journal
from kdas.files.record import DamagedError
from kdas.records import is_searched
from sweeps.record.directory import SweepDirectory


def restore_search(directory: SweepDirectory, search: str = "") -> None:
    """Add the proposals that the journal lacks. Results need not be added: the search hears them again.

    Args: search: the searched method, "" for the file's own search.
    Raises: UserError: if the journal is damaged or missing and trials of an earlier version do not say what had been
        proposed.
    """
    file = directory.study_file_of(search)
    journal = Journal(file, remedy="Restore it from a copy, or start the sweep under another name.")
    damage: UserError | None = None
    try:
        events = journal.read()
    except DamagedError as error:
        events, damage = [], error
    asked = [event["params"] for event in events if "asked" in event]
    proposed, has_unknown = _proposed(directory, search)
    if has_unknown and (damage or not asked):
        raise damage or UserError(f"{file}: is missing. Restore it from a copy.")
    missing = [params for params in proposed if params not in asked]
    if damage or missing:
        added = [{"asked": number, "params": params} for number, params in enumerate(missing, start=len(asked))]
        journal.replace([*events, *added])


def _proposed(directory: SweepDirectory, search: str) -> tuple[list[dict[str, Any]], bool]:
    """The settings that were proposed, in their order, and whether a searched trial does not say what they were."""
    found: dict[int, dict[str, Any]] = {}
    has_unknown = False
    for folder in directory.trials():
        try:
            description = folder.description
        except DamagedError:
            continue  # it is written again once its configuration is proposed
        if proposal := description.get("proposal"):
            if proposal.get("search", "") == search:
                found[proposal["number"]] = proposal["params"]
        elif is_searched(description["method"]) and not search:  # earlier versions had only one search
            has_unknown = True
    return [found[number] for number in sorted(found)], has_unknown
