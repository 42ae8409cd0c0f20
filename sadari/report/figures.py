"""Two pictures as SVG in the page's own colours: what a better score costs, and score against data size.

Drawn here and not by the chart library: they take the page's colours, so that a dark screen gets dark
pictures, and their letters are as large on a phone as on a desk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from sadari.report.html import tag
from sadari.report.words import Words, micro, ticks

WIDTH, HEIGHT = 340, 240  # a telephone's width, so that letters keep their size there
LEFT, RIGHT, TOP, BOTTOM = 48, 8, 12, 40
NAMES, LONGEST = 124, 17  # room at the right for the rungs' names; letters that it holds
APART = 15  # least distance of two of them
COLOURS = ("var(--dot)", "var(--other)")


@dataclass(frozen=True)
class Scale:
    """A value's place on an axis, in SVG units; `log` counts in powers of ten."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (
            (math.log10(v) for v in (self.low, self.high, value))
            if self.log
            else (self.low, self.high, value)
        )
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


def price_picture(content: Mapping[str, Any], words: Words) -> str:
    """Score (up is better) against microseconds a row on a log scale, one dot a rung and a ring for the
    judge.
    """
    rungs, answer = content["rungs"], content["verdict"]["rung"]
    times = [math.log10(rung["microseconds_per_example"]) for rung in rungs]
    first, last = math.floor(min(times)), math.ceil(max(times) + 1e-9)
    across = Scale(10.0**first, 10.0**last, LEFT + 12, WIDTH - RIGHT - NAMES, log=True)
    upward = _upward([rung["score"] for rung in rungs], words)
    parts = _score_grid(upward, words, WIDTH - RIGHT - NAMES + 12)
    for power in range(first, last + 1):
        parts.append(_text(across(10.0**power), HEIGHT - BOTTOM + 16, _power(power), "middle"))
    parts.append(_text(LEFT, HEIGHT - 6, words("price axis"), "start"))
    places = [(across(rung["microseconds_per_example"]), upward(rung["score"])) for rung in rungs]
    for rung, (x, y), label in zip(rungs, places, _apart([y for _, y in places]), strict=True):
        chosen = rung["name"] == answer
        colour = "var(--dot)" if chosen else "var(--mute)"
        parts.append(_dot(x, y, 7 if chosen else 5, colour, hollow=rung["outside"]))
        column = WIDTH - RIGHT - NAMES + 18  # names stand in one column, where no dot is
        parts.append(f'<path class="lead" d="M{x + 8:.1f} {y:.1f}L{column - 4} {label:.1f}"/>')
        parts.append(_text(column, label + 4, escape(_short(rung["name"])), "start", "label"))
    said = [
        f"{escape(rung['name'])}: {micro(rung['microseconds_per_example'])}, {words.score(rung['score'])}"
        for rung in rungs
    ]
    return _svg(parts, f"{words('price chart')}: {'; '.join(said)}")


def sizes_picture(content: Mapping[str, Any], words: Words) -> str:
    """Score (up is better) against training rows on a log scale, a line a rung with its intervals."""
    curves = content["sizes"]["curves"]
    rows = sorted({count for curve in curves for count in curve["rows"]})
    across = Scale(rows[0], rows[-1], LEFT + 18, WIDTH - RIGHT - 76, log=True)
    upward = _upward([value for curve in curves for key in ("low", "high") for value in curve[key]], words)
    parts = _score_grid(upward, words)
    for count in rows:
        parts.append(_text(across(count), HEIGHT - BOTTOM + 16, f"{count:,}", "middle"))
    parts.append(_text(LEFT, HEIGHT - 6, words("sizes axis"), "start"))
    labels = _apart([upward(curve["score"][-1]) for curve in curves])
    said = []
    for number, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        colour, aside = COLOURS[number], 4 * (number - (len(curves) - 1) / 2)  # intervals side by side
        spots = [(across(count) + aside, upward(score)) for count, score in _points(curve)]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
        parts.append(f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for (x, y), low, high in zip(spots, curve["low"], curve["high"], strict=True):
            bar = f"M{x:.1f} {upward(low):.1f}V{upward(high):.1f}"
            parts.append(f'<path d="{bar}" stroke="{colour}" stroke-width="2" opacity=".4"/>')
            parts.append(_dot(x, y, 4, colour))
        parts.append(_text(spots[-1][0] + 9, label + 4, escape(curve["rung"]), "start", "label", colour))
        points = ", ".join(f"{count:,} {words.score(score)}" for count, score in _points(curve))
        said.append(f"{escape(curve['rung'])}: {points}")
    return _svg(parts, f"{words('sizes chart')}: {'; '.join(said)}")


def _power(power: int) -> str:
    """Ten to a power with at most three digits, so that neighbours have room."""
    return f"{10.0**power:g}" if power < 3 else f"{10.0 ** (power % 3):g}{('', 'k', 'M', 'G')[power // 3]}"


def _short(name: str) -> str:
    """A name that has room at the right."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _points(curve: Mapping[str, Any]) -> list[tuple[int, float]]:
    return list(zip(curve["rows"], curve["score"], strict=True))


def _upward(scores: Sequence[float], words: Words) -> Scale:
    """Better is higher, whichever way the metric counts."""
    low, high = min(scores), max(scores)
    edge = (high - low) * 0.12 or abs(high) * 0.1 or 1.0
    bottom, top = HEIGHT - BOTTOM, TOP
    start, end = (bottom, top) if words.metric.higher else (top, bottom)
    return Scale(low - edge, high + edge, start, end)


def _score_grid(upward: Scale, words: Words, right: float = WIDTH - RIGHT) -> list[str]:
    """Horizontal lines at round scores."""
    parts = []
    for value in ticks(upward.low, upward.high):
        y = upward(value)
        shown = f"{100 * value:.10g}%" if words.metric.shares else f"{value:,.10g}"
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(_text(LEFT - 7, y + 4, shown, "end"))
    return parts


def _apart(heights: Sequence[float]) -> list[float]:
    """Heights of labels, moved so that no two are nearer than `APART` and none leaves the picture."""
    placed = list(heights)
    order = sorted(range(len(placed)), key=placed.__getitem__)
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + APART)
    floor = HEIGHT - BOTTOM - 4.0
    for number in reversed(order):  # what was pushed out at the bottom pushes back up
        placed[number] = min(placed[number], floor)
        floor = placed[number] - APART
    return placed


def _dot(x: float, y: float, radius: float, colour: str, hollow: bool = False) -> str:
    fill = "none" if hollow else colour
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
    )


def _text(x: float, y: float, said: str, anchor: str, kind: str = "", colour: str = "") -> str:
    style = f"fill:{colour}" if colour else ""
    return tag("text", said, cls=kind, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, style=style)


def _svg(parts: Sequence[str], alt: str) -> str:
    """`alt` says the picture in words; it is escaped already."""
    size = f"0 0 {WIDTH} {HEIGHT}"
    return f'<svg class="own" viewBox="{size}" role="img" aria-label="{alt}">{"".join(parts)}</svg>'
