"""Drawings made of pictures: mistakes with what was said of them, and pictures before and after a change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np

from sadari.charts.brush import Brush
from sadari.charts.pictures import GAP, contact_sheet, plane, tiles
from sadari.charts.theme import BODY, DOWN, INK, SMALL, SOFT, UP, shorten, table, text_width

PAIRS = 4  # pairs of classes that have a row
EXAMPLES = 6  # pictures of each
ROW = 58  # pixels of such a picture

TEXTS = {
    "errors": ("Surest and wrong: label, answer, probability", "확신했지만 틀린 그림: 라벨, 답, 확률"),
    "pairs": ("Most often confused", "가장 많이 헷갈리는 클래스"),
    "suspects": (
        "Training labels in doubt: label, answer, probability",
        "의심스러운 훈련 라벨: 라벨, 답, 확률",
    ),
    "none": ("none", "없음"),
    "true": ("label {name}", "라벨 {name}"),
    "said": ("said {name}", "답 {name}"),
    "pair": ("taken for {said}", "→ {said}"),
    "times": ("{count} times", "{count}번"),
    "once": ("once", "1번"),
    "own": ("{share} own", "자기 {share}"),
}


def mistakes(brush: Brush) -> alt.TopLevelMixin:
    """A sheet of the surest errors, a row of pictures for each confused pair, a sheet of doubted labels."""
    width = brush.width - 12
    kinds, shown = brush["reason"], brush["shown"].tolist()
    place = {line: i for i, line in enumerate(shown)}
    panels: list[Any] = []
    for reason, key in (("error", "errors"), ("label", "suspects")):
        lines = [line for line in shown if kinds[line] == reason]
        first = np.flatnonzero(kinds == reason)[: brush.view.facts["top"] if brush.wide else 6].tolist()
        panels.append(_sheet(brush, [line for line in lines if line in first], place, width, key))
    if len(brush["pair_count"]):
        panels.insert(1, _pairs(brush, place, width))
    return alt.vconcat(*panels, spacing=22)


def _sheet(
    brush: Brush, lines: Sequence[int], place: dict[int, int], width: float, key: str
) -> alt.LayerChart | alt.FacetChart:
    """Pictures with their label, and the answer with its probability."""
    title = _title(brush, key)
    if not lines:
        x, y = plane(width, 16)
        none = alt.Chart(table(x=[0], y=[8], t=[brush.text(TEXTS, "none")])).mark_text(
            align="left", color=SOFT, fontSize=BODY
        )
        return alt.layer(none.encode(x, y, alt.Text("t:N"))).properties(width=width, height=16, title=title)
    columns = 6 if brush.wide else 3
    room = (width - GAP * (columns - 1)) / columns
    true, said = ([brush[name][line] for line in lines] for name in ("true", "said"))
    shares = [_percent(brush["probability"][line]) for line in lines]
    labels = [brush.text(TEXTS, "true", name=name) for name in true]
    if _overfull(labels, room):
        labels = true
    answers = [brush.text(TEXTS, "said", name=name) for name in said]
    whole = [f"{answer} ({share})" for answer, share in zip(answers, shares, strict=True)]
    words: list[tuple[str, ...]] = list(zip(labels, whole, strict=True))
    if _overfull(whole, room):  # the probability in a line of its own
        words = list(zip(labels, said if _overfull(answers, room) else answers, shares, strict=True))
    sheet = contact_sheet(
        [brush["pictures"][place[line]] for line in lines],
        words,
        width=width,
        columns=columns,
        tones=(INK, DOWN if key == "errors" else UP),
    )
    return sheet.properties(title=title)


def _overfull(words: Sequence[str], room: float) -> bool:
    """Whether one of them is wider than its room."""
    return any(text_width(word, SMALL) > room for word in words)


def _pairs(brush: Brush, place: dict[int, int], width: float) -> alt.LayerChart | alt.FacetChart:
    """A row for each confused pair: what is taken for what, how often, and the pictures."""
    names = list(zip(brush["pair_true"].tolist(), brush["pair_said"].tolist(), strict=True))[:PAIRS]
    taken = [(true, brush.text(TEXTS, "pair", said=said)) for true, said in names]
    longest = max(text_width(text, SMALL) for pair in taken for text in pair)
    room = min(longest + 24, 200 if brush.wide else 118)
    most = int((width - room + GAP) // (ROW + GAP))
    pictures, left, top, words = [], [], [], []
    for row, (true, said) in enumerate(names):
        down = row * (ROW + GAP)
        of = [
            line
            for line in place
            if brush["reason"][line] == "error" and (brush["true"][line], brush["said"][line]) == (true, said)
        ]
        for column, line in enumerate(of[: min(most, EXAMPLES)]):
            pictures.append(brush["pictures"][place[line]])
            left.append(room + column * (ROW + GAP))
            top.append(down)
        count = int(brush["pair_count"][row])
        times = brush.text(TEXTS, "once") if count == 1 else brush.text(TEXTS, "times", count=count)
        lines = ((taken[row][0], INK), (taken[row][1], DOWN), (times, SOFT))
        words += [(down + ROW / 2 + 17 * (i - 1), text, tone) for i, (text, tone) in enumerate(lines)]
    height = len(names) * (ROW + GAP) - GAP
    x, y = plane(width, height)
    texts = table(
        x=[0] * len(words),
        y=[b for b, _, _ in words],
        t=[shorten(text, room - 10, SMALL) for _, text, _ in words],
        c=[tone for _, _, tone in words],
    )
    mark = alt.Chart(texts).mark_text(align="left", fontSize=SMALL)
    said_of = mark.encode(x, y, alt.Text("t:N"), color=alt.Color("c:N", scale=None))
    layers = [*tiles(pictures, left, top, ROW, (x, y)), said_of]
    return alt.layer(*layers).properties(width=width, height=height, title=_title(brush, "pairs"))


def augment(brush: Brush) -> alt.TopLevelMixin:
    """A row a change, a column a picture; the changes of the run's own training are marked."""
    facts, pictures = brush.view.facts, brush["pictures"]
    rows, columns = pictures.shape[:2]
    room, gap = (112, 8) if brush.wide else (92, 4)
    width = brush.width - 12
    cell = min((width - room - gap * (columns - 1)) / columns, 88)
    head = 18
    left = [room + column * (cell + gap) for _ in range(rows) for column in range(columns)]
    top = [head + row * (cell + gap) for row in range(rows) for _ in range(columns)]
    height = head + rows * (cell + gap) - gap
    x, y = plane(width, height)
    words = [
        (room + column * (cell + gap), 6, shorten(label, cell, SMALL), SOFT)
        for column, label in enumerate(brush["labels"].tolist())
    ]
    for row, name in enumerate(facts["changes"]):
        middle = head + row * (cell + gap) + cell / 2
        used = name in (facts["used"] or ())
        said = brush.label("original") if row == 0 else f"{name} ✓" if used else name
        share = facts["shares"].get(name)
        words.append((0, middle - (8 if share else 0), shorten(said, room - 6), UP if used else INK))
        if share:
            words.append((0, middle + 9, brush.text(TEXTS, "own", share=_percent(share)), SOFT))
    texts = table(**{key: [word[i] for word in words] for i, key in enumerate(("x", "y", "t", "c"))})
    mark = alt.Chart(texts).mark_text(align="left", fontSize=SMALL)
    said_of = mark.encode(x, y, alt.Text("t:N"), color=alt.Color("c:N", scale=None))
    shown = list(pictures.reshape(-1, *pictures.shape[2:]))
    chart = alt.layer(*tiles(shown, left, top, cell, (x, y)), said_of).properties(width=width, height=height)
    return alt.hconcat(chart)  # a lone chart would be stretched to the width


def _title(brush: Brush, key: str) -> alt.TitleParams:
    return alt.TitleParams(
        brush.text(TEXTS, key), fontSize=14, color=INK, anchor="start", frame="group", offset=8
    )


def _percent(share: float) -> str:
    """Whole per cent; near certainty with the digits that tell it from certainty."""
    return f"{share:.0%}" if share < 0.995 else f"{min(share, 0.9999):.2%}".replace(".00%", "%")
