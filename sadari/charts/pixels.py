"""Values as tones: heat over a picture, maps and weights as pictures, and many of them on one plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt
import numpy as np

from sadari.charts.pictures import data_uri
from sadari.charts.theme import DOWN, FAINT, SMALL, SOFT, UP, ramp, table

HEAT = ("#ffffff", "#ffd9a8", "#fd9f47", "#e2571c", "#a02b0e", "#5e1208")  # of no heat, to the most
SIGNED = (DOWN, "#f3b48a", "#ffffff", "#9cc5e3", UP)  # lowers, nothing, raises
LEVELS = 256
PALE = 0.25  # of a picture's contrast that is left under a heat
SHARP = 96  # pixels of a side below which a pixel is shown as a square with sharp edges


def embedded(pixels: np.ndarray, side: float) -> str:
    """Pixels (H, W, C) as a data URL, to be shown `side` pixels wide.

    A viewer blurs what it enlarges; small pictures are enlarged here, so that each pixel stays a square.
    """
    longer = max(pixels.shape[:2])
    if longer < SHARP:
        fine = max(1, round(2 * side / longer))
        pixels = pixels.repeat(fine, 0).repeat(fine, 1)
    return data_uri(pixels)


def toned(values: np.ndarray, colours: Sequence[str]) -> np.ndarray:
    """Values from 0 to 1 (...,) as colours (..., 3) uint8 along a ramp."""
    tones = np.array([[int(tone[i : i + 2], 16) for i in (1, 3, 5)] for tone in ramp(colours, LEVELS)])
    return tones[np.clip(np.round(values * (LEVELS - 1)), 0, LEVELS - 1).astype(int)].astype(np.uint8)


def heated(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A picture (H, W, C) in pale grey, tinted by heat (H, W) from 0 to 1: as it is where that is 0.

    One on a dark ground is inverted, or its ground would look as hot as what is.
    """
    grey = pixels.mean(-1, keepdims=True) / 255
    if np.median(grey) < 0.5:
        grey = 1 - grey
    return np.round((1 - PALE + PALE * grey) * toned(np.clip(heat, 0, 1), HEAT)).astype(np.uint8)


def images(
    urls: Sequence[str],
    left: Sequence[float],
    top: Sequence[float],
    side: Sequence[float],
    axes: tuple[alt.X, alt.Y],
) -> list[Any]:
    """Square pictures with a faint frame, placed on axes in pixels that run down."""
    data: dict[str, Any] = {
        "x": left,
        "y": top,
        "x2": [a + b for a, b in zip(left, side, strict=True)],
        "y2": [a + b for a, b in zip(top, side, strict=True)],
    }
    ends = (alt.X2("x2:Q"), alt.Y2("y2:Q"))
    return [
        alt.Chart(table(**data, url=urls)).mark_image(aspect=False).encode(*axes, *ends, alt.Url("url:N")),
        alt.Chart(table(**data)).mark_rect(filled=False, stroke=FAINT, strokeWidth=0.6).encode(*axes, *ends),
    ]


def labels(
    words: Sequence[tuple[str, float, float]],
    axes: tuple[alt.X, alt.Y],
    align: Literal["left", "center", "right"] = "center",
    colour: str = SOFT,
    size: float = SMALL,
) -> alt.Chart:
    """Words on a plane, each at x and the middle of its line at y."""
    texts, x, y = (list(column) for column in zip(*words, strict=True))
    mark = alt.Chart(table(x=x, y=y, t=texts)).mark_text(
        align=align, baseline="middle", fontSize=size, color=colour
    )
    return mark.encode(*axes, alt.Text("t:N"))
