"""Calibration, confusion and residuals against scikit-learn and against sums done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, recall_score

from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.calibration import reliability
from sadari.inspection.rows import sample


def test_reliability_is_scikit_learns_calibration_curve(fitted: Any) -> None:
    run = fitted("logistic", "breast-cancer")
    view = look(run, "calibration", part="train")
    rows = sample(run)
    said = run.predictions(rows.features)[:, 1]
    came, mean = calibration_curve(rows.targets == 1, said, n_bins=10)
    filled = view.arrays["rows"] > 0
    np.testing.assert_allclose(view.arrays["came"][filled], came)
    np.testing.assert_allclose(view.arrays["said"][filled], mean, rtol=1e-6)
    assert view.arrays["rows"].sum() == len(said)
    weights = view.arrays["rows"][filled] / len(said)
    assert view.facts["ece"] == pytest.approx(float((weights * np.abs(came - mean)).sum()), rel=1e-6)


def test_said_and_come_true_alike_is_an_error_of_nothing_and_of_everything() -> None:
    edges = np.linspace(0, 1, 11)
    draw = np.random.default_rng(0)
    said = draw.random(200_000)
    honest = reliability(said, draw.random(200_000) < said, edges)
    assert np.abs(honest["said"] - honest["came"]).max() < 0.015
    sure = reliability(np.array([0.0, 1.0, 1.0, 0.55]), np.array([False, True, True, True]), edges)
    assert sure["rows"].tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert np.isnan(sure["came"][1]) and sure["said"][9] == 1.0  # the last group owns its upper edge


@pytest.mark.proof("prior", "inside")
def test_the_prior_says_the_shares_of_the_training_rows(fitted: Any) -> None:
    run = fitted("prior", "wine")
    rows = sample(run)
    shares = np.bincount(rows.targets) / len(rows.targets)
    view = look(run, "calibration", part="train")
    (only,) = np.flatnonzero(view.arrays["rows"])
    assert view.arrays["said"][only] == pytest.approx(shares.max(), abs=1e-6)
    assert view.arrays["came"][only] == pytest.approx(shares.max(), abs=1e-6)
    assert view.facts["ece"] < 1e-6
    held = look(run, "calibration")  # on rows that it has not seen, chance alone parts the two
    (only,) = np.flatnonzero(held.arrays["rows"])
    assert held.arrays["low"][only] < held.arrays["said"][only] < held.arrays["high"][only]


def test_groups_of_probabilities_have_a_range(fitted: Any) -> None:
    with pytest.raises(SadariError, match="--bins 1 groups of probabilities; choose 2 to 100"):
        look(fitted("prior", "wine"), "calibration", bins=1)


def test_the_confusion_matrix_is_scikit_learns(fitted: Any) -> None:
    run = fitted("shallow", "mnist1d")
    view = look(run, "confusion")
    rows = sample(run, "validation", 100_000)
    answers = run.predictions(rows.features).argmax(1)
    expected = confusion_matrix(rows.targets, answers)
    np.testing.assert_array_equal(view.arrays["matrix"], expected)
    np.testing.assert_allclose(view.arrays["recall"], recall_score(rows.targets, answers, average=None))
    assert view.facts["accuracy"] == pytest.approx((answers == rows.targets).mean())
    off = expected - np.diag(expected.diagonal())
    pair = view.facts["confused"]
    assert pair["rows"] == off.max()
    assert off[int(pair["true"]), int(pair["answer"])] == off.max()


def test_many_classes_are_cut_to_the_most_mistaken(fitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sadari.inspection.confusion.MOST_CLASSES", 4)
    run = fitted("shallow", "mnist1d")
    view = look(run, "confusion")
    rows = sample(run, "validation", 100_000)
    full = confusion_matrix(rows.targets, run.predictions(rows.features).argmax(1))
    wrong = full.sum(0) + full.sum(1) - 2 * full.diagonal()
    assert set(view.facts["classes"]) == {str(k) for k in np.argsort(-wrong, kind="stable")[:4]}
    assert view.arrays["matrix"].shape == (4, 4) and "of 10" in view.caption[0]


@pytest.mark.proof("mean", "inside")
def test_the_means_residuals_are_centred_and_as_wide_as_the_target(fitted: Any) -> None:
    run = fitted("mean", "diabetes")
    view = look(run, "residuals", part="train")
    target = sample(run).values
    assert view.arrays["prediction"] == pytest.approx(target.mean(), rel=1e-6)
    assert abs(view.facts["mean"]) < 1e-4
    assert view.facts["spread"] == pytest.approx(target.std(), rel=1e-6)
    assert view.facts["constant"]


def test_residuals_are_target_minus_prediction_with_their_quantiles(fitted: Any) -> None:
    run = fitted("line", "diabetes")
    view = look(run, "residuals")
    rows = sample(run, "validation")
    predicted = run.predict(rows.frame)["prediction"].to_numpy()
    np.testing.assert_allclose(view.arrays["residual"], rows.values - predicted, atol=1e-4)
    assert view.facts["rmse"] == pytest.approx(np.sqrt(np.square(rows.values - predicted).mean()), rel=1e-5)
    worst = view.facts["worst"][0]
    assert abs(worst["target"] - worst["prediction"]) == pytest.approx(
        np.abs(rows.values - predicted).max(), rel=1e-5
    )
    truth = run.data().table.frame.collect()[worst["row"] - 1, run.spec.target]
    assert worst["target"] == pytest.approx(truth)
    first = np.argsort(predicted, kind="stable")[: -(-len(predicted) // len(view.arrays["bin_low"]))]
    np.testing.assert_allclose(
        view.arrays["bin_low"][0], np.quantile((rows.values - predicted)[first], 0.1), rtol=1e-4
    )
    assert (view.arrays["bin_low"] <= view.arrays["bin_middle"]).all()
    assert (view.arrays["bin_middle"] <= view.arrays["bin_high"]).all()
