"""Presets and their defaults, the `KDAS` block of the official release, and parts from the user's own files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdas.errors import UserError
from kdas.parts.plugins import code_id
from kdas.parts.registry import Registry
from kdas.recipe.config import TrialConfig, load_trial_config
from kdas.samplers import SAMPLERS
from kdas.training.calibrate import subject
from kdas.training.trial import Inputs, Trial

GOOD: dict[str, Any] = {"dataset": "digits", "teacher": {"model": "resnet20"}, "student": "resnet8"}
# As in the release's configuration files.
BLOCK = {
    "START_RATE": 0.7,
    "END_RATE": 0.3,
    "SAMPLING_PERIOD": [1, 2, 3, 4],
    "EXCLUSION_RATE": 0.0,
    "PENALTY_FACTOR": 0.5,
    "PENALTY_LAMBDA": 1000,
    "PENALTY_WARMUP": 0,
    "WARMUP_EPOCHS": 0,
    "THRESHOLD": 0.1,
}
Load = Callable[..., TrialConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def write_and_load(**content: Any) -> TrialConfig:
        path = tmp_path / "trial.yaml"
        path.write_text(yaml.safe_dump({**GOOD, **content}), encoding="utf-8")
        return load_trial_config(path)

    return write_and_load


def test_official_preset_has_the_choices_of_the_release(load: Load) -> None:
    config = load(preset="official", sampler="kdas")
    assert config.validation == 0 and config.loss["direction"] == "reverse"  # type: ignore[call-overload]
    assert config.sampler["score_mode"] == "train" and config.sampler["exclusion_rate"] == 0.05
    assert config.sampler["exclusion_hold"] * config.epochs == 150
    assert (config.ce_weight, config.kd_weight, config.batch_size, config.epochs) == (0.1, 9, 64, 240)
    assert config.optimizer.schedule == "cosine" and config.optimizer.final_learning_rate == 1e-5


@pytest.mark.parametrize(
    ("student", "preset", "learning_rate"),
    [
        ("ShuffleV1", "official", 0.01),
        ("ShuffleV2", "official", 0.01),
        ("MobileNetV2", "official", 0.01),
        ("vgg8", "official", 0.05),
        ("ShuffleV2", "default", 0.05),
        ("ShuffleV2", "paper", 0.05),
    ],
)
def test_official_preset_has_the_learning_rate_of_the_student(
    load: Load, student: str, preset: str, learning_rate: float
) -> None:
    assert load(preset=preset, student=student).optimizer.learning_rate == learning_rate
    optimizer = load(preset=preset, student=student, optimizer={"momentum": 0.5}).optimizer
    assert (optimizer.learning_rate, optimizer.momentum) == (learning_rate, 0.5)
    assert load(preset=preset, student=student, optimizer={"learning_rate": 0.2}).optimizer.learning_rate == 0.2
    teacher = load(preset=preset, student=student, teacher={"model": student}).teacher
    assert teacher.optimizer.learning_rate == 0.05


@pytest.mark.parametrize(
    ("teacher", "student", "preset", "beta"),
    [
        ("vgg13", "vgg8", "official", 6),
        ("vgg13", "MobileNetV2", "official", 6),
        ("wrn_40_2", "wrn_40_1", "official", 6),
        ("resnet56", "resnet20", "official", 2),
        ("resnet32x4", "resnet8x4", "official", 8),
        ("vgg13", "vgg8", "default", 8),
    ],
)
def test_official_preset_has_the_beta_of_the_pair(
    load: Load, teacher: str, student: str, preset: str, beta: float
) -> None:
    pair = {"preset": preset, "teacher": {"model": teacher}, "student": student}
    assert load(**pair, loss="dkd").loss["beta"] == beta  # type: ignore[call-overload]
    assert load(**pair, loss={"name": "dkd", "beta": 3}).loss["beta"] == 3  # type: ignore[call-overload]


def test_paper_preset_excludes_nothing_and_distils_forwards(load: Load) -> None:
    config = load(preset="paper", sampler="kdas")
    assert config.sampler["exclusion_rate"] == 0 and config.sampler["score_mode"] == "eval"
    assert config.loss["direction"] == "forward" and config.validation == 0  # type: ignore[call-overload]


def test_what_the_file_says_overrides_its_preset(load: Load) -> None:
    config = load(
        preset="official",
        validation=0.2,
        sampler={"name": "kdas", "SCORE_MODE": "eval"},
        loss={"name": "kd", "direction": "forward"},
    )
    assert config.validation == 0.2 and config.sampler["score_mode"] == "eval"
    assert config.loss["direction"] == "forward"  # type: ignore[call-overload]


def test_unknown_preset_is_refused(load: Load) -> None:
    with pytest.raises(UserError, match=r"preset: expected 'default', 'official' or 'paper', got 'oficial'\."):
        load(preset="oficial")


@pytest.mark.parametrize("key", ["KDAS", "kdas", "Kdas"])
def test_block_of_the_official_release_is_accepted_as_it_is(load: Load, key: str) -> None:
    config = load(**{key: BLOCK})
    assert config.sampler["name"] == "kdas"
    assert {name: config.sampler[name.lower()] for name in BLOCK} == BLOCK


def test_block_may_replace_a_part_too(load: Load) -> None:
    assert load(sampler={"KDAS": BLOCK}) == load(KDAS=BLOCK)
    assert load(loss={"KD": {"TEMPERATURE": 2}}).loss["temperature"] == 2  # type: ignore[call-overload]


def test_block_and_preset_go_together_and_the_block_wins(load: Load) -> None:
    config = load(preset="paper", KDAS={"EXCLUSION_RATE": 0.1})
    assert config.sampler["exclusion_rate"] == 0.1
    assert load(preset="official", KDAS={"START_RATE": 0.9}).sampler["score_mode"] == "train"


def test_block_does_not_change_another_sampler(load: Load) -> None:
    assert load(KDAS=BLOCK, sampler="random").sampler == SAMPLERS.checked("random")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"KDAS": {"STRAT_RATE": 0.5}}, r"KDAS\.strat_rate: unknown key\. Did you mean start_rate\?"),
        ({"KDAS": {"START_RATE": 1.5}}, r"KDAS\.start_rate: expected a value in \(0, 1\], got 1\.5\."),
        ({"KDAS": 3}, r"KDAS: expected a mapping, got 3\. Write KDAS: \{START_RATE: 0\.6"),
        ({"KDAS": BLOCK, "kdas": BLOCK}, r"kdas: is given twice\. Keep one block\."),
        ({"loss": []}, r"loss: expected a loss, got an empty list\. Name one\."),
        (
            {"loss": ["kd"]},
            r"loss\.0\.weight: expected a weight of at least 0, got None\. Give each loss of a list a weight\.",
        ),
        ({"loss": [{"name": "kd", "weight": -1}]}, r"loss\.0\.weight: expected a weight of at least 0, got -1\."),
        (
            {"loss": [{"name": "kd", "weight": 1}, {"name": "ndd", "weight": 1}]},
            r"loss\.1\.name: no loss is called 'ndd'\. Did you mean nd\?",
        ),
        (
            {"loss": [{"name": "kd", "weight": 1, "temperature": 0}]},
            r"loss\.0\.temperature: expected a value in \(0, 1000\], got 0\.",
        ),
        ({"loss": {"name": "kd", "weight": 1}}, r"loss\.weight: unknown key"),
        ({"loss": 3}, r"loss\.name: expected the name of a loss, got 3\. Known: "),
    ],
)
def test_mistakes_are_one_line_with_key_and_remedy(load: Load, content: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^[^\n]*trial\.yaml: {message}"):
        load(**content)


SAMPLER_OF_ONES_OWN = '''"""Every other sample."""
import torch
from kdas.samplers import SAMPLERS, EpochPlan
from kdas.samplers.subsets import Unselective


@SAMPLERS.register("every_{step}th", source="a test")
class EveryNth(Unselective):
    """Every nth sample."""

    def plan(self, epoch):
        return EpochPlan(torch.arange(0, self.context.num_samples, {step}), self.context.batch_size, 1 / {step})
'''


def test_sampler_from_a_file_of_ones_own_trains(
    load: Load, tmp_path: Path, small_inputs: Inputs, finished: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(SAMPLER_OF_ONES_OWN.format(step=4), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = load(plugins=["mine.py"], sampler="every_4th")
    assert config.plugins == [str(tmp_path / "mine.py")]
    assert TrialConfig(**config.model_dump()) == config
    _, rows = finished(plugins=["mine.py"], sampler="every_4th", epochs=1)
    assert rows[-1].samples_trained == 25
    before = Trial(config, small_inputs).config_id
    (tmp_path / "mine.py").write_text(SAMPLER_OF_ONES_OWN.format(step=4) + "# edited\n", encoding="utf-8")
    code_id.cache_clear()  # the next process
    assert Trial(config, small_inputs).config_id != before


def test_own_module_is_found_in_the_current_directory(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_samplers_of_a_test.py").write_text(SAMPLER_OF_ONES_OWN.format(step=5), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load(plugins=["my_samplers_of_a_test"], sampler="every_5th").sampler == {"name": "every_5th"}


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("missing.py", None, r"plugins: /.*missing\.py: no such file\. Give its path relative to the file"),
        (
            "no_such_module",
            None,
            r"plugins: no_such_module: no module no_such_module\. Use a package\.module that can be imported from",
        ),
        ("bad.py", "1 / 0\n", r"plugins: /.*bad\.py: its import failed: ZeroDivisionError: .*bad\.py, line 1\)\. Fix"),
        (
            "twice.py",
            "from kdas.samplers import SAMPLERS\nSAMPLERS.register('full', source='x')(dict)\n",
            r"plugins: /.*twice\.py: line \d+: the sampler name 'full' is taken by kdas\.samplers\.subsets\. Choose",
        ),
    ],
)
def test_plugin_that_cannot_be_loaded_is_one_line(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: str | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if code is not None:
        (tmp_path / name).write_text(code, encoding="utf-8")
    with pytest.raises(UserError, match=rf"^[^\n]*trial\.yaml: {message}"):
        load(plugins=[name])


def test_parameter_that_no_file_could_give_is_refused_when_a_part_registers() -> None:
    registry: Registry[Any] = Registry("thing")

    def capital(*, T_max: int = 1) -> None: ...  # noqa: N803

    def reserved(*, weight: float = 1.0) -> None: ...

    def untyped(*, scale=1.0) -> None: ...  # type: ignore[no-untyped-def]

    for factory, message in (
        (capital, "'T_max', which a file cannot set"),
        (reserved, "'weight', which a file cannot set"),
        (untyped, "'scale' without a type. Annotate it"),
    ):
        with pytest.raises(ValueError, match=f"^the thing 'odd' has a parameter {message}"):
            registry.register("odd", source="a test")(factory)
    assert registry.names() == []


LOSS_OF_ONES_OWN = '''"""A loss made by partial application."""
from functools import partial
from kdas.losses import LOSSES

def build(tag, *, scale: float = {scale}):
    """Scaled distance of logits."""
    return lambda student_logits, teacher_logits, targets: scale * (student_logits - teacher_logits).pow(2).sum(1)

LOSSES.register("scaled_{tag}", source="a test")(partial(build, "x"))
'''


def test_edited_loss_is_another_trial_with_its_own_prices(
    load: Load, tmp_path: Path, small_inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scaled.py").write_text(LOSS_OF_ONES_OWN.format(scale=1.0, tag="a"), encoding="utf-8")
    trial = Trial(load(plugins=["scaled.py"], loss="scaled_a"), small_inputs)
    config_id, measured_on = trial.config_id, subject(trial.config, trial.inputs)
    (tmp_path / "scaled.py").write_text(LOSS_OF_ONES_OWN.format(scale=2.0, tag="a"), encoding="utf-8")
    code_id.cache_clear()  # the next process
    assert Trial(trial.config, small_inputs).config_id != config_id
    assert subject(trial.config, trial.inputs) != measured_on
    assert "code" not in subject(load(), trial.inputs)


def test_list_shows_parts_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "listed.py").write_text(LOSS_OF_ONES_OWN.format(scale=1.0, tag="b"), encoding="utf-8")
    command = [sys.executable, "-m", "kdas", "list", "losses", "--plugin", str(tmp_path / "listed.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "scaled_b" in done.stdout and "scale (1.0)" in done.stdout
    done = subprocess.run([*command[:-1], "missing.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("list: --plugin missing.py: no such file.")
