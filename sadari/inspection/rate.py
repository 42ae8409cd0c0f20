"""Rate: what becomes of a trained network that goes on learning, at each of many learning rates.

A rate for fine-tuning is too low where nothing changes and too high where the first steps throw away what was
learnt before anything better comes of it; between them lies a valley (Howard & Ruder 2018, 1801.06146).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.batches import usual_size
from sadari.errors import SadariError
from sadari.fitting import tensors
from sadari.inspection.view import Said, View, say
from sadari.inspection.watching import watchers
from sadari.tasks import make_task
from sadari.train import TrainConfig, train

if TYPE_CHECKING:
    from sadari.runs import Run

LOWEST, HIGHEST = 1e-6, 1.0
STEPS = 50
COUNT = 13
WORSE = 0.02  # of a share wrong: what ends so far above the start has lost what it knew
NEAR = 2.0  # times by which two rates may differ and be near each other
SURE = 2.0  # standard errors that a gain must have, were the pictures of no two errors the same

TEXTS = {
    "better": (
        "{rung}: {steps} more steps help most at a rate of {best}, from {start} wrong to {least}; from "
        "{limit} on they do harm",
        "{rung}: {steps}걸음을 더 배우면 학습률 {best}에서 가장 나아집니다(오답 {start} → {least}). "
        "{limit}부터는 나빠집니다",
    ),
    "endless": (
        "{rung}: {steps} more steps help most at a rate of {best}, from {start} wrong to {least}; none of "
        "these rates does harm",
        "{rung}: {steps}걸음을 더 배우면 학습률 {best}에서 가장 나아집니다(오답 {start} → {least}). "
        "여기 있는 학습률은 모두 해롭지 않습니다",
    ),
    "spent": (
        "{rung}: at no rate are {steps} more steps sure to help ({start} wrong before); from {limit} on they "
        "do harm",
        "{rung}: {steps}걸음을 더 배워도 분명히 나아지는 학습률이 없습니다(시작 오답 {start}). {limit}부터는 "
        "나빠집니다",
    ),
    "still": (
        "{rung}: {steps} more steps change little at any of these rates ({start} wrong before)",
        "{rung}: 여기 있는 어느 학습률로도 {steps}걸음은 거의 바꾸지 않습니다(시작 오답 {start})",
    ),
    "caption": (
        "{name}: share of {rows} validation pictures with a wrong answer after {steps} more steps on the "
        "training pictures, from the run's own weights, at each of {count} constant learning rates "
        "({optimizer}, {batch} pictures a step, no weight decay). Dashed: before the first of them.",
        "{name}: 이 실행의 가중치에서 시작해 학습률 {count}가지로 훈련 그림을 {steps}걸음 더 배운 뒤, 검증 "
        "그림 {rows}장 가운데 틀린 비율({optimizer}, 한 걸음에 그림 {batch}장, 학습률은 일정, 가중치 감쇠 "
        "없음). 파선: 더 배우기 전.",
    ),
    "see": (
        "On the left hardly anything moves; on the right the first steps are so long that what was learnt is "
        "lost before anything better comes of it: at {top}, {worst} are wrong{chance}.{beside}",
        "왼쪽에서는 거의 아무것도 움직이지 않습니다. 오른쪽에서는 첫걸음부터 너무 커서 더 나은 것을 배우기 "
        "전에 이미 배운 것을 잃습니다. 학습률 {top}에서는 {worst}가 틀립니다{chance}.{beside}",
    ),
    "lower": (
        " The best lies below the rate of its first training ({own}): a network that has learnt already "
        "wants shorter steps.",
        " 가장 나은 학습률이 처음 훈련한 학습률({own})보다 작습니다. 이미 배운 망에는 작은 걸음이 "
        "알맞습니다.",
    ),
    "near": (
        " The best lies near the rate of its first training ({own}).",
        " 가장 나은 학습률은 처음 훈련한 학습률({own})과 비슷합니다.",
    ),
    "higher": (
        " The best lies above the rate of its first training ({own}), which was cautious: what had been "
        "learnt survives longer steps than those.",
        " 가장 나은 학습률이 처음 훈련한 학습률({own})보다 큽니다. 처음 것은 조심스러웠고, 배운 것은 더 큰 "
        "걸음도 견뎌 냅니다.",
    ),
    "chance": (
        " (always answering the commonest class: {prior})",
        "(늘 가장 흔한 클래스로만 답하면 {prior})",
    ),
    "rates": ("learning rate", "학습률"),
    "errors": ("validation pictures wrong", "틀린 검증 그림"),
    "losses": ("validation loss", "검증 손실"),
}


def rate(run: Run, *, steps: int = STEPS, count: int = COUNT) -> View:
    """Go on training the run's network for `steps` steps at each of R = `count` rates, and score it.

    rates (R,): from 1e-6 to 1, evenly in their logarithm; errors (R,): the share of validation pictures given
    a wrong class afterwards; losses (R,): their mean loss, NaN where it stopped being a number (errors are
    then those of the commonest class). facts["start"], ["start_loss"]: before; facts["best"]: the rate that
    ends lowest; facts["limit"]: the lowest from which every rate ends above the start, or None.
    Raises SadariError for no step, or for fewer than three rates.
    """
    if steps < 1 or count < 3:
        raise SadariError(
            f"--steps {steps} at --count {count} rates: give 1 step or more, and 3 rates or more"
        )
    prepared = run.data()
    arrays, checks = tensors(prepared.train), tensors(prepared.validation)
    settings = {**run.config["train"], "schedule": "constant", "precision": "fp32", "patience": 0}
    settings["weight_decay"] = (
        0.0  # by the pass, whatever the rate: it alone would undo much of a short training
    )
    settings |= {
        "budget_steps": steps,
        "budget_seconds": 0.0,
        "epochs": 0,
        "log_every": steps,
        "evaluate_every": steps,
    }
    config = TrainConfig(**settings)
    task = make_task("images", "classify", run.loss, run.spec, "error", len(arrays["targets"]))
    prior = 1 - np.bincount(prepared.validation.targets).max() / len(prepared.validation.targets)
    start = task.score(run.model, checks)
    rates = np.logspace(np.log10(LOWEST), np.log10(HIGHEST), count)
    errors, losses = np.full(count, prior), np.full(count, np.nan)
    for i, tried in enumerate(rates):
        network = copy.deepcopy(run.model)
        named = watchers(f"{tried:.0e} {i + 1}/{count}")
        try:
            train(network, task, arrays, {}, replace(config, learning_rate=float(tried)), watchers=named)
        except SadariError:  # its loss is no number any more
            continue
        score = task.score(network, checks)
        if np.isfinite(loss := float(score["loss"])):
            errors[i], losses[i] = float(score["error"]), loss
    config = replace(config, batch_size=config.batch_size or usual_size(len(arrays["targets"])))
    name = prepared.table.name
    return _view(run, name, rates, errors, losses, config, start, prior, len(checks["targets"]))


def _view(
    run: Run,
    name: str,
    rates: np.ndarray,
    errors: np.ndarray,
    losses: np.ndarray,
    config: TrainConfig,
    start: dict[str, Any],
    prior: float,
    rows: int,
) -> View:
    before = float(start["error"])
    best = int(np.lexsort((np.nan_to_num(losses, nan=np.inf), errors))[0])
    harmful = errors > before + WORSE
    last_kept = np.flatnonzero(~harmful)
    after = int(last_kept[-1]) + 1 if len(last_kept) else 0
    limit = float(rates[after]) if after < len(rates) else None
    helps = before - errors[best] >= SURE * np.sqrt((before + errors[best]) / rows) > 0
    key = ("better" if limit else "endless") if helps else ("spent" if limit else "still")
    values: dict[str, Any] = {
        "name": name,
        "rung": run.rung,
        "steps": config.budget_steps,
        "count": len(rates),
        "rows": rows,
        "optimizer": config.optimizer,
        "batch": config.batch_size,
        "start": f"{before:.1%}",
        "least": f"{errors[best]:.1%}",
        "best": _rate(rates[best]),
        "limit": _rate(limit) if limit else "",
        "top": _rate(rates[-1]),
        "worst": f"{errors[-1]:.0%}",
        "chance": say(TEXTS, "chance", prior=f"{prior:.0%}"),
        "beside": _beside(float(rates[best]), run.config["train"]["learning_rate"]) if helps else ("", ""),
    }
    facts = {
        "rung": run.rung,
        "start": before,
        "start_loss": float(start["loss"]),
        "best": float(rates[best]),
        "limit": limit,
        "prior": float(prior),
        "own": run.config["train"]["learning_rate"],
    }
    return View(
        "rate",
        say(TEXTS, key, **values),
        say(TEXTS, "caption", **values),
        say(TEXTS, "see", **values),
        {"rates": rates, "errors": errors, "losses": losses},
        facts,
        {name: TEXTS[name] for name in ("rates", "errors", "losses")},
    )


def _beside(best: float, own: float) -> Said:
    """How the best rate compares with the one of the run's own training; nothing where that had none."""
    if not own:
        return "", ""
    key = "near" if own / NEAR <= best <= own * NEAR else "lower" if best < own else "higher"
    return say(TEXTS, key, own=_rate(own))


def _rate(rate: float) -> str:
    """A rate to two figures, as it would be typed."""
    return f"{rate:.2g}".replace("e-0", "e-")
