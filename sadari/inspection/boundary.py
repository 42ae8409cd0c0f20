"""Boundary: where the answer changes over two features, the data over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.errors import SadariError
from sadari.inspection.rows import PARTS, Part, find_column, readable, sample, strongest, typical, vary
from sadari.inspection.view import View, say

if TYPE_CHECKING:
    from sadari.runs import Run

GRID = 151
SHOWN = 400  # points over it; more would hide it
MARGIN = 0.04  # of the range, so that no point sits on the frame

TEXTS = {
    "title": (
        "{rung}: with {one} and {other} alone {slice} of the rows come out right, with all features {full}",
        "{rung}: {one}, {other} 둘만으로 {slice}, 모든 특성으로는 {full} 정답",
    ),
    "caption": (
        "Colour: the answer, paler where it is less sure; {rest}. Points: {rows} {part} rows in the colour "
        "of their true class.",
        "색: 모델의 답, 덜 확신할수록 옅습니다. {rest}. 점: {part} 데이터 {rows}행, 색은 실제 클래스.",
    ),
    "others": (
        "the other features ({others}) at their median or most frequent value",
        "나머지 특성 {others}개는 중앙값이나 최빈값",
    ),
    "both": ("the run uses no other features", "다른 특성은 없습니다"),
    "see": (
        "A point on another's colour needs the features that are held still here. The picture is {answers}, "
        "and the edge between the colours {shape}.",
        "다른 색 위에 놓인 점을 맞히려면 여기서 고정한 특성이 필요합니다. 그림에서 차지하는 넓이는 "
        "{answers}, 색의 경계는 {shape}.",
    ),
    "straight": (
        "is straight: a weighted sum of features can draw no other",
        "곧습니다. 특성의 가중합이 그을 수 있는 것은 곧은 선뿐입니다",
    ),
    "bent": (
        "may bend, which no weighted sum of features could do",
        "휠 수 있습니다. 특성의 가중합만으로는 할 수 없는 일입니다",
    ),
    "none": ("is missing: nothing here changes the answer", "없습니다. 여기서는 무엇도 답을 바꾸지 못합니다"),
}


def boundary(run: Run, *, features: tuple[str, str] | None = None, part: Part = "train") -> View:
    """The answer over a grid of two numbers, else the two that move it most; the other features typical.

    x, y (G,): the features in their own units; winner (G, G) int64: the answer at (y, x); sure (G, G): its
    probability; data_x, data_y (N,), data_class (N,): rows. facts["areas"]: each class's share of the
    picture.
    Raises SadariError when a feature is no number of this run.
    """
    rows = sample(run, part)
    names = list(features or strongest(run, rows, 2, kinds=("number",)))
    columns = [find_column(run.spec, name) for name in names]
    if len(names) != 2 or names[0] == names[1] or any(column.kind != "number" for column in columns):
        raise SadariError(
            f"boundary needs two different features that are numbers, not {' and '.join(names)}; give "
            f"--features A B"
        )
    seen = [readable(column, rows.frame).to_numpy() for column in columns]
    known = np.isfinite(seen[0]) & np.isfinite(seen[1])
    points = [values[known] for values in seen]
    axes = [np.linspace(*_padded(values), GRID) for values in points]
    across, up = np.meshgrid(*axes)  # (G, G), rows go up
    still = typical(run.spec, rows)
    probability = run.predictions(vary(run.spec, still, {names[0]: across.ravel(), names[1]: up.ravel()}))
    winner = probability.argmax(1).reshape(GRID, GRID)
    own = run.predictions(vary(run.spec, still, dict(zip(names, points, strict=True)))).argmax(1)
    full = run.predictions(rows.features[known]).argmax(1)
    true = rows.targets[known]
    classes: tuple[str, ...] = run.spec.classes  # type: ignore[assignment]
    areas = np.bincount(winner.ravel(), minlength=len(classes)) / winner.size
    shown = np.arange(len(true))
    if len(shown) > SHOWN:
        shown = np.sort(np.random.default_rng(0).choice(len(true), SHOWN, replace=False))
    answers = ", ".join(
        f"{classes[k]} {areas[k]:.0%}" for k in np.argsort(-areas, kind="stable") if areas[k] > 0
    )
    shape = "none" if areas.max() == 1 else "straight" if run.rung == "logistic" else "bent"
    others = len(run.spec.columns) - 2
    facts: dict[str, Any] = {
        "rung": run.rung,
        "features": names,
        "classes": list(classes),
        "areas": dict(zip(classes, areas.tolist(), strict=True)),
        "right_here": float((own == true).mean()),
        "right_with_all": float((full == true).mean()),
        "straight": run.rung == "logistic",
        "still": still,
        "part": part,
    }
    shares = {"slice": f"{facts['right_here']:.0%}", "full": f"{facts['right_with_all']:.0%}"}
    return View(
        "boundary",
        say(TEXTS, "title", rung=run.rung, one=names[0], other=names[1], **shares),
        say(
            TEXTS,
            "caption",
            rest=say(TEXTS, "others", others=others) if others else say(TEXTS, "both"),
            rows=len(shown),
            part=PARTS[part],
        ),
        say(TEXTS, "see", answers=answers, shape=say(TEXTS, shape)),
        {
            "x": axes[0],
            "y": axes[1],
            "winner": winner.astype(np.int64),
            "sure": probability.max(1).reshape(GRID, GRID).astype(np.float64).round(3),
            "data_x": points[0][shown],
            "data_y": points[1][shown],
            "data_class": true[shown].astype(np.int64),
        },
        facts,
        {
            "x": (names[0], names[0]),
            "y": (names[1], names[1]),
            "data_x": (names[0], names[0]),
            "data_y": (names[1], names[1]),
        },
    )


def _padded(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = MARGIN * (high - low) or 0.5
    return low - margin, high + margin
