"""Drawing of speed against length: a panel for training, one for writing."""

from __future__ import annotations

import altair as alt
import numpy as np

from sadari.charts.brush import Brush, decades, legend
from sadari.charts.theme import colour, shorten, table
from sadari.inspection.speed import KINDS


def speed(brush: Brush) -> alt.TopLevelMixin:
    """A line a kind over the lengths, both axes logarithmic; both panels at one scale."""
    lengths = brush["lengths"].tolist()
    tone = legend(brush, KINDS, [colour(kind) for kind in KINDS], symbolType="stroke")
    columns = 2 if brush.wide else 1
    width = (brush.width - 84) / columns - (24 if columns > 1 else 0)
    seen = np.concatenate([brush[f"{kind}{way}"] for kind in KINDS for way in ("", "_written")])
    low, high = float(seen.min()) / 1.5, float(seen.max()) * 1.5
    marks = lengths if len(lengths) <= 6 else lengths[:: -(-len(lengths) // 6)]
    panels = []
    for place, (name, way) in enumerate((("training", ""), ("writing", "_written"))):
        across = alt.X(
            "x:Q",
            title=brush.label("lengths", width),
            scale=alt.Scale(type="log", base=2, domain=[lengths[0], lengths[-1]], nice=False),
            axis=alt.Axis(values=marks, format=",d", labelOverlap=True),
        )
        up = alt.Y(
            "y:Q",
            title=brush.label("rate") if place == 0 or columns == 1 else None,
            scale=alt.Scale(type="log", domain=[low, high], nice=False),
            axis=alt.Axis(**decades(low, high)),
        )
        data = table(
            x=lengths * len(KINDS),
            y=np.concatenate([brush[f"{kind}{way}"] for kind in KINDS]),
            name=np.repeat(KINDS, len(lengths)),
        )
        base = alt.Chart(data).encode(across, up, tone)
        head = shorten(brush.view.label(name, brush.lang), width, 13)
        title = alt.TitleParams(head, fontSize=13, anchor="start", frame="group", offset=6)
        panel = alt.layer(base.mark_line(strokeWidth=2), base.mark_circle(size=42, opacity=1))
        panels.append(panel.properties(width=width, height=230, title=title))
    return alt.concat(*panels, columns=columns, spacing={"row": 12, "column": 16})
