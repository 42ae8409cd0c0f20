"""The likeliest word of a large vocabulary, exactly, without multiplying by every weight in full.

A token's time is that of reading all weights once, and the vocabulary's are often most of them. Read in 8-bit
numbers first, at a quarter of the bytes, they leave a few words that can still be the likeliest, by a bound
on what the rounding can have changed; only these are then multiplied in full. Nothing is approximate about
the winner: the bound is Cauchy's and Schwarz's on the rounding that took place, not a guess.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.nn import functional as F

LARGE = 1 << 18  # numbers in a head from which reading them takes longer than the calls here
BLOCK = 1 << 10  # rows that are rounded at once, so that they stay in a second-level cache
TINY = 1e-30
STEPS = 127  # of an 8-bit number to each side of zero
SLACK = 1e-5  # share of |w| |h| by which sums in float32 may differ; measured below 1e-6 for a width of 4,096


@dataclass(frozen=True)
class Rounded:
    """A weight (V, C) in 8-bit numbers, and what bounds the error of a product with it."""

    values: Int8[Tensor, "V C"]
    step: Float[Tensor, " V"]
    """What 1 of a row's numbers stands for."""
    lost: Float[Tensor, " V"]
    """Length of what rounding took from a row."""
    length: Float[Tensor, " V"]
    """Length of a row."""
    of_what: tuple[int, int]
    """Where the weight lies, and its version, which torch counts up at each change."""

    @classmethod
    @torch.no_grad()
    def of(cls, weight: Float[Tensor, "V C"]) -> Rounded:
        values = torch.empty(weight.shape, dtype=torch.int8)
        step, lost, length = (torch.empty(len(weight)) for _ in range(3))
        for first in range(0, len(weight), BLOCK):
            rows = slice(first, first + BLOCK)
            block = weight[rows]
            step[rows] = (block.abs().amax(1) / STEPS).clamp_(min=TINY)
            rounded = (block / step[rows].unsqueeze(1)).round_()
            values[rows] = rounded
            length[rows] = block.norm(dim=1)
            lost[rows] = rounded.mul_(step[rows].unsqueeze(1)).sub_(block).norm(dim=1)
        return cls(values, step, lost, length, (weight.data_ptr(), weight._version))


MADE: WeakKeyDictionary[nn.Module, Rounded] = (
    WeakKeyDictionary()
)  # a model that has written may well write again


class Shortlist(nn.Module):
    """Logits of a head, exact for every word that can be the likeliest and below it for all others.

    head   a line from C numbers to V words, in float32 on a processor; its weights are read, not copied
    never  words that are not to be chosen: -inf
    """

    def __init__(self, head: nn.Linear, never: Collection[int] = ()) -> None:
        super().__init__()
        self.whole = (
            head,
        )  # in a tuple, so that it is no part of this module: nothing need be moved or saved
        self.never = sorted(never)
        rounded, weight = MADE.get(head), head.weight
        if rounded is None or rounded.of_what != (weight.data_ptr(), weight._version):
            rounded = MADE[head] = Rounded.of(weight)
        self.rounded = rounded

    @property
    def weight(self) -> Tensor:
        """The head's own, which a tied model reads words by."""
        return self.whole[0].weight

    def forward(self, h: Float[Tensor, "B C"]) -> Float[Tensor, "B V"]:
        (head,) = self.whole
        step = h.abs().amax(1, keepdim=True) / STEPS  # (B, 1)
        if not bool(step.isfinite().all()) or h.dtype != torch.float32:
            return head(h)
        step, known = step.clamp(min=TINY), self.rounded
        values = (h / step).round()
        lost = (h - values * step).norm(dim=1, keepdim=True)
        kept = values.norm(dim=1, keepdim=True) * step
        logits = torch._int_mm(values.to(torch.int8), known.values.t()).float()  # (B, V) whole numbers
        logits.mul_(known.step).mul_(step)
        if head.bias is not None:
            logits += head.bias
        # |w h - w' h'| <= |w| |h - h'| + |w - w'| |h'|
        margin = known.length * (lost + SLACK * (lost + kept)) + known.lost * kept
        logits[:, self.never] = -math.inf
        least = (logits - margin).amax(1, keepdim=True)
        for row, open_ in enumerate(logits + margin >= least):
            words = open_.nonzero().squeeze(1)
            bias = None if head.bias is None else head.bias[words]
            logits[row, words] = F.linear(h[row], head.weight[words], bias)
            logits[row, self.never] = -math.inf
        return logits


def can_shortlist(head: object) -> bool:
    """Whether a head is a large line whose likeliest word `Shortlist` finds here.

    From a width of 2: of 1, torch 2.13's integer product leaves its answer unwritten.
    """
    if (
        not isinstance(head, nn.Linear)
        or head.weight.numel() < LARGE
        or head.in_features < 2
        or head.weight.is_inference()
    ):
        return False
    weight = head.weight
    return weight.dtype == torch.float32 and weight.device.type == "cpu" and hasattr(torch, "_int_mm")
