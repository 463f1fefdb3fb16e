"""One trial: it is repeatable, counted and evaluated at equal cost, and ends by schedule, budget or divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from kdas.clock import Calibration, Work
from kdas.compute.evaluate import accuracy, predictions, quality
from kdas.data import Draw, ResidentSplit, load_splits
from kdas.models import create
from kdas.records import CurveRow, Status
from kdas.training import trial as module
from kdas.training.batch import Batch
from kdas.training.distiller import Distiller
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Inputs, Trial

Finished = Callable[..., tuple[Training, list[CurveRow]]]
TrialOf = Callable[..., Trial]
# What depends on the machine and not on the trial.
OF_THE_MACHINE = ("wall_s", "eval_s", "data_s", "cost_as_run_s")
# Cached epochs follow sampling epochs, the exclusion has an effect, and the budget is not reached.
KDAS = {"name": "kdas", "sampling_period": [2]}


def of_the_trial(rows: list[CurveRow]) -> list[dict[str, Any]]:
    return [{key: value for key, value in asdict(row).items() if key not in OF_THE_MACHINE} for row in rows]


def dearer(calibration: Calibration, factors: dict[Work, float]) -> Calibration:
    prices = {w: tuple((n, factors.get(w, 1.0) * s) for n, s in points) for w, points in calibration.prices.items()}
    return Calibration("dearer", {}, prices)


@pytest.mark.parametrize("sampler", ["full", "random", KDAS], ids=["full", "random", "kdas"])
def test_same_trial_gives_the_same_rows_bit_for_bit(finished: Finished, sampler: object) -> None:
    _, first = finished(sampler=sampler)
    torch.manual_seed(123)
    torch.rand(5)
    _, second = finished(sampler=sampler)
    assert len(first) >= 3
    assert of_the_trial(second) == of_the_trial(first)


def test_other_seed_gives_another_curve_of_the_same_configuration(finished: Finished) -> None:
    _, first = finished(seed=1)
    _, second = finished(seed=2)
    assert [row.train_loss for row in first] != [row.train_loss for row in second]
    assert {row.config_id for row in first} == {row.config_id for row in second}
    assert first[0].trial_id == f"{first[0].config_id}-s1" and second[0].trial_id == f"{first[0].config_id}-s2"


def test_training_lowers_the_loss(finished: Finished) -> None:
    _, rows = finished(epochs=8, ce_weight=1.0, kd_weight=0.0)
    assert rows[-1].train_loss < 0.8 * rows[0].train_loss
    assert rows[-1].val_accuracy > 0.3


def test_prices_change_costs_but_not_what_is_learnt(finished: Finished, calibration: Calibration) -> None:
    _, usual = finished(evaluations=5)
    _, thrice = finished(Surroundings(dearer(calibration, dict.fromkeys(Work, 3.0))), evaluations=5)
    assert [row.cost_ref_s for row in thrice] == pytest.approx([3 * row.cost_ref_s for row in usual])
    learnt = [(row.step, row.train_loss, row.val_accuracy, row.test_accuracy) for row in usual]
    assert [(row.step, row.train_loss, row.val_accuracy, row.test_accuracy) for row in thrice] == learnt


def test_prices_of_another_shape_give_the_same_accuracies_at_equal_steps(
    finished: Finished, calibration: Calibration
) -> None:
    _, usual = finished(sampler=KDAS, evaluations=30)
    _, other = finished(Surroundings(dearer(calibration, {Work.TEACHER: 9.0})), sampler=KDAS, evaluations=30)
    accuracies = {row.step: (row.val_accuracy, row.test_accuracy) for row in usual}
    common = [row for row in other if row.step in accuracies]
    assert len(common) >= 5
    assert all(accuracies[row.step] == (row.val_accuracy, row.test_accuracy) for row in common)
    assert other[-1].cost_ref_s > usual[-1].cost_ref_s


@pytest.mark.parametrize("sampler", ["full", "random", KDAS], ids=["full", "random", "kdas"])
def test_evaluations_stand_at_equal_cost(finished: Finished, calibration: Calibration, sampler: object) -> None:
    training, rows = finished(sampler=sampler, evaluations=9)
    interval = training.budget_ref_s / 9
    fetched = sum(calibration.price(work, 27) for work in (Work.AUGMENT, Work.TEACHER, Work.SCORE))
    dearest_batch = fetched + calibration.price(Work.WEIGH, 16) + calibration.price(Work.STEP, 16)
    marks = [math.floor(row.cost_ref_s / interval + 1e-9) for row in rows[:-1]]
    assert marks == list(range(1, len(rows))) and len(rows) >= 4
    for row, mark in zip(rows, marks, strict=False):
        assert row.cost_ref_s - mark * interval < dearest_batch < interval
    assert all(earlier.step < later.step for earlier, later in pairwise(rows))


def test_last_row_is_the_end_of_the_schedule(finished: Finished) -> None:
    training, rows = finished()
    assert training.status is Status.BUDGET
    assert rows[-1].epoch == 3 and rows[-1].step == 3 * 7
    assert rows[-1].cost_ref_s == pytest.approx(training.budget_ref_s)
    assert len(rows) == 6


@pytest.mark.parametrize("epochs", [3, 8, 11])
def test_evaluation_due_at_the_end_of_an_epoch_is_made_there(finished: Finished, epochs: int) -> None:
    # Rounding in the sum of many prices must not delay it until after the first batch of the next epoch.
    _, rows = finished(epochs=epochs, evaluations=epochs)
    assert [(row.epoch, row.step) for row in rows] == [(epoch, 7 * epoch) for epoch in range(1, epochs + 1)]


def test_sampling_that_saves_nothing_ends_at_the_budget(finished: Finished, calibration: Calibration) -> None:
    everything = {"name": "kdas", "start_rate": 1.0, "end_rate": 1.0, "sampling_period": [1], "exclusion_rate": 0.0}
    prices = dearer(calibration, {Work.SCORE: 4.0})
    training, rows = finished(Surroundings(prices), sampler=everything, epochs=8)
    dearest_batch = sum(prices.price(work, 16) for work in Work)
    assert training.status is Status.BUDGET
    assert rows[-1].epoch < 8
    assert training.budget_ref_s <= rows[-1].cost_ref_s < training.budget_ref_s + dearest_batch
    assert all(row.cost_ref_s < training.budget_ref_s for row in rows[:-1])


def counts(row: CurveRow) -> tuple[int, int, int, int]:
    return row.step, row.samples_trained, row.samples_scored, row.teacher_forwards


def test_full_counts_every_sample_once_an_epoch(finished: Finished, calibration: Calibration) -> None:
    training, rows = finished()
    assert counts(rows[-1]) == (21, 300, 0, 300)
    price = calibration.price
    batches = [(16, 18), (4, 3)]
    by_hand = sum(
        count * price(work, size) for size, count in batches for work in (Work.AUGMENT, Work.TEACHER, Work.STEP)
    )
    by_hand += 3 * price(Work.EPOCH, 100)
    assert rows[-1].cost_ref_s == pytest.approx(by_hand)
    assert rows[-1].flops == pytest.approx(300 * (training.flops.step + training.flops.teacher))


def test_random_counts_only_its_slices(finished: Finished) -> None:
    _, rows = finished(sampler={"name": "random", "start_rate": 0.6, "end_rate": 0.4}, evaluations=20)
    # Slices of 60, 50 and 40 samples in batches of 16.
    assert counts(rows[-1]) == (4 + 4 + 3, 150, 0, 150)
    assert {row.epoch: row.sampling_rate for row in rows} == pytest.approx({1: 0.6, 2: 0.5, 3: 0.4})


def test_kdas_counts_scoring_and_asks_the_teacher_once_a_view(finished: Finished) -> None:
    training, rows = finished(sampler={**KDAS, "start_rate": 0.6, "end_rate": 0.6}, epochs=3)
    # Epochs 1 and 3 score 100 samples in batches of 27, 27, 27, 19 and train on 16 of each; epoch 2 repeats these 64.
    assert counts(rows[-1]) == (12, 3 * 64, 200, 264)
    assert training.clock.samples(Work.WEIGH) == 3 * 64
    assert training.clock.samples(Work.AUGMENT) == 264


def test_kdas_without_a_penalty_pays_for_no_weights(finished: Finished) -> None:
    training, _ = finished(sampler={**KDAS, "penalty_lambda": 0.0}, epochs=2)
    assert training.clock.samples(Work.WEIGH) == 0


def test_diverged_trial_says_so_and_keeps_its_curve(finished: Finished) -> None:
    training, rows = finished(optimizer={"learning_rate": 1e9}, epochs=8, evaluations=16)
    assert training.status is Status.DIVERGED
    assert not math.isfinite(rows[-1].train_loss)
    assert rows[-1].step < 8 * 7
    assert all(math.isfinite(row.train_loss) for row in rows[:-1])


def test_learning_rate_of_a_row_is_that_of_its_epoch(finished: Finished) -> None:
    training, rows = finished(optimizer={"learning_rate": 0.02, "schedule": "step"}, epochs=8, evaluations=25)
    rates = {row.epoch: row.learning_rate for row in rows}
    expected = {1: 0.02, 5: 0.02, 6: 0.002, 7: 0.0002, 8: 0.00002}
    assert {epoch: rates[epoch] for epoch in expected} == pytest.approx(expected)
    assert training.distiller.optimizer.param_groups[0]["lr"] == rates[8]


def test_surroundings_are_written_on_every_row(finished: Finished, calibration: Calibration) -> None:
    _, rows = finished(Surroundings(calibration, num_cotenants=3, data_s=1.5), epochs=1)
    assert {(row.num_cotenants, row.data_s, row.calibration_id, row.device) for row in rows} == {
        (3, 1.5, "by-hand", "cpu")
    }
    assert {(row.dataset, row.pair, row.seed) for row in rows} == {("digits", "resnet8->resnet8", 1)}
    assert all(row.wall_s > 0 and row.eval_s > 0 for row in rows)


def test_test_split_decides_when_nothing_validates(
    config_of: Callable[..., Any], small_inputs: Inputs, calibration: Calibration
) -> None:
    whole = load_splits(small_inputs.dataset, 0.0, "cpu")
    assert whole.validation is whole.test
    assert len(whole.train) + len(whole.test) == 1797
    few = replace(whole, train=replace(whole.train, labels=whole.train.labels[:32]))
    trial = Trial(config_of(validation=0, epochs=1), replace(small_inputs, splits=few))
    rows = list(Training(trial, Surroundings(calibration)).rows())
    assert [row.val_accuracy for row in rows] == [row.test_accuracy for row in rows]


def test_accuracy_is_the_share_of_right_answers_and_leaves_the_model_as_it_was(trial_of: TrialOf) -> None:
    distiller: Distiller = trial_of().distiller()
    splits, student = distiller.splits, distiller.student
    before = {key: tensor.clone() for key, tensor in student.state_dict().items()}
    student.train()
    measured = accuracy(student, splits.test, splits)
    assert student.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in student.state_dict().items())
    with torch.no_grad():
        answers = student.eval()(splits.normalized(splits.test.images)).argmax(dim=1)
    assert measured == int((answers == splits.test.labels).sum()) / 60


def test_last_row_tells_more_of_the_student_on_the_test_split(finished: Finished, small_inputs: Inputs) -> None:
    training, rows = finished(epochs=1)
    splits, row = small_inputs.splits, rows[-1]
    images, labels = splits.normalized(splits.test.images), splits.test.labels  # type: ignore[attr-defined]
    with torch.no_grad():
        logits = training.distiller.student.eval()(images)
        of_teacher = small_inputs.teacher.model(images).argmax(dim=1)
    rank = (logits > logits.gather(1, labels[:, None])).sum(dim=1)
    assert row.test_top5 == int((rank < 5).sum()) / 60
    assert row.test_nll == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    assert row.test_agreement == int((logits.argmax(dim=1) == of_teacher).sum()) / 60
    assert row.test_calibration_error is not None and 0 <= row.test_calibration_error <= 1


def test_teacher_answers_for_the_test_split_once_for_all_trials(
    trial_of: TrialOf, small_inputs: Inputs, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, asked = replace(small_inputs), []
    original = module.predictions
    monkeypatch.setattr(module, "predictions", lambda *given: asked.append(1) or original(*given))
    for seed in (1, 2):
        rows = list(Training(Trial(trial_of(seed=seed).config, inputs), Surroundings(calibration)).rows())
        assert len(rows) > 1 and all(row.test_agreement is not None for row in rows)
    assert len(asked) == 1


def test_agreement_is_unknown_where_the_two_passes_saw_other_images(small_inputs: Inputs) -> None:
    splits, model = small_inputs.splits, small_inputs.teacher.model
    of_teacher = predictions(model, splits.test, splits)
    assert quality(model, splits.test, splits, of_teacher=of_teacher).agreement == 1
    assert quality(model, splits.test, splits, of_teacher=of_teacher[1:]).agreement is None


def first_batch(distiller: Distiller, size: int) -> Batch:
    ((indices, images),) = distiller.splits.training_batches([torch.arange(size)], Draw(seed=1, epoch=1))
    return distiller.batch(indices, images)


def test_scoring_moves_neither_weights_nor_statistics(trial_of: TrialOf) -> None:
    distiller = trial_of().distiller()
    batch = first_batch(distiller, 27)
    before = {key: tensor.clone() for key, tensor in distiller.student.state_dict().items()}
    logits = distiller.scoring_logits(batch, epoch=1)
    assert logits.shape == (27, 10) and not logits.requires_grad
    assert distiller.student.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in distiller.student.state_dict().items())


def test_weights_of_a_step_scale_the_distillation_term_alone(trial_of: TrialOf) -> None:
    def loss(weights: torch.Tensor | None, **changed: Any) -> float:
        distiller = trial_of(**changed).distiller()
        return float(distiller.step(distiller.asked(first_batch(distiller, 16)), 1, weights)[0])

    label_loss, distillation = loss(None, kd_weight=0.0), loss(None, ce_weight=0.0)
    assert loss(None) == pytest.approx(label_loss + distillation, rel=1e-5)
    assert loss(torch.full((16,), 0.25)) == pytest.approx(label_loss + 0.25 * distillation, rel=1e-5)


def test_same_seed_starts_all_samplers_from_the_same_weights(trial_of: TrialOf) -> None:
    full, kdas = trial_of(sampler="full").distiller(), trial_of(sampler=KDAS).distiller()
    pairs = zip(full.student.parameters(), kdas.student.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_configuration_is_named_by_what_decides_its_curve(trial_of: TrialOf, small_inputs: Inputs) -> None:
    usual = trial_of()
    assert trial_of(seed=8).config_id == usual.config_id
    assert trial_of(sampler={"name": "full"}).config_id == usual.config_id
    for changed in ({"sampler": "random"}, {"epochs": 4}, {"kd_weight": 8.0}, {"loss": "kd", "batch_size": 8}):
        assert trial_of(**changed).config_id != usual.config_id
    other_teacher = replace(small_inputs, teacher=replace(small_inputs.teacher, weights_id="others"))
    assert Trial(usual.config, other_teacher).config_id != usual.config_id
    other_data = replace(small_inputs, dataset=replace(small_inputs.dataset, fingerprint="others"))
    assert Trial(usual.config, other_data).config_id != usual.config_id


@pytest.mark.parametrize("sampler", ["full", KDAS], ids=["full", "kdas"])
def test_batches_of_which_nearly_nothing_could_be_read_are_skipped(
    trial_of: TrialOf, small_inputs: Inputs, calibration: Calibration, sampler: object
) -> None:
    train = small_inputs.splits.train
    assert isinstance(train, ResidentSplit)
    readable = torch.arange(len(train)) % 14 == 0
    splits = replace(small_inputs.splits, train=replace(train, readable=readable))
    trial = Trial(trial_of(sampler=sampler).config, replace(small_inputs, splits=splits))
    training = Training(trial, Surroundings(calibration))
    rows = list(training.rows())
    assert training.status is Status.BUDGET and math.isfinite(rows[-1].train_loss)
    read, trained = training.clock.samples(Work.AUGMENT), training.clock.samples(Work.STEP)
    assert read == 3 * readable.sum() and 0 < trained < read


def test_grid_point_passed_between_two_epochs_is_evaluated_after_the_next_batch(
    trial_of: TrialOf, calibration: Calibration
) -> None:
    training = Training(trial_of(evaluations=10), Surroundings(calibration))
    assert not training._evaluation_is_due()
    # Samples that are fetched last and not chosen are charged after the last batch of an epoch.
    training.clock.cost_ref_s = 1.5 * training.budget_ref_s / 10
    assert training._evaluation_is_due()
    assert not training._evaluation_is_due()


def test_class_means_are_computed_with_the_threads_of_the_trial(
    trial_of: TrialOf, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, seen = trial_of(loss="nd", threads=1), []

    def watched(*arguments: Any) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return torch.ones(10, 64)

    monkeypatch.setattr("kdas.training.trial.teachers.class_means", watched)
    torch.set_num_threads(2)
    Training(Trial(trial.config, replace(trial.inputs)), Surroundings(calibration))
    assert seen == [1]


def test_evaluation_leaves_parts_that_are_in_eval_mode_in_it(small_inputs: Inputs) -> None:
    model = create("resnet8", 10).train()
    model.bn1.eval()  # type: ignore[operator, union-attr]
    predictions(model, small_inputs.splits.test, small_inputs.splits)
    assert [module for module in model.modules() if not module.training] == [model.bn1]
