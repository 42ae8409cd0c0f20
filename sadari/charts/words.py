"""Drawing of words: how near related ones are, and a map of frequent ones."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import Brush, axis_x, named_axis
from sadari.charts.theme import DATA, FAINT, INK, SMALL, SOFT, colour, shorten, table, text_width
from sadari.lang import Texts

MOST = 24  # rows of pairs; the best and the worst where there are more
ROW = 22  # pixels of a row
TEXTS: Texts = {
    "random": ("random pairs", "무작위 쌍"),
    "one-hot": ("one-hot: all pairs", "원-핫: 모든 쌍"),
    "ranks": ("rank {ab} · {ba}", "{ab} · {ba}위"),
}


def words(brush: Brush) -> alt.TopLevelMixin:
    """Pairs or neighbours over the cosines of random pairs, and the map below."""
    return alt.vconcat(_nearness(brush), _map(brush), spacing=18)


def _rows(brush: Brush) -> tuple[list[int], list[str], list[str]]:
    """Which cosines are drawn, what stands at their left, and what at their right."""
    facts, cosine = brush.view.facts, brush["cosine"]
    if "near" in facts:
        kept = list(range(min(len(cosine), MOST)))
        return kept, [facts["near"][k] for k in kept], [f"{cosine[k]:.2f}".replace("-", "−") for k in kept]
    kept = list(range(len(cosine)))
    if len(kept) > MOST:  # all of the range, not its better end
        kept = sorted({round(k) for k in np.linspace(0, len(cosine) - 1, MOST)})
    names = ["–".join(facts["pairs"][k]) for k in kept]
    ranks = [
        brush.text(TEXTS, "ranks", ab=f"{brush['rank_ab'][k]:,}", ba=f"{brush['rank_ba'][k]:,}") for k in kept
    ]
    return kept, names, ranks


def _nearness(brush: Brush) -> Any:
    kept, names, ends = _rows(brush)
    tone = colour(brush.view.facts["rung"])
    labels = [shorten(name, 170 if brush.wide else 100) for name in names]
    widest = max((text_width(label, SMALL) for label in labels), default=60.0)
    right = max((text_width(end, SMALL) for end in ends), default=0.0) + 14
    width = brush.width - 40 - widest - right
    low, high = float(brush["edge"][0]), 1.0
    x = axis_x(brush.label("cosine"), domain=[low, high])
    data = table(place=np.arange(len(kept)), x=brush["cosine"][kept], zero=np.zeros(len(kept)), word=ends)
    y = alt.Y("place:O", title=None, axis=named_axis(labels))
    count = brush["count"]
    bars = table(
        a=brush["edge"][:-1],
        b=brush["edge"][1:],
        zero=np.zeros(len(count)),
        n=count / max(int(count.max()), 1),
    )
    tall = alt.Y("n:Q", axis=None, scale=alt.Scale(domain=[0, 1.05], nice=False))
    place = axis_x(None, domain=[low, high])
    words = [brush.text(TEXTS, key) for key in ("random", "one-hot")]
    note = alt.Chart(table(x=[1.0, -0.02], n=[0.85, 0.85], t=words))
    above = alt.layer(
        alt.Chart(bars).mark_rect(color=DATA, opacity=0.6).encode(
            axis_x(None, "a", axis={"labels": False, "ticks": False}, domain=[low, high]),
            tall, alt.X2("b:Q"), alt.Y2("zero:Q"),
        ),
        alt.Chart(table(x=[0.0])).mark_rule(color=INK, strokeDash=[4, 3]).encode(place),
        note.mark_text(align="right", color=SOFT).encode(place, alt.Y("n:Q"), alt.Text("t:N")),
    ).properties(width=width, height=56)  # fmt: skip
    if not kept:
        return above
    rule = alt.Chart(table(x=[0.0])).mark_rule(color=INK, strokeDash=[4, 3]).encode(x)
    below = alt.layer(
        rule,
        alt.Chart(data).mark_rule(color=tone, opacity=0.4, strokeWidth=2).encode(
            axis_x(brush.label("cosine"), "zero", domain=[low, high]), y, alt.X2("x:Q")
        ),
        alt.Chart(data).mark_circle(color=tone, size=70, opacity=1).encode(x, y),
        alt.Chart(data).mark_text(align="left", color=SOFT, dx=8).encode(
            y, alt.Text("word:N"), x=alt.value(width)
        ),
    ).properties(width=width, height=ROW * len(kept))  # fmt: skip
    return alt.vconcat(above, below, spacing=4)


def _map(brush: Brush) -> Any:
    """Words as text where there is room, as dots else; those that are looked at first, and in colour."""
    x, y, names = brush["x"], brush["y"], brush["word"].tolist()
    width, height = brush.width - 50.0, float(brush.height(0.62))
    spans = [(float(v.min()), float(v.max())) for v in (x, y)]
    (left, right), (low, high) = ((a - 0.06 * ((b - a) or 1), b + 0.06 * ((b - a) or 1)) for a, b in spans)
    first = brush.view.facts["shown"]
    taken: list[tuple[float, float, float, float]] = []
    written = []
    for k, name in enumerate(names):
        half = text_width(shorten(name, 110), SMALL) / 2 + 2
        across, down = (x[k] - left) / (right - left) * width, (y[k] - low) / (high - low) * height
        box = (across - half, across + half, down - 8, down + 8)
        if (
            box[0] < 0
            or box[1] > width
            or any(box[0] < b[1] and b[0] < box[1] and box[2] < b[3] and b[2] < box[3] for b in taken)
        ):
            continue
        taken.append(box)
        written.append(k)
    plain: dict[str, Any] = {"labels": False, "ticks": False}
    ax = axis_x(brush.label("x"), axis=plain, domain=[left, right])
    ay = alt.Y(
        "y:Q", title=brush.label("y"), axis=alt.Axis(**plain), scale=alt.Scale(domain=[low, high], nice=False)
    )
    rest = [k for k in range(len(names)) if k not in set(written)]
    tone = colour(brush.view.facts["rung"])
    dots = alt.Chart(table(x=x[rest], y=y[rest])).mark_circle(size=10, color=FAINT, opacity=0.7)
    layers = [dots.encode(ax, ay)]
    for chosen, ink, weight in (
        ([k for k in written if k >= first], SOFT, "normal"),
        ([k for k in written if k < first], tone, "bold"),
    ):
        data = table(x=x[chosen], y=y[chosen], t=[shorten(names[k], 110) for k in chosen])
        layers.append(
            alt.Chart(data).mark_text(color=ink, fontWeight=weight).encode(ax, ay, alt.Text("t:N"))  # type: ignore[arg-type]
        )
    return alt.layer(*layers).properties(width=width, height=height)
