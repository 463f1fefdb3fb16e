"""Which students a sweep keeps, where they are, and what is said of those that are damaged or were not kept."""

from __future__ import annotations

import errno
import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kdas.errors import UserError
from kdas.files.full import waiting_for_room
from kdas.recipe.config import TrialConfig
from kdas.records import Status
from kdas.students import about as about_file
from kdas.students.about import ABOUT, BEST, About, read_about, write_about
from kdas.students.kept import write_student
from kdas.training.trial import Inputs
from sweeps.engine.agenda import Agenda
from sweeps.file.blocks import KeepStudents
from sweeps.file.spec import SweepSpec
from sweeps.record import directory as record_of_sweep
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.students import damaged_students, kept_students, place_students, student_of
from tests.sweeps.conftest import CALIBRATION, train_on_paper
from tests.sweeps.engine.test_agenda import agenda_of

ROW = {"epoch": 1, "step": 3, "val_accuracy": 0.9, "test_accuracy": 0.8, "device": "cpu"}


def about_of(job: Job, sweep: dict[str, str]) -> About:
    return About(
        student="resnet8",
        num_classes=10,
        class_names=[],
        image_size=8,
        shorter_side=8,
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
        trial_id=job.trial_id,
        decided_by="validation",
        best=ROW,
        last=ROW,
        recipe=job.config.model_dump(mode="json"),
        data={"name": "digits", "origin": "scikit-learn", "identity": ["drawn"]},
        teacher={"model": "resnet8", "weights": "drawn"},
        provenance={},
        files={},
        sweep=sweep,
    )


def keep_student(directory: SweepDirectory, job: Job) -> None:
    """What a worker writes before it ends a trial. The weights tell which trial they are of."""
    folder = directory.trial(job.trial_id)
    folder.begin(job)
    weights = {"seed": torch.tensor([job.config.seed]), "rate": torch.tensor(job.config.sampler.get("start_rate", 0.0))}
    write_student(folder.student, weights, weights, about_of(job, folder.facts_for_student(directory.name)))


def with_confirmation(spec: SweepSpec, keep: KeepStudents) -> SweepSpec:
    confirm = type(spec).model_fields["confirm"].get_default(call_default_factory=True)
    return spec.model_copy(
        update={"confirm": confirm.model_copy(update={"seeds": [11, 12], "top": 1}), "keep_students": keep}
    )


def worked_off(agenda: Agenda, directory: SweepDirectory) -> list[set[str]]:
    """Train everything on paper. Returns: after each trial, the configurations of the search that have students."""
    seen = []
    while (job := agenda.next_job()) is not None:
        keep_student(directory, job)
        rate = job.config.sampler.get("start_rate", 1.0)
        train_on_paper(directory, job, [0.3, 0.9 * rate, 0.9])
        agenda.ended(job)
        folders = [folder for folder in directory.trials() if folder.student.is_dir()]
        described = [folder.description for folder in folders]
        seen.append({each["config_id"] for each in described if each["method"] == "kdas_search"})
    assert agenda.is_finished
    return seen


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_finalists_and_the_best_of_the_search_keep_theirs(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    whole = with_confirmation(spec, "finalists")
    whole = whole.model_copy(update={"budget": spec.budget.model_copy(update={"configurations": 6})})
    agenda = agenda_of(whole, inputs, directory)
    seen = worked_off(agenda, directory)
    # One in progress and the best so far: the others were removed while the search ran.
    assert max(map(len, seen)) == 2 and seen[-1] != set()
    placed = place_students(directory, agenda.trials_with_students(directory.trials()))
    methods = ("kdas_paper", "kdas_search", "plain_kd", "rs2")
    confirmed = [f"{method}-s{seed}" for method in methods for seed in (11, 12)]
    assert names(placed) == sorted([*confirmed, "kdas_search-s1", "kdas_search-s2"])
    # Several are equally fast: which of them is proposed first depends on how a processor rounds.
    searched = [folder.description for folder in directory.trials() if folder.description["method"] == "kdas_search"]
    (best,) = {each["config_id"] for each in searched if each["phase"] == "confirm"}
    rates = {each["config_id"]: each["config"]["sampler"]["start_rate"] for each in searched}
    assert len(rates) == 6 and rates[best] > statistics.median(rates.values())
    for path in placed:
        about = read_about(path)
        assert path.name == f"{about.sweep['method']}-s{about.recipe['seed']}" and about.sweep["name"] == "tiny"
        assert about.sweep["method"] != "kdas_search" or about.trial_id.startswith(best)
    assert not [folder for folder in directory.trials() if folder.student.exists()]
    assert names(place_students(directory, agenda.trials_with_students(directory.trials()))) == names(placed)
    # A resumed start of a finished sweep changes nothing.
    again = agenda_of(whole, inputs, directory)
    assert not again.fill() and again.is_finished
    assert names(place_students(directory, again.trials_with_students(directory.trials()))) == names(placed)


def test_without_a_confirmation_the_baselines_keep_theirs(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    agenda = agenda_of(spec, inputs, directory)
    worked_off(agenda, directory)
    placed = place_students(directory, agenda.trials_with_students(directory.trials()))
    methods = ("kdas_paper", "kdas_search", "plain_kd", "rs2")
    assert names(placed) == [f"{method}-s{seed}" for method in methods for seed in (1, 2)]


def test_all_are_kept_under_names_that_tell_configurations_apart(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    agenda = agenda_of(spec.model_copy(update={"keep_students": "all"}), inputs, directory)
    worked_off(agenda, directory)
    placed = place_students(directory, agenda.trials_with_students(directory.trials()))
    assert len(placed) == 2 * (3 + 2)
    searched = {folder.description["config_id"] for folder in directory.trials()} - {
        folder.description["config_id"]
        for folder in directory.trials()
        if folder.description["method"] != "kdas_search"
    }
    expected = {f"kdas_search-{config_id[:6]}-s{seed}" for config_id in searched for seed in (1, 2)}
    assert expected == {path.name for path in placed if path.name.startswith("kdas_search")}


def test_a_kill_while_students_are_moved_loses_none(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    agenda = agenda_of(spec, inputs, directory)
    worked_off(agenda, directory)
    wanted = agenda.trials_with_students(directory.trials())
    original, calls = Path.rename, iter(range(100))

    def rename(self: Path, target: Path) -> Path:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            place_students(directory, wanted)
    assert student_of(directory, wanted[0]).about.trial_id == wanted[0]
    assert {read_about(path).trial_id for path in place_students(directory, wanted)} == set(wanted)


def test_a_trial_that_is_trained_again_replaces_its_student(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    agenda = agenda_of(spec, inputs, directory)
    worked_off(agenda, directory)
    wanted = agenda.trials_with_students(directory.trials())
    (first, *_) = place_students(directory, wanted)
    (first / BEST).write_bytes(b"damaged")
    assert list(damaged_students(directory)) == [
        f"{first / BEST}: is not the file that student.json describes. Copy the student again, or train it again."
    ]
    about = read_about(first)
    folder = directory.trial(about.trial_id)
    weights = {"seed": torch.tensor([1])}
    write_student(folder.student, weights, weights, about)
    place_students(directory, wanted)
    assert not list(damaged_students(directory)) and read_about(first).trial_id == about.trial_id


def test_a_trial_of_another_sweep_brings_its_student(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    agenda = agenda_of(spec, inputs, directory)
    worked_off(agenda, directory)
    place_students(directory, agenda.trials_with_students(directory.trials()))
    other = SweepDirectory(directory.path.parent / "other")
    directory.trial(agenda._plan.plain[0].trial_id).tell_provenance({"torch": "of that time"})
    job = replace(agenda._plan.plain[0], method="ours")
    assert other.adopt(job, CALIBRATION)
    about = read_about(other.trial(job.trial_id).student)
    assert (about.trial_id, about.sweep["name"], about.sweep["method"]) == (job.trial_id, "other", "ours")
    assert other.trial(job.trial_id).status is Status.BUDGET
    assert other.trial(job.trial_id).provenance == {"torch": "of that time"}


def test_the_students_of_another_sweep_are_read_once_for_all_of_its_trials(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked_off(agenda_of(spec.model_copy(update={"keep_students": "all"}), inputs, directory), directory)
    jobs = [
        Job(what["method"], what["phase"], TrialConfig(**what["config"]), what["config_id"])
        for what in (folder.description for folder in directory.trials())
    ]
    *most, last = jobs
    last_student = directory.trial(last.trial_id).student
    aside = last_student.rename(directory.path / "aside")
    placed = place_students(directory, [job.trial_id for job in most])
    original, read = about_file.read_about, []

    def counted(folder: Path) -> About:
        read.append(folder)
        return original(folder)

    monkeypatch.setattr(record_of_sweep, "read_about", counted)
    other = SweepDirectory(directory.path.parent / "other")
    assert all(other.adopt(job, CALIBRATION) for job in most)
    assert all(read_about(other.trial(job.trial_id).student).trial_id == job.trial_id for job in most)
    assert len(most) == len(placed) == 9 and len([path for path in read if path in placed]) == len(placed)
    # One that comes later is found too.
    aside.rename(last_student)
    place_students(directory, [job.trial_id for job in jobs])
    assert other.adopt(last, CALIBRATION) and other.trial(last.trial_id).student.is_dir()


def test_a_student_that_was_not_kept_is_one_line(spec: SweepSpec, inputs: Inputs, directory: SweepDirectory) -> None:
    with pytest.raises(UserError, match=r"no student was kept\. Set keep_students"):
        student_of(directory, "nothing")
    agenda = agenda_of(spec, inputs, directory)
    job = agenda._plan.plain[0]
    directory.trial(job.trial_id).begin(job)
    with (
        directory.locked(),
        pytest.raises(UserError, match=r"the sweep still runs, and trial \w+-s1 has no student yet"),
    ):
        student_of(directory, job.trial_id)
    worked_off(agenda, directory)
    place_students(directory, agenda.trials_with_students(directory.trials()))
    said = r"no student of trial 'nothing' was kept\. Kept: .*-s1, .*, \.\.\.\. .*make reproduce NAME=tiny"
    with pytest.raises(UserError, match=said):
        student_of(directory, "nothing")
    folder = next(iter(directory.students.iterdir()))
    content = json.loads((folder / ABOUT).read_text())
    del content["student"]
    (folder / ABOUT).write_text(json.dumps(content))
    assert [text for text in damaged_students(directory) if "is damaged" in text]


def a_student(directory: SweepDirectory, method: str, trial_id: str) -> None:
    """A student of a method and a configuration of the test's choice."""
    config = TrialConfig(dataset={"name": "digits"}, teacher={"model": "resnet8"}, student="resnet8", seed=1)
    keep_student(directory, Job(method, "search", config, trial_id.rpartition("-s")[0]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("kdas_search", "abcdef01-s1"), ("kdas_search", "abcdef02-s1")),  # ids that begin alike
        (("a/b", "11111111-s1"), ("a b", "22222222-s1")),  # methods that differ in what a file's name cannot hold
        (("../../out", "11111111-s1"), ("kd", "22222222-s1")),
        ((".", "11111111-s1"), ("..", "22222222-s1")),
        (("KD", "11111111-s1"), ("kd", "22222222-s1")),  # the same folder on macOS and Windows
        (("x" * 300, "11111111-s1"), ("x" * 299, "22222222-s1")),
    ],
)
def test_two_students_never_share_a_folder(
    directory: SweepDirectory, first: tuple[str, str], second: tuple[str, str]
) -> None:
    given = {trial_id: method for method, trial_id in (first, second)}
    for trial_id, method in given.items():
        a_student(directory, method, trial_id)
    placed = place_students(directory, given)
    assert {read_about(path).trial_id: read_about(path).sweep["method"] for path in placed} == given
    assert {path.parent for path in placed} == {directory.students} and len({p.name.lower() for p in placed}) == 2
    assert place_students(directory, given) == placed and student_of(directory, first[1]).path in placed


def test_a_later_configuration_renames_the_earlier_one(directory: SweepDirectory) -> None:
    a_student(directory, "kdas_search", "11111111-s1")
    assert names(place_students(directory, ["11111111-s1"])) == ["kdas_search-s1"]
    a_student(directory, "kdas_search", "22222222-s1")
    placed = place_students(directory, ["22222222-s1"])
    assert names(placed) == ["kdas_search-111111-s1", "kdas_search-222222-s1"]


def test_a_students_folder_of_another_origin_stays(directory: SweepDirectory) -> None:
    a_student(directory, "kd", "11111111-s1")
    source = directory.trial("11111111-s1").student
    alone = directory.students / "kd-s1"
    shutil.copytree(source, alone)
    write_about(alone, replace(read_about(alone), sweep={}, trial_id="99999999-s1"))
    (placed,) = [path for path in place_students(directory, ["11111111-s1"]) if path != alone]
    assert read_about(placed).trial_id == "11111111-s1" and read_about(alone).trial_id == "99999999-s1"
    assert {kept.about.trial_id for kept in kept_students(directory)} == {"11111111-s1"}


def test_a_trial_that_has_not_ended_is_not_judged(directory: SweepDirectory) -> None:
    a_student(directory, "kd", "11111111-s1")
    (directory.trial("11111111-s1").student / ABOUT).unlink()  # killed in between, or being written now
    assert not list(damaged_students(directory))
    directory.trial("11111111-s1").end(Status.BUDGET)
    assert list(damaged_students(directory))


def test_what_cannot_be_copied_from_another_sweep_is_left_out(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    agenda = agenda_of(spec, inputs, directory)
    worked_off(agenda, directory)
    job = agenda._plan.plain[0]
    source = directory.trial(job.trial_id).student

    def adopted(name: str, *, keeps: bool = True) -> Path:
        other = SweepDirectory(directory.path.parent / name)
        assert other.adopt(job, CALIBRATION, keeps_student=keeps)
        return other.trial(job.trial_id).student

    assert not adopted("without", keeps=False).exists()
    original = shutil.copyfile

    def vanishing(path: Path, target: Path) -> object:
        shutil.rmtree(source)
        return original(path, target)

    kept = shutil.copytree(source, directory.path.parent / "kept")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", vanishing)
        assert not adopted("vanished").exists()  # that sweep ended just now and moved its students
    shutil.copytree(kept, source, dirs_exist_ok=True)
    (source / BEST).write_bytes(b"damaged")
    assert not adopted("damaged").exists()


def test_a_full_disk_waits_for_room_for_a_student(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    agenda = agenda_of(spec, inputs, directory)
    worked_off(agenda, directory)
    job = agenda._plan.plain[0]
    waited: list[Path] = []
    original = shutil.copyfile

    def copyfile(path: Path, target: Path) -> object:
        if not waited:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, target)

    other = SweepDirectory(directory.path.parent / "other")
    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with waiting_for_room(waited.append):
        assert other.adopt(job, CALIBRATION)
    assert len(waited) == 1 and read_about(other.trial(job.trial_id).student).trial_id == job.trial_id


def test_students_that_other_sweeps_bring_do_not_fill_the_disk(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    worked_off(agenda_of(spec.model_copy(update={"keep_students": "all"}), inputs, directory), directory)
    other = SweepDirectory(directory.path.parent / "other")
    agenda = agenda_of(spec, inputs, other)
    assert not agenda.fill() and agenda.is_finished
    searched = [folder for folder in other.trials() if folder.description["method"] == "kdas_search"]
    with_student = {folder.description["config_id"] for folder in searched if folder.student.is_dir()}
    assert len(searched) == 4 and len(with_student) == 1
    assert set(agenda.trials_with_students(other.trials())) >= {
        folder.path.name for folder in searched if folder.student.is_dir()
    }
