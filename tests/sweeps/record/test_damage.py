"""Whatever happens to a file of the record, the answer stays the same, or one line says what is wrong."""

from __future__ import annotations

import hashlib
import io
import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console

from analysis.findings.gather import findings
from kdas.errors import UserError
from kdas.files.checkpoint import is_intact
from kdas.files.prices import read_calibration
from kdas.parts.yaml_file import read_yaml
from sweeps.engine.slots import Slots
from sweeps.execution.actor import TrialActor, ray_config
from sweeps.file.loading import load_spec
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.check import check_sweep
from sweeps.record.control import change_requests
from sweeps.record.directory import SweepDirectory
from sweeps.record.status import print_status
from sweeps.record.tables import write_tables
from sweeps.run import run_sweep
from tests.sweeps.conftest import TINY

# What differs between two runs of the same trial.
OF_THE_MACHINE = ["wall_s", "eval_s", "data_s", "cost_as_run_s", "ended_at"]
READ_BY_THE_ANALYSIS = (
    "curves.parquet", "trials.parquet", "picks.parquet", "measure.json", "environment.json", "sweep.yaml",
)  # fmt: skip


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _without_line(which: Callable[[int], int]) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        del lines[which(len(lines))]
        return b"".join(lines)

    return damage


def _with_line(line: bytes, which: Callable[[int], int]) -> Callable[[bytes], bytes]:
    def damage(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        lines.insert(which(len(lines)), line)
        return b"".join(lines)

    return damage


def _doubled_line(content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    middle = len(lines) // 2
    return b"".join([*lines[: middle + 1], *lines[middle:]])


def _changed_digit(content: bytes) -> bytes:
    # The first digit after the first third, so that it is not in a name alone.
    start = len(content) // 3
    for place in itertools.chain(range(start, len(content)), range(start)):
        if chr(content[place]) in "12345678":
            return content[:place] + bytes([content[place] + 1]) + content[place + 1 :]
    raise AssertionError("no digit")


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda content: None,
    "empty": lambda content: b"",
    "half": _half,
    "zeros": lambda content: b"\0" * len(content),
    "zeros after it": lambda content: content + b"\0" * 64,
    "garbage line": _with_line(b'{"row": {"tri\n', lambda num_lines: num_lines // 2),
    "object line": _with_line(b'{"row": 1}\n', lambda num_lines: 0),
    "lost middle line": _without_line(lambda num_lines: num_lines // 2),
    "lost last line": _without_line(lambda num_lines: num_lines - 1),
    "doubled line": _doubled_line,
    "another encoding": lambda content: content.decode().encode("utf-16"),
    "changed digit": _changed_digit,
}


@dataclass(frozen=True)
class Ended:
    """A sweep that has ended: its file, its folder, and what it had said."""

    spec: SweepSpec
    source: Path
    directory: SweepDirectory
    answer: str
    known: dict[bytes, str] = field(default_factory=dict)


def train_here(sweep: Any, retries: int, slots: Slots, console: Console) -> None:
    """Train what the agenda asks for in this process, one trial after another."""
    agenda, directory = sweep.agenda, sweep.directory
    while (job := agenda.next_job()) is not None:
        folder = directory.trial(job.trial_id)
        folder.begin(job)
        actor = object.__new__(TrialActor)
        actor.setup(ray_config(job, directory, sweep.prices.of(job.config), sweep.budget_ref_s, slots))
        status, result = None, {"done": False}
        while status is None and not result["done"]:
            result = actor.step()
            status = agenda.evaluated(job, result["cost_ref_s"], result["val_accuracy"])
        if not result["done"]:
            folder.end(status)
        agenda.ended(job)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, cache_of_the_tests: Path) -> Iterator[Ended]:
    folder = tmp_path_factory.mktemp("damaged")
    source = folder / "whole.yaml"
    content = {
        **read_yaml(TINY),
        "search": {"optimizer.learning_rate": {"low": 1e-6, "high": 0.1, "log": True}},
        # The second learns nothing, so it is stopped.
        "known_points": [{"optimizer.learning_rate": 0.06}, {"optimizer.learning_rate": 1e-6}],
        "target": {"fraction_of_baseline": 0.25},
        "scheduler": "capping",
        "confirm": {"top": 1, "seeds": [101]},
    }
    source.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNS_DIR", str(folder / "runs"))
        patch.setattr("sweeps.run._train", train_here)
        spec, directory = load_spec(source), SweepDirectory(folder / "runs" / "whole")
        assert run_sweep(spec, source, directory, Console(file=io.StringIO()))
        change_requests(directory, lambda asked: replace(asked, finishes=True))
        assert run_sweep(spec, source, directory, Console(file=io.StringIO()))
        yield Ended(spec, source, directory, findings(directory.path).answer.text)


@pytest.fixture
def copy(ended: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepDirectory:
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    shutil.copytree(ended.directory.path, tmp_path / "whole")
    return SweepDirectory(tmp_path / "whole")


def table(directory: SweepDirectory, name: str) -> pd.DataFrame:
    read = pd.read_parquet(directory.path / f"{name}.parquet")
    return read.drop(columns=[column for column in OF_THE_MACHINE if column in read])


def answer_of(directory: SweepDirectory, known: dict[bytes, str]) -> str:
    """What the report answers. Args: known: answers so far, by all that the analysis reads: most damages touch none."""
    read = (directory.path / name for name in READ_BY_THE_ANALYSIS)
    digest = hashlib.sha256(repr([file.read_bytes() if file.exists() else None for file in read]).encode()).digest()
    if digest not in known:
        known[digest] = findings(directory.path).answer.text
    return known[digest]


def assert_same(directory: SweepDirectory, ended: Ended) -> None:
    for name in ("curves", "trials", "picks"):
        pd.testing.assert_frame_equal(table(directory, name), table(ended.directory, name), check_exact=True)
    assert answer_of(directory, ended.known) == ended.answer


def refusal(do: Callable[[], object]) -> str | None:
    """The line with which something is refused, None if it is not."""
    try:
        do()
    except UserError as error:
        return str(error)
    return None


def files_of(directory: SweepDirectory) -> dict[str, Path]:
    """A file of each kind; of trials, one that was stopped, one that was searched to its end, and a baseline."""
    by_status: dict[str, Path] = {}
    for trial in directory.trials():
        searched = "searched" if trial.description["method"] == "kdas_search" else "baseline"
        kind = f"{searched}, {'stopped' if trial.status == 'capped' else 'complete'}, {trial.description['phase']}"
        by_status.setdefault(kind, trial.path)
    of_trials = {
        f"{name} ({kind})": path / name
        for kind, path in by_status.items()
        for name in ("trial.json", "status.json", "status.copy.json", "curve.jsonl", "picks.jsonl", "provenance.json")
        if (path / name).exists()
    }
    names = ("measure.json", "calibration.json", "inputs.json", "sweep.yaml", "search.journal", "spent.json")
    return {name: directory.path / name for name in (*names, "environment.json", "control.json")} | of_trials


KINDS = (
    "measure.json", "calibration.json", "inputs.json", "sweep.yaml", "search.journal", "spent.json",
    "environment.json", "control.json", "provenance.json (baseline, complete, search)",
    *(
        f"{name} ({kind})"
        for kind in (
            "baseline, complete, search", "searched, complete, search", "searched, stopped, search",
            "searched, complete, confirm",
        )
        for name in ("trial.json", "status.json", "status.copy.json", "curve.jsonl", "picks.jsonl")
        # That trial is stopped before its first window of picks.
        if (name, kind) != ("picks.jsonl", "searched, stopped, search")
    ),
)  # fmt: skip
# Each kind of file with two of the damages, so that every damage comes up; the slow test has all of them.
QUICK = [
    (kind, list(DAMAGES)[(2 * place + turn) % len(DAMAGES)]) for place, kind in enumerate(KINDS) for turn in (0, 1)
]
ALL = [(kind, damage) for kind in KINDS for damage in DAMAGES]


def test_stored_kinds_are_those_of_the_sweep(ended: Ended) -> None:
    assert set(KINDS) <= set(files_of(ended.directory))


def test_analysis_needs_no_other_file_of_a_sweep(ended: Ended, tmp_path: Path) -> None:
    for name in READ_BY_THE_ANALYSIS:
        shutil.copyfile(ended.directory.path / name, tmp_path / name)
    assert findings(tmp_path).answer.text == ended.answer


def look(kind: str, damage: str, ended: Ended, copy: SweepDirectory) -> None:
    file = files_of(copy)[kind]
    content = DAMAGES[damage](file.read_bytes())
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    # What reads the record as it is.
    print_status(copy, Console(file=io.StringIO()))
    refused = refusal(lambda: (write_tables(copy), answer_of(copy, ended.known)))
    if refused is None:
        assert_same(copy, ended)
    # What runs the sweep again.
    stopped = refusal(lambda: run_sweep(ended.spec, ended.source, copy, Console(file=io.StringIO())))
    if stopped is None:
        assert_same(copy, ended)
        repaired = check_sweep(copy)
        assert all(each.is_repaired for each in repaired)
        # A look that found nothing has changed nothing either.
        assert repaired == [] or check_sweep(copy) == []
    assert all("\n" not in line for line in filter(None, (refused, stopped)))


@pytest.mark.parametrize(("kind", "damage"), QUICK)
def test_damaged_file_changes_no_answer(kind: str, damage: str, ended: Ended, copy: SweepDirectory) -> None:
    look(kind, damage, ended, copy)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "damage"), [each for each in ALL if each not in QUICK])
def test_no_damage_of_any_file_changes_the_answer(kind: str, damage: str, ended: Ended, copy: SweepDirectory) -> None:
    look(kind, damage, ended, copy)


def texts(directory: SweepDirectory) -> list[str]:
    return [each.text for each in check_sweep(directory)]


def test_check_of_an_intact_sweep_finds_nothing(copy: SweepDirectory) -> None:
    assert texts(copy) == []


def test_check_rebuilds_tables_and_restores_prices(copy: SweepDirectory, ended: Ended) -> None:
    (copy.path / "trials.parquet").write_bytes((copy.path / "curves.parquet").read_bytes())
    copy.calibration_file.write_text("{}")
    assert [text.removeprefix(f"{copy.path}/") for text in texts(copy)] == [
        "calibration.json: was damaged or missing; restored from its copy.",
        f"trials.parquet: was not the table of these trials; rebuilt. Run make report NAME={copy.name}.",
    ]
    assert texts(copy) == []
    assert copy.calibration_file.read_bytes() == ended.directory.calibration_file.read_bytes()
    assert_same(copy, ended)


@pytest.mark.parametrize("content", [b"", b"x\n"])
def test_tables_that_cannot_be_read_are_rebuilt(copy: SweepDirectory, ended: Ended, content: bytes) -> None:
    tables = [copy.path / f"{name}.parquet" for name in ("curves", "trials", "picks")]
    for rebuild in (check_sweep, write_tables):
        for table_file in tables:
            table_file.write_bytes(content)
        rebuild(copy)
        assert_same(copy, ended)


def test_check_finds_a_cost_that_is_not_that_of_the_counted_work(copy: SweepDirectory) -> None:
    folder = next(trial for trial in copy.trials() if trial.is_final)
    first, *others = folder.rows()
    folder.replace_rows([replace(first, row=replace(first.row, cost_ref_s=first.row.cost_ref_s / 2)), *others])
    folder.end(folder.status)
    (text,) = texts(copy)
    assert re.search(
        rf"{folder.path.name}: step \d+ costs [\d.e-]+ reference seconds, expected [\d.e-]+ for its work", text
    )


def test_check_misses_the_terms_of_a_sweep_that_has_searched(copy: SweepDirectory) -> None:
    copy.measure_file.unlink()
    for _ in range(2):
        assert texts(copy) == [f"{copy.measure_file}: is missing. Run the sweep again to rebuild it."]


def test_lost_trial_is_missed_and_trained_again(copy: SweepDirectory, ended: Ended) -> None:
    lost = next(trial for trial in copy.trials() if trial.description["phase"] == "confirm")
    shutil.rmtree(lost.path)
    expected = r"whole: 13 trials have ended, expected 14 as when the sweep ended\. Run the sweep again"
    with pytest.raises(UserError, match=expected):
        write_tables(copy)
    (text,) = texts(copy)
    assert re.search(expected, text)
    assert run_sweep(ended.spec, ended.source, copy, Console(file=io.StringIO()))
    assert_same(copy, ended)


@pytest.mark.parametrize("damage", ["deleted", "empty", "half", "zeros"])
def test_teacher_that_is_damaged_while_the_cache_is_empty_is_trained_again(
    damage: str, copy: SweepDirectory, ended: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path / "cache"))
    content = DAMAGES[damage](copy.teacher_file.read_bytes())
    copy.teacher_file.unlink()
    if content is not None:
        copy.teacher_file.write_bytes(content)
    assert run_sweep(ended.spec, ended.source, copy, Console(file=io.StringIO()))
    assert_same(copy, ended)
    assert is_intact(copy.teacher_file)


def test_trial_that_is_damaged_in_another_sweep_is_not_taken_over(copy: SweepDirectory, ended: Ended) -> None:
    calibration = read_calibration(copy.calibration_file)
    assert calibration is not None
    job = next(iter(plan_of(ended.spec, lambda config: "").baselines))
    curve = next(trial.path / "curve.jsonl" for trial in copy.trials() if trial.is_final)
    job = replace(job, config_id=curve.parent.name.rpartition("-s")[0])
    job = replace(job, config=job.config.model_copy(update={"seed": int(curve.parent.name.rpartition("-s")[2])}))
    other = SweepDirectory(copy.path.parent / "other")
    assert other.adopt(job, calibration)
    shutil.rmtree(other.path)
    curve.write_bytes(_half(curve.read_bytes()))
    assert not other.adopt(job, calibration)
