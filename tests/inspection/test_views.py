"""The table of views, what fits what, and every view of every rung in both languages."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from sadari.data.prepare import prepare
from sadari.errors import SadariError
from sadari.inspection import VIEWS, look, view_function, views_for
from sadari.inspection.rows import sample
from sadari.ladder import LADDERS
from sadari.runs import Run

DATA = {"regress": "diabetes", "classify": "wine"}
QUICK: dict[str, dict[str, Any]] = {
    "gradients": {"depths": (2, 4), "steps": 4, "width": 6},
    "flexibility": {"units": (1, 3), "steps": 40},
    "surface": {"steps": 8},
}
EVERY = [
    pytest.param(ladder.task, rung.name, view, id=f"{ladder.task}-{rung.name}-{view}")
    for ladder in LADDERS
    if ladder.kind == "table"
    for rung in ladder.here
    for view in views_for(ladder.task, rung.name)
]


def test_the_table_is_read_without_torch() -> None:
    code = (
        "import sys, sadari.inspection as i; i.views_for('regress', 'deep');"
        "print({'torch', 'altair', 'scipy'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_every_rung_has_a_view_and_every_view_a_rung() -> None:
    runs = [(ladder.task, rung.name, ladder.kind) for ladder in LADDERS for rung in ladder.here]
    seen = {view for run in runs for view in views_for(*run)}
    assert all(views_for(*run) for run in runs)
    assert seen == set(VIEWS)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_takes_runs_and_then_options_with_defaults(view: str) -> None:
    first, *options = inspect.signature(view_function(view)).parameters.values()
    assert first.name == ("runs" if VIEWS[view].many else "run")
    assert all(
        option.kind is option.KEYWORD_ONLY and option.default is not option.empty for option in options
    )
    assert VIEWS[view].summary_en and VIEWS[view].summary_ko


@pytest.mark.parametrize(("task", "rung", "view"), EVERY)
def test_every_view_of_every_rung_speaks_both_languages(fitted: Any, task: str, rung: str, view: str) -> None:
    seen = look(fitted(rung, DATA[task]), view, **QUICK.get(view, {}))
    assert seen.name == view
    for part in ("title", "caption", "see"):
        english, korean = getattr(seen, part)
        assert english and korean
        assert "{" not in english + korean and "nan" not in (english + korean).split()
        assert any("가" <= letter <= "힣" for letter in korean)
        assert not any("가" <= letter <= "힣" for letter in english)
    assert all(array.size for array in seen.arrays.values())
    assert np.isfinite(next(iter(seen.arrays.values())).astype(float)).all()
    assert set(seen.labels) >= {name for name in ("x", "y") if name in seen.arrays}


def test_a_view_that_does_not_fit_names_those_that_do(fitted: Any) -> None:
    line, prior = fitted("line", "diabetes"), fitted("prior", "wine")
    with pytest.raises(
        SadariError,
        match=r"'calibration' does not fit a line .*regress; views that do: curve, residuals, weights",
    ):
        look(line, "calibration")
    with pytest.raises(
        SadariError, match=r"'residuals' does not fit a prior .*classify; views that do: curve, calibration"
    ):
        look(prior, "residuals")
    with pytest.raises(SadariError, match="'regions' does not fit a line"):
        line.look("regions")


def test_unknown_views_and_options_are_answered_with_the_known(fitted: Any) -> None:
    line = fitted("line", "diabetes")
    with pytest.raises(
        SadariError,
        match=r"no view 'weight'; did you mean weights.* Views that fit this run: curve, residuals",
    ):
        look(line, "weight")
    with pytest.raises(
        SadariError, match="'curve' has no option --colour; its options: --feature, --of, --part"
    ):
        look(line, "curve", colour="red")


def test_only_the_curve_takes_several_runs_and_only_of_one_task(fitted: Any) -> None:
    line, mean, prior = fitted("line", "diabetes"), fitted("mean", "diabetes"), fitted("prior", "wine")
    with pytest.raises(SadariError, match="'weights' looks into one run, 2 were given"):
        look([line, line], "weights")
    with pytest.raises(SadariError, match="different tasks"):
        look([mean, prior], "curve")
    with pytest.raises(SadariError, match="no run to look into"):
        look([], "curve")
    assert look([mean, line], "curve").facts["rungs"] == ["mean", "line"]


def test_a_part_that_is_none_is_refused(fitted: Any) -> None:
    with pytest.raises(
        SadariError, match="part 'all' is no part of the split; choose train, validation or test"
    ):
        look(fitted("line", "diabetes"), "residuals", part="all")


def test_the_parts_are_the_runs_own(fitted: Any) -> None:
    run: Run = fitted("line", "diabetes")
    split = run.data().split
    for part in ("train", "validation", "test"):
        rows = look(run, "residuals", part=part).arrays["row"]
        np.testing.assert_array_equal(rows - 1, getattr(split, part))


def test_a_streamed_table_gives_the_same_rows(
    fitted: Any, mixed_csv: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fitted("line", mixed_csv, target="price")
    whole = sample(run, "validation", limit=20)
    small = prepare(mixed_csv, target="price", memory=1000)
    assert small.table.streamed
    monkeypatch.setattr(Run, "data", lambda self: small)
    streamed = sample(run, "validation", limit=20)
    np.testing.assert_array_equal(streamed.numbers, whole.numbers)
    np.testing.assert_array_equal(streamed.features, whole.features)
    np.testing.assert_allclose(streamed.values, whole.values)
