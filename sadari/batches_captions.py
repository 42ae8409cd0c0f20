"""Pictures with their captions as batches: every picture once an epoch, each time with a caption drawn anew.

A picture may have many captions, in several languages; a batch shows one, since two of a picture would have
to be told apart from each other. A language that it has is drawn first, then a caption of that, so that many
English captions do not drown one in Korean:

    epoch's order --- pictures ---+--- one caption each --- tokens, cut where the longest ends
    (a shuffle)         (B,)      |          (B,)
                                  +--- subject, wording --- ids: equal where a pair is true of another's

The captions of a batch are drawn from the epoch's own number and the batch's, so that an epoch can be gone on
with at any batch without drawing those before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from sadari.data.caption_arrays import CaptionArrays
from sadari.data.caption_stream import CaptionStream, StreamedArrays
from sadari.errors import SadariError
from sadari.layers.tokens import is_real, trimmed

PAIRS = 256  # a batch, unless told: each pair is told apart from as many others
SEEDS = 1 << 62  # of an epoch's captions
BLOCK = 1 << 16  # captions whose lengths are counted at once, so that a mapped file stays one


class CaptionBatches:
    """`{"features": (B, H, W, C) uint8, "tokens": (B, T), "ids": (B,)}`, sizes differing by at most one.

    arrays   as `caption_tensors` gives them
    size     pairs a batch at most; 0 = `PAIRS`
    rows     the pictures that may be seen, else all

    Raises SadariError when there are no pictures.
    """

    def __init__(
        self, arrays: Mapping[str, Tensor], size: int, seed: int, rows: Tensor | None = None
    ) -> None:
        self.arrays = dict(arrays)
        N = len(arrays["features"])
        self.rows = torch.arange(N, device="cpu") if rows is None else rows.cpu().to(torch.int64)
        if not len(self.rows):
            raise SadariError("no pictures with captions to train on; give at least one")
        self.per_epoch = -(-len(self.rows) // (size or PAIRS))
        self.bounds = [i * len(self.rows) // self.per_epoch for i in range(self.per_epoch + 1)]
        self.generator = torch.Generator(device="cpu").manual_seed(seed)
        self.before = self.generator.get_state()  # the current epoch's order is drawn from here
        shapes_only = arrays["features"].device.type == "meta"
        self.captions = None if shapes_only else caption_arrays(arrays)

    def epoch(self, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Shuffle, then yield the batches from `start` on."""
        self.before = self.generator.get_state()
        order = self.rows[torch.randperm(len(self.rows), generator=self.generator, device="cpu")]
        seed = int(torch.randint(SEEDS, (), generator=self.generator, device="cpu"))
        for number in range(start, self.per_epoch):
            pictures = order[self.bounds[number] : self.bounds[number + 1]].numpy()
            yield self._batch(pictures, np.random.default_rng([seed, number]))

    def _batch(self, pictures: np.ndarray, draw: np.random.Generator) -> dict[str, Tensor]:
        assert self.captions is not None
        chosen = self.captions.drawn(pictures, draw)
        return pairs(self.arrays, self.captions, pictures, chosen)

    def first(self) -> dict[str, Tensor]:
        """A batch to try things with; the course of the epochs is left alone."""
        state = self.generator.get_state()
        batch = next(self.epoch())
        self.load({"order": state})
        return batch

    def largest(self) -> dict[str, Tensor]:
        """A batch that needs as much memory as any, with the longest captions; its pairs mean nothing."""
        size = max(end - begin for begin, end in pairwise(self.bounds))
        features, tokens = self.arrays["features"][:size], self.arrays["tokens"]
        if self.captions is not None:
            lengths = torch.cat([is_real(block).sum(-1) for block in tokens.split(BLOCK)])
            tokens = trimmed(tokens[lengths.argsort(descending=True, stable=True)[:size]])
        ids = torch.arange(size, device=features.device)
        return {"features": features, "tokens": tokens[:size], "ids": ids}

    def state(self) -> dict[str, Tensor]:
        """What the current epoch's order and captions are made from."""
        return {"order": self.before}

    def load(self, state: Mapping[str, Any]) -> None:
        """Begin the next `epoch(start)` with the order that `state` stands for."""
        self.before = state["order"].clone()
        self.generator.set_state(self.before)


def pairs(
    arrays: Mapping[str, Tensor], captions: CaptionArrays, pictures: np.ndarray, chosen: np.ndarray
) -> dict[str, Tensor]:
    """The batch of these pictures (B,) with a caption each, numbered (B,) among all captions."""
    features, tokens = arrays["features"], arrays["tokens"]
    rows, words = torch.from_numpy(pictures), torch.from_numpy(chosen)
    ids = torch.from_numpy(captions.known_positives(pictures, chosen).astype(np.int64))
    return {
        "features": features[rows.to(features.device)],
        "tokens": trimmed(tokens[words.to(tokens.device)]),
        "ids": ids.to(features.device),
    }


def caption_tensors(arrays: CaptionArrays) -> dict[str, Tensor]:
    """A part of captioned pictures as tensors that share its memory, the texts left out.

    `features` (N, H, W, C) and `subjects` (N,) of pictures; `tokens` (K, T), `languages` and `wordings` (K,)
    of captions; `starts` (N+1,): picture n has the captions starts[n] to starts[n+1].
    """
    names = ("features", "tokens", "starts", "languages", "subjects", "wordings")
    found = {name: torch.from_numpy(getattr(arrays, name)) for name in names}
    return Streamed(found, arrays.stream) if isinstance(arrays, StreamedArrays) else found


class Streamed(dict[str, Tensor]):
    """Arrays of the first pictures, and the `stream` of all."""

    def __init__(self, arrays: Mapping[str, Tensor], stream: CaptionStream) -> None:
        super().__init__(arrays)
        self.stream = stream


def caption_arrays(arrays: Mapping[str, Tensor]) -> CaptionArrays:
    """The way back from `caption_tensors`, without the texts."""
    whole: dict[str, Any] = {name: value.cpu().numpy() for name, value in arrays.items() if name != "tokens"}
    return CaptionArrays(targets=arrays["tokens"].cpu().numpy(), texts=pl.Series(dtype=pl.String), **whole)


def first_pictures(arrays: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """The first `count` pictures with all their captions, as arrays of the same names."""
    starts = arrays["starts"][: count + 1]
    captions = int(starts[-1])
    cut = {name: arrays[name][:captions] for name in ("tokens", "languages", "wordings")}
    return {
        **arrays,
        **cut,
        "starts": starts,
        "features": arrays["features"][:count],
        "subjects": arrays["subjects"][:count],
    }
