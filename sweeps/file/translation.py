"""Translates a configuration file of the official release, or of a relative of it, into a sweep or trial file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from kdas.errors import UserError, brief, nearest
from kdas.parts.known import DATASETS, LOSSES
from kdas.parts.reading import Mistake, mistakes_in
from kdas.parts.yaml_file import dump_yaml
from kdas.recipe.config import TrialConfig
from kdas.recipe.release import is_release_file
from kdas.schedules import STEP_MILESTONES
from sweeps.file.spec import SweepSpec

# Keys of the release, and where their values go.
_KEPT = {
    "DATASET.NUM_WORKERS": "data_workers",
    "SOLVER.BATCH_SIZE": "batch_size",
    "SOLVER.EPOCHS": "epochs",
    "SOLVER.LR": "optimizer.learning_rate",
    "SOLVER.WEIGHT_DECAY": "optimizer.weight_decay",
    "SOLVER.MOMENTUM": "optimizer.momentum",
}
# The same, for a trainer with two momenta.
_OF_DOT = {"SOLVER.TRAINER": "optimizer.name", "SOLVER.DOT.DELTA": "optimizer.delta"}
# Keys of a distiller's own block, if they are not named as the parameter is.
_OF_DISTILLER = {
    "CE_WEIGHT": "ce_weight",
    "LOSS.CE_WEIGHT": "ce_weight",
    "LOSS.KD_WEIGHT": "kd_weight",
    "LOSS.FEAT_WEIGHT": "kd_weight",
    "REVIEWKD_WEIGHT": "kd_weight",
    "T": "loss.temperature",
    "WARMUP": "loss.warmup_epochs",
    "HINT_LAYER": "loss.layer",
    "FEAT.DIM": "loss.width",
    "NCE.K": "loss.num_negatives",
    "NCE.MOMENTUM": "loss.memory_momentum",
    "NCE.TEMPERATURE": "loss.temperature",
}
# Keys of a distiller whose value here is fixed, and that value. Others are read from the models.
_FIXED = {
    "CRD.MODE": "exact",
    "OFD.CONNECTOR.KERNEL_SIZE": 1,
    "REVIEWKD.MAX_MID_CHANNEL": 512,
    "RKD.PDIST.EPSILON": 1e-12,
    "RKD.PDIST.SQUARED": False,
    "VID.EPS": 1e-5,
    "VID.INIT_PRED_VAR": 5.0,
}
_READ_FROM_MODELS = {
    *("CRD.FEAT.STUDENT_DIM", "CRD.FEAT.TEACHER_DIM", "FITNET.INPUT_SIZE", "VID.INPUT_SIZE"),
    *(f"REVIEWKD.{key}" for key in ("SHAPES", "OUT_SHAPES", "IN_CHANNELS", "OUT_CHANNELS", "STU_PREACT")),
}
_LEFT_OUT = {
    "EXPERIMENT": "names a run; a sweep has the name of its file",
    "LOG": "a sweep keeps its own record",
    "DATASET.TEST": "changes no result",
    "SOLVER.TRAINER": "the sampler says what is trained on",
    "SOLVER.DOT.DELTA": "of another trainer",
}
# All other blocks are those of distillers.
_BLOCKS = ("DATASET", "DISTILLER", "EXPERIMENT", "LOG", "SOLVER")
_IMAGENET_MODELS = {
    "MobileNetV2": "torchvision/mobilenet_v2",
    **{f"ResNet{depth}": f"torchvision/resnet{depth}" for depth in (18, 34, 50, 101, 152)},
}
# What a sweep has beyond its recipe; the ranges are those of the shipped sweeps.
_SWEEP: dict[str, Any] = {
    "baselines": {"plain_kd": "full", "rs2": "random", "kdas_paper": "kdas"},
    "search": {
        "START_RATE": {"low": 0.3, "high": 0.9},
        "END_RATE": {"low": 0.2, "high": 0.8},
        "PENALTY_LAMBDA": {"low": 0.01, "high": 1000, "log": True},
        "THRESHOLD": {"low": 0.05, "high": 0.4},
        "SAMPLING_PERIOD": [[1, 3, 5, 10], [1, 2, 3, 4], 1, 5, 10],
    },
    "seeds": 3,
    "budget": {"configurations": 24},
    "confirm": {"top": 3, "seeds": 10},
}


@dataclass
class _Translation:
    """What has been translated so far. `kept` and `left_out`: key of the release -> key of ours, or the reason."""

    given: dict[str, Any]
    content: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)

    @property
    def is_of_kdas(self) -> bool:
        """Whether the file is of the KDAS release itself; its relatives have the same layout."""
        named = ("EXPERIMENT.TAG", "EXPERIMENT.PROJECT", "EXPERIMENT.NAME", "SOLVER.TRAINER", "DISTILLER.TYPE")
        return any("kdas" in str(self.given.get(key, "")).lower() for key in named) or self.has_block("KDAS")

    def has_block(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.given)

    def keep(self, key: str, path: str, value: Any = None) -> None:
        """Put a value of the release, or what stands for it here, at a dotted path."""
        block, _, name = path.rpartition(".")
        into = self.content.setdefault(block, {}) if block else self.content
        into[name] = self.given[key] if value is None else value
        self.kept[key] = path


def translated(content: Mapping[str, Any], source: str, *, as_trial: bool = False) -> str:
    """A sweep file, or the file of one trial, with a table of what became what above it.

    Raises: UserError: if the file is none of the release, or names what does not exist here.
    """
    if not is_release_file(content):
        raise UserError(
            f"{source}: is not a configuration file of the official release. Such a file has the blocks DISTILLER and"
            " SOLVER."
        )
    translation = _Translation(dict(_flat(content)))
    try:
        _translate(translation)
    except ValueError as error:
        raise UserError(f"{source}: {error}.") from error
    of_sweep = {"sampler": "kdas" if translation.is_of_kdas else "full"} if as_trial else _SWEEP
    whole = {**translation.content, **of_sweep}
    _check(whole, TrialConfig if as_trial else SweepSpec, translation, source)
    return f"{_table(translation, source)}\n{dump_yaml(whole, in_line=True)}"


def _flat(content: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its full path: `SOLVER.LR`."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _translate(translation: _Translation) -> None:
    """Raises: ValueError: for what does not exist here; the message names its key."""
    given = translation.given
    for key in ("DISTILLER.TYPE", "DISTILLER.TEACHER", "DISTILLER.STUDENT"):
        if not isinstance(given.get(key), str):
            raise ValueError(f"{key}: expected a name, got {brief(given.get(key))}. Add it")
    if translation.is_of_kdas:
        translation.content["preset"] = "official"
    else:
        translation.content["validation"] = 0.0
    translation.added["validation"] = "0: the test set decides, as in the release; with 0.1 a tenth is held out"
    _translate_pair(translation)
    _translate_loss(translation)
    for key, value in given.items():
        if key in _KEPT:
            translation.keep(key, _KEPT[key])
        elif key.startswith("KDAS."):
            translation.keep(key, key)
        elif key not in translation.kept and key not in translation.left_out:
            _translate_rest(translation, key, value)
    if isinstance(translation.content.get("epochs"), int):
        translation.content["evaluations"] = translation.content["epochs"]
        translation.added["evaluations"] = "one for each epoch"
    if not {"ce_weight", "kd_weight"} & translation.content.keys() and not translation.is_of_kdas:
        translation.added["ce_weight, kd_weight"] = "those of the loss's authors; compare the defaults of the release"


def _translate_pair(translation: _Translation) -> None:
    """The dataset and the two models."""
    given = translation.given
    name = str(given.get("DATASET.TYPE", "cifar100"))
    if name not in DATASETS.names():
        raise ValueError(f"DATASET.TYPE: no dataset is called {name!r}. {nearest(name, DATASETS.names())}".rstrip("."))
    path = DATASETS[name].schema.model_fields.get("path")
    dataset: Any = {"name": name, "path": f"/path/to/{name}"} if path is not None and path.is_required() else name
    translation.content["dataset"] = dataset
    if "DATASET.TYPE" in given:
        translation.kept["DATASET.TYPE"] = "dataset"
    else:
        translation.added["dataset"] = "the release's default, cifar100"
    models = _IMAGENET_MODELS if name == "imagenet" else {}
    for key, where in (("DISTILLER.TEACHER", "teacher.model"), ("DISTILLER.STUDENT", "student")):
        translation.keep(key, where, models.get(given[key], given[key]))
    translation.content["teacher"]["epochs"] = 240
    file = f"{given['DISTILLER.TEACHER']}_vanilla/ckpt_epoch_240.pth"
    translation.added["teacher.epochs"] = "the teacher is trained first"
    translation.added["teacher.checkpoint"] = f"give it the release's {file}, if you have it, and omit teacher.epochs"


def _translate_loss(translation: _Translation) -> None:
    """The distiller, with the keys of its own block."""
    given = translation.given
    kind = str(given["DISTILLER.TYPE"])
    name = "kd" if kind.lower() == "kdas" else kind.lower()
    if name not in LOSSES.names():
        known = ", ".join(each.upper() for each in LOSSES.names())
        raise ValueError(f"DISTILLER.TYPE: no loss is called {kind}. Known: {known}")
    translation.keep("DISTILLER.TYPE", "loss.name", name)
    for key in given:
        block, _, inner = key.partition(".")
        if block.upper() != kind.upper() or block == "KDAS":
            continue
        parameter = inner.lower()
        if inner in _OF_DISTILLER:
            translation.keep(key, _OF_DISTILLER[inner])
        elif parameter in LOSSES[name].schema.model_fields:
            translation.keep(key, f"loss.{parameter}")
        else:
            translation.left_out[key] = _why_left_out(key, given[key], name)
    if name in ("kd", "dkd"):
        translation.added["loss.standardize"] = "false; for a run of LogitSTD give true, and loss.temperature 2"


def _why_left_out(key: str, value: Any, name: str) -> str:
    """Why a key of a distiller has no place here. Args: name: of the loss."""
    if key in _READ_FROM_MODELS:
        return "read from the models"
    if key in _FIXED:
        return "fixed here" if value == _FIXED[key] else f"fixed here, at {brief(_FIXED[key])}. THIS CHANGES RESULTS"
    return f"the loss {name} has no such parameter"


def _translate_rest(translation: _Translation, key: str, value: Any) -> None:
    """The optimizer's kind and schedule, and keys that are left out."""
    block = key.partition(".")[0]
    if key == "SOLVER.TYPE":
        if str(value).upper() != "SGD":
            raise ValueError(f"SOLVER.TYPE: expected SGD, got {brief(value)}. The release has no other optimizer")
        translation.left_out[key] = "the default here too"
    elif key in _OF_DOT and str(translation.given.get("SOLVER.TRAINER", "")).lower() == "dot":
        translation.keep(key, _OF_DOT[key], str(value).lower() if key == "SOLVER.TRAINER" else value)
    elif key in ("SOLVER.LR_DECAY_STAGES", "SOLVER.LR_DECAY_RATE"):
        _translate_schedule(translation, key)
    elif reason := _LEFT_OUT.get(key) or _LEFT_OUT.get(key.rpartition(".")[0]) or _LEFT_OUT.get(block):
        translation.left_out[key] = reason
    elif block not in _BLOCKS and translation.has_block(block):
        translation.left_out[key] = f"of another distiller than {translation.given['DISTILLER.TYPE']}"
    else:
        translation.left_out[key] = "unknown"


def _translate_schedule(translation: _Translation, key: str) -> None:
    given = translation.given
    stages, epochs = given.get("SOLVER.LR_DECAY_STAGES"), given.get("SOLVER.EPOCHS", 240)
    usual = [milestone * epochs for milestone in STEP_MILESTONES] if isinstance(epochs, int) else []
    if translation.is_of_kdas:
        translation.left_out[key] = "the release does not read it: the rate falls by a cosine"
    elif stages == usual and given.get("SOLVER.LR_DECAY_RATE", 0.1) == 0.1:
        translation.keep(key, "optimizer.schedule", "step")
    else:
        translation.left_out[key] = "not the usual steps, so the rate falls by a cosine. THIS CHANGES RESULTS"


def _check(content: dict[str, Any], model: type[BaseModel], translation: _Translation, source: str) -> None:
    """Raises: UserError: for values that no file of ours could have; a line each, with the key of the release."""
    there = {here: key for key, here in translation.kept.items()}
    try:
        model.model_validate(content)
    except ValidationError as error:
        mistakes = mistakes_in(error, model)
        lines = (Mistake(there.get(each.key, each.key), each.text, each.known).line() for each in mistakes)
        raise UserError(*(f"{source}: {line}" for line in lines)) from error


def _table(translation: _Translation, source: str) -> str:
    """What became what, as comments of YAML."""
    given = translation.given
    kept = [(f"{key}: {brief(given[key])}", path) for key, path in translation.kept.items()]
    left_out = [(f"{key}: {brief(given[key])}", reason) for key, reason in translation.left_out.items()]
    sections = (
        ("there", "here", kept),
        ("left out", "why", left_out),
        ("not in the file", "what holds here", list(translation.added.items())),
    )
    lines = [f"Translated from {source}"]
    for first, second, rows in sections:
        width = max((len(key) for key, _ in rows), default=0)
        lines += ["", f"{first:{width}}  {second}", *(f"{key:{width}}  {what}" for key, what in rows)]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)
