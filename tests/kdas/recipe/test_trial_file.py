"""The trial file: every mistake is one line that names the file, the key, the value and the remedy."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kdas.errors import UserError, nearest
from kdas.parts.yaml_file import read_yaml
from kdas.recipe.config import TrialConfig, load_trial_config

Load = Callable[[str], TrialConfig]
GOOD = "dataset: digits\nteacher: {model: resnet20}\nstudent: resnet8\n"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def write_and_load(text: str) -> TrialConfig:
        path = tmp_path / "trial.yaml"
        path.write_text(text, encoding="utf-8")
        return load_trial_config(path)

    return write_and_load


def refused(load: Load, text: str, message: str) -> None:
    """Assert that the error is one line: the file, then the given message."""
    with pytest.raises(UserError, match=rf"^[^\n]*trial\.yaml: {message}") as caught:
        load(text)
    assert "\n" not in str(caught.value)


def test_short_file_gets_the_defaults_of_the_paper(load: Load) -> None:
    config = load(GOOD + "sampler: kdas\n")
    assert config.sampler == {
        "name": "kdas",
        "start_rate": 0.6,
        "end_rate": 0.4,
        "sampling_period": [1, 3, 5, 10],
        "exclusion_rate": 0.05,
        "exclusion_hold": 0.625,
        "penalty_factor": 0.5,
        "penalty_lambda": 1000.0,
        "penalty_warmup": 0,
        "threshold": 0.2,
        "warmup_epochs": 0,
        "score_mode": "eval",
    }
    assert config.loss == {"name": "kd", "temperature": 4.0, "direction": "forward", "standardize": False}
    assert (config.epochs, config.batch_size, config.ce_weight, config.kd_weight) == (240, 64, 0.1, 9.0)
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay) == (0.05, 0.9, 5e-4)
    assert (optimizer.schedule, optimizer.final_learning_rate) == ("cosine", 1e-5)
    assert config.validation == 0.1


def test_what_was_read_can_be_written_and_read_again(load: Load) -> None:
    config = load(GOOD + "sampler: {name: kdas, sampling_period: 2}\n")
    assert TrialConfig.model_validate(config.model_dump(mode="json")) == config


def test_paths_are_relative_to_the_trial_file(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load(
        "dataset: {name: parquet, path: set}\nteacher: {model: resnet20, checkpoint: a.pth}\nstudent: resnet8\n"
    )
    assert (config.dataset["path"], config.teacher.checkpoint) == (str(tmp_path / "set"), str(tmp_path / "a.pth"))
    (tmp_path / "elsewhere" / "a.pth").touch()
    assert load(GOOD.replace("resnet20", "resnet20, checkpoint: a.pth")).teacher.checkpoint == str(
        tmp_path / "elsewhere" / "a.pth"
    )


def test_broken_yaml_is_refused_with_line_and_column(load: Load) -> None:
    refused(
        load, "dataset: digits\nteacher: {model: [resnet20\nstudent: resnet8\n", r"line 2, column 18: missing '\]' for"
    )


def test_key_given_twice_is_refused(load: Load) -> None:
    refused(load, GOOD + "epochs: 3\nepochs: 4\n", r"line 5, column 1: the key 'epochs' is given twice")
    refused(load, "teacher: {model: resnet8, model: resnet20}\n", r"line 1, column 27: the key 'model' is given twice")


@pytest.mark.parametrize(
    "text",
    ["? [a, b]\n: 1\n", f"{GOOD}seed: 2020-99-99\n", "seed: \x00\n", "a: &x [*x]\n"],
    ids=["list key", "date", "control character", "loop"],
)
def test_yaml_that_means_nothing_here_is_refused_in_one_line(load: Load, text: str) -> None:
    refused(load, text, r"\S")


def test_merge_keys_are_read_as_yaml_defines_them(load: Load) -> None:
    config = load("student: resnet8\ndataset: digits\nteacher:\n  <<: &t {model: resnet8, seed: 3}\n  seed: 4\n")
    assert (config.teacher.model, config.teacher.seed) == ("resnet8", 4)


def test_unknown_key_is_refused_with_the_nearest_known_one(load: Load) -> None:
    refused(load, GOOD + "epohcs: 3\n", r"epohcs: unknown key\. Did you mean epochs\?$")
    refused(
        load,
        GOOD + "optimizer: {learning_rat: 1}\n",
        r"optimizer\.learning_rat: unknown key\. Did you mean learning_rate\?$",
    )
    refused(
        load,
        GOOD + "sampler: {name: kdas, START_RAT: 1}\n",
        r"sampler\.start_rat: unknown key\. Did you mean start_rate\?$",
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "sampler: {name: kdas, start_rate: 1.4}",
            "sampler.start_rate: expected a value in (0, 1], got 1.4. Fraction of each batch; the paper",
        ),
        (
            "sampler: {name: random, end_rate: 0}",
            "sampler.end_rate: expected a value in (0, 1], got 0. Fraction of each batch; the paper",
        ),
        (
            "sampler: {name: kdas, threshold: 0.5}",
            "sampler.threshold: expected a value in (0, 0.5), got 0.5. Quantile beyond which",
        ),
        ("validation: 0.6", "validation: expected a value in [0, 0.5], got 0.6. Fraction of the training set"),
        (
            "optimizer: {momentum: 1}",
            "optimizer.momentum: expected a value in [0, 1), got 1. Momentum, of all but adamw; by default",
        ),
        (
            "loss: {name: kd, temperature: 0}",
            "loss.temperature: expected a value in (0, 1000], got 0. Distillation temperature; the paper uses 4.",
        ),
        ("batch_size: 1", "batch_size: expected a value in [2, 1000000], got 1. Samples per step; the paper uses 64."),
    ],
)
def test_value_out_of_range_is_refused_with_the_interval_and_a_remedy(load: Load, line: str, message: str) -> None:
    refused(load, f"{GOOD}{line}\n", re.escape(message))


@pytest.mark.parametrize("period", ["0", "[1, 0]", "[]", "two"])
def test_invalid_sampling_period_is_refused_by_name(load: Load, period: str) -> None:
    refused(load, GOOD + f"sampler: {{name: kdas, sampling_period: {period}}}\n", r"sampler\.sampling_period")


@pytest.mark.parametrize(
    "line",
    [
        "sampler: {name: kdas, penalty_lambda: .inf}",
        "loss: {name: kd, temperature: .inf}",
        "optimizer: {learning_rate: .inf}",
        "kd_weight: .inf",
    ],
)
def test_infinite_settings_are_refused(load: Load, line: str) -> None:
    refused(load, f"{GOOD}{line}\n", r".*inf")


def test_not_a_number_is_refused(load: Load) -> None:
    refused(load, GOOD + "kd_weight: .nan\n", r"kd_weight: expected a finite number, got nan\.")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("sampler: kdsa", r"sampler\.name: no sampler is called 'kdsa'\. Did you mean kdas\?"),
        ("loss: kdd", r"loss\.name: no loss is called 'kdd'\. Did you mean kd\?"),
        ("sampler: 3", r"sampler\.name: expected the name of a sampler, got 3\. Known: .*, kdas, .*\."),
        ("sampler: {start_rate: 0.5}", r"sampler\.name: missing\. Known: .*, kdas, .*\."),
        ("sampler: {name: [kdas]}", r"sampler\.name: expected the name of a sampler, got \['kdas'\]\. Known: "),
    ],
)
def test_unknown_part_is_refused_with_the_nearest_known_one(load: Load, line: str, message: str) -> None:
    refused(load, f"{GOOD}{line}\n", message)


def test_unknown_dataset_and_model_are_refused_with_the_nearest_known_one(load: Load) -> None:
    refused(
        load, GOOD.replace("digits", "digit"), r"dataset\.name: no dataset is called 'digit'\. Did you mean digits\?$"
    )
    refused(
        load, GOOD.replace("resnet8", "resnett8"), r"student: no model is called 'resnett8'\. Did you mean resnet8\?$"
    )


@pytest.mark.parametrize("model", ["MobileNetV2", "ShuffleV1", "ResNet50", "wrn_16_2"])
def test_model_in_the_wrong_case_is_refused_with_its_official_name(load: Load, model: str) -> None:
    wrong = model.swapcase()
    refused(
        load,
        GOOD.replace("resnet20", wrong),
        rf"teacher\.model: no model is called '{wrong}'\. Did you mean {model}\?$",
    )


def test_model_of_torchvision_that_is_not_there_is_refused_with_the_nearest(load: Load) -> None:
    refused(
        load,
        GOOD.replace("resnet20", "torchvision/resnet19"),
        r"teacher\.model: torchvision has no classifier 'resnet19'\. Did you mean resnet18\?$",
    )


def test_own_model_that_is_not_there_is_refused_by_its_module(load: Load) -> None:
    refused(
        load,
        GOOD.replace("resnet8", "no_such_package.nets:Net"),
        r"student: no_such_package\.nets:Net: no module no_such_package\. Use a package\.module that can be",
    )


def test_keys_of_the_official_release_are_accepted_in_upper_case(load: Load) -> None:
    block = "{name: kdas, START_RATE: 0.7, SAMPLING_PERIOD: [1, 2], PENALTY_LAMBDA: 10, WARMUP_EPOCHS: 3}"
    sampler = load(f"{GOOD}sampler: {block}\n").sampler
    assert (sampler["start_rate"], sampler["sampling_period"], sampler["penalty_lambda"]) == (0.7, [1, 2], 10)
    assert sampler["warmup_epochs"] == 3 and sampler["end_rate"] == 0.4


def test_parameter_given_in_both_cases_is_refused(load: Load) -> None:
    refused(load, GOOD + "sampler: {name: kdas, START_RATE: 0.7, start_rate: 0.2}\n", r"sampler.*start_rate")


def test_one_period_and_a_list_of_it_are_the_same_setting(load: Load) -> None:
    one, many = (load(f"{GOOD}sampler: {{name: kdas, sampling_period: {p}}}\n") for p in ("3", "[3]"))
    assert one == many


def test_missing_key_is_named_with_a_remedy(load: Load) -> None:
    refused(
        load,
        "dataset: digits\nteacher: {model: resnet8}\n",
        r"student: missing\. Add this key\. Name of a model, for example resnet8\.$",
    )
    refused(load, GOOD.replace("digits", "parquet"), r"dataset\.path: missing\. Add this key\. Folder that contains")


def test_all_mistakes_are_told_each_in_a_line_of_its_own(load: Load) -> None:
    with pytest.raises(UserError, match=r"trial\.yaml: ce_weight: expected") as caught:
        load(
            GOOD + "ce_weight: -1\nkd_weight: -1\nepochs: 0\nepohcs: 3\nsampler: {name: kdas, threshold: 1, start: 2}\n"
        )
    lines = str(caught.value).splitlines()
    assert all(re.match(r".*trial\.yaml: \S+: .*[.?]$", line) for line in lines)
    keys = [line.partition("trial.yaml: ")[2].partition(":")[0] for line in lines]
    assert keys == ["ce_weight", "kd_weight", "epochs", "sampler.threshold", "sampler.start", "epohcs"]


def test_mistakes_between_blocks_are_told_together(load: Load) -> None:
    text = "batch_size: 4\naccumulate: 3\nepochs: 2\nce_weight: 0\nkd_weight: 0\noptimizer: {warmup_epochs: 2}\n"
    with pytest.raises(UserError, match=r"accumulate: splitting a batch of 4 into 3") as caught:
        load(GOOD + text)
    keys = [line.partition("trial.yaml: ")[2].partition(":")[0] for line in str(caught.value).splitlines()]
    assert keys == ["accumulate", "ce_weight", "optimizer.warmup_epochs"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("epochs: 1e9", "epochs: expected a value in [1, 1000000], got 1000000000.0."),
        ("seed: 9223372036854775808", "seed: expected a value in [0, 9223372036854775807], got 9223372036854775808."),
        ("seed: 1e300", "seed: expected a whole number, got 1e+300."),
        ("loss: {name: kd, temperature: 1e300}", "loss.temperature: expected a value in (0, 1000], got 1e+300."),
        ("kd_weight: 0,9", "kd_weight: expected a number, got '0,9'. Write 0.9, with a point."),
        ("epochs: 4:00", "epochs: expected a whole number, got '4:00'. 4:00 is text, not a time; in hours it is 4."),
        ("temperature: 4", "temperature: unknown key. Write it under loss: loss.temperature."),
        ("lr: 0.1", "lr: unknown key. Write it under optimizer: optimizer.learning_rate."),
        ("START_RATE: 0.6", "START_RATE: unknown key. Write it under sampler: sampler.start_rate."),
        ("seeds: 3", "seeds: unknown key. Did you mean seed?"),
        ("zzz: 3", "zzz: unknown key. Remove it; docs/sweep-file.md lists all keys."),
        ("search: {}\nbaselines: {a: full}", "is a sweep file. Run it with make sweep NAME="),
        ("KDAS: {START_RAT: 0.6, THRESHOLD: 7}", "KDAS.threshold: expected a value in (0, 0.5), got 7."),
        ("KDAS: 3", "KDAS: expected a mapping, got 3. Write KDAS: {START_RATE: 0.6, ...}."),
        ("DISTILLER: {TYPE: KD}\nSOLVER: {LR: 0.1}", "is a configuration file of the official release. Translate it"),
    ],
)
def test_mistake_names_what_was_probably_meant(load: Load, lines: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"trial.yaml: {message}")):
        load(f"{GOOD}{lines}\n")


def test_numbers_are_read_as_they_look(load: Load) -> None:
    config = load(GOOD + "epochs: 010\nseed: 0x10\noptimizer: {learning_rate: 1e-3}\n")
    assert (config.epochs, config.seed, config.optimizer.learning_rate) == (10, 16, 0.001)


@pytest.mark.parametrize("lines", ["epohcs: 3", "student: resnt8", "sampler: {name: kdas, threshold: 1}", "loss: kdd"])
def test_mistake_is_told_without_torch(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "trial.yaml"
    path.write_text(
        f"{GOOD.replace('student: resnet8', '') if 'student' in lines else GOOD}{lines}\n", encoding="utf-8"
    )
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print([name for name in ('torch', 'numpy') if name in sys.modules]))\n"
        f"sys.argv = ['kdas', 'train', {str(path)!r}]\n"
        "from kdas.__main__ import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "[]\n"), done.stderr
    assert len(done.stderr.splitlines()) == 1 and "trial.yaml: " in done.stderr


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_empty_file_is_refused(load: Load, text: str) -> None:
    refused(load, text, r"is empty\. Add keys and values\.$")


@pytest.mark.parametrize(("text", "kind"), [("- a\n", "a list"), ("3\n", "3")])
def test_file_that_is_no_mapping_is_refused(load: Load, text: str, kind: str) -> None:
    refused(load, text, rf"expected a mapping of keys to values, got {kind}\. Write key: value on each line\.$")


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read: No such file or directory\. Give the path"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(UserError, match=r"cannot be read: Is a directory"):
        read_yaml(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: Müller".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin\.yaml: cannot be read: it is not UTF-8 text\."):
        read_yaml(tmp_path / "latin.yaml")


def test_hint_names_the_nearest_or_all_or_tells_to_remove() -> None:
    assert nearest("Kdass", ["full", "kdas"]) == "Did you mean kdas?"
    assert nearest("mobilenetv2", ["MobileNetV2", "resnet8"]) == "Did you mean MobileNetV2?"
    assert nearest("x", ["full", "kdas"]) == "Known: full, kdas."
    assert nearest("x", []) == "Remove it."
