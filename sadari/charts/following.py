"""Drawing of what a language model expects next: a bar a token, the likeliest on top."""

from __future__ import annotations

import altair as alt
import numpy as np

from sadari.charts.brush import PERCENT, Brush, axis_x, named_axis
from sadari.charts.theme import INK, UP, shorten, table


def following(brush: Brush) -> alt.TopLevelMixin:
    """Odds across, tokens from the likeliest down, each bar with its share."""
    odds = brush["odds"]
    names = [shorten(name, 120) for name in brush["token"].tolist()]
    data = table(y=np.arange(len(odds)), x=odds, t=[f"{share:.1%}" for share in odds])
    down = alt.Y("y:O", title=None, axis=named_axis(names))
    most = float(odds.max()) * 1.15
    across = axis_x(brush.label("odds"), axis=PERCENT, domain=[0, most])
    bars = alt.Chart(data).mark_bar(color=UP, cornerRadiusEnd=3).encode(across, down)
    words = alt.Chart(data).mark_text(align="left", dx=5, color=INK).encode(across, down, alt.Text("t:N"))
    return alt.layer(bars, words).properties(height=26 * len(odds))
