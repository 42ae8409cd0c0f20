"""Looks inside the rungs of a climb, as figures for the report: the views of sadari.inspection, drawn by
sadari.charts.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sadari.charts import NARROW, draw, svg
from sadari.errors import SadariError
from sadari.inspection import look
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
}


def looks(runs: Sequence[Run], answer: str, lang: Lang) -> list[str]:
    """All rungs along one feature of a table, then inside the answer; on the ground, which has no inside, the
    rung above it.
    """
    chosen = next(run for run in runs if run.rung == answer)
    inside = chosen if chosen is not runs[0] or len(runs) == 1 else runs[1]
    wanted: list[tuple[str, Sequence[Run]]] = [("curve", runs)] if chosen.kind == "table" else []
    wanted += [(view, [inside]) for view in CHOSEN[chosen.kind][chosen.task.name]]
    return [drawn for view, of in wanted if (drawn := _drawn(view, of, lang))]


def _drawn(view: str, runs: Sequence[Run], lang: Lang) -> str:
    """One view as a figure; empty where it does not fit the table, as the curve does not fit one without
    numbers.
    """
    try:
        seen = look(runs, view)
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
