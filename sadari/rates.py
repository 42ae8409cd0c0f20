"""The learning-rate range test: how long a step may be before it leaps over the optimum.

After Smith 2017 (1506.01186), but every rate starts from the same weights, so that the loss at one rate is
not the doing of the rates before it. For a quadratic loss and plain gradient descent over all rows the limit
is 2 / lambda_max.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sadari.batches import Batches
from sadari.errors import SadariError
from sadari.layers.stack import Stack, stackable
from sadari.optim import make_optimizer

if TYPE_CHECKING:
    from sadari.train import TrainConfig

SAMPLE = 4096  # rows on which a rate is judged
CAUTION = 3.0  # what is best for fifty steps is too rough for thousands


@dataclass(frozen=True)
class RangeTest:
    """Loss against learning rate."""

    rates: Tensor
    """Rates tried, ascending (R,) double."""
    losses: Tensor
    """Loss after a few steps at each (R,) double; infinite where it was no number, or was not tried any
    more."""
    start: float
    """Loss before the first step."""
    chosen: float
    """Rate to train with."""
    limit: float
    """Lowest rate that ended above where it began: there, steps leap over the optimum; infinite if none
    did."""


def range_test(
    model: nn.Module,
    task: Any,
    arrays: Mapping[str, Tensor],
    config: TrainConfig,
    *,
    lowest: float = 1e-5,
    highest: float = 10.0,
    count: int = 25,
    steps: int = 50,
) -> RangeTest:
    """Take `steps` steps at each of `count` rates, always from the weights of `model`, which stays as it is.

    Networks that can be stacked try all rates at once; others one after another, up to the first that fails.
    The limit is then sought again, `count` times finer, between the last rate that held and the first that
    did not. `config` gives optimizer, batch size and seed. Raises SadariError when the loss is no number at
    the start.
    """
    one = copy.deepcopy(model)
    one = one.unstack()[0] if isinstance(one, Stack) else one
    trial = _Trial(one, task, arrays, config, steps)
    if not math.isfinite(trial.start):
        raise SadariError(
            f"the loss is {trial.start} before the first step; look for infinite values in the data"
        )
    rates = torch.logspace(math.log10(lowest), math.log10(highest), count, dtype=torch.float64)
    losses = trial(rates)
    limit = math.inf
    failed = (losses > trial.start).nonzero()
    if len(failed):
        above = int(failed[0])
        held = float(rates[above - 1]) if above else 0.0
        finer = torch.linspace(held, float(rates[above]), count + 1, dtype=torch.float64)[1:]
        failed = (trial(finer) > trial.start).nonzero()
        limit = float(finer[int(failed[0])] if len(failed) else rates[above])
    best = float(rates[losses.argmin()])
    return RangeTest(rates, losses, trial.start, min(best, limit) / CAUTION, limit)


class _Trial:
    """Losses after a few steps at given rates, each from the same weights and with the same batches."""

    def __init__(
        self, one: nn.Module, task: Any, arrays: Mapping[str, Tensor], config: Any, steps: int
    ) -> None:
        self.one, self.task, self.arrays, self.config, self.steps = one, task, arrays, config, steps
        self.sample = {name: value[:SAMPLE] for name, value in arrays.items()}
        self.start = task.evaluate(one, self.sample).item()

    def __call__(self, rates: Tensor) -> Tensor:
        """Losses (R,) at ascending rates (R,)."""
        with torch.random.fork_rng(devices=[]):
            if stackable(self.one):
                stack = Stack.of([copy.deepcopy(self.one) for _ in rates])
                losses = self._walk(stack, 0.0, rates.float())
                return torch.where(losses.isfinite(), losses, math.inf)
            losses = torch.full((len(rates),), math.inf, dtype=torch.float64)
            for i, rate in enumerate(rates.tolist()):
                loss = self._walk(copy.deepcopy(self.one), rate, None).item()
                losses[i] = loss if math.isfinite(loss) else math.inf
                if losses[i] > self.start:
                    break
            return losses

    def _walk(self, model: nn.Module, rate: float, rates: Tensor | None) -> Tensor:
        torch.manual_seed(self.config.seed)
        batches = Batches(self.arrays, self.config.batch_size, self.config.seed)
        optimizer = make_optimizer(model, self.config, rate, rates)
        model.train()
        taken = 0
        while taken < self.steps:
            for batch in batches.epoch():
                self.task.backward(model, batch)
                optimizer.step(1.0)
                taken += 1
                if taken == self.steps:
                    break
        return self.task.evaluate(model, self.sample)
