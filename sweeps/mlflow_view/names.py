"""Names in MLflow: of a trial's run, of the settings that it does not share with others, of models and aliases."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# The parameter with the name of a trial's method.
METHOD = "METHOD"
_BRIEF = {
    "start_rate": "start",
    "end_rate": "end",
    "penalty_lambda": "lambda",
    "threshold": "thr",
    "sampling_period": "period",
    "learning_rate": "lr",
    "weight_decay": "wd",
}
_LONGEST_NAME = 250
# The alias of the sweep's best student.
BEST = "best"
# Aliases that MLflow or we use otherwise: "v1" would be a version.
_RESERVED = re.compile(rf"latest|v\d+|{BEST}", re.IGNORECASE)


@dataclass(frozen=True)
class Varied:
    """In what the trials of a sweep differ.

    `names`: settings that some method sets or searches. `mixed`: of these, those that are numbers in some trials and
    lists or words in others; all are written as text, because the page's chart of parallel coordinates drops the trials
    whose value is of the rarer kind. `log`: those that are searched on a logarithmic scale.
    """

    names: tuple[str, ...] = ()
    mixed: frozenset[str] = frozenset()
    log: frozenset[str] = frozenset()


def log_name(short: str) -> str:
    """The name of a parameter's logarithm, since the page's axes are linear."""
    return f"{short}_LOG10"


def settings(description: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a trial that its method sets or searches, from its configuration in words.

    Words that name no setting, such as `every sample`, are left out.
    """
    known = set(_keys(description["config"]))
    parts = (part.partition(" ") for part in str(description["configuration"]).split(" · "))
    return {name: value for name, _, value in parts if value and name.rpartition(".")[2] in known}


def short_names(names: Iterable[str]) -> dict[str, str]:
    """A short name for each setting: its last word in capitals, as the paper writes the parameters of KDAS.

    MLflow's comparison of runs shows the first three parameters that differ, and sorts capitals before other letters.
    """
    short: dict[str, str] = {}
    for name in names:
        last = name.rpartition(".")[2].upper()
        short[name] = name.upper() if last in short.values() else last
    return short


def run_name(description: Mapping[str, Any]) -> str:
    """The name of a trial's run, such as `kdas_search start=.6 end=.4 seed=1`."""
    words = [f"{_brief(name)}={_number(value)}" for name, value in settings(description).items()]
    return " ".join([str(description["method"]), *words, f"seed={description['config']['seed']}"])[:_LONGEST_NAME]


def as_name(text: str) -> str:
    """Text as a name that MLflow accepts for a logged model."""
    return re.sub(r"[^\w-]", "-", text)[:_LONGEST_NAME]


def aliases(methods: Iterable[str]) -> dict[str, str]:
    """An alias for each method that MLflow accepts: its name, if that is one. All differ, also from `BEST`."""
    found: dict[str, str] = {}
    # Methods whose names are aliases come first, so that no other method takes theirs.
    for method in sorted(methods, key=lambda each: (as_name(each) != each, each)):
        usual = as_name(method)
        if not usual or _RESERVED.fullmatch(usual):
            usual = f"method-{usual}"
        taken = {alias.lower() for alias in found.values()}
        names = (f"{usual[: _LONGEST_NAME - 5]}-{number}" for number in itertools.count(2))
        found[method] = next(name for name in itertools.chain([usual], names) if name.lower() not in taken)
    return found


def _brief(name: str) -> str:
    last = name.rpartition(".")[2]
    return _BRIEF.get(last, last)


def _number(text: str) -> str:
    """A number with three digits, as short as it can be: `.6`, `1e3`. Other text without spaces."""
    try:
        shown = f"{float(text):.3g}"
    except ValueError:
        return text.replace(", ", ",").replace(" ", "_")
    mantissa, _, exponent = shown.partition("e")
    if not exponent and mantissa.endswith("000"):
        digits = mantissa.rstrip("0")
        mantissa, exponent = digits, str(len(mantissa) - len(digits))
    mantissa = mantissa.replace("0.", ".", 1) if mantissa.startswith(("0.", "-0.")) else mantissa
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def _keys(config: Mapping[str, Any]) -> Iterable[str]:
    for key, value in config.items():
        yield key
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield from _keys(each)
