"""The loss over a vocabulary, without ever holding a logit for each token and word.

A language model's last product is its largest: N tokens by V words, 50 million logits for a thousand tokens
and GPT-2's vocabulary. The plain way, `cross_entropy(hidden @ weight.T + bias, targets)`, keeps them, their
float32 copy, their softmax and its gradient, and spends its time on moving them. Here a block of rows goes
all the way at once, since the loss is the last thing that is computed and its own gradient is known:

    logits = h W' + b  ->  softmax p, in place  ->  p - 1 at the target  ->  gradients of h, W and b

What is kept for the backward pass is these gradients, which are as large as h, W and b.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 1 << 25  # logits held at once: 64 MB in bf16, so that blocks have rows enough for a fast product


def vocabulary_loss(
    hidden: Float[Tensor, "N C"],
    weight: Float[Tensor, "V C"],
    bias: Float[Tensor, " V"] | None,
    targets: Int[Tensor, " N"],
    block: int = 0,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Mean over N tokens of -log softmax(hidden W' + b)[target], in nats, as `cross_entropy` gives it.

    `smoothing` spreads that share s of each target evenly over all V tokens (Vaswani 2017, section 5.4):
    (1 - s) times the loss plus s times the mean over the vocabulary of -log softmax. Under autocast the
    products are in its lower precision; the losses are summed in float32 either way. `block` is the number of
    rows taken at a time; 0 = as many as make 32 million logits. The gradient can be taken once, not
    differentiated again.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    blocks = -(-hidden.shape[0] * len(weight) // BLOCK)
    rows = block or max(1, -(-len(hidden) // max(1, blocks)))  # even ones: a small last one is a slow product
    return _VocabularyLoss.apply(hidden, weight, bias, targets, rows, dtype, smoothing)


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        rows: int,
        dtype: torch.dtype,
        smoothing: float,
    ) -> Tensor:
        wanted_h, wanted_w, wanted_b = ctx.needs_input_grad[:3]
        N, V = len(hidden), len(weight)
        x, w, targets = hidden.to(dtype), weight.to(dtype), targets.long().unsqueeze(-1)
        mean = x / N  # so that no pass over the weights' gradient has to divide by N
        grad_h = torch.empty_like(hidden) if wanted_h else None
        grad_w: Tensor | None = None
        grad_b = torch.zeros_like(bias) if bias is not None and wanted_b else None
        total = hidden.new_zeros((), dtype=torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            room = x.new_empty(min(rows, N), V)
            for start in range(0, N, rows):
                some = slice(start, start + rows)
                p = torch.mm(x[some], w.t(), out=room[: min(rows, N - start)])  # (rows, V) the logits
                if bias is not None:
                    p += bias.to(dtype)
                top, hit = p.amax(-1).float(), p.gather(-1, targets[some]).float()
                torch._softmax(p, -1, False, out=p)
                # log of the sum of exponentials, without a pass of its own: p at the top is exp(top - that)
                total += (top - p.amax(-1).float().log()).sum() - (1 - smoothing) * hit.sum()
                if not (wanted_h or wanted_w or wanted_b):
                    continue
                p.scatter_add_(-1, targets[some], p.new_full((), smoothing - 1.0).expand(len(p), 1))
                if grad_h is not None:
                    torch.mul(p @ w, 1 / N, out=grad_h[some])
                if wanted_w:
                    part = p.t() @ mean[some]  # (V, C)
                    grad_w = part.to(weight.dtype) if grad_w is None else grad_w.add_(part)
                if grad_b is not None:
                    grad_b += p.sum(0, dtype=grad_b.dtype) / N
            if smoothing:
                total -= _smooth(hidden, weight, bias, smoothing, grad_h, grad_w, grad_b)
        ctx.gradients = grad_h, grad_w, grad_b
        return total / N

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if upstream.device.type != "cpu" or upstream != 1:  # a look at a number is free on a processor only
            gradients = tuple(None if grad is None else grad.mul_(upstream) for grad in gradients)
        return *gradients, None, None, None, None


def _smooth(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    share: float,
    grad_h: Tensor | None,
    grad_w: Tensor | None,
    grad_b: Tensor | None,
) -> Tensor:
    """The evenly spread share of the targets: what it takes off the sum of losses, and off each gradient.

    Every token of every row gets share / V, so no pass over logits is needed: a row's mean logit is its
    product with the mean word, and each word is pulled towards the mean row.
    """
    N, V = len(hidden), len(weight)
    rows, word = hidden.sum(0, dtype=torch.float32), weight.sum(0, dtype=torch.float32) / V  # each (C,)
    logits = rows @ word
    if bias is not None:
        logits = logits + N * bias.float().mean()
    if grad_h is not None:
        grad_h -= word * (share / N)
    if grad_w is not None:
        grad_w -= rows * (share / (N * V))
    if grad_b is not None:
        grad_b -= share / V
    return share * logits
