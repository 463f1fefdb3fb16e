"""What student and losses draw in a step: a function of seed, epoch and the number of the call in it."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext

import torch

from kdas import seeding
from kdas.models import Model


class StepDraws:
    """The draws of one trial's student and losses. `student_draws`: whether the student draws at all.

    Args: student: on the CPU.
    """

    def __init__(self, seed: int, device: str, student: Model, image_size: int) -> None:
        self._seed, self._device = seed, device
        self.student_draws = _draws_while_training(student, image_size)
        self.restart()

    def restart(self) -> None:
        """Forget which calls there were, as at the start of an epoch."""
        # The epoch, and the number of the last call in it.
        self._forwards = self._losses = (0, 0)

    def of_student(self, purpose: str, epoch: int) -> AbstractContextManager[None]:
        """Inside, dropout and the like draw for the student's next forward pass, though from the global generator."""
        if not self.student_draws:
            return nullcontext()
        self._forwards = _next_in(epoch, self._forwards)
        return seeding.global_draws(self._seed, purpose, *self._forwards, device=self._device)

    def of_losses(self, epoch: int) -> torch.Generator:
        """A generator on the device for the next call of the losses."""
        self._losses = _next_in(epoch, self._losses)
        return torch.Generator(self._device).manual_seed(seeding.derived_seed(self._seed, "loss", *self._losses))


def _next_in(epoch: int, last: tuple[int, int]) -> tuple[int, int]:
    return epoch, last[1] + 1 if last[0] == epoch else 0


@torch.no_grad()
def _draws_while_training(model: Model, image_size: int) -> bool:
    """Whether the model, on the CPU and in train mode, draws from the global generator."""
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        copy.deepcopy(model).train()(torch.zeros(2, 3, image_size, image_size))
        return not torch.equal(torch.get_rng_state(), before)
