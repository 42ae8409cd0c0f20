"""How to train: the settings, and the call that settles what they leave open and runs the loop (loop.py)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sadari import checkpoint, probe
from sadari.borrowed import borrowed
from sadari.errors import SadariError
from sadari.heap import kept_memory
from sadari.loop import Loop, SadariInterrupted, Trained, Watcher, flag
from sadari.optim import SCHEDULES
from sadari.tasks_pairs import COURSES

__all__ = ["SadariInterrupted", "TrainConfig", "Trained", "Watcher", "train"]


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained; each field's text is the help of its flag."""

    optimizer: Literal["adamw", "sgd"] = "adamw"
    """Rule that moves the weights: adamw (each at its own pace) or sgd (all at one pace, with momentum)."""
    learning_rate: float = 0.01
    """Length of a step; 0 = find one by trying many rates for a moment each."""
    momentum: float = 0.9
    """How much of its last move sgd keeps: 0 forgets, 0.9 averages over about ten steps."""
    weight_decay: float = 0.1
    """Share of each weight (not bias) that fades in a pass over the rows: more make a smoother answer."""
    schedule: Literal["constant", "cosine", "warmup", "one-cycle", "inverse-sqrt"] = "cosine"
    """Course of the rate: constant, cosine (down to zero), warmup (up, straight down), one-cycle (up,
    down), inverse-sqrt (up, down with 1 / sqrt(step))."""
    warmup: float = 0.1
    """Share of the steps in which the rate climbs from zero, so that the first gradients do no harm."""
    batch_size: int = 0
    """Rows looked at for one step, at most: fewer make rougher, cheaper steps; 0 = 32, more for many rows.
    Of pairs of texts, tokens of both sides with their padding; 0 = 1024, up to 4096 for millions."""
    span: int = 0
    """Tokens of a stretch of text through which the gradient goes back (language); 0 = by the rung."""
    forcing: Literal["always", "linear", "exponential", "inverse-sigmoid"] = "always"
    """What is read while learning to write a target (translate): always the true words, or by this course
    more and more of the model's own (scheduled sampling), which takes longer."""
    forcing_end: float = 0.5
    """Share of true words that are still read at the last step, where forcing is not always."""
    augment: str = "auto"
    """How pictures are changed at random before each step: none, or names with commas of crop, flip, colour,
    randaugment, erase; auto = crop."""
    mixup: float = 0.0
    """Pictures blended with one another, their classes too: alpha of the share's Beta law; 0 = none."""
    cutmix: float = 0.0
    """Pictures with a piece of another set in: alpha of the share's Beta law; 0 = none."""
    epochs: int = 0
    """Passes over the training rows; 0 = as many as the budget allows, or by the size of the data."""
    budget_seconds: float = 0.0
    """Seconds that training may take, turned into a number of steps by timing a few; 0 = no limit."""
    budget_steps: int = 0
    """Steps that training may take, exactly; 0 = no limit."""
    clip: float = 0.0
    """Longest gradient allowed (its norm over all weights); longer ones are shortened; 0 = any."""
    monitor: Literal["auto", "loss", "error"] = "auto"
    """What says which weights are best: loss, error (share of wrong classes), or auto (error for classes)."""
    patience: int = 40
    """Evaluations without improvement on the validation rows before training stops; 0 = never stop early."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Numbers inside the model: fp32, bf16 (a third of the digits, sometimes faster), auto (bf16 if it
    pays)."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Make one program of a language model's steps before training (needs a C++ compiler): on, off, auto (if
    it pays back within the run)."""
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
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise SadariError(
                    f"{flag(name)} {getattr(self, name)!r} is unknown; choose one of: {', '.join(known)}"
                )
        for name, (least, below) in RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value < below):
                rule = f"at least {least:g}" + ("" if below == math.inf else f" and below {below:g}")
                raise SadariError(f"{flag(name)} {value:g} is out of range; it must be {rule}")


LEFT = 0.25  # of a budget in seconds for steps, however long a model took to begin with
LARGE = 1 << 20  # parameters from which a step's tensors are so large that the kernel would take them back
CHOICES = {
    "optimizer": ("adamw", "sgd"),
    "schedule": tuple(SCHEDULES),
    "precision": ("auto", "fp32", "bf16"),
    "compile": ("auto", "on", "off"),
    "forcing": tuple(COURSES),
    "monitor": ("auto", "loss", "error"),
}
RANGES = {
    "momentum": (0, 1),
    "warmup": (0, 1),
    "weight_decay": (0, 1),
    "forcing_end": (0, 1),
} | dict.fromkeys(
    (
        "batch_size",
        "learning_rate",
        "mixup",
        "cutmix",
        "span",
        "epochs",
        "budget_seconds",
        "budget_steps",
        "clip",
        "patience",
        "evaluate_every",
        "log_every",
        "checkpoint_seconds",
        "threads",
    ),
    (0, math.inf),
)


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
    spent: float = 0.0,
) -> Trained:
    """Train `model` on `train`, and end with the weights that did best on `validation`.

    train, validation   equally long tensors by name, {"features": (N, C), "targets": (N,)}; without
    validation
                        rows the last weights are the best
    folder              where log.jsonl and checkpoint/ go; when checkpoint/ holds a state, training goes on
    from
                        it and ends, on a processor, with the very bits it would have had without the
                        interruption
    rows                for a stack, the row numbers of `train` that each member may see (folds, sizes)
    learning_rates      for a stack, one rate a member, (K,), instead of the config's
    spent               seconds that the model has had already, which count against a budget in seconds; a
                        quarter of that is left in any case

    Raises SadariError when the loss of every member stops being a number, when the folder holds the state of
    another training, or when the disk is full; SadariInterrupted on Ctrl-C or SIGTERM, with the state saved
    if there is a folder. The caller's random numbers, thread count and signal handlers are put back in any
    case.
    """
    was_training = model.training
    saved = checkpoint.load(folder) if folder else None
    if hasattr(task, "configure"):
        task.configure(config)
    large = sum(parameter.numel() for parameter in model.parameters()) >= LARGE
    with borrowed(next(model.parameters()).device) as signals, kept_memory() if large else nullcontext():
        if saved:
            settled = saved[1]["settled"]
        else:
            rest = left_of(config, spent)
            spent = config.budget_seconds - rest.budget_seconds
            settled = probe.settle(model, task, train, validation, rest, rows, learning_rates)
        torch.set_num_threads(settled["threads"])
        torch.manual_seed(config.seed)
        loop = Loop(model, task, train, validation, config, settled, rows, learning_rates)
        began = time.perf_counter()  # a budget pays for steps, not for the first use of a library
        loop.began, loop.signals, loop.folder, loop.watchers = began, signals, folder, watchers
        loop.spent = spent
        if saved:
            loop.resume(*saved)
        try:
            model.train()
            return loop.run()
        finally:
            model.train(was_training)
            loop.close()


def left_of(config: TrainConfig, spent: float) -> TrainConfig:
    """What a budget in seconds leaves for steps after so many seconds; a quarter of it in any case."""
    spent = min(spent, (1 - LEFT) * config.budget_seconds)
    return replace(config, budget_seconds=config.budget_seconds - spent)
