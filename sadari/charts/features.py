"""Drawing of features: the picture, and a row of maps for each stage."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import Brush
from sadari.charts.maps import scale_bar
from sadari.charts.pictures import plane
from sadari.charts.pixels import embedded, images, labels, toned
from sadari.charts.theme import INK, SEQUENCE, ramp, shorten
from sadari.lang import Texts

TEXTS: Texts = {"none": ("answer 0", "답 0"), "most": ("the row's largest", "그 줄에서 가장 큰 답")}
SIDE = 74.0  # pixels at the left, for the stages' names
ABOVE = 14.0  # pixels over each row, for the channels' numbers


def features(brush: Brush) -> alt.TopLevelMixin:
    """The scale, and the sheet of maps below."""
    ends = [brush.text(TEXTS, "none"), brush.text(TEXTS, "most")]
    return alt.vconcat(scale_bar(ramp(SEQUENCE, 24), ends, brush.width - 16), _sheet(brush), spacing=12)


def _sheet(brush: Brush) -> Any:
    """A row a stage, its channels' numbers above the maps."""
    stages = brush["stage"].tolist()
    width = brush.width - 16
    columns = max(brush[f"map{i}"].shape[0] for i in range(len(stages)))
    cell = min((width - SIDE) / columns, 110.0)
    side = 0.95 * cell - 1
    shown = max(1.2 * side, 90.0)  # the picture itself
    urls, left, top, sizes = [embedded(brush["picture"], shown)], [SIDE], [0.0], [shown]
    names: list[tuple[str, float, float]] = []
    numbers: list[tuple[str, float, float]] = []
    y = shown + 10
    for i, stage in enumerate(stages):
        maps = brush[f"map{i}"]
        highest = float(maps.max())
        y += ABOVE
        for k, each in enumerate(maps):
            x = SIDE + k * cell
            urls.append(embedded(toned(np.clip(each / (highest or 1.0), 0, 1), SEQUENCE), side))
            left.append(x)
            top.append(y)
            sizes.append(side)
            numbers.append((str(int(brush[f"channel{i}"][k])), x + side / 2, y - 7))
        size = " × ".join(map(str, maps.shape[1:]))
        names += [
            (shorten(stage, SIDE - 8), SIDE - 8, y + side / 2 - 8),
            (size, SIDE - 8, y + side / 2 + 8),
        ]
        y += cell
    axes = plane(width, y)
    layers = images(urls, left, top, sizes, axes)
    layers += [labels(names, axes, "right", INK), labels(numbers, axes)]
    return alt.layer(*layers).properties(width=width, height=y)
