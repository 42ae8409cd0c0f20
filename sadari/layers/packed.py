"""Lines whose weights are laid out once for products with few rows, as writing a token at a time has them.

torch's product in float32 lays the weight out anew at every call, and on some processors by a library that
runs at half their speed. oneDNN, which torch brings along, takes a weight that is laid out already. On an AMD
processor with one thread, in microseconds (torch's own / packed), the weights of a small model by turns:

    rows    256 to 256    256 to 1,024    256 to 8,000
    1         6 /  14         17 /  23        122 / 102
    5        14 /  15         57 /  25        465 / 116
    32       45 /  30        180 /  90      1,931 / 730
    640     804 / 351      3,141 / 1,395   26,150 / 11,180

Such a call costs 10 microseconds before it begins: a product of fewer than `PAYS` multiply-adds stays
torch's, but for a weight of `LARGE`, where reading it takes longer (591 / 256 microseconds for one row to
8,000, when nothing of it is in a cache).
What is laid out is a copy, kept as long as the line: a model that has written takes twice the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeGuard, TypeVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

PAYS = 1 << 19  # multiply-adds from which a product is faster so, wherever the weight is
LARGE = 1 << 20  # numbers in a weight from which it is so for a single row too
ROWS = 32  # that a weight is laid out for; another number of them loses nothing (measured from 1 to 640)
OPERATORS = ("_linear_pointwise", "_reorder_linear_weight")
SMALL = 1 << 12  # numbers in a weight below which no usual batch reaches `PAYS`

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Laid:
    """A weight that is laid out."""

    weight: Tensor
    """(O, I) in oneDNN's own order."""
    of_what: tuple[int, int]
    """Where the original lies, and its version, which torch counts up at each change."""


MADE: WeakKeyDictionary[nn.Module, Laid] = WeakKeyDictionary()  # laying out takes as long as a few products


class Packed(nn.Module):
    """The answers of a line, for use without gradients.

    line   one that `can_pack`; its weight must not change while this is in use
    """

    weight: Tensor
    """The line's own, which a tied model reads words by."""
    bias: Tensor | None

    def __init__(self, line: nn.Linear) -> None:
        super().__init__()
        weight = line.weight
        self.out_features, self.in_features = weight.shape
        # neither parts nor parameters of this, so that there is nothing to be moved or saved
        self.__dict__.update(weight=weight, bias=line.bias, laid=_laid(line))
        rows = 1 if weight.numel() >= LARGE else -(-PAYS // weight.numel())
        self.least = rows * self.in_features

    def forward(self, x: Float[Tensor, "... I"]) -> Float[Tensor, "... O"]:
        if x.numel() < self.least or x.dtype != torch.float32 or torch.is_grad_enabled():
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise.default(x, self.laid, self.bias, "none", [], "")


def packed(
    model: M, instead: Mapping[str, nn.Module] | None = None, kind: Callable[[nn.Linear], nn.Module] = Packed
) -> M:
    """A twin of a model, for use without gradients, whose lines are `Packed` where they can be.

    It shares everything else, and the model itself is left alone: another search may be using it, and its
    state, its training and its export know nothing of this. Twins are cheap: make one for each use.

    instead   other parts of the model by their names, such as its head, that are put in their place
    kind      what a line becomes: `Packed`, or one of `layers.rounded`
    """
    return _twin(model, instead or {}, kind)


def can_pack(line: object) -> TypeGuard[nn.Linear]:
    """Whether this is a line that `Packed` takes: in float32 on a processor, where torch brings oneDNN."""
    if not isinstance(line, nn.Linear) or type(line).forward is not nn.Linear.forward:
        return False
    weight = line.weight
    return (
        weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.numel() >= SMALL
        and not weight.is_inference()  # such a one has no version
        and not (line._forward_hooks or line._forward_pre_hooks)
        and torch.backends.mkldnn.is_available()
        and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)
    )


def _laid(line: nn.Linear) -> Tensor:
    """The line's weight as oneDNN wants it, made anew if it has changed."""
    weight, known = line.weight, MADE.get(line)
    what = (weight.data_ptr(), weight._version)
    if known is None or known.of_what != what:
        with (
            torch.inference_mode(False),
            torch.no_grad(),
        ):  # what is kept must be of use outside that mode too
            laid = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        known = MADE[line] = Laid(laid, what)
    return known.weight


def _twin(module: M, instead: Mapping[str, nn.Module], kind: Callable[[nn.Linear], nn.Module]) -> M:
    """A packed line of a line; a module with parts that have twins is copied, any other is its own twin."""
    parts = {
        name: instead.get(name) or (kind(part) if can_pack(part) else _twin(part, {}, kind))
        for name, part in module._modules.items()
        if part is not None
    }
    if all(part is module._modules[name] for name, part in parts.items()):
        return module
    twin: M = module.__class__.__new__(module.__class__)
    twin.__dict__.update(module.__dict__, _modules={**module._modules, **parts})
    return twin
