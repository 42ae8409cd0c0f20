"""What every drawing shares: the view, the language and the width; axes and legends that fit them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np

from sadari.charts.theme import BODY, SMALL, legend_columns, shorten, text_width
from sadari.inspection.view import View
from sadari.lang import Lang, Texts, pick

PERCENT: dict[str, Any] = {"format": ".0%", "tickCount": 5}


@dataclass(frozen=True)
class Brush:
    """One drawing to be made."""

    view: View
    lang: Lang
    width: int

    @property
    def wide(self) -> bool:
        return self.width >= 500

    def height(self, share: float = 0.5) -> int:
        """Height of the plot: a share of the width, but tall enough on a telephone."""
        return round(max(self.width * share, 210))

    def text(self, texts: Texts, key: str, **values: Any) -> str:
        return pick(texts, key, self.lang, **values)

    def label(self, array: str, room: float | None = None) -> str:
        """What people call an array, shortened to `room` pixels."""
        return shorten(self.view.label(array, self.lang), room or self.width - 80, BODY)

    def __getitem__(self, array: str) -> np.ndarray:
        return self.view.arrays[array]

    def has(self, array: str) -> bool:
        return array in self.view.arrays


def axis_x(title: str | None, field: str = "x", axis: dict[str, Any] | None = None, **scale: Any) -> alt.X:
    """A number across, its scale fitted to the data."""
    more: dict[str, Any] = {"axis": alt.Axis(**axis)} if axis else {}
    return alt.X(f"{field}:Q", title=title, scale=alt.Scale(zero=False, nice=False, **scale), **more)


def axis_y(title: str | None, field: str = "y", axis: dict[str, Any] | None = None, **scale: Any) -> alt.Y:
    """A number up, its scale fitted to the data."""
    more: dict[str, Any] = {"axis": alt.Axis(**axis)} if axis else {}
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(**{"zero": False, **scale}), **more)


def legend(
    brush: Brush, names: Sequence[str], colours: Sequence[str], beside: int = 0, **more: Any
) -> alt.Color:
    """A colour for each name in the field `name`, with a legend that wraps where it must.

    `beside`: pixels that labels of an axis take from the width.
    """
    columns = legend_columns(names, brush.width - beside)
    return alt.Color(
        "name:N",
        scale=alt.Scale(domain=list(names), range=list(colours)),
        sort=list(names),
        legend=alt.Legend(columns=columns, **more),
    )


def named_axis(labels: Sequence[str], **more: Any) -> alt.Axis:
    """An axis over places 0, 1, 2 ... that shows names: they stay values and never become names of fields."""
    words = f"{_strings(labels)}[datum.value]"
    return alt.Axis(
        labelExpr=words, labelOverlap=False, ticks=False, domain=False, grid=False, labelLimit=220, **more
    )


def top_axis(names: Sequence[str], cell: float) -> alt.Axis:
    """Names over columns `cell` pixels wide: level where they have room, else upright."""
    if cell >= 52:
        return named_axis([shorten(name, cell - 6) for name in names], orient="top", labelAngle=0)
    words = [shorten(name, 80) for name in names]
    narrow = all(text_width(word, SMALL) <= cell - 4 for word in words)
    return named_axis(words, orient="top", labelAngle=0 if narrow else -90)


def decades(low: float, high: float, most: int = 6) -> dict[str, Any]:
    """Axis settings for a logarithmic scale: a line at each power of ten, or at some where they are many."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    step = max(1, math.ceil((last - first + 1) / most))
    powers = list(range(first, last + 1, step))
    if len(powers) < 2:  # within one decade plain ticks say more
        return {"format": "~g", "tickCount": 4}
    plain = first >= -5 and last <= 5
    words = [f"{10.0**p:,.{max(0, -p)}f}" if plain else f"1e{p}".replace("-", "−") for p in powers]
    place = f"(round(log(datum.value) / LN10) - ({first})) / {step}"
    return {
        "values": [10.0**p for p in powers],
        "labelExpr": f"{_strings(words)}[{place}]",
        "labelOverlap": True,
    }


def _strings(labels: Sequence[str]) -> str:
    """A list of strings in Vega's expression language; quotes, backslashes and line ends need care there."""
    safe = [
        label.replace("\\", "\\\\")
        .replace("'", "\\'")
        .replace("\n", " ")
        .replace("\r", " ")
        .replace("\u2028", " ")
        for label in labels
    ]
    return "[" + ",".join(f"'{label}'" for label in safe) + "]"
