"""Flexibility: 1, 3, 10, 100 hidden units on the same data; more units bend more (Prince 2023, ch. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sadari.errors import SadariError
from sadari.inspection.pieces import BELOW, pieces_along
from sadari.inspection.rows import find_column, sample, strongest
from sadari.inspection.view import View, say
from sadari.layers.stack import Stack
from sadari.losses import make_loss
from sadari.models.shallow import Shallow, ShallowConfig
from sadari.tasks import TableTask
from sadari.train import TrainConfig, train

if TYPE_CHECKING:
    from sadari.runs import Run

STARTS = 4  # networks of each width, from different seeds; the one that fits the training rows best is shown
STEPS = 2000
BATCH = 256
RATE = 0.01
POINTS = 201
ROWS = 1000

TEXTS = {
    "pieces": (
        "{units} hidden units along {feature}: {pieces} straight pieces",
        "{feature} 위의 은닉 유닛 {units}개: 곧은 조각 {pieces}개",
    ),
    "smooth": (
        "{units} hidden units along {feature}: training loss {losses}",
        "{feature} 위의 은닉 유닛 {units}개: 훈련 손실 {losses}",
    ),
    "caption": (
        "Shallow networks that see only {feature}, trained alike on {rows} training rows ({starts} starts "
        "each, {steps} steps, the best kept). {data}",
        "{feature} 하나만 보는 얕은 신경망을 훈련 데이터 {rows}행에 똑같이 학습(출발점 {starts}개씩, "
        "{steps}걸음, 가장 좋은 것). {data}",
    ),
    "dots": ("Dots: those rows.", "점: 그 행들."),
    "bins": (
        "Dots: the share of {of} in groups of equal size.",
        "점: 같은 크기로 나눈 묶음마다의 {of} 비율.",
    ),
    "stop": (
        "Training loss goes {train} as units grow: more units, more flexible. On {rows} validation rows it "
        "goes {validation}: {best} does best, and what bends beyond that follows chance.",
        "유닛이 늘수록 훈련 손실은 {train}: 유닛이 많을수록 유연합니다. 검증 데이터 {rows}행에서는 "
        "{validation}: {best}개일 때가 가장 좋고, 그보다 더 휘는 것은 우연을 따라간 것입니다.",
    ),
    "go on": (
        "Training loss goes {train} as units grow: more units, more flexible. On {rows} validation rows it "
        "goes {validation}: the most flexible still does best, so the bends are real.",
        "유닛이 늘수록 훈련 손실은 {train}: 유닛이 많을수록 유연합니다. 검증 데이터 {rows}행에서는 "
        "{validation}: 가장 유연한 것이 여전히 가장 좋으니 휘어짐은 진짜입니다.",
    ),
    "prediction": ("predicted {target}", "{target} 예측"),
    "probability": ("probability of {of}", "{of} 확률"),
    "units": ("hidden units", "은닉 유닛"),
    "loss": ("training loss", "훈련 손실"),
    "checked": ("validation loss", "검증 손실"),
    "straight": ("straight pieces", "곧은 조각"),
}


def flexibility(
    run: Run,
    *,
    feature: str | None = None,
    of: str | None = None,
    units: Sequence[int] = (1, 3, 10, 100),
    steps: int = STEPS,
) -> View:
    """Train W shallow networks on one number of the run's data, alike but for their width.

    units (W,), x (G,), y (W, G): predictions in the target's units or probabilities of class `of`;
    train_loss, validation_loss (W,): mean losses; pieces (W,): straight pieces over the whole line, where the
    activation has such; data_x, data_y (N,); for classes also bin_x, bin_y.
    Raises SadariError for a feature that is no number, an unknown class, or widths below 1.
    """
    if not units or min(units) < 1 or steps < 1:
        raise SadariError(
            f"--units {' '.join(map(str, units))} with {steps} steps: each width and the steps must be 1 or "
            f"more"
        )
    rows, checks = sample(run, limit=ROWS), sample(run, "validation", limit=ROWS)
    name = feature or strongest(run, rows, kinds=("number",))[0]
    column = find_column(run.spec, name)
    if column.kind != "number":
        raise SadariError(
            f"flexibility needs a feature that is a number, {name} is a {column.kind}; choose another "
            f"--feature"
        )
    place = run.spec.feature_names.index(name)
    task, chosen = _task(run, of)
    model: Any = run.model
    activation = model.config.activation
    parts = [_alone(part.features[:, place], part.targets, chosen) for part in (rows, checks)]
    inside = np.quantile(rows.features[:, place], [0.0, 1.0])
    grid = torch.linspace(float(inside[0]), float(inside[1]), POINTS)[:, None]  # (G, 1)
    curves, losses, pieces = [], [], []
    for width in units:
        network, found = _fit(width, activation, task, parts, steps)
        losses.append(found)
        with torch.no_grad():
            predicted = task.loss.predict(network(grid)).numpy()
        curves.append(
            run.spec.decode_target(predicted) if chosen is None else predicted[:, 1].astype(np.float64)
        )
        if activation in BELOW:
            pieces.append(pieces_along(network, np.zeros(1), np.ones(1)).count)
    fitted, checked = np.array(losses).T
    data_x = rows.features[:, place].astype(np.float64) * column.scale + column.center
    data_y = rows.values if chosen is None else (rows.targets == chosen).astype(np.float64)
    arrays = {
        "units": np.array(units),
        "x": grid[:, 0].double().numpy() * column.scale + column.center,
        "y": np.stack(curves),
        "train_loss": fitted,
        "validation_loss": checked,
        **({"pieces": np.array(pieces)} if pieces else {}),
        "data_x": data_x,
        "data_y": data_y,
    }
    what, data = say(TEXTS, "prediction", target=run.spec.target), say(TEXTS, "dots")
    if chosen is not None:
        label = run.spec.classes[chosen]  # type: ignore[index]
        what, data = say(TEXTS, "probability", of=label), say(TEXTS, "bins", of=label)
        order = np.array_split(np.argsort(data_x, kind="stable"), min(12, max(1, len(data_x) // 5)))
        arrays["bin_x"] = np.array([np.median(data_x[group]) for group in order])
        arrays["bin_y"] = np.array([data_y[group].mean() for group in order])
    best = int(checked.argmin())
    values = {
        "feature": name,
        "rows": len(data_x),
        "starts": STARTS,
        "steps": steps,
        "data": data,
        "best": units[best],
        "units": _list(units),
        "pieces": _list(pieces),
        "losses": _arrows(fitted),
    }
    see = say(
        TEXTS,
        "go on" if best == len(units) - 1 else "stop",
        train=_arrows(fitted),
        validation=_arrows(checked),
        best=units[best],
        rows=len(checks.targets),
    )
    facts = {
        "feature": name,
        "activation": activation,
        "best": units[best],
        "target": run.spec.target,
        "of": None if chosen is None else label,
    }
    labels = {
        "units": TEXTS["units"],
        "x": (name, name),
        "y": what,
        "train_loss": TEXTS["loss"],
        "validation_loss": TEXTS["checked"],
        "pieces": TEXTS["straight"],
        "data_x": (name, name),
        "data_y": (run.spec.target, run.spec.target),
    }
    title = say(TEXTS, "pieces" if pieces else "smooth", **values)
    return View("flexibility", title, say(TEXTS, "caption", **values), see, arrays, facts, labels)


def _task(run: Run, of: str | None) -> tuple[TableTask, int | None]:
    """The run's own task; for classes, one class against the rest, so that there is one curve to look at."""
    classes = run.spec.classes
    if classes is None:
        return run.task, None
    if of is not None and of not in classes:
        raise SadariError(f"--of {of!r} is no class of {run.spec.target}; classes: {', '.join(classes[:10])}")
    return TableTask("classify", make_loss("binary", classes=2)), classes.index(of) if of else len(
        classes
    ) - 1


def _alone(feature: np.ndarray, targets: np.ndarray, chosen: int | None) -> dict[str, torch.Tensor]:
    """Rows that show one feature, (N, 1), and the target or whether it is the chosen class."""
    wanted = targets if chosen is None else (targets == chosen).astype(np.int64)
    return {
        "features": torch.from_numpy(np.ascontiguousarray(feature[:, None])),
        "targets": torch.from_numpy(wanted),
    }


def _fit(
    width: int, activation: str, task: TableTask, parts: list[dict[str, torch.Tensor]], steps: int
) -> tuple[Any, tuple[float, float]]:
    """The best of several starts on the training rows, with its training and validation loss."""
    config = ShallowConfig(width=width, activation=activation)
    networks = []
    with torch.random.fork_rng(devices=[]):
        for seed in range(STARTS):
            torch.manual_seed(seed)
            networks.append(Shallow(config, 1, task.loss.outputs))
    stack = Stack.of(networks)
    training = TrainConfig(
        learning_rate=RATE,
        batch_size=BATCH,
        budget_steps=steps,
        weight_decay=0.0,
        patience=0,
        log_every=steps,
        precision="fp32",
    )
    train(stack, task, parts[0], {}, training)
    fitted, checked = (task.evaluate(stack, part) for part in parts)
    best = int(fitted.argmin())
    return stack.unstack()[best].eval(), (float(fitted[best]), float(checked[best]))


def _list(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _arrows(values: np.ndarray) -> str:
    return " → ".join(f"{value:.3g}" for value in values)
