"""Drawing of where: the picture, the heat over it, and the likeliest classes with a fifth covered."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import Brush, legend
from sadari.charts.maps import scale_bar
from sadari.charts.pictures import plane
from sadari.charts.pixels import HEAT, embedded, heated, images, labels
from sadari.charts.theme import DATA, DOWN, INK, SMALL, UP, ramp, shorten, table, text_width
from sadari.lang import Texts

TEXTS: Texts = {"most": ("most", "가장 크게")}
SERIES = (("probability", UP), ("covered_hot", DOWN), ("covered_cold", DATA))
MARGIN, GAP = 16, 16.0  # pixels at the right of all, and between the pictures
CLASS, BAR = 46.0, 13.0  # pixels of a class's rows, and of one of its bars


def where(brush: Brush) -> alt.TopLevelMixin:
    """Two pictures side by side, and bars below."""
    parts = (_scale(brush), _pictures(brush), _bars(brush))
    return alt.vconcat(*parts, spacing=16).resolve_scale(color="independent")


def _scale(brush: Brush) -> Any:
    ends = [f"{brush.label('heat')}: {brush.label('least')}", brush.text(TEXTS, "most")]
    return scale_bar(ramp(HEAT, 24), ends, brush.width - MARGIN)


def _pictures(brush: Brush) -> Any:
    width = brush.width - MARGIN
    side = min((width - GAP) / 2, 300.0)
    heat = brush["heat"] / (float(brush["heat"].max()) or 1.0)
    urls = [embedded(brush["picture"], side), embedded(heated(brush["picture"], heat), side)]
    axes = plane(width, side)
    layers = images(urls, [0, side + GAP], [0, 0], [side, side], axes)
    return alt.layer(*layers).properties(width=width, height=side)


def _bars(brush: Brush) -> Any:
    """For each of the likeliest classes its probability, whole and with a fifth covered; an arrow marks the
    one spoken for."""
    spoken = brush.view.facts["spoken"]
    room = 180 if brush.wide else 100
    names = [
        shorten(("→ " if k == spoken else "") + name, room) for k, name in enumerate(brush["name"].tolist())
    ]
    series = [(key, tone) for key, tone in SERIES if np.isfinite(brush[key]).all()]
    words = [brush.label(key) for key, _ in series]
    left = max(text_width(name, SMALL) for name in names) + 10
    width, height = brush.width - MARGIN, CLASS * len(names)
    axes = plane(width, height)
    longest = width - left - text_width("100%", SMALL) - 6
    rows = [(k, part) for k in range(len(names)) for part in range(len(series))]
    shares = [float(brush[series[part][0]][k]) for k, part in rows]
    top = [k * CLASS + part * BAR for k, part in rows]
    ends = [left + longest * share for share in shares]
    data = table(
        x=[left] * len(rows),
        x2=ends,
        y=top,
        y2=[y + BAR - 1 for y in top],
        name=[words[part] for _, part in rows],
    )
    tones = legend(brush, words, [tone for _, tone in series], beside=MARGIN)
    beside = zip([f"{share:.0%}" for share in shares], ends, top, strict=True)
    layers: list[Any] = [
        alt.Chart(data).mark_rect().encode(*axes, alt.X2("x2:Q"), alt.Y2("y2:Q"), color=tones),
        labels([(word, x + 4, y + BAR / 2 - 0.5) for word, x, y in beside], axes, "left", size=SMALL - 1),
        labels([(name, left - 6, (k + 0.5) * CLASS - 4) for k, name in enumerate(names)], axes, "right", INK),
    ]
    return alt.layer(*layers).properties(width=width, height=height)
