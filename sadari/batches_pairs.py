"""Pairs of texts as batches of equal work: as many as have room, of like length on both sides.

A pair has two lengths, so sorting by one leaves the other ragged. All pairs are halved again and again, each
time across the side that would be padded more, until what is left fits a batch or hardly needs padding:

      target
      length |  c  |   d   |
             |-----+---+---|     four buckets; a batch is of one bucket and has
             |  a  |  b    |     size / (longest source + longest target) pairs
             +------------------ source length

The buckets hang on the lengths alone, so there are as many batches in every epoch; who meets whom inside a
bucket, and the order of the batches, is drawn anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sadari.errors import SadariError
from sadari.layers.tokens import is_real

TOKENS = 1024, 4096  # of a batch, both sides and padding together, unless told: the least, the most
STEPS = 1000  # batches that an epoch of many pairs is parted into, between these sizes
PADDING = 0.06  # share of a bucket's cells that is not worth halving it for
CUTS = 16  # batches of a bucket above which it is cut in the middle, and not where that is best
LOOK = 512  # tokens to look at that take as much memory as a token does by itself, about
BLOCK = 1 << 16  # rows whose lengths are counted at once, so that a mapped file stays one


@dataclass(frozen=True)
class Bucket:
    """Pairs of like length, and into how many batches they go."""

    pairs: int
    source: int
    """Tokens of the longest source."""
    target: int
    """Tokens of the longest target, START not counted: what is read, and what is foretold."""
    batches: int

    @property
    def rows(self) -> int:
        """Pairs of its largest batch; the others have one less."""
        return -(-self.pairs // self.batches)

    @property
    def cells(self) -> int:
        """Tokens that its largest batch has room for."""
        return self.rows * (self.source + self.target)


class PairBatches:
    """Every pair once an epoch, in a new order each; pairs of like length share a batch.

    arrays   {"features": (N, S), "targets": (N, T+1)} tokens with PAD at the right
    size     tokens a batch at most, those of both sides and their padding, START not counted; 0 = 1,024,
             up to 4,096 for millions of tokens (`TOKENS`). A pair with more is a batch by itself
    rows     the pairs that may be seen, else all
    """

    def __init__(
        self, arrays: Mapping[str, Tensor], size: int, seed: int, rows: Tensor | None = None
    ) -> None:
        self.arrays = dict(arrays)
        N = len(arrays["features"])
        self.rows = torch.arange(N, device="cpu") if rows is None else rows.cpu().to(torch.int64)
        if not len(self.rows):
            raise SadariError("no pairs to train on; give at least one")
        self.lengths = _lengths(self.arrays)[self.rows.numpy()]  # (N, 2)
        self.size = size or int(np.clip(self.lengths.sum() // STEPS, *TOKENS))
        members = list(_halved(np.arange(len(self.rows)), self.lengths, self.size))
        self.buckets = [_bucket(self.lengths[some], self.size) for some in members]
        self.order = torch.from_numpy(np.concatenate(members))  # bucket after bucket
        self.ends = torch.tensor([bucket.pairs for bucket in self.buckets], device="cpu").cumsum(0)
        self.sizes = [
            bucket.pairs // bucket.batches + (place < bucket.pairs % bucket.batches)
            for bucket in self.buckets
            for place in range(bucket.batches)
        ]
        self.per_epoch = len(self.sizes)
        self.generator = torch.Generator(device="cpu").manual_seed(seed)
        self.before = self.generator.get_state()

    def epoch(self, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Shuffle, then yield the batches from `start` on."""
        self.before = self.generator.get_state()
        for places in self._order()[start:]:
            yield self._batch(places)

    def _order(self) -> list[Tensor]:
        """Places in `rows`, batch by batch."""
        drawn = torch.randperm(len(self.order), generator=self.generator, device="cpu")
        bucket = torch.bucketize(drawn, self.ends, right=True)  # of each place in `order`
        shuffled = self.order[drawn[bucket.argsort(stable=True)]]
        batches = shuffled.split(self.sizes)
        order = torch.randperm(len(batches), generator=self.generator, device="cpu")
        return [batches[i] for i in order.tolist()]

    def _batch(self, places: Tensor) -> dict[str, Tensor]:
        """These pairs, each side cut where its longest ends."""
        source, target = self.lengths[places.numpy()].max(0).tolist()
        features, targets = self.arrays["features"], self.arrays["targets"]
        rows = self.rows[places].to(features.device)
        return {"features": features[:, : max(source, 1)][rows], "targets": targets[:, : target + 1][rows]}

    def first(self) -> dict[str, Tensor]:
        """A batch of pairs of middling length; the course of the epochs is left alone."""
        by_length = sorted(range(len(self.buckets)), key=lambda i: self.buckets[i].source)
        return self._some(by_length[len(by_length) // 2])

    def largest(self) -> dict[str, Tensor]:
        """A batch that needs as much memory as any: by its tokens, and those each of them may look at."""
        needs = [bucket.cells * (LOOK + bucket.source + bucket.target) for bucket in self.buckets]
        return self._some(needs.index(max(needs)))

    def _some(self, number: int) -> dict[str, Tensor]:
        """A batch of that bucket, as long as its longest pair."""
        bucket = self.buckets[number]
        end = int(self.ends[number])
        members = self.order[end - bucket.pairs : end]
        longest = torch.from_numpy(self.lengths[members.numpy()].sum(-1)).argsort(
            descending=True, stable=True
        )
        return self._batch(members[longest[: bucket.rows]])

    def state(self) -> dict[str, Tensor]:
        """What the current epoch's order is made from."""
        return {"order": self.before}

    def load(self, state: Mapping[str, Any]) -> None:
        """Begin the next `epoch(start)` with the order that `state` stands for."""
        self.before = state["order"].clone()
        self.generator.set_state(self.before)


def _lengths(arrays: Mapping[str, Tensor]) -> np.ndarray:
    """(N, 2) tokens of each source and target, without START; of arrays that are shapes only, all of them."""
    features, targets = arrays["features"], arrays["targets"]
    if features.device.type == "meta":
        return np.tile([features.shape[1], targets.shape[1] - 1], (len(features), 1))
    found = [
        torch.stack([is_real(source).sum(-1), is_real(target[:, 1:]).sum(-1)], dim=-1).cpu()
        for source, target in zip(features.split(BLOCK), targets.split(BLOCK), strict=True)
    ]
    return torch.cat(found).numpy()


def _halved(members: np.ndarray, lengths: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The members (n,) by buckets, those of the shorter pairs first."""
    waiting = [members]
    while waiting:
        some = waiting.pop()
        mine = lengths[some]
        padded = mine.max(0) * len(some) - mine.sum(0)  # (2,) empty cells of each side
        cells = int(mine.max(0).sum()) * len(some)
        batches = -(-cells // size)
        if len(some) == 1 or batches == 1 or padded.sum() <= PADDING * cells:
            yield some
            continue
        if batches <= CUTS:  # parts of whole batches, cut where that leaves the least empty
            cuts, sides = (
                np.clip(len(some) * np.arange(1, batches) // batches, 1, len(some) - 1),
                np.arange(2),
            )
        else:
            cuts, sides = np.array([len(some) // 2]), padded.argmax(keepdims=True)
        orders = [np.argsort(mine[:, side], kind="stable") for side in sides]
        left = np.stack([_cells(mine[order], cuts) for order in orders])  # (sides, cuts)
        side, place = np.unravel_index(left.argmin(), left.shape)
        order, cut = orders[side], cuts[place]
        waiting += [some[order[cut:]], some[order[:cut]]]


def _cells(lengths: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Cells of both parts together, padded, for each place (K,) to cut the pairs (n, 2) at."""
    below = np.maximum.accumulate(lengths).sum(-1)[cuts - 1]
    above = np.maximum.accumulate(lengths[::-1])[::-1].sum(-1)[cuts]
    return cuts * below + (len(lengths) - cuts) * above


def _bucket(lengths: np.ndarray, size: int) -> Bucket:
    """How pairs of these lengths (n, 2) go into batches of at most `size` tokens, about equally large."""
    source, target = (int(longest) for longest in lengths.max(0))
    room = max(size // max(source + target, 1), 1)
    return Bucket(len(lengths), source, target, -(-len(lengths) // room))
