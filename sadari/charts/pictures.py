"""Pictures inside a chart: pixels as a PNG in a data URL, and sheets of them with words under each."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import altair as alt
import numpy as np
from PIL import Image

from sadari.charts.theme import FAINT, INK, SMALL, SOFT, shorten, table

if TYPE_CHECKING:
    from jaxtyping import UInt8

COARSE = 48  # pixels of a side below which a picture is enlarged pixel by pixel, or a viewer would blur it
SHARP = 200  # pixels of a side that such a picture gets, at least
GAP = 12  # pixels between pictures of a sheet
LINE = 15  # pixels of a line of words


def data_uri(pixels: UInt8[np.ndarray, "H W C"]) -> str:
    """A picture, grey or in colours, as a PNG in a data URL; a small one keeps the edges of its pixels."""
    if (times := -(-SHARP // max(pixels.shape[:2]))) > 1 and max(pixels.shape[:2]) < COARSE:
        pixels = pixels.repeat(times, 0).repeat(times, 1)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def contact_sheet(
    pictures: Sequence[UInt8[np.ndarray, "H W C"]],
    words: Sequence[Sequence[str]],
    *,
    width: float,
    columns: int,
    tones: Sequence[str] = (INK, SOFT),
) -> alt.LayerChart | alt.FacetChart:
    """Pictures in rows of `columns`, `width` pixels wide together; under each its lines of words.

    tones   a colour for each line, the last one for those that follow
    """
    cell = (width - GAP * (columns - 1)) / columns
    lines = max((len(one) for one in words), default=0)
    step = cell + 4 + LINE * lines + GAP
    height = -(-len(pictures) // columns) * step - GAP
    left = [(i % columns) * (cell + GAP) for i in range(len(pictures))]
    top = [(i // columns) * step for i in range(len(pictures))]
    x, y = plane(width, height)
    layers = tiles(pictures, left, top, cell, (x, y))
    for row in range(lines):
        said = [
            (a, b + cell + 4 + LINE * row, one[row])
            for a, b, one in zip(left, top, words, strict=True)
            if row < len(one)
        ]
        texts = table(
            x=[a for a, _, _ in said],
            y=[b for _, b, _ in said],
            t=[shorten(text, cell + GAP - 4, SMALL) for _, _, text in said],
        )
        mark = alt.Chart(texts).mark_text(
            align="left", baseline="top", fontSize=SMALL, color=tones[min(row, len(tones) - 1)]
        )
        layers.append(mark.encode(x, y, alt.Text("t:N")))
    return alt.layer(*layers).properties(width=width, height=height)


def tiles(
    pictures: Sequence[UInt8[np.ndarray, "H W C"]],
    left: Sequence[float],
    top: Sequence[float],
    side: float,
    axes: tuple[alt.X, alt.Y],
) -> list[alt.Chart]:
    """Layers of a chart: pictures in thin frames at places of a `plane`, each `side` pixels wide and high."""
    data = table(
        x=left, y=top, x2=[a + side for a in left], y2=[b + side for b in top], u=map(data_uri, pictures)
    )
    ends = (*axes, alt.X2("x2:Q"), alt.Y2("y2:Q"))
    return [
        alt.Chart(data).mark_image(aspect=False).encode(*ends, alt.Url("u:N")),
        alt.Chart(data).mark_rect(filled=False, stroke=FAINT, strokeWidth=0.75).encode(*ends),
    ]


def plane(width: float, height: float) -> tuple[alt.X, alt.Y]:
    """Fields x and y that are places in pixels, from the upper left corner, without axes."""
    across = alt.Scale(domain=[0, width], nice=False, zero=False)
    down = alt.Scale(domain=[0, height], nice=False, zero=False, reverse=True)
    return alt.X("x:Q", axis=None, scale=across), alt.Y("y:Q", axis=None, scale=down)
