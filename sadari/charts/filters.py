"""Drawing of filters: a contact sheet of the first layer's weights."""

from __future__ import annotations

import math

import altair as alt
import numpy as np

from sadari.charts.brush import Brush
from sadari.charts.pictures import plane
from sadari.charts.pixels import SIGNED, embedded, images, labels, toned
from sadari.charts.theme import shorten

LARGEST, LEAST = 120.0, 30.0  # pixels of a picture's side on the sheet
NAME = 18.0  # pixels of the line under a picture that has a name


def filters(brush: Brush) -> alt.TopLevelMixin:
    """Pictures in rows, strongest first, or by class with the class under each."""
    weights = brush["filter"]
    named = brush.view.facts["by_class"]
    width = brush.width - 16
    columns = _columns(len(weights), width, 80.0 if named else 56.0)
    cell = min(width / columns, LARGEST)
    gap = 6.0
    side = cell - gap
    line = NAME if named else 0.0
    rows = math.ceil(len(weights) / columns)
    height = rows * (cell + line)
    axes = plane(width, height)
    left = [(k % columns) * cell for k in range(len(weights))]
    top = [(k // columns) * (cell + line) for k in range(len(weights))]
    urls = [embedded(as_picture(each), side) for each in weights]
    layers = images(urls, left, top, [side] * len(weights), axes)
    if named:
        words = [
            (shorten(str(name), cell - 4), x + side / 2, y + side + 9)
            for name, x, y in zip(brush["name"], left, top, strict=True)
        ]
        layers.append(labels(words, axes))
    return alt.layer(*layers).properties(width=width, height=height)


def as_picture(weights: np.ndarray) -> np.ndarray:
    """Weights (k, k, C) as pixels: in colours about grey; of one channel orange, white, blue."""
    scaled = weights / (np.abs(weights).max() or 1.0)  # -1 to 1
    if weights.shape[-1] == 3:
        return np.round(127.5 + 127.5 * scaled).astype(np.uint8)
    return toned((scaled[..., 0] + 1) / 2, SIGNED)


def _columns(count: int, width: float, usual: float) -> int:
    """As many columns as fit, or fewer where the last row would be nearly empty."""
    most = int(min(max(width // usual, 1), max(width // LEAST, 1), count))
    return math.ceil(count / math.ceil(count / most))
