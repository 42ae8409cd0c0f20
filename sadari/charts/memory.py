"""Drawings of what a network remembers: gradients against lag, and an LSTM's gates along a text."""

from __future__ import annotations

import altair as alt
import numpy as np

from sadari.charts.brush import Brush, axis_x, decades, legend, named_axis, top_axis
from sadari.charts.theme import DOWN, FAINT, INK, SEQUENCE, SMALL, SOFT, UP, colour, mixed, shorten, table

FLOOR = 1e-12  # below this a curve leaves the picture
DASH = [6, 5]
TONES = {"small": "#858b96", "rnn": colour("rnn"), "lstm": colour("lstm")}
GATES = ("forget", "input", "output")


def memory(brush: Brush) -> alt.TopLevelMixin:
    """Gradient against lag: this run's line, fresh networks dashed; the adding problem below, if there."""
    facts, lag = brush.view.facts, brush["lag"]
    shown = ("run", "small", "rnn", "lstm")
    names = [brush.view.label("this run" if array == "run" else array, brush.lang) for array in shown]
    # a fresh network of the run's own kind has its colour, thinner and dashed
    tones = [colour(facts["rung"]) if array == "run" else mixed(TONES[array], 0.8) for array in shown]
    seen = np.concatenate([brush[array] for array in shown])
    alive = seen[seen >= FLOOR]
    low, high = max(float(alive.min()), FLOOR) / 2, float(alive.max()) * 3
    across = axis_x(brush.label("lag"), domain=[0, max(int(lag[-1]), 1)])
    up = alt.Y(
        "y:Q",
        title=brush.label("run", 300),
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(**decades(low, high)),
    )
    tone = legend(brush, names, tones, symbolType="stroke")
    layers: list[alt.Chart] = []
    if low < facts["vanished"] < high:
        line = alt.Chart(table(y=[facts["vanished"]], t=[brush.view.label("vanished", brush.lang)]))
        layers.append(line.mark_rule(color=FAINT, strokeDash=[2, 4], strokeWidth=1.5).encode(up))
        words = line.mark_text(align="right", dx=-4, dy=-8, color=SOFT)
        layers.append(words.encode(up, alt.Text("t:N"), x=alt.value("width")))
    for array, name in zip(shown, names, strict=True):
        curve, own = brush[array], array == "run"
        ends = int(np.argmax(curve < low)) if (curve < low).any() else len(curve)
        data = table(x=lag[:ends], y=curve[:ends], name=[name] * ends)
        layers.append(
            alt.Chart(data)
            .mark_line(strokeWidth=3 if own else 2, strokeDash=[1, 0] if own else DASH, clip=True)
            .encode(across, up, tone)
        )
    chart = alt.layer(*layers).properties(height=brush.height(0.45))
    if not brush.has("adding_steps"):
        return chart
    width = brush.width - 84
    return alt.vconcat(chart.properties(width=width), _adding(brush, width), spacing=18).resolve_scale(
        color="independent"
    )


def _adding(brush: Brush, width: int) -> alt.LayerChart | alt.FacetChart:
    """The course of the adding problem's error."""
    steps, trivial = brush["adding_steps"], brush.view.facts["adding"]["trivial"]
    kinds = ("small", "rnn", "lstm")
    names = [brush.view.label(f"adding_{kind}", brush.lang) for kind in kinds]
    seen = np.concatenate([brush[f"adding_{kind}"] for kind in kinds])
    low, high = max(float(seen.min()) / 2, 1e-6), max(float(seen.max()), trivial) * 2
    across = axis_x(brush.label("adding_steps"))
    up = alt.Y(
        "y:Q",
        title=brush.label("error", 300),
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(**decades(low, high, most=5)),
    )
    line = alt.Chart(table(y=[trivial], t=[brush.view.label("trivial", brush.lang)]))
    data = table(x=np.tile(steps, len(kinds)), y=np.clip(seen, low, None), name=np.repeat(names, len(steps)))
    return alt.layer(
        line.mark_rule(color=FAINT, strokeDash=[2, 4], strokeWidth=1.5).encode(up),
        line.mark_text(align="right", dx=-4, dy=-8, color=SOFT).encode(
            up, alt.Text("t:N"), x=alt.value("width")
        ),
        alt.Chart(data)
        .mark_line(clip=True)
        .encode(
            across,
            up,
            legend(brush, names, [TONES[kind] for kind in kinds], symbolType="stroke"),
        ),
    ).properties(width=width, height=150)


def gates(brush: Brush) -> alt.TopLevelMixin:
    """Lines of tokens, each over a strip of the three gates and the cell."""
    tokens = brush["token"].tolist()
    beside = 96 if brush.wide else 84  # names of the rows
    width = brush.width - beside - 12
    cell = 26.0 if brush.wide else 24.0
    lines = -(-len(tokens) // max(int(width // cell), 1))
    per_line = -(-len(tokens) // lines)  # all lines about equally long
    top = float(np.abs(brush["cell"]).max()) or 1.0
    rows = [*GATES, "cell"]
    names = [shorten(brush.view.label(row, brush.lang), beside - 8, SMALL) for row in rows]
    strips = []
    for start in range(0, len(tokens), per_line):
        stop = min(start + per_line, len(tokens))
        place = np.arange(stop - start)
        levels = np.concatenate([brush[row][start:stop] for row in rows])
        shades = [_gate(v) for v in levels[: 3 * len(place)]] + [
            _signed(v / top) for v in levels[3 * len(place) :]
        ]
        data = table(
            x=np.tile(place, len(rows)),
            y=np.repeat(np.arange(len(rows)), len(place)),
            tone=shades,
            word=[_short(v) for v in levels],
            ink=[INK if _light(shade) else "#ffffff" for shade in shades],
        )
        x = alt.X("x:O", title=None, axis=top_axis(tokens[start:stop], cell))
        y = alt.Y("y:O", title=None, axis=named_axis(names))
        base = alt.Chart(data)
        strip = alt.layer(
            base.mark_rect(stroke="white", strokeWidth=1.5).encode(x, y, fill=alt.Fill("tone:N", scale=None)),
            base.mark_text(fontSize=9.5).encode(
                x, y, alt.Text("word:N"), color=alt.Color("ink:N", scale=None)
            ),
        )
        strips.append(strip.properties(width=cell * len(place), height=22 * len(rows)))
    return alt.vconcat(*strips, spacing=16)


def _short(value: float) -> str:
    """Two figures that fit a cell: .87, −1.2."""
    words = f"{value:.2f}" if abs(value) < 0.995 else f"{value:.1f}"
    return words.replace("-0.", "−.").replace("-", "−").removeprefix("0") or "0"


def _gate(value: float) -> str:
    """Pale at 0, deep at 1."""
    return SEQUENCE[min(int(value * len(SEQUENCE)), len(SEQUENCE) - 1)]


def _signed(value: float) -> str:
    """Blue above zero, orange below, white at it."""
    return mixed(UP if value >= 0 else DOWN, min(abs(value), 1.0))


def _light(tone: str) -> bool:
    """Whether dark letters read better on it."""
    red, green, blue = (int(tone[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue > 150
