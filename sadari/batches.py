"""Training rows as shuffled slices in memory: no worker, no copy a step, a position that can be kept.

Whatever yields batches to the loop has this shape: `per_epoch` batches an epoch, `epoch(start)` that yields
them from number `start` on, `state()` and `load()`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from sadari.errors import SadariError

WINDOW = 1 << 22  # bytes gathered at once: few enough for a second-level cache, enough to hide the call


class Batches:
    """Every row once an epoch, in a new order each, in batches whose sizes differ by at most one.

    arrays   equally long tensors (N, ...), mapped files included
    size     rows a batch at most; 265 rows at 64 make five batches of 53, so that no tiny batch steers;
             0 = by the number of rows
    rows     for a stack of K networks, the rows that each may see: batches are then (K, B, ...), and a member
             with fewer rows than the longest meets its own again within an epoch

    Raises SadariError when there are no rows, or arrays of different lengths.
    """

    def __init__(
        self, arrays: Mapping[str, Tensor], size: int, seed: int, rows: Sequence[Tensor] | None = None
    ) -> None:
        self.arrays = dict(arrays)
        self.rows = None if rows is None else [part.to(torch.int64) for part in rows]
        lengths = {name: len(array) for name, array in self.arrays.items()}
        if len(set(lengths.values())) != 1:
            raise SadariError(f"arrays of different lengths {lengths}; give one row an example in each")
        counts = [*lengths.values()][:1] if self.rows is None else [len(part) for part in self.rows]
        if not counts or min(counts) == 0:
            raise SadariError("no rows to train on; give at least one (to each member of a stack)")
        self.length = max(counts)
        self.per_epoch = -(-self.length // (size or usual_size(self.length)))
        self.generator = torch.Generator().manual_seed(seed)
        self.before = self.generator.get_state()  # the current epoch's order is drawn from here
        self._cut([i * self.length // self.per_epoch for i in range(self.per_epoch + 1)])

    def _cut(self, bounds: list[int]) -> None:
        """Make buffers for a window of batches, and the batches as views of them, once for all epochs."""
        lead = () if self.rows is None else (len(self.rows),)
        members = 1 if self.rows is None else len(self.rows)
        row = members * sum(array[:1].nbytes for array in self.arrays.values())
        together = max(1, WINDOW // max(1, row * (bounds[1] + 1)))  # batches a window
        groups = [bounds[i : i + together + 1] for i in range(0, self.per_epoch, together)]
        longest = max(cuts[-1] - cuts[0] for cuts in groups)
        buffers = {n: a.new_empty((members * longest, *a.shape[1:])) for n, a in self.arrays.items()}
        self.windows = []
        for cuts in groups:
            width = cuts[-1] - cuts[0]
            filled = {name: buffer[: members * width] for name, buffer in buffers.items()}
            shaped = {name: t.view(*lead, width, *t.shape[1:]) for name, t in filled.items()}
            views = [
                {name: t.narrow(len(lead), a - cuts[0], b - a) for name, t in shaped.items()}
                for a, b in pairwise(cuts)
            ]
            self.windows.append((cuts[0], cuts[-1], filled, views))

    def epoch(self, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Shuffle, then yield the batches from `start` on; each is valid until the next one is asked for."""
        self.before = self.generator.get_state()
        order = self._order()  # (N,) or (K, N)
        for first, last, filled, views in self.windows:
            if start < len(views):
                chosen = order[..., first:last].reshape(-1)
                for name, array in self.arrays.items():
                    torch.index_select(array, 0, chosen, out=filled[name])
                yield from views[start:]
            start = max(0, start - len(views))

    def _order(self) -> Tensor:
        if self.rows is None:
            return torch.randperm(self.length, generator=self.generator).to(self._device())
        orders = []
        for part in self.rows:
            turns = range(-(-self.length // len(part)))
            drawn = [part[torch.randperm(len(part), generator=self.generator)] for _ in turns]
            orders.append(torch.cat(drawn)[: self.length])
        return torch.stack(orders).to(self._device())

    def _device(self) -> torch.device:
        return next(iter(self.arrays.values())).device

    def first(self) -> dict[str, Tensor]:
        """A batch to try things with; the course of the epochs is left alone."""
        state = self.generator.get_state()
        batch = next(self.epoch())
        self.load({"order": state})
        return batch

    def state(self) -> dict[str, Tensor]:
        """What the current epoch's order is made from."""
        return {"order": self.before}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Begin the next `epoch(start)` with the order that `state` stands for."""
        self.before = state["order"].clone()
        self.generator.set_state(self.before)


def usual_size(rows: int) -> int:
    """Rows a batch unless told: 32, doubled up to 512 while an epoch would have 2,000 batches or more."""
    size = 32
    while size < 512 and rows >= 2000 * size:
        size *= 2
    return size


def rows_of(arrays: Mapping[str, Tensor]) -> int:
    """Number of examples in a dict of arrays."""
    return len(next(iter(arrays.values()))) if arrays else 0
