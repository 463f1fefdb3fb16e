"""What users take away from a sweep: its best trial file, its students, a trial run again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

import kdas
from kdas.compute.evaluate import accuracy
from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.models import create
from kdas.parts.yaml_file import dump_yaml
from kdas.recipe.config import TrialConfig, load_trial_config
from kdas.records import LATER_COLUMNS, CurveRow, Measure, Status
from kdas.training.trial import load_inputs
from sweeps import reproduce as module
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job, Proposal
from sweeps.record.measure import write_measure
from sweeps.record.spec_file import write_spec_text
from sweeps.record.students import kept_students, trial_named
from sweeps.record.trial import Recorded, TrialFolder
from sweeps.record.winner import trial_file, winner_of
from sweeps.reproduce import reproduce
from tests.sweeps.conftest import Swept, train_on_paper


def test_students_have_the_accuracies_of_the_curves(swept: Swept) -> None:
    students = {kept.about.trial_id: kept for kept in kept_students(swept.directory)}
    assert set(students) >= {folder.path.name for folder in winner_of(swept.directory).trials}
    config = TrialConfig(**next(iter(students.values())).about.recipe)
    splits = load_inputs(config).splits
    for trial_id, kept in students.items():
        rows = [recorded.row for recorded in swept.directory.trial(trial_id).rows()]
        best = max(rows, key=lambda row: row.val_accuracy)
        assert (kept.about.best["step"], kept.about.last["step"]) == (best.step, rows[-1].step)
        assert accuracy(kdas.load_student(kept.path).model, splits.test, splits) == best.test_accuracy


def test_best_prints_a_trial_file_that_runs_as_it_is(swept: Swept, tmp_path: Path) -> None:
    done = swept.run("best", "tiny")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "best.yaml"
    file.write_text(done.stdout, encoding="utf-8")
    winner = winner_of(swept.directory)
    assert done.stdout.startswith(f"# {winner.description['method']} (")
    config = load_trial_config(file)
    assert config.model_dump() == TrialConfig(**winner.description["config"]).model_dump()
    longer = load_trial_config(file, ["epochs=240 optimizer.learning_rate=0.1", "sampler=kdas sampler.start_rate=0.5"])
    assert (longer.epochs, longer.optimizer.learning_rate, longer.optimizer.momentum) == (240, 0.1, 0.9)
    assert longer.sampler["start_rate"] == 0.5 and longer.student == config.student
    assert "kdas_search (" in swept.run("best", "tiny", "--method", "kdas_search").stdout
    assert swept.run("best", "tiny", "--method", "kdsa").stderr.endswith(
        "no method 'kdsa' has ended here. Known: kdas_paper, kdas_search, plain_kd, rs2.\n"
    )


def test_export_writes_the_best_students_weights(swept: Swept, tmp_path: Path) -> None:
    file = tmp_path / "best.pth"
    done = swept.run("export", "tiny", "--best", "--format", "pth", "--out", str(file))
    assert done.returncode == 0, done.stderr
    of_winner = {folder.path.name for folder in winner_of(swept.directory).trials}
    kept = [each for each in kept_students(swept.directory) if each.about.trial_id in of_winner]
    best = max(kept, key=lambda each: each.about.best["val_accuracy"])
    assert re.match(rf"{re.escape(str(file))}: resnet8 of {best.about.trial_id} ", done.stdout.replace("\n", " "))
    model = create("resnet8", 10)
    model.load_state_dict(checkpoint.load(file)["model"], strict=True)
    expected = kdas.load_student(best.path).model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_export_takes_a_method_or_the_name_of_a_students_folder(swept: Swept, tmp_path: Path) -> None:
    kept = {each.path.name: each for each in kept_students(swept.directory)}
    for number, (name, each) in enumerate(kept.items()):
        done = swept.run("export", "tiny", "--trial", name, "--out", str(tmp_path / f"{number}.pth"))
        assert each.about.trial_id in done.stdout, done.stderr
    done = swept.run("export", "tiny", "--method", "kdas_search", "--out", str(tmp_path / "searched.pth"))
    assert "(kdas_search), test accuracy" in done.stdout
    assert re.search(r"\nimages \d+x\d+, RGB, \(pixels / 255 - mean\) / std: mean 0\.", done.stdout)
    name, each = next(iter(kept.items()))
    assert trial_named(swept.directory, name) == each.about.trial_id
    assert trial_named(swept.directory, "../students/" + name) == "../students/" + name


def test_export_replaces_no_file(swept: Swept, tmp_path: Path) -> None:
    file = tmp_path / "keep.txt"
    file.write_text("mine")
    done = swept.run("export", "tiny", "--out", str(file))
    assert done.returncode == 2 and done.stderr == f"--out {file}: exists already. Give another file, or remove it.\n"
    assert file.read_text() == "mine"


def test_reproduce_replaces_no_other_student(swept: Swept, tmp_path: Path) -> None:
    first, second = list(kept_students(swept.directory))[:2]
    shutil.copytree(first.path, tmp_path / "student")
    with pytest.raises(UserError, match=f"holds the student of another trial, {first.about.trial_id}"):
        reproduce(swept.directory, second.path.name, tmp_path / "student", Console())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tiny", "--format", "onxx"), "--format onxx: no such format. Did you mean onnx?"),
        (("tiny", "--trial", "x", "--best"), "export: expected --trial or --best, got both. Leave one out."),
        (("tiny", "--trial", "x"), "no student of trial 'x' was kept. Kept: "),
        (("tinny",), "no sweep has run here. Did you mean NAME=tiny?"),
    ],
)
def test_a_mistake_in_export_is_one_line(swept: Swept, words: tuple[str, ...], said: str) -> None:
    done = swept.run("export", *words)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_a_trial_that_runs_again_has_the_recorded_curve(
    swept: Swept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = next(kept_students(swept.directory))
    trial_id, console = kept.about.trial_id, Console(width=200)
    assert reproduce(swept.directory, trial_id, tmp_path / "student", console)
    num_rows = len(swept.directory.trial(trial_id).rows())
    printed = capsys.readouterr().out
    assert printed.count("as recorded") == num_rows + 1
    assert f"{num_rows} of {num_rows} evaluations are as recorded" in printed
    for name in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / "student" / name).read_bytes() == (kept.path / name).read_bytes()


def test_a_difference_is_named_and_is_not_a_success(
    swept: Swept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = module.Training.rows

    def rows(self: module.Training) -> object:
        for row in original(self):
            yield replace(row, test_accuracy=0.25) if row.epoch == 2 else row

    monkeypatch.setattr(module.Training, "rows", rows)
    trial_id = next(kept_students(swept.directory)).about.trial_id
    assert not reproduce(swept.directory, trial_id, None, Console(width=200))
    assert "test_accuracy was 0." in capsys.readouterr().out


def test_what_an_earlier_version_did_not_record_is_no_difference(
    swept: Swept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = TrialFolder.rows

    def rows(self: TrialFolder) -> list[Recorded]:
        earlier = dict.fromkeys(LATER_COLUMNS)
        return [replace(each, row=replace(each.row, **earlier)) for each in original(self)]  # type: ignore[arg-type]

    monkeypatch.setattr(TrialFolder, "rows", rows)
    trial_id = next(kept_students(swept.directory)).about.trial_id
    assert reproduce(swept.directory, trial_id, None, Console(width=200))
    assert "evaluations are as recorded" in capsys.readouterr().out


class _Ends:
    """A training that yields these rows and then ends so."""

    def __init__(self, rows: list[CurveRow], status: Status) -> None:
        self._rows, self.status, self.best, self.num_asked = rows, status, None, 0

    def rows(self) -> Iterator[CurveRow]:
        for row in self._rows:
            self.num_asked += 1
            yield row
        if self.status is Status.CRASHED:
            raise RuntimeError("crashes again")


def reproduced(
    swept: Swept, monkeypatch: pytest.MonkeyPatch, training: _Ends, student: Path | None = None
) -> tuple[bool, str]:
    monkeypatch.setattr(module, "_training_of", lambda *_, **__: training)
    console = Console(width=200, record=True)
    same = reproduce(swept.directory, next(kept_students(swept.directory)).about.trial_id, student, console)
    return same, console.export_text()


def test_a_training_that_ends_otherwise_is_not_the_recorded_one(
    swept: Swept, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trial_id = next(kept_students(swept.directory)).about.trial_id
    rows = [recorded.row for recorded in swept.directory.trial(trial_id).rows()]
    assert reproduced(swept, monkeypatch, _Ends(rows, Status.BUDGET))[0]
    same, told = reproduced(swept, monkeypatch, _Ends(rows[:-1], Status.BUDGET))
    assert not same and f"{len(rows) - 1} of {len(rows)} evaluations are as recorded" in told
    # Nothing is trained after the last recorded evaluation, where a trial that crashed would crash again.
    training = _Ends([*rows, rows[-1]], Status.CRASHED)
    assert reproduced(swept, monkeypatch, training)[0] and training.num_asked == len(rows)
    same, told = reproduced(swept, monkeypatch, _Ends(rows, Status.DIVERGED), tmp_path / "student")
    assert same and "The training diverged, so no student is kept." in told


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    swept: Swept, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written to"):
        reproduced(swept, monkeypatch, _Ends([], Status.BUDGET), tmp_path / "file")


def test_a_trial_that_does_not_exist_is_one_line(swept: Swept) -> None:
    done = swept.run("reproduce", "tiny", "nothing")
    assert done.returncode == 2 and "no trial 'nothing'. The sweep has 10, for example " in done.stderr


def test_a_finished_sweeps_files_are_as_they_were_written(swept: Swept) -> None:
    assert swept.run("check", "tiny").stdout.endswith("all files are as they were written\n")


def a_job(
    directory: SweepDirectory,
    config_id: str,
    seed: int,
    accuracies: list[float],
    status: Status,
    proposal: Proposal | None = None,
) -> None:
    teacher = {"model": "resnet8", "epochs": 1}
    config = TrialConfig(dataset={"name": "digits"}, teacher=teacher, student="resnet8", seed=seed)
    job = Job(f"method_{config_id[0]}", "search", config, config_id, proposal=proposal)
    train_on_paper(directory, job, accuracies, status)


def measure(**changed: object) -> Measure:
    usual = Measure("tiny", 0.5, "told", 4.0, "plain_kd", "validation", "by-hand", "digits", (1, 2), 4)
    return replace(usual, **changed)  # type: ignore[arg-type]


def test_the_winner_is_the_soonest_on_average_with_misses_as_the_budget(directory: SweepDirectory) -> None:
    write_measure(directory, measure())
    done, stopped = Status.BUDGET, Status.CAPPED
    a_job(directory, "aaaaaaaa", 1, [0.5, 0.9, 0.9], done)
    a_job(directory, "aaaaaaaa", 2, [0.1, 0.2, 0.45], done)  # never: 4, so 2.5 on average
    a_job(directory, "bbbbbbbb", 1, [0.1, 0.6, 0.6], done)
    a_job(directory, "bbbbbbbb", 2, [0.1, 0.6, 0.6], done)  # 2 on average
    a_job(directory, "cccccccc", 1, [0.9, 0.9, 0.9], done)
    a_job(directory, "cccccccc", 2, [0.9], stopped)  # no mean
    a_job(directory, "dddddddd", 1, [0.9, 0.9, 0.9], done)  # a seed is missing
    found = winner_of(directory)
    assert (found.description["method"], found.mean_ref_s, found.num_reached) == ("method_b", 2.0, 2)
    assert winner_of(directory, "method_a").mean_ref_s == 2.5 and winner_of(directory, "method_a").num_reached == 1
    write_measure(directory, measure(objective="accuracy"))
    assert winner_of(directory).description["method"] == "method_a"


def test_once_confirmed_only_the_confirmation_counts(directory: SweepDirectory) -> None:
    done = Status.BUDGET
    for seed in (1, 11):
        a_job(directory, "aaaaaaaa", seed, [0.1, 0.1, 0.6] if seed == 11 else [0.6, 0.6, 0.6], done)
        a_job(directory, "bbbbbbbb", seed, [0.1, 0.6, 0.6], done)
        a_job(directory, "cccccccc", seed, [0.9, 0.9, 0.9], done)  # not among the confirmed
    write_measure(directory, measure(seeds=(1,), confirm_configs=("aaaaaaaa", "bbbbbbbb"), confirm_seeds=(11,)))
    assert winner_of(directory).description["method"] == "method_b"


def test_without_a_target_or_an_end_there_is_no_winner(directory: SweepDirectory) -> None:
    with pytest.raises(UserError, match="target is not known before the baseline"):
        winner_of(directory)
    write_measure(directory, measure())
    with pytest.raises(UserError, match="no configuration has ended on every seed"):
        winner_of(directory)


def test_train_takes_settings(tmp_path: Path) -> None:
    (tmp_path / "trial.yaml").write_text("dataset: digits\nteacher: {model: resnet8}\nstudent: resnet8\n")
    command = [sys.executable, "-m", "kdas", "train", str(tmp_path / "trial.yaml"), "--set", "epochs=many"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and re.match(r".*trial\.yaml: epochs: ", done.stderr)
    assert json.loads(json.dumps(load_trial_config(tmp_path / "trial.yaml", ["seed=7"]).seed)) == 7


def winner_under(directory: SweepDirectory, objective: dict[str, object], **changed: object) -> str:
    write_measure(directory, measure(objective=objective["name"], **changed))
    write_spec_text(directory.spec_file, dump_yaml({"objective": objective}))
    return str(winner_of(directory).description["config_id"])


def test_the_winner_is_what_the_sweeps_objective_ranks_first(directory: SweepDirectory) -> None:
    done = Status.BUDGET
    for seed in (1, 2):
        a_job(directory, "aaaaaaaa", seed, [0.6, 0.6, 0.6], done)  # first at the target
        a_job(directory, "bbbbbbbb", seed, [0.4, 0.7, 0.7], done)  # best up to a cost of 2
        a_job(directory, "cccccccc", seed, [0.1, 0.1, 0.9], done)  # best at the end
    assert winner_under(directory, {"name": "tta"}) == "aaaaaaaa"
    assert winner_under(directory, {"name": "accuracy"}) == "cccccccc"
    assert winner_under(directory, {"name": "pareto"}) == "cccccccc"
    assert winner_under(directory, {"name": "accuracy_at_cost", "cost_ref_s": 2.0}) == "bbbbbbbb"
    assert winner_under(directory, {"name": "accuracy_at_cost", "share_of_budget": 0.5}) == "bbbbbbbb"
    assert winner_under(directory, {"name": "accuracy_at_cost", "share_of_budget": 0.25}) == "aaaaaaaa"


def test_between_equals_of_a_search_the_winner_is_the_one_whose_students_are_kept(directory: SweepDirectory) -> None:
    done = Status.BUDGET
    for seed in (1, 2):
        proposal = Proposal(seed, {}, "")
        a_job(directory, "aaaaaaaa", seed, [0.1, 0.1, 0.2], done, proposal)
        a_job(directory, "bbbbbbbb", seed, [0.1, 0.1, 0.3], done, proposal)
    assert winner_under(directory, {"name": "tta"}) == "aaaaaaaa"  # as the search ranks configurations
    for seed in (1, 2):
        a_job(directory, "cccccccc", seed, [0.1, 0.1, 0.4], done)  # a baseline, whose students are kept, too
    assert winner_under(directory, {"name": "tta"}) == "cccccccc"


def test_best_names_the_sweeps_copy_of_a_teacher_that_was_moved(directory: SweepDirectory, tmp_path: Path) -> None:
    write_measure(directory, measure(seeds=(1,)))
    given = tmp_path / "given.pth"
    teacher = {"model": "resnet8", "checkpoint": str(given)}
    config = TrialConfig(dataset={"name": "digits"}, teacher=teacher, student="resnet8", seed=1)
    train_on_paper(directory, Job("method_a", "search", config, "aaaaaaaa"), [0.6], Status.BUDGET)
    winner = winner_of(directory)
    assert f"checkpoint: {given}\n" in trial_file(winner, directory)  # without a copy there is nothing better
    directory.teacher_file.touch()
    assert f"checkpoint: {directory.teacher_file}\n" in trial_file(winner, directory)
    given.touch()
    assert f"checkpoint: {given}\n" in trial_file(winner, directory)
