"""A decoder's layer for one token a row, its sums written out: the same as the layer, in half of the time.

A step of few rows is over in microseconds, most of which go to calls: of modules within modules, of views.
Here a layer is one function over tensors, without a module's call or a dimension of one token. Measured for 3
layers of width 256, the head aside (as modules / so): 900 / 350 microseconds for a row, 2,550 / 2,010 for 32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.layers.packed import Packed
from sadari.layers.shortlist import SLACK, Shortlist

Line = Callable[[Tensor], Tensor]
LEAST = torch.finfo(torch.float32).min
FEW = 256  # rows up to which a compiled step, of one thread, is faster than torch's with one (measured)
SOME = 64  # the same over the square of torch's threads, where those are several (judged by two)
HEAD = 40  # rows up to which its head is faster too
LOADS = 4_000  # layers' steps of few rows from which it pays to load compiled ones, and to compile them
COMPILES = 40_000
MUCH = 1 << 21  # numbers in a weight, times threads, above which torch's products are as fast
BENDS = {F.relu: 0, F.silu: 1, F.gelu: 2}
NOTHING = np.zeros((0, 0), np.bool_)  # is hidden


class Done:
    """What this process has done."""

    steps = 0
    """Layers' steps of few rows."""
    code: Any = None
    """`layers.step_kernel`, once it is loaded."""


class StepLayer:
    """What a layer of attention, attention to a source and a feed-forward part does with a token a row.

    layer   with `attention` (heads, qkv, out), `cross` (query, out), `feed` (up, bend, down), norm1 to norm3
            and `norm_first`; without gradients, as it is in evaluation
    """

    def __init__(self, layer: Any) -> None:
        own, cross, feed = layer.attention, layer.cross, layer.feed
        self.heads, self.first = own.heads, layer.norm_first
        self.qkv, self.out = own.qkv.forward, own.out.forward
        self.query, self.cross_out = cross.query.forward, cross.out.forward
        self.up, self.bend, self.down = feed.up.forward, feed.bend, feed.down.forward
        self.norm1, self.norm2, self.norm3 = (_norm(part) for part in (layer.norm1, layer.norm2, layer.norm3))

    def __call__(
        self,
        x: Float[Tensor, "R C"],
        past: Float[Tensor, "2 R H room D"],
        length: int,
        source: tuple[Float[Tensor, "N H S D"], Float[Tensor, "N H S D"]],
        hidden: Bool[Tensor, "N 1 1 S"] | None,
    ) -> Float[Tensor, "R C"]:
        """The token's vector behind the layer; its key and value are written into `past` at `length`.

        source   keys and values of the N sources; each has R / N rows, one after another
        hidden   True where a source has no token; None where all have
        """
        # 1. look at one's own text
        R, C = x.shape
        H, D = self.heads, C // self.heads
        Done.steps += R <= FEW
        qkv = self.qkv(self.norm1(x) if self.first else x).view(R, 3, H, D).transpose(0, 1)  # (3, R, H, D)
        past[:, :, :, length] = qkv[1:]
        k, v = past[:, :, :, : length + 1].flatten(1, 2)  # (R H, T, D), without a copy
        y = _attend(qkv[0].reshape(R * H, 1, D), k, v, None)
        x = self._after(self.norm1, x, self.out(y.view(R, C)))

        # 2. look at the source: rows that share one are more queries to the same keys
        k, v = source
        N = len(k)
        q = self.query(self.norm2(x) if self.first else x).view(N, R // N, H, D).transpose(1, 2)
        y = _attend(q.reshape(N * H, R // N, D), k.flatten(0, 1), v.flatten(0, 1), hidden)
        y = y.view(N, H, R // N, D).transpose(1, 2).reshape(R, C)
        x = self._after(self.norm2, x, self.cross_out(y))

        # 3. think
        y = self.down(self.bend(self.up(self.norm3(x) if self.first else x)))
        return self._after(self.norm3, x, y)

    def _after(self, norm: Line, x: Tensor, y: Tensor) -> Tensor:
        return x + y if self.first else norm(y.add_(x))


def _attend(
    q: Float[Tensor, "BH Q D"],
    k: Float[Tensor, "BH S D"],
    v: Float[Tensor, "BH S D"],
    hidden: Bool[Tensor, "N 1 1 S"] | None,
) -> Float[Tensor, "BH Q D"]:
    """`layers.attention.attend` in two products: torch's own kernel prepares for long texts.

    For 32 rows of 4 heads and 24 keys that takes 52 microseconds, and this 34; for 160 rows, 314 and 172.
    """
    scores = torch.bmm(q * (1 / math.sqrt(q.shape[-1])), k.transpose(1, 2))  # (BH, Q, S)
    if hidden is None:
        return torch.bmm(scores.softmax(-1), v)
    split = scores.view(len(hidden), -1, *scores.shape[1:])  # (N, H, Q, S)
    weights = split.masked_fill_(hidden, LEAST).softmax(-1).masked_fill_(hidden, 0.0)
    return torch.bmm(weights.view(scores.shape), v)


def _norm(norm: nn.LayerNorm) -> Line:
    shape, weight, bias, eps = norm.normalized_shape, norm.weight, norm.bias, norm.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)


def can_step(layer: nn.Module, x: Tensor) -> bool:
    """Whether `StepLayer` says the same as the layer: no gradients, no dropout, one process in float32."""
    return (
        not torch.is_grad_enabled()
        and not layer.training
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
    )


class StepKernel:
    """A decoder's step for few rows, from tokens to the logits of the next, by `layers.step_kernel`.

    layers   as `StepLayer` takes them;  norm   behind them, if any
    table    of the tokens' vectors;  head   from states to logits
    """

    def __init__(self, layers: Any, norm: nn.LayerNorm | None, table: nn.Embedding, head: Any) -> None:
        self.code, self.head = compiled(), head
        threads = torch.get_num_threads()
        self.rows = FEW if threads == 1 else SOME // threads**2
        """How many it is for."""
        self.layers = [_parts(layer) for layer in layers]
        self.norm = None if norm is None else (_pair(norm), np.float32(norm.eps))
        self.table, self.words = _array(table.weight), _pair(_whole(head))
        self.short: tuple[np.ndarray, ...] = ()
        if isinstance(head, Shortlist):
            known, never = head.rounded, np.array(head.never, np.int64)
            self.short = *map(_array, (known.values, known.step, known.lost, known.length)), never
        self.seen: Any = None
        """A state's sources, held so that another's are told apart."""
        self.source: list[tuple[np.ndarray, np.ndarray]] = []
        self.hidden = NOTHING

    def __call__(
        self,
        tokens: Int[Tensor, "R 1"],
        place: Float[Tensor, " C"],
        size: float,
        past: Float[Tensor, "L 2 R H room D"],
        length: int,
        source: list[tuple[Tensor, Tensor]],
        real: Bool[Tensor, "N 1 1 S"] | None,
    ) -> Float[Tensor, "R V"]:
        """The tokens' keys and values are written into `past` at `length`.

        place, size   what a token's vector is added to, and what it is multiplied by
        past          contiguous, or the first rows of what is
        source        each layer's keys and values (N, H, S, D) of the sources
        real          where these have tokens; None for everywhere
        """
        if self.seen is not source:
            self.seen, self.source = source, [(k.numpy(), v.numpy()) for k, v in source]
            self.hidden = NOTHING if real is None else ~real[:, 0, 0].numpy()
        code, own = self.code, _room(past)
        named = np.ascontiguousarray(tokens.numpy(), np.int64)
        x = np.empty((len(named), self.table.shape[1]), np.float32)
        if not code.words(named, self.table, place.numpy(), np.float32(size), x):
            raise IndexError(f"token {named.max()}: the model has {len(self.table)}, from 0")
        for i, (layer, (k, v)) in enumerate(zip(self.layers, self.source, strict=True)):
            code.layer_step(x, layer, own, i, length, k, v, self.hidden)
        if self.norm is not None:
            code.norm(x, *self.norm, x)
        if self.short:
            by_torch = len(x) > 1 or not code.are_finite(x)
        else:
            by_torch = len(x) > HEAD or _is_much(self.words[0])
        if by_torch:
            return self.head(torch.from_numpy(x))
        logits = np.empty((len(x), len(self.words[0])), np.float32)
        if not self.short:
            code.line(x, self.words, logits)
        else:
            code.shortlist(x[0], self.words, self.short, np.float32(SLACK), logits[0])
        return torch.from_numpy(logits)

    def move(self, past: Float[Tensor, "L 2 R H room D"], length: int, rows: Sequence[int]) -> None:
        """Row r of what is written becomes row rows[r], which itself stays."""
        self.code.move(_room(past), length, np.array(rows, np.int64))


def _room(past: Float[Tensor, "L 2 R H room D"]) -> np.ndarray:
    """All of the contiguous rows that these are the first of."""
    if not past.is_contiguous():
        rows = past.stride(1) // past.stride(2)
        past = past.as_strided((*past.shape[:2], rows, *past.shape[3:]), past.stride())
    return past.numpy()


def few_rows(layers: Any, norm: nn.LayerNorm | None, table: nn.Embedding, head: Any) -> StepKernel | None:
    """A `StepKernel` of these, or None: where it does not pay yet, or they are none of its."""
    if Done.steps < LOADS or not _is_known(layers, table, head):
        return None
    if Done.code is None and Done.steps < COMPILES:
        from sadari.layers.step_kernel import is_kept

        if not is_kept():
            return None
    return StepKernel(layers, norm, table, head)


def ranked(
    logits: Float[Tensor, "R V"], count: int, scores: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The `count` largest of each row from the largest down (R, count), in float64; which; logsumexp (R,).

    With `scores` this is taken off, else it is 0. None where no code for it is loaded, or where it would not
    be faster, or where not all numbers are finite.
    """
    (R, V), code = logits.shape, Done.code
    if code is None or count * code.PIECES > V or logits.requires_grad or not logits.is_contiguous():
        return None
    if R > FEW or logits.dtype != torch.float32 or logits.device.type != "cpu":
        return None
    numbers = logits.numpy()
    if not code.are_finite(numbers):
        return None
    values, tokens, sums = np.empty((R, count)), np.empty((R, count), np.int64), np.zeros(R)
    code.ranked(numbers, values, tokens, sums if scores else sums[:0])
    return values - sums[:, None], tokens, sums


def compiled() -> Any:
    """`layers.step_kernel`, loaded or compiled."""
    if Done.code is None:
        from sadari.layers import step_kernel

        step_kernel.warm_up()
        Done.code = step_kernel
    return Done.code


def _is_known(layers: Any, table: nn.Embedding, head: Any) -> bool:
    """Whether all lines are torch's own or `Packed` ones, in float32, row by row."""
    lines = [_whole(head)]
    for layer in layers:
        own, cross, feed = layer.attention, layer.cross, layer.feed
        lines += own.qkv, own.out, cross.query, cross.out, feed.up, feed.down
    return (
        all(isinstance(one, Packed) or type(one).forward is nn.Linear.forward for one in lines)
        and all(layer.feed.bend in BENDS for layer in layers)
        and all(one.weight.is_contiguous() and one.weight.dtype == torch.float32 for one in (*lines, table))
        and not any(_is_much(one.weight) for one in lines[1:])
    )


def _is_much(weight: Any) -> bool:
    return math.prod(weight.shape) * torch.get_num_threads() > MUCH


def _whole(head: Any) -> Any:
    return head.whole[0] if isinstance(head, Shortlist) else head


def _parts(layer: Any) -> tuple[Any, ...]:
    """What `layer_step` is told of a layer: weights, the norms' eps, whether they stand first, what bends."""
    own, cross, feed = layer.attention, layer.cross, layer.feed
    norms = layer.norm1, layer.norm2, layer.norm3
    lines = own.qkv, own.out, cross.query, cross.out, feed.up, feed.down
    eps = np.array([one.eps for one in norms], np.float32)
    return tuple(map(_pair, (*lines, *norms))), eps, bool(layer.norm_first), BENDS[feed.bend]


def _pair(part: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias, where they lie."""
    weight = _array(part.weight)
    return weight, np.zeros(len(weight), np.float32) if part.bias is None else _array(part.bias)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()
