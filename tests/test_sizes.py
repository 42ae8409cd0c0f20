"""More data or a taller rung: the law is recovered where it is known, and each answer is given where it is
due.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.bleu import statistics
from sadari.data.prepare import prepare
from sadari.data.toy import planted
from sadari.fitting import plan_fit, run_fit
from sadari.metrics import METRICS, Resamples
from sadari.sizes import Curve, answer, doubling, learn_parts

RMSE, ROWS = METRICS["rmse"], (50, 100, 200, 400)


@given(floor=st.floats(0, 5), slope=st.floats(0.01, 5), exponent=st.sampled_from([0.05, 0.25, 0.5, 1.0, 1.5]))
def test_a_known_law_gives_its_own_next_step(floor: float, slope: float, exponent: float) -> None:
    rows = np.array(ROWS, dtype=float)
    losses = floor + slope * rows**-exponent
    expected = slope * (400**-exponent - 800**-exponent)
    assert doubling(ROWS, losses[None])[0] == pytest.approx(expected, rel=0.1, abs=1e-4 * slope)


def test_a_flat_or_rising_curve_promises_nothing() -> None:
    losses = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.1, 1.2, 1.3]])
    np.testing.assert_allclose(doubling(ROWS, losses), 0, atol=1e-12)


def test_a_loss_never_falls_below_nothing() -> None:
    losses = np.array([[8.0, 4.0, 2.0, 1.0], [3.0, 1.0, 0.3, 0.1]])
    gains = doubling(ROWS, losses)
    assert np.all(gains > 0) and np.all(gains < losses[:, -1])


def _curve(errors: tuple[float, ...], seed: int = 0) -> Curve:
    """The same noise in every size, so that differences between sizes are sure."""
    noise = np.random.default_rng(seed).standard_normal(200)
    return Curve("line", ROWS, tuple(RMSE.contributions(error * noise, np.zeros(200)) for error in errors))


def _say(errors: tuple[float, ...], above: float | None) -> dict:
    curve, resamples = _curve(errors), Resamples(200)
    rival = None
    if above is not None:
        noise = np.random.default_rng(0).standard_normal(200)
        rival = ("deep", RMSE.contributions(above * noise, np.zeros(200)))
    said = answer(curve, RMSE, resamples, rival)
    assert said is not None and "{" not in said["reasons"]["en"] + said["reasons"]["ko"]
    return said


def test_more_data_is_the_answer_while_the_curve_falls() -> None:
    said = _say((4.0, 3.0, 2.2, 1.6), above=1.55)
    assert said["answer"] == "data" and said["gain"] > 0.3
    assert said["reasons"]["en"].startswith(
        "More data rather than a taller rung: with twice the rows line should"
    )
    assert "; deep gains 0.0" in said["reasons"]["en"]


def test_a_taller_rung_is_the_answer_where_it_gains_more() -> None:
    said = _say((1.3, 1.2, 1.15, 1.12), above=0.5)
    assert said["answer"] == "rung" and said["above_gain"] > 0.5
    assert said["reasons"]["en"].startswith("A taller rung rather than more data")


def test_neither_is_said_of_a_flat_curve_under_an_equal_rung() -> None:
    said = _say((1.0, 1.0, 1.0, 1.0), above=1.0)
    assert said["answer"] == "neither" and said["low"] == said["gain"] == 0
    assert said["reasons"]["ko"].startswith("어느 쪽도 확실하지 않습니다")


def test_the_top_rung_has_nothing_above() -> None:
    said = _say((4.0, 3.0, 2.2, 1.6), above=None)
    assert said["answer"] == "data" and "there is no rung above it" in said["reasons"]["en"]


def test_two_sizes_say_nothing() -> None:
    curve = Curve("line", (50, 100), _curve((2.0, 1.0, 1.0, 1.0)).contributions[:2])
    assert answer(curve, RMSE, Resamples(200), None) is None


def test_accuracy_rises_as_its_error_falls() -> None:
    accuracy, draw = METRICS["accuracy"], np.random.default_rng(0)
    luck = draw.random(2000)
    parts = tuple(
        accuracy.contributions(np.eye(2)[(luck > share).astype(int)], np.zeros(2000, int))
        for share in (0.6, 0.7, 0.775, 0.83125)
    )
    said = answer(Curve("logistic", ROWS, parts), accuracy, Resamples(2000), None)
    assert said is not None and said["answer"] == "data" and said["gain"] == pytest.approx(0.042, abs=0.02)
    assert " points of accuracy" in said["reasons"]["en"]


def test_a_score_of_a_hundred_rises_as_what_it_lacks_falls() -> None:
    """BLEU 10, 15, 24 and 33: what is missing to 100 falls, and so it was for 8,000 strings and more."""
    bleu, draw, parts = METRICS["bleu"], np.random.default_rng(0), []
    for right in (0.55, 0.62, 0.7, 0.78):
        words = draw.integers(0, 50, (300, 12))
        said = np.where(draw.random(words.shape) < right, words, 51)
        texts = [[" ".join(map(str, row)) for row in side] for side in (said.tolist(), words.tolist())]
        parts.append(bleu.contributions(statistics(*texts), np.zeros(300)))
    said = answer(Curve("transformer", ROWS, tuple(parts)), bleu, Resamples(300), None)
    assert said is not None and said["answer"] == "data"
    assert 1 < said["gain"] < 30 and said["low"] < said["gain"] < said["high"]


def test_the_line_learns_from_nested_parts(tmp_path: Path) -> None:
    prepared = prepare(planted("linear", 600, seed=0))
    plan = plan_fit("line", "planted", prepared=prepared)
    run = run_fit(plan, tmp_path / "line")
    rows, predictions = learn_parts(plan, run)
    assert rows == [45, 90, 180]
    errors = [RMSE.score(said, prepared.spec.decode_target(prepared.test.targets)) for said in predictions]
    assert errors[0] > errors[-1] * 0.98  # more rows do not hurt a line whose truth is a line
    order = np.random.default_rng(0).permutation(len(prepared.train.targets))[:45]
    features = np.c_[prepared.train.features[order], np.ones(45)]
    weights = np.linalg.lstsq(features, prepared.train.targets[order], rcond=None)[0]
    by_hand = prepared.spec.decode_target(np.c_[prepared.test.features, np.ones(120)] @ weights)
    np.testing.assert_allclose(predictions[0], by_hand, rtol=1e-3, atol=1e-3)


def test_networks_learn_their_parts_together_and_parts_too_small_are_left_out(tmp_path: Path) -> None:
    prepared = prepare(planted("product", 150, seed=0))
    plan = plan_fit("shallow", "planted", prepared=prepared, budget="40steps", starts=2, model={"width": 8})
    run = run_fit(plan, tmp_path / "shallow")
    rows, predictions = learn_parts(plan, run)
    assert rows == [22, 45]  # an eighth of 90 rows is 11
    assert [said.shape for said in predictions] == [(30,), (30,)]
    assert not np.allclose(predictions[0], predictions[1])
