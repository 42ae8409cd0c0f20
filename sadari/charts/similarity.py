"""Drawing of similarity: pictures across, captions down, darker where more alike, the diagonal outlined."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import Brush
from sadari.charts.maps import scale_bar
from sadari.charts.pictures import plane, tiles
from sadari.charts.pixels import labels
from sadari.charts.theme import DOWN, INK, SEQUENCE, SMALL, ramp, shorten, table, text_width

SHADES = 64
LARGEST = 60.0  # pixels of a cell
ROOMY = 34.0  # pixels of a cell from which its number is written
GAP, MARGIN = 6.0, 8  # pixels between pictures and cells, and at the right of all


def similarity(brush: Brush) -> alt.TopLevelMixin:
    """The scale, and under it the matrix: a column a picture, a row a caption."""
    value = brush["value"].astype(float)
    N, kind = len(value), brush.view.facts["kind"]
    width = brush.width - MARGIN
    most = width * 0.34
    names = [shorten(name, most) for name in brush["caption"].tolist()]
    left = max(text_width(name, SMALL) for name in names) + 10
    cell = min((width - left) / N, LARGEST)
    low, high = (0.0, 1.0) if kind == "softmax" else (float(value.min()), float(value.max()))
    parts = (
        scale_bar(ramp(SEQUENCE, SHADES), _ends(brush, low, high), width - 60),
        _matrix(brush, names, value, (low, high), left, cell),
    )
    return alt.vconcat(*parts, spacing=14)


def _ends(brush: Brush, low: float, high: float) -> list[str]:
    return [f"{brush.label('value')} {_number(low)}", _number(high)]


def _matrix(
    brush: Brush,
    names: list[str],
    value: np.ndarray,
    ends: tuple[float, float],
    left: float,
    cell: float,
) -> Any:
    N = len(value)
    top = cell + GAP
    width, height = left + cell * N, top + cell * N
    axes = plane(width, height)
    beyond = (alt.X2("x2:Q"), alt.Y2("y2:Q"))
    share = (value - ends[0]) / ((ends[1] - ends[0]) or 1.0)
    tones = ramp(SEQUENCE, SHADES)
    picture, caption = (part.ravel() for part in np.indices(value.shape))
    x, y = left + picture * cell, top + caption * cell
    shades = np.clip(share.ravel() * (SHADES - 1), 0, SHADES - 1).round().astype(int)
    cells = table(x=x, y=y, x2=x + cell, y2=y + cell, tone=[tones[shade] for shade in shades])
    diagonal = np.arange(N)
    own = table(
        x=left + diagonal * cell + 1,
        y=top + diagonal * cell + 1,
        x2=left + (diagonal + 1) * cell - 1,
        y2=top + (diagonal + 1) * cell - 1,
    )
    layers: list[Any] = [
        alt.Chart(cells)
        .mark_rect(stroke="white", strokeWidth=1)
        .encode(*axes, *beyond, fill=alt.Fill("tone:N", scale=None)),
        *tiles(list(brush["picture"]), [left + i * cell + 1 for i in range(N)], [0] * N, cell - 2, axes),
        labels(
            [(name, left - 8, top + (i + 0.5) * cell) for i, name in enumerate(names)], axes, "right", INK
        ),
    ]
    if cell >= ROOMY:
        words = table(
            x=x + cell / 2,
            y=y + cell / 2,
            t=[_number(one) for one in value.ravel()],
            ink=["#ffffff" if shade > SHADES * 0.55 else INK for shade in shades],
        )
        layers.append(
            alt.Chart(words)
            .mark_text(fontSize=11, baseline="middle")
            .encode(*axes, alt.Text("t:N"), color=alt.Color("ink:N", scale=None))
        )
    layers.append(alt.Chart(own).mark_rect(filled=False, stroke=INK, strokeWidth=2).encode(*axes, *beyond))
    wrong = np.flatnonzero(brush["nearest"] != diagonal)
    if len(wrong):
        corner = 0.5 if cell < ROOMY else 0.86
        dots = table(x=left + (wrong + corner) * cell, y=top + (brush["nearest"][wrong] + 1 - corner) * cell)
        size = 30 if cell < ROOMY else 48
        layers.append(
            alt.Chart(dots)
            .mark_circle(color=DOWN, size=size, opacity=1, stroke="white", strokeWidth=0.8)
            .encode(*axes)
        )
    return alt.layer(*layers).properties(width=width, height=height)


def _number(value: float) -> str:
    """Two decimals, without the nought before them; a rounded zero has no sign."""
    text = f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text
