"""Lines whose products are made in smaller numbers, for writing faster at some loss: bf16, or 8 bits.

A weight in 8 bits takes a quarter of the memory that float32 reads, and a processor multiplies four of them
where it multiplies one. Each row of a weight has a step of its own, and each row of numbers that comes in
too, so that what a text becomes does not hang on those beside it (Dettmers et al. 2022, 2208.07339, call it
vector-wise). On an AMD processor with one thread, in microseconds (`layers.packed` / bf16 / 8 bits):

    rows    256 to 256      256 to 1,024      256 to 8,000
    1         13 / 14 / 14     24 / 19 / 17     104 /  64 /  85
    32        28 / 22 / 22     90 / 51 / 43     572 / 299 / 338
    160       95 / 59 / 60    336 /  - / 261  3,375 / 1,575 / 1,252
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.layers.packed import ROWS, Laid, can_pack

STEPS = 127  # of an 8-bit number to each side of zero
MIDDLE = 128  # what stands for zero where numbers have no sign
TINY = 1e-30
OPERATORS = ("linear_prepack", "linear_with_input_q_dq_qweight_dq_output_fp32")


class Halved(nn.Module):
    """The answers of a line with its weight and what comes in rounded to bf16, summed in float32."""

    MADE: ClassVar[WeakKeyDictionary[nn.Module, Laid]] = WeakKeyDictionary()
    weight: Tensor
    """The line's own, which a tied model reads words by."""
    bias: Tensor | None

    def __init__(self, line: nn.Linear) -> None:
        super().__init__()
        self.out_features, self.in_features = line.weight.shape
        laid = _made(self.MADE, line, _halves)
        self.__dict__.update(weight=line.weight, bias=line.bias, laid=laid)

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        # the bias is added in float32: it may be far larger than what it is added to
        y = torch.ops.mkldnn._linear_pointwise.default(x.bfloat16(), self.laid, None, "none", [], "").float()
        return y if self.bias is None else y.add_(self.bias)


class Eighths(nn.Module):
    """The answers of a line with its weight and what comes in rounded to 8 bits, row by row."""

    MADE: ClassVar[WeakKeyDictionary[nn.Module, Laid]] = WeakKeyDictionary()
    weight: Tensor
    """The line's own, which a tied model reads words by."""
    bias: Tensor | None

    def __init__(self, line: nn.Linear) -> None:
        super().__init__()
        self.out_features, self.in_features = line.weight.shape
        laid = _made(self.MADE, line, _eighths)
        self.__dict__.update(weight=line.weight, bias=line.bias, laid=laid)

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        length = x.abs().amax(-1, keepdim=True).clamp_(min=TINY)  # of its largest number, (..., 1)
        y = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(
            x / length, 1 / STEPS, MIDDLE, self.laid
        )
        return y.mul_(length) if self.bias is None else torch.addcmul(self.bias, y, length)


KINDS: dict[str, type[nn.Module]] = {"bf16": Halved, "int8": Eighths}
"""By what a user calls them."""


def can_round(precision: str) -> bool:
    """Whether torch brings such products here, for a processor."""
    if precision == "bf16":
        return torch.backends.mkldnn.is_available() and can_pack(nn.Linear(64, 64))
    engines = set(torch.backends.quantized.supported_engines)
    return bool({"x86", "fbgemm"} & engines) and all(hasattr(torch.ops.quantized, name) for name in OPERATORS)


def _made(made: WeakKeyDictionary[nn.Module, Laid], line: nn.Linear, lay: Any) -> Any:
    """The line's weight in its other form, made anew if it has changed."""
    weight, known = line.weight, made.get(line)
    what = (weight.data_ptr(), weight._version)
    if known is None or known.of_what != what:
        with torch.inference_mode(False), torch.no_grad():  # it must be of use outside that mode too
            known = made[line] = Laid(lay(weight.detach()), what)
    return known.weight


def _halves(weight: Float[Tensor, "O I"]) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16(), ROWS)


def _eighths(weight: Float[Tensor, "O I"]) -> Any:
    step = (weight.abs().amax(1) / STEPS).clamp_(min=TINY).double()
    with warnings.catch_warnings():  # that tensors of such types may go one day; the versions here have them
        warnings.simplefilter("ignore", UserWarning)
        rounded = torch.quantize_per_channel(weight, step, torch.zeros(len(step)).long(), 0, torch.qint8)
        return torch.ops.quantized.linear_prepack(rounded, None)


def plain(line: nn.Linear, x: Float[Tensor, "... I"], precision: str) -> Float[Tensor, "... O"]:
    """The same products written out, to be compared with: rounded, multiplied in float32."""
    weight = line.weight
    if precision == "bf16":
        return F.linear(x.bfloat16().float(), weight.bfloat16().float(), line.bias)
    step, length = (value.abs().amax(-1, keepdim=True) / STEPS for value in (weight, x))
    y = F.linear((x / length).round(), (weight / step).round()) * length * step.squeeze(1)
    return y if line.bias is None else y + line.bias
