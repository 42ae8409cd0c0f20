"""The one loop: every model of every ladder is trained here, and nowhere else.

1. settle what is not given: threads, precision, learning rate, steps   2. take up an interrupted training, if there is one
3. step after step: batch, gradients, clip, move   4. now and then: log, evaluate, keep the best, save   5. put back the best

A task turns (model, batch) into losses and gradients (`task.backward`) and scores rows (`task.evaluate`); the loop knows
nothing else about either. A stack of K networks is one model with K losses: each member keeps its own best weights, runs
out of patience on its own and, should it diverge, dies alone.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sadari import checkpoint, probe
from sadari.batches import Batches
from sadari.errors import SadariError
from sadari.optim import SCHEDULES, clip_gradients, make_optimizer

Watcher = Callable[[dict[str, Any]], None]
"""Called with each record of the log. It may also have `start(facts)`, called once with `steps` and the like, `live(record)`,
called at most ten times a second between records, and `close()`. A KeyboardInterrupt from it stops the training as Ctrl-C does."""

LIVE_SECONDS = 0.1  # between two calls of a watcher's `live`
OVERRUN = 1.25  # of a budget in seconds, after which training stops whatever the schedule says
EPOCHS = 100  # without a word about length: so many passes ...
STEPS = (2_000, 20_000)  # ... but no fewer steps than the first, and without a budget no more than the second
LINES = 200  # log lines and evaluations a training has at most, unless it is told otherwise


class SadariInterrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or a polite kill; its message says how to go on. Not an `Exception`, so that a climb
    or a tuner, which outlives the failure of a rung, does not outlive this."""


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained; each field's text is the help of its flag."""

    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Rule that moves the weights: adamw (each weight at a pace of its own) or sgd (one pace, with momentum)."""
    learning_rate: float = 1e-3
    """Length of a step; 0 = find one by trying many rates for a moment each."""
    momentum: float = 0.9
    """How much of its last move sgd keeps: 0 forgets, 0.9 averages over about ten steps."""
    weight_decay: float = 0.01
    """Pull of the weights (not the biases) towards zero: the more, the smoother the answer."""
    schedule: Literal["constant", "cosine", "warmup", "one-cycle"] = "cosine"
    """Course of the learning rate: constant, cosine (down to zero), warmup (up, then straight down), one-cycle (up and down)."""
    warmup: float = 0.02
    """Share of the steps in which the rate climbs from zero, so that the first gradients do no harm."""
    batch_size: int = 64
    """Rows looked at for one step, at most: fewer make rougher, cheaper steps."""
    epochs: int = 0
    """Passes over the training rows; 0 = as many as the budget allows, or by the size of the data."""
    budget_seconds: float = 0.0
    """Seconds that training may take, turned into a number of steps by timing a few; 0 = no limit."""
    budget_steps: int = 0
    """Steps that training may take, exactly; 0 = no limit."""
    clip: float = 0.0
    """Longest gradient allowed (its norm over all weights); longer ones are shortened; 0 = any."""
    patience: int = 20
    """Evaluations without improvement on the validation rows before training stops; 0 = never stop early."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Numbers used inside the model: fp32, bf16 (half the digits, faster on some processors), or auto (bf16 where it pays)."""
    evaluate_every: int = 0
    """Steps between two looks at the validation rows; 0 = every epoch, but at most 200 times."""
    log_every: int = 0
    """Steps between two lines of log.jsonl; 0 = at every evaluation."""
    log_gradients: bool = False
    """Also log the norm of each layer's gradient."""
    checkpoint_seconds: float = 10.0
    """Seconds between two saved states; a training that is killed goes on from the last."""
    seed: int = 0
    """Start of every random choice: the same seed gives the same weights."""
    threads: int = 0
    """Processor threads; 0 = one for small models, where more would only wait for each other, else all."""

    def __post_init__(self) -> None:
        for name in ("optimizer", "schedule", "precision"):
            known = {"optimizer": OPTIMIZERS, "schedule": tuple(SCHEDULES), "precision": ("auto", "fp32", "bf16")}[name]
            if getattr(self, name) not in known:
                raise SadariError(f"{_flag(name)} {getattr(self, name)!r} is unknown; choose one of: {', '.join(known)}")
        for name, (least, below) in RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value < below):
                rule = f"at least {least:g}" + ("" if below == math.inf else f" and below {below:g}")
                raise SadariError(f"{_flag(name)} {value:g} is out of range; it must be {rule}")


OPTIMIZERS = ("adamw", "sgd")
HARMLESS = ("budget_seconds", "checkpoint_seconds", "threads")  # settled already: may differ when training goes on
RANGES = {
    "learning_rate": (0, math.inf), "momentum": (0, 1), "weight_decay": (0, math.inf), "warmup": (0, 1),
    "batch_size": (1, math.inf), "epochs": (0, math.inf), "budget_seconds": (0, math.inf), "budget_steps": (0, math.inf),
    "clip": (0, math.inf), "patience": (0, math.inf), "evaluate_every": (0, math.inf), "log_every": (0, math.inf),
    "checkpoint_seconds": (0, math.inf), "threads": (0, math.inf),
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What a training did; the model holds the best weights."""

    steps: int
    """Steps taken, those before an interruption included."""
    seconds: float
    """Wall clock, likewise."""
    best_step: int
    """Step at which the best member was at its best."""
    best_loss: Tensor
    """Lowest validation loss of each member, (K,) double; infinite for a member that died before its first evaluation."""
    stopped: Literal["budget", "patience", "epochs"]
    """Why it ended."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The records of log.jsonl."""
    settled: dict[str, Any] = field(default_factory=dict)
    """What was found out before the first step: steps, learning_rate, threads, precision."""
    died: dict[int, int] = field(default_factory=dict)
    """Members whose loss stopped being a number, with the step at which that was seen."""


def train(
    model: nn.Module,
    task: Any,
    train: Mapping[str, Tensor],
    validation: Mapping[str, Tensor],
    config: TrainConfig,
    *,
    folder: Path | None = None,
    watchers: Sequence[Watcher] = (),
    rows: Sequence[Tensor] | None = None,
    learning_rates: Tensor | None = None,
) -> Trained:
    """Train `model` on `train`, keep the weights that do best on `validation`.

    train, validation   equally long tensors by name, {"features": (N, C), "targets": (N,)}; without validation rows the
                        last weights are the best
    folder              where log.jsonl and checkpoint/ go; when checkpoint/ holds a state, training goes on from it and
                        ends, on a processor, with the bits that it would have had without the interruption
    rows                for a stack, the row numbers of `train` that each member may see (folds, sizes)
    learning_rates      for a stack, one rate a member, (K,), instead of the config's

    Raises SadariError when the loss of every member stops being a number, when the folder holds the state of another
    training, or when the disk is full; SadariInterrupted on Ctrl-C or SIGTERM, with the state saved if there is a folder.
    The caller's random numbers, thread count and signal handlers are put back in any case.
    """
    saved = checkpoint.load(folder) if folder else None
    with _surroundings(model) as signals:
        began = time.perf_counter()
        settled = saved[1]["settled"] if saved else settle(model, task, train, validation, config, rows)
        torch.set_num_threads(settled["threads"])
        torch.manual_seed(config.seed)
        session = _Session(model, task, train, validation, config, settled, folder, watchers, rows, learning_rates)
        if saved:
            session.resume(*saved)
        was_training = model.training
        model.train()
        try:
            return session.run(signals, began)
        finally:
            model.train(was_training)
            session.close()


class _Session:
    """One training from its first step, or from a saved one, to its end."""

    def __init__(self, model, task, train, validation, config, settled, folder, watchers, rows, rates) -> None:
        self.model, self.task, self.validation, self.config = model, task, validation, config
        self.settled, self.folder, self.watchers = settled, folder, watchers
        self.members = getattr(model, "members", 1)
        self.batches = Batches(train, config.batch_size, config.seed, rows)
        self.optimizer = make_optimizer(model, config, settled["learning_rate"], rates)
        self.rates = [settled["learning_rate"]] if rates is None else rates.tolist()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.backward = probe.autocast(task.backward, model) if settled["precision"] == "bf16" else task.backward
        if config.log_gradients:
            self.backward = self._norms_after(self.backward)
        self.steps, self.step, self.epoch_began = settled["steps"], 0, 0
        self.warmup = round(config.warmup * self.steps)
        self.evaluate_every = config.evaluate_every or max(self.batches.per_epoch, -(-self.steps // LINES))
        self.log_every = config.log_every or self.evaluate_every
        self.best = Best(model, self.members, config.patience)
        self.total = torch.zeros(self.members)  # of the losses since the last log line
        self.summed = 0
        self.norms: dict[str, Any] = {}
        self.died: dict[int, int] = {}
        self.spent = 0.0
        self.log: checkpoint.Log | None = None

    # ------------------------------------------------------------------ the loop

    def run(self, signals: _Signals, began: float) -> Trained:
        """Beside its arithmetic a step pays two comparisons; all that can wait is called by them."""
        model, config, optimizer = self.model, self.config, self.optimizer
        backward, clip, clock, schedule = self.backward, config.clip, time.perf_counter, SCHEDULES[config.schedule]
        self.began, self.signals = began, signals
        self._start()
        stopped = self._over()
        while not stopped:
            for batch in self.batches.epoch(self.step - self.epoch_began):
                losses = backward(model, batch)
                if clip:
                    clip_gradients(self.parameters, clip, self.members)
                optimizer.step(schedule(self.step, self.steps, self.warmup))
                self.total += losses["loss"]
                self.summed += 1
                self.step += 1
                if self.step == self.due:
                    stopped = self._look(losses)
                if signals.caught or clock() >= self.wake:
                    stopped = self._wake_up(losses, stopped)
                if stopped:
                    break
            else:
                self.epoch_began = self.step
        return self._finish(stopped)

    def _start(self) -> None:
        if self.log is None:
            self.log = checkpoint.Log(self.folder, self.step)
            if self.folder is not None and self.settled["measured"]:
                self._save()  # what was measured decides the result: a second start must not measure again
        self.saved_at = self.lived_at = time.perf_counter()
        self.live = [watcher.live for watcher in self.watchers if hasattr(watcher, "live")]
        facts = {"steps": self.steps, "members": self.members, "done": self.step, "seconds": self.spent}
        for watcher in self.watchers:
            if hasattr(watcher, "start"):
                watcher.start(facts)
        self._plan_due()
        self._plan_wake()

    # ------------------------------------------------------------------ what is done now and then

    def _plan_due(self) -> None:
        """The next step with something to log or to evaluate."""
        nexts = [self.step + every - self.step % every for every in (self.evaluate_every, self.log_every)]
        self.due = min(*nexts, self.steps)

    def _look(self, losses: Mapping[str, Tensor], finish: bool = False) -> str:
        """Log a line and, when it is time, evaluate; returns why to stop, or ""."""
        rates = [rate * SCHEDULES[self.config.schedule](self.step - 1, self.steps, self.warmup) for rate in self.rates]
        means = (self.total / self.summed).tolist()
        record = {
            "step": self.step,
            "epoch": round(self.step / self.batches.per_epoch, 3),
            "loss": _plain(means),
            **{name: _plain(value.tolist()) for name, value in losses.items() if name != "loss"},
            "learning_rate": _plain(rates),
            "seconds": round(self._seconds(), 3),
        }
        if self.norms:
            record["gradients"] = self.norms
        self.total.zero_()
        self.summed = 0
        self.died |= {k: self.step for k, loss in enumerate(means) if not math.isfinite(loss) and k not in self.died}
        if self.step % self.evaluate_every == 0 or self.step == self.steps or finish:
            scores = self.task.evaluate(self.model, self.validation) if rows_of(self.validation) else None
            if scores is not None:
                self.best.update(scores, self.step)
                record["validation_loss"] = _plain(scores.tolist())
                record["best_loss"] = _plain(self.best.loss.tolist())
        self.log.append(record)
        self._tell(self.watchers, record)
        self._plan_due()
        if len(self.died) == self.members:
            raise SadariError(
                f"the loss became {means[0]} by step {self.step} with learning rate {max(rates):g}; "
                f"give a lower one, --learning-rate {max(self.rates) / 10:.1g}, or 0 to have one found"
            )
        return self._over()

    def _over(self) -> str:
        """Why there is no further step; "" while there is one."""
        if self.step >= self.steps:
            return self.settled["limit"]
        return "patience" if self.best.out(self.died) else ""

    def _plan_wake(self) -> None:
        """The next moment with something to do by the clock."""
        now = time.perf_counter()
        moments = [self.saved_at + self.config.checkpoint_seconds if self.folder else math.inf]
        moments.append(self.lived_at + LIVE_SECONDS if self.live else math.inf)
        moments.append(now + self._deadline() - self._seconds())
        self.wake = min(moments)

    def _deadline(self) -> float:
        return OVERRUN * self.config.budget_seconds if self.config.budget_seconds else math.inf

    def _wake_up(self, losses: Mapping[str, Tensor], stopped: str) -> str:
        """Obey a signal, mind the deadline, save, show that training lives."""
        now = time.perf_counter()
        if self.signals.caught:  # even at the last step: what called this training must stop as well
            self._interrupt()
        if stopped:
            return stopped
        if self._seconds() >= self._deadline():
            if self.summed:  # else this very step was looked at
                self._look(losses, finish=True)
            return "budget"
        if self.folder and now >= self.saved_at + self.config.checkpoint_seconds:
            self._save()
            self.saved_at = time.perf_counter()
        if self.live and now >= self.lived_at + LIVE_SECONDS:
            best = self.best.loss.min().item()
            record = {"step": self.step, "loss": losses["loss"].min().item(), "seconds": self._seconds(), "best_loss": best}
            self._tell(self.live, record)
            self.lived_at = now
        self._plan_wake()
        return ""

    def _interrupt(self) -> None:
        where = f"stopped at step {self.step} of {self.steps}"
        if self.folder is None:
            raise SadariInterrupted(f"{where}; nothing was saved, since this training has no folder")
        self._save()
        raise SadariInterrupted(f"{where} and saved in {self.folder}; give the same command again to go on")

    def _tell(self, listeners: Sequence[Watcher], record: dict[str, Any]) -> None:
        for listener in listeners:
            try:
                listener(record)
            except KeyboardInterrupt:
                self.signals.caught = True

    def _norms_after(self, backward):
        """Gradients are clipped and decayed in place, so their norms are taken before."""

        def wrapped(model, batch):
            losses = backward(model, batch)
            if self.step + 1 == self.due:
                self.norms = gradient_norms(model)
            return losses

        return wrapped

    def _seconds(self) -> float:
        return self.spent + time.perf_counter() - self.began

    # ------------------------------------------------------------------ the end, and coming back

    def _finish(self, stopped: str) -> Trained:
        if rows_of(self.validation):
            self.best.restore()
        first = int(self.best.loss.argmin())
        return Trained(
            steps=self.step,
            seconds=self._seconds(),
            best_step=int(self.best.step[first]) if rows_of(self.validation) else self.step,
            best_loss=self.best.loss.clone(),
            stopped=stopped,
            history=self.log.records,
            settled=dict(self.settled),
            died=dict(self.died),
        )

    def close(self) -> None:
        if self.log is not None:
            self.log.close()
        for watcher in self.watchers:
            if hasattr(watcher, "close"):
                watcher.close()

    def _save(self) -> None:
        facts = {
            "config": asdict(self.config),
            "shapes": self._shapes(),
            "settled": self.settled,
            "step": self.step,
            "epoch_began": self.epoch_began,
            "summed": self.summed,
            "seconds": self._seconds(),
            "died": list(self.died.items()),
        }
        self.log.sync()
        checkpoint.save(self.folder, self._tensors(), facts)

    def _tensors(self) -> dict[str, Tensor]:
        parts = {
            "model": self.best.live,
            "best": self.best.state(),
            "optimizer": self.optimizer.state(),
            "batches": self.batches.state(),
        }
        named = {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}
        return {**named, "total": self.total, "random": torch.get_rng_state()}

    def _shapes(self) -> dict[str, list[int]]:
        arrays = {f"train.{name}": list(value.shape) for name, value in self.batches.arrays.items()}
        return arrays | {name: list(value.shape) for name, value in self.best.live.items()}

    def resume(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up a saved state. Raises SadariError when it belongs to another training."""
        config = asdict(self.config)
        changed = [name for name in config if config[name] != facts["config"].get(name) and name not in HARMLESS]
        if changed:
            name = changed[0]
            raise SadariError(
                f"{self.folder} holds a training with {_flag(name)} {facts['config'].get(name)}, not {config[name]}; "
                f"give the same settings to go on, or another folder with --out"
            )
        if facts["shapes"] != self._shapes():
            raise SadariError(f"{self.folder} holds a training of another model or of other data; give another folder with --out")
        for name, value in self._tensors().items():
            if not name.startswith("batches."):
                value.detach().copy_(tensors[name])
        self.batches.load({n.removeprefix("batches."): v for n, v in tensors.items() if n.startswith("batches.")})
        torch.set_rng_state(tensors["random"])
        self.step, self.epoch_began, self.summed = facts["step"], facts["epoch_began"], facts["summed"]
        self.spent = facts["seconds"]
        self.died = dict(facts["died"])
        self.log = checkpoint.Log(self.folder, self.step)


class Best:
    """The weights with the lowest validation loss so far, for each member by itself, and how long ago that was."""

    def __init__(self, model: nn.Module, members: int, patience: int) -> None:
        self.live = {name: value.detach() for name, value in (*model.named_parameters(), *model.named_buffers())}
        self.kept = {name: value.clone() for name, value in self.live.items()}
        self.patience = patience or math.inf
        self.loss = torch.full((members,), math.inf, dtype=torch.float64)
        self.step = torch.zeros(members, dtype=torch.int64)
        self.waited = torch.zeros(members, dtype=torch.int64)  # evaluations since the best

    def update(self, losses: Tensor, step: int) -> None:
        """Take in an evaluation, (K,); a member out of patience has stopped, whatever comes later."""
        losses = losses.double().cpu()
        better = (losses < self.loss) & (self.waited < self.patience)
        self.waited = torch.where(better, 0, self.waited + 1)
        if not better.any():
            return
        self.loss = torch.where(better, losses, self.loss)
        self.step = torch.where(better, step, self.step)
        for name, value in self.live.items():
            if len(better) == 1:
                self.kept[name].copy_(value)
            else:
                self.kept[name][better] = value[better]

    def out(self, died: Mapping[int, int]) -> bool:
        """Whether every member is out of patience or dead."""
        return all(wait >= self.patience or k in died for k, wait in enumerate(self.waited.tolist()))

    def restore(self) -> None:
        for name, value in self.live.items():
            value.copy_(self.kept[name])

    def state(self) -> dict[str, Tensor]:
        return {"loss": self.loss, "step": self.step, "waited": self.waited, **{f"kept.{n}": v for n, v in self.kept.items()}}


# ---------------------------------------------------------------------- before the first step


def settle(model, task, train, validation, config: TrainConfig, rows=None) -> dict[str, Any]:
    """What the config leaves open, decided before the first step and then kept: threads, precision, learning rate, steps.

    `limit` says what ends the training at `steps`; `measured` whether a clock had a say, so that a second start may differ.
    """
    batches = Batches(train, config.batch_size, config.seed, rows)
    threads = config.threads or probe.threads(model, task, batches)
    torch.set_num_threads(threads)
    precision = config.precision
    if precision == "auto":
        precision = probe.precision(model, task, batches, config)
    rate = config.learning_rate or probe.range_test(model, task, train, config).chosen
    usual = max(EPOCHS * batches.per_epoch, STEPS[0])
    limits = {"epochs": config.epochs * batches.per_epoch or (usual if config.budget_seconds else min(usual, STEPS[1]))}
    if config.budget_steps:
        limits = {"epochs": config.epochs * batches.per_epoch or math.inf, "budget": config.budget_steps}
    if config.budget_seconds:
        limits["budget"] = min(limits.get("budget", math.inf), probe.affordable(model, task, batches, validation, config, LINES))
    limit = min(limits, key=lambda name: limits[name])
    measured = bool(config.budget_seconds) or precision != "fp32"
    return {
        "steps": int(limits[limit]), "limit": limit, "learning_rate": rate, "threads": threads, "precision": precision,
        "measured": measured,
    }  # fmt: skip


def gradient_norms(model: nn.Module) -> dict[str, Any]:
    """Norm of the gradient of each layer (weight and bias together), a list over the members of a stack."""
    if hasattr(model, "flat"):
        parts = {name: part.flatten(1) for name, part in model.split(model.flat.grad).items()}
    else:
        parts = {n: p.grad.reshape(1, -1) for n, p in model.named_parameters() if p.grad is not None}
    squares: dict[str, Tensor] = {}
    for name, part in parts.items():
        layer = name.rpartition(".")[0] or name
        squares[layer] = squares.get(layer, 0.0) + part.square().sum(1)
    return {layer: _plain(square.sqrt().tolist()) for layer, square in squares.items()}


def rows_of(arrays: Mapping[str, Tensor]) -> int:
    """Number of examples in a batch or in arrays of them."""
    return len(next(iter(arrays.values()))) if arrays else 0


def _plain(values: list[float]) -> Any:
    """A list over members, or the one value of a single network."""
    return values[0] if len(values) == 1 else values


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


# ---------------------------------------------------------------------- what is put back afterwards


class _Signals:
    """Remembers Ctrl-C or a polite kill until the step is done; a second one interrupts at once."""

    caught = False

    def __call__(self, number: int, frame: Any) -> None:
        if self.caught:
            raise KeyboardInterrupt
        self.caught = True


@contextmanager
def _surroundings(model: nn.Module) -> Iterator[_Signals]:
    """Random numbers, threads and signal handlers for this training; the caller's are put back."""
    signals, threads = _Signals(), torch.get_num_threads()
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere Python does not allow it
        handlers = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM)}
    device = next(model.parameters()).device
    try:
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
            yield signals
    finally:
        torch.set_num_threads(threads)
        for number, handler in handlers.items():
            signal.signal(number, handler)
