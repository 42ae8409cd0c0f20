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

from sadari.batches import make_batches
from sadari.batches_captions import first_pictures
from sadari.errors import SadariError
from sadari.layers.stack import Stack, stackable
from sadari.optim import make_optimizer

if TYPE_CHECKING:
    from sadari.train import TrainConfig

SAMPLE = 4096  # rows on which a rate is judged
ENOUGH = (
    0.95  # of what the best rate wins: the lowest rate that wins so much is safer over thousands of steps
)


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
    """Rate to train with: the lowest that wins nearly as much as the best."""
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
    best = int(losses.argmin())
    limit = math.inf
    failed = trial.failed(losses[best:]).nonzero()
    if len(failed):
        above = best + int(failed[0])
        held = float(rates[above - 1]) if above else 0.0
        finer = torch.linspace(held, float(rates[above]), count + 1, dtype=torch.float64)[1:]
        again = trial.failed(trial(finer)).nonzero()
        limit = float(finer[int(again[0])] if len(again) else rates[above])
    enough = losses <= trial.start - ENOUGH * (trial.start - trial.least)
    return RangeTest(rates, losses, trial.start, float(rates[int(enough.nonzero()[0])]), limit)


class _Trial:
    """Losses after a few steps at given rates, each from the same weights and with the same batches."""

    def __init__(
        self, one: nn.Module, task: Any, arrays: Mapping[str, Tensor], config: Any, steps: int
    ) -> None:
        self.one, self.task, self.arrays, self.config, self.steps = one, task, arrays, config, steps
        captioned = task.batching == "captions"
        plain = {name: value[:SAMPLE] for name, value in arrays.items()}
        self.sample = first_pictures(arrays, SAMPLE) if captioned else plain
        self.start = self.least = task.evaluate(one, self.sample).item()

    def __call__(self, rates: Tensor) -> Tensor:
        """Losses (R,) at ascending rates (R,)."""
        with torch.random.fork_rng(devices=[]):
            if stackable(self.one):
                stack = Stack.of([copy.deepcopy(self.one) for _ in rates])
                losses = self._walk(stack, 0.0, rates.float())
                losses = torch.where(losses.isfinite(), losses, math.inf)
                self.least = min(self.least, float(losses.min()))
                return losses
            losses = torch.full((len(rates),), math.inf, dtype=torch.float64)
            for i, rate in enumerate(rates.tolist()):
                loss = self._walk(copy.deepcopy(self.one), rate, None).item()
                losses[i] = loss if math.isfinite(loss) else math.inf
                self.least = min(self.least, float(losses[i]))
                if self.least < self.start and self.failed(losses[i]):
                    break
            return losses

    def failed(self, losses: Tensor) -> Tensor:
        """Whether a loss ended above where it began, by a tenth of what the best won (chance does less)."""
        return losses > self.start + 0.1 * (self.start - self.least)

    def _walk(self, model: nn.Module, rate: float, rates: Tensor | None) -> Tensor:
        torch.manual_seed(self.config.seed)
        batches = make_batches(model, self.task, self.arrays, self.config)
        optimizer = make_optimizer(model, self.config, rate, rates, per_epoch=batches.per_epoch)
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
