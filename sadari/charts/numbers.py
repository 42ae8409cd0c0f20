"""The numbers of a view as tables of a page, for readers who cannot see the picture or want to check it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from sadari.inspection.view import View
from sadari.lang import Lang, pick
from sadari.metrics import number

MOST_ROWS = 200  # of a table on a page; the JSON holds them all
MOST_COLUMNS = 12  # rows of a matrix that become columns
MOST_CELLS = 30  # a side of a matrix that is written out

TEXTS = {
    "more": (
        "The first {shown} of {rows} rows; all of them are in {name}.json.",
        "전체 {rows}행 중 처음 {shown}행입니다. 모두 {name}.json 안에 있습니다.",
    ),
    "shape": (
        "{label}: {shape} numbers, in {name}.json.",
        "{label}: 수 {shape}개가 {name}.json 안에 있습니다.",
    ),
}


def tables(view: View, lang: Lang) -> str:
    """Arrays of one length as one table, with a matrix of that last length as more columns; others alone."""
    columns: dict[int, list[tuple[str, np.ndarray]]] = {}
    rest: list[str] = []
    for name, values in view.arrays.items():
        if values.ndim == 1:
            columns.setdefault(len(values), []).append((view.label(name, lang), values))
    for name, values in view.arrays.items():
        label = view.label(name, lang)
        if values.ndim == 2 and values.shape[1] in columns and len(values) <= MOST_COLUMNS:
            parts = view.facts.get("rungs") or view.facts.get("classes") or range(1, len(values) + 1)
            columns[values.shape[1]] += [
                (f"{label}: {part}", row) for part, row in zip(parts, values, strict=False)
            ]
        elif values.ndim == 2 and max(values.shape) <= MOST_CELLS:
            rest.append(_matrix(view, values))
        elif values.ndim > 1:
            shape = " × ".join(map(str, values.shape))
            rest.append(
                f"<p>{escape(pick(TEXTS, 'shape', lang, label=label, shape=shape, name=view.name))}</p>"
            )
    return "".join(_columns(view, group, lang) for length, group in columns.items() if length) + "".join(rest)


def _columns(view: View, columns: Sequence[tuple[str, np.ndarray]], lang: Lang) -> str:
    count = len(columns[0][1])
    names = view.facts.get("names")  # of the features, where the arrays are a number for each
    if names and len(names) == count:
        columns = [("", np.array(names)), *columns]
    rows = ([values[i] for _, values in columns] for i in range(min(count, MOST_ROWS)))
    html = _table([label for label, _ in columns], rows)
    if count > MOST_ROWS:
        html += f"<p>{escape(pick(TEXTS, 'more', lang, shown=MOST_ROWS, rows=count, name=view.name))}</p>"
    return html


def _matrix(view: View, values: np.ndarray) -> str:
    """A square one is by class both ways; else columns are counted."""
    names = view.facts.get("classes") or view.facts.get("names") or []
    across = names if len(names) == values.shape[1] else range(1, values.shape[1] + 1)
    down = names if len(names) == len(values) else range(1, len(values) + 1)
    return _table(
        ["", *map(str, across)], ([str(name), *row] for name, row in zip(down, values, strict=True))
    )


def _table(head: Iterable[str], rows: Iterable[Sequence[Any]]) -> str:
    top = "".join(f'<th scope="col">{escape(label)}</th>' for label in head)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else escape(number(float(value)))
    return escape(f"{value:,}" if isinstance(value, int | np.integer) else str(value))
