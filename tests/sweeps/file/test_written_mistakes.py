"""Mistakes in what a sweep file says as text: YAML, numbers, bounds, keys at another level."""

# ruff: noqa: E501 (a mistake and its line stand side by side, as they are printed)

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.sweeps.file.refusals import BASE, refusal

# What a file says as text, since a dumped one would put it in quotes. (lines after those of the tiny sweep, without the
# keys that they replace; the line after the file's name)
WRITTEN: list[tuple[str, str]] = [
    # YAML 1.2
    (
        "budget: {wall_hours: 1:30}",
        "budget.wall_hours: expected a number, got '1:30'. 1:30 is text, not a time; in hours it is 1.5.",
    ),
    ("search: {penalty_lambda: [1_000]}", "search.penalty_lambda: expected a number, got '1_000'. Write 1000."),
    ("search: {threshold: ['0.1']}", "search.threshold: expected a number, got '0.1'. Quantile beyond which"),
    ("epochs: 2026-01-31", "epochs: expected a whole number, got '2026-01-31'. 2026-01-31 is text, not a date."),
    ("epochs: 0o400000000", "epochs: expected a value in [1, 1000000], got 67108864."),
    ("confirm: off", "confirm: expected true, false or a mapping, got 'off'. off is text; write false."),
    ("confirm: yes", "confirm: expected true, false or a mapping, got 'yes'. yes is text; write true."),
    ("multi_crop: maybe", "multi_crop: expected true or false, got 'maybe'. Whether to evaluate the mean"),
    (
        "search: {loss.standardize: [yes, no]}",
        "search.loss.standardize: expected true or false, got 'yes'. yes is text; write true.",
    ),
    ("baselines: {off: full, on: full}", "baselines.on: is the same method as off. Remove one of them."),
    (
        "seeds: " + "[" * 20_000,
        "line 10, column 57: more than 50 levels of brackets or indentation. Fix the YAML there.",
    ),
    ("epochs: " + "9" * 5000, "line 10, column 9: a number of 5000 digits. Fix the YAML there."),
    ("epochs: !!float 3", "line 10, column 9: the tag !!float, which no setting needs. Fix the YAML there."),
    # Values that are written in another way
    (
        "search: {start_rate: {low: '0,3', high: 0.9}}",
        "search.start_rate.low: expected a number, got '0,3'. Write 0.3, with a point.",
    ),
    ("target: 0,95", "target: expected a number or a mapping, got '0,95'. Write 0.95, with a point."),
    ("kd_weight: 50%", "kd_weight: expected a number, got '50%'. Write 0.5."),
    (
        "epochs: twelve",
        "epochs: expected a whole number, got 'twelve'. Number of epochs, the length of all schedules; the paper uses 240.",
    ),
    ("epochs:", "epochs: expected a whole number, got None. The key has no value: give one, or remove the key."),
    (
        "epochs\u00a0: 3",
        "line 10, column 1: contains an invisible character (no-break space). Replace it with a plain space, or remove it.",
    ),
    ("'epochs\u00a0': 3", "epochs\u00a0: contains an invisible character (no-break space). Write epochs."),
    (
        "search: {threshold: ['0.1\u00a0']}",
        "search.threshold: expected a number, got '0.1\\xa0'. It contains an invisible character (no-break space); write 0.1.",
    ),
    ("'\u200bepochs': 3", "\u200bepochs: contains an invisible character (zero width space). Write epochs."),
    ("evaluations: [6, 12]", "evaluations: expected a whole number, got [6, 12]. Number of evaluations,"),
    (
        "baselines: [full, kdas]",
        "baselines: expected a name for each sampler, got a list. Write baselines: {plain_kd: full, kdas: kdas}.",
    ),
    (
        "baselines: [{name: full}]",
        "baselines: expected a name for each sampler, got a list. Write baselines: {plain_kd: full, rs2: random}.",
    ),
    ("baselines: full", "baselines: expected a mapping, got 'full'."),
    ("10: 3", "10: "),
    ("budget: {wall_hours: 2h}", "budget.wall_hours: expected a number, got '2h'. Write a number without a unit. Wall"),
    (
        "sampler: {name: kdas, sampling_period: '1,3,5,10'}",
        "sampler.sampling_period: expected a list, got '1,3,5,10'. Write [1, 3, 5, 10].",
    ),
    (
        "dataset: {name: image_folder, path: x, mean: 0.5}",
        "dataset.mean: expected a list, got 0.5. Mean of each channel, in [0, 1]; by default ImageNet's.",
    ),
    # Parts of a URL are no folder
    (
        "dataset: {name: parquet, path: hf://datasets/mnist}",
        "dataset.path: expected a folder on this machine, got 'hf://datasets/mnist'. Download it, and give the folder.",
    ),
    (
        "teacher: {model: resnet8, checkpoint: 'https://x.org/a.pth'}",
        "teacher.checkpoint: expected a file on this machine, got 'https://x.org/a.pth'. Download it, and give the file.",
    ),
    # Methods
    (
        "baselines: {plain_kd: full, r: {sampler: random, start_rate: 0.5}}",
        "baselines.r.start_rate: is a parameter of random. Write sampler: {name: random, start_rate: ...}.",
    ),
    (
        "baselines: {plain_kd: full, r: {sampler: {name: random}, START_RATE: 0.5}}",
        "baselines.r.START_RATE: is a parameter of random. Write sampler: {name: random, START_RATE: ...}.",
    ),
    (
        "baselines: {plain_kd: full, r: {sampler: random, teacher: resnet20}}",
        "baselines.r.teacher: expected a mapping, got 'resnet20'. Known keys: model, checkpoint,",
    ),
    (
        "baselines: {plain_kd: full, r: {sampler: random, validation: 0.3}}",
        "baselines.r.validation: unknown key. Write it at the top level: validation.",
    ),
    # Seeds
    ("seeds: 1,2,3", "seeds: expected a whole number or a list, got '1,2,3'. Write [1, 2, 3]."),
    ("seeds: 0", "seeds: expected at least 1 seed, got 0. Give a number of seeds, or a list of seeds."),
    ("seeds: -3", "seeds: expected at least 1 seed, got -3. Give a number of seeds, or a list of seeds."),
    ("seeds: 2.5", "seeds: expected a whole number or a list, got 2.5. Number of seeds, or a list of seeds."),
    ("seeds: [1, 2.5]", "seeds.1: expected a whole number, got 2.5. Number of seeds, or a list of seeds."),
    ("seeds: []", "seeds: expected at least one entry, got none. Number of seeds, or a list of seeds."),
    ("seeds: 20240101", "seeds: expected at most 1000 seeds, got 20240101. Did you mean seeds: [20240101]?"),
    (
        "confirm: {seeds: 20240101}",
        "confirm.seeds: expected at most 1000 seeds, got 20240101. Did you mean seeds: [20240101]?",
    ),
    (
        "seeds: [9223372036854775808]",
        "seeds.0: expected at most 9223372036854775807, got 9223372036854775808. Number of seeds, or a list of seeds.",
    ),
    (f"seeds: {list(range(1001))}", "seeds: expected at most 1000 entries, got 1001."),
    (
        "algorithm: {seed: 4294967296}",
        "algorithm.seed: expected a value in [0, 4294967296), got 4294967296. Seed of the proposals.",
    ),
    # Bounds
    ("epochs: 1e9", "epochs: expected a value in [1, 1000000], got 1000000000.0."),
    ("evaluations: 100000000", "evaluations: expected a value in [1, 1000000], got 100000000."),
    (
        "optimizer: {learning_rate: 1e300}",
        "optimizer.learning_rate: expected a value in (0, 1e+15], got 1e+300. Learning rate; the paper uses 0.05.",
    ),
    ("optimizer: {learning_rate: 1e999}", "optimizer.learning_rate: expected a finite number, got inf."),
    (
        "loss: {name: kd, temperature: 1e300}",
        "loss.temperature: expected a value in (0, 1000], got 1e+300. Distillation temperature; the paper uses 4.",
    ),
    (
        "loss: [{name: kd, weight: 1e300}]",
        "loss.0.weight: expected a weight of at most 1000000, got 1e+300. Give each loss of a list a weight.",
    ),
    ("kd_weight: 1e300", "kd_weight: expected a value in [0, 1000000], got 1e+300."),
    ("batch_size: 100000000000", "batch_size: expected a value in [2, 1000000], got 100000000000."),
    (
        "budget: {configurations: 1000000000}",
        "budget.configurations: expected a value in [1, 1000000], got 1000000000.",
    ),
    (
        "search: {penalty_lambda: [1, .inf]}",
        "search.penalty_lambda: expected a finite number, got inf. Weight lost per nat; 0 turns the penalty off.",
    ),
    (
        "search: {optimizer.learning_rate: [0.1, .nan]}",
        "search.optimizer.learning_rate: expected a finite number, got nan. Learning rate; the paper uses 0.05.",
    ),
    ("search: {penalty_lambda: [1, 1e300]}", "search.penalty_lambda: expected a value in [0, 1000000000], got 1e+300."),
    ("search: {start_rate: {low: 0.1, high: .inf}}", "search.start_rate.high: expected a finite number, got inf."),
    (
        "search: {loss.temperature: {low: 1, high: 1e300}}",
        "search.loss.temperature: expected a value in (0, 1000], got 1e+300.",
    ),
    ("known_points: [{start_rate: .nan}]", "known_points.0"),
    (
        f"cells: {{epochs: {list(range(1, 21))}, evaluations: {list(range(1, 21))}}}",
        "cells: expected at most 200 cells, got 400. Shorten the lists.",
    ),
    ("plugins: [.]", "plugins: .: expected the path of a .py file, or a package.module."),
    ("dataset: {name: parquet, path: ''}", "dataset.path: expected text, got ''. Folder that contains train*.parquet"),
    ("epochs: 1,000", "epochs: expected a whole number, got '1,000'. Write 1000."),
    (
        "cells: {" + ", ".join(f"c{number}: {{epochs: {number}}}" for number in range(1, 202)) + "}",
        "cells: expected at most 200 cells, got 201. Divide them among several files.",
    ),
    ("loss: [" + "{name: kd, weight: 1}," * 101 + "]", "loss: expected at most 100 losses, got 101."),
    (
        f"search: {{threshold: {list(range(1001))}}}",
        "search.threshold.choices: expected at most 1000 entries, got 1001.",
    ),
    (
        f"search: {{batch_size: {list(range(2, 102))}, accumulate: {list(range(1, 101))}}}",
        "search: batch_size and accumulate have 10000 combinations, too many to check. Give fewer choices.",
    ),
    (
        f"baselines: {{{', '.join(f'b{n}: full' for n in range(101))}}}",
        "baselines: expected at most 100 entries, got 101.",
    ),
    (
        "search: {penalty_warmup: {low: 0, high: 1000000}}\nalgorithm: grid",
        "algorithm: grid tries every value, but search.penalty_warmup has infinitely many. Give it a step or choices.",
    ),
    # Keys at another level
    ("learning_rate: 0.1", "learning_rate: unknown key. Write it under optimizer: optimizer.learning_rate."),
    ("lr: 0.1", "lr: unknown key. Write it under optimizer: optimizer.learning_rate."),
    ("momentum: 0.9", "momentum: unknown key. Write it under optimizer: optimizer.momentum."),
    ("temperature: 4", "temperature: unknown key. Write it under loss: loss.temperature."),
    ("START_RATE: 0.6", "START_RATE: unknown key. Write it as sampler.start_rate or search.start_rate."),
    ("wall_hours: 3", "wall_hours: unknown key. Write it under budget: budget.wall_hours."),
    ("trials_at_once: 2", "trials_at_once: unknown key. Write it under resources: resources.trials_at_once."),
    ("checkpoint: a.pth", "checkpoint: unknown key. Write it under teacher: teacher.checkpoint."),
    ("path: data", "path: unknown key. Write it under dataset: dataset.path."),
    ("seed: 3", "seed: unknown key. Did you mean seeds? Or write it as teacher.seed or algorithm.seed."),
    ("budget: {seeds: 3}", "budget.seeds: unknown key. Write it at the top level: seeds."),
    (
        "teacher: {model: resnet8, lr: 0.1}",
        "teacher.lr: unknown key. Write it under teacher.optimizer: teacher.optimizer.learning_rate.",
    ),
    (
        "sampler: {name: kdas, temperature: 4}",
        "sampler.temperature: unknown key. Write it under loss: loss.temperature.",
    ),
    ("search: {lr: [0.1]}", "search.lr: is not a parameter of kdas. Did you mean optimizer.learning_rate?"),
    ("search: {temperature: [4]}", "search.temperature: is not a parameter of kdas. Did you mean loss.temperature?"),
    (
        "cells: {a: {learning_rate: 0.1}}",
        "cells.a.learning_rate: unknown key. Write it under optimizer: optimizer.learning_rate.",
    ),
    ("zzz: 1", "zzz: unknown key. Remove it; docs/sweep-file.md lists all keys."),
    # Optimizers
    (
        "optimizer: {name: adam}",
        "optimizer.name: expected 'sgd', 'adamw', 'muon' or 'dot', got 'adam'. Name of the optimizer: sgd, adamw, muon or dot.",
    ),
    ("optimizer: {type: adamw}", "optimizer.type: unknown key. Did you mean name?"),
    (
        "optimizer: adam",
        "optimizer: expected a mapping, got 'adam'. Write optimizer: {name: adam}. Known keys: name, learning_rate,",
    ),
    (
        "optimizer: {name: adamw, momentum: 0.9}",
        "optimizer.momentum: adamw has no such key. Remove it, or use sgd or muon or dot.",
    ),
    ("optimizer: {delta: 0.1}", "optimizer.delta: sgd has no such key. Remove it, or use dot."),
    (
        "optimizer: {decay_share: 0.5}",
        "optimizer.decay_share: schedule cosine has no such key. Remove it, or use trapezoid.",
    ),
    (
        "optimizer: {milestones: [0.5]}",
        "optimizer.milestones: schedule cosine has no such key. Remove it, or use step.",
    ),
    (
        "optimizer: {schedule: step, milestones: [0.5, 0.25]}",
        "optimizer.milestones: expected rising fractions, got [0.5, 0.25]. Sort them.",
    ),
    (
        "optimizer: {schedule: step, milestones: [0.5, 150]}",
        "optimizer.milestones.1: expected a value below 1.0, got 150. Fractions of the epochs after each of which"
        " schedule step divides the learning rate by ten.",
    ),
    (
        "optimizer: {nesterov: true, momentum: 0}",
        "optimizer.nesterov: needs a momentum, got 0. Raise optimizer.momentum, or remove nesterov.",
    ),
    (
        "optimizer: {name: dot, delta: 0.2}",
        "optimizer.delta: expected momentum - delta and momentum + delta in [0, 1), got 0.9 and 0.2. Lower delta.",
    ),
    (
        "optimizer: {name: dot, clip_norm: 1}",
        "optimizer.clip_norm: dot has two gradients and clips neither. Remove this key.",
    ),
    (
        "optimizer: {name: dot}\ncompile: true",
        "compile: compiled models take one backward pass a step, and dot takes two. Remove it.",
    ),
    (
        "cuda_graphs: true\nprecision: float16",
        "cuda_graphs: the loss scale of float16 waits for the GPU in every step, which cannot be recorded. Set precision"
        " to bfloat16, or remove the key.",
    ),
    (
        "optimizer: {name: adamw, betas: [0.9]}",
        "optimizer.betas: ",
    ),
    (
        "optimizer: {name: adamw, betas: [0.9, 1]}",
        "optimizer.betas.1: ",
    ),
    (
        "teacher: {model: resnet8, optimizer: {name: dot}}",
        "teacher.optimizer.name: dot needs a teacher to distill from. Use sgd, adamw or muon.",
    ),
    (
        "search: {optimizer.name: [sgd, adamw], optimizer.momentum: [0.8, 0.9]}",
        "search: with optimizer.name adamw and optimizer.momentum 0.8: optimizer.momentum: adamw has no such key. Remove it, or use sgd or muon or dot.",
    ),
    # Configuration files of the official release
    (
        "EXPERIMENT: {TAG: x}\nDISTILLER: {TYPE: KD}",
        "is a configuration file of the official release. Translate it with kdas-sweeps import mine.yaml, and run the file that this prints.",
    ),
]


@pytest.mark.parametrize(("lines", "expected"), WRITTEN, ids=[lines[:40] for lines, _ in WRITTEN])
def test_mistake_in_a_written_file_is_one_line(
    tmp_path: Path, lines: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {line.partition(":")[0] for line in lines.splitlines()}
    kept = {key: value for key, value in BASE.items() if key not in given and key != "known_points"}
    text = yaml.safe_dump(kept, sort_keys=False, default_flow_style=None)
    head = "".join(f"{line}\n" for line in text.splitlines())
    path = tmp_path / "mine.yaml"
    path.write_text(f"{head}{lines}\n", encoding="utf-8")
    line = refusal(path)
    at = head.count("\n") + 1
    assert f"mine.yaml: {expected.replace('line 10,', f'line {at},')}" in line
    assert line.endswith((".", "?")) and len(line) < 400
