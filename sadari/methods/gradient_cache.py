"""Gradient caching (Gao et al. 2021, 2101.06983): a contrast over more pairs than a network can hold at once.

A contrast needs all embeddings together, but the network's inner values only where a gradient passes. So:

    1. embed each part without a graph        parts -> image, text (B, D)
    2. the loss, and its gradient there       image, text -> loss -> g  (what the method is named for)
    3. embed each part again, with a graph    part -> image, text;  backward from g's rows of this part

The gradient is exactly that of the whole batch, for a third more work: each part goes forward twice. Chance
is wound back between both times, so that dropout leaves out the same. Norms over a batch (a ResNet's) see a
part, not the batch, and take each part into their running means twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from sadari.errors import SadariError

Part = TypeVar("Part")


def backward(
    encode: Callable[[Part], tuple[Tensor, ...]], parts: Sequence[Part], loss: Callable[..., Tensor]
) -> Float[Tensor, ""]:
    """Add the gradients of `loss` over all `parts` to the parameters' `.grad`; its value, without a graph.

    encode  a part of the batch to embeddings (b, D), one tensor for each tower
    loss    the embeddings of the whole batch (B, D), as many tensors, to one number; what else it uses, such
            as a scale, gets its gradient too

    Raises SadariError where there is no part, or where a part has other embeddings the second time.
    """
    if not parts:
        raise SadariError("no part of a batch: gradients come from one at least; give the whole batch as one")
    states, embedded = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_chance())
            embedded.append(encode(part))
    lengths = [len(each[0]) for each in embedded]
    whole = [torch.cat(tower).requires_grad_() for tower in zip(*embedded, strict=True)]
    del embedded
    with torch.enable_grad():
        value = loss(*whole)
    value.backward()
    towers = [(each if each.grad is None else each.grad).split(lengths) for each in whole]
    reached = [each.grad is not None for each in whole]
    for part, state, *cached in zip(parts, states, *towers, strict=True):
        with _wound_back(state), torch.enable_grad():
            again = encode(part)
        if [each.shape for each in again] != [each.shape for each in cached]:
            first, second = ([tuple(each.shape) for each in times] for times in (cached, again))
            raise SadariError(
                f"a part was embedded as {first}, then as {second}: both times have to be alike; "
                f"let `encode` depend on the part alone"
            )
        pairs = [
            (each, gradient)
            for each, gradient, got in zip(again, cached, reached, strict=True)
            if got and each.requires_grad
        ]
        if pairs:
            torch.autograd.backward([each for each, _ in pairs], [gradient for _, gradient in pairs])
    return value.detach()


def _chance() -> tuple[Tensor, list[Tensor]]:
    """Where the generators of the processor and of every accelerator stand."""
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


@contextmanager
def _wound_back(state: tuple[Tensor, list[Tensor]]) -> Iterator[None]:
    """Chance as it was in `state`; afterwards as if this had not been."""
    now = _chance()
    _set(state)
    try:
        yield
    finally:
        _set(now)


def _set(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
