"""Drawing of attention: the text in shades of what reaches the answer, and a small map for every head."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import Brush, named_axis
from sadari.charts.maps import picture, scale_bar
from sadari.charts.theme import BODY, FAINT, INK, SEQUENCE, SMALL, SOFT, ramp, shorten, table, text_width

SHADES = 64
LINE = 30  # pixels between two lines of the text
SIDE = 54  # pixels at the left of the maps, for the layers' names


def attention(brush: Brush) -> alt.TopLevelMixin:
    """The text, and below it one map a head, or the one that was asked for with its tokens named."""
    facts = brush.view.facts
    if not brush.has("weights"):
        return _text(brush)
    if facts["layer"] is None:
        return alt.vconcat(_text(brush), _scale(brush), _heads(brush), spacing=16)
    one = brush["weights"][facts["layer"] - 1, facts["head"] - 1]
    return alt.vconcat(_scale(brush), _head(brush, one), spacing=16)


def _colours() -> list[str]:
    return ramp(SEQUENCE, SHADES)


def _shade(values: np.ndarray, top: float = 1.0) -> np.ndarray:
    """Weights as shades, by the square root: a thirtieth is still seen beside a whole."""
    return np.clip(np.sqrt(values / top) * (SHADES - 1), 0, SHADES - 1).round().astype(int)


def _scale(brush: Brush) -> Any:
    """The colours of the maps, from no weight to all of it."""
    return scale_bar(_colours(), [f"{brush.label('weights')} 0", "100 %"], brush.width - 80)


def _text(brush: Brush) -> Any:
    """Tokens in lines as a text is read, each on its shade, the heaviest darkest; one word's parts touch."""
    width, colours = brush.width - 20, _colours()
    answer, marks = brush["answer"], np.array(brush.view.facts["marks"])
    most = float(answer[~marks].max()) if not marks.all() else float(answer.max())  # of a word
    shades = np.round(np.minimum(answer / (most or 1.0), 1.0) * (SHADES - 1)).astype(int)
    left, line = 0.0, 0
    rows = []
    inside = brush.view.facts["inside"]
    for token, shade, goes_on in zip(brush["token"].tolist(), shades.tolist(), inside, strict=True):
        word = shorten(token, width - 12, BODY)
        wide = text_width(word, BODY) + 8
        if left > 0:
            left += 1 if goes_on else 6
        if left + wide > width:
            left, line = 0.0, line + 1
        ink = "#ffffff" if shade > 0.55 * SHADES else INK
        rows.append((left, left + wide, line * LINE, line * LINE + LINE - 5, word, colours[shade], ink))
        left += wide
    x, x2, y, y2, words, tones, inks = (list(column) for column in zip(*rows, strict=True))
    height = (line + 1) * LINE
    middle = [(a + b) / 2 for a, b in zip(x, x2, strict=True)]
    data = table(
        x=x, x2=x2, y=y, y2=y2, m=middle, c=[v + (LINE - 5) / 2 for v in y], t=words, tone=tones, ink=inks
    )
    across = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, width], nice=False))
    down = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[height, 0], nice=False))
    boxes = alt.Chart(data).mark_rect(cornerRadius=3)
    letters = alt.Chart(data).mark_text(fontSize=BODY, baseline="middle")
    return alt.layer(
        boxes.encode(across, down, alt.X2("x2:Q"), alt.Y2("y2:Q"), fill=alt.Fill("tone:N", scale=None)),
        letters.encode(
            alt.X("m:Q", axis=None),
            alt.Y("c:Q", axis=None),
            alt.Text("t:N"),
            color=alt.Color("ink:N", scale=None),
        ),
    ).properties(width=width, height=height)


def _heads(brush: Brush) -> Any:
    """Maps of all heads on one grid: a column a head, a row a layer."""
    weights = brush["weights"]
    L, H = weights.shape[:2]
    width = brush.width - 20
    cell = min((width - SIDE) / H, 170.0)
    gap = max(2.0, 0.06 * cell)
    top = 22.0
    side = cell - gap
    maps, titles = [], []
    for i in range(L):
        y = top + i * cell
        label = brush.view.label(f"layer{i}", brush.lang)
        titles.append((SIDE - 6.0, y + side / 2, shorten(label, SIDE - 6), "right"))
        maps += [(SIDE + h * cell, y, picture_of(weights[i, h], side)) for h in range(H)]
    for h in range(H):
        label = brush.view.label(f"head{h}", brush.lang)
        short = label if text_width(label, SMALL) < side else str(h + 1)
        titles.append((SIDE + h * cell + side / 2, 8.0, short, "center"))
    x, y, urls = (list(column) for column in zip(*maps, strict=True))
    height = top + L * cell
    data = table(x=x, y=y, x2=[v + side for v in x], y2=[v + side for v in y], url=urls)
    across = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, width], nice=False))
    down = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[height, 0], nice=False))
    layers: list[Any] = [
        alt.Chart(data)
        .mark_image(aspect=False)
        .encode(across, down, alt.X2("x2:Q"), alt.Y2("y2:Q"), alt.Url("url:N")),
        alt.Chart(table(x=x, y=y, x2=[v + side for v in x], y2=[v + side for v in y]))
        .mark_rect(filled=False, stroke=FAINT, strokeWidth=0.6)
        .encode(across, down, alt.X2("x2:Q"), alt.Y2("y2:Q")),
    ]
    for align in ("right", "center"):
        x, y, words = (list(column) for column in zip(*[t[:3] for t in titles if t[3] == align], strict=True))
        layers.append(
            alt.Chart(table(x=x, y=y, t=words))
            .mark_text(align=align, baseline="middle", fontSize=SMALL, color=SOFT)
            .encode(across, down, alt.Text("t:N"))
        )
    return alt.layer(*layers).properties(width=width, height=height)


def picture_of(weights: np.ndarray, side: float) -> str:
    """A map (T, T) as a picture, the first token's row on top; cells of some pixels have sharp edges."""
    fine = max(1, round(2 * side / len(weights)))
    levels = np.kron(_shade(weights)[::-1], np.ones((fine, fine), int))
    return picture(levels, _colours())


def _head(brush: Brush, weights: np.ndarray) -> Any:
    """One map with its tokens along both sides."""
    most = 96 if brush.wide else 64
    names = [shorten(token, most) for token in brush["token"].tolist()]
    T = len(names)
    colours = _colours()
    row, column = (part.ravel() for part in np.indices(weights.shape))
    data = table(row=row, column=column, tone=[colours[shade] for shade in _shade(weights).ravel()])
    side = brush.width - 60 - max(text_width(name, SMALL) for name in names)
    angle = {"orient": "top", "labelAngle": -90}
    tight = {"labelFontSize": max(6, min(SMALL, side / T - 1))}
    x = alt.X(
        "column:O",
        title=brush.view.label("seen", brush.lang),
        axis=named_axis(names, **angle, **tight),
        scale=alt.Scale(padding=0),
    )
    y = alt.Y(
        "row:O",
        title=brush.view.label("looks", brush.lang),
        axis=named_axis(names, **tight),
        scale=alt.Scale(padding=0),
    )
    cells = alt.Chart(data).mark_rect(stroke="white", strokeWidth=0.5)
    return cells.encode(x, y, fill=alt.Fill("tone:N", scale=None)).properties(
        width=side, height=min(side, 26.0 * T)
    )
