"""Learning rate: the loss after some steps at each rate, and the rate at which descent can no longer land on
the optimum.

On a quadratic bowl a step of gradient descent multiplies the distance to the optimum, along each axis of the
bowl, by 1 - rate * curvature. Beyond rate = 2 / (largest curvature) that factor is below -1: each step leaps
further than the last.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import functional_call

from sadari.errors import SadariError
from sadari.inspection.rows import sample
from sadari.inspection.view import View, say
from sadari.rates import range_test
from sadari.tasks import TableTask, build
from sadari.train import TrainConfig

if TYPE_CHECKING:
    from sadari.runs import Run

ROWS = 4096
MEET = 0.01  # how far below and above the bound the two descents go
MET_STEPS = 300
RATES = 41

TEXTS = {
    "line": (
        "{rung}: descent lands with any rate below {bound} = 2/λ, the bound; the test meets it at {limit}",
        "{rung}: 학습률이 한계 {bound} = 2/λ 아래면 도착합니다. 시험에서 만난 한계는 {limit}",
    ),
    "network": (
        "{rung}: rates up to {limit} train; beyond, {steps} steps end above where they began",
        "{rung}: 학습률 {limit}까지는 배웁니다. 넘으면 {steps}걸음 뒤 손실이 처음보다 큽니다",
    ),
    "endless": (
        "{rung}: no rate up to {highest} is too large for {steps} steps",
        "{rung}: {highest} 이하 어느 학습률도 {steps}걸음에 너무 크지 않습니다",
    ),
    "caption": (
        "The training loss after {steps} steps of {optimizer} at each of {count} learning rates, always "
        "from the same first weights ({rows} rows{batch}).",
        "같은 처음 가중치에서 학습률 {count}가지로 {optimizer} {steps}걸음 뒤의 훈련 손실(데이터 "
        "{rows}행{batch}).",
    ),
    "all rows": (", all in each step", ", 매 걸음 전부"),
    "batch": (", {batch} in each step", ", 매 걸음 {batch}행"),
    "descent": ("gradient descent", "경사 하강"),
    "see line": (
        "λ is the largest curvature of the loss, {curvature}. At 0.99 of the bound {steps} steps end at "
        "{below} (from {start}, optimum {best}); "
        "at 1.01 of it at {above}: each step leaps over the optimum, further than the last.",
        "λ는 손실의 가장 큰 곡률 {curvature}입니다. 한계의 0.99배로 {steps}걸음이면 {below}(처음 {start}, "
        "최적 {best}), "
        "1.01배로는 {above}: 걸음마다 최적점을 더 멀리 뛰어넘습니다.",
    ),
    "see network": (
        "Too small a rate hardly moves (left), too large a one leaps away (right). `--learning-rate 0` "
        "would take {chosen}, "
        "well below the best of these, since what is best for {steps} steps is too rough for thousands.",
        "너무 작으면 거의 움직이지 못하고(왼쪽) 너무 크면 튀어 나갑니다(오른쪽). `--learning-rate 0` 이면 "
        "{chosen} 선택: "
        "{steps}걸음에 가장 좋은 값은 수천 걸음에는 거칠어서 그보다 훨씬 작게 잡습니다.",
    ),
    "rates": ("learning rate", "학습률"),
    "losses": ("training loss after {steps} steps", "{steps}걸음 뒤 훈련 손실"),
}


def learning_rate(run: Run, *, steps: int = 50) -> View:
    """Loss after `steps` steps against R rates, each from the run's first weights; NaN where it stopped being
    a number.

    rates, losses (R,). For line and logistic: plain gradient descent on all rows, with facts["bound"] = 2 /
    (largest eigenvalue of the loss's Hessian at the optimum), and below, above (S,): the loss on the way at
    0.99 and 1.01 of the bound. For networks: the run's own optimizer and batches, as `--learning-rate 0`
    tests them, with facts["chosen"]. facts["limit"]: the lowest rate that ended above the start, or None.
    """
    if steps < 1:
        raise SadariError(f"--steps {steps}: give 1 or more")
    rows = sample(run, limit=ROWS)
    arrays = {"features": torch.from_numpy(rows.features), "targets": torch.from_numpy(rows.targets)}
    solved = run.rung in ("line", "logistic")
    first = build(run.rung, run.task.name, run.config["model"], run.spec.width, run.loss, run.config["seed"])
    stored = {**run.config["train"], "precision": "fp32"}
    config = TrainConfig(**stored)
    facts: dict[str, Any] = {"rung": run.rung, "steps": steps, "solved": solved}
    lowest, highest = 1e-5, 10.0
    found: dict[str, np.ndarray] = {}
    if solved:
        config = replace(
            config, optimizer="sgd", momentum=0.0, weight_decay=0.0, batch_size=len(rows.targets)
        )
        curvature = sharpness(run.model, run.task, arrays)
        bound = 2 / curvature
        lowest, highest = bound / 1e3, bound * 3
        below, above = (
            descend(first, run.task, arrays, bound * factor, MET_STEPS) for factor in (1 - MEET, 1 + MEET)
        )
        found = {"below": below, "above": above}
        facts |= {"curvature": curvature, "bound": bound, "best": run.task.evaluate(run.model, arrays).item()}
    test = range_test(
        first, run.task, arrays, config, lowest=lowest, highest=highest, count=RATES, steps=steps
    )
    losses = test.losses.numpy()
    limit = test.limit if np.isfinite(test.limit) else None
    facts |= {"start": test.start, "limit": limit, "chosen": None if solved else test.chosen}
    whole = config.batch_size >= len(rows.targets)
    values: dict[str, Any] = {
        "rung": run.rung,
        "steps": steps,
        "highest": highest,
        "limit": limit or highest,
        "count": RATES,
        "rows": len(rows.targets),
        "optimizer": say(TEXTS, "descent") if solved else config.optimizer,
        "chosen": test.chosen,
        "batch": say(TEXTS, "all rows") if whole else say(TEXTS, "batch", batch=config.batch_size),
    }
    if solved:
        values |= {"bound": bound, "curvature": curvature, "start": test.start, "best": facts["best"]}
        values |= {"below": float(below[-1]), "above": float(above[-1])}
        see = say(TEXTS, "see line", **{**values, "steps": MET_STEPS})
    else:
        see = say(TEXTS, "see network", **values)
    return View(
        "learning-rate",
        say(TEXTS, "line" if solved else "network" if limit else "endless", **values),
        say(TEXTS, "caption", **values),
        see,
        {"rates": test.rates.numpy(), "losses": np.where(np.isfinite(losses), losses, np.nan), **found},
        facts,
        {"rates": TEXTS["rates"], "losses": say(TEXTS, "losses", steps=steps)},
    )


def descend(
    model: nn.Module, task: TableTask, arrays: dict[str, Tensor], rate: float, steps: int
) -> np.ndarray:
    """The loss before each of `steps` steps of plain gradient descent on all rows, in float64, and after the
    last (S + 1,).
    """
    weights = {name: value.detach().double().requires_grad_() for name, value in model.named_parameters()}
    batch = _double(arrays)
    losses = np.empty(steps + 1)
    for step in range(steps + 1):
        loss = _loss(model, task, weights, batch)
        losses[step] = loss.item()
        slopes = torch.autograd.grad(loss, list(weights.values()))
        with torch.no_grad():
            for weight, slope in zip(weights.values(), slopes, strict=True):
                weight -= rate * slope
    return losses


def sharpness(model: nn.Module, task: TableTask, arrays: dict[str, Tensor]) -> float:
    """The largest eigenvalue of the mean loss's Hessian at the model's weights, by Lanczos on Hessian-vector
    products.
    """
    weights = {name: value.detach().double().requires_grad_() for name, value in model.named_parameters()}
    loss = _loss(model, task, weights, _double(arrays))
    slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    slope = torch.cat([part.reshape(-1) for part in slopes])  # (P,)

    def times(vector: np.ndarray) -> np.ndarray:
        along = slope @ torch.from_numpy(np.ascontiguousarray(vector).reshape(-1))
        parts = torch.autograd.grad(along, list(weights.values()), retain_graph=True)
        return torch.cat([part.reshape(-1) for part in parts]).numpy()

    size = len(slope)
    if size < 50:  # Lanczos wants room; so few columns are quick to write out
        return float(np.linalg.eigvalsh(np.stack([times(column) for column in np.eye(size)]))[-1])
    start = np.random.default_rng(0).standard_normal(size)
    operator = LinearOperator((size, size), matvec=times, dtype=np.float64)
    return float(eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)[0])


def _double(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in arrays.items()}


def _loss(model: nn.Module, task: TableTask, weights: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    return task.loss(functional_call(model, weights, (batch["features"],)), batch["targets"]).mean()
