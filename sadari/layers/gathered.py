"""A convolution as products, where it moves over few places in bf16: its windows gathered side by side.

    y  = windows . W'    (P, k k I) . (k k I, O), of the P = B h w windows of x
    dW = dy' . windows   (O, P) . (P, k k I)
    dx                   oneDNN's own

(Chellapilla et al. 2006, who made all convolutions so.) The last stage of a network for small pictures has
4 x 4 places and hundreds of channels. There oneDNN's convolution reaches half of what its matrix product
does: for 512 channels, batches of 64 and one core, the gradient of the weights takes 21 ms and the product
11.5; from 256 to 512 with a stride 16.6 and 5.9. Gathering takes a fifth of a millisecond. Over many places
the windows no longer fit a cache.

Alphabet: B batch, I and O channels, k kernel's side, h w places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

FEW, MANY = 16, 64  # places of a picture at the most, and channels read at the least, for it to pay


def pays(x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> bool:
    """Whether this step of training multiplies in bf16 on a processor, over few places of many channels."""
    if not (weight.requires_grad and torch.is_grad_enabled() and x.device.type == "cpu"):
        return False
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if not half or weight.shape[1] < MANY or weight.shape[2] == 1:
        return False
    h, w = _places(x, weight.shape[2:], stride, padding)
    return 0 < h * w <= FEW


def convolved(
    x: Float[Tensor, "B I H W"],
    weight: Float[Tensor, "O I k k"],
    stride: Sequence[int],
    padding: Sequence[int],
) -> Float[Tensor, "B O h w"]:
    """As torch's `conv2d` under autocast, gradients as well."""
    with torch.autocast("cpu", enabled=False):
        found: Tensor = _Convolved.apply(x.bfloat16(), weight.bfloat16(), stride, padding)
        return found


def windows(
    x: Float[Tensor, "B I H W"], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> Float[Tensor, "P kkI"]:
    """The windows that a convolution reads, a row each; channels are next to one another."""
    down, across = padding
    h, w = _places(x, kernel, stride, padding)
    whole = F.pad(x.permute(0, 2, 3, 1), (0, 0, across, across, down, down))  # (B, H, W, I)
    b, _, _, channels = whole.shape
    one, row, column, number = whole.stride()
    seen = whole.as_strided(
        (b, h, w, *kernel, channels), (one, stride[0] * row, stride[1] * column, row, column, number)
    )
    return seen.reshape(b * h * w, -1)


def _places(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[int, int]:
    h, w = (
        (length + 2 * edge - side) // step + 1
        for length, edge, side, step in zip(x.shape[2:], padding, kernel, stride, strict=True)
    )
    return h, w


def _flat(weight: Float[Tensor, "O I k k"]) -> Float[Tensor, "O kkI"]:
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


class _Convolved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        outputs, _, *kernel = weight.shape
        h, w = _places(x, kernel, stride, padding)
        rows = windows(x, kernel, stride, padding) @ _flat(weight).t()  # (P, O)
        return rows.view(len(x), h, w, outputs).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        outputs, inputs, *kernel = weight.shape
        found = windows(x, kernel, ctx.stride, ctx.padding)
        rows = slope.permute(0, 2, 3, 1).reshape(-1, outputs)  # (P, O)
        change = (rows.t() @ found).view(outputs, *kernel, inputs).permute(0, 3, 1, 2)
        back = None
        if ctx.needs_input_grad[0]:
            back = torch.ops.aten.convolution_backward(
                slope,
                x,
                weight,
                None,
                ctx.stride,
                ctx.padding,
                (1, 1),
                False,
                (0, 0),
                1,
                (True, False, False),
            )[0]
        return back, change, None, None
