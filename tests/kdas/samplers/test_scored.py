"""Subsets by a score: golden scores, which part is kept, and when the score is taken."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from kdas.clock import Calibration, Work
from kdas.data import Draw, ResidentSplit
from kdas.samplers import SAMPLERS, SamplerContext
from kdas.samplers.scored import ScoreName, beta_chances, drawn_ranks
from kdas.samplers.scores import OF_TEACHER, OF_TRAINING, SCORES, Score
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Inputs, Trial

Finished = Callable[..., tuple[Training, list[Any]]]
# The first five scores by the official code of DUAL, in float64, for `formula_logits(14, 12, 10, 0.1)`.
GOLDEN = {
    "dual": [0.3061501629771058, 0.32969673327058596, 1.182207127089256, 1.3888570352734457, 1.032219877362205],
    "dyn_unc": [0.3136851420448258, 0.3393692333996705, 1.3429417092221845, 1.6536727718919895, 1.1892232724729452],
    "el2n": [1.00480177648065, 0.8914721550277249, 0.8372499068324094, 1.1379498294341188, 1.1396177847634301],
}


def formula_logits(epochs: int, samples: int, classes: int, salt: float) -> tuple[Tensor, Tensor]:
    """The logits [E, N, C] and targets [N] that the golden scores belong to."""
    k = torch.arange(epochs * samples * classes, dtype=torch.float64)
    logits = 3 * torch.sin(0.73 * k + salt) + 2 * torch.cos(0.011 * k)
    return logits.reshape(epochs, samples, classes), (7 * torch.arange(samples) + 1) % classes


@pytest.mark.parametrize("score", GOLDEN)
def test_scores_are_those_of_the_official_code(score: str) -> None:
    logits, targets = formula_logits(14, 12, 10, 0.1)
    assert SCORES[score](logits, targets)[:5].tolist() == pytest.approx(GOLDEN[score], rel=1e-9)


def test_margin_score_is_the_mean_lead_of_the_labels_logit() -> None:
    logits = torch.tensor([[[3.0, 1.0, 2.0]], [[0.0, 1.0, -2.0]]])
    assert SCORES["aum"](logits, torch.tensor([0])).tolist() == [(1 - 1) / 2]
    assert SCORES["aum"](logits, torch.tensor([1])).tolist() == [(-2 + 1) / 2]


def test_forgotten_is_who_turns_from_right_to_wrong_and_most_of_all_who_never_was_right() -> None:
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    courses = [[right, right, right, right], [wrong, right, wrong, right], [right, wrong, right, wrong], [wrong] * 4]
    logits = torch.tensor(courses).transpose(0, 1)
    assert SCORES["forgetting"](logits, torch.zeros(4, dtype=torch.int64)).tolist() == [0, 1, 2, 4]


def test_dispersion_is_the_deviation_of_the_labels_probability_between_views() -> None:
    probabilities = torch.tensor([[0.2, 0.8], [0.6, 0.4]], dtype=torch.float64)
    logits = probabilities.log()[:, None, :]
    assert SCORES["dispersion"](logits, torch.tensor([0])).tolist() == pytest.approx([0.4 / 2**0.5])
    assert SCORES["teacher_confidence"](logits, torch.tensor([1])).tolist() == pytest.approx([0.6])


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_scores_of_a_single_epoch_are_finite(score: Score) -> None:
    logits, targets = formula_logits(1, 12, 10, 0.1)
    assert torch.isfinite(score(logits, targets)).all()


def test_every_score_has_a_name_that_a_file_may_give() -> None:
    assert sorted(get_args(ScoreName)) == sorted(SCORES)


def context(num_samples: int = 40, epochs: int = 20, teacher_logits: Tensor | None = None) -> SamplerContext:
    """A set of two classes. Args: teacher_logits [N, C], the same in all views."""
    labels = torch.arange(num_samples) % 2

    def teacher_pass(epoch: int, statistic: Any) -> Tensor:
        assert teacher_logits is not None
        values: Tensor = statistic(teacher_logits, labels)
        return values

    return SamplerContext(num_samples, 8, epochs, seed=3, labels=labels, teacher_pass=teacher_pass)


def sure_of_the_first() -> Tensor:
    """Logits [40, 2] of a teacher that is surest of the first sample, and wrong about the last ones."""
    confidence = torch.linspace(4, -1, 40)
    labels = torch.arange(40) % 2
    return torch.stack([confidence * (labels == 0), confidence * (labels == 1)], dim=1)


@pytest.mark.parametrize(("keep", "expected"), [("hardest", range(30, 40)), ("easiest", range(10))])
def test_subset_is_the_part_that_the_teacher_is_least_or_most_confident_of(keep: str, expected: range) -> None:
    part = {"name": "scored_subset", "fraction": 0.25, "keep": keep}
    sampler = SAMPLERS.build(SAMPLERS.checked(part), context(teacher_logits=sure_of_the_first()))
    for epoch in (1, 2, 20):
        plan = sampler.plan(epoch)
        assert sorted(plan.order.tolist()) == list(expected) and plan.rate == 0.25
    assert sampler.plan(1).order.tolist() != sampler.plan(2).order.tolist()


def test_sample_whose_image_cannot_be_read_is_kept_last() -> None:
    for keep in ("hardest", "easiest", "beta"):
        part = {"name": "scored_subset", "fraction": 0.5, "keep": keep}
        logits = sure_of_the_first()
        logits[::2] = torch.nan
        sampler = SAMPLERS.build(SAMPLERS.checked(part), context(teacher_logits=logits))
        assert sorted(sampler.plan(1).order.tolist()) == list(range(1, 40, 2))


@pytest.mark.parametrize("score", OF_TRAINING)
def test_training_is_scored_on_the_whole_set_until_a_share_of_the_epochs(score: str) -> None:
    part = {"name": "scored_subset", "score": score, "fraction": 0.25, "scored_until": 0.2}
    sampler: Any = SAMPLERS.build(SAMPLERS.checked(part), context())
    labels = context().labels
    for epoch in range(1, 5):
        plan = sampler.plan(epoch)
        assert len(plan.order) == 40 and plan.observes
        for indices in plan.batches():
            # The first ten are right in one epoch and wrong in the next; all others are learnt at once.
            lead = torch.where(indices < 10, torch.tensor(2.0 * (-1) ** epoch - 1), torch.tensor(6.0))
            logits = torch.stack([lead * (labels[indices] == 0), lead * (labels[indices] == 1)], dim=1)
            sampler.observe(indices, logits)
    assert len(sampler.state_dict()["statistics"]) == 4
    plan = sampler.plan(5)
    assert sorted(plan.order.tolist()) == list(range(10)) and not plan.observes
    assert sorted(sampler.plan(6).order.tolist()) == list(range(10))


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_short_trial_scores_at_most_all_but_its_last_epoch(epochs: int) -> None:
    part = {"name": "scored_subset", "score": "dual", "scored_until": 0.9}
    sampler: Any = SAMPLERS.build(SAMPLERS.checked(part), context(epochs=epochs))
    assert sampler.num_scored_epochs == max(1, epochs - 1)


def test_beta_chances_are_those_of_the_official_code() -> None:
    # Worked out with scipy.stats.beta.pdf: anchor 0.29, beta 15 * 0.71 * (1 - 0.5**4), alpha 16 - beta.
    probabilities = torch.tensor([0.1, 0.3, 0.5, 0.25, 0.3] * 2, dtype=torch.float64)
    difficulty = torch.tensor([1.0, 0.5, 0.25, 2.0, 1.0] * 2, dtype=torch.float64)
    chances = beta_chances(difficulty, probabilities, 0.5, 4.0)
    assert chances[:3].tolist() == pytest.approx(
        [0.11337447611767214, 1.4653850223861422, 0.4621285682324521], rel=1e-9
    )


def test_beta_favours_easy_samples_the_more_the_less_is_kept() -> None:
    probabilities = torch.linspace(0.01, 0.99, 99)
    difficulty = 1 - probabilities
    peaks = [
        float(probabilities[beta_chances(difficulty, probabilities, fraction, 4.0).argmax()])
        for fraction in (0.9, 0.5, 0.3, 0.1)
    ]
    assert peaks == sorted(peaks) and peaks[0] < 0.2 and peaks[-1] > 0.5


def test_draw_without_replacement_prefers_by_chance() -> None:
    chances = torch.tensor([4.0, 2.0, 1.0, 1.0])
    first = torch.stack([drawn_ranks(chances, torch.Generator().manual_seed(seed)) for seed in range(4000)]).argmax(1)
    assert (first.bincount() / 4000).tolist() == pytest.approx([0.5, 0.25, 0.125, 0.125], abs=0.03)


@pytest.mark.parametrize("score", SCORES)
def test_scoring_is_charged_and_nothing_else(finished: Finished, calibration: Calibration, score: str) -> None:
    part = {"name": "scored_subset", "score": score, "fraction": 0.5, "views": 3, "scored_until": 0.4}
    training, rows = finished(sampler=part, epochs=5, bank="live")
    num_passes = {"teacher_confidence": 1, "dispersion": 3}.get(score, 0)
    num_whole = 0 if score in OF_TEACHER else 2
    trained = num_whole * 100 + (5 - num_whole) * 50
    clock = training.clock
    assert clock.samples(Work.STEP) == rows[-1].samples_trained == trained
    assert clock.samples(Work.TEACHER) == rows[-1].teacher_forwards == trained + num_passes * 100
    assert clock.samples(Work.ASKED) == trained + num_passes * 100
    assert clock.samples(Work.AUGMENT) == trained + num_passes * 100
    assert clock.samples(Work.TRACK) == num_whole * 100
    assert clock.samples(Work.EPOCH) == trained + num_passes * 100
    assert clock.samples(Work.SCORE) == clock.samples(Work.WEIGH) == clock.samples(Work.OBSERVE) == 0
    by_hand = sum(
        count * calibration.price(work, size) for (work, size), count in clock.counts.items() if work is not Work.ASKED
    )
    assert rows[-1].cost_ref_s == pytest.approx(by_hand)


def test_answers_that_a_bank_holds_are_not_charged_to_what_was_run(
    empty_cache: Path, trial_of: Callable[..., Trial], small_inputs: Inputs, calibration: Calibration
) -> None:
    """The second trial finds the answers of the first: its own passes are free as run, and charged by themselves."""
    config = trial_of(sampler={"name": "scored_subset", "score": "dispersion", "views": 4}, bank="float32").config
    inputs = replace(small_inputs)
    first, second = (Training(Trial(config, inputs), Surroundings(calibration)) for _ in range(2))
    rows, again = list(first.rows()), list(second.rows())
    assert first.clock.samples(Work.ASKED) > 0 == second.clock.samples(Work.ASKED)
    assert second.clock.samples(Work.TEACHER) == first.clock.samples(Work.TEACHER) == 4 * 100 + 3 * 50
    assert [row.train_loss for row in again] == [row.train_loss for row in rows]
    assert again[-1].cost_ref_s == rows[-1].cost_ref_s > again[-1].cost_as_run_s


def test_unreadable_images_are_scored_as_unknown(
    trial_of: Callable[..., Trial], small_inputs: Inputs, calibration: Calibration
) -> None:
    train = small_inputs.splits.train
    assert isinstance(train, ResidentSplit)
    readable = torch.arange(100) % 50 != 0
    splits = replace(small_inputs.splits, train=replace(train, readable=readable))
    for score in SCORES:
        trial = trial_of(sampler={"name": "scored_subset", "score": score, "fraction": 0.98}, epochs=4)
        training = Training(Trial(trial.config, replace(small_inputs, splits=splits)), Surroundings(calibration))
        assert all(torch.isfinite(torch.tensor(row.train_loss)) for row in training.rows())
        assert training.sampler.plan(4).order.sort().values.tolist() == readable.nonzero().squeeze(1).tolist()


def test_one_pass_of_the_teacher_gives_the_probability_of_the_label(
    trial_of: Callable[..., Trial], calibration: Calibration
) -> None:
    training = Training(trial_of(sampler="scored_subset", bank="live"), Surroundings(calibration))
    inputs = training.trial.inputs

    def statistic(logits: Tensor, targets: Tensor) -> Tensor:
        return logits.log_softmax(dim=1).gather(1, targets[:, None]).squeeze(1)

    sampler: Any = training.sampler
    values = sampler.context.teacher_pass(2, statistic)
    views = inputs.splits.view_ids(Draw(seed=1, epoch=2))
    assert views is not None and values.shape == (100,)
    for indices, images in inputs.splits.view_batches([torch.arange(100)], [views]):
        expected = statistic(inputs.teacher.model(images), inputs.splits.train.labels[indices])
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)


def test_trial_that_is_over_leaves_nothing_behind(trial_of: Callable[..., Trial], calibration: Calibration) -> None:
    """A cycle of references would hold a trial's networks until the garbage collector runs, on a GPU for long."""
    training = Training(trial_of(sampler="scored_subset", epochs=1), Surroundings(calibration))
    list(training.rows())
    student = weakref.ref(training.distiller.student)
    gc.disable()
    try:
        del training
        assert student() is None
    finally:
        gc.enable()
