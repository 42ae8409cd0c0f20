"""What a search has found as one sheet: a row of pictures a query, the nearest first, as PNG or SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np

from sadari.charts.page import png, svg
from sadari.charts.pictures import GAP, LINE, plane, tiles
from sadari.charts.theme import INK, SMALL, SOFT, config, heading, shorten, table, wrap
from sadari.errors import SadariError
from sadari.files import write_atomic

if TYPE_CHECKING:
    from jaxtyping import UInt8

SHEET = 1000
"""Pixels that a sheet is wide."""
COLUMNS, LINES = 10, 2  # pictures beside each other; lines of a caption
HEAD, QUERY = 28, 15  # pixels of a query's line, and the size of its text
ASKED = 48  # pixels of a picture that was asked with
LEAST = 5  # columns, so that a few pictures do not fill the sheet
_BLANK = np.full((48, 48, 3), 238, np.uint8)  # where a picture is no longer there


@dataclass(frozen=True)
class Found:
    """One query and what was found."""

    query: str
    pictures: Sequence[UInt8[np.ndarray, "H W C"] | None]
    """The nearest first; None where one is no longer there."""
    scores: Sequence[float]
    captions: Sequence[str]
    asked: UInt8[np.ndarray, "H W C"] | None = None
    """The picture that was asked with, if it was one."""


def draw_found(found: Sequence[Found], title: str, caption: str, width: int = SHEET) -> alt.TopLevelMixin:
    """The sheet: under each picture its cosine and its caption; one that was asked with stands above."""
    most = max((len(one.pictures) for one in found), default=0)
    columns = int(np.clip(most, LEAST, COLUMNS))
    cell = (width - GAP * (columns - 1)) / columns
    y = 0.0
    shown: list[tuple[np.ndarray, float, float]] = []
    asked: list[tuple[np.ndarray, float, float]] = []
    words: list[tuple[float, float, str, str, int]] = []
    for one in found:
        if one.asked is not None:
            asked.append((one.asked, 0, y))
        indent, head = (0, HEAD) if one.asked is None else (ASKED + 10, ASKED + 8)
        middle = y + (head - 8 - QUERY) / 2
        words.append((indent, middle, shorten(one.query, width - indent, QUERY), INK, QUERY))
        y += head
        cells = list(zip(one.pictures, one.scores, one.captions, strict=True))
        for first in range(0, len(cells), columns):
            row = cells[first : first + columns]
            lines = [[f"{score:.3f}", *_in_lines(text, cell + GAP - 6)] for _, score, text in row]
            for place, ((pixels, _, _), said) in enumerate(zip(row, lines, strict=True)):
                x = place * (cell + GAP)
                shown.append((_BLANK if pixels is None else pixels, x, y))
                words += [
                    (x, y + cell + 6 + LINE * i, line, INK if i else SOFT, SMALL)
                    for i, line in enumerate(said)
                ]
            y += cell + 6 + LINE * max(map(len, lines)) + GAP
        y += 6
    axes = plane(width, max(y, 1))
    layers: list[Any] = []
    for pictures, side in ((shown, cell), (asked, ASKED)):
        if pictures:
            drawn, left, top = zip(*pictures, strict=True)
            layers += tiles(drawn, left, top, side, axes)
    data = table(**{key: [word[i] for word in words] for i, key in enumerate(("x", "y", "t", "c", "s"))})
    text = alt.Chart(data).mark_text(align="left", baseline="top")
    colour, size = alt.Color("c:N", scale=None), alt.Size("s:Q", scale=None)
    layers.append(text.encode(*axes, alt.Text("t:N"), color=colour, size=size))
    chart = alt.layer(*layers).properties(
        width=width,
        height=max(y, 1),
        title=heading(title, caption, width),
        description=". ".join([title, *(one.query for one in found)]),
    )
    return chart.configure(**config(width))


def _in_lines(text: str, width: float) -> list[str]:
    """At most `LINES` lines, the last shortened."""
    lines = wrap(text, width, SMALL)
    rest = " ".join(lines[LINES - 1 :])
    return [*lines[: LINES - 1], *([shorten(rest, width, SMALL)] if rest else [])]


def check_sheet(path: Path) -> None:
    """Raise SadariError unless a sheet of that name can be drawn."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise SadariError(
            f"--sheet {path}: a sheet is a picture; call it something that ends in .png or .svg"
        )


def save_found(path: Path, found: Sequence[Found], title: str, caption: str) -> Path:
    """Write the sheet as .png or .svg, by the name's ending.

    Raises SadariError for another ending, for Hangul where no font has it, and for a file that cannot be
    written.
    """
    check_sheet(path)
    chart = draw_found(found, title, caption)
    write_atomic(path, svg(chart) if path.suffix.lower() == ".svg" else png(chart))
    return path
