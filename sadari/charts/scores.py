"""Drawings of right and wrong: calibration, confusion, residuals."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import PERCENT, Brush, axis_x, axis_y, named_axis, top_axis
from sadari.charts.theme import (
    DATA,
    DOWN,
    FAINT,
    INK,
    SEQUENCE,
    SMALL,
    colour,
    ramp,
    shorten,
    table,
    text_width,
)

TEXTS = {
    "row": ("row {row}", "{row}행"),
    "rows": ("rows", "행 수"),
}


def calibration(brush: Brush) -> alt.TopLevelMixin:
    """Dots with intervals against the line on which 80 % means 80 %; under it, how many rows said what."""
    tone = colour(brush.view.facts["rung"])
    filled = brush["rows"] > 0
    data = table(
        x=brush["said"][filled],
        y=brush["came"][filled],
        low=brush["low"][filled],
        high=brush["high"][filled],
        rows=brush["rows"][filled],
    )
    width = brush.width - 80
    bare = {"labels": False, "ticks": False, "tickCount": 5}
    x = axis_x(None, axis=bare, domain=[-0.03, 1.03])
    y = axis_y(brush.label("came"), axis=PERCENT, domain=[-0.04, 1.04], nice=False)
    whisker = axis_y(brush.label("came"), "low", axis=PERCENT, domain=[-0.04, 1.04], nice=False)
    size = alt.Size(
        "rows:Q", scale=alt.Scale(domain=[0, int(brush["rows"].max())], range=[30, 420]), legend=None
    )
    main = alt.layer(
        alt.Chart(table(x=[0, 1], y=[0, 1]))
        .mark_line(color=FAINT, strokeDash=[6, 5], strokeWidth=1.5)
        .encode(x, y),
        alt.Chart(data)
        .mark_rule(color=tone, opacity=0.45, strokeWidth=1.5)
        .encode(x, whisker, alt.Y2("high:Q")),
        alt.Chart(data)
        .mark_circle(color=tone, opacity=0.95, stroke="white", strokeWidth=1)
        .encode(x, y, size),
    )
    edges, rows = brush["edges"], brush["rows"]
    bars = table(
        x=edges[:-1] + 0.004,
        x2=edges[1:] - 0.004,
        y=rows,
        ground=np.zeros(len(rows)),
        word=[f"{count:,}" if count else "" for count in rows.tolist()],
        m=(edges[:-1] + edges[1:]) / 2,
    )
    under = axis_x(brush.label("said"), axis=PERCENT, domain=[-0.03, 1.03])
    tall = axis_y(
        brush.label("rows"),
        axis={"tickCount": 2, "format": ",d"},
        domain=[0, 1.35 * float(rows.max())],
        nice=False,
    )
    middle = axis_x(brush.label("said"), "m", axis=PERCENT, domain=[-0.03, 1.03])
    counts = alt.layer(
        alt.Chart(bars)
        .mark_rect(color=DATA, opacity=0.6)
        .encode(under, tall, alt.X2("x2:Q"), alt.Y2("ground:Q")),
        alt.Chart(bars).mark_text(dy=-7, fontSize=11).encode(middle, tall, alt.Text("word:N")),
    )
    return alt.vconcat(
        main.properties(width=width, height=brush.height(0.5)),
        counts.properties(width=width, height=64),
        spacing=6,
    )


def confusion(brush: Brush) -> alt.TopLevelMixin:
    """True class against predicted class, counts in the cells."""
    matrix, classes = brush["matrix"], brush.view.facts["classes"]
    count = len(classes)
    labels = [shorten(name, 110 if brush.wide else 70) for name in classes]
    widest = max(text_width(label, SMALL) for label in labels)
    cell = min((brush.width - 60 - widest) / count, 130)
    share = (matrix / np.maximum(matrix.sum(1, keepdims=True), 1)).ravel()
    flat = matrix.ravel().tolist()
    down, right = (part.ravel() for part in np.indices(matrix.shape))
    colours = ramp(SEQUENCE[:7], 21)
    data = table(
        row=down,
        col=right,
        tone=[
            colours[round(part * 20)] if rows else "#ffffff" for part, rows in zip(share, flat, strict=True)
        ],
        ink=["#ffffff" if part > 0.62 else INK for part in share],
        word=[f"{rows:,}" if rows else "" for rows in flat],
    )
    top = top_axis(classes, cell)
    x = alt.X("col:O", title=brush.label("matrix"), axis=top, scale=alt.Scale(padding=0))
    y = alt.Y("row:O", title=brush.label("recall"), axis=named_axis(labels), scale=alt.Scale(padding=0))
    cells = (
        alt.Chart(data)
        .mark_rect(stroke=FAINT, strokeWidth=0.5)
        .encode(x, y, fill=alt.Fill("tone:N", scale=None))
    )
    longest = max(text_width(f"{rows:,}", 1) for rows in flat)
    size = min(13.0, (cell - 4) / longest)
    layers = [cells]
    if size >= 8:
        numbers = alt.Chart(data).mark_text(fontSize=size)
        layers.append(numbers.encode(x, y, alt.Text("word:N"), color=alt.Color("ink:N", scale=None)))
    chart = alt.layer(*layers).properties(width=cell * count, height=min(cell, 60) * count)
    return alt.hconcat(chart)  # a lone chart would be stretched to the width; the cells keep theirs


def residuals(brush: Brush) -> alt.TopLevelMixin:
    """What is left over against the prediction, with the band that holds most of it."""
    facts = brush.view.facts
    if facts["constant"]:
        return _histogram(brush)
    tone = colour(facts["rung"])
    across, left = brush["prediction"], brush["residual"]
    x, y = axis_x(brush.label("prediction")), axis_y(brush.label("residual", 260))
    low = axis_y(brush.label("residual", 260), "low")
    band = table(
        x=brush["bin_prediction"], low=brush["bin_low"], y=brush["bin_middle"], high=brush["bin_high"]
    )
    rows = [worst["row"] for worst in facts["worst"]]
    at = np.array([int(np.flatnonzero(brush["row"] == row)[0]) for row in rows])
    words = [brush.text(TEXTS, "row", row=f"{row:,}") for row in rows]
    places = _beside(brush, across, left, at, words)
    worst = table(x=across[at], y=left[at])
    layers = [
        alt.Chart(band).mark_area(color=tone, opacity=0.16).encode(x, low, alt.Y2("high:Q")),
        alt.Chart(table(x=across, y=left)).mark_circle(size=20, color=DATA, opacity=0.5).encode(x, y),
        alt.Chart(table(y=[0])).mark_rule(color=INK, strokeWidth=1).encode(y),
        alt.Chart(band).mark_line(color=tone).encode(x, y),
        alt.Chart(worst).mark_point(size=90, color=DOWN, strokeWidth=1.8).encode(x, y),
    ]
    sides: tuple[tuple[str, Any, int], ...] = (("right", "left", 9), ("left", "right", -9))
    for side, align, dx in sides:
        mine = [k for k, place in enumerate(places) if place == side]
        data = table(x=across[at[mine]], y=left[at[mine]], word=[words[k] for k in mine])
        if mine:
            layers.append(
                alt.Chart(data)
                .mark_text(align=align, dx=dx, fontSize=11, color=DOWN)
                .encode(x, y, alt.Text("word:N"))
            )
    return alt.layer(*layers).properties(height=brush.height())


def _beside(brush: Brush, x: np.ndarray, y: np.ndarray, at: np.ndarray, words: list[str]) -> list[str]:
    """For each marked point, the side on which its words meet nothing else: right, left, or none."""
    wide, high = brush.width - 60, brush.height()
    across = (x - x.min()) / (np.ptp(x) or 1) * wide
    up = (y - y.min()) / (np.ptp(y) or 1) * high
    taken = [(across[k] - 7, across[k] + 7, up[k]) for k in at]
    places = []
    for k, word in zip(at, words, strict=True):
        length = text_width(word, 11)
        for side, a, b in (
            ("right", across[k] + 9, across[k] + 9 + length),
            ("left", across[k] - 9 - length, across[k] - 9),
        ):
            clear = all(b < c or a > d or abs(up[k] - v) > 13 for c, d, v in taken)
            if clear and a >= 0 and b <= wide:
                taken.append((a, b, up[k]))
                places.append(side)
                break
        else:
            places.append("none")
    return places


def _histogram(brush: Brush) -> alt.TopLevelMixin:
    """Where every prediction is the same, only how the residuals are spread can be seen."""
    left = brush["residual"]
    counts, edges = np.histogram(left, bins=int(np.clip(np.sqrt(len(left)) * 1.5, 8, 40)))
    data = table(x=edges[:-1], x2=edges[1:], y=counts, ground=np.zeros(len(counts)))
    x = axis_x(brush.label("residual"))
    bars = alt.Chart(data).mark_rect(color=colour(brush.view.facts["rung"]), stroke="white", strokeWidth=1)
    y = axis_y(
        brush.text(TEXTS, "rows"),
        axis={"format": ",d", "tickCount": 5},
        domain=[0, 1.06 * float(counts.max())],
        nice=False,
    )
    zero = alt.Chart(table(x=[0])).mark_rule(color=INK, strokeWidth=1.5).encode(x)
    return alt.layer(bars.encode(x, y, alt.X2("x2:Q"), alt.Y2("ground:Q")), zero).properties(
        height=brush.height()
    )
