"""Drawings of areas: a loss over two weights, answers over two features, weights by class."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import altair as alt
import numpy as np

from sadari.charts.brush import Brush, axis_x, axis_y, legend, named_axis, top_axis
from sadari.charts.theme import (
    DOWN,
    INK,
    SEQUENCE,
    SMALL,
    SOFT,
    UP,
    class_colours,
    colour,
    mixed,
    ramp,
    shorten,
    table,
    text_width,
)
from sadari.metrics import number

BANDS = 14  # of equal colour in a map of loss
FINE = 6  # pixels of the map for each cell of the grid
SHADES = 5  # of each class, by how sure the model is
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")


def picture(levels: np.ndarray, colours: Sequence[str]) -> str:
    """Whole numbers (H, W), row 0 at the bottom, as a palette PNG in a data URL: 60,000 cells in 5 kB."""
    palette = b"".join(bytes.fromhex(tone[1:]) for tone in colours)
    height, width = levels.shape
    rows = np.concatenate(
        [np.zeros((height, 1), np.uint8), levels[::-1].astype(np.uint8)], axis=1
    )  # filter 0 before each

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
    png += chunk(b"PLTE", palette) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _field(
    levels: np.ndarray, colours: Sequence[str], x: np.ndarray, y: np.ndarray, across: alt.X, up: alt.Y
) -> alt.Chart:
    """The picture stretched over the axes, which end at the outermost grid points."""
    data = table(x=[x[0]], x2=[x[-1]], y=[y[0]], y2=[y[-1]], url=[picture(levels, colours)])
    return (
        alt.Chart(data)
        .mark_image(aspect=False)
        .encode(across, up, alt.X2("x2:Q"), alt.Y2("y2:Q"), alt.Url("url:N"))
    )


def _finer(values: np.ndarray) -> np.ndarray:
    """A grid (G, G) with FINE times as many points, between them linear."""
    old = np.arange(len(values))
    new = np.linspace(0, len(values) - 1, FINE * (len(values) - 1) + 1)
    rows = np.stack([np.interp(new, old, column) for column in values.T], axis=1)
    return np.stack([np.interp(new, old, row) for row in rows])


def surface(brush: Brush) -> alt.TopLevelMixin:
    """The loss over two weights as a map, with the path of descent and the optimum on it."""
    loss, x, y, facts = brush["loss"], brush["x"], brush["y"], brush.view.facts
    least = min(float(np.nanmin(loss)), facts["least"])
    # bands grow with the distance from the floor, as a map of a valley needs them
    depth = np.sqrt(np.clip(np.nan_to_num(loss, nan=np.nanmax(loss)) - least, 0, None))
    top = float(np.quantile(depth, 0.97)) or 1.0
    levels = np.clip(_finer(depth) / top * BANDS, 0, BANDS - 1).astype(int)
    colours = ramp(SEQUENCE[::-1], BANDS)
    across = axis_x(brush.label("x"), domain=[float(x[0]), float(x[-1])])
    up = axis_y(brush.label("y", 260), domain=[float(y[0]), float(y[-1])], nice=False)
    path = table(x=brush["path_x"], y=brush["path_y"], order=np.arange(len(brush["path_x"])))
    steps = _apart(brush["path_x"] / np.ptp(x), brush["path_y"] / np.ptp(y))
    dots = table(x=brush["path_x"][steps], y=brush["path_y"][steps])
    order = alt.Order("order:Q")
    start = table(x=brush["path_x"][:1], y=brush["path_y"][:1])
    best = table(x=[facts["optimum"][0]], y=[facts["optimum"][1]])
    chart = alt.layer(
        _field(levels, colours, x, y, across, up),
        alt.Chart(path)
        .mark_line(color="white", strokeWidth=5, opacity=0.9, clip=True)
        .encode(across, up, order),
        alt.Chart(path).mark_line(color=DOWN, strokeWidth=2.2, clip=True).encode(across, up, order),
        alt.Chart(dots)
        .mark_circle(color=DOWN, size=22, opacity=1, clip=True, stroke="white", strokeWidth=0.8)
        .encode(across, up),
        alt.Chart(start)
        .mark_point(color=INK, fill="white", size=110, strokeWidth=2.2, opacity=1)
        .encode(across, up),
        alt.Chart(best)
        .mark_point(shape="cross", angle=45, fill=INK, stroke="white", strokeWidth=1.2, size=170, opacity=1)
        .encode(across, up),
    )
    ends = [f"{brush.label('loss')} {number(least)}", f"≥ {number(least + top**2)}"]
    width = brush.width - 80
    return alt.vconcat(
        scale_bar(colours, ends, width), chart.properties(width=width, height=brush.height(0.6)), spacing=8
    )


def _apart(x: np.ndarray, y: np.ndarray) -> list[int]:
    """Points of a path each a hundredth of the picture or more behind the last: dots that do not merge."""
    kept = [0]
    for k in range(1, len(x)):
        if np.hypot(x[k] - x[kept[-1]], y[k] - y[kept[-1]]) >= 0.012:
            kept.append(k)
    return kept


def scale_bar(colours: Sequence[str], ends: Sequence[str], width: float) -> alt.LayerChart | alt.FacetChart:
    """A strip of the colours in use, its two ends named."""
    gap = 8.0
    first = text_width(ends[0], SMALL) + gap
    strip = min(150.0, width - first - text_width(ends[1], SMALL) - 2 * gap)
    edges = first + np.linspace(0, strip, len(colours) + 1)
    plain = alt.Axis(labels=False, ticks=False, domain=False, grid=False)
    x = alt.X("a:Q", title=None, axis=plain, scale=alt.Scale(domain=[0, width], nice=False))
    bar = alt.Chart(table(a=edges[:-1], b=edges[1:] + 0.3, tone=colours)).mark_rect()
    names = alt.Chart(table(a=[0.0, float(edges[-1]) + gap], t=ends)).mark_text(align="left", color=SOFT)
    return alt.layer(
        bar.encode(x, alt.X2("b:Q"), fill=alt.Fill("tone:N", scale=None)),
        names.encode(x, alt.Text("t:N"), y=alt.value(6)),
    ).properties(width=width, height=12)


def boundary(brush: Brush) -> alt.TopLevelMixin:
    """The predicted class over two features as a map, with the data on it."""
    classes = brush.view.facts["classes"]
    count, tones = len(classes), class_colours(len(classes))
    sure = np.clip((brush["sure"] - 1 / count) / (1 - 1 / count), 0, 1)
    shade = np.minimum((sure * SHADES).astype(int), SHADES - 1)
    used = np.unique(brush["winner"])
    palette = [pale for k in used for pale in ramp([mixed(tones[k], 0.12), mixed(tones[k], 0.42)], SHADES)]
    levels = np.searchsorted(used, brush["winner"]) * SHADES + shade
    x, y = brush["x"], brush["y"]
    across = axis_x(brush.label("x"), domain=[float(x[0]), float(x[-1])])
    up = axis_y(brush.label("y", 320), domain=[float(y[0]), float(y[-1])], nice=False)
    shown = np.union1d(brush["data_class"], used).tolist()
    names = _distinct([shorten(classes[k], 120) for k in shown])
    name_of = dict(zip(shown, names, strict=True))
    points = table(
        x=brush["data_x"], y=brush["data_y"], name=[name_of[k] for k in brush["data_class"].tolist()]
    )
    shapes = alt.Scale(domain=names, range=[SHAPES[k % len(SHAPES)] for k in shown])
    dots = alt.Chart(points).mark_point(size=42, filled=True, stroke="white", strokeWidth=0.9, opacity=1)
    colours = legend(brush, names, [tones[k] for k in shown])
    field = _field(levels, palette, x, y, across, up)
    return alt.layer(
        field, dots.encode(across, up, colours, alt.Shape("name:N", scale=shapes, sort=names))
    ).properties(height=brush.height(0.62))


def _distinct(names: list[str]) -> list[str]:
    """The same names, with a mark behind those that shortening made equal."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out


def weights(brush: Brush) -> alt.TopLevelMixin:
    """Bars, heaviest first: signed for a line, lengths for a network; a table of colours for many classes."""
    facts = brush.view.facts
    labels = [shorten(name, 190 if brush.wide else 110) for name in facts["names"]]
    places = np.arange(len(labels))
    names = alt.Y("place:O", title=None, axis=named_axis(labels))
    height = max(60, 24 * len(labels))
    if brush.has("length"):
        bars = alt.Chart(table(place=places, v=brush["length"])).mark_bar(
            color=colour(facts["rung"]), height={"band": 0.7}
        )
        return bars.encode(names, alt.X("v:Q", title=brush.label("length", 260))).properties(height=height)
    values = brush["weight"]
    if values.ndim == 2:
        return _weights_by_class(brush, values, labels)
    tones = [UP if value > 0 else DOWN for value in values]
    data = table(place=places, v=values, tone=tones, word=[_signed(value) for value in values])
    reach = float(np.abs(values).max()) or 1.0
    room = reach * (0.14 if brush.wide else 0.34)  # for the numbers at the ends of the bars
    low = float(values.min()) - room if values.min() < 0 else 0.0
    high = float(values.max()) + room if values.max() > 0 else 0.0
    x = alt.X(
        "v:Q", title=brush.label("weight", brush.width - 130), scale=alt.Scale(domain=[low, high], nice=False)
    )
    words = alt.Chart(data).encode(names, x, alt.Text("word:N"))
    return alt.layer(
        alt.Chart(data)
        .mark_bar(height={"band": 0.7})
        .encode(names, x, color=alt.Color("tone:N", scale=None)),
        alt.Chart(table(v=[0])).mark_rule(color=INK, strokeWidth=1).encode(x),
        words.transform_filter("datum.v >= 0").mark_text(align="left", dx=5, fontSize=11, color=SOFT),
        words.transform_filter("datum.v < 0").mark_text(align="right", dx=-5, fontSize=11, color=SOFT),
    ).properties(height=height)


def _weights_by_class(brush: Brush, values: np.ndarray, labels: list[str]) -> alt.TopLevelMixin:
    """One column a class, one row a feature: blue raises the class's score, orange lowers it."""
    names = brush.view.facts["classes"]
    reach = float(np.abs(values).max()) or 1.0
    colours = ramp((DOWN, "#f3b48a", "#f7f7f7", "#9cc5e3", UP), 41)
    col, row = (part.ravel() for part in np.indices(values.shape))
    flat = values.ravel()
    cell = (brush.width - 40 - max(text_width(label, SMALL) for label in labels)) / len(names)
    data = table(
        row=row,
        col=col,
        tone=[colours[round((value / reach + 1) * 20)] for value in flat],
        ink=["#ffffff" if abs(value) > 0.75 * reach else INK for value in flat],
        word=[_signed(round(float(value), 2)) if cell > 34 else "" for value in flat],
    )
    top = top_axis(names, cell)
    x = alt.X("col:O", title=None, axis=top, scale=alt.Scale(padding=0))
    y = alt.Y("row:O", title=None, axis=named_axis(labels), scale=alt.Scale(padding=0))
    cells = (
        alt.Chart(data)
        .mark_rect(stroke="white", strokeWidth=1)
        .encode(x, y, fill=alt.Fill("tone:N", scale=None))
    )
    numbers = (
        alt.Chart(data)
        .mark_text(fontSize=11)
        .encode(x, y, alt.Text("word:N"), color=alt.Color("ink:N", scale=None))
    )
    return alt.layer(cells, numbers).properties(height=24 * len(labels))


def _signed(value: float) -> str:
    """Three digits with a real minus sign; a rounded zero has none."""
    return f"{value + 0.0:.3g}".replace("-", "−")
