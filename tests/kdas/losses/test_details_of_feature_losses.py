"""What each loss on maps or pooled features promises beyond its published value."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from kdas import seeding
from kdas.errors import UserError
from kdas.losses import LOSSES, LossContext
from kdas.losses.at import at
from kdas.losses.crd import Contrastive, draw_distinct, draw_negatives
from kdas.losses.fitnet import regressor
from kdas.losses.kdsvd import _RightSingularVectors, kdsvd
from kdas.losses.maps import at_smaller_size
from kdas.losses.nst import nst
from kdas.losses.ofd import margins_of, ofd
from kdas.losses.reviewkd import Fusion
from kdas.losses.rkd import rkd

NO_MEANS = LossContext(5, 7, class_means=lambda: torch.zeros(1))
THREE_STAGES = ((4, 8, 8), (4, 8, 8), (6, 4, 4), (5, 2, 2))
FOUR_STAGES = ((8, 16, 16), (8, 16, 16), (9, 8, 8), (10, 4, 4), (7, 2, 2))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_maps(shapes: Any, seed: int = 0, batch: int = 3) -> list[Tensor]:
    return [random(batch, *shape, seed=seed + number) for number, shape in enumerate(shapes)]


def context_of(student: Any, teacher: Any) -> LossContext:
    return replace(
        NO_MEANS,
        student_maps=student,
        student_preact_maps=student,
        teacher_maps=teacher,
        teacher_preact_maps=teacher,
        teacher_batch_norms=tuple((torch.ones(shape[0]), torch.zeros(shape[0])) for shape in teacher[1:]),
    )


def built(name: str, context: LossContext, **parameters: Any) -> Any:
    with seeding.global_draws(0, "loss"):
        loss = LOSSES.build(LOSSES.checked({"name": name, **parameters}), context)
    return loss.double() if isinstance(loss, nn.Module) else loss


def called(name: str, loss: Any, student: list[Tensor], teacher: list[Tensor], epoch: int = 100) -> Tensor:
    known: dict[str, Any] = {"epoch": epoch}
    for who, maps in (("student", student), ("teacher", teacher)):
        known |= {f"{who}_maps": maps, f"{who}_preact_maps": maps, f"{who}_features": maps[-1].mean(dim=(2, 3))}
    value: Tensor = loss(None, None, None, **{need: known[need] for need in LOSSES[name].needs if need in known})
    return value


def test_the_larger_map_is_averaged_to_the_smaller_also_for_odd_sizes() -> None:
    large, small = random(2, 3, 7, 7), random(2, 5, 3, 3)
    pooled, same = at_smaller_size(large, small)
    assert same is small
    # Rows 0-2, 2-4 and 4-6 of seven make three.
    torch.testing.assert_close(pooled[:, :, 1, 2], large[:, :, 2:5, 4:7].mean(dim=(2, 3)))
    same, pooled = at_smaller_size(small, large)
    assert same is small and pooled.shape == (2, 3, 3, 3)


@pytest.mark.parametrize("name", ["at", "nst", "sp", "fitnet", "vid", "ofd", "reviewkd", "kdsvd"])
@pytest.mark.parametrize("flipped", [False, True])
def test_loss_compares_models_with_different_numbers_and_sizes_of_maps(name: str, flipped: bool) -> None:
    shapes = (FOUR_STAGES, THREE_STAGES) if flipped else (THREE_STAGES, FOUR_STAGES)
    widths = {"student_width": shapes[0][-1][0], "teacher_width": shapes[1][-1][0]}
    loss = built(name, replace(context_of(*shapes), **widths))
    student, teacher = (random_maps(each, seed=9 * number) for number, each in enumerate(shapes))
    for each in student:
        each.requires_grad_()
    value = called(name, loss, student, teacher)
    assert value.shape == (3,) and value.dtype == torch.float64 and torch.isfinite(value).all()
    value.sum().backward()
    assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in student)
    if isinstance(loss, nn.Module):
        assert all(parameter.grad is not None for parameter in loss.parameters())


@pytest.mark.parametrize(("name", "least"), [("at", 2), ("nst", 2), ("vid", 2), ("ofd", 2), ("kdsvd", 3)])
def test_too_few_maps_are_refused_in_one_line(name: str, least: int) -> None:
    said = (
        rf"^loss {name}: expected at least {least} maps .* got {least - 1} of the student and 4 of the teacher\. Name"
    )
    with pytest.raises(UserError, match=said):
        built(name, context_of(THREE_STAGES[: least - 1], THREE_STAGES))


def test_attention_is_where_the_powers_of_activations_are_high() -> None:
    student, teacher = random(2, 3, 2, 2), random(2, 4, 2, 2, seed=1)
    expected = []
    for one, other in zip(student, teacher, strict=True):
        attentions = []
        for each in (one, other):
            sums = [float((each[:, i, j] ** 4).sum()) for i in range(2) for j in range(2)]
            attentions.append([value / math.hypot(*sums) for value in sums])
        expected.append(sum((a - b) ** 2 for a, b in zip(*attentions, strict=True)) / 4)
    assert at([student], [teacher], p=4).tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("channels", "teacher_channels", "size"), [(2, 3, 6), (12, 20, 2)])
def test_nst_is_the_same_by_channels_and_by_positions(channels: int, teacher_channels: int, size: int) -> None:
    student, teacher = random(3, channels, size, size), random(3, teacher_channels, size, size, seed=1)

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        units = [functional.normalize(each.flatten(2), dim=2) for each in (one, other)]
        products: Tensor = torch.einsum("bcp,bdp->bcd", *units) ** 2
        return products.mean(dim=(1, 2))

    expected = kernel(student, student) + kernel(teacher, teacher) - 2 * kernel(student, teacher)
    torch.testing.assert_close(nst([student], [teacher]), expected, rtol=1e-9, atol=1e-12)


def test_rkd_compares_difference_vectors_also_of_samples_that_coincide() -> None:
    student, teacher = random(5, 4), random(5, 6, seed=1)
    student[3] = student[1]
    angles = []
    for features in (student, teacher):
        unit = functional.normalize(features[None] - features[:, None], dim=2)
        angles.append(torch.einsum("ijd,ikd->ijk", unit, unit))
    expected = functional.smooth_l1_loss(*angles, reduction="none").mean(dim=(1, 2))
    torch.testing.assert_close(rkd(student, teacher, distance_weight=0, angle_weight=1), expected)


def test_rkd_of_features_far_from_the_origin_keeps_its_digits() -> None:
    student, teacher = random(6, 4), random(6, 4, seed=1)
    exact = rkd(student, teacher)
    shifted = rkd((student + 1000).float(), teacher.float())
    torch.testing.assert_close(shifted.double(), exact, rtol=1e-2, atol=0)


@pytest.mark.parametrize("student_size", [1, 2, 3, 4, 5, 7, 8, 16])
@pytest.mark.parametrize("teacher_size", [1, 2, 3, 4, 8])
def test_regressor_gives_the_teachers_shape_whatever_the_sizes(student_size: int, teacher_size: int) -> None:
    module = regressor((3, student_size, student_size), (5, teacher_size, teacher_size))
    assert module(torch.randn(2, 3, student_size, student_size)).shape == (2, 5, teacher_size, teacher_size)


def test_regressor_of_twice_half_and_equal_size_is_the_official_one() -> None:
    twice, half, equal, other = (regressor((3, size, size), (5, 8, 8))[0] for size in (16, 4, 8, 10))
    assert isinstance(twice, nn.Conv2d) and twice.kernel_size == (3, 3) and twice.stride == (2, 2)
    assert isinstance(half, nn.ConvTranspose2d) and half.kernel_size == (4, 4) and half.stride == (2, 2)
    assert isinstance(equal, nn.Conv2d) and equal.kernel_size == (1, 1) and equal.bias is not None
    assert isinstance(other, nn.Conv2d) and other.kernel_size == (3, 3) and other.stride == (1, 1)


def test_hint_layer_that_one_of_the_models_lacks_is_refused_in_one_line() -> None:
    said = r"^loss fitnet: layer: expected a value in \[0, 3\], got 4\. Student and teacher both have 4 maps"
    with pytest.raises(UserError, match=said):
        built("fitnet", context_of(THREE_STAGES, FOUR_STAGES), layer=4)


def test_variances_of_vid_start_at_five_and_are_learned() -> None:
    loss = built("vid", context_of(THREE_STAGES, THREE_STAGES))
    assert [len(each) for each in loss.raw_variances] == [4, 6, 5]
    for each in loss.raw_variances:
        variances = functional.softplus(each.detach()) + 1e-5
        torch.testing.assert_close(variances, torch.full_like(variances, 5.0))
    student, teacher = random_maps(THREE_STAGES), random_maps(THREE_STAGES, seed=9)
    called("vid", loss, student, teacher).mean().backward()
    assert all((each.grad != 0).all() for each in loss.raw_variances)


def test_variances_of_vid_stay_at_five_as_in_the_official_code_if_they_are_not_learned() -> None:
    maps = random_maps(THREE_STAGES), random_maps(THREE_STAGES, seed=9)
    fixed, learned = (
        built("vid", context_of(THREE_STAGES, THREE_STAGES), learned_variances=each) for each in (False, True)
    )
    values = [called("vid", loss, *maps) for loss in (fixed, learned)]
    assert torch.equal(*values)
    values[0].mean().backward()
    assert all(each.grad is None for each in fixed.raw_variances)
    assert all(weight.grad is not None for weight in fixed.predictors.parameters())
    assert fixed.state_dict().keys() == learned.state_dict().keys()


def test_margins_are_the_means_of_negative_values() -> None:
    weight, bias = torch.tensor([1.0, -0.5, 2.0, 0.1, 0.0, 0.0]), torch.tensor([0.0, 0.3, -1.0, 5.0, -0.7, 0.0])
    means = [
        stats.truncnorm.mean(-math.inf, -float(mean) / abs(float(std)), loc=float(mean), scale=abs(float(std)))
        for std, mean in list(zip(weight, bias, strict=True))[:3]
    ]
    # Hardly ever negative: three deviations below 0. Constant: that value.
    assert margins_of(weight, bias).tolist() == pytest.approx([*means, -0.3, -0.7, 0.0], rel=1e-5, abs=1e-9)


def test_only_a_student_above_the_target_pays_where_the_target_is_not_positive() -> None:
    teacher = torch.tensor([2.0, 2.0, -0.5, -0.5, -3.0, -3.0]).view(1, 1, 1, 6)
    student = torch.tensor([1.0, 4.0, -0.7, 0.5, -2.0, 1.0]).view(1, 1, 1, 6)
    by_value = [(1 - 2) ** 2, (4 - 2) ** 2, 0, (0.5 + 0.5) ** 2, 0, (1 + 1) ** 2]
    for margin in (-1.0, torch.tensor([-1.0]), torch.tensor(-1.0).view(1, 1, 1, 1)):
        assert ofd([student], [teacher], [margin]).tolist() == pytest.approx([sum(by_value)])
        assert ofd([student] * 2, [teacher] * 2, [margin] * 2).tolist() == pytest.approx([1.5 * sum(by_value)])


def test_overhaul_aligns_models_with_different_numbers_of_stages_at_their_ends() -> None:
    loss = built("ofd", context_of(THREE_STAGES, FOUR_STAGES))
    assert [connector[0].weight.shape[:2] for connector in loss.connectors] == [(9, 4), (10, 6), (7, 5)]
    assert [len(margin) for margin in loss.margins] == [9, 10, 7]
    assert not any("margin" in key for key in loss.state_dict())


def test_review_ramps_up_over_its_warm_up() -> None:
    context = replace(context_of(THREE_STAGES, THREE_STAGES), teacher_width=5)
    loss = built("reviewkd", context, warmup_epochs=4).eval()
    student, teacher = random_maps(THREE_STAGES), random_maps(THREE_STAGES, seed=9)
    whole = called("reviewkd", loss, student, teacher, epoch=4)
    for epoch, share in ((1, 0.25), (3, 0.75), (9, 1.0)):
        torch.testing.assert_close(called("reviewkd", loss, student, teacher, epoch=epoch), share * whole)
    without = built("reviewkd", context, warmup_epochs=0).eval()
    torch.testing.assert_close(called("reviewkd", without, student, teacher, epoch=1), whole)


def test_gradient_of_singular_vectors_is_right_where_they_are_apart() -> None:
    matrices, weights = random(2, 6, 4).requires_grad_(), random(2, 4, 4, seed=1)

    def projections(given: Tensor) -> Tensor:
        # Their sign is arbitrary, so the function of them must not depend on it.
        vectors, _ = _RightSingularVectors.apply(given)
        return weights * vectors.square() + weights.mT * (vectors[:, :, 1:2] @ vectors[:, :, 1:2].mT)

    assert torch.autograd.gradcheck(projections, (matrices,))


@pytest.mark.parametrize("fill", ["zero", "equal", "identity"])
def test_repeated_singular_values_have_finite_gradients(fill: str) -> None:
    maps = {
        "zero": torch.zeros(2, 3, 4, 4),
        "equal": torch.ones(2, 3, 4, 4),
        "identity": torch.eye(4).expand(2, 3, 4, 4).clone(),
    }[fill]
    student = [maps.clone().requires_grad_(), maps.clone().requires_grad_()]
    loss = kdsvd(student, [random(2, 5, 4, 4), random(2, 5, 4, 4, seed=1)], k=2)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in student)


def test_attention_of_a_fusion_is_that_of_both_maps_side_by_side() -> None:
    fusion = Fusion(3, 4, 5, is_last=False).double().eval()
    student_map, later = random(2, 3, 8, 8).double(), random(2, 4, 4, 4, seed=1).double()
    matched, handed_on = fusion(student_map, later, 8)
    own, later = fusion.reduce(student_map), functional.interpolate(later, 8, mode="nearest")
    own_share, later_share = fusion.attention(torch.cat([own, later], dim=1)).sigmoid().split(1, dim=1)
    torch.testing.assert_close(handed_on, own * own_share + later * later_share)
    torch.testing.assert_close(matched, fusion.match(handed_on))


def test_student_that_has_diverged_does_not_break_the_decomposition() -> None:
    broken = [torch.full((2, 3, 4, 4), math.nan, requires_grad=True) for _ in range(2)]
    kdsvd(broken, [random(2, 5, 4, 4), random(2, 5, 4, 4, seed=1)]).sum().backward()


LABELS = torch.arange(60) % 3


def crd(**parameters: Any) -> Any:
    context = replace(NO_MEANS, num_samples=60, labels=LABELS)
    return built("crd", context, width=4, **parameters)


def step(loss: Contrastive, indices: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    features = random(len(indices), 5, seed=seed), random(len(indices), 7, seed=seed + 1)
    value: Tensor = loss(
        None,
        None,
        None,
        indices=indices,
        generator=generator,
        student_features=features[0],
        teacher_features=features[1],
    )
    return value


def test_negatives_are_different_samples_of_other_classes() -> None:
    same_class = LABELS[:6, None] == LABELS
    drawn = draw_negatives(same_class, 40, torch.Generator().manual_seed(0))
    for row, label in zip(drawn, LABELS[:6], strict=True):
        assert (LABELS[row] != label).all() and len(row.unique()) == 40
    few = torch.stack([draw_negatives(same_class, 4, torch.Generator().manual_seed(seed)) for seed in range(300)])
    frequency = few[:, 0].flatten().bincount(minlength=60) / (300 * 4 / 40)
    assert frequency[::3].max() == 0
    others = frequency[LABELS != 0]
    assert others.min() > 0.5 and others.max() < 1.6, "not uniform"


def test_every_set_of_distinct_numbers_is_as_likely_as_any_other() -> None:
    drawn = draw_distinct(torch.full((6000,), 5), 2, torch.Generator().manual_seed(0)).sort(dim=1).values
    assert drawn.min() == 0 and drawn.max() == 4
    assert torch.unique(drawn, dim=0).tolist() == [[a, b] for a in range(5) for b in range(a + 1, 5)]
    counts = torch.unique(drawn, dim=0, return_counts=True)[1]
    # Ten sets; 600 draws of each are expected, with a standard deviation of 23.
    assert (counts - 600).abs().max() < 4 * 23


@pytest.mark.parametrize("count", [1, 5, 29, 30])
def test_distinct_numbers_are_below_their_rows_limit_however_few_there_are(count: int) -> None:
    limits = torch.tensor([30, 31, 1000, 2**40])
    drawn = draw_distinct(limits, count, torch.Generator().manual_seed(1))
    assert (drawn >= 0).all() and (drawn < limits[:, None]).all()
    assert [len(row.unique()) for row in drawn] == [count] * 4


def test_few_of_many_negatives_are_different_samples_of_other_classes_too() -> None:
    """Drawn without a key for each training sample."""
    labels = torch.arange(600) % 7 % 3  # classes of different sizes, scattered
    loss = built("crd", replace(NO_MEANS, num_samples=600, labels=labels), width=4, num_negatives=40)
    assert loss.is_redrawn
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(3, 600)
    for _ in range(300):
        drawn = loss._redrawn(torch.arange(3), generator)
        assert all(len(row.unique()) == 40 for row in drawn)
        counts.scatter_add_(1, drawn, torch.ones(3, 40))
    for label in range(3):
        assert counts[label][labels == label].max() == 0
        frequency = counts[label][labels != label] / (300 * 40 / int((labels != label).sum()))
        # At least 26 draws of each are expected.
        assert frequency.min() > 0.25 and frequency.max() < 2, "not uniform"


@pytest.mark.parametrize("num_negatives", [8, 2], ids=["a key each", "drawn again"])
def test_negatives_are_a_function_of_the_generator(num_negatives: int) -> None:
    indices = torch.arange(4)
    same, other = step(crd(num_negatives=num_negatives), indices, 1), crd(num_negatives=num_negatives)
    assert same.isfinite().all() and torch.equal(step(other, indices, 1), same)
    features = {"student_features": random(4, 5, seed=1), "teacher_features": random(4, 7, seed=2)}
    redrawn = crd(num_negatives=num_negatives)(
        None, None, None, indices=indices, generator=torch.Generator().manual_seed(99), **features
    )
    assert not torch.equal(redrawn, same)


def test_more_negatives_than_samples_count_as_often_as_repeated_draws_on_average() -> None:
    """The official code repeats samples; the mean over many repetitions of that must come out."""
    indices, features = torch.arange(4), (random(4, 5), random(4, 7, seed=1))
    loss = crd(num_negatives=80)
    loss.normalizers.fill_(30.0)
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    value = loss(
        None, None, None, indices=indices, generator=None, student_features=features[0], teacher_features=features[1]
    )
    total, generator = torch.zeros(4, dtype=torch.float64), torch.Generator().manual_seed(0)
    for _ in range(400):
        loss.load_state_dict(before)
        others = (LABELS[:4, None] != LABELS).nonzero()[:, 1].reshape(4, 40)
        drawn = others.gather(1, torch.randint(40, (4, 80), generator=generator))
        total += loss.contrast(*features, indices, drawn).detach()
    torch.testing.assert_close(value.detach(), total / 400, rtol=0.01, atol=0)


def test_memory_moves_to_the_embeddings_of_the_batch_alone() -> None:
    loss = crd(num_negatives=8, memory_momentum=0.25)
    before = loss.student_memory.clone()
    indices = torch.tensor([7, 2, 7])
    step(loss, indices)
    embedded = functional.normalize(loss.student_embedding(random(3, 5)), dim=1).detach()
    for place, row in ((7, 2), (2, 1)):  # the last of the two views of sample 7
        expected = functional.normalize(0.25 * before[place] + 0.75 * embedded[row], dim=0)
        torch.testing.assert_close(loss.student_memory[place], expected)
    others = [place for place in range(60) if place not in (2, 7)]
    assert torch.equal(loss.student_memory[others], before[others])


def test_normalizers_are_set_by_the_first_batch_and_kept_in_checkpoints() -> None:
    loss, other = crd(num_negatives=8), crd(num_negatives=8)
    assert (loss.normalizers < 0).all()
    step(loss, torch.arange(4))
    first = loss.normalizers.clone()
    assert (first > 0).all()
    step(loss, torch.arange(4, 8), seed=3)
    assert torch.equal(loss.normalizers, first)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(step(other, torch.arange(4), seed=5), step(loss, torch.arange(4), seed=5))


def test_crd_trains_both_embeddings_and_the_student_but_not_the_teacher() -> None:
    loss = crd(num_negatives=8)
    student, teacher = random(4, 5).requires_grad_(), random(4, 7).requires_grad_()
    loss.contrast(student, teacher, torch.arange(4), 20 + torch.arange(32).reshape(4, 8)).sum().backward()
    assert student.grad is not None and teacher.grad is None
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in loss.parameters())
