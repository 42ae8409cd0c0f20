"""Looks inside the rungs of a climb, as figures for the report: the views of sadari.inspection, drawn by
sadari.charts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from sadari.charts import NARROW, draw, svg
from sadari.errors import SadariError
from sadari.inspection import VIEWS, eye_of, look
from sadari.lang import Lang
from sadari.report.html import figure, tag
from sadari.runs import Run

CHOSEN: dict[str, dict[str, tuple[str, ...]]] = {
    "table": {"regress": ("residuals", "weights"), "classify": ("calibration", "confusion", "weights")},
    "series": {"regress": ("residuals", "memory"), "classify": ("calibration", "confusion", "memory")},
    "text": {
        "classify": ("confusion", "words", "attention", "gates"),
        "language": ("following", "words", "memory", "gates"),
    },
    "pairs": {"translate": ("bottleneck", "alignment", "forcing", "beam")},
    "images": {"classify": ("confusion", "where", "filters", "calibration")},
    "captions": {"match": ("similarity", "space", "losses", "patches")},
}

# a look that translates takes its time: fewer pairs than when it is asked for by itself
LESS: dict[str, dict[str, Any]] = {
    "bottleneck": {"most": 300},
    "forcing": {"most": 200},
    "beam": {"most": 40, "widths": (1, 2, 4, 8)},
}


def looks(runs: Sequence[Run], answer: str, lang: Lang) -> list[str]:
    """All rungs along one feature of a table, then inside the answer; on the ground, which has no inside, the
    rung above it. Of pairs all rungs by length, and inside the highest rung that fits where the answer does
    not, as of captions; of pictures, inside the one among them that does best on the validation pictures.
    """
    chosen = next(run for run in runs if run.rung == answer)
    inside = chosen if chosen is not runs[0] or len(runs) == 1 else runs[1]
    wanted: list[tuple[str, Sequence[Run]]] = [("curve", runs)] if chosen.kind == "table" else []
    for view in CHOSEN[chosen.kind][chosen.task.name]:
        fitting = [
            run for run in runs if VIEWS[view].fits(run.task.name, run.rung, run.kind, eye_of(run.config))
        ]
        others: Sequence[Run] = [inside]
        if inside not in fitting and chosen.kind in ("pairs", "captions"):
            others = fitting[-1:]
        elif inside not in fitting and chosen.kind == "images":
            others = sorted(fitting, key=_loss)[:1]
        wanted.append((view, runs if VIEWS[view].many else others))
    return [drawn for view, of in wanted if (drawn := _drawn(view, of, lang))]


def _loss(run: Run) -> float:
    """On the validation rows, as the fit left it."""
    loss = run.result["validation_loss"]
    return math.inf if loss is None else loss


def _drawn(view: str, runs: Sequence[Run], lang: Lang) -> str:
    """One view as a figure; empty where it does not fit the table, as the curve does not fit one without
    numbers.
    """
    if not runs:
        return ""
    try:
        seen = look(runs, view, **LESS.get(view, {}))
    except SadariError:
        return ""
    # drawn for a telephone: a card of the page is never much wider, and its letters only grow
    picture = tag("div", svg(draw(seen, lang, NARROW, titled=False)), cls="sheet")
    return figure(
        escape(seen.say("title", lang)),
        picture,
        escape(seen.say("caption", lang)),
        escape(seen.say("see", lang)),
    )
