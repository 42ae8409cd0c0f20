"""Drawing of an alignment: words of the source across, written words down, darker where more is looked at."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import Brush, named_axis, top_axis
from sadari.charts.maps import scale_bar
from sadari.charts.theme import SEQUENCE, SMALL, ramp, shorten, table, text_width

SHADES = 64
LARGEST, ROW = 56.0, 26.0  # pixels of a cell across and down, at most


def alignment(brush: Brush) -> alt.TopLevelMixin:
    """The scale, and the map under it; short alignments keep cells of a readable size."""
    weights = brush["weights"]
    T, S = weights.shape
    colours = ramp(SEQUENCE, SHADES)
    most = 130 if brush.wide else 84
    down = [shorten(name, most) for name in brush["target"].tolist()]
    room = brush.width - 64 - max(text_width(name, SMALL) for name in down)
    cell = min(room / S, LARGEST)
    # by the square root: a thirtieth is still seen beside a whole
    shades = np.clip(np.sqrt(weights) * (SHADES - 1), 0, SHADES - 1).round().astype(int)
    row, column = (part.ravel() for part in np.indices(weights.shape))
    data = table(row=row, column=column, tone=[colours[shade] for shade in shades.ravel()])
    small: dict[str, Any] = {"labelFontSize": max(6, min(SMALL, cell - 1))}
    axis = top_axis(brush["source"].tolist(), cell)
    if cell < SMALL + 1:
        axis = named_axis(
            [shorten(name, 80) for name in brush["source"].tolist()], orient="top", labelAngle=-90, **small
        )
    x = alt.X("column:O", title=brush.label("source"), axis=axis, scale=alt.Scale(padding=0))
    height = min(ROW, max(cell, 15.0))
    y = alt.Y(
        "row:O",
        title=brush.label("target", height * T),
        axis=named_axis(down, labelFontSize=min(SMALL, height - 2)),
        scale=alt.Scale(padding=0),
    )
    cells = alt.Chart(data).mark_rect(stroke="white", strokeWidth=0.5)
    picture = cells.encode(x, y, fill=alt.Fill("tone:N", scale=None))
    scale = scale_bar(colours, [f"{brush.label('weights')} 0", "100 %"], brush.width - 80)
    return alt.vconcat(scale, picture.properties(width=cell * S, height=height * T), spacing=16)
