"""Views that open a model up: each returns arrays and words, `sadari.charts` draws them.

`table` is plain data, so that the views can be listed without importing torch.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from sadari.errors import SadariError
from sadari.inspection.table import REASONS, VIEWS, ViewInfo, eye_of, views_for
from sadari.ladder import ladder_for
from sadari.lang import in_unit, unit_of

if TYPE_CHECKING:
    from sadari.data.prepare import Prepared
    from sadari.inspection.view import View
    from sadari.runs import Run

__all__ = ["VIEWS", "ViewInfo", "eye_of", "look", "look_at_data", "view_function", "views_for"]


def view_function(view: str) -> Any:
    """The function of a view; its keyword-only parameters are the view's options. Imports torch."""
    info = VIEWS[view]
    return getattr(importlib.import_module(info.module), info.function)


def look(runs: Run | Sequence[Run], view: str, **options: Any) -> View:
    """Open a run up, or with `curve` all the runs of a climb at once.

    Raises SadariError when there is no such view, when it does not fit the run (with those that do), or when
    an option is none of the view's.
    """
    several = list(runs) if isinstance(runs, Sequence) else [runs]
    if not several:
        raise SadariError("no run to look into; give the folder of at least one")
    task = several[0].task.name
    if view not in VIEWS:
        near = get_close_matches(view, VIEWS, n=1)
        meant = f"; did you mean {near[0]}?" if near else ";"
        fitting = ", ".join(_fitting(several[0]))
        raise SadariError(f"there is no view {view!r}{meant} Views that fit this run: {fitting}")
    info = VIEWS[view]
    for run in several:
        if not info.fits(run.task.name, run.rung, run.kind, eye_of(run.config)):
            raise SadariError(_unfit(run, view))
    if len(several) > 1 and not info.many:
        raise SadariError(f"view {view!r} looks into one run, {len(several)} were given; give one")
    if any(run.task.name != task for run in several):
        raise SadariError(
            "these runs have different tasks, regress and classify; look into runs of one climb"
        )
    function = _checked(view, options)
    seen = function(several if info.many else several[0], **options)
    unit = unit_of(several[0].kind, task)
    if unit != "row" and "table" in info.kinds:  # a view for all data, which speaks of rows
        words = {part: _in_unit(getattr(seen, part), unit) for part in ("title", "caption", "see")}
        count = {"rows": _in_unit(seen.labels["rows"], unit)} if "rows" in seen.labels else {}
        seen = replace(seen, **words, labels=seen.labels | count)
    return seen


def look_at_data(prepared: Prepared, view: str, **options: Any) -> View:
    """Look at prepared data from which no rung has learnt yet.

    Raises SadariError when there is no such view, when it looks into a run or at data of another kind, or
    when an option is none of the view's.
    """
    of_data = [name for name, info in VIEWS.items() if info.data]
    if view not in of_data:
        raise SadariError(
            f"{view!r} is no look at data that no rung was fitted to; those are: {', '.join(of_data)}"
        )
    if prepared.kind not in VIEWS[view].kinds:
        kinds = ", ".join(VIEWS[view].kinds)
        raise SadariError(f"{prepared.table.name} is read as {prepared.kind}, and {view} looks at {kinds}")
    return _checked(view, options)(prepared, **options)


def _fitting(run: Run) -> list[str]:
    return views_for(run.task.name, run.rung, run.kind, eye_of(run.config))


def _unfit(run: Run, view: str) -> str:
    """Why a view does not open a run, and what does and could."""
    eye = eye_of(run.config)
    rungs = ladder_for(run.task.name, run.kind).names
    alike = [rung for rung in rungs if VIEWS[view].fits(run.task.name, rung, run.kind)]
    reason, seeing = REASONS.get((view, eye or run.rung)), f" with the eye of a {eye}" if eye else ""
    return (
        f"view {view!r} does not fit a {run.rung}{seeing} that was fitted to {run.task.name}"
        f"{f': {reason}' if reason else ''}; views that do: {', '.join(_fitting(run))}"
        + f" ({view} opens: {', '.join(alike)})"
        * bool(alike)
    )


def _checked(view: str, options: dict[str, Any]) -> Any:
    """The function of a view. Raises SadariError for an option that it does not have."""
    function = view_function(view)
    known = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    for name in options:
        if name not in known:
            flags = ", ".join("--" + option.replace("_", "-") for option in known) or "none"
            raise SadariError(f"view {view!r} has no option --{name.replace('_', '-')}; its options: {flags}")
    return function


def _in_unit(said: tuple[str, str], unit: str) -> tuple[str, str]:
    return in_unit(said[0], unit), in_unit(said[1], unit)
