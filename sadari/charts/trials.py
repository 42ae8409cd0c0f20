"""Drawings of trainings side by side: depths, rates, numbers of labelled pictures."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import PERCENT, Brush, axis_x, axis_y, decades, legend
from sadari.charts.theme import DEPTHS, DOWN, FAINT, INK, SOFT, colour, ramp, table

TEXTS = {
    "layers": ("{depth} layers", "{depth}층"),
    "start": ("before", "더 배우기 전"),
    "best": ("lowest {rate}", "최저 {rate}"),
    "limit": ("harm from {rate}", "{rate}부터 해로움"),
    "own": ("first trained at {rate}", "처음 훈련 {rate}"),
    "chance": ("always the commonest class", "늘 가장 흔한 클래스"),
}
SOLID, DASH = [1, 0], [5, 4]
HALO: dict[str, Any] = {"color": "white", "stroke": "white", "strokeWidth": 4}


def depth(brush: Brush) -> alt.TopLevelMixin:
    """A panel for plain networks and one for those with shortcuts; a line a depth, dashed in training."""
    depths, steps = brush["depths"].tolist(), brush["steps"]
    names = [brush.text(TEXTS, "layers", depth=layers) for layers in depths]
    tone = legend(
        brush, names, ramp(DEPTHS, len(depths)), symbolType="stroke", symbolOpacity=1, symbolSize=500
    )
    wheres = [brush.label("train"), brush.label("other")]
    dash = alt.StrokeDash(
        "where:N",
        sort=wheres,
        scale=alt.Scale(domain=wheres, range=[DASH, SOLID]),
        legend=alt.Legend(symbolType="stroke", symbolSize=500, columns=2, orient="bottom"),
    )
    columns = 2 if brush.wide else 1
    width = (brush.width - 70) / columns - (30 if columns > 1 else 0)
    kinds = ("plain", "resnet")
    top = max(float(brush[f"{kind}_{where}"].max()) for kind in kinds for where in ("train", "other"))
    panels = []
    for k, kind in enumerate(kinds):
        rows = [
            (step, brush[f"{kind}_{where}"][a, s], names[a], wheres[w])
            for a in range(len(depths))
            for w, where in enumerate(("train", "other"))
            for s, step in enumerate(steps)
        ]
        data = table(**{key: [row[i] for row in rows] for i, key in enumerate(("x", "y", "name", "where"))})
        x = axis_x(brush.label("steps"), domain=[0, int(steps[-1])])
        first = k == 0 or columns == 1
        y = axis_y(brush.label("error") if first else None, axis=PERCENT, domain=[0, top], nice=False)
        title = alt.TitleParams(
            brush.label(kind, width), fontSize=13, color=INK, anchor="start", frame="group", offset=6
        )
        lines = alt.Chart(data).mark_line(strokeWidth=2).encode(x, y, tone, dash)
        ends = alt.Chart(
            table(
                **{
                    key: [row[i] for row in rows if row[0] == steps[-1]]
                    for i, key in enumerate(("x", "y", "name", "where"))
                }
            )
        )
        dots = ends.mark_circle(size=34, opacity=1).encode(x, y, tone)
        panels.append(alt.layer(lines, dots).properties(width=width, height=brush.height(0.42), title=title))
    return alt.concat(*panels, columns=columns, spacing={"row": 14, "column": 18})


def transfer(brush: Brush) -> alt.TopLevelMixin:
    """A line a rung over the number of labelled pictures, with its intervals."""
    names, sizes = brush.view.facts["rungs"], brush["sizes"]
    low, high = float(sizes[0]) / 1.25, float(sizes[-1]) * 1.25
    axis: dict[str, Any] = {"values": sizes.tolist(), "format": ",d", "labelOverlap": True}
    x = alt.X(
        "x:Q",
        title=brush.label("sizes"),
        scale=alt.Scale(type="log", nice=False, domain=[low, high]),
        axis=alt.Axis(**axis),
    )
    floor = max(0.0, float(brush["low"].min()) - 0.03)
    roof = min(1.0, float(brush["high"].max()) + 0.03)
    y = axis_y(brush.label("score", 260), axis=PERCENT, domain=[floor, roof], nice=False)
    whisker = axis_y(brush.label("score", 260), "low", axis=PERCENT, domain=[floor, roof], nice=False)
    shift = np.linspace(-0.015, 0.015, len(names)) if len(names) > 1 else np.zeros(1)
    tone = legend(brush, names, [colour(name) for name in names], symbolType="stroke", symbolOpacity=1)
    data = table(
        x=(sizes[None] * 10 ** shift[:, None]).ravel(),
        y=brush["score"].ravel(),
        low=brush["low"].ravel(),
        high=brush["high"].ravel(),
        name=np.repeat(names, len(sizes)),
    )
    base = alt.Chart(data)
    return alt.layer(
        base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(x, whisker, alt.Y2("high:Q"), tone),
        base.mark_line().encode(x, y, tone),
        base.mark_circle(size=50, opacity=1).encode(x, y, tone),
    ).properties(height=brush.height())


def rate(brush: Brush) -> alt.TopLevelMixin:
    """Errors after some more steps against the rate; dashed what they were before, dotted chance."""
    facts, rates, errors = brush.view.facts, brush["rates"], brush["errors"]
    tone = colour(facts["rung"])
    low, high = float(rates[0]), float(rates[-1])
    x = alt.X(
        "x:Q",
        title=brush.label("rates"),
        scale=alt.Scale(type="log", nice=False, domain=[low, high]),
        axis=alt.Axis(**decades(low, high)),
    )
    top = max(float(errors.max()), facts["start"])
    room = 1.3 if brush.wide else 1.45  # for the words above
    step = next(step for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if top <= 6 * step)
    ticks = {"values": np.arange(0, top + step / 2, step).tolist(), "format": "~%"}
    y = axis_y(brush.label("errors", 260), axis=ticks, domain=[0, room * top], nice=False)
    level = [(facts["start"], "start", -11)]
    if facts["prior"] <= top:
        level.append((facts["prior"], "chance", 12))
    levels = alt.Chart(table(y=[value for value, _, _ in level]))
    layers: list[Any] = [levels.mark_rule(color=FAINT, strokeDash=[6, 5], strokeWidth=1.5).encode(y)]
    marks = [("best", facts["best"], INK, [6, 4]), ("own", facts["own"], SOFT, [2, 3])]
    marks.append(("limit", facts["limit"], DOWN, [1, 0]))
    known = [mark for mark in marks if mark[1] and low <= mark[1] <= high]
    words: list[Any] = []  # over all lines, each on a halo
    places = [
        np.log(mark[1] / low) / np.log(high / low) for mark in known
    ]  # 0 at the left edge, 1 at the right
    for row, (key, value, tint, dash) in enumerate(known):
        others = [place for other, place in enumerate(places) if other != row]
        left = places[row] > 0.5 or any(places[row] < place < places[row] + 0.3 for place in others)
        left &= places[row] > 0.3
        mark = alt.Chart(table(x=[value], word=[brush.text(TEXTS, key, rate=_rate(value))]))
        layers.append(mark.mark_rule(color=tint, strokeDash=dash, strokeWidth=1.6).encode(x))
        beside: dict[str, Any] = {"align": "right" if left else "left", "dx": -6 if left else 6}
        words += [
            mark.mark_text(**beside, **more).encode(x, alt.Text("word:N"), y=alt.value(9 + 17 * row))
            for more in (HALO, {"color": tint})
        ]
    layers += [  # over the upright lines, under the curve
        alt.Chart(table(y=[value], word=[brush.text(TEXTS, key)]))
        .mark_text(align="left", dx=6, dy=down, **more)
        .encode(y, alt.Text("word:N"), x=alt.value(0))
        for value, key, down in level
        for more in (HALO, {"color": SOFT})
    ]
    curve = alt.Chart(table(x=rates, y=errors))
    layers.append(curve.mark_line(color=tone).encode(x, y))
    layers.append(curve.mark_circle(color=tone, size=40, opacity=1).encode(x, y))
    return alt.layer(*layers, *words).properties(height=brush.height())


def _rate(value: float) -> str:
    """A rate to two figures, as it would be typed."""
    return f"{value:.2g}".replace("e-0", "e-")
