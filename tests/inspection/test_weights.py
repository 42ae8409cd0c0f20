"""Weights are the coefficients, in units that compare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.rows import sample


@pytest.mark.proof("line", "inside")
def test_a_lines_weights_are_scikit_learns_coefficients_for_a_standard_deviation(fitted: Any) -> None:
    run = fitted("line", "diabetes")
    view = look(run, "weights")
    rows = sample(run)
    names = list(run.spec.feature_names)
    raw = rows.frame.select(names).to_numpy().astype(np.float64)
    peer = LinearRegression().fit(raw, rows.values)
    expected = dict(zip(names, peer.coef_ * raw.std(0), strict=True))
    found = dict(zip(view.facts["names"], view.arrays["weight"], strict=True))
    assert found.keys() == expected.keys()
    for name in names:
        assert found[name] == pytest.approx(expected[name], rel=2e-3, abs=2e-3)
    sizes = np.abs(view.arrays["weight"])
    assert (np.diff(sizes) <= 0).all()
    assert f"{view.facts['names'][0]} weighs most" in view.title[0]


def test_two_classes_have_log_odds_and_more_have_centred_scores(fitted: Any) -> None:
    two, three = fitted("logistic", "breast-cancer"), fitted("logistic", "wine")
    view = look(two, "weights", top=5)
    place = two.spec.feature_names.index(view.facts["names"][0])
    assert view.arrays["weight"].shape == (5,)
    assert view.arrays["weight"][0] == pytest.approx(two.model.linear.weight[0, place].item())
    view = look(three, "weights")
    assert view.arrays["weight"].shape == (3, 13)
    np.testing.assert_allclose(view.arrays["weight"].sum(0), 0, atol=1e-6)
    assert view.facts["classes"] == ["class_0", "class_1", "class_2"]


def test_columns_that_move_together_are_named(fitted: Any) -> None:
    twins = look(fitted("logistic", "breast-cancer"), "weights").facts["twins"]
    assert twins is not None and abs(twins[2]) > 0.8
    assert "should be read as one" in look(fitted("logistic", "breast-cancer"), "weights").see[0]


def test_a_networks_lengths_are_norms_of_its_first_layer(fitted: Any) -> None:
    run = fitted("deep-skip", "diabetes")
    view = look(run, "weights", top=3)
    first = run.model.hidden[0].weight.detach().numpy()
    places = [run.spec.feature_names.index(name) for name in view.facts["names"]]
    np.testing.assert_allclose(view.arrays["length"], np.linalg.norm(first, axis=0)[places], rtol=1e-6)
    assert view.arrays["length"][0] == pytest.approx(np.linalg.norm(first, axis=0).max())
    assert view.arrays["direct"].shape == (1, 3)


def test_at_least_one_is_shown(fitted: Any) -> None:
    with pytest.raises(SadariError, match="--top 0 features cannot be shown"):
        look(fitted("line", "diabetes"), "weights", top=0)
