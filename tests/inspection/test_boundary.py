"""Where the answer changes, against the weights and against predictions of raw rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.rows import sample


@pytest.mark.proof("logistic", "inside")
def test_the_logistic_boundary_is_the_line_on_which_both_classes_are_equally_likely(fitted: Any) -> None:
    run = fitted("logistic", "breast-cancer")
    names = ("mean radius", "mean texture")
    view = look(run, "boundary", features=names)
    x, y, winner = view.arrays["x"], view.arrays["y"], view.arrays["winner"]
    weight, bias = run.model.linear.weight[0].double().detach().numpy(), run.model.linear.bias.item()
    columns = {column.name: column for column in run.spec.columns}
    logit = np.full((len(y), len(x)), bias)
    for name, place in zip(run.spec.feature_names, range(len(weight)), strict=True):
        values = {names[0]: x[None, :], names[1]: y[:, None]}.get(name, view.facts["still"][name])
        logit = logit + weight[place] * (values - columns[name].center) / columns[name].scale
    np.testing.assert_array_equal(winner, logit > 0)
    np.testing.assert_allclose(view.arrays["sure"], 1 / (1 + np.exp(-np.abs(logit))), atol=2e-3)
    assert 0 < winner.mean() < 1
    edge = np.abs(logit) < np.abs(np.diff(logit, axis=1)).max()  # cells next to the edge
    assert np.abs(view.arrays["sure"][edge] - 0.5).max() < 0.1
    assert view.facts["straight"]


def test_areas_and_hits_are_those_of_predicted_raw_rows(fitted: Any) -> None:
    run = fitted("deep", "wine")
    view = look(run, "boundary")
    one, other = view.facts["features"]
    grid = pl.DataFrame({one: view.arrays["x"]}).join(pl.DataFrame({other: view.arrays["y"]}), how="cross")
    still = {name: value for name, value in view.facts["still"].items() if name not in (one, other)}
    answers = run.predict(grid.with_columns(pl.lit(value).alias(name) for name, value in still.items()))[
        "prediction"
    ]
    for label, area in view.facts["areas"].items():
        assert area == pytest.approx((answers == label).mean(), abs=1e-3)
    rows = sample(run)
    moved = rows.frame.with_columns(pl.lit(value).alias(name) for name, value in still.items())
    truth = rows.frame[run.spec.target].cast(pl.String)
    assert view.facts["right_here"] == pytest.approx((run.predict(moved)["prediction"] == truth).mean())
    assert view.facts["right_with_all"] == pytest.approx(
        (run.predict(rows.frame)["prediction"] == truth).mean()
    )


def test_the_prior_has_no_edge(fitted: Any) -> None:
    view = look(fitted("prior", "wine"), "boundary")
    assert len(np.unique(view.arrays["winner"])) == 1
    assert "edge between the colours is missing" in view.see[0]


def test_two_different_numbers_are_needed(fitted: Any, mixed_csv: str) -> None:
    run = fitted("logistic", "wine")
    with pytest.raises(SadariError, match="two different features that are numbers, not alcohol and alcohol"):
        look(run, "boundary", features=("alcohol", "alcohol"))
    houses = fitted("logistic", mixed_csv, target="garden")
    with pytest.raises(SadariError, match="two different features that are numbers, not size and city"):
        look(houses, "boundary", features=("size", "city"))
