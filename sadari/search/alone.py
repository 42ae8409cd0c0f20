"""One source by itself, greedily or by a group of beams: what `Single` and `Beams` answer, in less time.

Arrays for many sources at once take longer than the model itself where there is but one source.
"""

from __future__ import annotations

import math
from itertools import count

import numpy as np
from torch import Tensor

from sadari.search.beams import best_of
from sadari.search.rows import Rows, check_finite
from sadari.search.settings import Found

Beam = tuple[float, int, list[int]]
"""Sum of log-probabilities, row of the state, and tokens."""


class Alone(Rows):
    """A source without `no_repeat`, whose steps need not show where they looked."""

    def greedy(self) -> list[list[Found]]:
        """The likeliest token each time; no scores."""
        written: list[int] = []
        limit = int(self.limits[0])
        logits, state = self.begin(np.zeros(1, int))
        while len(written) < limit:
            token = self._best(logits)
            if token == self.end:
                break
            written.append(token)
            if len(written) < limit:
                logits, state = self.model.step(self.tensor(np.array([[token]])), state)
        return [[Found([*self.begun[0, 1:].tolist(), *written], math.nan, math.nan)]]

    def beams(self) -> list[list[Found]]:
        """Up to K unfinished targets, in as many rows of the model's state; the order of rank is another."""
        K, limit = self.how.beam, int(self.limits[0])
        kept: list[Found] = []
        worst = -math.inf  # score of the last kept one, once there are `n_best`
        beams: list[Beam] = [(0.0, 0, self.begun[0, 1:].tolist())]
        logits, state = self.begin(np.zeros(1, int))
        for t in count():
            values, tokens, sums = self.likeliest(logits, K + 1, None)
            due = t >= limit  # all that is left is END
            # 1. the best ways on: sum, beam and token, from the best down
            ways = [] if due else _ways(beams, values.tolist(), tokens.tolist())[: 2 * K]
            # 2. keep what is finished
            done = [(total, b) for total, b, token in ways[:K] if token == self.end]
            if due:
                at_end = self.of_end(logits, sums).tolist()
                done = [(total + at_end[row], b) for b, (total, row, _) in enumerate(beams)]
            for total, b in done:
                score = total / self.how.penalty(t + 1)
                if score > worst:
                    kept = sorted([*kept, Found(beams[b][2], total, score)], key=lambda one: -one.score)
                    kept = kept[: self.how.n_best]
                    worst = kept[-1].score if len(kept) == self.how.n_best else worst
            # 3. go on with the best, as long as something better can come
            on = [(total, *beams[b][1:], token) for total, b, token in ways if token != self.end][:K]
            if not on or on[0][0] / self.how.penalty(limit + 1) <= worst:
                break
            places, parents = _places([row for _, row, _, _ in on], len(logits), K)
            beams = [
                (total, place, [*trail, token])
                for place, (total, _, trail, token) in zip(places, on, strict=True)
            ]
            said = np.zeros(K, int)
            said[places] = [trail[-1] for _, _, trail in beams]
            logits, state = self.further(said, state, parents, len(logits))
        kept = kept or [Found(beams[0][2], -math.inf, -math.inf)]  # no way to go on, nor one to end
        return [best_of([kept], self.how.n_best)]

    def _best(self, logits: Tensor) -> int:
        """The likeliest token that may be written, or END where there is none."""
        row = logits[0].float().cpu().numpy()
        token = int(row.argmax())  # a number that is none counts as the largest
        check_finite(math.isfinite(row[token]))
        if token in self.never:
            row = row.copy()
            row[self.never] = -math.inf
            token = int(row.argmax())
            token = token if row[token] > -math.inf else self.end
        return token


def _ways(
    beams: list[Beam], values: list[list[float]], tokens: list[list[int]]
) -> list[tuple[float, int, int]]:
    """All ways on that are open, from the best down; among equals the first beam's first."""
    ways = [
        (total + value, b, token)
        for b, (total, row, _) in enumerate(beams)
        for value, token in zip(values[row], tokens[row], strict=True)
        if value > -math.inf
    ]
    return sorted(ways, key=lambda way: -way[0])


def _places(parents: list[int], before: int, count: int) -> tuple[list[int], np.ndarray]:
    """Rows for the children of these rows, and what each of the `count` rows was: stays, where it can.

    A parent's first child takes its row, so that a model need not move it; the others take the free rows.
    """
    if before != count:
        was = [*parents, *[parents[0]] * (count - len(parents))]
        return list(range(len(parents))), np.array(was)
    was, places = list(range(count)), [-1] * len(parents)
    taken: set[int] = set()
    for i, parent in enumerate(parents):
        if parent not in taken:
            taken.add(parent)
            places[i] = parent
    free = (row for row in range(count) if row not in taken)
    for i, parent in enumerate(parents):
        if places[i] < 0:
            places[i] = next(free)
            was[places[i]] = parent
    return places, np.array(was)
