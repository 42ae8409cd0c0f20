"""Surface: the loss over two weights, or the plane in which training moved, with the path of descent.

For a network the plane is that of its own path (principal components of the weights on the way: Li et al.
2018, 1712.09913).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sadari.errors import SadariError
from sadari.inspection.rows import Rows, sample
from sadari.inspection.view import View, say
from sadari.layers.stack import Stack
from sadari.tasks import build
from sadari.train import TrainConfig, train

if TYPE_CHECKING:
    from sadari.runs import Run

GRID = 61
PLANE_GRID = 41  # for a network, every cell of which costs a pass over the rows
ROWS = 1000
STEPS = 100
MARGIN = 0.25
PACE = 0.3  # of the rate that reaches the floor of the steepest side in one step: steps to be seen

TEXTS = {
    "weights": (
        "{rung}: {steps} steps over the weights of {one} and {other} take the loss from {start} to {end}",
        "{rung}: {one}, {other} 두 무게 위에서 {steps}걸음에 손실 {start} → {end}",
    ),
    "path": (
        "{rung}: {steps} steps of training take the loss from {start} to {end}",
        "{rung}: {steps}걸음 학습에 손실 {start} → {end}",
    ),
    "weights caption": (
        "Colour: the training loss over two weights, all others as the run has them; darker is lower. Dots: "
        "gradient descent from zero (ring), learning rate {rate}. Cross: the optimum, loss {best}.",
        "색: 두 무게에 따른 훈련 손실, 짙을수록 낮습니다. 나머지 무게는 실행의 값 그대로. 점: 0(고리)에서 "
        "출발한 경사 하강, 학습률 {rate}. 십자: 최적점, 손실 {best}.",
    ),
    "path caption": (
        "Colour: the training loss over the plane of two directions among {parameters} weights in which "
        "training moved most ({share} of its movement); darker is lower. Dots: {optimizer} from the first "
        "weights (ring) to the last (cross).",
        "색: 가중치 {parameters}개의 공간에서 가장 많이 움직인 두 방향의 평면(움직임의 {share}) 위의 훈련 "
        "손실, 짙을수록 낮습니다. 점: 처음 가중치(고리)에서 마지막(십자)까지 {optimizer} 경로.",
    ),
    "round": (
        "The bowl is {ratio} times as steep across as along: descent runs down its steep side first, then "
        "along the valley floor to the cross.",
        "그릇은 가로지르는 쪽이 골짜기 쪽보다 {ratio}배 가파릅니다. 하강은 가파른 쪽을 먼저 내려간 뒤 "
        "골짜기 바닥을 따라 십자로 갑니다.",
    ),
    "drift": (
        "Half of the descent is done after {half} of {steps} steps; the rest is spent on the flat floor. "
        "The picture holds {share} of the movement, so distances off the plane are not seen.",
        "{steps}걸음 중 {half}걸음에 하강의 절반이 끝나고, 나머지는 평평한 바닥에서 씁니다. 그림은 움직임의 "
        "{share}만 담으므로 평면 밖의 거리는 보이지 않습니다.",
    ),
    "weight of": ("weight of {feature}", "{feature} 무게"),
    "direction": ("direction {number} of the path", "경로의 방향 {number}"),
    "loss": ("training loss", "훈련 손실"),
}


def surface(run: Run, *, features: tuple[str, str] | None = None, steps: int = STEPS) -> View:
    """x, y (G,) and loss (G, G) at (y, x); path_x, path_y, path_loss (S,): descent from its start to its end.

    line, logistic: the weights of two `features` (encoded names, else the heaviest two), of the class that
    they weigh most for; facts["optimum"] is the lowest point. Networks: a fresh copy is trained as the run
    was, for `steps` steps, and x, y are the two directions in which it moved most, 0 being its end; path_loss
    is the real loss on the way, off the plane too.
    """
    if steps < 2:
        raise SadariError(f"--steps {steps}: a path needs 2 or more")
    rows = sample(run, limit=ROWS)
    if hasattr(run.model, "hidden"):
        if features is not None:
            raise SadariError(
                f"--features name two weights of a line; a {run.rung} has its path's two directions, leave "
                f"them out"
            )
        return _plane(run, rows, steps)
    return _two_weights(run, rows, features, steps)


# ---------------------------------------------------------------------- two weights of a line


class Bowl:
    """The mean loss as a function of two weights of one output, all others held still; in float64."""

    def __init__(self, run: Run, rows: Rows, output: int, pair: tuple[int, int]) -> None:
        model: Any = run.model
        weight, bias = model.linear.weight.detach().double(), model.linear.bias.detach().double()
        features = torch.from_numpy(rows.features).double()  # (N, C)
        self.loss, self.targets = run.loss, torch.from_numpy(rows.targets)
        self.targets = self.targets.double() if self.targets.is_floating_point() else self.targets
        self.output, self.moving = output, features[:, list(pair)]  # (N, 2)
        self.trained = weight[output, list(pair)]
        still = weight.clone()
        still[output, list(pair)] = 0
        self.still = features @ still.T + bias  # (N, O)

    def __call__(self, points: Tensor) -> Tensor:
        """Mean loss (M,) at points (M, 2)."""
        outputs = self.still.repeat(len(points), 1, 1)  # (M, N, O)
        outputs[..., self.output] += points @ self.moving.T
        return self.loss(outputs, self.targets.expand(len(points), -1)).mean(1)

    def slope(self, point: Tensor) -> Tensor:
        """Gradient (2,) at a point (2,)."""
        point = point.detach().requires_grad_()
        return torch.autograd.grad(self(point[None])[0], point)[0]

    def curvature(self, point: Tensor) -> Tensor:
        """Hessian (2, 2) at a point (2,)."""
        return torch.autograd.functional.hessian(lambda at: self(at[None])[0], point)

    def lowest(self) -> Tensor:
        """The point with the least loss: Newton's method, each step halved until it goes down."""
        point = self.trained.clone()
        for _ in range(50):
            slope = self.slope(point)
            step = torch.linalg.lstsq(self.curvature(point), slope[:, None]).solution[:, 0]
            while self((point - step)[None]) > self(point[None]) and step.norm() > 1e-14:
                step = step / 2
            point = point - step
            if step.norm() < 1e-12 * (1 + point.norm()):
                break
        return point


def _two_weights(run: Run, rows: Rows, features: tuple[str, str] | None, steps: int) -> View:
    model: Any = run.model
    names = run.spec.feature_names
    weight = model.linear.weight.detach().double()  # (O, C)
    if features is None:
        heaviest = torch.argsort(weight.abs().amax(0), descending=True, stable=True)[:2].tolist()
        if len(heaviest) < 2:
            raise SadariError("surface needs two weights, and this run has one feature; look at its curve")
        pair = (heaviest[0], heaviest[1])
    else:
        unknown = [name for name in features if name not in names]
        if unknown or len(set(features)) != 2:
            raise SadariError(
                f"--features {' '.join(features)}: give two different ones of {', '.join(names[:12])}"
            )
        pair = (names.index(features[0]), names.index(features[1]))
    output = int(weight[:, list(pair)].abs().sum(1).argmax())
    bowl = Bowl(run, rows, output, pair)
    best = bowl.lowest()
    start = torch.zeros(2, dtype=torch.float64)
    rate = PACE / float(max(torch.linalg.eigvalsh(bowl.curvature(point))[-1] for point in (start, best)))
    path = [start]
    for _ in range(steps):
        path.append(path[-1] - rate * bowl.slope(path[-1]))
    points = torch.stack(path)  # (S, 2)
    reach = 1.6 * float(best.abs().max()) or 1.0
    axes = [
        torch.linspace(float(centre) - reach, float(centre) + reach, GRID, dtype=torch.float64)
        for centre in best
    ]
    loss = torch.stack(
        [bowl(torch.stack([axes[0], y.expand(GRID)], dim=1)) for y in axes[1]]
    )  # (G, G), y down the rows
    path_loss = bowl(points)
    factor = run.spec.target_scale if run.spec.classes is None else 1.0
    steep = torch.linalg.eigvalsh(bowl.curvature(best))
    chosen = [names[k] for k in pair]
    least = float(bowl(best[None])[0])
    facts: dict[str, Any] = {
        "rung": run.rung,
        "kind": "weights",
        "names": chosen,
        "optimum": (best * factor).tolist(),
        "least": least,
        "rate": rate,
        "steepness": steep.tolist(),
        "of": None if run.spec.classes is None or len(weight) == 1 else run.spec.classes[output],
    }
    values: dict[str, Any] = {
        "rung": run.rung,
        "one": chosen[0],
        "other": chosen[1],
        "steps": steps,
        "start": float(path_loss[0]),
        "end": float(path_loss[-1]),
        "rate": rate,
        "best": least,
        "ratio": float(steep[1] / steep[0].clamp(min=1e-12)),
    }
    return View(
        "surface",
        say(TEXTS, "weights", **values),
        say(TEXTS, "weights caption", **values),
        say(TEXTS, "round", **values),
        {
            "x": axes[0].numpy() * factor,
            "y": axes[1].numpy() * factor,
            "loss": loss.numpy(),
            "path_x": points[:, 0].numpy() * factor,
            "path_y": points[:, 1].numpy() * factor,
            "path_loss": path_loss.numpy(),
        },
        facts,
        {
            "x": say(TEXTS, "weight of", feature=chosen[0]),
            "y": say(TEXTS, "weight of", feature=chosen[1]),
            "loss": TEXTS["loss"],
        },
    )


# ---------------------------------------------------------------------- the plane of a network's path


def _plane(run: Run, rows: Rows, steps: int) -> View:
    arrays = {"features": torch.from_numpy(rows.features), "targets": torch.from_numpy(rows.targets)}
    stack, path, path_loss = _walk(run, arrays, steps)
    end = path[-1]  # (P,)
    moved = path - end
    _, lengths, directions = torch.linalg.svd(moved, full_matrices=False)
    plane = directions[:2]  # (2, P)
    share = float(lengths[:2].square().sum() / lengths.square().sum())
    seen = (moved @ plane.T).numpy()  # (S, 2)
    axes = [_around(seen[:, k]) for k in range(2)]
    loss = np.stack([_losses(stack, run, arrays, end, plane, axes[0], y) for y in axes[1]])
    drop = float(path_loss[0] - path_loss.min())
    half = int(np.argmax(path_loss <= path_loss[0] - drop / 2)) * steps // (len(path) - 1)
    facts = {
        "rung": run.rung,
        "kind": "path",
        "optimum": [0.0, 0.0],
        "least": float(path_loss[-1]),
        "share": share,
    }
    values: dict[str, Any] = {
        "rung": run.rung,
        "steps": steps,
        "start": float(path_loss[0]),
        "end": float(path_loss[-1]),
        "share": f"{share:.0%}",
        "parameters": len(end),
        "optimizer": run.config["train"]["optimizer"],
        "half": half,
    }
    return View(
        "surface",
        say(TEXTS, "path", **values),
        say(TEXTS, "path caption", **values),
        say(TEXTS, "drift", **values),
        {
            "x": axes[0],
            "y": axes[1],
            "loss": loss,
            "path_x": seen[:, 0],
            "path_y": seen[:, 1],
            "path_loss": path_loss,
        },
        facts,
        {
            "x": say(TEXTS, "direction", number=1),
            "y": say(TEXTS, "direction", number=2),
            "loss": TEXTS["loss"],
        },
    )


def _walk(run: Run, arrays: dict[str, Tensor], steps: int) -> tuple[Stack, Tensor, np.ndarray]:
    """A fresh network trained as the run was: its stack, weights on the way (S, P), losses (S,)."""
    fresh = build(run.rung, run.task.name, run.config["model"], run.spec.width, run.loss, run.config["seed"])
    stack = Stack.of([fresh])
    way = [stack.flat.detach()[0].double().clone()]
    losses = [run.task.evaluate(stack, arrays).item()]

    def keep(record: dict[str, Any]) -> None:
        way.append(stack.flat.detach()[0].double().clone())
        losses.append(run.task.evaluate(stack, arrays).item())

    stored = {
        **run.config["train"],
        "budget_steps": steps,
        "budget_seconds": 0.0,
        "epochs": 0,
        "precision": "fp32",
    }
    config = TrainConfig(
        **{**stored, "log_every": max(1, steps // 50), "patience": 0, "log_gradients": False}
    )
    train(stack, run.task, arrays, {}, config, watchers=[keep])
    return stack, torch.stack(way), np.array(losses)


def _around(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    margin = MARGIN * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, PLANE_GRID)


def _losses(
    stack: Stack,
    run: Run,
    arrays: dict[str, Tensor],
    end: Tensor,
    plane: Tensor,
    across: np.ndarray,
    y: float,
) -> np.ndarray:
    """The loss (G,) of G networks at once, moved from `end` by `across` one way and y the other way."""
    row = Stack.of([copy.deepcopy(stack.models[0]) for _ in across])
    with torch.no_grad():
        row.flat.copy_(end + torch.from_numpy(across)[:, None] * plane[0] + y * plane[1])
    return run.task.evaluate(row, arrays).numpy()
