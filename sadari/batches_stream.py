"""Batches of a stream that no memory holds: the next ones are read and decoded while one is learnt from.

    reader (one thread)          decoders (a thread a core)         the loop
    pairs of a batch, in  --->   pixels, tokens, ids    --->        a batch, and where the stream
    the shards' order                                               then stands: what a resume needs

Each batch says where the stream stands behind it, and only what the loop was given counts: what was read
ahead of an interruption is read again. Captions are drawn from the seed, the epoch's number and the batch's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from sadari.batches_captions import PAIRS, CaptionBatches
from sadari.data.caption_sources import Pair
from sadari.data.caption_stream import CaptionStream
from sadari.data.image_files import cores
from sadari.errors import SadariError

AHEAD = 3  # batches that are read before they are asked for
PLACE = ("epoch", "block", "given", "shard", "begins", "number")
"""What of the shards' state is a place in them; the rest says which shards they are."""


class StreamBatches:
    """As `CaptionBatches`, of all shards; an epoch is one pass over them, but for what fills no last batch.

    arrays   of the first pictures, as `caption_tensors` gives them: what is tried is tried on these
    """

    def __init__(self, arrays: Mapping[str, Tensor], stream: CaptionStream, size: int, seed: int) -> None:
        self.head = CaptionBatches(arrays, size, seed)
        self.arrays = self.head.arrays
        self.stream, self.size, self.seed = stream, size or PAIRS, seed
        self.per_epoch = max(stream.pairs // self.size, 1)
        self.shards = stream.shards(seed)
        self.place = self._stands(0)

    def epoch(self, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """The rest of the epoch, from where `load` or the last batch left it: `start` is known from that.

        Raises SadariError where the shards hold no two pairs to learn from.
        """
        self._go(self.place)
        given = 0
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(cores()) as decoders:
            groups = self._groups(self.place["batch"])

            def ahead() -> tuple[Future, dict[str, int]] | None:
                found = next(groups, None)
                if found is None:
                    return None
                pairs, place = found
                return decoders.submit(self._batch, pairs, place), place

            waiting = deque(reader.submit(ahead) for _ in range(AHEAD))
            try:
                while (found := waiting.popleft().result()) is not None:
                    waiting.append(reader.submit(ahead))
                    batch, self.place = found[0].result(), found[1]
                    given += 1
                    yield batch
            finally:
                for each in waiting:
                    each.cancel()
        if not given and not self.place["batch"]:
            raise SadariError(
                "the shards hold no two pairs beside those of validation and test; give more of them"
            )
        self.place = self._stands(0)

    def first(self) -> dict[str, Tensor]:
        """A batch to try things with; the stream is left alone."""
        return self.head.first()

    def largest(self) -> dict[str, Tensor]:
        """A batch that needs as much memory as any."""
        return self.head.largest()

    def state(self) -> dict[str, Tensor]:
        """Where the stream stands behind the last batch."""
        return {"place": torch.tensor([self._shards(), *self.place.values()], dtype=torch.int64)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from there. Raises SadariError when it is a place in other shards."""
        which, *numbers = state["place"].tolist()
        if which != self._shards():
            raise SadariError("the training stopped in other shards than these; give those, or another --out")
        self.place = dict(zip((*PLACE, "batch"), numbers, strict=True))

    def _groups(self, number: int) -> Iterator[tuple[list[Pair], dict[str, int]]]:
        """Pairs of a batch each, and where the stream stands behind them."""
        group: list[Pair] = []
        for pair in self.stream.trained(self.shards):
            group.append(pair)
            if len(group) == self.size:
                number += 1
                yield group, self._stands(number)
                group = []
        if number == 0 and len(group) > 1:  # all that there is; behind it the next epoch begins
            yield group, self._stands(0)

    def _batch(self, pairs: list[Pair], place: Mapping[str, int]) -> dict[str, Tensor]:
        found = self.stream.encode(pairs, [self.seed, place["epoch"], place["batch"]])
        pixels, tokens, ids = map(torch.from_numpy, found)
        device = self.arrays["features"].device
        return {"features": pixels.to(device), "tokens": tokens.to(device), "ids": ids.to(device)}

    def _stands(self, batch: int) -> dict[str, int]:
        state = self.shards.state()
        return {**{name: state[name] for name in PLACE}, "batch": batch}

    def _go(self, place: Mapping[str, int]) -> None:
        self.shards.load_state({**self.shards.state(), **{name: place[name] for name in PLACE}})

    def _shards(self) -> int:
        """A number for these shards and their order."""
        state = self.shards.state()
        return int(state["shards"][:12], 16) + self.seed
