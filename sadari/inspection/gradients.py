"""Gradients: how much reaches each layer, in plain deep networks and with direct connections, by depth.

(Glorot & Bengio 2010 for the vanishing; He et al. 2015, 1512.03385, for the way out.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sadari.errors import SadariError
from sadari.inspection.rows import sample
from sadari.inspection.view import View, say
from sadari.layers.activations import find_activation
from sadari.layers.stack import Stack
from sadari.tasks import build
from sadari.train import TrainConfig, train

if TYPE_CHECKING:
    from sadari.runs import Run

KINDS = ("deep", "deep-skip")
SEEDS = 5  # networks of each kind and depth; norms are their geometric mean
STEPS = 100
WIDTH = 32
ROWS = 1024
BATCH = 64

TEXTS = {
    "title": (
        "At {depth} layers, the first layer's gradient is {plain} in a plain network and {skip} with direct "
        "connections",
        "{depth}층에서 첫 층에 닿는 기울기: 평범한 망 {plain}, 직접 연결이 있는 망 {skip}",
    ),
    "caption": (
        "Norm of the loss's gradient in each hidden layer, layer 1 nearest the input; {activation} networks "
        "of {width} units a layer, geometric mean of {seeds} first weights, on this run's data. Each line "
        "is one depth.",
        "은닉층마다 손실 기울기의 크기, 1층이 입력 쪽. 층마다 유닛 {width}개인 {activation} 신경망, 처음 "
        "가중치 {seeds}가지의 기하평균, 이 실행의 데이터. 선 하나가 깊이 하나.",
    ),
    "see": (
        "From {few} to {depth} layers the first layer's gradient changes by a factor of {plain} in plain "
        "networks and of {skip} with direct connections. After {steps} steps at {depth} layers the training "
        "loss went from {start} to {plain_loss} and {skip_loss}.",
        "{few}층에서 {depth}층으로 갈 때 첫 층의 기울기는 평범한 망에서 {plain}배, 직접 연결이 있으면 "
        "{skip}배가 됩니다. {depth}층에서 {steps}걸음 뒤 훈련 손실은 {start}에서 각각 {plain_loss}, "
        "{skip_loss}입니다.",
    ),
    "layer": ("hidden layer, from the input", "은닉층, 입력 쪽부터"),
    "norm": ("gradient norm", "기울기 크기"),
    "first": ("first step", "첫 걸음"),
    "last": ("step {step}", "{step}걸음째"),
    "plain": ("plain (deep)", "평범한 망 (deep)"),
    "direct": ("direct connections (deep-skip)", "직접 연결 (deep-skip)"),
    "depth": ("layers", "층 수"),
}


def gradients(
    run: Run,
    *,
    depths: Sequence[int] = (2, 5, 10, 20, 50),
    steps: int = STEPS,
    width: int = WIDTH,
    activation: str | None = None,
) -> View:
    """Train deep and deep-skip networks of A `depths` on the run's data and record every layer's gradient.

    depths (A,), steps (S,): the steps recorded, from the first to the last; deep, deep_skip (A, S, L):
    geometric means over the seeds, NaN beyond a network's own depth; deep_loss, deep_skip_loss (A, S): the
    batch losses.
    Raises SadariError for depths below 2, an unknown activation, or no step.
    """
    if not depths or min(depths) < 2 or steps < 2 or width < 1:
        raise SadariError(
            f"--depths {' '.join(map(str, depths))} with {steps} steps: give depths and steps from 2 up, a "
            f"width from 1"
        )
    model: Any = run.model
    bend = activation or model.config.activation
    find_activation(bend)
    depths = sorted(set(depths))
    rows = sample(run, limit=ROWS)
    arrays = {"features": torch.from_numpy(rows.features), "targets": torch.from_numpy(rows.targets)}
    every = max(1, steps // 20)
    recorded = np.array([1, *range(every, steps + 1, every)]) if every > 1 else np.arange(1, steps + 1)
    norms = {kind: np.full((len(depths), len(recorded), depths[-1]), np.nan) for kind in KINDS}
    losses = {kind: np.empty((len(depths), len(recorded))) for kind in KINDS}
    for kind in KINDS:
        for a, depth in enumerate(depths):
            settings = {"width": width, "layers": depth, "activation": bend}
            history = _train(run, kind, settings, arrays, steps)
            for s, step in enumerate(recorded):
                record = history[step - 1]
                layers = np.array([record["gradients"][f"hidden.{i}"] for i in range(depth)])  # (L, seeds)
                norms[kind][a, s, :depth] = _geometric(layers)
                losses[kind][a, s] = np.mean(record["loss"])
    plain, skip = norms["deep"], norms["deep-skip"]
    facts: dict[str, Any] = {
        "activation": bend,
        "width": width,
        "first_layer": {kind: values[:, 0, 0].tolist() for kind, values in norms.items()},
        "last_loss": {kind: values[:, -1].tolist() for kind, values in losses.items()},
    }
    values: dict[str, Any] = {
        "depth": depths[-1],
        "few": depths[0],
        "width": width,
        "seeds": SEEDS,
        "steps": steps,
        "activation": bend,
    }
    title = say(TEXTS, "title", plain=_norm(plain[-1, 0, 0]), skip=_norm(skip[-1, 0, 0]), **values)
    see = say(
        TEXTS,
        "see",
        plain=_factor(plain[-1, 0, 0] / plain[0, 0, 0]),
        skip=_factor(skip[-1, 0, 0] / skip[0, 0, 0]),
        start=float(losses["deep"][-1, 0]),
        plain_loss=float(losses["deep"][-1, -1]),
        skip_loss=float(losses["deep-skip"][-1, -1]),
        **values,
    )
    return View(
        "gradients",
        title,
        say(TEXTS, "caption", **values),
        see,
        {
            "depths": np.array(depths),
            "steps": recorded,
            "deep": plain,
            "deep_skip": skip,
            "deep_loss": losses["deep"],
            "deep_skip_loss": losses["deep-skip"],
        },
        facts,
        {
            "layer": TEXTS["layer"],
            "norm": TEXTS["norm"],
            "first": TEXTS["first"],
            "last": say(TEXTS, "last", step=int(recorded[-1])),
            "deep": TEXTS["plain"],
            "deep_skip": TEXTS["direct"],
            "depths": TEXTS["depth"],
        },
    )


def _train(
    run: Run, kind: str, settings: dict[str, Any], arrays: dict[str, torch.Tensor], steps: int
) -> list[dict[str, Any]]:
    """The log of several seeds trained as one, a record a step."""
    networks = [build(kind, run.task.name, settings, run.spec.width, run.loss, seed) for seed in range(SEEDS)]
    config = TrainConfig(
        batch_size=BATCH,
        budget_steps=steps,
        log_every=1,
        log_gradients=True,
        patience=0,
        schedule="constant",
        precision="fp32",
    )
    return train(Stack.of(networks), run.task, arrays, {}, config).history


def _geometric(norms: np.ndarray) -> np.ndarray:
    """Geometric mean over the last axis; 0 where any is 0, NaN where any is not a number."""
    with np.errstate(divide="ignore"):
        return np.exp(np.log(norms).mean(-1))


def _norm(value: float) -> str:
    return f"{value:.2g}"


def _factor(value: float) -> str:
    return f"{value:.2g}" if value > 0 else "0"
