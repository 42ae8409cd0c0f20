"""Drawings of curves: along a feature, by hidden units, in straight pieces, over rates, over layers."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import PERCENT, Brush, axis_x, axis_y, decades, legend, named_axis
from sadari.charts.theme import (
    DATA,
    DEPTHS,
    DOWN,
    FAINT,
    INK,
    SOFT,
    UP,
    colour,
    ramp,
    shorten,
    table,
)
from sadari.metrics import number

MILLISECONDS = 86_400_000  # in a day
DAYS = alt.Axis(format="%Y-%m-%d", labelOverlap=True)
MOST_DOTS = 600  # data points under a curve; more hide it and fatten the page

TEXTS = {
    "units": ("{units} units", "유닛 {units}개"),
    "unit": ("1 unit", "유닛 1개"),
    "pieces": (" · {pieces} pieces", " · 조각 {pieces}개"),
    "piece": (" · 1 piece", " · 조각 1개"),
    "layers": ("{depth} layers", "{depth}층"),
    "limit": ("too large from {rate}", "{rate}부터 너무 큼"),
    "bound": ("bound 2/λ = {rate}", "한계 2/λ = {rate}"),
    "chosen": ("chosen {rate}", "선택 {rate}"),
    "start": ("before the first step", "첫 걸음 전"),
    "below": ("0.99 of the bound", "한계의 0.99배"),
    "above": ("1.01 of the bound", "한계의 1.01배"),
    "step": ("step", "걸음"),
    "over": ("loss above the optimum", "최적보다 큰 손실"),
    "data mean": ("mean of the data", "데이터의 평균"),
    "data share": ("share in the data", "데이터의 비율"),
}


def curve(brush: Brush) -> alt.TopLevelMixin:
    """Each rung's prediction along one feature, over the data points."""
    facts, x = brush.view.facts, brush["x"]
    if facts["kind"] in ("category", "boolean"):
        return _bars_by_category(brush)
    rungs, curves = facts["rungs"], brush["typical"]
    across = axis_x(brush.label("x"))
    if facts["kind"] == "date":
        across = alt.X("x:T", title=brush.label("x"), scale=alt.Scale(type="utc", nice=False), axis=DAYS)
        x = x * MILLISECONDS
    up = axis_y(brush.label("typical"))
    if facts["of"] is not None:
        up = axis_y(brush.label("typical"), axis=PERCENT, domain=[0, 1])
    lines = alt.Chart(
        table(x=np.tile(x, len(rungs)), y=curves.ravel(), name=np.repeat(rungs, len(x)))
    ).mark_line()
    layers = [*_rows_under(brush, x, across, up)]
    if len(rungs) == 1:
        dashed = alt.Chart(table(x=x, y=brush["average"][0])).mark_line(
            strokeDash=[6, 5], strokeWidth=2, opacity=0.75
        )
        layers.append(dashed.encode(across, up, color=alt.value(colour(rungs[0]))))
    layers.append(
        lines.encode(across, up, legend(brush, rungs, [colour(rung) for rung in rungs], symbolType="stroke"))
    )
    return alt.layer(*layers).properties(height=brush.height())


def _rows_under(brush: Brush, x: np.ndarray, across: alt.X, up: alt.Y) -> list[alt.Chart]:
    """The data beneath the curves: dots for numbers, shares with their intervals for classes."""
    unit = MILLISECONDS if brush.view.facts["kind"] == "date" else 1
    if brush.view.facts["of"] is None:
        data_x, data_y = brush["data_x"] * unit, brush["data_y"]
        inside = (data_x >= x[0]) & (data_x <= x[-1])
        data = table(x=data_x[inside][:MOST_DOTS], y=data_y[inside][:MOST_DOTS])
        return [alt.Chart(data).mark_circle(size=18, color=DATA, opacity=0.4).encode(across, up)]
    bin_x = brush["bin_x"] * unit
    inside = (bin_x >= x[0]) & (bin_x <= x[-1])
    data = table(
        x=bin_x[inside],
        y=brush["bin_y"][inside],
        low=brush["bin_low"][inside],
        high=brush["bin_high"][inside],
    )
    ends = alt.Chart(data).mark_rule(color=FAINT).encode(across, up.copy(), alt.Y2("high:Q"))
    ends.encoding.y.shorthand = "low:Q"
    return [ends, alt.Chart(data).mark_circle(size=45, color=DATA, opacity=1).encode(across, up)]


def _bars_by_category(brush: Brush) -> alt.TopLevelMixin:
    """Bars for each category, highest first, a colour for each rung; a tick where the data itself lies."""
    facts, curves = brush.view.facts, brush["typical"]
    rungs, order = facts["rungs"], np.argsort(-curves[-1], kind="stable")
    labels = [
        shorten(f"{name:g}" if isinstance(name, float) else name, 150 if brush.wide else 90)
        for name in brush["x"].tolist()
    ]
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(len(order))
    names = alt.Y("place:O", title=brush.label("x"), axis=named_axis([labels[k] for k in order]))
    value = alt.X(
        "v:Q", title=brush.label("typical"), axis=alt.Axis(**(PERCENT if facts["of"] is not None else {}))
    )
    bars = alt.Chart(
        table(place=np.tile(place, len(rungs)), v=curves.ravel(), name=np.repeat(rungs, len(order)))
    )
    bars = bars.mark_bar().encode(
        names,
        value,
        legend(brush, rungs, [colour(rung) for rung in rungs], beside=170 if brush.wide else 110),
        alt.YOffset("name:N", sort=rungs),
    )
    means = [
        brush["data_y"][brush["data_x"] == name].mean() if (brush["data_x"] == name).any() else np.nan
        for name in brush["x"]
    ]
    ticks = (
        alt.Chart(table(place=place, v=np.array(means)))
        .mark_tick(color=INK, thickness=2.5, height=16)
        .encode(names, value)
    )
    key = brush.text(TEXTS, "data mean" if facts["of"] is None else "data share")
    note = alt.Chart(table(t=[f"▏{key}"])).mark_text(align="right", baseline="bottom", dy=-6, color=SOFT)
    note = note.encode(alt.Text("t:N"), x=alt.value("width"), y=alt.value(0))
    return alt.layer(bars, ticks, note).properties(height=max(120, len(order) * (14 * len(rungs) + 12)))


def flexibility(brush: Brush) -> alt.TopLevelMixin:
    """One panel a number of hidden units: the fitted curve over the same data."""
    units, x, curves = brush["units"], brush["x"], brush["y"]
    columns = min(len(units), 4 if brush.wide else 2)
    side = (brush.width - 66) / columns - (14 if columns > 1 else 0)
    binned = brush.has("bin_x")
    data_x, data_y = (
        (brush["bin_x"], brush["bin_y"]) if binned else (brush["data_x"][:300], brush["data_y"][:300])
    )
    dots = alt.Chart(table(x=data_x, y=data_y))
    dots = dots.mark_circle(size=40 if binned else 12, color=DATA, opacity=0.9 if binned else 0.45, clip=True)
    low, high = min(float(data_y.min()), float(curves.min())), max(float(data_y.max()), float(curves.max()))
    margin = 0.04 * (high - low) or 1.0
    panels = []
    for k, width in enumerate(units.tolist()):
        head = brush.text(TEXTS, "unit") if width == 1 else brush.text(TEXTS, "units", units=width)
        if brush.has("pieces"):
            pieces = int(brush["pieces"][k])
            head += brush.text(TEXTS, "piece") if pieces == 1 else brush.text(TEXTS, "pieces", pieces=pieces)
        first = k % columns == 0
        across = axis_x(brush.label("x", side) if k >= len(units) - columns else None, axis={"tickCount": 4})
        ends = (
            {**(PERCENT if binned else {})} if first else {"labels": False, "ticks": False, "domain": False}
        )
        up = axis_y(
            brush.label("y", 200) if first else None,
            axis=ends or None,
            domain=[low - margin, high + margin],
            nice=False,
        )
        line = (
            alt.Chart(table(x=x, y=curves[k]))
            .mark_line(color=colour("shallow"), clip=True)
            .encode(across, up)
        )
        title = alt.TitleParams(head, fontSize=13, color=INK, anchor="start", frame="group", offset=6)
        panels.append(
            alt.layer(dots.encode(across, up), line).properties(
                width=side, height=min(side * 1.15, 210), title=title
            )
        )
    return alt.concat(*panels, columns=columns, spacing=14)


def regions(brush: Brush) -> alt.TopLevelMixin:
    """The network's answer along a line, its straight pieces told apart at their joints."""
    x, y = brush["x"], brush["y"]
    tone = colour(brush.view.facts["rung"])
    across, up = axis_x(brush.label("x")), axis_y(brush.label("y"))
    crowded = len(x) > 40
    bends = table(x=x[1:-1], y=y[1:-1])
    walls = alt.Chart(bends).mark_rule(color=tone, opacity=0.12 if crowded else 0.25).encode(across)
    line = alt.Chart(table(x=x, y=y)).mark_line(color=tone, strokeJoin="miter").encode(across, up)
    dots = alt.Chart(bends).mark_point(
        size=14 if crowded else 42, fill="white", color=tone, strokeWidth=1 if crowded else 1.8, opacity=1
    )
    layers = [walls, line, dots.encode(across, up)]
    if len(brush["data_x"]):
        rug = alt.Chart(table(x=brush["data_x"][:MOST_DOTS])).mark_tick(
            color=DATA, opacity=0.5, height=8, thickness=1
        )
        layers.append(rug.encode(across, y=alt.value(brush.height() - 5)))
    return alt.layer(*layers).properties(height=brush.height())


# ---------------------------------------------------------------------- learning rate


def learning_rate(brush: Brush) -> alt.TopLevelMixin:
    """The loss against the rate, runaways at the upper edge; below, if solved, two descents at the bound."""
    facts, rates = brush.view.facts, brush["rates"]
    tone = colour(facts["rung"])
    top = 2.0 * facts["start"]
    heights = np.minimum(np.nan_to_num(brush["losses"], nan=top), top)
    floor = float(heights.min())
    low, high = float(rates[0]), float(rates[-1])
    x = alt.X(
        "x:Q",
        title=brush.label("rates"),
        scale=alt.Scale(type="log", nice=False, domain=[low, high]),
        axis=alt.Axis(**decades(low, high)),
    )
    y = axis_y(
        brush.label("losses", 260),
        domain=[floor - 0.06 * (top - floor), top + 0.16 * (top - floor)],
        nice=False,
    )
    data = table(x=rates, y=heights)
    begin = alt.Chart(table(y=[facts["start"]], word=[brush.text(TEXTS, "start")]))
    layers = [
        begin.mark_rule(color=FAINT, strokeDash=[2, 4], strokeWidth=1.5).encode(y),
        begin.mark_text(align="left", dx=4, dy=-8, color=SOFT).encode(y, alt.Text("word:N"), x=alt.value(0)),
        alt.Chart(data).mark_line(color=tone).encode(x, y),
        alt.Chart(data).mark_circle(color=tone, size=26, opacity=1).encode(x, y),
    ]
    marks = [
        ("bound", facts.get("bound"), INK, [6, 4]),
        ("chosen", facts["chosen"], INK, [6, 4]),
        ("limit", facts["limit"], DOWN, [1, 0]),
    ]
    known = [mark for mark in marks if mark[1] is not None]
    words = []
    for row, (key, value, tint, dash) in enumerate(known):
        left = (np.log(value) - np.log(low)) / (np.log(high) - np.log(low)) > 0.5
        mark = alt.Chart(table(x=[value], word=[brush.text(TEXTS, key, rate=number(value))]))
        layers.append(mark.mark_rule(color=tint, strokeDash=dash, strokeWidth=1.8).encode(x))
        place: dict[str, Any] = {"align": "right" if left else "left", "dx": -6 if left else 6}
        for more in (
            {"color": "white", "stroke": "white", "strokeWidth": 4},
            {"color": tint},
        ):  # a halo, then the word
            words.append(
                mark.mark_text(**place, **more).encode(x, alt.Text("word:N"), y=alt.value(9 + 17 * row))
            )
    main = alt.layer(*layers, *words)
    if not brush.has("below"):
        return main.properties(height=brush.height())
    return alt.vconcat(
        main.properties(width=brush.width - 80, height=brush.height(0.36)), _two_descents(brush), spacing=18
    )


def _two_descents(brush: Brush) -> alt.LayerChart | alt.FacetChart:
    """The loss above its least, step by step: just below the bound it shrinks, just above it grows."""
    least = brush.view.facts["best"]
    below, above = (np.maximum(brush[part] - least, 1e-12) for part in ("below", "above"))
    steps = np.arange(len(below))
    low, high = float(min(below.min(), above.min())), float(max(below.max(), above.max()))
    x = axis_x(brush.text(TEXTS, "step"))
    y = alt.Y(
        "y:Q",
        title=brush.text(TEXTS, "over"),
        scale=alt.Scale(type="log", nice=False, domain=[low / 1.5, high * 1.5]),
        axis=alt.Axis(**decades(low / 1.5, high * 1.5, most=5)),
    )
    layers = []
    for part, values, tint, dy in (("above", above, DOWN, -9), ("below", below, UP, 14)):
        layers.append(alt.Chart(table(x=steps, y=values)).mark_line(color=tint).encode(x, y))
        middle = len(steps) // 2
        name = alt.Chart(table(x=[middle], y=[values[middle]], word=[brush.text(TEXTS, part)]))
        layers.append(
            name.mark_text(align="right", dx=-6, dy=dy, color=tint, fontSize=13).encode(
                x, y, alt.Text("word:N")
            )
        )
    return alt.layer(*layers).properties(width=brush.width - 80, height=brush.height(0.24))


# ---------------------------------------------------------------------- gradients

FLOOR = 1e-12  # a gradient below this moves no float32 weight


def gradients(brush: Brush) -> alt.TopLevelMixin:
    """One panel a kind and a moment; a line a depth, ending in a triangle where the gradient has vanished."""
    depths, last = brush["depths"].tolist(), len(brush["steps"]) - 1
    names = [brush.text(TEXTS, "layers", depth=depth) for depth in depths]
    colours = legend(brush, names, ramp(DEPTHS, len(depths)), symbolType="stroke")
    columns = 2 if brush.wide else 1
    width = (brush.width - 84) / columns - (24 if columns > 1 else 0)
    seen = np.concatenate([brush[kind][:, [0, last]].ravel() for kind in ("deep", "deep_skip")])
    seen = seen[np.isfinite(seen)]
    low, high = max(float(seen.min()), FLOOR), float(seen.max())
    vertical = alt.Scale(type="log", domain=[low / 2, high * 2], nice=False)
    panels = []
    for moment, s in (("first", 0), ("last", last)):
        for kind in ("deep", "deep_skip"):
            lower, left = moment == "last", columns == 1 or kind == "deep"
            rows = [
                (i + 1, brush[kind][a, s, i], names[a])
                for a, depth in enumerate(depths)
                for i in range(depth)
            ]
            alive = [row for row in rows if row[1] >= low]
            gone = [
                max(row[0] for row in rows if row[2] == name and row[1] < low)
                for name in names
                if any(r[2] == name and r[1] < low for r in rows)
            ]
            owners = [name for name in names if any(row[2] == name and row[1] < low for row in rows)]
            x = axis_x(brush.label("layer", width) if lower or columns == 1 else None, domain=[1, depths[-1]])
            y = alt.Y(
                "y:Q",
                title=brush.label("norm") if left else None,
                scale=vertical,
                axis=alt.Axis(**decades(low / 2, high * 2, most=5)),
            )
            data = table(
                x=[row[0] for row in alive], y=[row[1] for row in alive], name=[row[2] for row in alive]
            )
            first = table(
                **{key: [row[k] for row in alive if row[0] == 1] for k, key in enumerate(("x", "y", "name"))}
            )
            ends = table(x=gone, y=[low] * len(gone), name=owners)
            head = f"{brush.view.label(kind, brush.lang)}, {brush.view.label(moment, brush.lang)}"
            title = alt.TitleParams(
                shorten(head, width, 13), fontSize=13, anchor="start", frame="group", offset=6
            )
            panel = alt.layer(
                alt.Chart(data).mark_line(strokeWidth=2).encode(x, y, colours),
                alt.Chart(first).mark_circle(size=46, opacity=1).encode(x, y, colours),
                alt.Chart(ends)
                .mark_point(shape="triangle-down", filled=True, size=60, opacity=1)
                .encode(x, y, colours),
            )
            panels.append(panel.properties(width=width, height=150, title=title))
    return alt.concat(*panels, columns=columns, spacing={"row": 12, "column": 16})
