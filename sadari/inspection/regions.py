"""Regions: the straight pieces of a relu network along a feature or between two rows, counted exactly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.errors import SadariError
from sadari.inspection.pieces import pieces_along
from sadari.inspection.rows import Rows, find_column, sample, strongest, typical, vary
from sadari.inspection.view import Said, View, say

if TYPE_CHECKING:
    from sadari.runs import Run

TEXTS = {
    "title": (
        "{rung}: {pieces} straight pieces along {line}, at most {bound} possible",
        "{rung}: {line} 위에 곧은 조각 {pieces}개, 가능한 최대는 {bound}개",
    ),
    "caption": (
        "The network's {output} along {line}, {rest}. It changes direction at {breaks} places only; "
        "{inside} of its pieces touch the range of the data, which is drawn.",
        "{line} 위의 신경망 {output}, {rest}. 방향은 {breaks}곳에서만 바뀌고, 그림에 보이는 데이터 범위에는 "
        "조각 {inside}개가 걸칩니다.",
    ),
    "others": (
        "the other features at their median or most frequent value",
        "나머지 특성은 중앙값이나 최빈값",
    ),
    "alone": ("its only feature", "유일한 특성"),
    "between": (
        "from row {one} (0) to row {other} (1) and beyond",
        "{one}행(0)에서 {other}행(1)을 지나는 직선",
    ),
    "shallow": (
        "Each of the {units} hidden units bends once, where its own line crosses zero, so at most {units} + "
        "1 pieces. Here {unused}.",
        "은닉 유닛 {units}개가 저마다 자기 직선이 0을 지나는 곳에서 한 번씩 꺾이므로 최대 {units} + "
        "1조각입니다. 여기서는 {unused}.",
    ),
    "deep": (
        "{layers} layers of {width} units: each layer folds what the one below hands up, so up to ({width} "
        "+ 1)^{layers} pieces, where one layer of all {units} units could make {flat}. Training has used "
        "{pieces}.",
        "유닛 {width}개짜리 {layers}층: 층마다 아래층을 다시 접어 최대 ({width} + 1)^{layers}조각이 "
        "가능합니다. 유닛 {units}개를 한 층에 모으면 최대 {flat}조각입니다. 학습이 실제로 쓴 것은 "
        "{pieces}조각입니다.",
    ),
    "all bend": ("every unit bends", "모든 유닛이 꺾입니다"),
    "idle": (
        "{count} of them bend nothing on this line",
        "그중 {count}개는 이 직선에서 아무것도 꺾지 않습니다",
    ),
    "row line": ("the line from row {one} to row {other}", "{one}행에서 {other}행으로 가는 직선"),
    "share": ("share of the way from row {one} to row {other}", "{one}행에서 {other}행까지 간 비율"),
    "prediction": ("predicted {target}", "{target} 예측"),
    "logit": ("log-odds of {of}", "{of} 로그 오즈"),
    "score": ("score of {of}", "{of} 점수"),
    "output": ("output", "출력"),
}


def regions(
    run: Run, *, feature: str | None = None, between: tuple[int, int] | None = None, of: str | None = None
) -> View:
    """All linear pieces along a whole line: `feature` with the others typical, or through rows `between`.

    breaks (M - 1,): where the network bends, in the feature's units or as a share of the way between the two
    rows; slopes (M,): the output's slope on each piece; x, y: the corners of the drawn part, exact and not
    sampled; data_x (N,): where the training rows lie on a feature. Pieces are those of the whole output, all
    classes together.
    Raises SadariError for a curved activation, a column that is no number, or rows that are not there.
    """
    rows = sample(run)
    if between is not None:
        start, step, line, axis, rest = _through(run, between)
        at, scale, low, high, data_x = 0.0, 1.0, -0.5, 1.5, np.array([])
    else:
        name = feature or strongest(run, rows, kinds=("number",))[0]
        column = find_column(run.spec, name)
        if column.kind != "number":
            raise SadariError(
                f"regions needs a feature that is a number, {name} is a {column.kind}; choose another "
                f"--feature"
            )
        start, step = _along(run, rows, name, column.center)
        at, scale = column.center, column.scale
        place = run.spec.feature_names.index(name)
        data_x = rows.features[:, place].astype(np.float64) * scale + at
        low, high = ((edge - at) / scale for edge in (data_x.min(), data_x.max()))
        line, axis = (name, name), (name, name)
        rest = say(TEXTS, "others" if len(run.spec.columns) > 1 else "alone")
    found = pieces_along(run.model, start, step)
    model: Any = run.model
    output, label, own = _output(run, of)
    inside = found.breaks[(found.breaks > low) & (found.breaks < high)]
    corners = np.concatenate([[low], inside, [high]])
    width, layers = model.config.width, len(model.hidden)
    digits = layers * math.log10(width + 1)  # a product of a hundred layers is no number to print
    idle = width + 1 - found.count
    facts = {
        "rung": run.rung,
        "pieces": found.count,
        "patterns": found.patterns,
        "bound_log10": digits,
        "width": width,
        "layers": layers,
        "inside": len(inside) + 1,
        "line": line[0],
    }
    values = {
        "rung": run.rung,
        "pieces": found.count,
        "bound": _large(digits),
        "line": line,
        "output": label,
        "rest": rest,
        "breaks": len(found.breaks),
        "inside": len(inside) + 1,
        "units": width * layers,
        "width": width,
        "layers": layers,
        "flat": width * layers + 1,
        "unused": say(TEXTS, "idle", count=idle) if idle else say(TEXTS, "all bend"),
    }
    arrays = {
        "breaks": found.breaks * scale + at,
        "slopes": found.slope[:, output] * own[0] / scale,
        "x": corners * scale + at,
        "y": found(corners)[:, output] * own[0] + own[1],
        "data_x": data_x,
    }
    labels = {"x": axis, "y": label, "breaks": axis, "data_x": axis}
    see = say(TEXTS, "shallow" if layers == 1 else "deep", **values)
    return View(
        "regions", say(TEXTS, "title", **values), say(TEXTS, "caption", **values), see, arrays, facts, labels
    )


def _along(run: Run, rows: Rows, name: str, center: float) -> tuple[np.ndarray, np.ndarray]:
    """Start (C,) at the mean of the feature, the others typical; a step is one standard deviation."""
    still = typical(run.spec, rows)
    start = vary(run.spec, still, {name: np.array([center])})[0].astype(np.float64)
    step = np.zeros(len(start))
    step[run.spec.feature_names.index(name)] = 1.0
    return start, step


def _through(run: Run, between: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, Said, Said, Said]:
    """The line through two rows of the table, counted from 1: row one at t = 0, the other at t = 1."""
    one, other = between
    table = run.data().table
    for row in between:
        if not 1 <= row <= table.rows:
            raise SadariError(f"--between row {row} is not in the table; rows go from 1 to {table.rows:,}")
    ends = [run.spec.encode(table.frame.slice(row - 1, 1).collect())[0].astype(np.float64) for row in between]
    step = ends[1] - ends[0]
    if not step.any():
        raise SadariError(
            f"rows {one} and {other} are the same to the model, so no line goes through them; choose two "
            f"others"
        )
    line, axis = say(TEXTS, "row line", one=one, other=other), say(TEXTS, "share", one=one, other=other)
    return ends[0], step, line, axis, say(TEXTS, "between", one=one, other=other)


def _output(run: Run, of: str | None) -> tuple[int, Said, tuple[float, float]]:
    """Which output is drawn, its name, and (factor, shift) to its own units."""
    spec = run.spec
    if spec.classes is None:
        if run.loss.name in ("squared", "absolute", "huber", "gaussian") and not spec.log_target:
            return 0, say(TEXTS, "prediction", target=spec.target), (spec.target_scale, spec.target_center)
        return 0, say(TEXTS, "output"), (1.0, 0.0)
    if of is not None and of not in spec.classes:
        raise SadariError(
            f"--of {of!r} is no class of {spec.target}; classes: {', '.join(spec.classes[:10])}"
        )
    if run.loss.outputs == 1:
        sign = -1.0 if of == spec.classes[0] else 1.0
        return 0, say(TEXTS, "logit", of=of or spec.classes[1]), (sign, 0.0)
    chosen = spec.classes.index(of) if of is not None else 0
    return chosen, say(TEXTS, "score", of=spec.classes[chosen]), (1.0, 0.0)


def _large(digits: float) -> str:
    """10^digits as people read it: 101, 10,201, 1.04 × 10^8."""
    if digits < 7:
        return f"{round(10**digits):,}"
    return f"{10 ** (digits % 1):.3g} × 10^{int(digits)}"
