"""What the settings leave open is settled before the first step, on a copy of the model, and then kept.

How many threads, whether bf16 pays, which learning rate, how many steps. What does not need a clock does not
ask one: the same seed should give the same weights.
"""

from __future__ import annotations

import copy
import math
import os
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sadari.batches import Batches, Stretches, TextBatches, make_batches, rows_of
from sadari.batches_captions import CaptionBatches
from sadari.batches_pairs import PairBatches
from sadari.batches_stream import StreamBatches
from sadari.errors import SadariError
from sadari.optim import clip_gradients, make_optimizer
from sadari.rates import range_test
from sadari.tasks import macs_of

if TYPE_CHECKING:
    from sadari.train import TrainConfig

Ask = Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]]
"""A question of a task about a model: (model, arrays) -> named losses."""
Feed = Batches | TextBatches | Stretches | PairBatches | CaptionBatches | StreamBatches

EPOCHS = 100  # without a word about length: so many passes ...
STEPS = (
    2_000,
    20_000,
)  # ... but no fewer steps than the first and, without a budget, no more than the second
LOOKS = 200  # evaluations and log lines a training has at most, unless it is told otherwise
THREADS_PAY = 1 << 25  # multiply-adds a step; half as many gain a third, until another program wants the core
BF16_PAYS = 1 << 30  # multiply-adds a step below which bf16 is not even timed
FASTER = 1.2  # the gain in speed that makes up for its digits
COMPILING_PAYS = 1 << 34  # multiply-adds a step below which compiling is not even tried
LONG_RUN = 240.0  # seconds of training, likewise: compiling takes 10 to 40
LONG = 1.0  # seconds of a measurement that need not be made again
SHARE = 0.9  # of a budget in seconds is planned for; the rest is for a machine busier than while it was timed


def settle(
    model: nn.Module,
    task: Any,
    train: Mapping[str, Tensor],
    validation: Mapping[str, Tensor],
    config: TrainConfig,
    rows: Sequence[Tensor] | None = None,
    rates: Tensor | None = None,
) -> dict[str, Any]:
    """Threads, precision, learning rate and steps, as plain values that a saved state can hold.

    `limit` says what ends the training at `steps`; `timed` whether a clock had a say; `gains` by how much
    bf16 and a compiled step were faster than without. Sets the thread count.
    """
    batches = make_batches(model, task, train, config, rows)
    threads = config.threads or choose_threads(model, task, batches)
    torch.set_num_threads(threads)
    gains: dict[str, float] = {}
    precision: str = config.precision
    if precision == "auto":
        precision = choose_precision(model, task, batches, config, gains)
    compiled = choose_compiled(model, task, batches, config, precision, gains)
    rate = config.learning_rate
    if not rate and rates is None:
        rate = range_test(model, task, train, config).chosen
    steps, limit = length(model, task, batches, validation, config, precision)
    timed = config.budget_seconds > 0 or bool(gains)
    return {
        "steps": steps,
        "limit": limit,
        "learning_rate": rate,
        "threads": threads,
        "precision": precision,
        "compiled": compiled,
        "gains": gains,
        "timed": timed,
    }


def length(
    model: nn.Module,
    task: Any,
    batches: Feed,
    validation: Mapping[str, Tensor],
    config: TrainConfig,
    precision: str = "fp32",
) -> tuple[int, str]:
    """Steps to take, and what sets them: "epochs" or "budget"."""
    most, limit = allowed(batches.per_epoch, config)
    if config.budget_seconds:
        budget = affordable(model, task, batches, validation, config, precision)
        if budget < most:
            return budget, "budget"
    return int(most), limit


def allowed(per_epoch: int, config: TrainConfig) -> tuple[float, str]:
    """Steps that epochs and a budget in steps allow, whatever the clock says, and which of them it is."""
    usual = max(EPOCHS * per_epoch, STEPS[0])
    if not config.budget_seconds:
        usual = min(usual, STEPS[1])
    epochs = config.epochs * per_epoch or (math.inf if config.budget_steps else usual)
    budget = config.budget_steps or math.inf
    return (budget, "budget") if budget < epochs else (epochs, "epochs")


def evaluations_every(config: TrainConfig, per_epoch: int, steps: int) -> int:
    """Steps between two evaluations: as asked, or every epoch but at most `LOOKS` times."""
    return config.evaluate_every or max(per_epoch, -(-steps // LOOKS))


def choose_threads(model: nn.Module, task: Any, batches: Feed) -> int:
    """One thread, or all that the caller allows where a step is large enough: sums over other threads round
    otherwise, so this is a rule and not a timing."""
    allowed = torch.get_num_threads()
    if allowed == 1:
        return 1
    return allowed if macs_a_step(model, task, batches.first()) >= THREADS_PAY else 1


def macs_a_step(model: nn.Module, task: Any, batch: Mapping[str, Tensor]) -> int:
    """Multiply-adds of one forward and backward.

    Where every weight is a dense layer's, each multiplies once a row and twice on the way back. What reads
    tokens says itself what one of its texts takes. Other models are counted by torch from the shapes that
    really occur; its counter takes a second to start.
    """
    net: Any = model
    if hasattr(task, "inputs") and hasattr(model, "macs"):  # pictures, whose size the task knows
        length = batch["tokens"].shape[1] if "tokens" in batch else 1
        each = macs_of(type(net), net.config, task.inputs, task.loss.outputs, length)
        return 3 * len(batch["features"]) * each
    tokens = batch.get("tokens", batch.get("features"))
    if tokens is not None and not tokens.is_floating_point() and hasattr(model, "macs"):
        examples = tokens.numel() if task.name == "language" else len(tokens)
        inputs = task.loss.outputs if task.name == "language" else 0  # looking a word up multiplies nothing
        return 3 * examples * macs_of(type(net), net.config, inputs, task.loss.outputs, tokens.shape[1])
    weighted = [part for part in model.modules() if next(part.parameters(recurse=False), None) is not None]
    if hasattr(model, "gradients") or all(isinstance(part, nn.Linear) for part in weighted):
        members = getattr(model, "members", 1)
        own = {name: parameter.shape for name, parameter in model.named_parameters()}
        shapes = getattr(model, "shapes", own).values()  # a stack's flat parameter hides those of its members
        weights = sum(shape.numel() for shape in shapes if len(shape) > 1)  # biases only add
        return 3 * members * batch["targets"].shape[-1] * weights
    if hasattr(model, "macs"):
        rung: Any = model
        inputs = batch["features"].shape[-1]
        return 3 * len(batch["targets"]) * macs_of(type(rung), rung.config, inputs, task.loss.outputs)
    from torch.utils.flop_counter import FlopCounterMode

    copied = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        task.backward(copied, batch)
    return counter.get_total_flops() // 2


def choose_precision(
    model: nn.Module, task: Any, batches: Feed, config: TrainConfig, gains: dict[str, float]
) -> str:
    """bf16 where the processor multiplies such numbers by itself and a step is then faster, else fp32."""
    device = next(model.parameters()).device
    if hasattr(model, "gradients") or not _has_bf16(device):  # gradients by hand know only fp32
        return "fp32"
    if macs_a_step(model, task, batches.first()) < BF16_PAYS:
        return "fp32"
    plain = step_seconds(model, task.backward, batches, config, seconds=0.3)
    half = step_seconds(model, in_precision("bf16", task.backward, device), batches, config, seconds=0.3)
    if plain <= FASTER * half:
        return "fp32"
    gains["bf16"] = plain / half
    return "bf16"


def choose_compiled(
    model: nn.Module, task: Any, batches: Feed, config: TrainConfig, precision: str, gains: dict[str, float]
) -> bool:
    """Whether steps are to be compiled: as told, or where what it saves outweighs what it takes.

    Only steps whose shapes never change are worth it, those of a language model that carries no state; one
    of a few milliseconds, or a training of less than LONG_RUN, is not even tried.

    Raises SadariError when it is asked for and cannot be done.
    """
    can = task.name == "language" and not getattr(model, "carries", False) and hasattr(model, "hidden")
    if config.compile == "on":
        if not can:
            raise SadariError("--compile on is for the transformer of a language; leave it out here")
        if shutil.which(os.environ.get("CXX", "g++")) is None:
            raise SadariError(
                "--compile on needs a C++ compiler and finds no g++; install one, or leave it out"
            )
        return True
    if config.compile == "off" or not can or shutil.which(os.environ.get("CXX", "g++")) is None:
        return False
    if macs_a_step(model, task, batches.first()) < COMPILING_PAYS:
        return False
    device = next(model.parameters()).device
    plain = step_seconds(model, in_precision(precision, task.backward, device), batches, config, 0.3)
    steps = config.budget_seconds / plain or config.budget_steps or config.epochs * batches.per_epoch
    if steps * plain < LONG_RUN:
        return False
    copied = copy.deepcopy(model)
    began = time.perf_counter()
    backward = in_precision(precision, with_compiled(task.backward, copied), device)
    fast = step_seconds(copied, backward, batches, config, 0.3, keep=True)
    spent = time.perf_counter() - began
    if (plain - fast) * steps < 2 * spent:  # once to find out, once to do it
        return False
    gains["compiled"] = plain / fast
    return True


def with_compiled(backward: Ask, model: nn.Module) -> Ask:
    """`task.backward` with the inner part of this very model compiled at the first call."""
    net: Any = model
    fast = torch.compile(net.hidden, dynamic=False)

    def run(asked: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        net.hidden = fast  # the loss is a function of our own, and evaluations have other shapes
        try:
            return backward(asked, batch)
        finally:
            del net.hidden

    return run


def in_precision(precision: str, ask: Ask, device: torch.device) -> Ask:
    """`task.backward` or `task.score`, in bf16 with the model's products in it; weights and their gradients
    stay fp32."""
    return torch.autocast(device.type, torch.bfloat16)(ask) if precision == "bf16" else ask


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        processor = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return device.type == "cpu" and "avx512_bf16" in processor


def affordable(
    model: nn.Module,
    task: Any,
    batches: Feed,
    validation: Mapping[str, Tensor],
    config: TrainConfig,
    precision: str,
) -> int:
    """Steps that fit into `config.budget_seconds` beside their evaluations and this timing; at least one."""
    began = time.perf_counter()
    backward = in_precision(precision, task.backward, next(model.parameters()).device)
    pace = step_seconds(model, backward, batches, config, seconds=min(0.3, 0.03 * config.budget_seconds))
    look = look_seconds(model, task, validation, precision)
    left = SHARE * config.budget_seconds - (time.perf_counter() - began)
    steps = left / (pace + look / (config.evaluate_every or batches.per_epoch))
    if not config.evaluate_every:
        steps = max(steps, (left - LOOKS * look) / pace)  # evaluations are then rarer than one an epoch
    return max(1, int(steps))


def look_seconds(
    model: nn.Module, task: Any, validation: Mapping[str, Tensor], precision: str = "fp32"
) -> float:
    """Seconds of one evaluation, of a short one the better of two; 0 without validation rows."""
    if not rows_of(validation):
        return 0.0
    score = in_precision(precision, task.score, next(model.parameters()).device)
    times: list[float] = []
    while len(times) < 2 and sum(times) < LONG:
        began = time.perf_counter()
        score(model, validation)
        times.append(time.perf_counter() - began)
    return min(times)


def step_seconds(
    model: nn.Module, backward: Ask, batches: Feed, config: TrainConfig, seconds: float, keep: bool = False
) -> float:
    """Median seconds of a step, timed for about `seconds`, after one that allocates.

    At least three are timed, or one where they take long. They are made on a copy, unless `keep` says that
    the model is one.
    """
    copied = model.train() if keep else copy.deepcopy(model).train()
    optimizer = make_optimizer(copied, config, 1e-9, per_epoch=batches.per_epoch)
    parameters = [parameter for parameter in copied.parameters() if parameter.requires_grad]
    times: list[float] = []
    state = batches.state()
    with torch.random.fork_rng(devices=[]):
        ended = time.perf_counter()
        while not _enough(times, seconds):
            for batch in batches.epoch():
                backward(copied, batch)
                if config.clip:
                    clip_gradients(parameters, config.clip, getattr(copied, "members", 1))
                optimizer.step(1.0)
                now = time.perf_counter()
                times.append(now - ended)
                ended = now
                if _enough(times, seconds):
                    break
    batches.load(state)
    return statistics.median(times[1:])


def _enough(times: Sequence[float], seconds: float) -> bool:
    return (len(times) >= 4 and sum(times) >= seconds) or (len(times) >= 2 and sum(times) >= LONG)
