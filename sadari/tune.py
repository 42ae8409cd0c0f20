"""Tuning: which settings of a rung do best on the validation rows. The test rows take no part.

Optuna's TPE sampler (Bergstra et al. 2011; Akiba et al. 2019, arXiv 1907.10902) proposes, its median pruner
stops what falls behind, and an SQLite file beside the run keeps every trial, so that an interrupted tuning
goes on. Trials of a network that share an architecture and differ in their learning rate are trained together
as one stack: they cost little more than one of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sadari.errors import SadariError
from sadari.fitting import Plan, can_solve, seen, solve, tensors
from sadari.layers.stack import Stack, stackable
from sadari.train import TrainConfig, train

TOGETHER = 4  # learning rates tried for each architecture, as one stack
SHARE = 0.25  # of a rung's budget that each stack may spend
RATE, DIVERGED = "learning_rate", "diverged"

# What is tried: a rung's settings, and those of the loop. (low, high) is searched on a log scale, a tuple of
# more than
# two values or of names one by one.
SPACES: dict[str, dict[str, tuple[Any, ...]]] = {
    "line": {"ridge": (1e-4, 1e4)},
    "logistic": {"penalty": (1e-4, 1e4)},
    "shallow": {
        "width": (16, 32, 64, 128, 256),
        "activation": ("relu", "tanh", "gelu"),
        "dropout": (0.0, 0.1, 0.3),
    },
    "deep": {
        "width": (16, 32, 64, 128),
        "layers": (2, 3, 4),
        "activation": ("relu", "gelu"),
        "dropout": (0.0, 0.1, 0.3),
    },
    "deep-skip": {
        "width": (16, 32, 64, 128),
        "layers": (2, 4, 6),
        "activation": ("relu", "gelu"),
        "dropout": (0.0, 0.1),
    },
    "one-hot": {"penalty": (1e-2, 1e3)},
    "embedding": {"width": (32, 64, 128, 256), "dropout": (0.0, 0.2, 0.5)},
    "rnn": {"width": (64, 128, 256), "layers": (1, 2, 3), "dropout": (0.0, 0.2, 0.5)},
    "lstm": {"width": (64, 128, 256), "layers": (1, 2, 3), "dropout": (0.0, 0.2, 0.5)},
    "attention": {"width": (64, 128, 256), "layers": (1, 2, 3), "dropout": (0.0, 0.2, 0.5)},
    "transformer": {"width": (64, 128, 256), "layers": (2, 3, 4), "dropout": (0.0, 0.1, 0.3)},
    "probe": {"penalty": (1e-3, 1e3)},
    "n-gram": {"order": (2, 3, 4, 5, 6)},
}
# likewise of the rungs of pictures, where some names mean another model
PICTURES: dict[str, dict[str, tuple[Any, ...]]] = {
    "logistic": {},
    "shallow": SPACES["shallow"],
    "alexnet": {"width": (0.5, 1.0, 1.5), "dropout": (0.2, 0.5)},
    "vgg": {"width": (0.5, 1.0, 1.5), "dropout": (0.2, 0.5)},
    "resnet": {"width": (0.5, 1.0, 1.5)},
    "vit": {"layers": (2, 4, 6), "drop_path": (0.0, 0.1, 0.2)},
    "retrieval": {},
    "probe": SPACES["probe"],
    "fine-tune": {"dropout": (0.0, 0.1, 0.3)},
}
TRAINING: dict[str, tuple[Any, ...]] = {RATE: (1e-4, 3e-2), "weight_decay": (1e-5, 1.0)}


@dataclass(frozen=True)
class Tuned:
    """The best trial's settings, to fit the rung with."""

    model: dict[str, Any]
    train: dict[str, Any]
    loss: float
    """Its mean loss on the validation rows."""
    trials: int
    pruned: int


def tune(plan: Plan, trials: int, database: Path) -> Tuned | None:
    """Try `trials` settings for the rung of `plan`, going on from those that the SQLite file `database`
    holds.

    None for a rung that has nothing to set (the ground). Raises SadariError when no trial gave a finite loss.
    """
    rung, space = plan.config["rung"], space_of(plan)
    if space is None or trials < 1:
        return None
    import optuna  # 0.6 s

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    database.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{database.absolute()}")
    study = optuna.create_study(
        study_name=rung,
        storage=storage,
        load_if_exists=True,
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2 * TOGETHER, n_warmup_steps=3),
    )
    states = optuna.trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(states.RUNNING, states.WAITING)):
        study.tell(trial.number, state=states.FAIL)  # left by an interruption; skipped if it was only queued
    # a resumed tuning must not draw its first proposals again
    study.sampler = optuna.samplers.TPESampler(
        seed=plan.config["seed"] + len(study.trials), constant_liar=True
    )
    while (left := trials - _tried(study)) > 0:
        _try(study, plan, min(left, TOGETHER))
    done = study.get_trials(deepcopy=False, states=(states.COMPLETE,))
    storage.remove_session()
    if not done:
        raise SadariError(
            f"tuning {rung}: no trial of {trials} gave a finite loss; scale the columns or raise --tune"
        )
    best = min(done, key=lambda trial: trial.values[0])
    pruned = len(study.get_trials(deepcopy=False, states=(states.PRUNED,)))
    model = {name: best.params[name] for name in space}
    loop = {name: best.params[name] for name in TRAINING if name in best.params}
    return Tuned(model, loop, best.values[0], trials, pruned)


def space_of(plan: Plan) -> dict[str, tuple[Any, ...]] | None:
    """What is tried of the rung's own settings; None for one that has nothing to set."""
    spaces = PICTURES if plan.prepared.kind == "images" else SPACES
    return spaces.get(plan.config["rung"])


def _tried(study: Any) -> int:
    """Trials that were carried out, whatever came of them."""
    states = (_state("COMPLETE"), _state("PRUNED"))
    return sum(
        trial.state in states or DIVERGED in trial.user_attrs for trial in study.get_trials(deepcopy=False)
    )


def _try(study: Any, plan: Plan, count: int) -> None:
    """Ask for one set of settings and try it: solved directly, or trained at `count` learning rates at
    once.
    """
    first, spaces = study.ask(), space_of(plan) or {}
    model = {name: _suggest(first, name, space) for name, space in spaces.items()}
    planned = _planned(plan, model, {})
    networks = planned.networks()
    solver = networks[0]
    if can_solve(solver, plan.loss):
        arrays = tensors(plan.prepared.train)
        solve(solver, arrays, plan.loss, plan.prepared.spec)
        loss = plan.task.evaluate(networks[0], tensors(plan.prepared.validation)).item()
        _tell(study, first, loss)
        return
    loop = {name: _suggest(first, name, space) for name, space in TRAINING.items()}
    asked = [first]
    for _ in range(count - 1):  # the same architecture, its learning rate chosen anew
        study.enqueue_trial({**model, **{name: v for name, v in loop.items() if name != RATE}})
        trial = study.ask()
        for name, space in (spaces | TRAINING).items():
            _suggest(trial, name, space)
        asked.append(trial)
    rates = torch.tensor([trial.params[RATE] for trial in asked], dtype=torch.float32)
    planned = _planned(plan, model, {name: value for name, value in loop.items() if name != RATE})
    if not stackable(solver):
        for trial, rate in zip(asked, rates.tolist(), strict=True):
            _try_alone(study, planned, trial, rate)
        return
    stack = Stack.of([planned.networks()[0] for _ in asked])

    def watch(record: Mapping[str, Any]) -> None:
        losses = record.get("validation_loss")
        if losses is None:
            return
        for trial, loss in zip(asked, losses if isinstance(losses, list) else [losses], strict=True):
            if math.isfinite(loss):
                trial.report(loss, record["step"])
        if all(trial.should_prune() for trial in asked):
            raise _Pruned

    try:
        trained = train(
            stack,
            plan.task,
            tensors(plan.prepared.train),
            tensors(plan.prepared.validation),
            planned.training,
            watchers=[watch],
            learning_rates=rates,
        )
    except _Pruned:
        for trial in asked:
            study.tell(trial, state=_state("PRUNED"))
        return
    for trial, loss in zip(asked, trained.best_score.tolist(), strict=True):
        _tell(study, trial, loss)


def _try_alone(study: Any, planned: Plan, trial: Any, rate: float) -> None:
    """Train one network at one rate, pruned when it falls behind the others."""
    seconds, steps = planned.training.budget_seconds / TOGETHER, planned.training.budget_steps / TOGETHER
    training = replace(
        planned.training, learning_rate=rate, budget_seconds=seconds, budget_steps=math.ceil(steps)
    )
    network: Any = planned.networks()[0]
    arrays = tensors(planned.prepared.train)
    if hasattr(network, "begin"):
        shown = seen(arrays, planned.prepared.spec)
        network.begin(shown["features"], shown["targets"], planned.loss)

    def watch(record: Mapping[str, Any]) -> None:
        if (loss := record.get("validation_loss")) is not None and math.isfinite(loss):
            trial.report(loss, record["step"])
            if trial.should_prune():
                raise _Pruned

    try:
        trained = train(
            network, planned.task, arrays, tensors(planned.prepared.validation), training, watchers=[watch]
        )
    except _Pruned:
        study.tell(trial, state=_state("PRUNED"))
    except SadariError:  # the loss became no number
        _tell(study, trial, math.inf)
    else:
        _tell(study, trial, trained.best_score.item())


class _Pruned(Exception):
    """Every member of a stack fell behind."""


def _planned(plan: Plan, model: Mapping[str, Any], loop: Mapping[str, Any]) -> Plan:
    """`plan` with other settings and a share of its budget, one start."""
    settings: TrainConfig = plan.training
    seconds, steps = settings.budget_seconds * SHARE, math.ceil(settings.budget_steps * SHARE)
    training = replace(settings, **loop, budget_seconds=seconds, budget_steps=steps)
    config = {**plan.config, "model": {**plan.config["model"], **model}}
    return replace(plan, config=config, training=training, starts=1)


def _suggest(trial: Any, name: str, space: tuple[Any, ...]) -> Any:
    if len(space) == 2 and isinstance(space[0], float):
        return trial.suggest_float(name, *space, log=True)
    return trial.suggest_categorical(name, space)


def _tell(study: Any, trial: Any, loss: float) -> None:
    if math.isfinite(loss):
        study.tell(trial, loss)
    else:
        trial.set_user_attr(DIVERGED, True)  # it was tried, unlike one that an interruption left
        study.tell(trial, state=_state("FAIL"))


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]
