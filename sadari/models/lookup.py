"""Lookup: the ground of `translate`. The training source most like a new one is found, its target the answer.

What a learner must beat is not nothing but a translation memory. Nothing is generalised: a source that was
met is answered without a fault, any other with somebody else's sentence.

Likeness is the cosine of two vectors with a number for each run of n = 1 .. order characters (Salton &
Buckley 1988, "Term-weighting approaches in automatic text retrieval"):

    weight of a run in a source = (1 + ln occurrences) ln(N / sources that have it)

Runs of characters and not words, since a Korean word has many endings and a typing error spoils but a few
runs. What stands in every source weighs nothing, END for one; "." END in a row says how a sentence ends.

A run's number is its place among the sorted runs of its length, and its key is the number of its first n - 1
characters times V plus its last one, as an n-gram's (n_gram.py). A source is compared with those alone that
share a run, through a list of sources for each run.

Alphabet: N training pairs, B batch, S source length, T target length, V vocabulary, U different runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.tokens import PAD, is_real
from sadari.losses import Loss
from sadari.models.n_gram import find

SURE, NEVER = 0.0, -1e4  # the logits of the found target's next token, and of all others
TOGETHER = 256  # sources looked up at once: their likeness to 30,000 others then fills 60 MB at the most

State = tuple[Tensor, Tensor]
"""The found target of each row (B, T), PAD at the right, and how many tokens of it are written (B,)."""


@dataclass(frozen=True)
class LookupConfig:
    """Settings of a `Lookup`; each field's text is the help of its flag."""

    order: int = 4
    """Characters of the longest runs that are compared; shorter ones are too, down to single ones."""

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 8:
            raise SadariError(f"order {self.order}: 1 to 8 characters in a row are compared; use order=4")


class Lookup(nn.Module):
    """All training pairs, and a search through their sources.

    Buffers: `sources` and `targets`, the tokens of all one after another, int32; `source_starts` and
    `target_starts` (N + 1,), where each begins and the last ends. A target is kept without START, with END.
    """

    Config: ClassVar = LookupConfig
    TINY: ClassVar = LookupConfig(order=2)
    tokenizer_kind: ClassVar[str] = "characters"
    """How texts must be cut for it."""

    def __init__(self, config: LookupConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.inputs, self.outputs = inputs, outputs
        for side in ("source", "target"):
            self.register_buffer(f"{side}s", torch.zeros(0, dtype=torch.int32))
            self.register_buffer(f"{side}_starts", torch.zeros(1, dtype=torch.int64))
        self._index: Index | None = None  # made when first asked
        self._most: int | None = None

    def forward(
        self,
        source: Int[Tensor, "B S"],
        target: Int[Tensor, "B T"],
        rec: Callable[[str, Tensor], Tensor] | None = None,
        plain: bool = False,
    ) -> Float[Tensor, "B T V"]:
        """Logits of the token after each of the target's: 0 for what stands there in the found target."""
        found = self.answer(source)
        places = torch.arange(target.shape[1]).expand(len(found), -1)
        output = self._logits(_at(found, places))
        return output if rec is None else rec("output", output)

    def start(self, source: Int[Tensor, "B S"]) -> State:
        """The target found for each source; nothing of it is written yet."""
        return self.answer(source), torch.zeros(len(source), dtype=torch.int64)

    def step(self, tokens: Int[Tensor, "B T"], state: State) -> tuple[Float[Tensor, "B V"], State]:
        """T tokens more are written, START being the first, whatever they are: what stands next is sure."""
        found, written = state
        written = written + tokens.shape[1]
        return self._logits(_at(found, (written - 1).unsqueeze(-1))).squeeze(1), (found, written)

    def reorder(self, state: State, rows: Int[Tensor, " K"]) -> State:
        """The state of these rows, in this order."""
        return state[0][rows], state[1][rows]

    def answer(self, source: Int[Tensor, "B S"]) -> Int[Tensor, "B T"]:
        """The target of the most similar source: the first in training order where several are equally so,
        the most frequent target where none shares anything with it. END behind, PAD at the right."""
        if len(self._array("source_starts")) == 1:
            raise SadariError("there is no pair to look up; solve the model on some first")
        if self._index is None:
            sources, begins = self._array("sources"), self._array("source_starts")
            self._index = Index(sources, begins, self.config.order, self.inputs)
        tokens = source.numpy()
        pairs = np.full(len(tokens), self._usual(), np.int64)
        for first in range(0, len(tokens), TOGETHER):
            some = slice(first, first + TOGETHER)
            nearest = self._index.nearest(*_flat(tokens[some]))
            pairs[some] = np.where(nearest >= 0, nearest, pairs[some])
        starts, targets = self._array("target_starts"), self._array("targets")
        lengths = starts[pairs + 1] - starts[pairs]
        places = np.arange(lengths.max(initial=1))
        there = places < lengths[:, None]
        found = np.where(there, targets[np.where(there, starts[pairs, None] + places, 0)], PAD)
        return torch.from_numpy(found.astype(np.int64))

    def can_solve(self, loss: Loss) -> bool:
        """True: to keep the pairs is the solution."""
        return True

    @torch.no_grad()
    def solve(self, features: Int[Tensor, "N S"], targets: Int[Tensor, "N T1"], loss: Loss) -> dict[str, Any]:
        """Keep the pairs: sources with PAD at the right, targets also with START in front.

        Returns facts as every `solve` does. SadariError when there is no pair, or a token outside the
        vocabulary.
        """
        if not len(features):
            raise SadariError("there is no pair to keep; give at least one")
        kept = {"source": _flat(features.numpy()), "target": _flat(targets[:, 1:].numpy())}
        for side, size in (("source", self.inputs), ("target", self.outputs)):
            tokens, starts = kept[side]
            if (most := int(tokens.max(initial=0))) >= size:
                raise SadariError(
                    f"token {most} of a {side} lies outside the vocabulary of {size}; encode with the run's "
                    f"tokenizer"
                )
            setattr(self, f"{side}s", torch.from_numpy(tokens))
            setattr(self, f"{side}_starts", torch.from_numpy(starts))
        self._index = self._most = None
        return {"iterations": 1, "converged": True, "notes": []}

    @staticmethod
    def parameter_count(config: LookupConfig, inputs: int, outputs: int) -> None:
        """None: nothing is learnt, and how much is kept, the pairs decide."""

    @staticmethod
    def macs(config: LookupConfig, inputs: int, outputs: int, length: int = 1) -> int:
        """0: how many products a look takes hangs on the pairs that are kept, not on the settings.

        Measured: 900,000 for 68 characters among 30,000 English sentences, in 2 ms.
        """
        return 0

    def _usual(self) -> int:
        """The first pair that has the most frequent target."""
        if self._most is None:
            targets, starts = self._array("targets"), self._array("target_starts")
            first: dict[bytes, int] = {}
            counts = np.zeros(len(starts) - 1, np.int64)
            for pair, (begin, end) in enumerate(pairwise(starts.tolist())):
                counts[first.setdefault(targets[begin:end].tobytes(), pair)] += 1
            self._most = int(counts.argmax())
        return self._most

    def _logits(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        logits = torch.full((*tokens.shape, self.outputs), NEVER)
        sure = torch.where(is_real(tokens), SURE, NEVER).unsqueeze(-1)
        return logits.scatter_(-1, tokens.clamp(min=0).unsqueeze(-1), sure)

    def _array(self, name: str) -> np.ndarray:
        return self.get_buffer(name).numpy()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any
    ) -> None:  # torch's own hook: the lengths are the file's, since the pairs decided them
        for name, buffer in self.named_buffers():
            given = state_dict.get(prefix + name)
            if given is not None:
                setattr(self, name, buffer.new_empty(given.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._index = self._most = None
        errors = rest[-1]
        if not errors and (problem := self._problem()):
            errors.append(problem)

    def _problem(self) -> str:
        """What makes the buffers unfit to look things up in; empty when they are sound."""
        for side, size in (("source", self.inputs), ("target", self.outputs)):
            tokens, starts = self._array(f"{side}s"), self._array(f"{side}_starts")
            if tokens.ndim != 1 or starts.ndim != 1 or not len(starts):
                return f"{side}s and {side}_starts are no lists"
            if starts[0] != 0 or starts[-1] != len(tokens) or np.any(np.diff(starts) < 0):
                return f"{side}_starts do not cut {side}s into texts"
            if len(tokens) and (tokens.min() < 0 or tokens.max() >= size):
                return f"{side}s hold a token outside the vocabulary of {size}"
        if len(self._array("source_starts")) != len(self._array("target_starts")):
            return "sources and targets differ in number"
        return ""


class Index:
    """Which sources have a run of characters, and how much it weighs in each.

    keys    for n = 1 .. order the sorted keys of the runs of n characters (U_n,)
    lists   (U, N) float32, sparse: a row a run, its weights in the sources, whose vectors have length one
    """

    def __init__(
        self, tokens: Int[np.ndarray, " L"], starts: Int[np.ndarray, " N1"], order: int, V: int
    ) -> None:
        self.V, self.order = V, order
        self.keys: list[np.ndarray] = []
        counts = self._counts(tokens, starts, grow=True)  # (N, U)
        N, U = counts.shape
        having = np.bincount(counts.indices, minlength=U)  # sources that have each run
        self.worth = np.log(N / np.maximum(having, 1)).astype(np.float32)  # (U,)
        weights = self._weighed(counts)
        length = np.sqrt(np.asarray(weights.multiply(weights).sum(1)).ravel())
        rows = np.repeat(np.arange(N), np.diff(weights.indptr))
        weights.data /= np.maximum(length, np.finfo(np.float32).tiny)[rows]
        weights.eliminate_zeros()
        self.lists = weights.T.tocsr()

    def nearest(self, tokens: Int[np.ndarray, " L"], starts: Int[np.ndarray, " B1"]) -> Int[np.ndarray, " B"]:
        """The most similar source of each text, the first of equals; -1 where none shares anything."""
        likeness = self._weighed(self._counts(tokens, starts)) @ self.lists  # (B, N), sparse
        found = np.full(len(starts) - 1, -1, np.int64)
        some = np.diff(likeness.indptr) > 0
        begins = likeness.indptr[:-1][some]
        if len(begins):
            best = np.maximum.reduceat(likeness.data, begins)
            equal = likeness.data == np.repeat(best, np.diff(likeness.indptr)[some])
            places = np.where(equal, likeness.indices, np.iinfo(likeness.indices.dtype).max)
            found[some] = np.where(best > 0, np.minimum.reduceat(places, begins), -1)
        return found

    def _weighed(self, counts: Any) -> Any:
        """The weight of each run in each text."""
        data = (1 + np.log(counts.data)) * self.worth[counts.indices]
        return scipy.sparse.csr_array((data, counts.indices, counts.indptr), counts.shape)

    def _counts(self, tokens: np.ndarray, starts: np.ndarray, grow: bool = False) -> Any:
        """How often each known run stands in each text (N, U), sparse; with `grow`, all become known."""
        text = np.repeat(np.arange(len(starts) - 1), np.diff(starts))  # of each token
        left = starts[text + 1] - np.arange(len(tokens))  # tokens from it to the end of its text
        runs, texts, before = [], [], 0
        number, begin = tokens.astype(np.int64), np.arange(len(tokens))  # the run that begins at a token
        for n in range(1, self.order + 1):
            if n > 1:
                longer = (left[begin] >= n) & (number >= 0)
                number, begin = number[longer], begin[longer]
                number = number * np.int64(self.V) + tokens[begin + n - 1]
            if grow:
                self.keys.append(np.unique(number))
            number = find(self.keys[n - 1], number // self.V, number % self.V, self.V)
            runs.append(number + before)
            texts.append(text[begin])
            before += len(self.keys[n - 1])
            known = number >= 0
            runs[-1], texts[-1] = runs[-1][known], texts[-1][known]
        rows, columns = np.concatenate(texts), np.concatenate(runs)
        ones = np.ones(len(rows), np.float32)
        counts = scipy.sparse.csr_array((ones, (rows, columns)), shape=(len(starts) - 1, before))
        counts.sum_duplicates()
        return counts


def _at(found: Int[Tensor, "B L"], places: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """The found target's tokens at these places; its last one, END, for all that lie behind it."""
    last = is_real(found).sum(-1, keepdim=True) - 1
    return found.gather(1, places.minimum(last).clamp(min=0))


def _flat(padded: Int[np.ndarray, "N T"]) -> tuple[Int[np.ndarray, " L"], Int[np.ndarray, " N1"]]:
    """The real tokens of all rows one after another, and where each row begins and the last ends."""
    real = padded >= 0
    starts = np.concatenate([[0], real.sum(-1).cumsum()]).astype(np.int64)
    return padded[real].astype(np.int32), starts
