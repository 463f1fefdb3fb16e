"""A static subset, chosen by a score that is taken before or early in training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from kdas import seeding
from kdas.samplers.interface import SAMPLERS, EpochPlan, SamplerContext, SamplerNeed, Statistic
from kdas.samplers.scores import OF_TRAINING, SCORES, label_probability
from kdas.samplers.subsets import Unselective, permutation

ScoreName = Literal["teacher_confidence", "dispersion", "el2n", "dual", "dyn_unc", "aum", "forgetting"]
# DUAL's Beta densities have parameters that sum to 16, and its anchor is the mean of ten samples.
_BETA_SUM, _NUM_ANCHORS = 16.0, 10
# Keeps a density finite where a probability is 0 or 1, and a chance above 0.
_TINY = 1e-6


@SAMPLERS.register(
    "scored_subset",
    source="Paul et al., NeurIPS 2021 (EL2N); Cho et al., ICML 2025 (DUAL); He et al., CVPR 2024 (Dyn-Unc); Pleiss et"
    " al., NeurIPS 2020 (AUM); Toneva et al., ICLR 2019 (forgetting)",
    needs=[SamplerNeed.TEACHER_PASSES, SamplerNeed.TRAINED_LOGITS],
)
class ScoredSubset(Unselective):
    """One fixed subset, by a score: of the teacher's answers before training, or of the student's in early epochs."""

    def __init__(
        self,
        context: SamplerContext,
        *,
        score: Annotated[
            ScoreName,
            Field(description="Score: of the teacher (teacher_confidence, dispersion), or of the student's training."),
        ] = "teacher_confidence",
        fraction: Annotated[float, Field(gt=0, le=1, description="Fraction of the training set that is kept.")] = 0.5,
        keep: Annotated[
            Literal["hardest", "easiest", "beta"],
            Field(description="Which part is kept; beta draws as DUAL does, easier samples if fewer are kept."),
        ] = "hardest",
        scored_until: Annotated[
            float,
            Field(gt=0, lt=1, description="Fraction of the epochs, on the whole set, whose training is scored."),
        ] = 0.15,
        views: Annotated[
            int, Field(ge=2, le=1000, description="Views of each image that dispersion compares the answers to.")
        ] = 8,
        beta_exponent: Annotated[
            float, Field(gt=0, le=1000, description="Exponent c_D of keep: beta; DUAL uses 4 on CIFAR-100.")
        ] = 4.0,
    ) -> None:
        super().__init__(context)
        self.score, self.fraction, self.keep = SCORES[score], fraction, keep
        self.num_passes = views if score == "dispersion" else 1
        self.beta_exponent = beta_exponent
        # A deviation takes two epochs, and at least one must be left to train on the subset.
        early = max(1, min(max(2, round(scored_until * context.epochs)), context.epochs - 1))
        self.num_scored_epochs = early if score in OF_TRAINING else 0
        self._kept: Tensor | None = None
        # Of each scored epoch [2, N]: the statistic, and the probability of the label. NaN for what was not seen.
        self._statistics: list[Tensor] = []
        self._observed: list[tuple[Tensor, Tensor]] = []

    def plan(self, epoch: int) -> EpochPlan:
        context = self.context
        self._take_in()
        if epoch <= self.num_scored_epochs:
            order = permutation(context.num_samples, context.seed, "order", epoch)
            return EpochPlan(order, context.batch_size, rate=1.0)
        if self._kept is None:
            self._kept = self._chosen()
            self._statistics.clear()
        order = self._kept[permutation(len(self._kept), context.seed, "order", epoch)]
        return EpochPlan(order, context.batch_size, self.fraction, observes=False)

    def observe(self, indices: Tensor, trained_logits: Tensor) -> None:
        targets = self.context.labels[indices]
        # Kept on the device until the epoch ends: reading them every step would make the device wait.
        self._observed.append((indices, tracked(self.score.statistic, trained_logits, targets)))

    def state_dict(self) -> dict[str, Any]:
        self._take_in()
        return {"kept": self._kept, "statistics": self._statistics}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._kept, self._statistics = state["kept"], list(state["statistics"])

    def _chosen(self) -> Tensor:
        """The subset, sorted: int64 [size]."""
        if self.num_scored_epochs:
            statistics, probabilities = torch.stack(self._statistics, dim=1)
        else:
            passes = [self.context.teacher_pass(1 + view, self.score.statistic) for view in range(self.num_passes)]
            statistics = probabilities = torch.stack(passes)
        difficulty = self.score.difficulty(statistics)
        size = max(2, round(self.fraction * self.context.num_samples))
        if self.keep == "beta":
            chances = beta_chances(difficulty, probabilities.mean(dim=0), self.fraction, self.beta_exponent)
            generator = seeding.generator(self.context.seed, "scored subset")
            ranks = drawn_ranks(chances, generator)
        else:
            ranks = difficulty if self.keep == "hardest" else -difficulty
        # Samples whose images could not be read have no score, and come last.
        ranks = ranks.nan_to_num(nan=-torch.inf)
        return ranks.argsort(descending=True, stable=True)[:size].sort().values

    def _take_in(self) -> None:
        if self._observed:
            indices, values = (torch.cat(parts, dim=-1) for parts in zip(*self._observed, strict=True))
            of_epoch = torch.full((2, self.context.num_samples), torch.nan)
            of_epoch[:, indices.cpu()] = values.to(of_epoch)
            self._statistics.append(of_epoch)
        self._observed.clear()


def tracked(statistic: Statistic, logits: Tensor, targets: Tensor) -> Tensor:
    """What is kept of a trained batch [2, B]: the statistic, and the probability of the label."""
    return torch.stack([statistic(logits, targets), label_probability(logits, targets)])


def beta_chances(difficulty: Tensor, probabilities: Tensor, fraction: float, exponent: float) -> Tensor:
    """DUAL's chances, not normalised: the difficulty times a Beta density of the mean probability of the label.

    The less is kept, the more the density favours easy samples. Difficulties below 0 are shifted to start at 0.

    Args: difficulty [N]; probabilities [N], of the label, means over epochs; fraction of the set that is kept;
        exponent: c_D.
    Returns: [N], above 0; NaN where the difficulty is.
    Source: Cho et al., ICML 2025; official code, `beta_sampling`.
    """
    order = difficulty.nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True)
    anchor = float(probabilities[order[:_NUM_ANCHORS]].nanmean())
    beta = (_BETA_SUM - 1) * (1 - anchor) * (1 - (1 - fraction) ** exponent)
    alpha = _BETA_SUM - beta
    # A parameter of 0 has no density.
    shape = torch.distributions.Beta(*torch.tensor([alpha, beta], dtype=torch.float64).clamp(min=_TINY))
    is_known = probabilities.isfinite()
    inside = torch.where(is_known, probabilities, 0.5).double().clamp(_TINY, 1 - _TINY)
    positive = difficulty - min(0.0, float(difficulty[is_known].min()))
    density: Tensor = shape.log_prob(inside).exp()  # type: ignore[no-untyped-call]
    return (density * positive).clamp(min=_TINY**2)


def drawn_ranks(chances: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers [N] whose highest are a draw without replacement. Args: chances [N], above 0, not normalised.

    Source: Efraimidis & Spirakis, 2006.
    """
    draws = torch.rand(len(chances), generator=generator, dtype=torch.float64)
    return draws.log() / chances
