"""Drawing of patches: each picture, where it was looked at, what speaks for the words below it."""

from __future__ import annotations

from typing import Any

import altair as alt

from sadari.charts.brush import Brush
from sadari.charts.maps import scale_bar
from sadari.charts.pictures import plane
from sadari.charts.pixels import HEAT, embedded, heated, images, labels
from sadari.charts.theme import INK, SMALL, SOFT, ramp, shorten
from sadari.lang import Texts

TEXTS: Texts = {
    "least": ("nothing", "없음"),
    "most": ("most of its map", "지도에서 가장 크게"),
}
MARGIN, GAP, BETWEEN = 12, 5.0, 26.0  # pixels at the right, between tiles, and between groups of them
HEAD, WORDS, STEP = 18.0, 20.0, 12.0  # pixels above tiles, of a line of words, and between rows


def patches(brush: Brush) -> alt.TopLevelMixin:
    """The scale, and groups of two or three tiles with a line of words under each."""
    width = brush.width - MARGIN
    words = brush.label("heat")
    ends = [f"{words}: {brush.text(TEXTS, 'least')}", brush.text(TEXTS, "most")]
    return alt.vconcat(scale_bar(ramp(HEAT, 24), ends, width), _tiles(brush, width), spacing=14)


def _tiles(brush: Brush, width: float) -> Any:
    kinds = ["picture", *(["looked_heat"] if brush.has("looked_heat") else []), "heat"]
    groups = 2 if brush.wide else 1
    group = (width - BETWEEN * (groups - 1)) / groups
    side = min((group - GAP * (len(kinds) - 1)) / len(kinds), 150.0)
    heads = [("picture", brush.label("picture")), ("looked_heat", brush.label("looked_heat"))]
    heads.append(("heat", brush.view.label("speaks", brush.lang)))
    urls, left, top = [], [], []
    said: list[tuple[str, float, float]] = []
    numbers: list[tuple[str, float, float]] = []
    N = len(brush["picture"])
    step = side + WORDS + STEP
    for k in range(N):
        x, y = (k % groups) * (group + BETWEEN), HEAD + (k // groups) * step
        pixels = brush["picture"][k]
        for place, kind in enumerate(kinds):
            drawn = pixels if kind == "picture" else heated(pixels, brush[kind][k])
            urls.append(embedded(drawn, side))
            left.append(x + place * (side + GAP))
            top.append(y)
        cosine = f"{float(brush['cosine'][k]) + 0.0:.2f}".replace("-", "−")
        numbers.append((cosine, x, y + side + WORDS / 2))
        said.append((shorten(brush["caption"].tolist()[k], group - 44), x + 38, y + side + WORDS / 2))
    height = HEAD + -(-N // groups) * step - STEP
    axes = plane(width, height)
    named = dict(heads)
    above = [
        (shorten(named[kind], side + GAP - 2), g * (group + BETWEEN) + place * (side + GAP), HEAD / 2 - 2)
        for g in range(min(groups, N))
        for place, kind in enumerate(kinds)
    ]
    layers = [
        *images(urls, left, top, [side] * len(urls), axes),
        labels(above, axes, "left", SOFT, SMALL - 1),
        labels(numbers, axes, "left", SOFT, SMALL),
        labels(said, axes, "left", INK, SMALL),
    ]
    return alt.layer(*layers).properties(width=width, height=height)
