"""Word2vec: each word a vector that tells its neighbours (Mikolov et al. 2013, 1301.3781 and 1310.4546).

What differs from one-hot: words are C numbers learnt from what stands beside them, so that words used alike
lie near each other; in one-hot every two words are equally far. Every number here is word2vec.c's:

    skip-gram   words c beside a centre w predict it:   x = into[c]
    CBOW        their mean predicts it:                 x = mean of into[c]; each c gets the whole error
    loss        -log s(x out[w]) - sum over `negative` noise words n of log s(-x out[n]),  s the sigmoid
    noise       in proportion to count^0.75; a draw of w itself is left out
    thinning    a word of share f of the text stays with probability (sqrt(f / t) + 1) t / f,  t = `sample`
    window      1 to `window` words to each side, equally likely, drawn a centre
    rate        from `learning_rate` straight down to `least_rate` by words read, over all epochs
    beginning   into ~ U(-1/2C, 1/2C), out = 0

One deviation, the default because it is faster: the noise words of a centre are drawn once for the whole
window; `shared=False` draws them anew for each pair, as word2vec.c does. One thread gives the same vectors
for the same seed; two or more write without a lock, so the last digits differ from time to time.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from sadari.errors import SadariError
from sadari.layers.skipgram import alias_table, aligned, sweep, threshold, warm_up

STRETCH = 25_000  # numbers of the stream that a thread takes at a time

Record = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Word2VecConfig:
    """Settings of word2vec; each field's text is the help of its flag."""

    method: str = "skip-gram"
    """What is learnt: skip-gram (each neighbour predicts the word) or cbow (their mean does; faster)."""
    width: int = 100
    """Numbers of each word's vector."""
    window: int = 5
    """Words to each side that may count as neighbours; how many do is drawn from 1 to this."""
    negative: int = 5
    """Noise words for each true one; 5 to 20 help where there is little text."""
    sample: float = 1e-3
    """Words above this share of the text are thinned out; 0 keeps all."""
    min_count: int = 5
    """Words met less often have no vector."""
    epochs: int = 5
    """Passes over the text."""
    learning_rate: float = 0.025
    """Step size at the start; skip-gram's usual one."""
    least_rate: float = 0.0001
    """Step size at the end, reached in a straight line."""
    exact: bool = False
    """Draw noise words anew for each pair, as word2vec.c does, instead of once a window; slower."""
    threads: int = 0
    """Threads that train; 0 is one a processor, 1 repeats itself to the last digit."""

    def __post_init__(self) -> None:
        if self.method not in ("skip-gram", "cbow"):
            raise SadariError(
                f"method {self.method!r} is neither 'skip-gram' nor 'cbow'; use method='skip-gram'"
            )
        for name, most in (("width", 10_000), ("window", 100), ("negative", 100), ("min_count", 10**9)):
            if not 1 <= getattr(self, name) <= most:
                raise SadariError(
                    f"{name} {getattr(self, name)} is out of range; {name} is 1 to {most:,}, "
                    f"usually {getattr(Word2VecConfig, name)}"
                )
        if self.epochs < 1 or self.threads < 0:
            raise SadariError(
                f"epochs {self.epochs} with threads {self.threads}: there is at least one epoch, and threads "
                f"are 0 (one a processor) or more"
            )
        if not 0 <= self.sample < 1:
            raise SadariError(
                f"sample {self.sample} is no share of a text; use 0.001, or 0 to keep every word"
            )
        if not 0 <= self.least_rate <= self.learning_rate <= 1:
            raise SadariError(
                f"learning_rate {self.learning_rate} must fall to least_rate {self.least_rate}, both from 0 "
                f"to 1; use 0.025 and 0.0001"
            )


class Word2Vec:
    """Two vectors a word: `into`, which is the word's embedding, and `out`, which predicts it."""

    Config = Word2VecConfig

    def __init__(self, config: Word2VecConfig, counts: np.ndarray, seed: int = 0) -> None:
        """Fresh vectors for a vocabulary of `counts` (V,), the most frequent first."""
        self.config = config
        self.counts = np.asarray(counts, np.int64)
        self.seed = seed
        words, width = len(counts), config.width
        start = np.random.default_rng(seed).random((words, width), dtype=np.float32)
        self._into, self._out = aligned(words, width), aligned(words, width)
        self._into[:, :width] = (start - 0.5) / width

    @property
    def into(self) -> np.ndarray:
        """(V, C) float32: the word vectors."""
        return self._into[:, : self.config.width]

    @property
    def out(self) -> np.ndarray:
        """(V, C) float32: the vectors by which words are predicted."""
        return self._out[:, : self.config.width]

    def noise(self) -> np.ndarray:
        """(V,) float64: the probability of each word as noise, count^0.75 made to sum to 1."""
        power = self.counts**0.75
        return power / power.sum()

    def stays(self) -> np.ndarray:
        """(V,) float64: the probability that an occurrence of each word is not thinned out."""
        if self.config.sample == 0:
            return np.ones(len(self.counts))
        excess = self.counts / self.counts.sum() / self.config.sample
        return np.minimum((np.sqrt(excess) + 1) / excess, 1.0)

    def train(self, stream: np.ndarray, watch: Record | None = None) -> list[dict[str, Any]]:
        """Train on a stream of word numbers (N,) int32, -1 at the end of each line; one record an epoch.

        A record has `epoch`, `loss` (the mean over the epoch's pairs, or centres with cbow, in nats, each
        taken just before its own step; summed in float64), `pairs`, `seconds`, and `step` of `steps`, counted
        in numbers of the stream. `watch` gets those and, between them, records without `epoch`, whose loss is
        the epoch's so far.
        """
        config = self.config
        threads = config.threads or len(os.sched_getaffinity(0))
        share, other = alias_table(self.noise())
        keep = threshold(self.stays())
        stretches = _stretches(stream)
        steps = config.epochs * len(stream)

        def rate(done: int) -> float:
            return config.learning_rate + (config.least_rate - config.learning_rate) * done / steps

        def stretch(epoch: int, number: int) -> tuple[float, int, int]:
            first, last = stretches[number], stretches[number + 1]
            rates = np.array([rate(epoch * len(stream) + first), rate(epoch * len(stream) + last)])
            loss, pairs = sweep(
                stream[first:last], keep, share, other, self._into, self._out, config.window,
                config.negative, config.method == "cbow", not config.exact, rates,
                _seed(self.seed, epoch, number),
            )  # fmt: skip
            return loss, pairs, last - first

        def epoch_of(number: int, waiting: Sequence[Future]) -> dict[str, Any]:
            began, step = time.perf_counter(), number * len(stream)
            loss, pairs = 0.0, 0
            for done in waiting:
                its_loss, its_pairs, size = done.result()
                loss, pairs, step = loss + its_loss, pairs + its_pairs, step + size
                if watch is not None:
                    watch({"step": step, "steps": steps, "loss": loss / max(pairs, 1)})
            if not math.isfinite(loss):
                raise SadariError(
                    f"the loss of epoch {number + 1} is not finite; use a smaller --learning-rate"
                )
            seconds = time.perf_counter() - began
            mean = {"loss": loss / max(pairs, 1), "pairs": pairs, "seconds": seconds}
            return {"epoch": number + 1, "step": step, "steps": steps, **mean}

        history = []
        with ThreadPoolExecutor(threads) as pool:
            try:
                waiting = [  # threads take them in this order, and none waits for an epoch's end
                    [pool.submit(stretch, epoch, number) for number in range(len(stretches) - 1)]
                    for epoch in range(config.epochs)
                ]
                for epoch in range(config.epochs):
                    history.append(epoch_of(epoch, waiting[epoch]))
                    if watch is not None:
                        watch(history[-1])
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)  # an interrupt must not wait for all epochs
                raise
        return history


def prepare(say: Callable[[], None] = lambda: None) -> None:
    """Have the kernel ready; `say` is called if it has to be compiled, which happens once an install."""
    warm_up(say)


def _stretches(stream: np.ndarray) -> list[int]:
    """Where the stream is cut for the threads, 0 and N included: behind line ends, about STRETCH apart."""
    cuts, at = [0], STRETCH
    while at < len(stream):
        # a stretch with a line longer than itself is cut within it: a window is lost, not a word
        ends = np.flatnonzero(stream[at : at + STRETCH] < 0)
        at += int(ends[0]) + 1 if len(ends) else 0
        if at < len(stream):
            cuts.append(at)
        at += STRETCH
    return [*cuts, len(stream)]


def _seed(seed: int, epoch: int, number: int) -> np.uint64:
    """Random numbers of a stretch depend on where it is, not on which thread takes it."""
    state = np.random.SeedSequence([seed, epoch, number]).generate_state(1, np.uint64)[0]
    return state | np.uint64(1)  # xorshift stands still at zero
