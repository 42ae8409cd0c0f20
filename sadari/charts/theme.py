"""One look for all charts: colours apart for every eye, a quiet light ground, text that fits its width."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt
import numpy as np

from sadari import fonts

WIDE, NARROW = 680, 340
"""Widths in pixels that charts are drawn for: a page, and a telephone."""

# A rung has one colour in every chart. Okabe and Ito's colours (2008), darkened until each reaches 3:1 on
# white.
RUNGS = {
    "mean": "#858b96",
    "prior": "#858b96",
    "line": "#0070c0",
    "logistic": "#0070c0",
    "shallow": "#c97b00",
    "deep": "#149a62",
    "deep-skip": "#a3328a",
    "rnn": "#c97b00",
    "lstm": "#149a62",
    "attention": "#a3328a",
    "transformer": "#0070c0",
    "lookup": "#858b96",
    "lstm-attention": "#a3328a",
    "one-hot": "#900000",
    "embedding": "#7800f0",
    "convolution": "#a3328a",
    "nearest": "#900000",
    "alexnet": "#f00048",
    "vgg": "#7800f0",
    "resnet": "#149a62",
    "vit": "#3030a8",
    "zero-shot": "#fc24f0",
    "retrieval": "#480060",
    "probe": "#a3328a",
    "fine-tune": "#784860",
    "distilled": "#c03000",
    "bag-of-words": "#858b96",
    "clip": "#0070c0",
    "siglip": "#149a62",
    "locked": "#a3328a",
}
OUTSIDE = "#1f2937"  # the judge from outside the ladder
# Classes: the same family of colours in another order, so that a class is not taken for a rung
CLASSES = (
    "#3b78b8",
    "#d55e00",
    "#2a9d78",
    "#a3328a",
    "#b8901c",
    "#4db0c9",
    "#7a4a2b",
    "#6b6f78",
    "#e07ba6",
    "#8a9a2e",
)
UP, DOWN = "#0070c0", "#d55e00"  # raises, lowers
INK, SOFT, FAINT, GRID = "#1f2937", "#4b5563", "#9aa1ab", "#e7e9ed"
DATA = "#8d94a0"  # the rows themselves, under whatever is said of them
# one hue from pale to deep: lightness alone says the order
SEQUENCE = ("#f4f8fc", "#d7e6f3", "#b3d0e7", "#86b4d7", "#5896c5", "#3277ae", "#175a91", "#0b3f6d")
DEPTHS = ("#9cc5e3", "#5b9fd0", "#2f79b5", "#175591", "#0a2f5c")

TITLE, BODY, SMALL = 17, 13, 12  # sizes of text in pixels


def colour(rung: str) -> str:
    """The rung's colour; whatever is not on a ladder gets the outside's."""
    return RUNGS.get(rung, OUTSIDE)


def class_colours(count: int) -> list[str]:
    """Colours for `count` classes; beyond ten they repeat."""
    return [CLASSES[k % len(CLASSES)] for k in range(count)]


def table(**columns: Iterable[Any]) -> alt.Data:
    """Columns under names of ours as the data of a chart; NaN becomes a gap.

    Names of the user's never become field names, since Vega reads dots and brackets in those as paths.
    """
    lists = {name: [_plain(value) for value in values] for name, values in columns.items()}
    rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    return alt.Data(values=rows)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def text_width(text: str, size: float) -> float:
    """About how wide `text` is in pixels: an em a Hangul syllable, over half of one a Latin letter."""
    ems = 0.0
    for character in text:
        if unicodedata.east_asian_width(character) in "WF":
            ems += 0.95
        elif character.isspace() or character in ".,:;'|!ijl()[]":
            ems += 0.29
        else:
            ems += 0.65 if character.isupper() or character in "mw%→" else 0.56
    return ems * size


def wrap(text: str, width: float, size: float) -> list[str]:
    """Lines of at most `width` pixels, broken at spaces but those of `8 × 8`; a longer word is cut."""
    lines: list[str] = []
    line = ""
    for word in re.split(r"(?<!×)\s+(?!×)", text.strip()) if text.strip() else ():
        while text_width(word, size) > width:
            cut = next(n for n in range(len(word), 0, -1) if n == 1 or text_width(word[:n], size) <= width)
            if line:
                lines.append(line)
                line = ""
            lines.append(word[:cut])
            word = word[cut:]
        longer = f"{line} {word}" if line else word
        if line and text_width(longer, size) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line] if line else lines


def shorten(text: str, width: float, size: float = SMALL) -> str:
    """`text`, or as much of it as fits into `width` pixels with an ellipsis."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def heading(title: str, caption: str, width: int) -> alt.TitleParams:
    """Title and caption as lines that fit, at the left edge."""
    return alt.TitleParams(text=wrap(title, width - 8, TITLE), subtitle=wrap(caption, width - 8, BODY))


def config(width: int) -> dict[str, Any]:
    """The theme, as a Vega-Lite config."""
    axis = {
        "labelColor": SOFT,
        "labelFontSize": SMALL,
        "titleColor": INK,
        "titleFontSize": BODY,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "gridColor": GRID,
        "domainColor": FAINT,
        "tickColor": FAINT,
        "tickSize": 4,
        "labelPadding": 4,
        "tickCount": 6 if width >= 500 else 4,
        "labelOverlap": True,
        "labelLimit": 160 if width >= 500 else 110,
        "titleLimit": width - 40,
    }
    return {
        "background": "#ffffff",
        "font": fonts.family(),
        "padding": 6,
        "aria": False,  # the picture has one text alternative; hundreds of labelled marks would drown it
        "view": {"stroke": None},
        "axis": axis,
        "title": {
            "anchor": "start",
            "frame": "bounds",
            "align": "left",
            "offset": 14,
            "fontSize": TITLE,
            "fontWeight": "normal",
            "color": INK,
            "lineHeight": TITLE + 6,
            "subtitleFontSize": BODY,
            "subtitleColor": SOFT,
            "subtitleLineHeight": BODY + 6,
            "subtitlePadding": 7,
        },
        "legend": {
            "orient": "top",
            "direction": "horizontal",
            "title": None,
            "labelFontSize": BODY,
            "labelColor": INK,
            "symbolSize": 120,
            "symbolStrokeWidth": 2.5,
            "columnPadding": 16,
            "offset": 10,
            "labelLimit": width - 60,
        },
        "header": {"labelFontSize": BODY, "labelColor": INK, "title": None, "labelFontWeight": "normal"},
        "line": {"strokeWidth": 2.5, "strokeCap": "round", "strokeJoin": "round"},
        "point": {"size": 40},
        "text": {"fontSize": SMALL, "color": INK},
        "range": {"category": list(CLASSES)},
    }


def legend_columns(labels: Sequence[str], width: int) -> int:
    """How many legend entries fit beside each other."""
    widest = max((text_width(label, BODY) for label in labels), default=0) + 44
    return max(1, min(len(labels), int((width - 20) // widest)))


def ramp(colours: Sequence[str], count: int) -> list[str]:
    """`count` colours along those given."""
    parts = np.array([[int(tone[i : i + 2], 16) for i in (1, 3, 5)] for tone in colours], dtype=float)
    at = np.linspace(0, len(colours) - 1, count)
    between = [np.interp(at, np.arange(len(colours)), parts[:, channel]) for channel in range(3)]
    return ["#" + "".join(f"{round(value):02x}" for value in tone) for tone in zip(*between, strict=True)]


def mixed(tone: str, share: float) -> str:
    """A colour thinned with white to `share` of itself."""
    return "#" + "".join(f"{round(255 + share * (int(tone[i : i + 2], 16) - 255)):02x}" for i in (1, 3, 5))
