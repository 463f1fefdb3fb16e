"""What recording the kernels of a step gains on a GPU, and whether it changes a curve.

python -m benchmarks.recorded_steps TRIAL.yaml

Trains the trial with and without `cuda_graphs`, under the samplers full and kdas, in turns. Then it times the student
alone, the limit of a step, with its kernels launched and replayed. Where the device is a CPU, nothing is recorded, and
the trial is compared with itself.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.bench import prices
from benchmarks.limit import Ideal
from kdas.recipe.config import TrialConfig, load_trial_config
from kdas.records import CurveRow
from kdas.training.recorded import WARM_UP_USES, CudaGraphs
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Inputs, Trial, load_inputs

# Two trials differ in these if they differ in nothing but the key.
_OF_THE_RUN = {"wall_s", "eval_s", "data_s", "num_cotenants", "cost_as_run_s", "trial_id", "config_id"}
_TURNS, _IDEAL_STEPS = 2, 200


def main(trial_file: Path) -> bool:
    """Measure and print. Returns: whether curves are equal bit for bit."""
    are_equal = True
    for sampler in ("full", "kdas"):
        config = load_trial_config(trial_file, [f"sampler={sampler}"])
        inputs = load_inputs(config)
        if inputs.device == "cuda":
            recorded = config.model_copy(update={"cuda_graphs": True})
        else:
            print(f"{sampler}: cuda_graphs is skipped, since the device is {inputs.device}")
            recorded = config
        are_equal &= _compare(sampler, config, recorded, inputs)
    _print_limit(config, inputs)
    return are_equal


def _compare(name: str, plain: TrialConfig, recorded: TrialConfig, inputs: Inputs) -> bool:
    _trained(plain, inputs)  # fills the bank, and libraries set themselves up
    turns = [(_trained(plain, inputs), _trained(recorded, inputs)) for _ in range(_TURNS)]
    plain_s, recorded_s = (min(rows[-1].wall_s for rows in of_one) for of_one in zip(*turns, strict=True))
    (one, other), steps = turns[0], turns[0][0][-1].step
    equal = of_the_trial(one) == of_the_trial(other)
    differing = [row.step for row, its in zip(one, other, strict=False) if of_the_trial([row]) != of_the_trial([its])]
    verdict = "curves equal bit for bit" if equal else f"CURVES DIFFER, first at step {next(iter(differing), 'none')}"
    how = "recorded" if recorded.cuda_graphs else "launched again"
    print(
        f"{name}: {1e3 * plain_s / steps:.2f} ms a step launched, {1e3 * recorded_s / steps:.2f} ms {how}, a ratio of"
        f" {plain_s / recorded_s:.2f}; {verdict} ({len(one)} evaluations)"
    )
    return equal


def _trained(config: TrialConfig, inputs: Inputs) -> list[CurveRow]:
    return list(Training(Trial(config, inputs), Surroundings(prices())).rows())


def of_the_trial(rows: list[CurveRow]) -> list[dict[str, Any]]:
    """The rows of a curve without what two runs of one trial, with and without recorded steps, may differ in."""
    return [{key: value for key, value in asdict(row).items() if key not in _OF_THE_RUN} for row in rows]


def _print_limit(config: TrialConfig, inputs: Inputs) -> None:
    ideal = Ideal(config, inputs.splits, inputs.device)
    launched_s = ideal.seconds(ideal.step, _IDEAL_STEPS)
    told = f"the student alone: {1e3 * launched_s:.2f} ms a step launched"
    if inputs.device == "cuda":
        graphs = CudaGraphs()
        for _ in range(WARM_UP_USES):
            graphs.run_aside(ideal.step)
        _, replay = graphs.record(ideal.step)
        told += f", {1e3 * ideal.seconds(replay, _IDEAL_STEPS):.2f} ms recorded"
    print(told)


if __name__ == "__main__":
    sys.exit(not main(Path(sys.argv[1])))
