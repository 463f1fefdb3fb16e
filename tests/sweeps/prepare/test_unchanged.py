"""A sweep resumes only if what decides its results has not changed since it began."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdas.data.survey import Survey
from kdas.errors import UserError
from kdas.parts.plugins import code_id
from kdas.recipe.config import Recipe, TrialConfig
from kdas.training.trial import Inputs
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.prepare.unchanged import check_inputs, check_spec, keep_spec, spec_text
from sweeps.record.directory import SweepDirectory
from tests.sweeps.conftest import train_on_paper

PLUGIN = """from kdas.samplers import SAMPLERS
from kdas.samplers.subsets import Full
if "of_a_sweep" not in SAMPLERS.names():
    SAMPLERS.register("of_a_sweep", source="a test")(Full)
"""


def recipe_of(spec: SweepSpec, **changed: Any) -> TrialConfig:
    return TrialConfig(**{**{name: getattr(spec, name) for name in Recipe.model_fields}, **changed})


@pytest.mark.parametrize(
    "changes", [{"seeds": [1, 2, 3]}, {"data_workers": 5}, {"resources": {"trials_at_once": 1}}], ids=str
)
def test_what_changes_no_result_may_change(spec: SweepSpec, directory: SweepDirectory, changes: dict[str, Any]) -> None:
    directory.spec_file.write_text(spec_text(spec), encoding="utf-8")
    check_spec(SweepSpec.model_validate({**spec.model_dump(), **changes}), directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kd_weight": 3.0}, r"kd_weight was 9\.0 when this sweep began and is 3\.0 now"),
        ({"precision": "bfloat16"}, "precision was float32"),
        (
            {"sampler": {"name": "kdas", "threshold": 0.1}},
            r"sweep\.yaml: sampler\.threshold was 0\.2 when .* is 0\.1 now",
        ),
        (
            {"sampler": {"name": "random"}, "search": {"end_rate": [0.3]}, "known_points": []},
            r"sweep\.yaml: sampler was \{'name': 'kdas', ",
        ),
        (
            {"search": {"start_rate": {"low": 0.2, "high": 0.8}, "sampling_period": [[1, 3, 5, 10], 1, 3]}},
            r"sweep\.yaml: search\.start_rate\.high was 0\.9 when this sweep began and is 0\.8 now\. Wider ranges and"
            r" more choices are allowed\. Save the changed file under another name",
        ),
        (
            {"baselines": {"plain_kd": "full", "rs2": "random", "kdas_paper": "kdas", "more": "top_loss"}},
            r"sweep\.yaml: baselines\.more was missing when this sweep began and is \{'name': 'top_loss', .* now",
        ),
        (
            {"baselines": {"plain_kd": "full", "rs2": "random"}},
            r"sweep\.yaml: baselines\.kdas_paper was \{'name': 'kdas', .* when this sweep began and is missing now",
        ),
        ({"seeds": [1]}, r"seeds: \[2\] have run but are missing from the file"),
        ({"budget": {"ref_s_per_trial": 9.0}}, r"budget\.ref_s_per_trial was None when this sweep began and is 9\.0"),
    ],
    ids=str,
)
def test_what_changes_results_is_refused_by_name(
    spec: SweepSpec, directory: SweepDirectory, changes: dict[str, Any], message: str
) -> None:
    directory.spec_file.write_text(spec_text(spec), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        check_spec(SweepSpec.model_validate({**spec.model_dump(), **changes}), directory)


def test_seeds_of_the_confirmation_cannot_move_to_the_search(spec: SweepSpec, directory: SweepDirectory) -> None:
    confirmed = {**spec.model_dump(), "confirm": {"top": 1, "seeds": [11, 12]}}
    directory.spec_file.write_text(spec_text(SweepSpec.model_validate(confirmed)), encoding="utf-8")
    check_spec(SweepSpec.model_validate({**confirmed, "confirm": {"top": 2, "seeds": [11, 12, 13]}}), directory)
    moved = SweepSpec.model_validate({**confirmed, "seeds": [1, 2, 11], "confirm": {"top": 1, "seeds": [21]}})
    check_spec(moved, directory)  # the confirmation has not begun
    run_on(spec, directory, [1, 2, 11])
    with pytest.raises(UserError, match=r"seeds: \[11\] were used for the confirmation"):
        check_spec(moved, directory)


def run_on(spec: SweepSpec, directory: SweepDirectory, seeds: list[int]) -> None:
    """The baselines on these seeds."""
    for job in plan_of(spec.model_copy(update={"seeds": seeds})).baselines:
        train_on_paper(directory, job, [0.5])


def test_only_the_seeds_that_a_confirmation_has_used_are_used(spec: SweepSpec, directory: SweepDirectory) -> None:
    """A confirmation until its answer is decided may use 30, and often uses fewer."""
    content = {**spec.model_dump(), "confirm": {"top": 1, "until": "decided"}}
    directory.spec_file.write_text(spec_text(SweepSpec.model_validate(content)), encoding="utf-8")
    run_on(spec, directory, [1, 2])
    run_on(spec, directory, list(range(1001, 1007)))

    def with_seeds(seeds: list[int], most: int) -> SweepSpec:
        confirm = {"top": 1, "until": "decided", "most": most}
        return SweepSpec.model_validate({**content, "seeds": seeds, "confirm": confirm})

    check_spec(with_seeds([1, 2, 1007, 1030], 6), directory)
    # Nor are they forgotten by a start without a confirmation.
    keep_spec(SweepSpec.model_validate({**content, "confirm": False}), directory)
    check_spec(with_seeds([1, 2, 1007], 6), directory)
    for seed in (1001, 1006):
        without = SweepSpec.model_validate({**content, "seeds": [1, 2, seed], "confirm": False})
        with pytest.raises(UserError, match=rf"seeds: \[{seed}\] were used for the confirmation"):
            check_spec(without, directory)


def test_sweep_from_before_a_key_existed_can_resume(spec: SweepSpec, directory: SweepDirectory) -> None:
    recorded = yaml.safe_load(spec_text(spec))
    for later in ("objective", "scheduler", "confirm", "faults", "cells"):
        del recorded[later]
    for values in recorded["search"].values():
        del values["step"], values["when"]
    recorded["plugins"] = ["/was/once/here.py"]
    directory.spec_file.write_text(yaml.safe_dump(recorded), encoding="utf-8")
    usual = {"scheduler": "racing", "confirm": {"top": 1}}
    check_spec(SweepSpec.model_validate({**spec.model_dump(), **usual}), directory)
    with pytest.raises(UserError, match=r"objective was \{'name': 'tta'\} when this sweep began"):
        check_spec(
            SweepSpec.model_validate({**spec.model_dump(), **usual, "objective": "pareto", "scheduler": "none"}),
            directory,
        )


def test_lines_added_to_the_recorded_file_are_noticed(spec: SweepSpec, directory: SweepDirectory) -> None:
    keep_spec(spec, directory)
    with directory.spec_file.open("a", encoding="utf-8") as file:
        file.write("device: cuda\n")
    with pytest.raises(UserError, match=r"sweep\.yaml: is damaged\. Restore it from a copy"):
        check_spec(spec, directory)


def test_record_that_this_version_cannot_read_is_one_line(spec: SweepSpec, directory: SweepDirectory) -> None:
    directory.spec_file.write_text(yaml.safe_dump({**spec.model_dump(mode="json"), "epoch": 3}), encoding="utf-8")
    with pytest.raises(UserError, match=r"sweep\.yaml: epoch: unknown key\..* Another version"):
        check_spec(spec, directory)


def test_other_data_and_another_teacher_are_refused(spec: SweepSpec, directory: SweepDirectory, inputs: Inputs) -> None:
    recipe = recipe_of(spec)
    check_inputs(directory, inputs, recipe)
    check_inputs(directory, inputs, recipe)
    with pytest.raises(UserError, match=r"the images or labels have changed .* and is others\. Restore the data, or"):
        check_inputs(directory, replace(inputs, dataset=replace(inputs.dataset, fingerprint="others")), recipe)
    with pytest.raises(UserError, match=r"the teacher's weights have changed .* and is others\. Restore its checkp"):
        check_inputs(directory, replace(inputs, teacher=replace(inputs.teacher, weights_id="others")), recipe)


def test_images_that_another_version_decoded_otherwise_are_told(
    spec: SweepSpec, directory: SweepDirectory, inputs: Inputs
) -> None:
    recipe = recipe_of(spec)
    check_inputs(directory, inputs, recipe)
    now = Survey(is_plain=False).fingerprint(inputs.dataset.fingerprint)
    with pytest.raises(UserError, match=r"images are turned, .* decodes them otherwise .* Finish it with that version"):
        check_inputs(directory, replace(inputs, dataset=replace(inputs.dataset, fingerprint=now)), recipe)
    with pytest.raises(UserError, match=rf"this sweep began on {inputs.device}, and cuda:7 is used now\. Run it on"):
        check_inputs(directory, replace(inputs, device="cuda:7"), recipe)


def test_edited_code_of_ones_own_is_refused(
    spec: SweepSpec, directory: SweepDirectory, inputs: Inputs, tmp_path: Path
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    recipe = recipe_of(spec, plugins=[str(plugin)])
    check_inputs(directory, inputs, recipe)
    check_inputs(directory, inputs, recipe)
    plugin.write_text(f"{PLUGIN}# edited\n", encoding="utf-8")
    code_id.cache_clear()  # the next process
    with pytest.raises(
        UserError, match=r"the code of your own has changed since this sweep began\. Restore your files"
    ):
        check_inputs(directory, inputs, recipe)
