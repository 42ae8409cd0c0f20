"""Beam search: several unfinished targets a source, of which the best go on, in one group or in several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np

from sadari.search.rows import Rows, closed
from sadari.search.settings import Candidate, Found, Step


class Beams(Rows):
    """Sources whose prefixes have one length, each with its beams and its finished targets."""

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        shape = len(self.sources), self.how.groups
        self.kept: list[list[list[Found]]] = [[[] for _ in range(shape[1])] for _ in range(shape[0])]
        self.worst = np.full(shape, -math.inf)  # score of the last kept one, once there are `n_best`

    def write(self, names: Sequence[int], trace: list[Step] | None) -> list[list[Found]]:
        """Several unfinished targets a source: A sources in work, G groups, k beams each, m tokens a beam.

        1. look up each beam's likeliest tokens   2. rank a group's candidates   3. keep what is finished
        4. go on with the best                    5. leave the sentences where nothing better can come
        """
        G, K, P = self.how.groups, self.how.beam // self.how.groups, self.begun.shape[1] - 1
        alive = np.arange(len(self.sources))
        rows = alive[:, None, None].repeat(G, 1)  # (A, G, k): of the logits; the groups begin with one
        total = np.zeros(rows.shape)
        history = self.begun[:, None, None, 1:].repeat(G, 1)  # (A, G, k, T)
        logits, state = self.begin(alive)
        for t in count():
            A, _, k = rows.shape
            values, tokens, sums = self.likeliest(
                logits, self.how.beam + 1, self._said(rows, history, len(logits))
            )
            m = values.shape[1]
            logps, words = total[..., None] + values[rows], tokens[rows]  # (A, G, k, m)
            due = self.limits[alive] <= t
            logps[due] = -math.inf  # at the most tokens all that is left is END
            at_end = total + self.of_end(logits, sums)[rows] if due.any() else total
            taken: list[np.ndarray] = []  # by the groups so far: (A, k) each
            went: list[tuple[np.ndarray, np.ndarray]] = []
            ended = np.zeros(A, bool)
            steps: list[list[Candidate]] = [[] for _ in alive]
            for g in range(G):
                logp, word = logps[:, g].reshape(A, -1), words[:, g].reshape(A, -1)  # (A, k m)
                order = self._order(logp, word, taken)[:, : 2 * K]
                logp, word = np.take_along_axis(logp, order, 1), np.take_along_axis(word, order, 1)
                is_end = word == self.end
                finished = is_end & (logp > -math.inf)
                finished[:, K:] = False
                ended |= finished.any(1)
                done = [(a, order[a, i] // m, logp[a, i]) for a, i in np.argwhere(finished)]
                done += [(a, beam, at_end[a, g, beam]) for a in np.flatnonzero(due) for beam in range(k)]
                for a, beam, value in done:
                    i, score = alive[a], float(value / self.how.penalty(t + 1))
                    if score > self.worst[i, g]:
                        trail = self.where(rows[a, g, beam], P + t, i)
                        self._keep(i, g, Found(history[a, g, beam].tolist(), float(value), score, trail))
                pick = np.argsort(is_end, 1, kind="stable")[:, :K]  # the best that go on
                totals, chosen = np.take_along_axis(logp, pick, 1), np.take_along_axis(word, pick, 1)
                dead = (chosen == self.end) | (totals == -math.inf)  # where too little can be written
                taken.append(np.where(dead, -1, chosen))
                went.append((np.take_along_axis(order, pick, 1) // m, np.where(dead, -math.inf, totals)))
                if trace is not None:
                    for a, beam, value in done:
                        steps[a].append(Candidate(g * k + int(beam), self.end, float(value), "finished"))
                    for a, going in enumerate(~dead):
                        beams = {
                            int(i): g * len(going) + beam for beam, i in enumerate(pick[a]) if going[beam]
                        }
                        for i in np.flatnonzero((logp[a] > -math.inf) & ~finished[a]):
                            beam = beams.get(int(i), -1)
                            about = g * k + int(order[a, i]) // m, int(word[a, i]), float(logp[a, i])
                            steps[a].append(Candidate(*about, "pruned" if beam < 0 else "kept", beam))
            if trace is not None:
                trace += [
                    Step(names[int(i)], t, steps[a])
                    for a, i in sorted(enumerate(alive), key=lambda one: one[1])
                ]
            parents, total = (np.stack(parts, 1) for parts in zip(*went, strict=True))  # (A, G, k)
            over = due | _hopeless(
                total.max(-1) / self.how.penalty(self.limits[alive] + 1)[:, None], self.worst[alive]
            )
            over |= ended & (self.how.beam == 1)
            for a in np.flatnonzero(over):
                if not any(self.kept[alive[a]]):  # the model leaves no way to go on, nor one to end
                    self._keep(alive[a], 0, Found(history[a, 0, 0].tolist(), -math.inf, -math.inf))
            rest = closed(np.flatnonzero(~over))
            if not len(rest):
                break
            at = (rest[:, None, None], np.arange(G)[:, None], parents[rest])
            moved, word = rows[at], np.stack(taken, 1)[rest]
            history = np.concatenate((history[at], word[..., None]), -1)
            alive, total = alive[rest], total[rest]
            each = len(logits) // A
            rows, parents, word = _places(moved.ravel(), word.clip(0).ravel(), each == moved[0].size)
            rows = rows.reshape(moved.shape)
            logits, state = self.further(word, state, parents, len(logits))
        return [best_of(groups, self.how.n_best) for groups in self.kept]

    def _order(self, logp: np.ndarray, word: np.ndarray, taken: list[np.ndarray]) -> np.ndarray:
        """A group's candidates (A, k m) from the best down, tokens that earlier groups took made dearer."""
        if taken and self.how.diversity:
            counts = (word[..., None] == np.concatenate(taken, 1)[:, None]).sum(-1)
            logp = logp - self.how.diversity * counts
        return np.argsort(-logp, 1, kind="stable")

    def _keep(self, i: int, g: int, one: Found) -> None:
        """Put a finished target of group `g` in its place among the best of sentence `i`."""
        kept = sorted([*self.kept[i][g], one], key=lambda one: -one.score)[: self.how.n_best]
        self.kept[i][g] = kept
        if len(kept) == self.how.n_best:
            self.worst[i, g] = kept[-1].score

    def _said(self, rows: np.ndarray, history: np.ndarray, count: int) -> np.ndarray | None:
        """What stands in each row of the logits so far (R, T), if that matters."""
        if not self.how.no_repeat:
            return None
        said = np.zeros((count, history.shape[-1]), int)
        said[rows.ravel()] = history.reshape(rows.size, history.shape[-1])
        return said


def _places(parents: np.ndarray, words: np.ndarray, as_many: bool) -> tuple[np.ndarray, ...]:
    """Where the rows that come of these parents stand (R,), and each place's parent and word.

    If a sentence has as many rows as before, a parent's first child takes its place, so that a model need not
    move it, and the others take the free places in turn: each in its sentence's, where as many are free.
    """
    places = np.arange(len(parents))
    if not as_many:
        return places, parents, words
    first = np.full(max(int(parents.max()) + 1, len(parents)), -1)
    first[parents[::-1]] = places[::-1]  # of each parent's children; the last to be written stands
    first = first[: len(parents)]
    others = np.ones(len(parents), bool)
    others[first[first >= 0]] = False
    order = np.where(first >= 0, first, 0)  # who stands in each place
    order[first < 0] = np.flatnonzero(others)
    places[order] = np.arange(len(parents))
    return places, parents[order], words[order]


def _hopeless(most: np.ndarray, worst: np.ndarray) -> np.ndarray:
    """Whether no beam of a sentence (A,) can come to more than its kept targets: both (A, G)."""
    return np.all(most <= worst, axis=1)


def best_of(groups: list[list[Found]], count: int) -> list[Found]:
    """The best of each group, then the second best, until there are `count` that differ; by score."""
    found: dict[tuple[int, ...], Found] = {}
    for rank in range(count):
        for one in sorted((g[rank] for g in groups if rank < len(g)), key=lambda one: -one.score):
            if len(found) < count:
                found.setdefault(tuple(one.tokens), one)
    return sorted(found.values(), key=lambda one: -one.score)
