"""Drawing of receptive fields: the heat of one place over the picture, and the growth with depth."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import Brush, axis_y, legend, named_axis
from sadari.charts.maps import scale_bar
from sadari.charts.pixels import HEAT, embedded, heated, images
from sadari.charts.theme import DATA, INK, SMALL, UP, ramp, shorten, table, text_width
from sadari.lang import Texts

ROOM = 2.2  # times the picture's side, up to which the whole square is drawn round it
TEXTS: Texts = {"most": ("most", "가장 큰 몫"), "none": ("gradient 0", "기울기 0")}


def receptive_field(brush: Brush) -> alt.TopLevelMixin:
    """The picture with its squares, and both sizes stage by stage beside it."""
    if not brush.wide:
        side = min(brush.width - 40, 280)
        return alt.vconcat(
            _scale(brush, side), _squares(brush, side), _growth(brush, brush.width - 70), spacing=14
        ).resolve_scale(color="independent")
    side = round(0.42 * brush.width)
    left = alt.vconcat(_scale(brush, side), _squares(brush, side), spacing=10)
    right = _growth(brush, brush.width - side - 90, side)
    return alt.hconcat(left, right, spacing=26).resolve_scale(color="independent")


def _scale(brush: Brush, width: float) -> Any:
    ends = [brush.text(TEXTS, "none"), brush.text(TEXTS, "most")]
    return scale_bar(ramp(HEAT, 24), ends, width)


def _squares(brush: Brush, side: float) -> Any:
    """The picture in its middle, on more ground where the square reaches beyond it."""
    facts, heat = brush.view.facts, brush["heat"]
    height, width = heat.shape
    left, _, right, _ = facts["square"]
    longest = max(right - left, width, height)
    whole = longest <= ROOM * max(width, height)
    x, y = facts["middle"] if whole else (width / 2, height / 2)
    span = max(abs(edge - at) for edge, at in ((0, x), (width, x), (0, y), (height, y)))
    if whole:
        span = max(span, (right - left) / 2)
    span *= 1.03
    across = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[x - span, x + span], nice=False))
    down = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[y + span, y - span], nice=False))
    top_heat = float(heat.max()) or 1.0
    shown = side * width / (2 * span)
    url = embedded(heated(brush["picture"], np.sqrt(heat / top_heat)), shown)
    layers = images([url], [0], [0], [width], (across, down))
    effective = facts["effective"]
    boxes: list[tuple[float, list[int], str]] = [(right - left, [1, 0], INK)]
    if effective is not None and np.isfinite(effective):
        boxes.append((effective, [5, 4], UP))
    for size, dash, tone in boxes:
        if size / 2 > span:
            continue
        box = table(x=[x - size / 2], x2=[x + size / 2], y=[y - size / 2], y2=[y + size / 2])
        mark = alt.Chart(box).mark_rect(filled=False, stroke=tone, strokeWidth=2, strokeDash=dash)
        layers.append(mark.encode(across, down, alt.X2("x2:Q"), alt.Y2("y2:Q")))
    return alt.layer(*layers).properties(width=side, height=side)


def _growth(brush: Brush, width: float, height: float = 240) -> Any:
    """Both sizes over the stages, and the picture's side as a line."""
    names = brush["stage"].tolist()
    count = len(names)
    most = max(int(width // 16), 2)
    step = -(-count // most)
    shown = [shorten(name, 70) if k % step == 0 or k == count - 1 else "" for k, name in enumerate(names)]
    x = alt.X("place:O", title=None, axis=named_axis(shown, labelAngle=-90))
    both = [brush.label(key, width - 30) for key in ("reach", "effective")]
    tones = [INK, UP]
    data = table(
        place=[*range(count)] * 2,
        y=[*brush["reach"], *brush["effective"]],
        name=[both[0]] * count + [both[1]] * count,
    )
    top = float(brush["reach"].max()) * 1.05
    y = axis_y(None, domain=[0, max(top, 1.0)], nice=False)
    lines = alt.Chart(data).encode(x, y, legend(brush, both, tones, beside=brush.width - round(width)))
    side = brush.view.facts["side"]
    layers: list[Any] = [lines.mark_line(), lines.mark_circle(size=34, opacity=1)]
    if side <= top:
        word = f"{brush.label('side')} {side}"
        rule = alt.Chart(table(y=[side]))
        layers.insert(0, rule.mark_rule(color=DATA, strokeWidth=1.5).encode(y))
    if 0.25 * top < side <= top:
        layers.append(
            alt.Chart(table(y=[side], t=[word]))
            .mark_text(align="left", dx=4, dy=-7, color="#6b7280", fontSize=SMALL)
            .encode(y, alt.Text("t:N"), x=alt.value(0))
        )
    at = table(place=[brush.view.facts["shown"]], y=[brush["reach"][brush.view.facts["shown"]]])
    layers.append(alt.Chart(at).mark_point(size=110, color=INK, strokeWidth=1.6, opacity=1).encode(x, y))
    lower = max(text_width(name, SMALL) for name in shown)
    return alt.layer(*layers).properties(width=width, height=max(height - lower - 30, 150))
