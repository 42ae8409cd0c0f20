"""One target a row: the likeliest token each time, or one drawn by its odds."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from itertools import count

import numpy as np
import torch
from torch import Tensor

from sadari.decode import Sampling, draw
from sadari.search.rows import Rows, array, closed
from sadari.search.settings import Found

LEAVE = 8  # a batch is repacked when one row in so many is done, as that costs a copy of the state
ROOM = 32  # tokens of a target that have room before it has to grow


class Single(Rows):
    """Sources whose prefixes have one length, each with one target or several that are drawn."""

    def write(self) -> list[list[Found]]:
        """The likeliest token each time, or one drawn, for one row a source or as many as are to be drawn."""
        drawing, each = self.how.temperature > 0, self.how.n_best
        rows = np.arange(len(self.sources)).repeat(each)
        random = [self._random(int(row), k % each) for k, row in enumerate(rows)] if drawing else []
        limits, P = self.limits[rows], self.begun.shape[1] - 1
        written = np.full((len(rows), P + ROOM), self.end)
        written[:, :P] = self.begun[rows, 1:]
        total, trails = np.zeros(len(rows)), [None] * len(rows)
        places, over = np.arange(len(rows)), np.zeros(len(rows), bool)  # rows in the batch; those that ended
        logits, state = self.begin(rows)
        for t in count():
            history = written[places, : P + t] if self.how.no_repeat else None
            if drawing:
                chosen, logp, sums = self._draw(logits, history, [random[place] for place in places])
            else:
                values, tokens, sums = self.likeliest(logits, 1, history)
                best = values.argmax(1)[:, None]
                chosen, logp = (np.take_along_axis(x, best, 1)[:, 0] for x in (tokens, values))
            due = (limits[places] <= t) | (logp == -math.inf)
            if due.any():
                chosen = np.where(due, self.end, chosen)
                logp = np.where(due, self.of_end(logits, sums), logp)
            chosen[over], logp[over] = self.end, 0
            if P + t == written.shape[1]:
                written = np.concatenate((written, np.full_like(written, self.end)), 1)
            written[places, P + t] = chosen
            total[places] += logp
            ends = chosen == self.end
            for row in np.flatnonzero(ends & ~over) if self.trail is not None else ():
                trails[places[row]] = self.where(row, P + t, rows[places[row]])
            over, rest = ends, np.arange(len(ends))
            if ends.sum() * LEAVE >= len(ends):
                rest = closed(np.flatnonzero(~ends))
                if not len(rest):
                    break
            logits, state = self.further(chosen[rest], state, rest, len(over))
            places, over = places[rest], over[rest]
        found: list[list[Found]] = [[] for _ in self.sources]
        for k, row in enumerate(rows):
            n = int((written[k, P:] == self.end).argmax())  # tokens written
            tokens, sum_ = written[k, : P + n].tolist(), float(total[k]) if self.scores else math.nan
            if all(tokens != other.tokens for other in found[row]):
                found[row].append(Found(tokens, sum_, sum_ / self.how.penalty(n + 1), trails[k]))
        return [sorted(answers, key=lambda one: -one.score) for answers in found]

    def _random(self, row: int, k: int) -> torch.Generator:
        """Random numbers for draw `k` of a source, by the seed and what the source says."""
        tokens = self.sources[row, : self.sizes[row]].cpu().numpy().astype(np.int64)
        said = zlib.crc32(tokens.tobytes(), self.how.seed & 0xFFFFFFFF)
        return torch.Generator().manual_seed((said << 16) + k)

    def _draw(
        self, logits: Tensor, history: np.ndarray | None, random: Sequence[torch.Generator]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Drawn tokens (R,), their log-probabilities, and the rows' normalisers."""
        how = Sampling(temperature=self.how.temperature, top_k=self.how.top_k, top_p=self.how.top_p)
        sums = array(logits.float().logsumexp(1))
        allowed = logits if history is None else self.without_repeats(logits, history)
        allowed = allowed.index_fill(1, self.tensor(self.never), -math.inf)
        tokens = np.array([draw(row, how, one) for row, one in zip(allowed, random, strict=True)])
        return tokens, array(logits.gather(1, self.tensor(tokens).unsqueeze(1))[:, 0]) - sums, sums
