"""Training rows as shuffled slices in memory: no worker, no copy a step, a position that can be kept and taken up again.

Whatever yields batches to the loop has this shape: `per_epoch` batches an epoch, `epoch(start)` that yields them from
number `start`, `state()` and `load()`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from sadari.errors import SadariError

WINDOW = 1 << 22  # bytes gathered at once: few enough for a second-level cache, enough to hide the call


class Batches:
    """Every row once an epoch, in a new order each, in batches whose sizes differ by at most one.

    arrays   equally long tensors (N, ...), mapped files included
    size     rows a batch at most; 265 rows at 64 make five batches of 53, so that no tiny batch steers
    rows     for a stack of K networks, the rows that each may see: batches are then (K, B, ...), and a member with
             fewer rows than the longest meets its own again within an epoch
    """

    def __init__(
        self, arrays: Mapping[str, Tensor], size: int, seed: int, rows: Sequence[Tensor] | None = None
    ) -> None:
        self.arrays = dict(arrays)
        self.rows = None if rows is None else [r.to(torch.int64) for r in rows]
        count = len(next(iter(self.arrays.values())))
        if any(len(array) != count for array in self.arrays.values()):
            lengths = ", ".join(f"{name} {len(array)}" for name, array in self.arrays.items())
            raise SadariError(f"arrays of different lengths ({lengths}); give one row an example in each")
        lengths_seen = [count] if self.rows is None else [len(r) for r in self.rows]
        if min(lengths_seen) == 0:
            raise SadariError("no rows to train on; give at least one")
        self.length = max(lengths_seen)
        self.per_epoch = -(-self.length // size)
        bounds = [i * self.length // self.per_epoch for i in range(self.per_epoch + 1)]
        self.generator = torch.Generator().manual_seed(seed)
        self.before = self.generator.get_state()  # of the current epoch's shuffle
        self._cut(bounds)

    def _cut(self, bounds: list[int]) -> None:
        """Buffers for a window of batches, and the batches as views of them, made once for all epochs."""
        members = 1 if self.rows is None else len(self.rows)
        row_bytes = members * sum(a[:1].numel() * a.element_size() for a in self.arrays.values())
        together = max(1, WINDOW // max(1, row_bytes * (bounds[1] + 1)))  # batches a window
        lead = () if self.rows is None else (members,)
        longest = max(
            bounds[min(i + together, self.per_epoch)] - bounds[i] for i in range(0, self.per_epoch, together)
        )
        buffers = {
            name: array.new_empty((members * longest, *array.shape[1:])) for name, array in self.arrays.items()
        }
        self.windows = []
        for first in range(0, self.per_epoch, together):
            cuts = bounds[first : first + together + 1]
            width = cuts[-1] - cuts[0]
            targets = {name: buffer[: members * width] for name, buffer in buffers.items()}
            shaped = {name: t.view(*lead, width, *t.shape[1:]) for name, t in targets.items()}
            views = [
                {name: t.narrow(len(lead), a - cuts[0], b - a) for name, t in shaped.items()}
                for a, b in zip(cuts, cuts[1:], strict=False)
            ]
            self.windows.append((cuts[0], cuts[-1], targets, views))

    def epoch(self, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Shuffle, then yield the batches from number `start` on; a batch is valid until the next one is asked for."""
        self.before = self.generator.get_state()
        order = self._order()  # (N,) or (K, N)
        for first, last, targets, views in self.windows:
            if start < len(views):
                chosen = order[..., first:last].reshape(-1)
                for name, array in self.arrays.items():
                    torch.index_select(array, 0, chosen, out=targets[name])
                yield from views[start:]
            start = max(0, start - len(views))

    def _order(self) -> Tensor:
        if self.rows is None:
            return torch.randperm(self.length, generator=self.generator)
        orders = []
        for rows in self.rows:
            turns = -(-self.length // len(rows))
            turns_of = [rows[torch.randperm(len(rows), generator=self.generator)] for _ in range(turns)]
            orders.append(torch.cat(turns_of)[: self.length])
        return torch.stack(orders)

    def state(self) -> dict[str, Tensor]:
        """What the current epoch's order is made from."""
        return {"order": self.before}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Begin the next `epoch(start)` with the order that `state` stands for."""
        self.generator.set_state(state["order"])
        self.before = state["order"]
