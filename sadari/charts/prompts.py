"""Drawing of prompts: a bar for each template with its interval, the bare caption's score as a line."""

from __future__ import annotations

import altair as alt
import numpy as np

from sadari.charts.brush import Brush, axis_x, named_axis
from sadari.charts.theme import INK, SMALL, SOFT, colour, mixed, shorten, table, text_width

ROW = 34  # pixels of a bar's row


def prompts(brush: Brush) -> alt.TopLevelMixin:
    """Horizontal bars in the order in which the templates were given, the ensemble last."""
    score, low, high = brush["score"], brush["low"], brush["high"]
    T = len(score)
    names = [*brush["template"].tolist()[:-1], brush.label("ensemble")]
    names = [shorten(name, 170 if brush.wide else 110) for name in names]
    left, room = max(text_width(name, SMALL) for name in names), text_width("100.0%", SMALL) + 8
    width = brush.width - left - room - 24
    most = float(high.max()) * 1.02 or 1.0
    tone = colour(brush.view.facts["rung"])
    data = table(
        n=np.arange(T),
        x=score,
        low=low,
        high=high,
        t=[f"{100 * one:.1f}%" for one in score],
        tone=[mixed(tone, 0.6), *[mixed(tone, 0.3)] * (T - 1)],
    )
    axis = {"format": ".0%" if most > 0.06 else ".1%", "tickCount": 5 if brush.wide else 3}
    x = axis_x(brush.label("score"), axis=axis, domain=[0, most])
    y = alt.Y("n:O", title=None, axis=named_axis(names), scale=alt.Scale(padding=0.35))
    base, plain = alt.Chart(data), alt.Chart(table(x=score[:1]))
    picture = alt.layer(
        base.mark_bar().encode(x, y, color=alt.Color("tone:N", scale=None)),
        plain.mark_rule(color=INK, strokeDash=[4, 3]).encode(axis_x(brush.label("score"), domain=[0, most])),
        base.mark_rule(color=INK, strokeWidth=1.6).encode(
            axis_x(brush.label("score"), "low", domain=[0, most]), y, alt.X2("high:Q")
        ),
        base.mark_text(align="left", color=SOFT).encode(y, alt.Text("t:N"), x=alt.value(width + 8)),
    )
    return alt.vconcat(picture.properties(width=width, height=ROW * T))
