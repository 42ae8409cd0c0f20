"""Learning rate: the loss after some steps at each rate, and where descent can no longer land.

On a quadratic bowl a step of gradient descent multiplies the distance to the optimum, along each axis of the
bowl, by 1 - rate * curvature. Beyond rate = 2 / (largest curvature) that factor is below -1: each step leaps
further than the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import functional_call

from sadari.errors import SadariError
from sadari.fitting import can_solve, solve
from sadari.inspection.rows import sample
from sadari.inspection.view import View, say
from sadari.losses import Loss
from sadari.rates import range_test
from sadari.tasks import build
from sadari.train import TrainConfig

if TYPE_CHECKING:
    from sadari.runs import Run

ROWS = 4096
MEET = 0.01  # how far below and above the bound the two descents go
MET_STEPS = 300
RATES = 41
SMALL = 50  # weights up to which a Hessian is written out: Lanczos wants room
BESIDE = (
    1e-6  # of the way down from the first weights: how high above the floor a curved bowl's descents begin
)

TEXTS = {
    "line": (
        "{rung}: descent lands with any rate below {bound} = 2/λ, the bound; the test meets it at {limit}",
        "{rung}: 학습률이 한계 {bound} = 2/λ 아래면 도착합니다. 시험에서 만난 한계는 {limit}",
    ),
    "logistic": (
        "{rung}: beside its optimum, descent lands with rates below {bound} = 2/λ and is driven off above",
        "{rung}: 최적점 곁에서는 학습률이 {bound} = 2/λ 아래면 도착하고 넘으면 밀려납니다",
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
        "{below} (from {start}, optimum {best}); at 1.01 of it at {above}: each step leaps over the "
        "optimum, further than the last.",
        "λ는 손실의 가장 큰 곡률 {curvature}입니다. 한계의 0.99배로 {steps}걸음이면 {below}(처음 {start}, "
        "최적 {best}), 1.01배로는 {above}: 걸음마다 최적점을 더 멀리 뛰어넘습니다.",
    ),
    "see logistic": (
        "λ is the largest curvature at the optimum, {curvature}, its penalty counted in. Begun a hair "
        "beside it, {steps} steps at 0.99 of the bound shrink the distance in loss {shrinks}-fold, at 1.01 "
        "of it they grow it {grows}-fold. Away from the optimum the loss curves otherwise, so that the "
        "upper curve need not turn at the bound.",
        "λ는 최적점에서 벌점까지 넣은 손실의 가장 큰 곡률 {curvature}입니다. 최적점 바로 곁에서 "
        "{steps}걸음을 걸으면 한계의 0.99배로는 손실의 차이가 {shrinks}분의 1로 줄고, 1.01배로는 "
        "{grows}배로 늘어납니다. 최적점에서 먼 곳은 휘어진 정도가 다르므로 위쪽 곡선이 꼭 한계에서 꺾이지는 "
        "않습니다.",
    ),
    "see network": (
        "Too small a rate hardly moves (left), too large a one leaps away (right). `--learning-rate 0` "
        "would take {chosen}, well below the best of these, since what is best for {steps} steps is too "
        "rough for thousands.",
        "너무 작으면 거의 움직이지 못하고(왼쪽) 너무 크면 튀어 나갑니다(오른쪽). `--learning-rate 0` 이면 "
        "{chosen} 선택: {steps}걸음에 가장 좋은 값은 수천 걸음에는 거칠어서 그보다 훨씬 작게 잡습니다.",
    ),
    "rates": ("learning rate", "학습률"),
    "losses": ("training loss after {steps} steps", "{steps}걸음 뒤 훈련 손실"),
}


def learning_rate(run: Run, *, steps: int = 50) -> View:
    """Loss after `steps` steps against R rates, each from the run's first weights; NaN where it is no number.

    rates, losses (R,). For rungs that are solved (line, logistic): plain gradient descent on all rows, with
    facts["bound"] = 2 / (largest eigenvalue of the objective's Hessian at its optimum), and below, above
    (S,): the objective on the way at 0.99 and 1.01 of the bound. For networks: the run's own optimizer and
    batches, as `--learning-rate 0` tests them, with facts["chosen"]. facts["limit"]: the lowest rate that
    ended above the start, or None.
    """
    if steps < 1:
        raise SadariError(f"--steps {steps}: give 1 or more")
    rows = sample(run, limit=ROWS)
    arrays = {"features": torch.from_numpy(rows.features), "targets": torch.from_numpy(rows.targets)}
    first = build(run.rung, run.task.name, run.config["model"], run.spec.width, run.loss, run.config["seed"])
    config = TrainConfig(**{**run.config["train"], "precision": "fp32"})
    objective = Objective.of(run, arrays)
    solved = objective is not None
    facts: dict[str, Any] = {"rung": run.rung, "steps": steps, "solved": solved}
    lowest, highest = 1e-5, 10.0
    met: dict[str, np.ndarray] = {}
    if objective is not None:
        met = _meet(objective, first, steady=run.rung == "line")
        found = {"curvature": objective.curvature, "bound": objective.bound, "best": objective.best}
        facts |= found
        lowest, highest = objective.bound / 1e3, objective.bound * 3
        config = replace(
            config,
            optimizer="sgd",
            momentum=0.0,
            weight_decay=objective.penalty,
            batch_size=len(rows.targets),
        )
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
        "start": test.start,
    }
    caption = say(TEXTS, "caption", **values)
    key, seen = ("network" if limit else "endless"), "see network"
    if objective is not None:
        key, seen = run.rung, f"see {run.rung}"
        ends = {side: float(path[-1]) for side, path in met.items()}
        gaps = {side: path[[0, -1]] - objective.best for side, path in met.items()}
        values |= {**found, **ends, "steps": MET_STEPS}
        values |= {"shrinks": _times(gaps["below"][::-1]), "grows": _times(gaps["above"])}
    return View(
        "learning-rate",
        say(TEXTS, key, **values),
        caption,
        say(TEXTS, seen, **values),
        {"rates": test.rates.numpy(), "losses": np.where(np.isfinite(losses), losses, np.nan), **met},
        facts,
        {"rates": TEXTS["rates"], "losses": say(TEXTS, "losses", steps=steps)},
    )


class Objective:
    """What a solved rung minimises, in float64: the mean loss and its penalty on half the squared weights.

    As a function of named weights, so that they can be moved without touching a model.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, arrays: Mapping[str, Tensor], penalty: float = 0.0
    ) -> None:
        self.model, self.loss, self.penalty = model, loss, penalty
        self.features, self.targets = arrays["features"].double(), arrays["targets"]
        self.targets = self.targets.double() if self.targets.is_floating_point() else self.targets
        self.weights = {name: value.detach().double() for name, value in model.named_parameters()}

    @classmethod
    def of(cls, run: Run, arrays: Mapping[str, Tensor]) -> Objective | None:
        """The objective of a rung that can be solved, at its optimum over these rows; None for any other."""
        settings = dict(run.config["model"])
        if "method" in settings:
            settings["method"] = "exact"
        model = build(run.rung, run.task.name, settings, run.spec.width, run.loss, 0)
        network: nn.Module = model
        if not can_solve(model, run.loss):
            return None
        solve(model, arrays, run.loss)
        strength: Any = settings.get("ridge", settings.get("penalty", 0.0))
        return cls(network, run.loss, arrays, strength / len(arrays["targets"]))

    @cached_property
    def best(self) -> float:
        """The value at the optimum."""
        return self(self.weights).item()

    @property
    def curvature(self) -> float:
        """The largest eigenvalue of the Hessian there."""
        return self.sharpest[0]

    @property
    def bound(self) -> float:
        """The rate from which descent leaps over the optimum, further each time."""
        return 2 / self.curvature

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        value = self.loss(functional_call(self.model, dict(weights), (self.features,)), self.targets).mean()
        squares = sum(weight.square().sum() for weight in weights.values() if weight.ndim > 1)
        return value + 0.5 * self.penalty * squares

    def slope(self, weights: Mapping[str, Tensor], graph: bool = False) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Value and derivative at some weights."""
        value = self(weights)
        return value, torch.autograd.grad(value, list(weights.values()), create_graph=graph)

    def descend(self, weights: Mapping[str, Tensor], rate: float, steps: int) -> np.ndarray:
        """The objective before each of `steps` steps of gradient descent, and after the last (S + 1,)."""
        moving = {name: value.clone().requires_grad_() for name, value in weights.items()}
        values = np.empty(steps + 1)
        for step in range(steps + 1):
            value, slopes = self.slope(moving)
            values[step] = value.item()
            with torch.no_grad():
                for weight, slope in zip(moving.values(), slopes, strict=True):
                    weight -= rate * slope
        return values

    @cached_property
    def sharpest(self) -> tuple[float, dict[str, Tensor]]:
        """The largest eigenvalue of the Hessian at the model's weights and its direction, of length 1.

        By Lanczos on Hessian-vector products (`scipy.sparse.linalg.eigsh`), or written out where it is small.
        """
        weights = {name: value.clone().requires_grad_() for name, value in self.weights.items()}
        slope = torch.cat([part.reshape(-1) for part in self.slope(weights, graph=True)[1]])  # (P,)

        def times(vector: np.ndarray) -> np.ndarray:
            along = slope @ torch.from_numpy(np.ascontiguousarray(vector).reshape(-1))
            parts = torch.autograd.grad(along, list(weights.values()), retain_graph=True)
            return torch.cat([part.reshape(-1) for part in parts]).numpy()

        size = len(slope)
        if size < SMALL:
            values, vectors = np.linalg.eigh(np.stack([times(column) for column in np.eye(size)]))
        else:
            operator = LinearOperator((size, size), matvec=times, dtype=np.float64)
            start = np.random.default_rng(0).standard_normal(size)
            values, vectors = eigsh(operator, k=1, which="LA", v0=start)
        parts = torch.from_numpy(vectors[:, -1].copy()).split([weight.numel() for weight in weights.values()])
        named = zip(weights.items(), parts, strict=True)
        return float(values[-1]), {name: part.view_as(weight) for (name, weight), part in named}


def _meet(objective: Objective, first: nn.Module, steady: bool) -> dict[str, np.ndarray]:
    """Two descents, just below and just above the bound.

    Where the curvature is the same everywhere (`steady`) they begin at the first weights, else a hair beside
    the optimum, in the direction in which the bound is felt.
    """
    weights = {name: value.detach().double() for name, value in first.named_parameters()}
    if not steady:
        drop = objective(weights).item() - objective.best
        length = float(np.sqrt(2 * BESIDE * drop / objective.curvature))
        direction = objective.sharpest[1]
        weights = {name: value + length * direction[name] for name, value in objective.weights.items()}
    factors = {"below": 1 - MEET, "above": 1 + MEET}
    return {
        side: objective.descend(weights, objective.bound * factor, MET_STEPS)
        for side, factor in factors.items()
    }


def _times(ends: np.ndarray) -> str:
    """How many times the second is the first, to two digits; at least, where rounding has eaten the first."""
    return f"{ends[1] / max(ends[0], 1e-15):.2g}"
