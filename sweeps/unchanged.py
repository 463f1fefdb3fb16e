"""A sweep that has begun goes on only with the file, the data and the code that it began with."""

from __future__ import annotations

import json

import yaml

from kdas.cache import write_text
from kdas.config import TrialConfig
from kdas.plugins import plugin_ids
from kdas.records import UserError
from kdas.trial import Inputs, priced_code
from sweeps.spec import SweepSpec
from sweeps.store import SweepDirectory

# What may differ between two starts of one sweep: more seeds or configurations extend it, plug-ins are compared by
# their content, and the others change no result.
_MAY_CHANGE = {"seeds", "budget", "plugins", "preset", "resources", "data_workers"}


def spec_text(spec: SweepSpec) -> str:
    """The resolved sweep, every default written out, as YAML."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def check_spec(spec: SweepSpec, directory: SweepDirectory) -> None:
    """Refuse a sweep file that contradicts what was run under this name."""
    if not directory.spec_file.exists():
        return
    before = yaml.safe_load(directory.spec_file.read_text(encoding="utf-8"))
    now = yaml.safe_load(spec_text(spec))
    for content in (before, now):
        for key in ("path", "keep"):  # the same data may lie elsewhere; its content is compared below
            content["dataset"].pop(key, None)
        content["teacher"]["checkpoint"] = bool(content["teacher"]["checkpoint"])
    for key, value in now.items():
        if key not in _MAY_CHANGE and before.get(key) != value:
            raise UserError(
                f"{directory.spec_file}: {key} was {before.get(key)} when this sweep began and is {value} now."
                " Give the changed file another name, or move that folder away."
            )
    missing = [seed for seed in before["seeds"] if seed not in now["seeds"]]
    if missing:
        raise UserError(
            f"{directory.spec_file}: seeds {missing} were run and are gone now. Keep them; more may be added."
        )


def check_inputs(directory: SweepDirectory, inputs: Inputs, recipe: TrialConfig) -> None:
    """Refuse other data, another teacher or edited code under the name of a sweep that has begun."""
    now = {
        "dataset": inputs.dataset.fingerprint,
        "teacher weights": inputs.teacher.weights_id,
        "device": inputs.device,
        "code of your own": " ".join([*priced_code(recipe), *plugin_ids(recipe.plugins)]),
    }
    if not directory.inputs_file.exists():
        write_text(directory.inputs_file, json.dumps(now, indent=1))
        return
    before = json.loads(directory.inputs_file.read_text(encoding="utf-8"))
    for key, value in now.items():
        if before.get(key, "") != value:
            raise UserError(
                f"{directory.path}: its {key} was {before.get(key)} when it began and is {value} now."
                " Bring it back, or move that folder away."
            )
