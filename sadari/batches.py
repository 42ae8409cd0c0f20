"""Training rows as shuffled slices in memory: no worker, no copy a step, a position that can be kept.

Whatever yields batches to the loop has this shape: `arrays` it draws from, `per_epoch` batches an epoch,
`epoch(start)` that yields them from number `start` on, `first()` to try things with, `largest()` to plan
with, `state()` and `load()`. A task says by its `batching` which of these feeds it:

rows        equally long rows, of a table, or pictures of one size              `Batches`
texts       texts of like length together, cut where the longest ends           `TextBatches`
stretches   stretches of one stream of tokens, and the state between them       `Stretches`
pairs       pairs of texts of like length, as many as have room                 `batches_pairs.PairBatches`
captions    pictures, each with a caption drawn anew                `batches_captions.CaptionBatches`
            the same out of shards that no memory holds                   `batches_stream.StreamBatches`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from sadari.batches_captions import CaptionBatches, Streamed
from sadari.batches_pairs import PairBatches
from sadari.batches_stream import StreamBatches
from sadari.errors import SadariError
from sadari.layers.tokens import is_real

TEXTS = 32  # texts a batch, unless told
TOGETHER = 50  # batches whose texts are sorted by length among themselves
LANES = 8  # rows of a batch of a stream, unless told
STRETCH = 64  # tokens through which a gradient goes back, unless told
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

    def largest(self) -> dict[str, Tensor]:
        """A batch that needs as much memory as any; its values mean nothing."""
        return self.windows[0][3][0]

    def state(self) -> dict[str, Tensor]:
        """What the current epoch's order is made from."""
        return {"order": self.before}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Begin the next `epoch(start)` with the order that `state` stands for."""
        self.before = state["order"].clone()
        self.generator.set_state(self.before)


class TextBatches:
    """Every text once an epoch, in a new order each; texts of like length share a batch, with little padding.

    arrays   {"features": (N, T) tokens with PAD at the right, "targets": (N,)}
    size     texts a batch at most; 0 = `TEXTS`
    rows     the texts that may be seen, else all

    An epoch's order is a shuffle, sorted by length within stretches of `TOGETHER` batches; then the batches
    are shuffled. So a batch is never of one length alone, and none is longer than its longest text.
    """

    def __init__(
        self, arrays: Mapping[str, Tensor], size: int, seed: int, rows: Tensor | None = None
    ) -> None:
        self.arrays = dict(arrays)
        self.rows = torch.arange(rows_of(arrays)) if rows is None else rows.to(torch.int64)
        if not len(self.rows):
            raise SadariError("no texts to train on; give at least one")
        self.length = len(self.rows)
        self.size = size or TEXTS
        self.per_epoch = -(-self.length // self.size)
        self.generator = torch.Generator().manual_seed(seed)
        self.before = self.generator.get_state()
        tokens = self.arrays["features"]
        self.lengths = None if tokens.device.type == "meta" else is_real(tokens).sum(-1)

    def epoch(self, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Shuffle, then yield the batches from `start` on."""
        self.before = self.generator.get_state()
        for rows in self._order()[start:]:
            batch = {name: array[rows] for name, array in self.arrays.items()}
            longest = max(int(self.lengths[rows].max()), 1)  # type: ignore[index]
            yield {**batch, "features": batch["features"][:, :longest]}

    def _order(self) -> list[Tensor]:
        """The texts' numbers, batch by batch."""
        order = self.rows[torch.randperm(self.length, generator=self.generator)]
        stretch = TOGETHER * self.size
        parts = [
            part[self.lengths[part].argsort(stable=True)]  # type: ignore[index]
            for part in order.split(stretch)
        ]
        batches = [rows for part in parts for rows in part.split(self.size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=self.generator).tolist()]

    def first(self) -> dict[str, Tensor]:
        """A batch of texts of middling length; the course of the epochs is left alone."""
        assert self.lengths is not None
        middle = self.rows[self.lengths[self.rows].argsort()][(self.length - self.size) // 2 :][: self.size]
        longest = max(int(self.lengths[middle].max()), 1)
        batch = {name: array[middle] for name, array in self.arrays.items()}
        return {**batch, "features": batch["features"][:, :longest]}

    def largest(self) -> dict[str, Tensor]:
        """A batch of texts that are all as long as the longest; its values mean nothing."""
        return {name: array[: self.size] for name, array in self.arrays.items()}

    def state(self) -> dict[str, Tensor]:
        """What the current epoch's order is made from."""
        return {"order": self.before}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Begin the next `epoch(start)` with the order that `state` stands for."""
        self.before = state["order"].clone()
        self.generator.set_state(self.before)


class Stretches:
    """One stream of tokens as batches of `length` tokens, each with the token that follows it as its target.

    stream   (N,) tokens of any integer type, mapped files included
    size     rows a batch; 0 = `LANES`
    length   tokens a row
    start    `model.start` where the model's state is carried from one batch to the next (truncated
             backpropagation through time): the stream is then cut into `size` lanes that are read in step,
             and a batch holds `state.0`, `state.1` ...: where the model is to begin, and where the task
             leaves what it ended with. Without it a row begins anywhere, in a new order each epoch.

    Raises SadariError when the stream is shorter than one batch.
    """

    def __init__(self, stream: Tensor, size: int, length: int, seed: int, start: Any = None) -> None:
        self.arrays = {"features": stream}
        self.stream = stream
        usable = len(stream) - 1
        if usable < 1:
            raise SadariError(f"a text of {len(stream)} tokens teaches nothing; give a longer one")
        self.length = min(length, usable)
        self.size = max(min(size or LANES, usable // self.length), 1)
        self.per_epoch = max(usable // (self.size * self.length), 1)
        self.lane = usable // self.size
        self.generator = torch.Generator().manual_seed(seed)
        self.before = self.generator.get_state()
        parts = () if start is None else start(self.size)
        self.carried = {f"state.{i}": part.detach().clone() for i, part in enumerate(parts)}

    def epoch(self, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Yield the batches from `start` on; at the beginning of an epoch nothing has been read."""
        self.before = self.generator.get_state()
        places = self._places()
        if start == 0:
            for part in self.carried.values():
                part.zero_()
        for number in range(start, self.per_epoch):
            rows = [self.stream[i : i + self.length + 1] for i in places[number].tolist()]
            block = torch.stack([row.to(torch.int64) for row in rows])  # (B, T + 1)
            yield {"tokens": block[:, :-1], "targets": block[:, 1:], **self.carried}

    def _places(self) -> Tensor:
        """Where each row of each batch begins: (batches, B)."""
        shift = int(torch.randint(self.length, (), generator=self.generator))  # other cuts each epoch
        if self.carried:
            first = torch.arange(self.size) * self.lane  # (B,)
            room = max(self.lane - self.per_epoch * self.length, 0)
            return first + min(shift, room) + self.length * torch.arange(self.per_epoch).unsqueeze(1)
        wanted = self.per_epoch * self.size
        room = len(self.stream) - 1 - wanted * self.length
        order = torch.randperm(wanted, generator=self.generator)
        return (order * self.length + min(shift, max(room, 0))).view(self.per_epoch, self.size)

    def first(self) -> dict[str, Tensor]:
        """A batch to try things with; the course of the epochs and the state are left alone."""
        kept = {name: part.clone() for name, part in self.state().items()}
        batch = next(self.epoch())
        self.load(kept)
        return batch

    def largest(self) -> dict[str, Tensor]:
        """A batch of the usual size; its values mean nothing."""
        shape = (self.size, self.length)
        tokens = torch.zeros(shape, dtype=torch.int64, device=self.stream.device)
        return {"tokens": tokens, "targets": tokens, **self.carried}

    def state(self) -> dict[str, Tensor]:
        """What the current epoch's order is made from, and what has been read."""
        return {"order": self.before, **self.carried}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Begin the next `epoch(start)` where `state` stood."""
        self.before = state["order"].clone()
        self.generator.set_state(self.before)
        for name, part in self.carried.items():
            part.copy_(state[name])


def make_batches(
    model: nn.Module,
    task: Any,
    arrays: Mapping[str, Tensor],
    config: Any,
    rows: Sequence[Tensor] | None = None,
) -> Batches | TextBatches | Stretches | PairBatches | CaptionBatches | StreamBatches:
    """What feeds `task`, by its `batching`; `config` gives batch size and seed, `rows` as for each kind."""
    batching = getattr(task, "batching", "rows")
    if batching == "texts":
        return TextBatches(arrays, config.batch_size, config.seed, None if rows is None else rows[0])
    if batching == "pairs":
        return PairBatches(arrays, config.batch_size, config.seed, None if rows is None else rows[0])
    if batching == "captions" and isinstance(arrays, Streamed) and rows is None:
        return StreamBatches(arrays, arrays.stream, config.batch_size, config.seed)
    if batching == "captions":
        return CaptionBatches(arrays, config.batch_size, config.seed, None if rows is None else rows[0])
    if batching == "stretches":
        reach = getattr(model, "context", None)
        length = min(config.span or reach or STRETCH, reach or config.span or STRETCH)
        start = model.start if getattr(model, "carries", False) else None
        return Stretches(arrays["features"], config.batch_size, length, config.seed, start)
    return Batches(arrays, config.batch_size, config.seed, rows)


def usual_size(rows: int) -> int:
    """Rows a batch unless told: 32, doubled up to 512 while an epoch would have 2,000 batches or more."""
    size = 32
    while size < 512 and rows >= 2000 * size:
        size *= 2
    return size


def rows_of(arrays: Mapping[str, Tensor]) -> int:
    """Number of examples in a dict of arrays."""
    return len(next(iter(arrays.values()))) if arrays else 0
