"""What every registered part must do, whoever wrote it: a new part is tested by being registered."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic import TypeAdapter
from torch import Tensor, nn

from kdas import seeding
from kdas.data import DATASETS
from kdas.errors import UserError
from kdas.losses import LOSSES, Distillation, LossContext, LossNeed
from kdas.losses.interface import STRONG
from kdas.losses.terms import keywords_of
from kdas.models import MODELS, check_image_size, create
from kdas.parts.reading import validated
from kdas.parts.registry import Registry
from kdas.recipe.config import TrialConfig
from kdas.samplers import SAMPLERS, SamplerContext, SamplerNeed, Statistic

WriteImages = Callable[..., Path]
WriteFolders = Callable[..., Path]
REGISTRIES: dict[str, Registry[Any]] = {"sampler": SAMPLERS, "loss": LOSSES, "dataset": DATASETS}
MINIMAL = {"dataset": "digits", "teacher": {"model": "resnet8"}, "student": "resnet8"}
ONE_OF_EACH_FAMILY = ["resnet8", "ResNet18", "ResNet50", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2"]

every_sampler = pytest.mark.parametrize("name", SAMPLERS.names())
every_loss = pytest.mark.parametrize("name", LOSSES.names())
every_dataset = pytest.mark.parametrize("name", DATASETS.names())
every_model = pytest.mark.parametrize("name", MODELS.names())


def random_logits(rows: int, seed: int) -> Tensor:
    return 3 * torch.randn(rows, 10, generator=torch.Generator().manual_seed(seed))


def teacher_pass(epoch: int, statistic: Statistic) -> Tensor:
    return statistic(random_logits(90, 100 + epoch), torch.arange(90) % 10)


CONTEXT = SamplerContext(
    num_samples=90, batch_size=16, epochs=4, seed=3, labels=torch.arange(90) % 10, teacher_pass=teacher_pass
)
# Values of the parameters that have no default.
REQUIRED: dict[str, dict[str, Any]] = {"reference_gap": {"reference": "reference.pth"}}


def outside(bound: object) -> float | None:
    match bound:
        case Gt():
            return float(bound.gt)
        case Ge():
            return float(bound.ge) - 1
        case Lt():
            return float(bound.lt)
        case Le():
            return float(bound.le) + 1
    return None


def out_of_range() -> list[Any]:
    """(kind, part, parameter, value) just outside each bound of each parameter of each part."""
    cases = []
    for kind, registry in REGISTRIES.items():
        for part in registry:
            for name, field in part.schema.model_fields.items():
                for value in map(outside, field.metadata):
                    if value is not None:
                        given = int(value) if field.annotation is int else value
                        cases.append(pytest.param(kind, part.name, name, given, id=f"{part.name}-{name}-{given}"))
    return cases


@pytest.mark.parametrize(("kind", "part", "parameter", "value"), out_of_range())
def test_out_of_range_parameter_is_refused_by_name_and_value(
    kind: str, part: str, parameter: str, value: float
) -> None:
    content = {**MINIMAL, kind: {"name": part, "path": ".", **REQUIRED.get(part, {}), parameter: value}}
    if "path" not in REGISTRIES[kind][part].schema.model_fields:
        del content[kind]["path"]
    said = rf"^x\.yaml: {kind}\.{parameter}: expected a value in [\[(].*[\])], got {value}\. \w+"
    with pytest.raises(UserError, match=said):
        validated(TrialConfig, content, source="x.yaml")


def of_a_wrong_kind() -> list[Any]:
    """(kind, part, parameter, value) with a value that the parameter does not take: an unknown word, or a list."""
    return [
        pytest.param(kind, part.name, name, value, id=f"{part.name}-{name}")
        for kind, registry in REGISTRIES.items()
        for part in registry
        for name, field in part.schema.model_fields.items()
        for value in (["sideways"] if field.annotation is not str else [[1]])
        if field.annotation != str | None
    ]


@pytest.mark.parametrize(("kind", "part", "parameter", "value"), of_a_wrong_kind())
def test_value_of_a_wrong_kind_is_refused_by_name(kind: str, part: str, parameter: str, value: object) -> None:
    content = {**MINIMAL, kind: {"name": part, "path": ".", **REQUIRED.get(part, {}), parameter: value}}
    if "path" not in REGISTRIES[kind][part].schema.model_fields:
        del content[kind]["path"]
    with pytest.raises(UserError, match=rf"^x\.yaml: {kind}\.{parameter}"):
        validated(TrialConfig, content, source="x.yaml")


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, registry in REGISTRIES.items() for name in registry.names()]
)
def test_defaults_pass_their_own_schema_and_unknown_parameters_do_not(kind: str, name: str) -> None:
    part = REGISTRIES[kind][name]
    required = {key: "x" for key, field in part.schema.model_fields.items() if field.is_required()}
    checked = REGISTRIES[kind].checked({"name": name, **required})
    assert REGISTRIES[kind].checked(checked) == checked
    with pytest.raises(UserError, match=rf"^x\.yaml: {kind}\.colour: unknown key"):
        validated(TrialConfig, {**MINIMAL, kind: {"name": name, **required, "colour": 1}}, source="x.yaml")


@pytest.mark.parametrize(
    ("registry", "name"),
    [(registry, name) for registry in (*REGISTRIES.values(), MODELS) for name in registry.names()],
    ids=lambda value: value if isinstance(value, str) else value.kind,
)
def test_part_says_in_one_line_what_it_is_and_where_it_comes_from(registry: Registry[Any], name: str) -> None:
    part = registry[name]
    assert part.source
    assert part.summary and "partial(" not in part.summary


@every_model
def test_model_offers_no_parameter_that_a_file_cannot_give(name: str) -> None:
    assert not MODELS[name].schema.model_fields


def checked_sampler(name: str) -> dict[str, Any]:
    return SAMPLERS.checked({"name": name, **REQUIRED.get(name, {})})


def built_sampler(name: str) -> Any:
    return SAMPLERS.build(checked_sampler(name), CONTEXT)


def selected(name: str, sampler: Any, epoch: int, indices: Tensor) -> Tensor:
    """Select with exactly what the sampler says it needs. The result depends on epoch and indices alone."""
    known = {
        "student_logits": random_logits(CONTEXT.num_samples, epoch)[indices],
        "teacher_logits": random_logits(CONTEXT.num_samples, 100)[indices],
        "reference_logits": random_logits(CONTEXT.num_samples, 50)[indices],
        "targets": indices % 10,
        "proxy_losses": random_logits(CONTEXT.num_samples, epoch)[indices, 0],
    }
    given = {need: known[need] for need in SAMPLERS[name].needs if need in known}
    positions: Tensor = sampler.select(epoch, indices, **given)
    return positions


def trained_in(name: str, sampler: Any, epoch: int) -> list[tuple[list[int], list[float]]]:
    """Indices and loss weights of each batch of an epoch. What the sampler observes is random."""
    plan = sampler.plan(epoch)
    batches = []
    for indices in plan.batches():
        chosen = indices[selected(name, sampler, epoch, indices)] if plan.selects else indices
        logits = random_logits(CONTEXT.num_samples, epoch)[chosen]
        known = {"losses": logits[:, 0], "trained_logits": logits}
        observed = {need: known[need] for need in SAMPLERS[name].needs if need in known}
        if observed and plan.observes:
            sampler.observe(chosen, **observed)
        weights = [] if plan.loss_weights is None else plan.loss_weights[chosen].tolist()
        batches.append((chosen.tolist(), weights))
    return batches


@pytest.mark.parametrize(
    ("registry", "known"),
    [
        (SAMPLERS, {need.value for need in SamplerNeed}),
        (LOSSES, {*LossNeed}),
    ],
    ids=["sampler", "loss"],
)
def test_part_needs_only_what_the_trainer_can_give(registry: Registry[Any], known: set[str]) -> None:
    assert all(set(part.needs) <= known for part in registry)


@every_sampler
def test_sampler_plans_known_samples_and_selects_positions_of_the_batch(name: str) -> None:
    sampler = built_sampler(name)
    for epoch in range(1, CONTEXT.epochs + 1):
        plan = sampler.plan(epoch)
        assert plan.order.dtype == torch.int64 and plan.order.ndim == 1 and len(plan.order) > 0
        assert plan.order.min() >= 0 and plan.order.max() < CONTEXT.num_samples
        assert 0 < plan.rate <= 1 and plan.batch_size >= 1
        if plan.loss_weights is not None:
            assert plan.loss_weights.shape == (CONTEXT.num_samples,) and (plan.loss_weights > 0).all()
        for indices in plan.batches():
            if plan.selects:
                positions = selected(name, sampler, epoch, indices)
                assert positions.dtype == torch.int64
                assert len(positions.unique()) == len(positions) <= max(CONTEXT.batch_size, len(indices))
                assert not len(positions) or (positions.min() >= 0 and positions.max() < len(indices))


@every_sampler
def test_sampler_trains_on_something_every_epoch(name: str) -> None:
    sampler = built_sampler(name)
    for epoch in range(1, CONTEXT.epochs + 1):
        assert sum(len(indices) for indices, _ in trained_in(name, sampler, epoch)) >= 2


@every_sampler
def test_sampler_weights_are_none_or_one_per_sample_between_zero_and_one(name: str) -> None:
    sampler = built_sampler(name)
    sampler.plan(1)
    known = {"weighed_logits": random_logits(16, 2)}
    needed = {need: known[need] for need in SAMPLERS[name].needs if need in known}
    weights = sampler.distillation_weights(1, random_logits(16, 1), torch.arange(16) % 10, **needed)
    assert weights is None or (weights.shape == (16,) and ((weights >= 0) & (weights <= 1)).all())


@every_sampler
def test_sampler_restored_between_two_epochs_continues_the_same(name: str) -> None:
    for stop in range(1, CONTEXT.epochs):
        sampler = built_sampler(name)
        for epoch in range(1, stop + 1):
            trained_in(name, sampler, epoch)
        buffer = io.BytesIO()
        torch.save(sampler.state_dict(), buffer)
        buffer.seek(0)
        restored = built_sampler(name)
        restored.load_state_dict(torch.load(buffer, weights_only=True))
        for epoch in range(stop + 1, CONTEXT.epochs + 1):
            assert trained_in(name, restored, epoch) == trained_in(name, sampler, epoch)


@every_sampler
def test_sampler_draws_from_its_seed_alone(name: str) -> None:
    def epochs(seed: int) -> list[Any]:
        torch.manual_seed(seed + 17)
        sampler = SAMPLERS.build(checked_sampler(name), replace(CONTEXT, seed=seed))
        return [trained_in(name, sampler, epoch) for epoch in range(1, CONTEXT.epochs + 1)]

    one, other = epochs(3), epochs(4)
    torch.manual_seed(0)
    assert epochs(3) == one != other


WIDTHS = (6, 9)
STUDENT_MAPS = ((4, 8, 8), (5, 8, 8), (7, 4, 4), (WIDTHS[0], 2, 2))
TEACHER_MAPS = ((4, 8, 8), (8, 8, 8), (10, 4, 4), (WIDTHS[1], 2, 2))
LOSS_CONTEXT = LossContext(
    *WIDTHS,
    class_means=lambda: random_rows(10, 9, 5),
    num_classes=10,
    num_samples=12,
    labels=torch.arange(12) % 10,
    epochs=4,
    student_maps=STUDENT_MAPS,
    teacher_maps=TEACHER_MAPS,
    student_preact_maps=STUDENT_MAPS,
    teacher_preact_maps=TEACHER_MAPS,
    teacher_batch_norms=tuple((torch.ones(channels), torch.zeros(channels)) for channels, *_ in TEACHER_MAPS[1:]),
)
# A relational loss returns each sample's share of a value about the batch; batch norms in a loss relate samples too.
RELATIONAL = {"dist", "mlkd", "ofa_stages", "pkt", "rkd", "sp"}
# These remember the samples that they have seen, so a second call differs.
REMEMBERING = {"crd"}


def random_rows(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


class LossCase:
    """A registered loss with a batch that has whatever the loss needs. Calls can be limited to some rows."""

    def __init__(self, name: str, rows: int = 12, dtype: torch.dtype = torch.float32) -> None:
        with seeding.global_draws(1, "loss"):
            self.loss = LOSSES.build(LOSSES.checked(name), LOSS_CONTEXT)
        if isinstance(self.loss, nn.Module):
            self.loss.to(dtype)
        self.needs = LOSSES[name].needs
        self.student_logits = random_logits(rows, 1).to(dtype)
        self.teacher_logits = random_logits(rows, 2).to(dtype)
        self.targets = torch.arange(rows) % 10
        self.tensors: dict[str, list[Tensor]] = {}
        for who, width, shapes in (("student", WIDTHS[0], STUDENT_MAPS), ("teacher", WIDTHS[1], TEACHER_MAPS)):
            salt = 3 if who == "student" else 4
            self.tensors[f"{who}_features"] = [random_rows(rows, width, salt).to(dtype)]
            maps = [random_rows(rows, math.prod(shape), salt).reshape(rows, *shape).to(dtype) for shape in shapes]
            self.tensors[f"{who}_strong_logits"] = [random_logits(rows, salt).to(dtype)]
            self.tensors |= {f"{who}_preact_maps": maps, f"{who}_maps": [each.relu() for each in maps]}

    def __call__(self, rows: slice | Tensor = slice(None), epoch: int = 1) -> Tensor:
        known = self.known(rows, epoch)
        needed = {name: known[name] for name in keywords_of(self.needs)}
        values: Tensor = self.loss(self.student_logits[rows], self.teacher_logits[rows], self.targets[rows], **needed)
        return values

    def known(self, rows: slice | Tensor = slice(None), epoch: int = 1) -> dict[str, Any]:
        """All that the trainer can give at a call."""
        known: dict[str, Any] = {"epoch": epoch, "indices": torch.arange(len(self.targets))[rows]}
        known["generator"] = torch.Generator().manual_seed(7)
        known |= {key: [each[rows] for each in tensors] for key, tensors in self.tensors.items()}
        for key in ("student_features", "teacher_features", *STRONG):
            (known[key],) = known[key]
        return known

    def student_side(self) -> list[Tensor]:
        """The tensors that gradients flow back to: logits, features or maps."""
        return [self.student_logits, *(each for key in self.tensors if "student" in key for each in self.tensors[key])]

    def teacher_side(self) -> list[Tensor]:
        return [self.teacher_logits, *(each for key in self.tensors if "teacher" in key for each in self.tensors[key])]

    def everything(self) -> list[Tensor]:
        return [*self.student_side(), *self.teacher_side()]


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_is_one_finite_value_a_sample_with_finite_gradients(name: str, dtype: torch.dtype) -> None:
    case = LossCase(name, dtype=dtype)
    for tensor in case.student_side():
        tensor.requires_grad_()
    values = case()
    assert values.shape == (12,) and values.dtype == dtype
    assert torch.isfinite(values).all()
    values.sum().backward()
    gradients = [tensor.grad for tensor in case.student_side() if tensor.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", sorted({*LOSSES.names()} - RELATIONAL - REMEMBERING))
def test_loss_of_a_sample_does_not_depend_on_the_others(name: str) -> None:
    # Rounding differs between two rows and twelve; in float64 it is a millionth of the tolerance.
    case = LossCase(name, dtype=torch.float64)
    if isinstance(case.loss, nn.Module):
        case.loss.eval()  # batch norms of a loss's own see the batch while they train, as those of a model do
    torch.testing.assert_close(case(slice(3, 5)), case()[3:5])


@pytest.mark.parametrize("name", sorted({*LOSSES.names()} - REMEMBERING))
def test_loss_of_a_sample_does_not_depend_on_its_place_in_the_batch(name: str) -> None:
    case = LossCase(name, dtype=torch.float64)
    torch.testing.assert_close(case(torch.arange(11, -1, -1)), case().flip(0))


@every_loss
def test_loss_teaches_the_student_only(name: str) -> None:
    case = LossCase(name)
    for tensor in case.teacher_side():
        tensor.requires_grad_()
    for tensor in case.student_side():
        tensor.requires_grad_()
    case().sum().backward()
    assert all(tensor.grad is None for tensor in case.teacher_side())


@every_loss
def test_loss_is_finite_for_a_teacher_that_is_certain(name: str) -> None:
    case = LossCase(name, rows=4)
    case.teacher_logits = torch.full((4, 10), -200.0)
    case.teacher_logits[:, 0] = 200.0
    case.targets = torch.tensor([0, 0, 3, 9])
    for tensor in case.student_side():
        tensor.requires_grad_()
    values = case()
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert all(torch.isfinite(tensor.grad).all() for tensor in case.student_side() if tensor.grad is not None)


@every_loss
def test_loss_leaves_its_arguments_alone_and_gives_the_same_again(name: str) -> None:
    case, untouched = LossCase(name, rows=6), LossCase(name, rows=6)
    first = case()
    again = untouched if name in REMEMBERING else case
    assert torch.equal(again(), first)
    assert all(map(torch.equal, case.everything(), LossCase(name, rows=6).everything()))


@every_loss
def test_loss_goes_through_state_and_back(name: str) -> None:
    term = LOSSES.checked(name)
    with seeding.global_draws(1, "loss"):
        distillation = Distillation(term, LOSS_CONTEXT)
    with seeding.global_draws(2, "loss"):
        other = Distillation(term, LOSS_CONTEXT)
    other.load_state_dict(distillation.state_dict())
    case = LossCase(name)
    arguments = (case.student_logits, case.teacher_logits, case.targets)
    assert torch.equal(distillation(*arguments, **case.known(epoch=3)), other(*arguments, **case.known(epoch=3)))


@every_model
def test_model_classifies_images_from_its_features(name: str) -> None:
    model = create(name, 10).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, features = model.forward_with_features(images)
        assert logits.shape == (2, 10) and logits.dtype == torch.float32
        assert features.shape[0] == 2 and features.ndim == 2
        assert torch.isfinite(logits).all()
        assert torch.equal(model(images), logits)
        last_linear = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        assert torch.equal(last_linear(features), logits)


@every_model
def test_model_drawn_from_the_same_seed_is_the_same(name: str) -> None:
    def drawn(seed: int) -> Tensor:
        with seeding.global_draws(seed, "student"):
            return next(create(name, 10).parameters()).detach()

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
@pytest.mark.parametrize("image_size", [8, 64])
def test_model_takes_small_and_large_images(name: str, image_size: int) -> None:
    check_image_size(name, 10, image_size)


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_model_has_finite_gradients_for_all_its_weights(name: str) -> None:
    model = create(name, 10)
    model(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))).logsumexp(dim=1).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def parquet_files(folder: Path, write_images: WriteImages, write_folders: WriteFolders) -> None:
    for part in ("train", "test"):
        write_images(folder / f"{part}.parquet", [0, 1, 2, 0, 1, 2], names=["ant", "bee", "cow"])


def ten_classes(folder: Path, write_images: WriteImages, write_folders: WriteFolders) -> None:
    for part in ("train", "test"):
        write_images(folder / f"{part}.parquet", list(range(10)))


def hundred_classes(folder: Path, write_images: WriteImages, write_folders: WriteFolders) -> None:
    for part in ("train", "test"):
        write_images(folder / f"{part}.parquet", list(range(100)), label_column="fine_label")


def imagenet(folder: Path, write_images: WriteImages, write_folders: WriteFolders) -> None:
    write_folders(folder, {"train": 3, "val": 2})


def class_folders(folder: Path, write_images: WriteImages, write_folders: WriteFolders) -> None:
    write_folders(folder, {"train": 3, "test": 2})


def tiny_imagenet(folder: Path, write_images: WriteImages, write_folders: WriteFolders) -> None:
    write_folders(folder, {"train": 3}, below="images")
    write_folders(folder, {"val": 3}, ["images"])
    lines = [f"{number}.png\t{name}\t0\t0\t9\t9\n" for number, name in enumerate(["cow", "ant", "bee"])]
    (folder / "val" / "val_annotations.txt").write_text("".join(lines), encoding="utf-8")


# How to write a few files for a dataset to read. Datasets that need no files are not listed.
LAYOUTS: dict[str, Callable[[Path, WriteImages, WriteFolders], None]] = {
    "parquet": parquet_files,
    # The published files are recognised by their digests, so no test can write them; the dataset also reads parquet.
    "cifar10": ten_classes,
    "cifar100": hundred_classes,
    "image_folder": class_folders,
    "tiny_imagenet": tiny_imagenet,
    "imagenet": imagenet,
}


@every_dataset
def test_dataset_decodes_to_square_images_and_known_classes(
    name: str, tmp_path: Path, write_images: WriteImages, write_folders: WriteFolders
) -> None:
    part: dict[str, Any] = {"name": name}
    if name in LAYOUTS:
        LAYOUTS[name](tmp_path, write_images, write_folders)
        part["path"] = str(tmp_path)
    dataset = DATASETS.build(DATASETS.checked(part))
    decoded = dataset.decode()
    for images, labels in (
        (decoded.train_images, decoded.train_labels),
        (decoded.test_images, decoded.test_labels),
    ):
        assert images.dtype == np.uint8 and images.ndim == 4 and images.shape[1] == 3
        assert images.shape[2] == images.shape[3]
        assert labels.dtype == np.int64 and labels.shape == (len(images),)
        assert set(labels) == set(range(dataset.num_classes))
    again = DATASETS.build(DATASETS.checked(part))
    assert again.fingerprint == dataset.fingerprint and again.identity == dataset.identity
    if dataset.files is not None:
        assert dataset.size == decoded.train_images.shape[-1]
        assert dataset.files.train_labels.tolist() == decoded.train_labels.tolist()
        assert dataset.files.test_labels.tolist() == decoded.test_labels.tolist()


@pytest.mark.parametrize("registry", [*REGISTRIES.values(), MODELS], ids=lambda registry: registry.kind)
def test_a_name_is_registered_only_once(registry: Registry[Any]) -> None:
    name = registry.names()[0]
    with pytest.raises(ValueError, match=rf"the {registry.kind} name {name!r} is taken by"):
        registry.register(name, source="a test")(lambda: None)


def test_module_beside_the_others_is_imported_by_being_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_parts"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from kdas.parts.registry import import_siblings\nfound = []\nimport_siblings(__name__, __path__)\n",
        encoding="utf-8",
    )
    (package / "one_more.py").write_text("from some_parts import found\nfound.append(__name__)\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("some_parts").found == ["some_parts.one_more"]


def test_a_part_registered_elsewhere_is_checked_by_its_annotations() -> None:
    registry: Registry[Any] = Registry("thing")

    @registry.register("stretch", source="a test")
    def stretch(context: int, *, factor: float = 2.0) -> float:
        """Multiplies."""
        return context * factor

    assert registry.build(registry.checked({"name": "stretch", "FACTOR": "3"}), 5) == 15
    assert registry.build(registry.checked("stretch"), 5) == 10
    assert TypeAdapter(dict[str, Any]).validate_python(registry.checked("stretch")) == {"name": "stretch", "factor": 2}
    with pytest.raises(KeyError, match=r"no thing is called 'strech'\. Did you mean stretch"):
        registry["strech"]


@pytest.mark.parametrize(
    ("registry", "written", "meant"),
    [
        (SAMPLERS, ("student_logits", "losses"), (SamplerNeed.STUDENT_LOGITS, SamplerNeed.LOSSES)),
        (LOSSES, ["class_means"], (LossNeed.CLASS_MEANS,)),
        (LOSSES, [LossNeed.EPOCH], (LossNeed.EPOCH,)),
    ],
    ids=["sampler", "loss", "member"],
)
def test_needs_may_be_written_as_plain_words(
    registry: Registry[Any], written: Any, meant: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_parts", dict(registry._parts))
    registry.register("needy", source="a test", needs=written)(lambda: None)
    needs = registry["needy"].needs
    assert needs == meant and [type(need) for need in needs] == [type(need) for need in meant]


def test_need_that_the_trainer_cannot_give_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"^the sampler 'needy': needs: 'teacher_logit' is unknown\. Did you mean tea"):
        SAMPLERS.register("needy", source="a test", needs=["teacher_logit"])(lambda: None)
    with pytest.raises(ValueError, match=r"^the loss 'needy': needs: 'features' is unknown\. "):
        LOSSES.register("needy", source="a test", needs=("features",))(lambda: None)
    assert "needy" not in {*SAMPLERS.names(), *LOSSES.names()}
