"""Rows of a batch that write a token a step: what greedy search, drawing and beams have in common."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sadari.errors import SadariError
from sadari.layers.steps import ranked
from sadari.layers.tokens import is_real
from sadari.search.settings import Searching

FURTHER = 10  # tokens that a target may have beyond twice its source's
PIECES = 16  # of a vocabulary: the likeliest k words lie in the k columns with the largest of 16 (measured)


class Rows:
    """Sources whose prefixes have one length, being searched."""

    def __init__(
        self,
        model: Any,
        sources: Int[Tensor, "B S"],
        begun: list[list[int]],
        searching: Searching,
        end: int,
        never: set[int],
        align: bool,
        scores: bool,
        limits: np.ndarray | None = None,
    ) -> None:
        self.model, self.sources, self.how, self.end, self.scores = model, sources, searching, end, scores
        self.begun, self.never = np.array(begun), np.array(sorted(never), int)
        self.sizes = is_real(sources).sum(1).cpu().numpy()
        self.limits = np.full(len(sources), searching.max_tokens)
        if not searching.max_tokens:
            self.limits = 2 * self.sizes + FURTHER if limits is None else limits
        self.trail = Trail() if align and getattr(model, "alignment", None) is None else None
        self.room: Tensor | None = None  # for a softmax, used again at each step

    def begin(self, rows: np.ndarray) -> tuple[Tensor, Any]:
        """Logits (R, V) behind the prefix, and the state; `rows` says whose source each row has."""
        state = self.model.start(self.sources)
        if len(rows) > len(self.sources):
            state = self.model.reorder(state, self.tensor(rows))
        tokens = self.tensor(self.begun[rows])
        if self.trail is None:
            return self.model.step(tokens, state)
        for column in tokens.split(1, dim=1):  # a token at a time, to see where each one looks
            logits, state = self.model.step(column, state)
            self.trail.look(state)
        return logits, state

    def further(self, tokens: np.ndarray, state: Any, rows: np.ndarray, before: int) -> tuple[Tensor, Any]:
        """A token (R,) further, for these `rows` of `before`; where they are all, in order, none is moved."""
        if self.trail is not None:
            self.trail.move(rows)
        if len(rows) != before or (rows != np.arange(before)).any():
            state = self.model.reorder(state, self.tensor(rows))
        logits, state = self.model.step(self.tensor(tokens).unsqueeze(1), state)
        if self.trail is not None:
            self.trail.look(state)
        return logits, state

    def likeliest(
        self, logits: Float[Tensor, "R V"], count: int, history: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log-probabilities (R, m) and tokens (R, m) of at least `count` likeliest, from the likeliest down,
        -inf for those that are never written; and the rows' normalisers: logp = logit - normaliser."""
        m = min(count + len(self.never), logits.shape[1])
        found = ranked(logits, m, self.scores) if history is None else None
        logp, words, sums = found or self._ranked(logits, m, history)
        if len(self.never):
            logp[np.isin(words, self.never)] = -math.inf
        return logp, words, sums

    def _ranked(
        self, logits: Float[Tensor, "R V"], count: int, history: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What `likeliest` gives, before it is known what is never written."""
        logits = logits.float()
        values, tokens = top(logits, count)
        best = values[:, :1]
        check_finite(bool(best.isfinite().all()))
        sums = np.zeros(len(logits))
        if self.scores:
            if self.room is None or len(self.room) < len(logits):
                self.room = torch.empty_like(logits)
            # torch's softmax takes half the time of its logsumexp; the likeliest's share is never near 0
            share = torch.softmax(logits, 1, out=self.room[: len(logits)])
            sums = array((best - share.gather(1, tokens[:, :1]).log())[:, 0])
        if history is not None:
            values, tokens = top(self.without_repeats(logits, history), count)
        return array(values) - sums[:, None], tokens.cpu().numpy(), sums

    def without_repeats(self, logits: Tensor, history: np.ndarray) -> Tensor:
        """Logits with -inf for tokens that would complete a run of `no_repeat` that stands in the history."""
        n = self.how.no_repeat
        if history.shape[1] < n:
            return logits
        runs = np.lib.stride_tricks.sliding_window_view(history, n, axis=1)  # (R, T - n + 1, n)
        last = history[:, None, history.shape[1] - n + 1 :]
        row, place = np.nonzero((runs[..., :-1] == last).all(-1))
        logits = logits.clone()
        logits[self.tensor(row), self.tensor(runs[row, place, -1])] = -math.inf
        return logits

    def of_end(self, logits: Tensor, sums: np.ndarray) -> np.ndarray:
        """Log-probability (R,) of END."""
        return array(logits[:, self.end]) - sums

    def where(self, row: Any, length: int, source: Any) -> Tensor | None:
        """Where the `length` tokens of a row looked in its source (T, S), if the steps have shown it."""
        return None if self.trail is None else self.trail.follow(row, length, int(self.sizes[source]))

    def tensor(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(self.sources.device)


def check_finite(finite: bool) -> None:
    """Raise SadariError where the likeliest tokens' logits are not."""
    if not finite:
        raise SadariError("the model's logits are no finite numbers; its training broke down: fit it again")


def closed(rest: np.ndarray) -> np.ndarray:
    """Those that are left (R,), in an order in which all whose place is below R keep it."""
    stays = rest < len(rest)
    out = np.full_like(rest, -1)
    out[rest[stays]] = rest[stays]
    out[out < 0] = rest[~stays]
    return out


class Trail:
    """Where each step looked, and which row of the step before each row came from."""

    def __init__(self) -> None:
        self.looks: list[Tensor] = []
        self.parents: list[np.ndarray | None] = []

    def look(self, state: Any) -> None:
        """Note the attention (R, S) of a step, if its state shows one."""
        attention = getattr(state, "attention", None)
        if attention is not None:
            self.looks.append(attention.clone())  # the next step may write into it
            self.parents.append(None)

    def move(self, rows: np.ndarray) -> None:
        """The rows are now these of the last step's."""
        if self.parents:
            self.parents[-1] = rows

    def follow(self, row: Any, length: int, size: int) -> Tensor | None:
        """(T, S) of a row of the last step: its first `length` tokens, the source's first `size`."""
        if not self.looks:
            return None
        path = []
        for look, parents in zip(reversed(self.looks), [None, *reversed(self.parents[:-1])], strict=True):
            row = row if parents is None else parents[row]
            path.append(look[row, :size])
        return torch.stack(path[::-1])[:length]


def top(logits: Float[Tensor, "R V"], count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row from the largest down (R, count), and which they are.

    torch's topk looks at every number with care. Here the vocabulary is laid in `PIECES` rows: the largest of
    each column are found fast, and the `count` largest numbers lie in the `count` best columns.
    """
    R, V = logits.shape
    columns = V // PIECES
    if columns <= 4 * count:
        return logits.topk(count)
    laid = logits[:, : columns * PIECES].unflatten(1, (PIECES, columns))
    best = laid.amax(1).topk(count).indices  # (R, count)
    places = (best.unsqueeze(1) + columns * torch.arange(PIECES, device=best.device)[:, None]).flatten(1)
    tail = torch.arange(columns * PIECES, V, device=best.device).expand(R, -1)
    places = torch.cat((places, tail), 1)
    values, order = logits.gather(1, places).topk(count)
    return values, places.gather(1, order)


def array(values: Tensor) -> np.ndarray:
    """float64, so that sums are exact to what the model says."""
    return values.double().cpu().numpy()
