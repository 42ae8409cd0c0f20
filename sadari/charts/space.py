"""Drawing of a space: pictures and captions as two clouds, a line a pair, before and after training."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import Brush, legend
from sadari.charts.pictures import plane, tiles
from sadari.charts.theme import BODY, DOWN, FAINT, GRID, INK, SMALL, SOFT, UP, shorten, table

KINDS = (("image", UP), ("text", DOWN))  # pictures, captions
TILE = 30.0  # pixels of a picture on the map
GAP, HEAD, FOOT = 20.0, 24.0, 20.0  # pixels between the maps, above one and below


def space(brush: Brush) -> alt.TopLevelMixin:
    """A map, or two beside each other in the same units; on a narrow page below each other."""
    panels = [name for name in ("before_", "") if brush.has(f"{name}image_x")]
    beside = brush.wide and len(panels) > 1
    width = (brush.width - 10 - (GAP if beside else 0)) / (2 if beside else 1)
    height = width if beside else min(width, 440.0)
    reach = max(_reach(brush, name) for name in panels)
    maps = [_map(brush, name, reach, width, height) for name in panels]
    if len(maps) == 1:
        return alt.vconcat(maps[0])
    joined = alt.hconcat if beside else alt.vconcat
    return joined(*maps, spacing=GAP).resolve_scale(x="independent", y="independent", color="shared")


def _reach(brush: Brush, name: str) -> float:
    """Half the side of the square in which a panel's points lie, round their middle."""
    return max(float(np.ptp(_both(brush, name, axis))) for axis in "xy") / 2 * 1.08 or 1.0


def _both(brush: Brush, name: str, axis: str) -> np.ndarray:
    return np.concatenate([brush[f"{name}{side}_{axis}"] for side, _ in KINDS])


def _map(brush: Brush, name: str, reach: float, width: float, height: float) -> Any:
    """One panel, in pixels from its upper left corner."""
    side = min(width, height - HEAD - FOOT)
    middle = {
        axis: float(_both(brush, name, axis).max() + _both(brush, name, axis).min()) / 2 for axis in "xy"
    }

    def placed(part: str) -> tuple[np.ndarray, np.ndarray]:
        across = width / 2 + (brush[f"{name}{part}_x"] - middle["x"]) / reach * side / 2
        return across, HEAD + side / 2 - (brush[f"{name}{part}_y"] - middle["y"]) / reach * side / 2

    ends = [placed(part) for part, _ in KINDS]
    axes = plane(width, HEAD + side + FOOT)
    beyond = (alt.X2("x2:Q"), alt.Y2("y2:Q"))
    words = [brush.label("pictures"), brush.label("captions")]
    tones = legend(brush, words, [tone for _, tone in KINDS])
    lines = table(x=ends[0][0], y=ends[0][1], x2=ends[1][0], y2=ends[1][1])
    frame = table(x=[0], y=[HEAD], x2=[width], y2=[HEAD + side])
    dots = table(
        x=np.concatenate([x for x, _ in ends]),
        y=np.concatenate([y for _, y in ends]),
        name=np.repeat(words, len(ends[0][0])),
    )
    shown = brush["picture"]
    centre_x, centre_y = placed("centre")
    crosses = table(x=centre_x, y=centre_y, tone=[tone for _, tone in KINDS])
    cross = alt.Chart(crosses)
    colour = alt.Color("tone:N", scale=None)
    layers: list[Any] = [
        alt.Chart(frame).mark_rect(filled=False, stroke=GRID).encode(*axes, *beyond),
        alt.Chart(lines).mark_rule(stroke=FAINT, strokeWidth=0.7, opacity=0.45).encode(*axes, *beyond),
        alt.Chart(dots).mark_circle(size=22, opacity=0.75).encode(*axes, color=tones),
        *_shown(brush, list(shown), ends, axes, (width, HEAD + side)),
        cross.mark_point(shape="cross", size=240, filled=True, opacity=1, stroke=INK, strokeWidth=1.5).encode(
            *axes, color=colour
        ),
        _words(brush.view.label(name, brush.lang), 2, HEAD / 2 - 2, axes, INK, BODY, width),
        _words(
            f"{brush.label('x')} →, {brush.label('y')} ↑",
            2,
            HEAD + side + FOOT / 2 + 2,
            axes,
            SOFT,
            SMALL,
            width,
        ),
    ]
    return alt.layer(*layers).properties(width=width, height=HEAD + side + FOOT)


def _shown(
    brush: Brush,
    pictures: list[np.ndarray],
    ends: list[tuple[np.ndarray, np.ndarray]],
    axes: tuple[alt.X, alt.Y],
    size: tuple[float, float],
) -> list[Any]:
    """The first pairs as a picture and its words, where they cover no other; their lines in ink."""
    taken: list[tuple[float, float]] = []
    rows = []
    for row in range(len(pictures)):
        x, y = ends[0][0][row], ends[0][1][row]
        if all(abs(x - a) > TILE or abs(y - b) > TILE for a, b in taken):
            taken.append((x, y))
            rows.append(row)
    (x, y), (x2, y2) = [(side[0][rows], side[1][rows]) for side in ends]
    lines = table(x=x, y=y, x2=x2, y2=y2)
    left = np.clip(x - TILE / 2, 1, size[0] - TILE - 1)
    top = np.clip(y - TILE / 2, HEAD + 1, size[1] - TILE - 1)
    dots = table(x=x2, y=y2)
    return [
        alt.Chart(lines).mark_rule(stroke=INK, strokeWidth=1.2).encode(*axes, alt.X2("x2:Q"), alt.Y2("y2:Q")),
        alt.Chart(dots).mark_circle(size=50, color=DOWN, opacity=1, stroke=INK, strokeWidth=1).encode(*axes),
        *tiles([pictures[row] for row in rows], left.tolist(), top.tolist(), TILE, axes),
    ]


def _words(
    text: str, x: float, y: float, axes: tuple[alt.X, alt.Y], tone: str, size: float, room: float
) -> Any:
    mark = alt.Chart(table(x=[x], y=[y], t=[shorten(text, room, size)])).mark_text(
        align="left", baseline="middle", color=tone, fontSize=size
    )
    return mark.encode(*axes, alt.Text("t:N"))
