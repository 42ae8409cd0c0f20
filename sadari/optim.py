"""How weights move: SGD with momentum and AdamW, the schedules of their rate, and clipping.

Both optimizers run torch's fused kernels on lists of tensors, without the bookkeeping that makes one step of
`torch.optim.AdamW(fused=True)` cost 15 microseconds more than its arithmetic. A stack of K networks is one
(K, P) tensor, and each of its members may have a learning rate of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.stack import Stack


@dataclass
class Group:
    """Parameters that are decayed alike."""

    parameters: Sequence[Tensor]
    """Tensors of any shape; a stack's single one is (K, P)."""
    decay: float = 0.0
    """Weight decay of all of them."""
    mask: Tensor | None = None
    """Where decay holds and how much of it, (P,) or (K, P): a stack keeps weights and biases in one
    tensor."""
    pace: float = 1.0
    """Share of the rate at which they move."""


def groups_of(model: nn.Module, decay: float) -> list[Group]:
    """Weights (two axes or more) are decayed; biases and scales are not: that would buy no smoothness.

    A model with `paces()` says which of its parameters move at which share of the rate.
    """
    if isinstance(model, Stack):
        mask = torch.zeros_like(model.flat.detach())
        for part in model.split(mask).values():
            part.fill_(float(part.ndim >= 3))  # (K, out, in): the members' axis comes on top
        return [Group([model.flat], decay, mask[0])]
    net: Any = model
    groups = []
    for pace, parameters in net.paces() if hasattr(net, "paces") else [(1.0, model.parameters())]:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        weights = [parameter for parameter in trained if parameter.ndim >= 2]
        others = [parameter for parameter in trained if parameter.ndim < 2]
        groups += [Group(weights, decay, pace=pace), Group(others, pace=pace)]
    return [group for group in groups if group.parameters]


class Optimizer:
    """Moves parameters against their `.grad`; `rate` is one number, or (K,) for a stack's members."""

    slots: tuple[str, ...] = ()
    """Names of what is remembered a parameter."""

    def __init__(self, groups: Sequence[Group], rate: float | Tensor) -> None:
        self.groups = list(groups)
        # moved without a graph
        self.weights = [[_in_order(p.detach()) for p in group.parameters] for group in groups]
        self.rate = rate if isinstance(rate, float) else 1.0
        self.rates: Tensor | None = None
        self.memory = [
            {name: [torch.zeros_like(p.detach()) for p in group.parameters] for name in self.slots}
            for group in groups
        ]
        self.remembered = [
            {name: [_in_order(value) for value in values] for name, values in memory.items()}
            for memory in self.memory
        ]
        device = groups[0].parameters[0].device
        # steps of each group: those of a network that thaws join later
        self.counts = [torch.zeros((), dtype=torch.float32, device=device) for _ in groups]
        if isinstance(rate, Tensor):
            flat = groups[0].parameters[0]
            if len(groups) > 1 or len(groups[0].parameters) > 1 or len(flat) != len(rate):
                raise SadariError(
                    f"{len(rate)} learning rates for {len(flat)} networks; give one a member of a stack"
                )
            self.rates = rate.to(flat.detach()).reshape(-1, 1)  # (K, 1)
            self.move = torch.empty_like(flat.detach())
        # mask times decay, so that a step is one multiplication: (P,), or (K, P) where it holds the members'
        # rates
        self.pulls = [None if g.mask is None or not g.decay else g.mask * g.decay for g in groups]

    def step(self, factor: float) -> None:
        """One step at `rate * factor`, the factor being the schedule's. A group without gradients rests."""
        for group, weights, memory, pull, count in zip(
            self.groups, self.weights, self.remembered, self.pulls, self.counts, strict=True
        ):
            if group.parameters[0].grad is None:
                continue
            gradients = [_seen_as(w, p) for w, p in zip(weights, group.parameters, strict=True)]
            count += 1
            decay = group.decay if group.mask is None else 0.0
            if pull is not None:
                self._pull(weights[0], gradients[0], pull, factor)
            if self.rates is None:
                self._update(weights, gradients, memory, count, self.rate * group.pace * factor, decay)
            else:  # the kernels know one rate: let them write a step of rate 1, then scale each member's row
                self._update([self.move.zero_()], gradients, memory, count, 1.0, 0.0)
                weights[0].addcmul_(self.move, self.rates, value=factor)

    def _update(
        self, parameters: Any, gradients: Any, memory: Any, count: Tensor, rate: float, decay: float
    ) -> None:
        raise NotImplementedError

    def _pull(self, parameter: Tensor, gradient: Any, pull: Tensor, factor: float) -> None:
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on beside the weights, by name, not copied."""
        state = {f"count.{g}": count for g, count in enumerate(self.counts)}
        for g, memory in enumerate(self.memory):
            state |= {f"{name}.{g}.{i}": value for name in memory for i, value in enumerate(memory[name])}
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a `state()` back, into the tensors that are there."""
        for name, value in self.state().items():
            value.copy_(state[name])


def _in_order(value: Tensor) -> Tensor:
    """The same numbers seen in the order in which they lie: torch's fused kernels copy what is laid out
    otherwise, and a convolution's weights are, where a pixel's channels lie together."""
    lies_so = value.ndim == 4 and not value.is_contiguous()
    if lies_so and value.is_contiguous(memory_format=torch.channels_last):
        return value.permute(0, 2, 3, 1)
    return value


def _seen_as(weight: Tensor, parameter: Tensor) -> Any:
    """The gradient of a parameter, seen as `_in_order` sees that in `weight`."""
    if parameter.grad is None:
        return None
    turned = weight.stride() != parameter.stride()
    gradient = parameter.grad.permute(0, 2, 3, 1) if turned else parameter.grad
    return gradient.contiguous()  # whose order a fused kernel takes for the weight's


class SGD(Optimizer):
    """Stochastic gradient descent with momentum (Polyak 1964), as `torch.optim.SGD`: b = m b + g + decay w; w
    -= rate b."""

    def __init__(self, groups: Sequence[Group], rate: float | Tensor, momentum: float = 0.9) -> None:
        self.momentum = momentum
        self.slots = ("momentum",) if momentum else ()
        super().__init__(groups, rate)

    def _update(
        self, parameters: Any, gradients: Any, memory: Any, count: Tensor, rate: float, decay: float
    ) -> None:
        torch._fused_sgd_(
            parameters,
            gradients,
            memory.get("momentum", []),
            weight_decay=decay,
            momentum=self.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )

    def _pull(self, parameter: Tensor, gradient: Any, pull: Tensor, factor: float) -> None:
        gradient.addcmul_(parameter, pull)


class AdamW(Optimizer):
    """Adam with decoupled decay (Loshchilov & Hutter 2019, 1711.05101), as `torch.optim.AdamW`."""

    slots = ("mean", "square")

    def __init__(
        self,
        groups: Sequence[Group],
        rate: float | Tensor,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.betas = betas
        self.eps = eps
        super().__init__(groups, rate)
        self.pulls = [None if pull is None else pull * self._rates() for pull in self.pulls]

    def _rates(self) -> float | Tensor:
        return self.rate if self.rates is None else self.rates

    def _update(
        self, parameters: Any, gradients: Any, memory: Any, count: Tensor, rate: float, decay: float
    ) -> None:
        torch._fused_adamw_(
            parameters,
            gradients,
            memory["mean"],
            memory["square"],
            [],
            [count] * len(parameters),
            lr=rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )

    def _pull(self, parameter: Tensor, gradient: Any, pull: Tensor, factor: float) -> None:
        parameter.addcmul_(parameter, pull, value=-factor)


def make_optimizer(
    model: nn.Module, config: Any, rate: float, rates: Tensor | None = None, *, per_epoch: int
) -> Optimizer:
    """The optimizer that a `TrainConfig` names, over a model's parameters; `rates` (K,) one a member.

    `config.weight_decay` is the share of a weight that fades in an epoch of `per_epoch` steps at the full
    rate, so that it need not be chosen anew for another learning rate, batch size or number of rows: what
    matters is over how many epochs the weights are averaged (Wang & Aitchison 2024, 2405.13698). The rules
    below multiply decay by the rate, and momentum repeats SGD's 1 / (1 - momentum) times.
    """
    share = config.weight_decay / per_epoch
    if config.optimizer == "sgd":
        share *= 1 - config.momentum
    if rates is None:
        groups = groups_of(model, share / rate)
    else:
        groups = groups_of(model, share)
        for group in groups:
            if group.mask is not None:
                group.mask = group.mask / rates.to(group.mask).reshape(-1, 1)  # (K, P)
    pace: float | Tensor = rate if rates is None else rates
    return AdamW(groups, pace) if config.optimizer == "adamw" else SGD(groups, pace, config.momentum)


def clip_gradients(parameters: Sequence[Tensor], limit: float, members: int = 1) -> None:
    """Scale gradients down where their norm over all parameters exceeds `limit` (Pascanu 2013, 1211.5063).

    As `torch.nn.utils.clip_grad_norm_`; each member of a stack by its own norm.
    """
    if members == 1:
        torch.nn.utils.clip_grad_norm_(parameters, limit)
        return
    gradient: Any = parameters[0].grad  # (K, P)
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)  # (K, 1)
    gradient.mul_(torch.clamp(limit / (norm + 1e-6), max=1.0))


# A schedule gives the factor of the learning rate at `step` (0 .. steps - 1); `warmup` steps climb to 1
# first.
Schedule = Callable[[int, int, int], float]


def constant(step: int, steps: int, warmup: int = 0) -> float:
    """The rate stays, after a climb over `warmup` steps if there are any."""
    return min(1.0, (step + 1) / (warmup + 1))


def linear(step: int, steps: int, warmup: int = 0) -> float:
    """A straight climb over `warmup` steps, then a straight descent that would reach zero at `steps`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (steps - step) / (steps - warmup)


def cosine(step: int, steps: int, warmup: int = 0) -> float:
    """A straight climb over `warmup` steps, then half a cosine down to zero (Loshchilov & Hutter 2017,
    1608.03983)."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / (steps - warmup))


def one_cycle(step: int, steps: int, warmup: int = 0) -> float:
    """Up from 1/25 along a cosine over 30 % of the steps, then down to nearly zero (Smith & Topin 2017,
    1708.07120)."""
    top = max(warmup, round(0.3 * steps))
    if step < top:
        return 1.0 - (1.0 - 1 / 25) * (0.5 + 0.5 * math.cos(math.pi * step / top))
    return 0.5 + 0.5 * math.cos(math.pi * (step - top) / (steps - top))


def inverse_sqrt(step: int, steps: int, warmup: int = 0) -> float:
    """A straight climb over `warmup` steps, then down with 1 / sqrt(step), whatever `steps` (Vaswani 2017,
    1706.03762, section 5.3)."""
    top = warmup + 1
    return min((step + 1) / top, math.sqrt(top / (step + 1)))


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "cosine": cosine,
    "warmup": linear,
    "one-cycle": one_cycle,
    "inverse-sqrt": inverse_sqrt,
}
