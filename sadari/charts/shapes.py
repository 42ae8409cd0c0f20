"""Drawing of shapes: what each stage holds and costs as rows of bars, and the maps' sides stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from sadari.charts.brush import Brush, axis_y, legend, named_axis
from sadari.charts.pictures import plane
from sadari.charts.pixels import labels
from sadari.charts.theme import DOWN, INK, SMALL, SOFT, UP, colour, shorten, table, text_width
from sadari.lang import Texts
from sadari.metrics import number

MANY = 40  # stages from which rows are low
HEAD = 24  # pixels over the rows
GAP = 12  # pixels between columns of bars
BARS = ("parameters", "macs", "memory")
TEXTS: Texts = {
    "parameters": ("weights {all}", "가중치 {all}"),
    "macs": ("multiply-adds {all}", "곱셈-덧셈 {all}"),
    "memory": ("memory {all}", "메모리 {all}"),
}


def shapes(brush: Brush) -> alt.TopLevelMixin:
    """Bars above, sides below."""
    return alt.vconcat(_rows(brush), _sides(brush), spacing=20).resolve_scale(color="independent")


def short(count: float, bytes_: bool = False) -> str:
    """A count in thousands, millions or billions, a memory in kB, MB or GB: 61.1 M, 774 kB."""
    names = ("B", "kB", "MB", "GB", "TB") if bytes_ else ("", "k", "M", "G", "T")
    power = 0
    while count >= 999.5 and power + 1 < len(names):
        count, power = count / 1000, power + 1
    return f"{number(count)} {names[power]}".strip()


def _rows(brush: Brush) -> Any:
    """A row a stage: its name and result, then three bars with their numbers."""
    stage, result = brush["stage"].tolist(), brush["result"].tolist()
    count = len(stage)
    row, size = (20, SMALL) if count <= MANY else (15, SMALL - 1)
    first = max(text_width(name, size) for name in stage) + 10
    second = (max(text_width(words, size) for words in result) + 20) if brush.wide else 0.0
    width = brush.width - 70
    each = (width - first - second) / len(BARS)
    height = HEAD + row * count
    axes = plane(width, height)
    middles = [HEAD + row * (k + 0.5) for k in range(count)]

    def column(words: list[str], x: Sequence[float], tone: str) -> alt.Chart:
        return labels(list(zip(words, x, middles, strict=True)), axes, "left", tone, size)

    layers: list[Any] = [column(stage, [0.0] * count, INK)]
    if second:
        layers.append(column(result, [first] * count, SOFT))
    for place, name in enumerate(BARS):
        values, left = brush[name], first + second + place * each
        words = [short(float(value), name == "memory") for value in values]
        room = max(text_width(word, size) for word in words) + 6
        longest = max(each - GAP - room, 6.0)
        ends = left + longest * values / max(float(values.max()), 1.0)
        bars = table(
            x=[left] * count,
            x2=ends,
            y=[middle - 0.35 * row for middle in middles],
            y2=[middle + 0.35 * row for middle in middles],
        )
        mark = alt.Chart(bars).mark_rect(color=colour(brush.view.facts["rung"]))
        layers += [
            mark.encode(*axes, alt.X2("x2:Q"), alt.Y2("y2:Q")),
            column(words, (ends + 4).tolist(), SOFT),
            labels([(_head(brush, name, each - 4), left, 10.0)], axes, "left", INK),
        ]
    return alt.layer(*layers).properties(width=width, height=height)


def _head(brush: Brush, name: str, room: float) -> str:
    """What a column of bars is, and its sum; where that has no room, what it is."""
    whole = short(float(brush[name].sum()), name == "memory")
    title = brush.text(TEXTS, name, all=whole)
    return (
        title if text_width(title, SMALL) <= room else shorten(brush.text(TEXTS, name, all="").strip(), room)
    )


def _sides(brush: Brush) -> Any:
    """The maps' sides: as they are, without padding, without pooling."""
    names = brush.view.facts["stages"]
    count, width = len(names), brush.width - 80
    step = -(-count // max(int(width // 16), 2))
    shown = [shorten(name, 70) if k % step == 0 or k == count - 1 else "" for k, name in enumerate(names)]
    series = [("side_unpadded", "side_unpadded", DOWN, 2.5), ("as it is", "side", INK, 2.0)]
    if brush.view.facts["pools"]:
        series.insert(0, ("side_unpooled", "side_unpooled", UP, 5.0))  # under the line that it begins with
    words = [brush.label(label) for label, _, _, _ in series]
    x = alt.X("place:O", title=None, axis=named_axis(shown, labelAngle=-90))
    top = max(float(brush[key].max()) for _, key, _, _ in series)
    y = axis_y(brush.label("side", 200), domain=[0, 1.05 * top], nice=False)
    tones = legend(brush, words, [tone for _, _, tone, _ in series])
    layers: list[Any] = []
    for word, (_, key, _, thick) in zip(words, series, strict=True):
        data = table(place=range(count), y=brush[key], name=[word] * count)
        lines = alt.Chart(data).encode(x, y, tones)
        layers += [lines.mark_line(strokeWidth=thick), lines.mark_circle(size=14 * thick, opacity=1)]
    return alt.layer(*layers).properties(width=width, height=200)
