"""Config files of the official release, translated into files of ours."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from kdas import models
from kdas.errors import UserError
from kdas.models.layers import with_maps
from kdas.parts.yaml_file import parse_yaml
from kdas.recipe.config import TrialConfig, load_trial_config
from sweeps.__main__ import app
from sweeps.file.loading import load_spec
from sweeps.file.spec import SweepSpec
from sweeps.file.translation import translated

# In the layout of the release's own files.
RELEASE: dict[str, Any] = {
    "EXPERIMENT": {"NAME": "", "TAG": "kdas,wrn_40_2,ShuffleV1", "PROJECT": "cifar100"},
    "DATASET": {"TYPE": "cifar100", "NUM_WORKERS": 4, "TEST": {"BATCH_SIZE": 128}},
    "DISTILLER": {"TYPE": "KD", "TEACHER": "wrn_40_2", "STUDENT": "ShuffleV1"},
    "SOLVER": {
        "TRAINER": "base",
        "BATCH_SIZE": 32,
        "EPOCHS": 120,
        "LR": 0.02,
        "LR_DECAY_STAGES": [75, 90, 105],
        "LR_DECAY_RATE": 0.1,
        "WEIGHT_DECAY": 0.001,
        "MOMENTUM": 0.8,
        "TYPE": "SGD",
    },
    "KD": {"TEMPERATURE": 2, "LOSS": {"CE_WEIGHT": 0.5, "KD_WEIGHT": 3}},
    "AT": {"P": 2},
    "LOG": {"TENSORBOARD_FREQ": 500, "PREFIX": "./output"},
    "COLOUR": "blue",
}


def release(**changes: Any) -> dict[str, Any]:
    """A file of the release with some keys replaced; `SOLVER__LR` stands for SOLVER.LR, and None removes a key."""
    content = copy.deepcopy(RELEASE)
    for path, value in changes.items():
        block, _, key = path.partition("__")
        into = content.setdefault(block, {}) if key else content
        name = key or block
        if value is None:
            into.pop(name, None)
        else:
            into[name] = value
    return content


def of_another_release(**changes: Any) -> dict[str, Any]:
    return release(**{"EXPERIMENT__TAG": "kd,wrn_40_2,ShuffleV1", **changes})


def spec_of(text: str) -> SweepSpec:
    return SweepSpec.model_validate(parse_yaml(text))


def test_every_value_reaches_the_sweep() -> None:
    spec = spec_of(translated(release(), "a.yaml"))
    assert (spec.preset, spec.dataset["name"], spec.data_workers) == ("official", "cifar100", 4)
    assert (spec.teacher.model, spec.student) == ("wrn_40_2", "ShuffleV1")
    assert (spec.batch_size, spec.epochs, spec.evaluations) == (32, 120, 120)
    optimizer = spec.optimizer
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.momentum) == (0.02, 0.001, 0.8)
    assert optimizer.schedule == "cosine"
    assert spec.loss == {"name": "kd", "temperature": 2.0, "direction": "reverse", "standardize": False}
    assert (spec.ce_weight, spec.kd_weight, spec.validation) == (0.5, 3, 0)
    assert {method.sampler["name"] for method in spec.baselines.values()} == {"full", "random", "kdas"}


def test_table_tells_of_every_key_what_became_of_it() -> None:
    text = translated(release(), "a.yaml")
    table = [line for line in text.splitlines() if line.startswith("#")]
    for block, keys in RELEASE.items():
        for key in keys if isinstance(keys, dict) else [""]:
            told = [line for line in table if line.startswith(f"# {block}.{key}".rstrip("."))]
            assert told and all(len(line.split("  ")) > 1 for line in told), (block, key)
    rows = {line[2:].partition(":")[0]: line.split("  ")[-1].strip() for line in table if ": " in line}
    assert rows["SOLVER.LR"] == "optimizer.learning_rate"
    assert rows["SOLVER.LR_DECAY_STAGES"] == "the release does not read it: the rate falls by a cosine"
    assert rows["AT.P"] == "of another distiller than KD"
    assert rows["COLOUR"] == "unknown"


def test_block_of_kdas_is_kept_in_sweep_and_trial(tmp_path: Path) -> None:
    content = of_another_release(KDAS={"START_RATE": 0.7, "SAMPLING_PERIOD": [1, 2]})
    spec = spec_of(translated(content, "a.yaml"))
    assert spec.preset == "official" and spec.baselines["kdas_paper"].sampler["start_rate"] == 0.7
    path = tmp_path / "trial.yaml"
    path.write_text(translated(content, "a.yaml", as_trial=True), encoding="utf-8")
    sampler = load_trial_config(path).sampler
    assert (sampler["name"], sampler["start_rate"], sampler["sampling_period"]) == ("kdas", 0.7, [1, 2])
    assert sampler["score_mode"] == "train"


def test_trainer_with_two_momenta_becomes_its_optimizer() -> None:
    with_dot = of_another_release(SOLVER__TRAINER="DOT", SOLVER__DOT={"DELTA": 0.05})
    optimizer = spec_of(translated(with_dot, "a.yaml")).optimizer
    assert (optimizer.name, optimizer.delta, optimizer.momentum) == ("dot", 0.05, 0.8)
    text = translated(of_another_release(SOLVER__DOT={"DELTA": 0.05}), "a.yaml")
    assert spec_of(text).optimizer.name == "sgd" and "of another trainer" in text


def test_file_of_another_release_keeps_its_direction_and_its_schedule() -> None:
    spec = spec_of(translated(of_another_release(), "a.yaml"))
    assert (spec.preset, spec.validation, spec.loss["direction"]) == ("default", 0, "forward")  # type: ignore[call-overload]
    assert spec.optimizer.schedule == "step"
    assert spec.optimizer.milestones == [0.625, 0.75, 0.875]
    text = translated(of_another_release(SOLVER__LR_DECAY_STAGES=[30, 60, 150]), "a.yaml")
    optimizer = spec_of(text).optimizer
    assert (optimizer.schedule, optimizer.milestones) == ("step", [0.25, 0.5]), "150 of 120 epochs never comes"
    trial = parse_yaml(translated(of_another_release(), "a.yaml", as_trial=True))
    assert trial["sampler"] == "full" and "search" not in trial


def test_decoupled_distillation_has_its_own_names() -> None:
    content = release(DISTILLER__TYPE="DKD", DKD={"CE_WEIGHT": 2.0, "ALPHA": 3.0, "T": 1.0, "WARMUP": 1, "X": 1})
    text = translated(content, "a.yaml")
    spec = spec_of(text)
    expected = {"name": "dkd", "alpha": 3.0, "beta": 8.0, "temperature": 1.0, "standardize": False, "warmup_epochs": 1}
    assert spec.loss == expected and (spec.ce_weight, spec.kd_weight) == (2, 1)
    assert "DKD.X: 1" in text and "KD.TEMPERATURE: 2" in text


@pytest.mark.parametrize(
    ("kind", "block", "parameters", "weights"),
    [
        ("AT", {"P": 4, "LOSS": {"FEAT_WEIGHT": 500.0}}, {"p": 4}, (1, 500)),
        ("NST", {}, {}, (1, 50)),
        ("SP", {"LOSS": {"CE_WEIGHT": 0.5}}, {}, (0.5, 3000)),
        ("PKT", {}, {}, (1, 30000)),
        ("RKD", {"DISTANCE_WEIGHT": 10, "ANGLE_WEIGHT": 20}, {"distance_weight": 10, "angle_weight": 20}, (1, 1)),
        ("FITNET", {"HINT_LAYER": 3, "INPUT_SIZE": [32, 32]}, {"layer": 3}, (1, 100)),
        ("KDSVD", {"K": 2}, {"k": 2}, (1, 1)),
        ("OFD", {"CONNECTOR": {"KERNEL_SIZE": 1}}, {}, (1, 0.001)),
        ("VID", {"INIT_PRED_VAR": 5.0}, {}, (1, 1)),
        (
            "CRD",
            {"MODE": "exact", "FEAT": {"DIM": 64, "STUDENT_DIM": 256}, "NCE": {"K": 4096, "MOMENTUM": 0.9}},
            {"width": 64, "num_negatives": 4096, "memory_momentum": 0.9},
            (1, 0.8),
        ),
        ("REVIEWKD", {"REVIEWKD_WEIGHT": 5.0, "WARMUP_EPOCHS": 10, "SHAPES": [1, 8]}, {"warmup_epochs": 10}, (1, 5)),
    ],
)
def test_methods_on_maps_keep_their_settings_and_published_weights(
    kind: str, block: dict[str, Any], parameters: dict[str, Any], weights: tuple[float, float]
) -> None:
    text = translated(of_another_release(DISTILLER__TYPE=kind, **{kind: block}), "a.yaml")
    spec = spec_of(text)
    assert not isinstance(spec.loss, list) and spec.loss["name"] == kind.lower()
    assert {key: spec.loss[key] for key in parameters} == parameters
    assert (spec.ce_weight, spec.kd_weight) == weights
    assert "no such parameter" not in text and "CHANGES RESULTS" not in text


def test_a_fixed_setting_of_another_value_is_said_to_change_results() -> None:
    block = {"CONNECTOR": {"KERNEL_SIZE": 3}}
    text = translated(of_another_release(DISTILLER__TYPE="OFD", OFD=block), "a.yaml")
    assert re.search(r"^# OFD\.CONNECTOR\.KERNEL_SIZE: 3 +fixed here, at 1\. THIS CHANGES RESULTS$", text, re.MULTILINE)


def test_short_file_gets_the_settings_of_its_pair() -> None:
    content = {
        "DISTILLER": {"TYPE": "DKD", "TEACHER": "vgg13", "STUDENT": "MobileNetV2"},
        "EXPERIMENT": {"TAG": "KDAS"},
    }
    spec = spec_of(translated(content, "a.yaml"))
    assert (spec.optimizer.learning_rate, spec.loss["beta"], spec.epochs) == (0.01, 6, 240)  # type: ignore[call-overload]


def test_short_file_of_a_relative_gets_the_defaults_of_its_code() -> None:
    content = {"DISTILLER": {"TYPE": "KD", "TEACHER": "vgg13", "STUDENT": "vgg8"}, "SOLVER": {"EPOCHS": 240}}
    spec = spec_of(translated(content, "a.yaml"))
    assert (spec.ce_weight, spec.kd_weight, spec.batch_size) == (0.1, 0.9, 64)
    optimizer = spec.optimizer
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.schedule) == (0.05, 1e-4, "step")
    longer = spec_of(translated({**content, "SOLVER": {"EPOCHS": 480}}, "a.yaml"))
    assert longer.optimizer.milestones == [150 / 480, 180 / 480, 210 / 480]


@pytest.mark.parametrize("kind", ["MLKD", "MLLD", "KD_ours"])
@pytest.mark.parametrize("is_of_kdas", [False, True])
def test_multi_level_distiller_reads_the_block_of_kd(kind: str, is_of_kdas: bool) -> None:
    block = {"TEMPERATURE": 3, "LOSS": {"CE_WEIGHT": 0.2, "KD_WEIGHT": 5}}
    changes = {"DISTILLER__TYPE": kind, "KD": block, "SOLVER__TRAINER": "ours"}
    text = translated(release(**changes) if is_of_kdas else of_another_release(**changes), "a.yaml")
    spec = spec_of(text)
    assert not isinstance(spec.loss, list)
    assert (spec.loss["name"], spec.loss["temperature"], spec.loss["released_sum"]) == ("mlkd", 3, True)
    assert (spec.ce_weight, spec.kd_weight) == (0.2, 5)
    assert spec.kd_weight * spec.loss["strong_ce_weight"] == pytest.approx(0.2), "the strong view's has the same weight"


@pytest.mark.parametrize("kind", ["KD", "DKD", "MLKD"])
def test_standardised_logits_are_kept(kind: str) -> None:
    content = of_another_release(DISTILLER__TYPE=kind, EXPERIMENT__LOGIT_STAND=True)
    text = translated(content, "a.yaml")
    assert spec_of(text).loss["standardize"] is True  # type: ignore[call-overload]
    assert re.search(r"^# EXPERIMENT\.LOGIT_STAND: True +loss\.standardize$", text, re.MULTILINE)
    assert "LOGIT_STAND: True" in translated({**content, "DISTILLER": {**content["DISTILLER"], "TYPE": "AT"}}, "a.yaml")


def test_training_without_a_teacher_has_no_distillation_and_no_search_of_its_penalty() -> None:
    content = of_another_release(DISTILLER__TYPE="NONE")
    spec = spec_of(translated(content, "a.yaml"))
    assert (spec.ce_weight, spec.kd_weight) == (1, 0)
    assert set(spec.search) == {"start_rate", "end_rate", "sampling_period"}
    trial = parse_yaml(translated(content, "a.yaml", as_trial=True))
    assert (trial["ce_weight"], trial["kd_weight"], trial["sampler"]) == (1, 0, "full")


@pytest.mark.parametrize(
    "changes",
    [
        {"DISTILLER__TYPE": "DOT", "DOT": {"DELTA": 0.05}},
        {"DISTILLER__TYPE": "DOT", "SOLVER__DOT": {"DELTA": 0.05}, "SOLVER__TRAINER": "dot"},
        {"DISTILLER__TYPE": "CRD", "SOLVER__DOT": {"DELTA": 0.05}, "SOLVER__TRAINER": "crd_dot"},
    ],
    ids=str,
)
def test_dot_is_an_optimizer_however_it_is_written(changes: dict[str, Any]) -> None:
    spec = spec_of(translated(of_another_release(**changes), "a.yaml"))
    assert (spec.optimizer.name, spec.optimizer.delta, spec.optimizer.momentum) == ("dot", 0.05, 0.8)
    assert spec.loss["name"] == ("crd" if changes["DISTILLER__TYPE"] == "CRD" else "kd")  # type: ignore[call-overload]


def test_slip_of_a_relative_is_repeated() -> None:
    spec = spec_of(translated(of_another_release(DISTILLER__TYPE="VID"), "a.yaml"))
    assert spec.loss["learned_variances"] is False  # type: ignore[call-overload]


def test_file_of_kdas_and_the_preset_alone_agree_on_a_pair() -> None:
    for kind in ("REVIEWKD", "VID", "MLKD", "DKD"):
        content = {
            "EXPERIMENT": {"TAG": "kdas"},
            "DISTILLER": {"TYPE": kind, "TEACHER": "resnet32x4", "STUDENT": "ShuffleV2"},
        }
        spec = spec_of(translated(content, "a.yaml"))
        pair = {"teacher": {"model": "resnet32x4"}, "student": "ShuffleV2"}
        alone = TrialConfig.model_validate({"preset": "official", "dataset": "cifar100", **pair, "loss": kind.lower()})
        for key in ("loss", "ce_weight", "kd_weight", "epochs", "optimizer"):
            assert getattr(spec, key) == getattr(alone, key), (kind, key)


@pytest.mark.parametrize(
    ("kind", "student", "stem"),
    [("AT", "MobileNetV1", "blocks.1"), ("REVIEWKD", "MobileNetV2", "bn1"), ("AT", "ResNet18", "relu")],
)
def test_imagenet_names_the_maps_of_its_networks(kind: str, student: str, stem: str) -> None:
    content = of_another_release(
        DATASET__TYPE="imagenet", DISTILLER={"TYPE": kind, "TEACHER": "ResNet50", "STUDENT": student}
    )
    spec = spec_of(translated(content, "a.yaml"))
    assert spec.teacher_layers == ["relu", "layer1", "layer2", "layer3", "layer4"]
    assert spec.student_layers is not None and spec.student_layers[0] == stem
    model = models.create(spec.student, 10).eval()
    maps = with_maps(model, spec.student_layers)(torch.zeros(2, 3, 64, 64)).maps
    assert [each.shape[2] for each in maps][-3:] == [8, 4, 2]


def test_keys_that_could_not_be_translated_are_told_one_by_one(tmp_path: Path) -> None:
    content = of_another_release(
        DISTILLER__TYPE="REVIEWKD",
        REVIEWKD={"STU_PREACT": True, "MAX_MID_CHANNEL": 256, "X": 1},
        SOLVER__LR_DECAY_RATE=0.2,
    )
    told: list[str] = []
    translated(content, "a.yaml", tell=told.append)
    assert told == [
        "a.yaml: REVIEWKD.STU_PREACT: True: fixed here, at False. THIS CHANGES RESULTS.",
        "a.yaml: REVIEWKD.X: 1: the loss reviewkd has no such parameter.",
        "a.yaml: COLOUR: 'blue': unknown.",
        "a.yaml: SOLVER.LR_DECAY_RATE: 0.2: the rate falls to a tenth at each step here. THIS CHANGES RESULTS.",
    ]
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump(RELEASE), encoding="utf-8")
    printed = CliRunner().invoke(app, ["import", str(file)])
    assert printed.stderr == f"{file}: COLOUR: 'blue': unknown.\n" and spec_of(printed.stdout)


def test_imagenet_asks_for_its_folder_and_takes_torchvision_s_models() -> None:
    content = of_another_release(
        DATASET__TYPE="imagenet", DISTILLER__TEACHER="ResNet34", DISTILLER__STUDENT="ResNet18", SOLVER__EPOCHS=100
    )
    spec = spec_of(translated(content, "a.yaml"))
    assert spec.dataset["path"] == "/path/to/imagenet"
    assert (spec.teacher.model, spec.student) == ("torchvision/resnet34", "torchvision/resnet18")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (release(DISTILLER__TYPE="CAT_KD"), "DISTILLER.TYPE: no loss is called CAT_KD. Known: "),
        (release(DISTILLER__TYPE=None), "DISTILLER.TYPE: expected a name, got None. Add it."),
        (release(DISTILLER__STUDENT=3), "DISTILLER.STUDENT: expected a name, got 3. Add it."),
        (
            release(DISTILLER__STUDENT="ShufleV1"),
            "DISTILLER.STUDENT: no model is called 'ShufleV1'. Did you mean ShuffleV1?",
        ),
        (release(DATASET__TYPE="cifar"), "DATASET.TYPE: no dataset is called 'cifar'. Did you mean cifar10?"),
        (release(SOLVER__TYPE="AdamW"), "SOLVER.TYPE: expected SGD, got 'AdamW'. The release has no other optimizer."),
        (release(SOLVER__LR=-1), "SOLVER.LR: expected a value in (0, 1e+15], got -1."),
        (
            of_another_release(SOLVER__LR_DECAY_STAGES="150"),
            "SOLVER.LR_DECAY_STAGES: expected a list of epochs, got '150'. Write [150, 180, 210].",
        ),
        (release(SOLVER__EPOCHS="many"), "SOLVER.EPOCHS: expected a whole number, got 'many'."),
        (release(KDAS={"START_RATE": 7}), "KDAS.start_rate: expected a value in (0, 1], got 7."),
        ({"dataset": "digits"}, "is not a configuration file of the official release. Such a file has the blocks"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_what_does_not_exist_here_is_named_by_the_release_s_key(content: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=r".") as caught:
        translated(content, "a.yaml")
    assert str(caught.value).startswith(f"a.yaml: {message}") and "\n" not in str(caught.value)


def test_command_prints_a_file_or_writes_it(tmp_path: Path) -> None:
    file, out = tmp_path / "a.yaml", tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(RELEASE), encoding="utf-8")
    printed = CliRunner().invoke(app, ["import", str(file)])
    assert printed.exit_code == 0 and spec_of(printed.stdout).student == "ShuffleV1"
    done = CliRunner().invoke(app, ["import", str(file), "--out", str(out)])
    assert done.exit_code == 0 and done.stdout == f"{out} written. Run it: make sweep NAME={out}\n"
    assert load_spec(out) == spec_of(printed.stdout)
    again = CliRunner().invoke(app, ["import", str(file), "--out", str(out)])
    assert isinstance(again.exception, UserError) and "exists. Give --out another file" in str(again.exception)
