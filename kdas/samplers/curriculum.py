"""A curriculum by how unsure the teacher is: from easy samples to hard ones, and back."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from kdas import schedules
from kdas.samplers.interface import SAMPLERS, EpochPlan, Rate, SamplerContext, SamplerNeed
from kdas.samplers.remembered import WarmupEpochs
from kdas.samplers.scores import label_probability
from kdas.samplers.subsets import Unselective, permutation


def entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The entropy of the prediction, in nats. Args: logits [..., C]; targets are not used. Returns: [...]."""
    log_probabilities = logits.log_softmax(dim=-1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=-1)


def doubt(logits: Tensor, targets: Tensor) -> Tensor:
    """One minus the probability of the label. Args: logits [N, C]; targets [N]. Returns: [N]."""
    return 1 - label_probability(logits, targets)


@SAMPLERS.register(
    "curriculum",
    source="Bengio et al., ICML 2009 (curriculum learning); the course and the teacher as its judge are ours",
    needs=[SamplerNeed.TEACHER_PASSES],
)
class Curriculum(Unselective):
    """Each epoch a share of the samples next to each other in the order of the teacher's doubt, easy ones first."""

    def __init__(
        self,
        context: SamplerContext,
        *,
        by: Annotated[
            Literal["entropy", "confidence"],
            Field(description="Difficulty: the teacher's entropy, or its lack of confidence in the label."),
        ] = "entropy",
        course: Annotated[
            Literal["there_and_back", "easy_to_hard", "hard_to_easy"],
            Field(description="Way of the share through the samples, in order of difficulty, over the epochs."),
        ] = "there_and_back",
        start_rate: Rate = 0.6,
        end_rate: Rate = 0.4,
        warmup_epochs: WarmupEpochs = 0,
    ) -> None:
        super().__init__(context)
        self.statistic = entropy if by == "entropy" else doubt
        self.course, self.start_rate, self.end_rate = course, start_rate, end_rate
        self.warmup_epochs = warmup_epochs
        # All samples, the easiest first, once it is known.
        self._by_difficulty: Tensor | None = None

    def plan(self, epoch: int) -> EpochPlan:
        context, total = self.context, self.context.num_samples
        rate = schedules.sampling_rate(epoch, context.epochs, self.start_rate, self.end_rate, self.warmup_epochs)
        if epoch <= self.warmup_epochs:
            return EpochPlan(permutation(total, context.seed, "order", epoch), context.batch_size, rate)
        if self._by_difficulty is None:
            # Samples whose images cannot be read have no difficulty and are sorted last.
            self._by_difficulty = context.teacher_pass(epoch, self.statistic).argsort(stable=True)
        size = min(total, max(2, round(rate * total)))
        first = round(self._place(epoch) * (total - size))
        share = self._by_difficulty[first : first + size]
        return EpochPlan(share[permutation(size, context.seed, "order", epoch)], context.batch_size, rate)

    def _place(self, epoch: int) -> float:
        """Where the share is in an epoch: 0 at the easiest samples, 1 at the hardest."""
        last = self.context.epochs - self.warmup_epochs - 1
        done = (epoch - self.warmup_epochs - 1) / last if last else 0.0
        if self.course == "there_and_back":
            return (1 - math.cos(2 * math.pi * done)) / 2
        upwards = (1 - math.cos(math.pi * done)) / 2
        return upwards if self.course == "easy_to_hard" else 1 - upwards

    def state_dict(self) -> dict[str, Any]:
        return {"by_difficulty": self._by_difficulty}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._by_difficulty = state["by_difficulty"]
