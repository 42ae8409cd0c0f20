"""Curve: the prediction along one feature, each rung over the data (partial dependence: Friedman 2001, section 8.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.errors import SadariError
from sadari.inspection.calibration import wilson
from sadari.inspection.rows import Part, Rows, find_column, readable, sample, spread, strongest, typical, vary
from sadari.inspection.view import Said, View, say
from sadari.metrics import number

if TYPE_CHECKING:
    from sadari.data.columns import ColumnSpec
    from sadari.data.spec import TableSpec
    from sadari.runs import Run

POINTS = 101
AVERAGED = 200  # rows that the partial dependence is averaged over
BINS = 12

TEXTS = {
    "flat": (
        "{rung} gives {low} whatever {feature} is",
        "{rung} 단의 답은 {feature} 값과 상관없이 {low}",
    ),
    "one": (
        "{rung}: as {feature} goes from {start} to {end}, the {what} goes from {first} to {last}",
        "{rung}: {feature} 값이 {start}에서 {end}까지 갈 때 {what} {first} → {last}",
    ),
    "one category": (
        "{rung}: the {what} is highest for {feature} {top} ({high}) and lowest for {bottom} ({low})",
        "{rung}: {what} 최고는 {feature} {top} ({high}), 최저는 {bottom} ({low})",
    ),
    "several": (
        "Along {feature}, {one} and {other} part by up to {gap} (at {place})",
        "{feature} 값을 따라가면 {one}, {other} 두 단이 최대 {gap} 벌어진다 ({place}에서)",
    ),
    "together": (
        "Along {feature}, all rungs give the same curve",
        "{feature} 값을 따라가면 모든 단의 곡선이 같다",
    ),
    "caption": (
        "Lines: the {what} with the other {others} features at their median or most frequent value. {average}{data}",
        "선: 나머지 특성 {others}개를 중앙값이나 최빈값에 둔 {what}. {average}{data}",
    ),
    "average": (
        "Dashed: the average over {rows} rows, each with its own other features. ",
        "점선: 나머지 특성이 저마다 다른 {rows}행의 평균. ",
    ),
    "dots": ("Dots: {rows} {part} rows.", "점: {part} 데이터 {rows}행."),
    "bins": (
        "Dots: the share of {of} among {part} rows, by {bins} groups of equal size, with 95 % intervals.",
        "점: {part} 데이터를 같은 크기의 {bins}묶음으로 나눈 {of} 비율과 95% 구간.",
    ),
    "bend": (
        "How far each curve bends away from a straight line: {bends}. A line cannot bend; what bends, a taller rung has learnt.",
        "곡선이 직선에서 벗어난 정도: {bends}. 직선은 휘지 못하니, 휜 만큼이 더 높은 단이 배운 것이다.",
    ),
    "steps": (
        "Each bar is one value of {feature}; between the highest and the lowest lie {gap}.",
        "막대 하나가 {feature} 값 하나이고, 가장 높은 값과 낮은 값의 차이는 {gap}.",
    ),
    "prediction": ("predicted {target}", "{target} 예측"),
    "probability": ("probability of {of}", "{of} 확률"),
    "train": ("training", "학습"),
    "validation": ("validation", "검증"),
    "test": ("test", "시험"),
}


def curve(
    runs: Sequence[Run], *, feature: str | None = None, of: str | None = None, part: Part = "train"
) -> View:
    """The prediction of R runs along `feature` (else the one that the last run answers to most).

    x (G,): the feature in its own units, or its categories; typical (R, G): the prediction in the target's units or the
    probability of class `of`, the other features still at their median or most frequent value; average (R, G): the mean
    over rows that keep their own other features; data_x, data_y (N,): the rows, y 0 or 1 for classes; for classes over
    a number also bin_x, bin_y, bin_low, bin_high, bin_rows.
    Raises SadariError for an unknown feature or class, or runs that predict different columns.
    """
    last = runs[-1]
    if any(run.spec.target != last.spec.target for run in runs):
        raise SadariError("these runs predict different targets; look into runs of one climb")
    rows = sample(last, part)
    name = feature or strongest(last, rows)[0]
    column = find_column(last.spec, name)
    x = spread(column, rows, POINTS)
    still = typical(last.spec, rows)
    chosen = _class(runs, of, [vary(run.spec, still, {name: x}) for run in runs])
    shown = [(lambda f, run=run: _shown(run, f, chosen)) for run in runs]
    curves = np.stack([show(vary(run.spec, still, {name: x})) for run, show in zip(runs, shown, strict=True)])
    average = np.stack([_average(run, show, rows, still, column, x) for run, show in zip(runs, shown, strict=True)])
    seen = readable(column, rows.frame)
    known = seen.is_not_null().to_numpy() & np.isin(seen.to_numpy(), x if column.kind == "category" else seen.to_numpy())
    y = rows.values if chosen is None else (rows.targets == chosen)
    data_x, data_y = seen.to_numpy()[known], y[known].astype(np.float64)
    data_x = data_x.astype(str) if column.kind == "category" else data_x.astype(np.float64)
    arrays = {"x": x, "typical": curves, "average": average, "data_x": data_x, "data_y": data_y}
    if chosen is not None and column.kind != "category":
        arrays |= _bins(data_x, data_y)
    what = _what(last.spec, chosen)
    facts = {
        "feature": name,
        "kind": column.kind,
        "target": last.spec.target,
        "of": None if chosen is None else last.spec.classes[chosen],  # type: ignore[index]
        "rungs": [run.rung for run in runs],
        "still": still,
        "part": part,
        "bends": _bends(x, curves) if column.kind != "category" else [],
    }
    labels = {
        "x": (name, name),
        "typical": what,
        "average": say(TEXTS, "average", rows=min(AVERAGED, len(rows.numbers))),
        "data_x": (name, name),
        "data_y": (last.spec.target, last.spec.target),
    }
    title, see = _words(arrays, facts, what)
    return View("curve", title, _caption(runs, rows, arrays, facts, what), see, arrays, facts, labels)


def _shown(run: Run, features: np.ndarray, chosen: int | None) -> np.ndarray:
    """The one number that the curve shows for encoded rows (N, C)."""
    predicted = run.predictions(features)
    return predicted.astype(np.float64) if chosen is None else predicted[:, chosen].astype(np.float64)


def _class(runs: Sequence[Run], of: str | None, grids: list[np.ndarray]) -> int | None:
    """The class to follow: the one asked for, the second of two, or the one whose probability moves most."""
    classes = runs[-1].spec.classes
    if classes is None:
        if of is not None:
            raise SadariError(f"--of {of} names a class, but these runs predict a number; leave it out")
        return None
    if of is not None:
        if of not in classes:
            raise SadariError(f"--of {of!r} is no class of {runs[-1].spec.target}; classes: {', '.join(classes[:10])}")
        return classes.index(of)
    if len(classes) == 2:
        return 1
    return int(np.ptp(runs[-1].predictions(grids[-1]), axis=0).argmax())


def _what(spec: TableSpec, chosen: int | None) -> Said:
    if chosen is None:
        return say(TEXTS, "prediction", target=spec.target)
    return say(TEXTS, "probability", of=spec.classes[chosen])  # type: ignore[index]


def _average(run: Run, show: Any, rows: Rows, still: dict[str, float | str], column: ColumnSpec, x: np.ndarray) -> np.ndarray:
    """Partial dependence (G,): every sampled row put at each value in turn, and the predictions averaged."""
    start = 0
    for other in run.spec.columns:
        if other.name == column.name:
            break
        start += len(other.features)
    block = slice(start, start + len(column.features))
    moved = vary(run.spec, still, {column.name: x})[:, block]  # (G, features of the column)
    own = run.spec.encode(rows.frame[np.linspace(0, len(rows.numbers) - 1, min(AVERAGED, len(rows.numbers))).astype(int)])
    out = np.empty(len(x))
    for i, values in enumerate(moved):
        own[:, block] = values
        out[i] = show(own).mean()
    return out


def _bins(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Shares of a class in groups of (nearly) equal size along x, with Wilson's 95 % interval."""
    order = np.argsort(x, kind="stable")
    groups = [group for group in np.array_split(order, min(BINS, max(1, len(x) // 5))) if len(group)]
    shares = np.array([y[group].mean() for group in groups])
    sizes = np.array([len(group) for group in groups])
    low, high = wilson(shares, sizes)
    return {
        "bin_x": np.array([np.median(x[group]) for group in groups]),
        "bin_y": shares,
        "bin_low": low,
        "bin_high": high,
        "bin_rows": sizes,
    }


def _bends(x: np.ndarray, curves: np.ndarray) -> list[float]:
    """For each curve, its largest distance from the straight line that fits it best."""
    design = np.stack([x - x.mean(), np.ones(len(x))], axis=1)
    fitted = design @ np.linalg.lstsq(design, curves.T, rcond=None)[0]
    return [float(gap) for gap in np.abs(curves.T - fitted).max(0)]


def _words(arrays: dict[str, np.ndarray], facts: dict[str, Any], what: Said) -> tuple[Said, Said]:
    x, curves, rungs, feature = arrays["x"], arrays["typical"], facts["rungs"], facts["feature"]
    shown = curves[-1]
    gap = float(np.ptp(shown))
    tiny = 1e-5 * (np.abs(curves).max() + 1e-12)  # below this float32 rounds
    values: dict[str, Any] = {"rung": rungs[-1], "feature": feature, "what": what, "low": float(shown.min()), "high": float(shown.max())}
    if len(rungs) > 1:
        apart = np.ptp(curves, axis=0)
        place = int(apart.argmax())
        pair = sorted((int(curves[:, place].argmin()), int(curves[:, place].argmax())))
        key = "several" if apart.max() > tiny else "together"
        one, other = rungs[pair[0]], rungs[pair[1]]
        title = say(TEXTS, key, feature=feature, one=one, other=other, gap=float(apart.max()), place=x[place].item())
    elif gap <= tiny:
        title = say(TEXTS, "flat", **values)
    elif facts["kind"] == "category":
        title = say(TEXTS, "one category", top=str(x[shown.argmax()]), bottom=str(x[shown.argmin()]), **values)
    else:
        title = say(TEXTS, "one", start=float(x[0]), end=float(x[-1]), first=float(shown[0]), last=float(shown[-1]), **values)
    if facts["kind"] == "category":
        return title, say(TEXTS, "steps", feature=feature, gap=gap)
    bends = ", ".join(f"{rung} {_short(bend, tiny)}" for rung, bend in zip(rungs, facts["bends"], strict=True))
    return title, say(TEXTS, "bend", bends=bends)


def _short(bend: float, tiny: float) -> str:
    return "0" if bend <= tiny else number(bend)


def _caption(runs: Sequence[Run], rows: Rows, arrays: dict[str, np.ndarray], facts: dict[str, Any], what: Said) -> Said:
    part = say(TEXTS, facts["part"])
    average: Said = ("", "")
    if len(runs) == 1:
        average = say(TEXTS, "average", rows=min(AVERAGED, len(rows.numbers)))
    if "bin_x" in arrays:
        data = say(TEXTS, "bins", of=facts["of"], part=part, bins=len(arrays["bin_x"]))
    elif facts["of"] is None:
        data = say(TEXTS, "dots", rows=len(arrays["data_x"]), part=part)
    else:
        data = ("", "")
    return say(TEXTS, "caption", what=what, others=len(runs[-1].spec.columns) - 1, average=average, data=data)
