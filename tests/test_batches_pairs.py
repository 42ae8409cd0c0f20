"""Batches of pairs: everything once an epoch, within the budget, with little padding, and gone on with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sadari.batches import make_batches
from sadari.batches_pairs import TOKENS, PairBatches
from sadari.errors import SadariError
from sadari.losses import make_loss
from sadari.tasks_pairs import TranslateTask
from sadari.train import TrainConfig


def pairs(lengths: list[tuple[int, int]]) -> dict[str, Tensor]:
    """Sources and targets (START not counted) of these lengths, whose tokens tell which pair they are of."""
    sides = []
    for side in (0, 1):
        longest = max(each[side] for each in lengths) + side
        tokens = torch.full((len(lengths), max(longest, 1)), -1, dtype=torch.int32)
        for row, each in enumerate(lengths):
            tokens[row, : each[side] + side] = row
        sides.append(tokens)
    return {"features": sides[0], "targets": sides[1]}


def real(tokens: Tensor) -> Tensor:
    return (tokens >= 0).sum(-1)


def cells(batch: dict[str, Tensor]) -> int:
    return batch["features"].numel() + batch["targets"][:, 1:].numel()


def log_normal(count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Lengths as sentences have them: a few long ones, and targets longer or shorter by a quarter."""
    draw = np.random.default_rng(seed)
    source = np.clip(np.exp(draw.normal(3, 0.6, count)), 1, 127)
    target = np.clip(source * np.exp(draw.normal(0.1, 0.25, count)), 1, 127)
    return list(zip(source.astype(int).tolist(), target.astype(int).tolist(), strict=True))


LENGTHS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 200), st.integers(0, 5))
@settings(deadline=None)
def test_every_pair_once_an_epoch_within_the_budget(
    lengths: list[tuple[int, int]], size: int, seed: int
) -> None:
    batches = PairBatches(pairs(lengths), size, seed)
    most = cells(batches.largest())
    for _ in range(3):
        epoch = list(batches.epoch())
        assert len(epoch) == batches.per_epoch, "the loop plans with as many batches in every epoch"
        seen = torch.cat([batch["targets"][:, 0] for batch in epoch])
        assert sorted(seen.tolist()) == list(range(len(lengths)))
        for batch in epoch:
            rows = batch["targets"][:, 0].tolist()
            assert real(batch["features"]).tolist() == [lengths[row][0] for row in rows]
            assert (real(batch["targets"]) - 1).tolist() == [lengths[row][1] for row in rows]
            assert batch["features"].shape[1] == max(1, *(lengths[row][0] for row in rows))
            assert batch["targets"].shape[1] == 1 + max(lengths[row][1] for row in rows)
            both = sum(max(lengths[row][side] for row in rows) for side in (0, 1))
            assert len(rows) * both <= size or len(rows) == 1
    assert most <= max(size, *(sum(each) + 1 for each in lengths))


def test_little_padding_and_full_batches_on_lengths_of_sentences() -> None:
    lengths = log_normal(10_000)
    batches = PairBatches(pairs(lengths), 0, 0)
    epoch, most = list(batches.epoch()), TOKENS[0]
    used = sum(cells(batch) for batch in epoch)
    assert sum(map(sum, lengths)) > 0.9 * used, "a tenth of padding is enough"
    assert used > 0.8 * most * len(epoch), "and a fifth of room"
    assert max(map(cells, epoch)) <= most
    assert min(map(cells, epoch)) > 0.25 * most, "no tiny batch steers"


def test_who_meets_whom_is_drawn_anew_each_epoch() -> None:
    batches = PairBatches(pairs(log_normal(5000)), 512, 0)
    one, other = ([frozenset(batch["targets"][:, 0].tolist()) for batch in batches.epoch()] for _ in range(2))
    assert one != other and len(set(one) & set(other)) < 0.2 * len(one)


def test_a_pair_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    batches = PairBatches(pairs([(3, 2), (40, 60), (3, 3), (2, 3), (50, 5)]), 30, 0)
    epoch = [sorted(batch["targets"][:, 0].tolist()) for batch in batches.epoch()]
    assert [1] in epoch and [4] in epoch
    assert cells(batches.largest()) == 100


@given(LENGTHS, st.integers(1, 100), st.integers(0, 12))
@settings(deadline=None)
def test_an_epoch_can_be_gone_on_with(lengths: list[tuple[int, int]], size: int, start: int) -> None:
    arrays = pairs(lengths)
    batches = PairBatches(arrays, size, 3)
    list(batches.epoch())
    whole = [batch["targets"][:, 0].tolist() for batch in batches.epoch()]
    again = PairBatches(arrays, size, 99)
    again.load(batches.state())
    assert [batch["targets"][:, 0].tolist() for batch in again.epoch(start)] == whole[start:]
    again.load(batches.state())
    assert len(again.first()["targets"]) and len(again.largest()["targets"])
    assert [batch["targets"][:, 0].tolist() for batch in again.epoch()] == whole, "the order is left alone"


def test_only_the_rows_that_may_be_seen() -> None:
    batches = PairBatches(pairs(log_normal(50)), 100, 0, torch.arange(10, 30))
    seen = torch.cat([batch["targets"][:, 0] for batch in batches.epoch()])
    assert sorted(seen.tolist()) == list(range(10, 30))


def test_shapes_alone_give_the_largest_batch() -> None:
    """How much memory a training takes is asked of tensors without values."""
    shapes = {name: array.to("meta") for name, array in pairs([(9, 4)] * 100).items()}
    largest = PairBatches(shapes, 130, 0).largest()
    assert {name: tuple(part.shape) for name, part in largest.items()} == {
        "features": (10, 9),
        "targets": (10, 5),
    }


def test_a_task_of_pairs_is_fed_by_them() -> None:
    config = TrainConfig(batch_size=64, seed=4)
    task = TranslateTask(make_loss("cross-entropy", classes=9))
    batches = make_batches(torch.nn.Linear(1, 1), task, pairs(log_normal(20)), config)
    assert isinstance(batches, PairBatches) and batches.size == 64


def test_no_pairs_are_refused() -> None:
    with pytest.raises(SadariError, match="no pairs to train on; give at least one"):
        PairBatches({"features": torch.zeros(0, 3), "targets": torch.zeros(0, 2)}, 2, 0)
