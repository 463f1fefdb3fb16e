"""Whether KDAS chooses the same samples on a GPU as on a CPU, and if not, how close their scores are.

python -m benchmarks.selections TRIAL.yaml

Trains a student for an epoch on the trial's device. Then its weights, and the teacher's, score the same batches in
float32 on the device and on a CPU. Rounding may exchange samples whose scores are nearly equal, and no others.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.bench import prices
from kdas.data import Draw
from kdas.recipe.config import load_trial_config
from kdas.samplers import knowledge_scores, select
from kdas.training.batch import Batch
from kdas.training.distiller import Distiller
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial, load_inputs, untrained_inputs

# As in the middle of the official schedule: a scoring batch is two training batches.
_SCORED_PER_TRAINED, _EXCLUSION_RATE, _MOST_BATCHES = 2, 0.05, 100


@dataclass(frozen=True)
class Difference:
    """Of one batch: how many samples are chosen on one device only.

    `gap`: the largest difference in score between two that change places. `rounding`: the largest difference between
    the scores of one sample on the two devices.
    """

    num_chosen: int
    num_differing: int
    gap: float
    rounding: float


def main(trial_file: Path) -> None:
    """Measure and print."""
    config = load_trial_config(trial_file, ["sampler=kdas", "precision=float32", "epochs=1", "evaluations=1"])
    inputs = load_inputs(config)
    training = Training(Trial(config, inputs), Surroundings(prices()))
    list(training.rows())
    on_device, on_cpu = training.distiller, _on_cpu(training.distiller)
    size = _SCORED_PER_TRAINED * config.batch_size
    indices = torch.split(torch.arange(len(inputs.splits.train)), size)[:_MOST_BATCHES]
    found = []
    for chosen, images in inputs.splits.training_batches(indices, Draw(seed=0, epoch=1)):
        if len(chosen) == size:
            batch = on_device.batch(chosen, images)
            scores = _scores(on_device, batch), _scores(on_cpu, batch.each(Tensor.cpu))
            found.append(difference(*scores, config.batch_size))
    num_chosen, num_differing = sum(each.num_chosen for each in found), sum(each.num_differing for each in found)
    print(
        f"{inputs.device} and cpu: {num_differing} of {num_chosen} choices differ, in {len(found)} batches; largest gap"
        f" in score between two that change places {max(each.gap for each in found):.2g} nats; scores of one sample"
        f" differ by at most {max(each.rounding for each in found):.2g} nats"
    )


def difference(scores: Tensor, others: Tensor, keep: int) -> Difference:
    """Compare what KDAS chooses by two measurements of the scores [B] of a batch."""
    one, other = (set(select(each, keep, _EXCLUSION_RATE).tolist()) for each in (scores, others))
    # In the order of their scores: samples may change places at either end of what is chosen.
    gaps = others[sorted(one - other)].sort().values - others[sorted(other - one)].sort().values
    gap = float(gaps.abs().max()) if len(gaps) else 0.0
    return Difference(len(one), len(gaps), gap, float((scores - others).abs().max()))


def _scores(distiller: Distiller, batch: Batch) -> Tensor:
    """The scores [B], on the CPU."""
    answer = distiller.asked(batch).answer
    assert answer is not None
    return knowledge_scores(distiller.scoring_logits(batch, epoch=1), answer.logits).cpu()


def _on_cpu(distiller: Distiller) -> Distiller:
    """The same student and teacher on a CPU."""
    config = distiller.config.model_copy(update={"device": "cpu", "cuda_graphs": False})
    copied = Trial(config, untrained_inputs(config)).distiller()
    copied.student.load_state_dict(distiller.student.state_dict())
    copied.teacher.load_state_dict(distiller.teacher.state_dict())
    return copied


if __name__ == "__main__":
    main(Path(sys.argv[1]))
