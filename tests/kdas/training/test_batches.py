"""Chosen samples wait until a batch is full."""

from __future__ import annotations

import torch

from kdas.training.batch import Answer, Batch, taken


def batch_of(first: int, size: int) -> Batch:
    indices = torch.arange(first, first + size)
    images = indices[:, None].float()
    return Batch(images, 2 * indices, indices, Answer(images + 0.5, images - 0.5))


def test_one_sample_too_many_waits_for_the_next_batch() -> None:
    waiting = [batch_of(0, 9), batch_of(9, 8)]
    batches = taken(waiting, 16, all_of_them=False)
    assert [len(batch) for batch in batches] == [16] and [len(batch) for batch in waiting] == [1]
    assert waiting[0].indices.tolist() == [16]


def test_nothing_is_taken_before_a_batch_is_full() -> None:
    waiting = [batch_of(0, 15)]
    assert taken(waiting, 16, all_of_them=False) == [] and len(waiting) == 1
    assert taken([], 16, all_of_them=True) == []


def test_at_the_end_all_are_taken_and_one_left_over_joins_the_batch_before() -> None:
    waiting = [batch_of(0, 20), batch_of(20, 13)]
    batches = taken(waiting, 16, all_of_them=True)
    assert [len(batch) for batch in batches] == [16, 17] and not waiting
    assert taken([batch_of(0, 1)], 16, all_of_them=True) == []


def test_parts_and_sums_keep_samples_and_answers_together() -> None:
    (batch,) = taken([batch_of(0, 3), batch_of(3, 5)], 16, all_of_them=True)
    part = batch.rows(torch.tensor([6, 1]))
    assert part.indices.tolist() == [6, 1] and part.targets.tolist() == [12, 2]
    assert part.answer is not None and part.answer.features is not None
    assert part.images.flatten().tolist() == [6, 1]
    assert part.answer.logits.flatten().tolist() == [6.5, 1.5]
    assert part.answer.features.flatten().tolist() == [5.5, 0.5]
