"""The settings of `preset: official`, against a second transcription of the release's files, one line for each file."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdas.files.cache import content_id
from kdas.losses import LOSSES
from kdas.parts.terms import identity_of
from kdas.recipe.config import TrialConfig, load_trial_config
from kdas.samplers import SAMPLERS
from kdas.training.trial import Inputs, Trial, config_id

# Loss, teacher, student, batch size, epochs, learning rate, weight decay, and what else a file sets.
CIFAR = """
at        resnet32x4  resnet8x4    64  240  0.05   0.0005
crd       resnet32x4  resnet8x4    64  240  0.05   0.0005
dkd       resnet110   resnet32     64  240  0.05   0.0005  beta=2
dkd       resnet32x4  resnet8x4    64  240  0.05   0.0005
dkd       resnet32x4  ShuffleV1    64  240  0.01   0.0005
dkd       resnet32x4  ShuffleV2    64  240  0.01   0.0005
dkd       ResNet50    MobileNetV2  64  240  0.01   0.0005
dkd       resnet56    resnet20     64  240  0.05   0.0005  beta=2
dkd       vgg13       MobileNetV2  64  240  0.01   0.0005  beta=6
dkd       vgg13       vgg8         64  240  0.05   0.0005  beta=6
dkd       wrn_40_2    ShuffleV1    64  240  0.01   0.0005
dkd       wrn_40_2    wrn_16_2     64  240  0.05   0.0005  beta=6
dkd       wrn_40_2    wrn_40_1     64  240  0.05   0.0005  beta=6
fitnet    resnet32x4  resnet8x4    64  240  0.05   0.0005
kd        ResNet50    MobileNetV2  64  240  0.01   0.0005
kd        resnet110   resnet20     64  240  0.05   0.0005
kd        resnet110   resnet32     64  240  0.05   0.0005
kd        resnet32x4  ShuffleV1    64  240  0.01   0.0005
kd        resnet32x4  ShuffleV2    64  240  0.01   0.0005
kd        resnet32x4  resnet8x4    64  240  0.05   0.0005
kd        resnet32x4  vgg8         64  240  0.05   0.0005
kd        resnet32x4  wrn_16_2     64  240  0.05   0.0005
kd        resnet32x4  wrn_40_2     64  240  0.05   0.0005
kd        resnet56    resnet20     64  240  0.05   0.0005
kd        vgg13       MobileNetV2  64  240  0.01   0.0005
kd        vgg13       vgg8         64  240  0.05   0.0005
kd        wrn_40_2    MobileNetV2  64  240  0.01   0.0005
kd        wrn_40_2    ShuffleV1    64  240  0.01   0.0005
kd        wrn_40_2    resnet8x4    64  240  0.05   0.0005
kd        wrn_40_2    wrn_16_2     64  240  0.05   0.0005
kd        wrn_40_2    wrn_40_1     64  240  0.05   0.0005
kdsvd     resnet32x4  resnet8x4    64  240  0.05   0.0005
mlkd      ResNet50    MobileNetV2  64  480  0.01   0.0005
mlkd      resnet110   resnet20     64  480  0.025  0.0005
mlkd      resnet110   resnet32     64  480  0.025  0.0005
mlkd      resnet32x4  ShuffleV1    64  960  0.01   0.0005
mlkd      resnet32x4  ShuffleV2    64  960  0.01   0.0005
mlkd      resnet32x4  resnet8x4    64  480  0.025  0.0005
mlkd      resnet32x4  vgg8         64  480  0.025  0.0005
mlkd      resnet32x4  wrn_16_2     64  480  0.025  0.0005
mlkd      resnet32x4  wrn_40_2     64  480  0.025  0.0005
mlkd      resnet56    resnet20     64  480  0.025  0.0005
mlkd      vgg13       MobileNetV2  64  480  0.01   0.0005
mlkd      vgg13       vgg8         64  480  0.01   0.0005
mlkd      wrn_40_2    MobileNetV2  64  480  0.005  0.0005
mlkd      wrn_40_2    ShuffleV1    64  480  0.01   0.0005
mlkd      wrn_40_2    resnet8x4    64  480  0.025  0.0005
mlkd      wrn_40_2    wrn_16_2     64  480  0.025  0.0005
mlkd      wrn_40_2    wrn_40_1     64  480  0.025  0.0005
nst       resnet32x4  resnet8x4    64  240  0.05   0.0005
ofd       resnet32x4  resnet8x4    64  240  0.05   0.0005
pkt       resnet32x4  resnet8x4    64  240  0.05   0.0005
reviewkd  resnet32x4  resnet8x4    64  240  0.05   0.0005  kd_weight=5
rkd       resnet32x4  resnet8x4    64  240  0.05   0.0005
sp        resnet32x4  resnet8x4    64  240  0.05   0.0005
vid       resnet32x4  resnet8x4    64  240  0.05   0.0005
"""
# The release's MobileNet there is the first version, which older files call the second one.
IMAGENET = """
at        ResNet34  ResNet18   512  100  0.2   0.0001
crd       ResNet34  ResNet18   256  100  0.1   0.0001
dkd       ResNet34  ResNet18   512  100  0.2   0.0001  beta=0.5 temperature=1 warmup_epochs=1
kd        ResNet34  ResNet18   512  100  0.2   0.0001  temperature=1 ce_weight=0.5 kd_weight=0.5
reviewkd  ResNet34  ResNet18   256  100  0.1   0.0001  warmup_epochs=1 kd_weight=1
at        ResNet50  MobileNet  512  100  0.2   0.0001
crd       ResNet50  MobileNet  256  100  0.1   0.0001
dkd       ResNet50  MobileNet  512  100  0.2   0.0001  beta=2 temperature=1 warmup_epochs=1
kd        ResNet50  MobileNet  512  100  0.2   0.0001  temperature=1 ce_weight=0.5 kd_weight=0.5
mlkd      ResNet50  MobileNet  512  100  0.2   0.0001  temperature=1 ce_weight=0.5 kd_weight=0.5
ofd       ResNet50  MobileNet  128  100  0.05  0.0001  kd_weight=0.0001
reviewkd  ResNet50  MobileNet  256  100  0.1   0.0001  warmup_epochs=1 kd_weight=8
"""
# The weights of the script of ReviewKD's authors.
REVIEW_SCRIPT = {
    ("wrn_40_2", "wrn_16_2"): 5,
    ("wrn_40_2", "wrn_40_1"): 5,
    ("wrn_40_2", "ShuffleV1"): 5,
    ("resnet32x4", "resnet8x4"): 5,
    ("resnet32x4", "ShuffleV1"): 5,
    ("resnet32x4", "ShuffleV2"): 8,
    ("resnet56", "resnet20"): 0.6,
    ("resnet110", "resnet32"): 1,
}
# Weights of the cross-entropy and of the distillation term in the release's defaults, and its parameters.
DEFAULTS: dict[str, tuple[float, float, dict[str, Any]]] = {
    "at": (1, 1000, {"p": 2}),
    "crd": (1, 0.8, {"num_negatives": 16384, "width": 128, "temperature": 0.07, "memory_momentum": 0.5}),
    "dkd": (1, 1, {"alpha": 1, "beta": 8, "temperature": 4, "warmup_epochs": 20, "standardize": False}),
    "fitnet": (1, 100, {"layer": 2}),
    "kd": (0.1, 9, {"temperature": 4, "direction": "reverse", "standardize": False}),
    "kdsvd": (1, 1, {"k": 1}),
    "mlkd": (0.1, 9, {"temperature": 4, "released_sum": True, "standardize": False}),
    "nst": (1, 50, {}),
    "ofd": (1, 0.001, {}),
    "pkt": (1, 30000, {}),
    "reviewkd": (1, 1, {"warmup_epochs": 20}),
    "rkd": (1, 1, {"distance_weight": 25, "angle_weight": 50}),
    "sp": (1, 3000, {}),
    "vid": (1, 1, {"learned_variances": False}),
}
LIBRARIES = {
    "ResNet18": ["torchvision/resnet18", "timm/resnet18.a1_in1k"],
    "ResNet34": ["torchvision/resnet34", "timm/resnet34"],
    "ResNet50": ["torchvision/resnet50", "timm/resnet50@own"],
    "MobileNet": ["torchvision/mobilenet_v2", "timm/mobilenetv1_100"],
}
Row = tuple[str, str, str, list[float], dict[str, float]]


def rows(table: str) -> list[Row]:
    found: list[Row] = []
    for line in table.strip().splitlines():
        loss, teacher, student, *rest = line.split()
        others = (each.partition("=") for each in rest[4:])
        found.append((loss, teacher, student, list(map(float, rest[:4])), {key: float(x) for key, _, x in others}))
    return found


def pairs_of(table: str) -> list[tuple[str, str]]:
    return sorted({(teacher, student) for _, teacher, student, _, _ in rows(table)})


def official(loss: Any, teacher: str, student: str, **more: Any) -> TrialConfig:
    content = {"preset": "official", "dataset": "cifar100", "teacher": {"model": teacher}, "student": student}
    return TrialConfig.model_validate({**content, "loss": loss, **more})


def check(config: TrialConfig, loss: str, solver: list[float], others: dict[str, float]) -> None:
    optimizer = config.optimizer
    assert [config.batch_size, config.epochs, optimizer.learning_rate, optimizer.weight_decay] == solver
    # The release replaced the files' steps by a cosine.
    assert (optimizer.schedule, optimizer.final_learning_rate, optimizer.momentum) == ("cosine", 1e-5, 0.9)
    assert config.validation == 0
    ce_weight, kd_weight, parameters = DEFAULTS[loss]
    assert config.ce_weight == others.get("ce_weight", ce_weight)
    assert config.kd_weight == others.get("kd_weight", kd_weight)
    of_loss = {key: value for key, value in others.items() if not key.endswith("_weight")}
    assert not isinstance(config.loss, list)
    assert {key: config.loss[key] for key in {**parameters, **of_loss}} == {**parameters, **of_loss}


@pytest.mark.parametrize("row", rows(CIFAR), ids=lambda row: "-".join(row[:3]))
def test_file_of_the_release_for_cifar_gives_the_same_settings(row: Row) -> None:
    loss, teacher, student, solver, others = row
    check(official(loss, teacher, student), loss, solver, others)


@pytest.mark.parametrize("row", rows(IMAGENET), ids=lambda row: "-".join(row[:3]))
def test_file_of_the_release_for_imagenet_gives_the_same_settings(row: Row) -> None:
    loss, teacher, student, solver, others = row
    dataset = {"name": "imagenet", "path": "/images"}
    for models in zip(LIBRARIES[teacher], LIBRARIES[student], strict=True):
        config = official(loss, *models, dataset=dataset)
        check(config, loss, solver, others)
        if loss == "mlkd":  # both views' cross-entropies have the weight of the file
            assert config.kd_weight * config.loss["strong_ce_weight"] == 0.5  # type: ignore[call-overload]


@pytest.mark.parametrize(("pair", "weight"), REVIEW_SCRIPT.items(), ids=str)
def test_reviewkd_has_the_weight_of_its_authors_script(pair: tuple[str, str], weight: float) -> None:
    assert official("reviewkd", *pair).kd_weight == weight


@pytest.mark.parametrize("pair", pairs_of(CIFAR), ids="-".join)
def test_every_method_of_every_pair_is_a_trial_file_and_stays_the_same_when_written_out(
    pair: tuple[str, str], tmp_path: Path
) -> None:
    has_files = {(loss, teacher, student) for loss, teacher, student, _, _ in rows(CIFAR)}
    for loss, sampler in itertools.product(DEFAULTS, ("full", "kdas")):
        content = {"preset": "official", "dataset": "cifar100", "teacher": {"model": pair[0]}, "student": pair[1]}
        file = tmp_path / "trial.yaml"
        file.write_text(yaml.safe_dump({**content, "loss": loss, "sampler": sampler}), encoding="utf-8")
        config = load_trial_config(file)
        assert TrialConfig.model_validate(config.model_dump(mode="json")) == config
        if (loss, *pair) not in has_files and loss != "mlkd":
            rate = 0.01 if pair[1].startswith(("Mobile", "Shuffle")) else 0.05
            weight = {"kd_weight": REVIEW_SCRIPT.get(pair, 1.0)} if loss == "reviewkd" else {}
            check(config, loss, [64, 240, rate, 0.0005], weight)


def test_pair_and_loss_without_a_file_get_what_their_data_set_and_loss_have_in_common() -> None:
    imagenet = {"name": "imagenet", "path": "/images"}
    pair = ("torchvision/resnet101", "torchvision/resnet18")
    check(official("sp", *pair, dataset=imagenet), "sp", [512, 100, 0.2, 1e-4], {})
    check(
        official("dkd", *pair, dataset=imagenet), "dkd", [512, 100, 0.2, 1e-4], {"temperature": 1, "warmup_epochs": 1}
    )
    check(official("mlkd", "resnet32", "resnet8"), "mlkd", [64, 480, 0.025, 5e-4], {})
    check(official("mlkd", "resnet32", "ShuffleV2"), "mlkd", [64, 480, 0.01, 5e-4], {})
    check(official("reviewkd", "vgg13", "vgg8"), "reviewkd", [64, 240, 0.05, 5e-4], {})


def test_what_the_file_says_comes_before_the_settings_of_the_pair() -> None:
    given = {"epochs": 7, "kd_weight": 2.0, "batch_size": 32, "optimizer": {"learning_rate": 0.3}}
    config = official("mlkd", "wrn_40_2", "MobileNetV2", **given)
    assert (config.epochs, config.kd_weight, config.batch_size, config.optimizer.learning_rate) == (7, 2, 32, 0.3)
    assert official("vid", "vgg13", "vgg8").loss["learned_variances"] is False  # type: ignore[call-overload]
    own = official({"name": "vid", "learned_variances": True}, "vgg13", "vgg8")
    assert own.loss["learned_variances"] is True  # type: ignore[call-overload]
    assert TrialConfig.model_validate(own.model_dump(mode="json")) == own


def test_settings_of_sgd_do_not_reach_other_optimizers() -> None:
    imagenet = {"name": "imagenet", "path": "/images"}
    rates = {}
    for name in ("sgd", "dot", "adamw", "muon"):
        config = official(
            "kd", "torchvision/resnet34", "torchvision/resnet18", dataset=imagenet, optimizer={"name": name}
        )
        rates[name] = (config.optimizer.learning_rate, config.optimizer.weight_decay)
    assert rates == {"sgd": (0.2, 1e-4), "dot": (0.2, 1e-4), "adamw": (1e-3, 0.01), "muon": (0.02, 0.01)}


def test_terms_of_a_sum_have_the_parameters_of_the_pair_and_their_own_weights() -> None:
    terms = [{"name": "dkd", "weight": 1}, {"name": "reviewkd", "weight": 3}]
    config = official(terms, "wrn_40_2", "wrn_16_2")
    assert isinstance(config.loss, list)
    assert (config.loss[0]["beta"], config.loss[1]["weight"], config.kd_weight, config.ce_weight) == (6, 3, 1, 1)


@pytest.mark.parametrize(
    ("preset", "losses", "expected"),
    [
        ("default", "at crd dkd fitnet kd kdsvd mlkd nst ofd pkt reviewkd rkd sp vid", "39ae14a6184a2da0"),
        ("paper", "at crd dkd fitnet kd kdsvd mlkd nst ofd pkt reviewkd rkd sp vid", "58adb9b326eb763a"),
        # Others of this preset have the settings of their pairs since then.
        ("official", "at crd dkd fitnet kd kdsvd nst ofd pkt rkd sp", "65c9d10cf76bffe4"),
    ],
)
def test_what_ids_see_of_a_trial_is_what_it_was_before_pairs_had_settings(
    preset: str, losses: str, expected: str
) -> None:
    seen = []
    for (teacher, student), loss, sampler in itertools.product(ID_PAIRS, losses.split(), ("full", "kdas")):
        content = {"preset": preset, "dataset": "cifar100", "teacher": {"model": teacher}, "student": student}
        config = TrialConfig.model_validate({**content, "loss": loss, "sampler": sampler})
        told = config.model_dump(mode="json", include=set(ID_KEYS))
        seen.append({**told, "loss": identity_of(config.loss), "sampler": SAMPLERS.identity(config.sampler)})
    assert content_id(seen) == expected


ID_PAIRS = [("resnet32x4", "resnet8x4"), ("vgg13", "vgg8"), ("resnet56", "resnet20"), ("resnet32x4", "ShuffleV2")]
ID_KEYS = (
    "batch_size",
    "ce_weight",
    "epochs",
    "evaluations",
    "kd_weight",
    "loss",
    "optimizer",
    "sampler",
    "validation",
)


def test_parameter_that_came_later_is_in_the_id_only_if_it_is_unusual(trial_of: Any, small_inputs: Inputs) -> None:
    def id_of(**parameters: Any) -> str:
        trial: Trial = trial_of(loss={"name": "vid", **parameters})
        return config_id(trial.config, small_inputs)

    assert id_of() == id_of(learned_variances=True) != id_of(learned_variances=False)
    assert "learned_variances" not in LOSSES.identity(LOSSES.checked("vid"))
