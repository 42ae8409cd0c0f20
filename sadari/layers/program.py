"""The steps that answer a network's question for pictures: products with laid out weights, and all the rest.

Values lie at numbered places, pictures at 0, and are let go when nobody reads them any more:

    step 1   place 1 = relu(W1 * place 0)              a convolution with what follows it, in one pass
    step 2   place 2 = max_pool2d(place 1)             a call as the network makes it
    step 3   place 2 = relu(W2 * place 2 + place 1)    a sum, written over what is added
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sadari.layers.calls import Call, Value, leaves, mapped

Bend = tuple[str, list[float], str]
"""What is done with each number of an answer: what oneDNN calls it, its numbers, and its manner."""
NOT: Bend = ("none", [], "")
RELU: Bend = ("relu", [], "")
RELU6: Bend = ("hardtanh", [0.0, 6.0], "")
WIDE = ("local_response_norm",)  # which torch does not do in bf16


@dataclass
class Laid:
    """A convolution or a line whose weight is laid out, with what was taken into it."""

    weight: Tensor
    bias: Tensor | None
    window: tuple[Any, ...]
    """Padding, stride, dilation and groups of a convolution; of a line nothing."""
    source: int
    """The place of what is multiplied."""
    out: int
    """The place of the answer."""
    bend: Bend = NOT
    other: int = -1
    """The place of what is added before that, if something is."""
    over: bool = False
    """Whether the answer is written there."""

    @property
    def reads(self) -> list[int]:
        """Places that it reads."""
        return [self.source, *([self.other] if self.other >= 0 else [])]

    @property
    def makes(self) -> list[int]:
        """Places that it fills."""
        return [self.out]

    def run(self, values: list[Any]) -> None:
        """Fill the place of the answer, given what lies at the others."""
        x, dtype = values[self.source], self.weight.dtype
        x = x if x.dtype == dtype else x.to(dtype)
        bend, numbers, manner = self.bend
        given = (self.weight, self.bias, *self.window)
        if not self.window:
            answer = torch.ops.mkldnn._linear_pointwise.default(x, *given, bend, numbers, manner)
        elif self.other < 0:
            answer = torch.ops.mkldnn._convolution_pointwise.default(x, *given, bend, numbers, manner)
        else:
            other = values[self.other].to(dtype)
            after = (None if self.bend is NOT else bend, numbers, None)
            if self.over:
                answer = torch.ops.mkldnn._convolution_pointwise_.binary(other, x, *given, "add", 1.0, *after)
            else:
                answer = torch.ops.mkldnn._convolution_pointwise.binary(x, other, *given, "add", 1.0, *after)
        values[self.out] = answer


@dataclass
class Asis:
    """A call that is done as it is written."""

    call: Call
    mixed: bool = False
    """Whether it may be given bf16: what torch does not do in that, or beside others, is done in float32."""

    @property
    def reads(self) -> list[int]:
        """Places that it reads."""
        return self.call.reads

    @property
    def makes(self) -> list[int]:
        """Places that it fills."""
        return self.call.makes

    def run(self, values: list[Any]) -> None:
        """Fill the places of what comes out."""
        call = self.call
        args, kwargs = mapped(
            (call.args, call.kwargs), lambda v: values[v.place] if isinstance(v, Value) else v
        )
        if self.mixed:
            kinds = {value.dtype for value in leaves((args, kwargs)) if isinstance(value, Tensor)}
            if len(kinds) > 1 or call.name in WIDE:
                args, kwargs = mapped((args, kwargs), _wide)
        out = call.function(*args, **kwargs)
        for place, value in zip(self.makes, leaves(out), strict=True):
            values[place] = value


Step = Laid | Asis


class Program:
    """Steps, done one after another."""

    def __init__(self, steps: list[Step], last: int) -> None:
        self.last = last
        ends = {place: i for i, step in enumerate(steps) for place in (*step.makes, *step.reads)}
        self.count = max([last, *ends]) + 1
        self.steps = [
            (step.run, [place for place, end in ends.items() if end == i and place != last])
            for i, step in enumerate(steps)
        ]

    def __call__(self, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O"]:
        values: list[Any] = [None] * self.count
        values[0] = pictures
        for run, over in self.steps:
            run(values)
            for place in over:
                values[place] = None  # nobody reads it any more
        return values[self.last].float()


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
