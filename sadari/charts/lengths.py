"""Drawings of what length costs: scores by the length of the source, losses along the target."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import PERCENT, Brush, axis_x, axis_y, legend
from sadari.charts.theme import CLASSES, colour, table

NORMAL = 1.96  # standard errors to both sides of a mean: a 95 % interval
SOLID, DASH = [1, 0], [6, 5]


def _tones(brush: Brush) -> list[str]:
    """A colour a run: its rung's, or one of a list where two runs are of one rung."""
    rungs = brush.view.facts["of"]
    if len(set(rungs)) < len(rungs):
        return [CLASSES[k % len(CLASSES)] for k in range(len(rungs))]
    return [colour(rung) for rung in rungs]


def bottleneck(brush: Brush) -> alt.TopLevelMixin:
    """BLEU and chrF, a line a run over groups of lengths, with intervals; the runs stand side by side."""
    names, tones = brush.view.facts["rungs"], _tones(brush)
    lengths = brush["length"].tolist()
    R, B = brush["bleu"].shape
    width = (brush.width - (150 if brush.wide else 76)) / (2 if brush.wide else 1)
    spread = min(0.5, 0.14 * R)
    shift = np.linspace(-spread, spread, R) if R > 1 else np.zeros(1)
    # places 0, 1, 2 ... with a run's own shift, so that intervals do not cover one another
    x_of = (np.arange(B)[None] + shift[:, None] / 2).ravel()
    words = "[" + ",".join(f"'{length}'" for length in lengths) + "]"
    axis: dict[str, Any] = {"values": list(range(B)), "labelExpr": f"{words}[datum.value]", "grid": False}
    panels = []
    for metric in ("bleu", "chrf"):
        low, high = brush[f"{metric}_low"].ravel(), brush[f"{metric}_high"].ravel()
        if not np.isfinite(low).any():  # references too short for BLEU
            continue
        domain = [max(0.0, float(np.nanmin(low)) - 3), min(100.0, float(np.nanmax(high)) + 3)]
        x = axis_x(brush.label("length", width), axis=axis, domain=[-0.5, B - 0.5])
        y = axis_y(brush.label(metric), domain=domain, nice=False)
        whisker = axis_y(brush.label(metric), "low", domain=domain, nice=False)
        tone = legend(brush, names, tones, symbolType="stroke", symbolOpacity=1)
        data = table(x=x_of, y=brush[metric].ravel(), low=low, high=high, name=np.repeat(names, B))
        base = alt.Chart(data)
        panels.append(
            alt.layer(
                base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(x, whisker, alt.Y2("high:Q"), tone),
                base.mark_line().encode(x, y, tone),
                base.mark_circle(size=50, opacity=1).encode(x, y, tone),
            ).properties(width=width, height=brush.height(0.4))
        )
    joined = alt.hconcat if brush.wide else alt.vconcat
    return joined(*panels, spacing=24)


def forcing(brush: Brush) -> alt.TopLevelMixin:
    """The loss along the target, solid behind true words, dashed behind its own; below, right tokens."""
    runs = range(len(brush["teacher"]))
    tones = [tone for tone in _tones(brush) for _ in ("true", "own")]
    names = [brush.view.label(f"{kind} {i}", brush.lang) for i in runs for kind in ("true", "own")]
    tone = legend(brush, names, tones, symbolType="stroke", symbolOpacity=1, symbolSize=500)
    if tone["legend"]["columns"] == 3:  # a run's two lines stay together
        tone["legend"]["columns"] = 2
    # of the same names as the colours, so that one legend shows both
    dash = alt.StrokeDash(
        "name:N", sort=names, scale=alt.Scale(domain=names, range=[SOLID, DASH] * len(runs))
    )
    losses = _along(brush, ("teacher", "free"), names, tone, dash)
    right = _along(brush, ("right_teacher", "right_free"), names, tone, dash)
    return alt.vconcat(losses, right, spacing=14)


def _along(
    brush: Brush, kinds: tuple[str, str], names: list[str], tone: alt.Color, dash: alt.StrokeDash
) -> alt.LayerChart | alt.FacetChart:
    """Two lines a run over the positions; those that have errors stand on their bands."""
    place, share = brush["position"], not brush.has(f"{kinds[0]}_error")
    lines = {name: brush[kinds[k % 2]][k // 2] for k, name in enumerate(names)}
    bands: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if not share:
        errors = {name: NORMAL * brush[f"{kinds[k % 2]}_error"][k // 2] for k, name in enumerate(names)}
        bands = {name: (lines[name] - errors[name], lines[name] + errors[name]) for name in names}
    top = 1.02 if share else 1.05 * max(float(np.nanmax(high)) for _, high in bands.values())
    x = axis_x(
        brush.label("position") if share else None,
        axis={"tickMinStep": 1},
        domain=[1, max(int(place[-1]), 2)],
    )
    y, under = (
        axis_y(
            brush.label("right" if share else "loss", 200),
            field,
            axis=PERCENT if share else {"tickCount": 4},
            domain=[0, top],
            nice=False,
        )
        for field in ("y", "low")
    )
    layers: list[Any] = []
    for name, (low, high) in bands.items():
        data = table(x=place, low=np.clip(low, 0, None), y2=high, name=[name] * len(place))
        mark = alt.Chart(data).mark_area(opacity=0.13, line=False)
        layers.append(mark.encode(x, under, alt.Y2("y2:Q"), tone))
    for name, values in lines.items():
        data = table(x=place, y=values, name=[name] * len(place))
        layers.append(alt.Chart(data).mark_line(strokeWidth=2.5).encode(x, y, tone, dash))
    height = brush.height(0.2 if share else 0.36)
    return alt.layer(*layers).properties(width=brush.width - 76, height=height)
