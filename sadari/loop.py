"""The one loop: every model of every ladder is trained here, and nowhere else.

1. step after step: batch, gradients, clip, move   2. by the count of steps: log, evaluate, keep the best
3. by the clock: obey a signal, mind the budget, save, show   4. put back the best

A task turns (model, batch) into losses and gradients (`task.backward`) and scores rows (`task.score`); the
loop knows nothing else about either. A stack of K networks is one model with K losses: each member keeps its
own best weights, runs out of patience on its own and, should it diverge, dies alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sadari import checkpoint, probe
from sadari.batches import make_batches, rows_of
from sadari.best import Best
from sadari.borrowed import Signals
from sadari.errors import SadariError
from sadari.layers.stack import Stack
from sadari.optim import SCHEDULES, clip_gradients, make_optimizer

if TYPE_CHECKING:
    from sadari.train import TrainConfig

Watcher = Callable[[dict[str, Any]], None]
"""Called with each record of the log. It may also have `start(facts)`, called before the first step,
`live(record)`, called at most ten times a second between records, `planned(steps)`, called when the steps of
a budget in seconds are counted anew, and `close()`. A KeyboardInterrupt from it acts as Ctrl-C."""

LIVE_SECONDS = 0.1  # between two calls of a watcher's `live`
REPLAN = 0.25  # of the steps or of the seconds left to a budget, after which its steps are counted anew
REPLAN_LAST = 0.1  # of a budget in seconds, in which they are not any more
OFF = 0.05  # share by which a new count differs before it is taken
OVERRUN = 1.25  # of a budget in seconds, after which training stops whatever the schedule says
FREE = {"budget_seconds", "checkpoint_seconds", "threads"}  # may differ when a training goes on


class SadariInterrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or a polite kill; the message says how to go on.

    No `Exception`, so that a climb or a tuner, which outlives the failure of a rung, does not outlive this.
    """


@dataclass(frozen=True)
class Trained:
    """What a training did; the model holds the best weights."""

    steps: int
    """Steps taken, those before an interruption included."""
    seconds: float
    """Wall clock, likewise."""
    best_step: int
    """Step at which the best member was at its best."""
    best_score: Tensor
    """Lowest validation score of each member (K,) double, by the task; infinite if it died first."""
    stopped: str
    """Why it ended: "budget", "epochs" or "patience"."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The records of log.jsonl."""
    settled: dict[str, Any] = field(default_factory=dict)
    """What was found out before the first step: steps, learning_rate, threads, precision, compiled."""
    died: dict[int, int] = field(default_factory=dict)
    """Members whose loss stopped being a number, with the step at which that was seen."""


class Loop:
    """One training, from its first step or from a saved one to its end."""

    began: float
    signals: Signals
    folder: Path | None
    watchers: Sequence[Watcher]

    def __init__(self, model, task, train, validation, config: TrainConfig, settled, rows, rates) -> None:
        self.model, self.task, self.validation, self.config = model, task, validation, config
        self.settled = settled
        self.members = getattr(model, "members", 1)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.batches = make_batches(model, task, train, config, rows)
        self.optimizer = make_optimizer(
            model, config, settled["learning_rate"], rates, per_epoch=self.batches.per_epoch
        )
        self.rates = [settled["learning_rate"]] if rates is None else rates.tolist()
        self.schedule = SCHEDULES[config.schedule]
        self.step = self.epoch_began = 0
        self._count(settled["steps"])
        self.best = Best(model, self.members, config.patience)
        self.total = torch.zeros(self.members, device=self.parameters[0].device)  # losses since the last line
        self.looked = 0  # the step of that line
        self.norms: dict[str, Any] = {}
        self.died: dict[int, int] = {}
        self.spent = 0.0  # seconds before the first step here: of beginning, or before an interruption
        self.log = checkpoint.Log(None, 0)

    # ------------------------------------------------------------------ the loop

    def run(self) -> Trained:
        """Beside its arithmetic a step pays two comparisons; all that can wait is behind them."""
        model, optimizer, schedule, signals = self.model, self.optimizer, self.schedule, self.signals
        backward, clip, clock = self._backward(), self.config.clip, time.perf_counter
        step, steps, warmup, add = self.step, self.steps, self.warmup, self.total.add_
        self._start()
        stopped = self._over()
        while not stopped:
            for batch in self.batches.epoch(step - self.epoch_began):
                losses = backward(model, batch)
                if clip:
                    clip_gradients(self.parameters, clip, self.members)
                optimizer.step(schedule(step, steps, warmup))
                add(losses["loss"])
                self.step = step = step + 1
                if step == self.due:
                    stopped = self._look(losses)
                if signals.caught or clock() >= self.wake:
                    stopped = self._wake_up(losses, stopped)
                    steps, warmup = self.steps, self.warmup
                if stopped:
                    break
            else:
                self.epoch_began = step
        return self._finish(stopped)

    def _backward(self) -> probe.Ask:
        backward = self.task.backward
        if self.settled.get("compiled"):
            backward = probe.with_compiled(backward, self.model)
        backward = self._asked(backward)
        listeners = [self.task] if self.config.forcing != "always" else []
        if listeners := [each for each in (*listeners, self.model) if hasattr(each, "at")]:
            backward = self._told(backward, listeners)
        if not self.config.log_gradients:
            return backward

        def with_norms(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            losses = backward(model, batch)
            if self.step + 1 == self.due:  # here, since clipping and the optimizer change gradients in place
                self.norms = gradient_norms(model)
            return losses

        return with_norms

    def _told(self, backward: probe.Ask, listeners: Sequence[Any]) -> probe.Ask:
        """Tells the task, or a network that thaws, before each step how far the training is."""

        def told(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            for each in listeners:
                each.at(self.step, self.steps)
            return backward(model, batch)

        return told

    def _asked(self, ask: probe.Ask) -> probe.Ask:
        return probe.in_precision(self.settled["precision"], ask, self.parameters[0].device)

    def _start(self) -> None:
        self.log = checkpoint.Log(self.folder, self.step)
        if self.folder and self.settled["timed"] and not self.step:
            self._save(self.folder)  # what a clock decided must not be decided again when this is killed
        self.saved_at = self.lived_at = time.perf_counter()
        self.live = [watcher.live for watcher in self.watchers if hasattr(watcher, "live")]
        facts = {"steps": self.steps, "step": self.step, "members": self.members, "seconds": self.spent}
        for watcher in self.watchers:
            if hasattr(watcher, "start"):
                watcher.start(facts)
        self.paced = self.step, self._seconds()
        self._plan_replan()
        self._plan_due()
        self._plan_wake()

    # ------------------------------------------------------------------ now and then, by the count of steps

    def _plan_due(self) -> None:
        """The next step with something to log or to evaluate."""
        self.due = min(
            self.steps, *(self.step + n - self.step % n for n in (self.evaluate_every, self.log_every))
        )

    def _look(self, losses: Mapping[str, Tensor], last: bool = False) -> str:
        """Log a line and, when it is time, evaluate; returns why to stop, or ""."""
        means = (self.total / (self.step - self.looked)).tolist()
        factor = self.schedule(self.step - 1, self.steps, self.warmup)
        record: dict[str, Any] = {
            "step": self.step,
            "epoch": round(self.step / self.batches.per_epoch, 3),
            "loss": _plain(means),
            **{name: _plain(value.tolist()) for name, value in losses.items() if name != "loss"},
            "learning_rate": _plain([rate * factor for rate in self.rates]),
            "seconds": round(self._seconds(), 3),
        }
        self.total.zero_()
        self.looked = self.step
        if self.norms:
            record["gradients"] = self.norms
        newly = [k for k, loss in enumerate(means) if not math.isfinite(loss) and k not in self.died]
        self.died |= dict.fromkeys(newly, self.step)
        last = last or self.step == self.steps
        if rows_of(self.validation) and (last or self.step % self.evaluate_every == 0):
            scores = self._asked(self.task.score)(self.model, self.validation)
            self.best.update(scores["score"], self.step)
            record |= {
                f"validation_{name}": _plain(value.tolist())
                for name, value in scores.items()
                if name != "score"
            }
            record["best_score"] = _plain(self.best.score.tolist())
        self.log.append(record)
        self._tell(self.watchers, record)
        self._plan_due()
        if len(self.died) == self.members:
            raise SadariError(
                f"the loss became {means[0]} by step {self.step} at learning rate {max(self.rates):g}; give "
                f"a lower one, say --learning-rate {max(self.rates) / 10:.1g}"
            )
        return self._over()

    def _over(self) -> str:
        """Why there is no further step; "" while there is one."""
        if self.step >= self.steps:
            return self.settled["limit"]
        return "patience" if self.best.out(self.died) else ""

    # ------------------------------------------------------------------ now and then, by the clock

    def _plan_wake(self) -> None:
        """The next moment with something to save, to show or to stop."""
        moments = [time.perf_counter() + self._deadline() - self._seconds()]
        if self.replan:
            moments.append(time.perf_counter() + min(LIVE_SECONDS, REPLAN_LAST * self.replan[1]))
        if self.folder:
            moments.append(self.saved_at + self.config.checkpoint_seconds)
        if self.live:
            moments.append(self.lived_at + LIVE_SECONDS)
        self.wake = min(moments)

    def _wake_up(self, losses: Mapping[str, Tensor], stopped: str) -> str:
        """Obey a signal, mind the deadline, save, show that training lives; returns why to stop, or ""."""
        now = time.perf_counter()
        if self.signals.caught:  # even at the last step: what called this training must stop as well
            self._interrupt()
        if stopped:
            return stopped
        if self._seconds() >= self._deadline():
            if self.looked < self.step:  # else this very step was looked at
                self._look(losses, last=True)
            return "budget"
        if self.replan and (self.step >= self.replan[0] or self._seconds() >= self.replan[1]):
            self._replan()
        if self.folder and now >= self.saved_at + self.config.checkpoint_seconds:
            self._save(self.folder)
            self.saved_at = time.perf_counter()
        if self.live and now >= self.lived_at + LIVE_SECONDS:
            self.lived_at = now
            taken = self.step - self.looked
            recent = self.total / taken if taken else losses["loss"]
            record = {"step": self.step, "loss": _plain(recent.tolist()), "seconds": self._seconds()}
            self._tell(self.live, {**record, "best_score": _plain(self.best.score.tolist())})
        self._plan_wake()
        return ""

    def _plan_replan(self) -> None:
        """The step and the second of which the first to come has the steps counted anew; None for never."""
        spent, budget = self._seconds(), self.config.budget_seconds
        self.replan: tuple[int, float] | None = None
        if spent < (1 - REPLAN_LAST) * probe.SHARE * budget:
            steps = self.step + math.ceil(REPLAN * (self.steps - self.step))
            self.replan = steps, spent + REPLAN * (probe.SHARE * budget - spent)

    def _replan(self) -> None:
        """Count the steps anew by the pace so far, which a few timed ones may have foretold wrongly."""
        (step, seconds), spent = self.paced, self._seconds()
        most, limit = probe.allowed(self.batches.per_epoch, self.config)
        left = probe.SHARE * self.config.budget_seconds - spent
        fit = self.step + max(int(left * (self.step - step) / (spent - seconds)), 1)
        if fit < most:
            most, limit = fit, "budget"
        if abs(most - self.steps) >= OFF * self.steps:
            self.settled |= {"steps": int(most), "limit": limit}
            self._count(int(most))
            self._plan_due()
            for watcher in self.watchers:
                if hasattr(watcher, "planned"):
                    watcher.planned(self.steps)
            if self.folder:
                self._save(self.folder)  # as at the start
        self._plan_replan()

    def _count(self, steps: int) -> None:
        """Train for so many steps altogether."""
        self.steps = steps
        self.warmup = round(self.config.warmup * steps)
        self.evaluate_every = probe.evaluations_every(self.config, self.batches.per_epoch, steps)
        self.log_every = self.config.log_every or self.evaluate_every

    def _deadline(self) -> float:
        return OVERRUN * self.config.budget_seconds if self.config.budget_seconds else math.inf

    def _seconds(self) -> float:
        return self.spent + time.perf_counter() - self.began

    def _interrupt(self) -> None:
        where = f"stopped at step {self.step} of {self.steps}"
        if not self.folder:
            raise SadariInterrupted(f"{where}; nothing was saved, since this training has no folder")
        self._save(self.folder)
        raise SadariInterrupted(f"{where}, saved in {self.folder}; give the same command again to go on")

    def _tell(self, listeners: Sequence[Watcher], record: dict[str, Any]) -> None:
        for listener in listeners:
            try:
                listener(record)
            except KeyboardInterrupt:
                self.signals.caught = True

    # ------------------------------------------------------------------ the end, and coming back

    def _finish(self, stopped: str) -> Trained:
        scored = bool(rows_of(self.validation))
        if scored:
            self.best.restore()
        return Trained(
            steps=self.step,
            seconds=self._seconds(),
            best_step=int(self.best.step[self.best.score.argmin()]) if scored else self.step,
            best_score=self.best.score.clone(),
            stopped=stopped,
            history=self.log.records,
            settled=dict(self.settled),
            died=dict(self.died),
        )

    def close(self) -> None:
        self.log.close()
        for watcher in self.watchers:
            if hasattr(watcher, "close"):
                watcher.close()

    def _save(self, folder: Path) -> None:
        facts = {
            "config": asdict(self.config),
            "shapes": self._shapes(),
            "rates": self.rates,
            "settled": self.settled,
            "step": self.step,
            "epoch_began": self.epoch_began,
            "looked": self.looked,
            "seconds": self._seconds(),
            "died": list(self.died.items()),
        }
        drawn = {f"batches.{name}": value for name, value in self.batches.state().items()}
        tensors = {**self._tensors(), **drawn, "random": torch.get_rng_state()}
        self.log.sync()
        checkpoint.save(folder, tensors, facts)

    def _tensors(self) -> dict[str, Tensor]:
        """What a step changes, by name; the tensors themselves."""
        parts = {"model": self.best.live, "best": self.best.state(), "optimizer": self.optimizer.state()}
        named = {f"{part}.{name}": parts[part][name] for part in parts for name in parts[part]}
        return {**named, "total": self.total}

    def _shapes(self) -> dict[str, list[int]]:
        named = {f"train.{name}": value for name, value in self.batches.arrays.items()} | self.best.live
        return {name: list(value.shape) for name, value in named.items()}

    def resume(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up a saved state. Raises SadariError when it is another training's."""
        ours, theirs = asdict(self.config), facts["config"]
        for name in ours.keys() - FREE:
            if ours[name] != theirs.get(name):
                raise SadariError(
                    f"{self.folder} holds a training with {flag(name)} {theirs.get(name)}, not {ours[name]}; "
                    f"give the same settings to go on, or another folder with --out"
                )
        if facts["shapes"] != self._shapes() or facts["rates"] != self.rates:
            raise SadariError(
                f"{self.folder} holds a training of another model or of other data; "
                "give another folder with --out"
            )
        for name, value in self._tensors().items():
            value.copy_(tensors[name])
        self.batches.load({name: tensors[f"batches.{name}"] for name in self.batches.state()})
        torch.set_rng_state(tensors["random"])
        self.step, self.epoch_began, self.looked = facts["step"], facts["epoch_began"], facts["looked"]
        self.spent = facts["seconds"]
        self.died = dict(facts["died"])


def gradient_norms(model: nn.Module) -> dict[str, Any]:
    """Norm of each layer's gradient, weight and bias together; a list over the members of a stack."""
    if isinstance(model, Stack):
        gradient: Any = model.flat.grad
        parts = {name: part.flatten(1) for name, part in model.split(gradient).items()}
    else:
        named = model.named_parameters()
        parts = {name: value.grad.reshape(1, -1) for name, value in named if value.grad is not None}
    squares: dict[str, Tensor] = {}
    for name, part in parts.items():
        layer = name.rpartition(".")[0] or name
        squares[layer] = squares.get(layer, 0.0) + part.square().sum(1)
    return {layer: _plain(square.sqrt().tolist()) for layer, square in squares.items()}


def _plain(values: list[float]) -> Any:
    """A list over members, or the one value of a single network."""
    return values[0] if len(values) == 1 else values


def flag(name: str) -> str:
    """A setting as it is written on the command line."""
    return "--" + name.replace("_", "-")
