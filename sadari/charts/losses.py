"""Drawing of losses: pushes on a false pair against its similarity, over where pairs of both kinds stand."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import Brush, axis_x, axis_y, decades, legend
from sadari.charts.theme import DATA, INK, SOFT, colour, table

LINES = ("softmax_settled", "softmax_median", "sigmoid")
SOLID, DASH = [1, 0], [6, 5]


def losses(brush: Brush) -> alt.TopLevelMixin:
    """Three curves, and below two histograms on the same axis."""
    width = brush.width - 76
    domain = [float(brush["edge"][0]), float(brush["edge"][-1])]
    parts = (_pushes(brush, width, domain), _histogram(brush, width, domain))
    return alt.vconcat(*parts, spacing=10).resolve_scale(color="independent", strokeDash="independent")


def _pushes(brush: Brush, width: float, domain: list[float]) -> Any:
    at = brush["similarity"]
    names = [brush.label(key) for key in LINES]
    data = table(
        x=np.tile(at, len(LINES)),
        y=np.concatenate([100 * brush[key] for key in LINES]),
        name=np.repeat(names, len(at)),
    )
    tones = [colour("clip"), colour("clip"), colour("siglip")]
    tone = legend(brush, names, tones, symbolType="stroke", symbolOpacity=1, symbolSize=500)
    dash = alt.StrokeDash("name:N", sort=names, scale=alt.Scale(domain=names, range=[SOLID, DASH, SOLID]))
    x = axis_x(None, axis={"labels": False, "ticks": False}, domain=domain)
    floor = _floor(brush)
    y = axis_y(
        brush.label("push", 200), axis=decades(floor, 100.0), type="log", domain=[floor, 100.0], nice=False
    )
    facts = brush.view.facts
    rules = alt.Chart(table(x=[facts["true_median"]], t=[brush.view.label("median", brush.lang)]))
    return alt.layer(
        rules.mark_rule(color=INK, strokeDash=[4, 3]).encode(x),
        rules.mark_text(align="right", dx=-5, color=SOFT).encode(x, alt.Text("t:N"), y=alt.value(12)),
        alt.Chart(data).mark_line(clip=True).encode(x, y, tone, dash),
    ).properties(width=width, height=brush.height(0.38))


def _floor(brush: Brush) -> float:
    """The lowest push that is drawn, in per cent: what false pairs feel, down to their first percentile and
    not below a thousandth."""
    share = np.cumsum(brush["false"])
    first = brush["edge"][int(np.searchsorted(share, 0.01))]
    least = min(float(np.interp(first, brush["similarity"], brush[key])) for key in LINES)
    return float(10.0 ** np.floor(np.log10(min(max(100 * least, 1e-3), 0.1))))


def _histogram(brush: Brush, width: float, domain: list[float]) -> Any:
    edge = brush["edge"]
    kinds = (("false", DATA), ("true", INK))
    names = [brush.label(key) for key, _ in kinds]
    data = table(
        a=np.tile(edge[:-1], 2),
        b=np.tile(edge[1:], 2),
        zero=np.zeros(2 * (len(edge) - 1)),
        n=np.concatenate([brush[key] for key, _ in kinds]),
        name=np.repeat(names, len(edge) - 1),
    )
    x = axis_x(brush.label("similarity"), "a", domain=domain)
    y = alt.Y("n:Q", title=brush.label("share", 110), axis=alt.Axis(format=".0%", tickCount=3))
    bars = alt.Chart(data).mark_rect(opacity=0.55)
    tone = legend(brush, names, [tone for _, tone in kinds])
    rules = alt.Chart(table(x=[brush.view.facts["true_median"]]))
    return alt.layer(
        bars.encode(x, y, alt.X2("b:Q"), alt.Y2("zero:Q"), color=tone),
        rules.mark_rule(color=INK, strokeDash=[4, 3]).encode(
            axis_x(brush.label("similarity"), domain=domain)
        ),
    ).properties(width=width, height=110)
