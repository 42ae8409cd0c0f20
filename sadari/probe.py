"""What is found out before the first step, on a copy of the model, so that its own course is left alone.

How many threads, whether bf16 pays, how many steps a budget buys, and the learning-rate range test.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sadari.batches import Batches
from sadari.errors import SadariError
from sadari.layers.stack import Stack, stackable
from sadari.optim import clip_gradients, make_optimizer

if TYPE_CHECKING:
    from sadari.train import TrainConfig

Backward = Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]]

THREADS_PAY = 1 << 26  # multiply-adds a step; below, threads wait for each other longer than they work
SHARE = 0.9  # of a budget in seconds is planned for, the rest is for a machine busier than while it was timed


def macs_a_step(model: nn.Module, task: Any, batch: Mapping[str, Tensor]) -> int:
    """Multiply-adds of one forward and backward, counted by torch from the shapes that really occur."""
    copied = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        task.backward(copied, batch)
    return counter.get_total_flops() // 2


def threads(model: nn.Module, task: Any, batches: Batches) -> int:
    """One thread, or all that the caller allows where a step is large enough. A rule and not a timing: sums over other
    threads round otherwise, and the same seed must give the same weights."""
    allowed = torch.get_num_threads()
    if allowed == 1:
        return 1
    return allowed if macs_a_step(model, task, first_batch(batches)) >= THREADS_PAY else 1


def first_batch(batches: Batches) -> dict[str, Tensor]:
    """A batch to try things with; the generator is put back."""
    state = {name: value.clone() for name, value in batches.state().items()}
    batch = next(iter(batches.epoch()))
    batches.load(state)
    return batch


BF16_PAYS = 1 << 30  # multiply-adds a step below which bf16 is not even timed
FASTER = 1.2  # and the gain that makes up for its digits


def precision(model: nn.Module, task: Any, batches: Batches, config: TrainConfig) -> str:
    """ "bf16" where the processor multiplies such numbers by itself and a step is then faster, else "fp32"."""
    device = next(model.parameters()).device
    if hasattr(model, "gradients") or not _has_bf16(device):  # gradients by hand know only fp32
        return "fp32"
    if macs_a_step(model, task, first_batch(batches)) < BF16_PAYS:
        return "fp32"
    plain = step_seconds(model, task.backward, batches, config, seconds=1.0)
    half = step_seconds(model, autocast(task.backward, model), batches, config, seconds=1.0)
    return "bf16" if plain > FASTER * half else "fp32"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and "avx512_bf16" in _processor_flags()


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def autocast(backward: Backward, model: nn.Module) -> Backward:
    """`task.backward` with the model's products in bf16; weights and their gradients stay fp32."""
    return torch.autocast(next(model.parameters()).device.type, torch.bfloat16)(backward)


def step_seconds(
    model: nn.Module, backward: Backward, batches: Batches, config: TrainConfig, seconds: float
) -> float:
    """Median seconds of one step, from at least three and for at most about `seconds`; the first one, which allocates,
    is not counted."""
    copied = copy.deepcopy(model).train()
    optimizer = make_optimizer(copied, config, 1e-9)
    parameters = [p for p in copied.parameters() if p.requires_grad]
    times: list[float] = []
    state = batches.state()
    with torch.random.fork_rng(devices=[]):
        ended = began = time.perf_counter()
        while len(times) < 4 or ended - began < seconds:
            for batch in batches.epoch():
                backward(copied, batch)
                if config.clip:
                    clip_gradients(parameters, config.clip, len(parameters[0]) if hasattr(copied, "flat") else 1)
                optimizer.step(1.0)
                now = time.perf_counter()
                times.append(now - ended)
                ended = now
                if len(times) >= 4 and ended - began >= seconds:
                    break
    batches.load(state)
    return statistics.median(times[1:])


def affordable(
    model: nn.Module, task: Any, batches: Batches, validation: Mapping[str, Tensor], config: TrainConfig, looks: int
) -> int:
    """Steps that fit into `config.budget_seconds`, evaluations (one an epoch, at most `looks`) and this timing included."""
    began = time.perf_counter()
    pace = step_seconds(model, task.backward, batches, config, seconds=min(0.3, 0.03 * config.budget_seconds))
    copied = copy.deepcopy(model)
    task.evaluate(copied, validation)
    middle = time.perf_counter()
    task.evaluate(copied, validation)
    ended = time.perf_counter()
    left = SHARE * config.budget_seconds - (ended - began)
    steps = left / (pace + (ended - middle) / (config.evaluate_every or batches.per_epoch))
    if not config.evaluate_every:
        steps = max(steps, (left - looks * (ended - middle)) / pace)  # evaluations are then rarer than one an epoch
    return max(1, int(steps))


@dataclass(frozen=True)
class RangeTest:
    """Loss against learning rate (after Smith 2017, 1506.01186, but every rate starts from the same weights)."""

    rates: Tensor
    """Rates tried, ascending (R,)."""
    losses: Tensor
    """Loss after a few steps at each (R,), infinite where it stopped being a number."""
    start: float
    """Loss before the first step."""
    chosen: float
    """Rate to train with."""
    limit: float
    """Lowest rate tried that ended above where it began: from there on steps leap over the optimum; infinite if none did."""


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

    Networks that can be stacked try all rates at once; others try them one after another, up to the first that fails.
    The limit is then sought again, `count` times finer, between the last rate that held and the first that did not.
    Raises SadariError when the loss is no number before the first step.
    """
    sample = {name: value[:SAMPLE] for name, value in arrays.items()}
    one = copy.deepcopy(model)
    one = one.unstack()[0] if isinstance(one, Stack) else one
    start = task.evaluate(one, sample).item()
    if not math.isfinite(start):
        raise SadariError(f"the loss is {start} before the first step; look for infinite values in the data")

    def tried(rates: Tensor) -> Tensor:
        losses = _after(one, task, arrays, sample, config, rates, steps, start)
        return torch.where(losses.isfinite(), losses, math.inf)

    rates = torch.logspace(math.log10(lowest), math.log10(highest), count, dtype=torch.float64)
    losses = tried(rates)
    failed = (losses > start).nonzero()
    limit = math.inf
    if len(failed):
        first = int(failed[0])
        finer = torch.linspace(float(rates[first - 1]) if first else 0.0, float(rates[first]), count + 1)[1:].double()
        limit = float(finer[(tried(finer) > start).nonzero()[0]])
    best = float(rates[losses.argmin()])
    return RangeTest(rates, losses, start, min(best, limit / 4) / CAUTION, limit)


SAMPLE = 4096  # rows on which a rate is judged
CAUTION = 3.0  # what is best for fifty steps is too rough for thousands


def _after(one, task, arrays, sample, config, rates: Tensor, steps: int, start: float) -> Tensor:
    """Loss on the sample after `steps` at each rate (R,), not a number from the first failure on where one at a time."""

    def walk(model: nn.Module, rate: float, several: Tensor | None) -> Tensor:
        batches = Batches(arrays, config.batch_size, config.seed)
        optimizer = make_optimizer(model, config, rate, several)
        model.train()
        taken = 0
        while taken < steps:
            for batch in batches.epoch():
                task.backward(model, batch)
                optimizer.step(1.0)
                taken += 1
                if taken == steps:
                    break
        return task.evaluate(model, sample)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if stackable(one):
            return walk(Stack.of([copy.deepcopy(one) for _ in rates]), 0.0, rates.float())
        losses = torch.full((len(rates),), math.inf, dtype=torch.float64)
        for i, rate in enumerate(rates.tolist()):
            torch.manual_seed(config.seed)
            losses[i] = walk(copy.deepcopy(one), rate, None).item()
            if not losses[i] <= start:
                break
        return losses
