"""Curve: the prediction along one feature, each rung over the data (Friedman 2001, section 8.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.errors import SadariError
from sadari.inspection.calibration import wilson
from sadari.inspection.rows import (
    PARTS,
    Part,
    Rows,
    find_column,
    readable,
    sample,
    spread,
    strongest,
    typical,
    vary,
)
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
        "{rung}: {feature} 값과 상관없이 늘 {low}",
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
        "Along {feature}, {one} and {other} part by up to {gap}, at {feature} {place}",
        "{feature} 값을 따라가면 {one}, {other} 두 단은 {feature} {place}에서 가장 벌어집니다: {gap}",
    ),
    "together": (
        "Along {feature}, all rungs give the same curve",
        "{feature} 값을 따라가면 모든 단의 곡선이 같습니다",
    ),
    "caption": (
        "Lines: the {what}, the other features ({others}) at their median or most frequent value. "
        "{average}{data}",
        "선: 나머지 특성 {others}개를 중앙값이나 최빈값에 둔 {what}. {average}{data}",
    ),
    "caption bars": (
        "Bars: the {what}, the other features ({others}) at their median or most frequent value. Marks: "
        "{part} rows.",
        "막대: 나머지 특성 {others}개를 중앙값이나 최빈값에 둔 {what}. 표시: {part} 데이터.",
    ),
    "average": (
        "Dashed: the average over {rows} rows, each with its own other features. ",
        "점선: 나머지 특성이 저마다 다른 {rows}행의 평균. ",
    ),
    "dots": ("Dots: {rows} {part} rows.", "점: {part} 데이터 {rows}행."),
    "bins": (
        "Dots: the share of {of} in {part} rows, in groups of equal size, with 95% intervals.",
        "점: {part} 데이터를 같은 크기로 묶어 센 {of} 비율과 95% 구간.",
    ),
    "bend": (
        "How far each curve bends away from a straight line: {bends}. A line cannot bend at all; what "
        "bends, a taller rung has learnt. Points lie off the curves because their other features differ too.",
        "곡선이 직선에서 벗어난 정도는 {bends}입니다. 직선은 조금도 휘지 못하니, 휜 만큼이 더 높은 단이 "
        "배운 것입니다. 점이 곡선에서 떨어져 있는 것은 나머지 특성도 저마다 다르기 때문입니다.",
    ),
    "date": (
        "A date is read as a day count and as turns of the year and of the week, so that even a line may "
        "wave along it: {gap} between the highest and the lowest day ({rung}). Points lie off the curves "
        "because their other features differ too.",
        "날짜는 지난 날수와 함께 한 해와 한 주의 바퀴로도 읽으므로 직선 단도 물결칠 수 있습니다. 가장 높은 "
        "날과 낮은 날의 차이는 {gap}입니다({rung}). 점이 곡선에서 떨어져 있는 것은 나머지 특성도 저마다 "
        "다르기 때문입니다.",
    ),
    "steep": (
        "{feature} decides most where the curve is steepest, near {place} ({rung}); where it is flat, other "
        "features decide. The dots move along with everything that changes together with {feature}, the "
        "curve with {feature} alone.",
        "곡선이 가장 가파른 {place} 근처에서 {feature} 값이 가장 크게 작용합니다({rung}). 평평한 곳에서는 "
        "다른 특성이 정합니다. 점에는 {feature} 값과 함께 변하는 모든 것이 들어 있고, 곡선에는 {feature} "
        "하나만 들어 있습니다.",
    ),
    "level": (
        "A level curve has not looked at {feature}. What the dots show along it is there to be learnt by a "
        "taller rung.",
        "평평한 곡선은 {feature} 값을 보지 않았다는 뜻입니다. 점이 보이는 변화는 더 높은 단이 배울 몫입니다.",
    ),
    "steps": (
        "Each bar is one value of {feature}; between the highest and the lowest lie {gap}. The marks show "
        "the data themselves, in which other features differ too.",
        "막대 하나가 {feature} 값 하나이고, 가장 높은 값과 낮은 값의 차이는 {gap}입니다. 표시는 데이터 "
        "자체의 값이며 거기에서는 나머지 특성도 저마다 다릅니다.",
    ),
    "prediction": ("predicted {target}", "{target} 예측"),
    "probability": ("probability of {of}", "{of} 확률"),
}
GROUND = ("mean", "prior")  # level by nature: that the others part from them is no news


def curve(
    runs: Sequence[Run], *, feature: str | None = None, of: str | None = None, part: Part = "train"
) -> View:
    """The prediction of R runs along `feature` (else the one that the last run answers to most).

    x (G,): the feature in its own units, or its categories; typical (R, G): the prediction in the target's
    units or the probability of class `of`, the other features still at their median or most frequent value;
    average (R, G): the mean over rows that keep their own other features; data_x, data_y (N,): the rows, y 0
    or 1 for classes; for classes over a number also bin_x, bin_y, bin_low, bin_high, bin_rows.
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
    average = np.stack(
        [_average(run, show, rows, still, column, x) for run, show in zip(runs, shown, strict=True)]
    )
    seen = readable(column, rows.frame)
    known = seen.is_not_null().to_numpy() & np.isin(
        seen.to_numpy(), x if column.kind == "category" else seen.to_numpy()
    )
    y = rows.values if chosen is None else (rows.targets == chosen)
    data_x, data_y = seen.to_numpy()[known], y[known].astype(np.float64)
    data_x = data_x.astype(str) if column.kind == "category" else data_x.astype(np.float64)
    arrays = {"x": x, "typical": curves, "average": average, "data_x": data_x, "data_y": data_y}
    if chosen is not None and column.kind in ("number", "date"):
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
        "bends": _bends(x, curves) if column.kind == "number" else [],
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
            raise SadariError(
                f"--of {of!r} is no class of {runs[-1].spec.target}; classes: {', '.join(classes[:10])}"
            )
        return classes.index(of)
    if len(classes) == 2:
        return 1
    return int(np.ptp(runs[-1].predictions(grids[-1]), axis=0).argmax())


def _what(spec: TableSpec, chosen: int | None) -> Said:
    if chosen is None:
        return say(TEXTS, "prediction", target=spec.target)
    return say(TEXTS, "probability", of=spec.classes[chosen])  # type: ignore[index]


def _average(
    run: Run, show: Any, rows: Rows, still: dict[str, float | str], column: ColumnSpec, x: np.ndarray
) -> np.ndarray:
    """Partial dependence (G,): every sampled row put at each value in turn, and the predictions averaged."""
    start = 0
    for other in run.spec.columns:
        if other.name == column.name:
            break
        start += len(other.features)
    block = slice(start, start + len(column.features))
    moved = vary(run.spec, still, {column.name: x})[:, block]  # (G, features of the column)
    own = run.spec.encode(
        rows.frame[np.linspace(0, len(rows.numbers) - 1, min(AVERAGED, len(rows.numbers))).astype(int)]
    )
    out = np.empty(len(x))
    for i, values in enumerate(moved):
        own[:, block] = values
        out[i] = show(own).mean()
    return out


def _bins(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Shares of a class in groups of (nearly) equal size along x, with Wilson's 95% interval."""
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
    last = curves[-1]
    tiny = 1e-5 * (float(np.abs(curves).max()) + 1e-12)  # below this float32 rounds

    def shown(value: float) -> str:
        return f"{value:.0%}" if facts["of"] is not None else number(value)

    named = facts["kind"] in ("category", "boolean")
    values: dict[str, Any] = {
        "rung": rungs[-1],
        "feature": feature,
        "what": what,
        "low": shown(last.min()),
        "high": shown(last.max()),
        "first": shown(last[0]),
        "last": shown(last[-1]),
        "gap": shown(np.ptp(last)),
        "start": _value(x[0], facts["kind"]),
        "end": _value(x[-1], facts["kind"]),
        "top": _value(x[last.argmax()], facts["kind"]),
        "bottom": _value(x[last.argmin()], facts["kind"]),
    }
    if len(rungs) > 1:
        climbed = [k for k, rung in enumerate(rungs) if rung not in GROUND]
        compared = curves[climbed] if len(climbed) > 1 else curves
        names = [rungs[k] for k in climbed] if len(climbed) > 1 else rungs
        apart = np.ptp(compared, axis=0)
        place = int(apart.argmax())
        pair = sorted((int(compared[:, place].argmin()), int(compared[:, place].argmax())))
        key = "several" if apart.max() > tiny else "together"
        values |= {
            "one": names[pair[0]],
            "other": names[pair[1]],
            "gap": shown(apart.max()),
            "place": _value(x[place], facts["kind"]),
        }
    else:
        key = "flat" if np.ptp(last) <= tiny else "one category" if named else "one"
    title = say(TEXTS, key, **values)
    if named:
        return title, say(TEXTS, "steps", **values)
    if np.ptp(last) <= tiny:
        return title, say(TEXTS, "level", **values)
    if facts["kind"] == "date":
        return title, say(TEXTS, "date", **{**values, "gap": shown(np.ptp(last))})
    if facts["of"] is not None:
        steepest = int(np.abs(np.diff(last)).argmax())
        return title, say(
            TEXTS, "steep", **{**values, "place": _value((x[steepest] + x[steepest + 1]) / 2, facts["kind"])}
        )
    bends = ", ".join(
        f"{rung} {0 if bend <= tiny else number(bend)}"
        for rung, bend in zip(rungs, facts["bends"], strict=True)
    )
    return title, say(TEXTS, "bend", bends=bends)


def _value(value: Any, kind: str = "number") -> str:
    """A feature's value for people: four digits, a day, or the category's name."""
    if kind == "date":
        return str(np.datetime64(round(float(value)), "D"))
    return (
        str(value)
        if isinstance(value, str)
        else f"{float(value):,.4g}"
        if abs(value) < 1e6
        else f"{float(value):.4g}"
    )


def _caption(
    runs: Sequence[Run], rows: Rows, arrays: dict[str, np.ndarray], facts: dict[str, Any], what: Said
) -> Said:
    values = {
        "what": what,
        "others": len(runs[-1].spec.columns) - 1,
        "part": PARTS[facts["part"]],
        "of": facts["of"],
    }
    if facts["kind"] in ("category", "boolean"):
        return say(TEXTS, "caption bars", **values)
    average: Said = ("", "")
    if len(runs) == 1:
        average = say(TEXTS, "average", rows=min(AVERAGED, len(rows.numbers)))
    data = say(TEXTS, "dots" if facts["of"] is None else "bins", rows=len(arrays["data_x"]), **values)
    return say(TEXTS, "caption", average=average, data=data, **values)
