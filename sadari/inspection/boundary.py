"""Boundary: where the answer changes over two features, the data over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.errors import SadariError
from sadari.inspection.rows import Part, find_column, readable, sample, strongest, typical, vary
from sadari.inspection.view import View, say

if TYPE_CHECKING:
    from sadari.runs import Run

GRID = 100
SHOWN = 400  # points over it; more would hide it
MARGIN = 0.04  # of the range, so that no point sits on the frame

TEXTS = {
    "title": (
        "{rung}: over {one} and {other} it answers {answers}",
        "{rung}: {one}, {other} 위에서 내는 답은 {answers}",
    ),
    "single": (
        "{rung}: over {one} and {other} it always answers {answer}",
        "{rung}: {one}, {other} 어디서나 답은 {answer}",
    ),
    "caption": (
        "Colour: the answer, paler where it is less sure; {rest}. Points: {rows} {part} rows in the colour of their true class.",
        "색: 모델의 답, 덜 확신할수록 옅다. {rest}. 점: {part} 데이터 {rows}행, 색은 실제 클래스.",
    ),
    "others": (
        "the other {others} features at their median or most frequent value",
        "나머지 특성 {others}개는 중앙값이나 최빈값",
    ),
    "both": ("the run uses no other features", "다른 특성은 없다"),
    "see": (
        "With only these two features let go, {slice} of the points lie on their own colour; with all features the model gets {full} of them right. "
        "The edge between the colours {shape}.",
        "두 특성만 움직이면 점의 {slice}가 제 색 위에 놓이고, 모든 특성을 쓰면 모델은 {full}를 맞힌다. 색의 경계는 {shape}.",
    ),
    "straight": (
        "is straight: a weighted sum of features can draw no other",
        "곧다. 특성의 가중합이 그을 수 있는 것은 곧은 선뿐이다",
    ),
    "bent": ("bends, which no weighted sum of features could do", "휜다. 특성의 가중합만으로는 할 수 없는 일이다"),
    "none": ("is missing: nothing here changes the answer", "없다. 여기서는 무엇도 답을 바꾸지 못한다"),
    "train": ("training", "학습"),
    "validation": ("validation", "검증"),
    "test": ("test", "시험"),
}


def boundary(run: Run, *, features: tuple[str, str] | None = None, part: Part = "train") -> View:
    """The answer over a grid of two number features, else the two that move the answer most; the others typical.

    x, y (G,): the features in their own units; winner (G, G) int64: the answer at (y, x); sure (G, G): its probability;
    data_x, data_y (N,), data_class (N,): rows. facts["areas"]: each class's share of the picture.
    Raises SadariError when a feature is no number of this run.
    """
    rows = sample(run, part)
    names = list(features or strongest(run, rows, 2, kinds=("number",)))
    columns = [find_column(run.spec, name) for name in names]
    if len(names) != 2 or names[0] == names[1] or any(column.kind != "number" for column in columns):
        raise SadariError(f"boundary needs two different features that are numbers, not {' and '.join(names)}; give --features A B")
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
    answers = ", ".join(f"{classes[k]} {areas[k]:.0%}" for k in np.argsort(-areas, kind="stable") if areas[k] > 0)
    straight = run.rung == "logistic" and len(classes) == 2
    shape = "none" if areas.max() == 1 else "straight" if run.rung == "logistic" else "bent"
    others = len(run.spec.columns) - 2
    facts: dict[str, Any] = {
        "rung": run.rung,
        "features": names,
        "classes": list(classes),
        "areas": dict(zip(classes, areas.tolist(), strict=True)),
        "right_here": float((own == true).mean()),
        "right_with_all": float((full == true).mean()),
        "straight": straight,
        "still": still,
        "part": part,
    }
    key = "single" if areas.max() == 1 else "title"
    return View(
        "boundary",
        say(TEXTS, key, rung=run.rung, one=names[0], other=names[1], answers=answers, answer=classes[int(areas.argmax())]),
        say(
            TEXTS,
            "caption",
            rest=say(TEXTS, "others", others=others) if others else say(TEXTS, "both"),
            rows=len(shown),
            part=tuple(TEXTS[part]),
        ),
        say(
            TEXTS,
            "see",
            slice=f"{facts['right_here']:.0%}",
            full=f"{facts['right_with_all']:.0%}",
            shape=say(TEXTS, shape),
        ),
        {
            "x": axes[0],
            "y": axes[1],
            "winner": winner.astype(np.int64),
            "sure": probability.max(1).reshape(GRID, GRID).astype(np.float64),
            "data_x": points[0][shown],
            "data_y": points[1][shown],
            "data_class": true[shown].astype(np.int64),
        },
        facts,
        {"x": (names[0], names[0]), "y": (names[1], names[1]), "data_x": (names[0], names[0]), "data_y": (names[1], names[1])},
    )


def _padded(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = MARGIN * (high - low) or 0.5
    return low - margin, high + margin
