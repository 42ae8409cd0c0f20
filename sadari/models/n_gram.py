"""N-gram: the ground of `language`. It counts which token follows the last few, and looks at nothing else.

Two smoothings of the counts (Chen & Goodman 1999, "An empirical study of smoothing techniques for language
modeling"). Both take a discount D off each count and give what that saves to the history h' that is one token
shorter, so that no token is impossible after any history:

    p(w | h) = (c(h w) - D) / c(h)  +  saved(h) p(w | h')        saved(h) = the discounts of h / c(h)

and below the empty history lies the uniform 1 / V.

| backoff      | c of the highest order | c of the lower orders         | D                               |
|--------------|------------------------|-------------------------------|---------------------------------|
| interpolated | occurrences            | occurrences                   | one an order (Ney et al. 1994)  |
| kneser-ney   | occurrences            | different tokens in front     | D1, D2, D3+ for counts 1, 2, 3+ |

Kneser & Ney (1995) count how many contexts a token ends, not how often: "Francisco" is frequent, but only
after "San". The rung takes the first, the judge from outside the ladder the second.

An n-gram's number is its place among the sorted n-grams of its order, and its key is the number of its first
n - 1 tokens times V plus its last token. So the n-grams of one history stand side by side, a key fits 64 bits
at any order, and the memory is that of the text's different n-grams, never V^n.

Alphabet: N tokens of a stream, U different n-grams of an order, B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.losses import Loss

SMOOTHINGS = ("interpolated", "kneser-ney")
UNKNOWN = -1  # the token, or the number of an n-gram, that is not known
# tokens counted or scored at once, so that a long stream needs no more memory than its tables
CHUNK = 1 << 22

State = tuple[Tensor]
"""The last order - 1 tokens of each row, (B, order - 1); `UNKNOWN` before the beginning."""


@dataclass(frozen=True)
class NGramConfig:
    """Settings of an `NGram`; each field's text is the help of its flag."""

    order: int = 3
    """Tokens of an n-gram: each token is guessed from the order - 1 before it."""
    backoff: str = "interpolated"
    """How counts become probabilities: interpolated, or kneser-ney, which counts contexts instead."""

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 12:
            raise SadariError(f"order {self.order}: an n-gram has 1 to 12 tokens; use order=3")
        if self.backoff not in SMOOTHINGS:
            raise SadariError(
                f"backoff {self.backoff!r} is neither 'interpolated' nor 'kneser-ney'; use "
                f"backoff='interpolated'"
            )


class NGram(nn.Module):
    """The log probability of each n-gram that was seen, and of falling back from each history.

    For n = 1 .. order: `keys<n>` (U,) sorted, from 2 on; `logs<n>` (U,), the log probability of an n-gram's
    last token after the others; and below the highest order `falls<n>` (U,), the log of the share that the
    n-gram, as a history, saves for the next shorter one. Before it is solved, every token is 1 / V.
    """

    Config: ClassVar = NGramConfig
    TINY: ClassVar = NGramConfig(order=2)
    carries: ClassVar[bool] = True

    def __init__(self, config: NGramConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = inputs
        for n in range(1, config.order + 1):
            if n > 1:
                self.register_buffer(f"keys{n}", torch.zeros(0, dtype=torch.int64))
            self.register_buffer(
                f"logs{n}", torch.full((inputs,), -np.log(inputs)) if n == 1 else torch.zeros(0)
            )
            if n < config.order:
                self.register_buffer(f"falls{n}", torch.zeros(inputs if n == 1 else 0))

    @property
    def context(self) -> int | None:
        """None: it reads a stretch of any length, though only the last order - 1 tokens matter to it."""
        return None

    def forward(
        self, tokens: Int[Tensor, "B T"], rec: Callable[[str, Tensor], Tensor] | None = None
    ) -> Float[Tensor, "B T V"]:
        """Log probabilities of the token after each one, which serve as logits; none precedes the first."""
        numbers = [each.reshape(-1) for each in self._numbers(_numpy(tokens))]  # (B T,) an order
        output = self._after(numbers, tokens.numel()).view(*tokens.shape, -1)  # (B, T, V)
        return output if rec is None else rec("output", output)

    def start(self, batch: int) -> State:
        """The state of `batch` rows before anything is read."""
        return (torch.full((batch, self.config.order - 1), UNKNOWN),)

    def step(self, tokens: Int[Tensor, "B T"], state: State) -> tuple[Float[Tensor, "B V"], State]:
        """Read T tokens more: logits of the one after them, and the state."""
        read = torch.cat([state[0], tokens], dim=1)
        last = read[:, read.shape[1] - self.config.order + 1 :]  # (B, order - 1)
        numbers = [each[:, -1] for each in self._numbers(_numpy(last))] if last.shape[1] else []
        return self._after(numbers, len(last)), (last,)

    def reorder(self, state: State, rows: Int[Tensor, " K"]) -> State:
        """The state of these rows, in this order."""
        return (state[0][rows],)

    def log_probabilities(
        self, stream: Shaped[np.ndarray, " N"] | Int[Tensor, " N"]
    ) -> Float64[np.ndarray, " N"]:
        """ln p(token | those before it) of every token of a stream, in nats; nothing precedes the first."""
        tokens, reach = _numpy(stream), self.config.order - 1
        logs = np.empty(len(tokens))
        for start in range(0, len(tokens), CHUNK):
            first = max(start - reach, 0)
            block = tokens[first : start + CHUNK].astype(np.int64)
            _check(block, self.vocabulary)
            logs[start : start + CHUNK] = self._score(block)[start - first :]
        return logs

    def can_solve(self, loss: Loss) -> bool:
        """True: to count is the solution."""
        return True

    @torch.no_grad()
    def solve_stream(self, tokens: Shaped[np.ndarray, " N"] | Int[Tensor, " N"]) -> dict[str, Any]:
        """Count the stream and set every probability.

        Returns facts as every `solve` does, with `n_grams`, how many different ones each order has, and
        `discounts`, those of each order for counts of 1, 2, and 3 or more. SadariError when there is no
        token, or one outside the vocabulary.
        """
        V, order = self.vocabulary, self.config.order
        kneser_ney = self.config.backoff == "kneser-ney"
        tables = count(_numpy(tokens), V, order)
        shorter, discounts = np.full(V, 1 / V), []
        for n, (keys, counts, suffixes) in enumerate(tables, start=1):
            if kneser_ney and n < order:
                # in front of the stream's first n-gram stands nothing, and that counts as one
                in_front = np.bincount(tables[n][2], minlength=len(keys))
                counts = np.maximum(in_front, counts > 0)
            D = discount(counts, kneser_ney)  # (4,) for counts of 0, 1, 2, 3+
            off = D[np.minimum(counts, 3)]  # (U,)
            history, histories = keys // V, len(tables[n - 2][0]) if n > 1 else 1
            total = np.bincount(history, counts, minlength=histories)  # c(h)
            saved = np.bincount(history, off, minlength=histories)
            # the stream's last n-gram may be no history: all falls to the shorter one
            fall = np.divide(saved, total, out=np.ones(histories), where=total > 0)
            shorter = (counts - off) / total[history] + fall[history] * shorter[suffixes]  # (U,) p(w | h)
            if n > 1:
                self._set(f"keys{n}", keys)
                self._set(f"falls{n - 1}", np.log(fall))
            self._set(f"logs{n}", np.log(shorter))
            discounts.append([float(each) for each in D[1:]])
        sizes = [len(keys) for keys, _, _ in tables]
        return {"iterations": 1, "converged": True, "n_grams": sizes, "discounts": discounts, "notes": []}

    @staticmethod
    def parameter_count(config: NGramConfig, inputs: int, outputs: int) -> None:
        """None: how many n-grams there are, the text decides."""

    @staticmethod
    def macs(config: NGramConfig, inputs: int, outputs: int, length: int = 1) -> int:
        """0 for a token: probabilities are looked up, nothing is multiplied."""
        return 0

    def _numbers(self, tokens: Int[np.ndarray, "*B T"]) -> Iterator[Int[np.ndarray, "*B T"]]:
        """For n = 1 .. order, the number of the n-gram that ends at each token, or `UNKNOWN`."""
        numbers = tokens = tokens.astype(np.int64)
        yield numbers
        for n in range(2, self.config.order + 1):
            numbers = find(self._get("keys", n), _before(numbers), tokens, self.vocabulary)
            yield numbers

    def _score(self, tokens: Int[np.ndarray, " T"]) -> Float64[np.ndarray, " T"]:
        """ln p of each token: that of the longest n-gram which was seen, plus the falls down to it."""
        numbers = self._numbers(tokens)
        history = next(numbers)
        logs = self._get("logs", 1)[history].astype(np.float64)
        for n, found in enumerate(numbers, start=2):
            logs += _take(self._get("falls", n - 1), _before(history))
            seen = found >= 0
            logs[seen] = self._get("logs", n)[found[seen]]
            history = found
        return logs

    def _after(self, numbers: Sequence[np.ndarray], rows: int) -> Float[Tensor, "B V"]:
        """Log probabilities of every token, for histories given by the numbers (B,) of their last 1, 2, ...
        tokens."""
        V = self.vocabulary
        logs = np.tile(self._get("logs", 1), (rows, 1))  # (B, V)
        for n, history in zip(range(2, self.config.order + 1), numbers, strict=False):
            keys = self._get("keys", n)
            logs += _take(self._get("falls", n - 1), history)[:, None]
            start, end = np.searchsorted(keys, history * V), np.searchsorted(keys, (history + 1) * V)
            width = end - start  # n-grams of each history, side by side; none of an unknown one
            row = np.repeat(np.arange(rows), width)
            place = np.arange(len(row)) + np.repeat(start - (np.cumsum(width) - width), width)
            logs[row, keys[place] % V] = self._get("logs", n)[place]
        return torch.from_numpy(logs)

    def _get(self, name: str, n: int) -> np.ndarray:
        return self.get_buffer(f"{name}{n}").numpy()

    def _set(self, name: str, values: np.ndarray) -> None:
        """Logs in float32: a probability is then right to seven digits, in half the bytes."""
        tensor = torch.from_numpy(values)
        setattr(self, name, tensor.float() if tensor.is_floating_point() else tensor)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any
    ) -> None:  # torch's own hook: the lengths are the file's, since the text decided them
        for name, buffer in self.named_buffers():
            given = state_dict.get(prefix + name)
            if given is not None:
                setattr(self, name, buffer.new_empty(given.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        errors = rest[-1]
        if not errors and (problem := self._problem()):
            errors.append(problem)

    def _problem(self) -> str:
        """What makes the tables unfit to look things up in; empty when they are sound."""
        below = self.vocabulary
        for n in range(1, self.config.order + 1):
            keys = self._get("keys", n) if n > 1 else np.arange(self.vocabulary)
            if len(keys) and (
                np.any(np.diff(keys) <= 0) or keys[0] < 0 or keys[-1] >= below * self.vocabulary
            ):
                return f"keys{n} are not the sorted keys of {n}-grams"
            sizes = {len(self._get("logs", n)), len(keys)}
            sizes |= {len(self._get("falls", n))} if n < self.config.order else set()
            if len(sizes) > 1:
                return f"keys, logs and falls of {n}-grams differ in number"
            below = len(keys)
        return ""


def count(
    tokens: Shaped[np.ndarray, " N"], V: int, order: int
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For n = 1 .. order, of the different n-grams: keys (U,), sorted; how often each occurs; and the number
    of its last n - 1 tokens among the n-grams of the order below.

    Every token is among the 1-grams, seen or not, and is its own suffix, since the ground below has one
    probability a token. Of the stream itself 4 bytes a token are held. Raises SadariError when there is no
    token, or one outside the vocabulary.
    """
    if not len(tokens):
        raise SadariError("there is no token to count; give a text that is not empty")
    seen = np.zeros(V, np.int64)
    for chunk in _chunks(len(tokens)):
        _check(tokens[chunk], V)
        seen += np.bincount(tokens[chunk], minlength=V)
    every = np.arange(V)
    tables = [(every, seen, every)]
    numbers = np.array(tokens, np.int32)  # of the n-gram that begins at each token
    for n in range(2, order + 1):
        last = tokens[n - 1 :]
        numbers = numbers[: len(last)]
        keys, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for chunk in _chunks(len(last)):
            more = np.unique(numbers[chunk] * np.int64(V) + last[chunk], return_counts=True)
            keys, counts = _merge((keys, counts), more)
        for chunk in _chunks(len(last)):
            numbers[chunk] = np.searchsorted(keys, numbers[chunk] * np.int64(V) + last[chunk])
        below, _, suffixes = tables[-1]
        history, final = np.divmod(keys, V)
        tables.append((keys, counts, final if n == 2 else find(below, suffixes[history], final, V)))
    return tables


def discount(counts: Int[np.ndarray, " U"], several: bool) -> Float64[np.ndarray, " 4"]:
    """What is taken off a count of 0, 1, 2, and 3 or more, by how many n-grams n_j were counted j times.

    `several`: D_j = j - (j + 1) Y n_(j+1) / n_j with Y = n_1 / (n_1 + 2 n_2) (Chen & Goodman 1999, equation
    26); else Y for all. A text too small or too odd for the estimate, which must leave something of the count
    and take something off it, gets j / 2.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(np.float64)
    Y = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else 0.5
    D = np.full(4, Y)
    D[0] = 0
    for j in (1, 2, 3) if several else ():
        estimate = j - (j + 1) * Y * n[j + 1] / n[j] if n[j] else 0.0
        D[j] = estimate if 0 < estimate < j else j / 2
    return D


def find(
    keys: Int[np.ndarray, " U"], history: Int[np.ndarray, "*B"], last: Int[np.ndarray, "*B"], V: int
) -> Int[np.ndarray, "*B"]:
    """The number of the n-gram made of each history's number and last token; `UNKNOWN` where none is."""
    wanted = history * np.int64(V) + last
    place = np.searchsorted(keys, wanted)
    known = (history >= 0) & (last >= 0) & (place < len(keys))
    known[known] = keys[place[known]] == wanted[known]
    return np.where(known, place, UNKNOWN)


def _merge(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Two tables of sorted keys and counts as one."""
    if not len(one[0]):
        return other
    keys, places = np.unique(np.concatenate([one[0], other[0]]), return_inverse=True)
    counts = np.zeros(len(keys), np.int64)
    np.add.at(counts, places, np.concatenate([one[1], other[1]]))
    return keys, counts


def _chunks(length: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, length, CHUNK))


def _check(tokens: np.ndarray, V: int) -> None:
    least, most = (int(tokens.min()), int(tokens.max())) if len(tokens) else (0, 0)
    if least < 0:
        raise SadariError(f"token {least} is padding, and a stream has none; give its tokens alone")
    if most >= V:
        raise SadariError(f"token {most} lies outside the vocabulary of {V}; encode with the run's tokenizer")


def _before(numbers: np.ndarray) -> np.ndarray:
    """What stands one place to the left; `UNKNOWN` before the first."""
    first = np.full_like(numbers[..., :1], UNKNOWN)
    return np.concatenate([first, numbers[..., :-1]], axis=-1)


def _take(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """values[numbers], and 0 where a number is unknown."""
    taken = np.zeros(numbers.shape, values.dtype)
    known = numbers >= 0
    taken[known] = values[numbers[known]]
    return taken


def _numpy(tokens: np.ndarray | Tensor) -> np.ndarray:
    return tokens.numpy() if isinstance(tokens, Tensor) else tokens
