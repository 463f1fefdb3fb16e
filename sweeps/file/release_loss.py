"""The distiller of a configuration file of the release, with the keys of its block, as a loss of ours."""

from __future__ import annotations

from kdas.errors import brief
from kdas.parts.known import LOSSES
from sweeps.file import release_keys as keys
from sweeps.file.translating import Translation


def translate_loss(translation: Translation, *, is_imagenet: bool) -> None:
    """The loss, its parameters and its weights. Raises: ValueError: if there is no such loss."""
    given, kind = translation.given, translation.distiller
    name = keys.LOSS_OF.get(kind, kind)
    if name not in LOSSES.names():
        known = ", ".join(each.upper() for each in LOSSES.names())
        raise ValueError(f"DISTILLER.TYPE: no loss is called {given['DISTILLER.TYPE']}. Known: {known}")
    translation.keep("DISTILLER.TYPE", "loss.name", name)
    if kind == "none":
        translation.add("kd_weight", 0.0, "NONE distills nothing; the teacher runs here, and is charged")
        translation.add("ce_weight", 1.0, "NONE trains on labels alone")
        return
    if kind == "dot":
        translation.add("optimizer.name", "dot", "the distiller DOT is kd with this optimizer")
    of_block = {kind.upper(), keys.BLOCK_OF.get(name, name.upper())} - {"KDAS"}
    for key in given:
        block, _, inner = key.partition(".")
        if block.upper() in of_block and key not in keys.OF_DOT:
            _translate_key(translation, key, inner, name)
    _add_what_the_code_does(translation, name)
    _add_weights(translation, name)
    if is_imagenet and any("maps" in need for need in LOSSES[name].needs):
        _add_layers(translation, name)


def _translate_key(translation: Translation, key: str, inner: str, name: str) -> None:
    """A key of the distiller's block. Args: inner: the key in it; name: of the loss."""
    value = translation.given[key]
    if inner in keys.OF_DISTILLER:
        translation.keep(key, keys.OF_DISTILLER[inner])
    elif inner.lower() in LOSSES[name].schema.model_fields:
        translation.keep(key, f"loss.{inner.lower()}")
    elif key in keys.LEFT_OUT:
        translation.left_out[key] = keys.LEFT_OUT[key]
    elif key in keys.READ_FROM_MODELS:
        translation.left_out[key] = "read from the models"
    elif key in keys.FIXED and value == keys.FIXED[key]:
        translation.left_out[key] = "fixed here"
    elif key in keys.FIXED:
        translation.lose(key, f"fixed here, at {brief(keys.FIXED[key])}. THIS CHANGES RESULTS")
    else:
        translation.lose(key, f"the loss {name} has no such parameter")


def _add_what_the_code_does(translation: Translation, name: str) -> None:
    """Standardised logits, and the slips of the relatives' code; those of the KDAS release are in its preset."""
    standardizes = "standardize" in LOSSES[name].schema.model_fields
    if standardizes and "EXPERIMENT.LOGIT_STAND" in translation.given:
        translation.keep("EXPERIMENT.LOGIT_STAND", "loss.standardize")
    elif standardizes:
        translation.added["loss.standardize"] = "false; for a run of LogitSTD give true, and loss.temperature 2"
    if not translation.is_of_kdas and name in keys.OF_RELATIVES:
        parameter, value, reason = keys.OF_RELATIVES[name]
        translation.add(f"loss.{parameter}", value, reason)


def _add_weights(translation: Translation, name: str) -> None:
    """The weights that the file does not give, and that of the strong view's cross-entropy, which follows from both."""
    content, usual = translation.content, dict(LOSSES[name].usual)
    given = {key: content[key] for key in usual if key in content}
    if not translation.is_of_kdas:
        for key, weight in {**usual, **keys.WEIGHTS_OF_RELATIVES.get(name, {})}.items():
            if key not in given:
                reason = "mdistiller's default; LogitSTD has another" if name == "kd" else "that of the loss's authors"
                translation.add(key, weight, reason)
    if name == "mlkd" and given and {**usual, **given}["kd_weight"]:
        both = {**usual, **given}
        reason = "both views have the same weight there; kd_weight multiplies this one"
        translation.add("loss.strong_ce_weight", both["ce_weight"] / both["kd_weight"], reason)


def _add_layers(translation: Translation, name: str) -> None:
    models = {"teacher": translation.content["teacher"]["model"], "student": translation.content["student"]}
    for who, model in models.items():
        if model in keys.IMAGENET_MODELS.values():
            translation.add(f"{who}_layers", keys.layers_of(model, name), "the release's maps")
