"""Drawing of a beam search: a tree that grows downwards, and below it what wider beams come to."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import Brush, axis_y
from sadari.charts.theme import (
    BODY,
    DOWN,
    FAINT,
    GRID,
    INK,
    SMALL,
    SOFT,
    UP,
    colour,
    mixed,
    shorten,
    table,
    text_width,
)
from sadari.lang import Texts

ROW, BOX = 46.0, 32.0  # pixels from one step to the next, and of a node's height
KEY = 26.0  # pixels of the legend's line
TEXTS: Texts = {
    "answer": ("the answer", "답"),
    "greedy": ("greedy search", "탐욕 탐색"),
    "finished": ("finished, with its score", "끝난 글과 점수"),
    "pruned": ("pruned", "잘린 길"),
}


def beam(brush: Brush) -> alt.TopLevelMixin:
    """The tree, and under it scores against the number of beams."""
    lower = (alt.hconcat if brush.wide else alt.vconcat)(*_panels(brush), spacing=24 if brush.wide else 12)
    return alt.vconcat(_tree(brush), lower, spacing=26)


def places(step: np.ndarray, parent: np.ndarray, logp: np.ndarray) -> np.ndarray:
    """(N,) where each node stands across, in widths of a node from 0: under its parent where there is room.

    In a row, children stand in their parents' order, the likeliest first, so that no two lines cross.
    """
    across = np.zeros(len(step))
    slots = np.bincount(step).max()
    across[0] = (slots - 1) / 2
    for t in range(1, int(step.max()) + 1):
        row = np.flatnonzero(step == t)
        row = row[np.lexsort((-logp[row], across[parent[row]]))]
        last = -1.0
        for node in row:  # as far left as its parent lets it
            last = across[node] = max(across[parent[node]], last + 1)
        last = float(slots)
        for node in row[::-1]:  # and back where the row is full
            last = across[node] = min(across[node], last - 1)
    return across


def _tree(brush: Brush) -> Any:
    seen = np.ones(len(brush["step"]), bool) if brush.wide else brush["fate"] != "pruned"
    numbers = np.cumsum(seen) - 1
    columns = {name: brush[name][seen] for name in ("step", "logp", "score", "fate", "greedy", "answer")}
    parent = np.where(brush["parent"] < 0, -1, numbers[brush["parent"]])[seen]
    step, fate, answer = columns["step"], columns["fate"], columns["answer"]
    across = places(step, parent, columns["logp"])
    slots = int(np.bincount(step).max())
    width = brush.width - 62.0  # the panels below have an axis at their left
    slot = min(width / slots, 110.0)
    x = (width - slots * slot) / 2 + (across + 0.5) * slot
    y = KEY + BOX / 2 + step * ROW
    half = slot / 2 - 3
    height = float(y.max() + BOX / 2 + 2)
    ax = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, width], nice=False))
    ay = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[height, 0], nice=False))
    layers: list[Any] = []
    kinds = np.where(answer, "answer", fate)
    for kind, tone, dash, thick in (
        ("pruned", FAINT, [3, 3], 1.0),
        ("kept", FAINT, [1, 0], 1.4),
        ("finished", FAINT, [1, 0], 1.4),
        ("answer", UP, [1, 0], 2.6),
    ):
        own = np.flatnonzero((kinds == kind) & (step > 0))
        of = parent[own]
        lines = table(x=x[of], y=y[of] + BOX / 2, x2=x[own], y2=y[own] - BOX / 2)
        mark = alt.Chart(lines).mark_rule(color=tone, strokeDash=dash, strokeWidth=thick)
        layers.append(mark.encode(ax, ay, alt.X2("x2:Q"), alt.Y2("y2:Q")))
    for kind, fill, line, thick in (
        ("kept", GRID, GRID, 1.0),
        ("finished", "#ffffff", SOFT, 1.4),
        ("answer", mixed(UP, 0.16), UP, 1.4),
    ):
        own = np.flatnonzero(kinds == kind)
        own = own[step[own] > 0]
        boxes = table(x=x[own] - half, x2=x[own] + half, y=y[own] - BOX / 2, y2=y[own] + BOX / 2)
        mark = alt.Chart(boxes).mark_rect(cornerRadius=4, fill=fill, stroke=line, strokeWidth=thick)
        layers.append(mark.encode(ax, ay, alt.X2("x2:Q"), alt.Y2("y2:Q")))
    names = [shorten(name, 2 * half - 4) for name in brush["token"][seen].tolist()]
    ended = np.isfinite(columns["score"])
    said = np.where(ended, columns["score"], columns["logp"])
    below = ["" if t == 0 else f"{v:.2f}".replace("-", "−") for t, v in zip(step, said, strict=True)]
    inks = np.where(fate == "pruned", SOFT, INK)
    middle = np.where(step == 0, y + 6, y - 6)  # START has nothing below it
    for words, at, size, tones in (
        (names, middle, SMALL, inks),
        (below, y + 9, 10, np.where(ended, INK, SOFT)),
    ):
        data = table(x=x, y=at, t=words, ink=tones)
        mark = alt.Chart(data).mark_text(fontSize=size, baseline="middle")
        layers.append(mark.encode(ax, ay, alt.Text("t:N"), color=alt.Color("ink:N", scale=None)))
    dots = np.flatnonzero(columns["greedy"] & (step > 0))
    layers.append(
        alt.Chart(table(x=x[dots] + half - 1, y=y[dots] - BOX / 2 + 1))
        .mark_circle(color=DOWN, size=70, opacity=1, stroke="white", strokeWidth=1.5)
        .encode(ax, ay)
    )
    return alt.layer(*layers, *_key(brush, ax, ay)).properties(width=width, height=height)


def _key(brush: Brush, ax: alt.X, ay: alt.Y) -> list[Any]:
    """What the marks mean, in a line over the tree."""
    left, layers = 2.0, []
    shown = ("answer", "greedy", "finished", "pruned") if brush.wide else ("answer", "greedy", "finished")
    for key in shown:
        spot = table(x=[left], x2=[left + 16], y=[4.0], y2=[16.0])
        base, ends = alt.Chart(spot), (alt.X2("x2:Q"), alt.Y2("y2:Q"))
        if key == "greedy":
            mark = alt.Chart(table(x=[left + 8], y=[10.0])).mark_circle(color=DOWN, size=70, opacity=1)
            layers.append(mark.encode(ax, ay))
        elif key == "pruned":
            mark = alt.Chart(table(x=[left], x2=[left + 16], y=[10.0])).mark_rule(
                color=SOFT, strokeDash=[3, 3]
            )
            layers.append(mark.encode(ax, ay, alt.X2("x2:Q")))
        else:
            fill, line = (mixed(UP, 0.16), UP) if key == "answer" else ("#ffffff", SOFT)
            layers.append(base.mark_rect(cornerRadius=3, fill=fill, stroke=line).encode(ax, ay, *ends))
        word = brush.text(TEXTS, key)
        size = BODY if brush.wide else SMALL
        name = alt.Chart(table(x=[left + 21], y=[10.0], t=[word]))
        layers.append(
            name.mark_text(align="left", baseline="middle", fontSize=size).encode(ax, ay, alt.Text("t:N"))
        )
        left += 21 + text_width(word, size) + (20 if brush.wide else 10)
    return layers


def _panels(brush: Brush) -> list[Any]:
    """The metric with its intervals, and the mean score, both against the number of beams."""
    order = np.argsort(brush["width"], kind="stable")
    names = [str(width) for width in brush["width"][order].tolist()]
    metric = brush.view.facts["metric"]
    width = (brush.width - (150 if brush.wide else 84)) / (2 if brush.wide else 1)
    tone = colour(brush.view.facts["rung"])
    panels = []
    for array in (metric, "mean_score"):
        values = brush[array][order]
        ends = [brush[f"{array}_{end}"][order] for end in ("low", "high")] if array == metric else []
        low, high = float(min(map(np.min, [values, *ends]))), float(max(map(np.max, [values, *ends])))
        margin = 0.1 * (high - low) or 0.05 * abs(high) or 1.0
        x = alt.X(
            "x:O",
            title=brush.label("width"),
            sort=names,
            axis=alt.Axis(labelAngle=0),
            scale=alt.Scale(padding=0.5),
        )
        title = brush.label(array, 170)
        y = axis_y(title, axis={"tickCount": 4}, domain=[low - margin, high + margin], nice=False)
        data = alt.Chart(table(x=names, y=values))
        layers: list[Any] = [data.mark_line(color=tone).encode(x, y)]
        if ends:
            bars = alt.Chart(table(x=names, low=ends[0], y2=ends[1]))
            whisker = axis_y(
                title, "low", axis={"tickCount": 4}, domain=[low - margin, high + margin], nice=False
            )
            layers.insert(0, bars.mark_rule(color=tone, opacity=0.45).encode(x, whisker, alt.Y2("y2:Q")))
        layers.append(data.mark_circle(color=tone, size=60, opacity=1).encode(x, y))
        panels.append(alt.layer(*layers).properties(width=width, height=150))
    return panels
