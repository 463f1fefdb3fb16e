"""Translates a configuration file of the official release, or of a relative of it, into a sweep or trial file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from kdas.errors import UserError, brief, nearest
from kdas.parts.known import DATASETS
from kdas.parts.reading import Mistake, mistakes_in
from kdas.parts.yaml_file import dump_yaml
from kdas.recipe.config import TrialConfig
from kdas.recipe.release import is_release_file
from kdas.schedules import STEP_MILESTONES
from sweeps.file import release_keys as keys
from sweeps.file.release_loss import translate_loss
from sweeps.file.spec import SweepSpec
from sweeps.file.translating import Translation

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
# Without a distillation term the penalty weights nothing.
_OF_PENALTY = ("PENALTY_LAMBDA", "THRESHOLD")


def translated(
    content: Mapping[str, Any], source: str, *, as_trial: bool = False, tell: Callable[[str], None] = lambda line: None
) -> str:
    """A sweep file, or the file of one trial, with a table of what became what above it.

    Args: tell: called with a line for each key that could not be translated and may matter.
    Raises: UserError: if the file is none of the release, or names what does not exist here.
    """
    if not is_release_file(content):
        raise UserError(
            f"{source}: is not a configuration file of the official release. Such a file has the blocks DISTILLER and"
            " SOLVER."
        )
    translation = Translation(dict(_flat(content)))
    try:
        _translate(translation)
    except ValueError as error:
        raise UserError(f"{source}: {error}.") from error
    of_sweep = {"sampler": "kdas" if translation.is_of_kdas else "full"} if as_trial else _of_sweep(translation)
    whole = {**translation.content, **of_sweep}
    _check(whole, TrialConfig if as_trial else SweepSpec, translation, source)
    for line in translation.lost:
        tell(f"{source}: {line}.")
    return f"{_table(translation, source)}\n{dump_yaml(whole, in_line=True)}"


def _of_sweep(translation: Translation) -> dict[str, Any]:
    if translation.distiller != "none":
        return _SWEEP
    return {**_SWEEP, "search": {key: each for key, each in _SWEEP["search"].items() if key not in _OF_PENALTY}}


def _flat(content: Mapping[Any, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its full path: `SOLVER.LR`."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _translate(translation: Translation) -> None:
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
    translate_loss(translation, is_imagenet=_translate_pair(translation))
    for key, value in given.items():
        _translate_rest(translation, key, value)
    _translate_schedule(translation)
    if isinstance(translation.content.get("epochs"), int):
        translation.add("evaluations", translation.content["epochs"], "one for each epoch")
    if not translation.is_of_kdas and "SOLVER.WEIGHT_DECAY" not in given:
        translation.add("optimizer.weight_decay", keys.WEIGHT_DECAY, "the default of the code that reads such files")


def _translate_pair(translation: Translation) -> bool:
    """The dataset and the two models. Returns: whether the dataset is ImageNet."""
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
    is_imagenet = name == "imagenet"
    models = keys.IMAGENET_MODELS if is_imagenet else {}
    for key, where in (("DISTILLER.TEACHER", "teacher.model"), ("DISTILLER.STUDENT", "student")):
        translation.keep(key, where, models.get(given[key], given[key]))
    translation.content["teacher"]["epochs"] = 100 if is_imagenet else keys.EPOCHS
    file = (
        "weights, those of torchvision," if is_imagenet else f"{given['DISTILLER.TEACHER']}_vanilla/ckpt_epoch_240.pth"
    )
    translation.added["teacher.epochs"] = "the teacher is trained first"
    translation.added["teacher.checkpoint"] = f"give it the release's {file} if you have them, and omit teacher.epochs"
    return is_imagenet


def _translate_rest(translation: Translation, key: str, value: Any) -> None:
    """A key that says nothing of pair or loss: it is kept, or left out with the reason."""
    block = key.partition(".")[0]
    if key in translation.kept or key in translation.left_out:
        return
    if key in keys.KEPT or block == "KDAS":
        translation.keep(key, keys.KEPT.get(key, key))
    elif key == "SOLVER.TYPE":
        if str(value).upper() != "SGD":
            raise ValueError(f"SOLVER.TYPE: expected SGD, got {brief(value)}. The release has no other optimizer")
        translation.left_out[key] = "the default here too"
    elif key in keys.OF_DOT and translation.has_dot:
        translation.keep(key, keys.OF_DOT[key], "dot" if key == "SOLVER.TRAINER" else value)
    elif key in ("SOLVER.LR_DECAY_STAGES", "SOLVER.LR_DECAY_RATE"):
        pass  # `_translate_schedule` takes both together
    elif reason := keys.LEFT_OUT.get(key) or keys.LEFT_OUT.get(key.rpartition(".")[0]) or keys.LEFT_OUT.get(block):
        translation.left_out[key] = reason
    elif block not in keys.BLOCKS and translation.has_block(block):
        translation.left_out[key] = f"of another distiller than {translation.given['DISTILLER.TYPE']}"
    else:
        translation.lose(key, "unknown")


def _translate_schedule(translation: Translation) -> None:
    """The steps of the learning rate. Raises: ValueError: if they are no list of epochs."""
    given, rate_key, stages_key = translation.given, "SOLVER.LR_DECAY_RATE", "SOLVER.LR_DECAY_STAGES"
    if translation.is_of_kdas:
        for key in (each for each in (stages_key, rate_key) if each in given):
            translation.left_out[key] = "the release does not read it: the rate falls by a cosine"
        return
    epochs, stages = given.get("SOLVER.EPOCHS", keys.EPOCHS), given.get(stages_key, keys.STAGES)
    if not isinstance(epochs, int) or epochs < 1:
        return  # the schema says what is wrong with it
    if not isinstance(stages, list) or any(type(stage) not in (int, float) or stage <= 0 for stage in stages):
        raise ValueError(f"{stages_key}: expected a list of epochs, got {brief(stages)}. Write [150, 180, 210]")
    milestones = sorted({stage / epochs for stage in stages if stage < epochs})
    translation.put("optimizer.schedule", "step")
    if milestones != list(STEP_MILESTONES):
        translation.put("optimizer.milestones", milestones)
    if stages_key in given:
        translation.kept[stages_key] = "optimizer.schedule step, with optimizer.milestones as fractions of the epochs"
    else:
        translation.added["optimizer.schedule"] = f"step, after epochs {stages}: the default of the release's code"
    if given.get(rate_key, keys.DECAY_RATE) != keys.DECAY_RATE:
        translation.lose(rate_key, "the rate falls to a tenth at each step here. THIS CHANGES RESULTS")
    elif rate_key in given:
        translation.left_out[rate_key] = "the default here too"


def _check(content: dict[str, Any], model: type[BaseModel], translation: Translation, source: str) -> None:
    """Raises: UserError: for values that no file of ours could have; a line each, with the key of the release."""
    there = {here: key for key, here in translation.kept.items()}
    try:
        model.model_validate(content)
    except ValidationError as error:
        mistakes = mistakes_in(error, model)
        lines = (Mistake(there.get(each.key, each.key), each.text, each.known).line() for each in mistakes)
        raise UserError(*(f"{source}: {line}" for line in lines)) from error


def _table(translation: Translation, source: str) -> str:
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
