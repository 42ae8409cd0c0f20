"""Generated tables: mnist1d is the authors' own data set, planted truths are what they say."""

from __future__ import annotations

import warnings

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.data import toy
from sadari.errors import SadariError


def test_mnist1d_is_the_reference_data_set() -> None:
    """Numbers of make_dataset() of greydanus/mnist1d, which its published file equals."""
    frame = toy.mnist1d()
    signals, digits = frame.drop("digit").to_numpy(), frame["digit"].to_list()
    assert frame.shape == (5000, 41) and frame.columns[0] == "x00" and frame.columns[39] == "x39"
    np.testing.assert_allclose(signals[0, :3], [-0.33200567, -0.47191037, -0.77869708], atol=1e-8)
    np.testing.assert_allclose(signals[4999, -3:], [0.65987565, 0.87773435, 1.19315184], atol=1e-8)
    assert digits[:12] == [2, 6, 4, 5, 6, 6, 6, 0, 3, 1, 6, 9]
    assert digits[-12:] == [3, 9, 8, 3, 3, 6, 1, 2, 5, 9, 6, 4]
    assert np.abs(signals).sum() == pytest.approx(148316.17264806535, rel=1e-10)
    assert (signals * np.arange(1, 41)).sum() == pytest.approx(26954.090994414164, rel=1e-9)
    assert frame["digit"].value_counts()["count"].to_list() == [500] * 10


def test_mnist1d_separates_the_rungs_as_its_authors_report() -> None:
    """32 % for logistic regression, 68 % for an MLP (arXiv 2011.14439), by models of scikit-learn."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    frame = toy.mnist1d()
    x, y = frame.drop("digit").to_numpy(), frame["digit"].to_numpy()
    line = LogisticRegression(max_iter=300).fit(x[:4000], y[:4000])
    assert 0.28 <= line.score(x[4000:], y[4000:]) <= 0.36
    network = MLPClassifier(  # the authors' width, batch and rate, for as many steps: 6,000
        (100, 100),
        batch_size=100,
        learning_rate_init=1e-2,
        max_iter=150,
        n_iter_no_change=150,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is meant
        network.fit(x[:4000], y[:4000])
    assert 0.64 <= network.score(x[4000:], y[4000:]) <= 0.72


def test_shuffled_rows_hold_the_same_moments_in_one_order() -> None:
    plain, mixed = toy.mnist1d(rows=50), toy.mnist1d(rows=50, shuffled=True)
    assert plain["digit"].equals(mixed["digit"]) and plain.columns == mixed.columns
    before, after = (frame.drop("digit").to_numpy() for frame in (plain, mixed))
    where = [int(np.flatnonzero((before == column[:, None]).all(0))[0]) for column in after.T]
    assert sorted(where) == list(range(40)) and where != list(range(40))


@given(st.integers(0, 2**32 - 1))
def test_mnist1d_follows_its_seed(seed: int) -> None:
    first, again = toy.mnist1d(seed, rows=20), toy.mnist1d(seed, rows=20)
    assert first.equals(again)
    assert not first.equals(toy.mnist1d((seed + 1) % 2**32, rows=20))
    assert first.drop("digit").to_numpy().std() == pytest.approx(1.0)


def _explained(frame: pl.DataFrame, *columns: pl.Expr) -> float:
    """R squared of the least-squares fit of `target` on the columns and a constant, over all rows."""
    x = frame.select(*columns, pl.lit(1.0)).to_numpy()
    y = frame["target"].to_numpy()
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - rest.var() / y.var()


def test_planted_regressions_hold_exactly_their_truth() -> None:
    features, product = [pl.col(f"x{i}") for i in range(1, 6)], (pl.col("x1") * pl.col("x2")).alias("product")
    linear, bent, nothing = (toy.planted(truth, 20_000, 1) for truth in ("linear", "product", "noise"))
    assert _explained(linear, *features) == pytest.approx(0.8, abs=0.01)  # 1 / (1 + 0.5^2)
    assert _explained(bent, *features) < 0.01
    assert _explained(bent, product) == pytest.approx(0.8, abs=0.02)
    assert _explained(nothing, *features, product) < 0.01


def test_planted_classes_hold_exactly_their_truth() -> None:
    from sklearn.linear_model import LogisticRegression

    for truth, better in (("linear", True), ("product", False), ("noise", False)):
        frame = toy.planted(truth, 4000, 2, task="classify")
        assert set(frame["target"]) == {"yes", "no"}
        x, y = frame.drop("target").to_numpy(), frame["target"].to_numpy()
        score = LogisticRegression().fit(x[:3000], y[:3000]).score(x[3000:], y[3000:])
        assert (score > 0.7) == better, (truth, score)
        same_sign = (frame["x1"] * frame["x2"] > 0) == (frame["target"] == "yes")
        assert (same_sign.mean() > 0.7) == (truth == "product")


@given(
    st.sampled_from(["linear", "product", "noise"]), st.integers(1, 50), st.integers(0, 9), st.integers(2, 8)
)
def test_planted_tables_have_the_asked_shape_and_follow_their_seed(truth, rows, seed, features) -> None:
    frame = toy.planted(truth, rows, seed, features=features)
    assert frame.shape == (rows, features + 1) and frame.columns[-1] == "target"
    assert frame.equals(toy.planted(truth, rows, seed, features=features))
    assert not frame.equals(toy.planted(truth, rows, seed + 1, features=features))


def test_shapes_are_divided_by_their_curve_and_by_no_line() -> None:
    from sklearn.linear_model import LogisticRegression

    for shape in ("circle", "moons", "spiral"):
        frame = toy.plane(shape, 2000)
        x, y = frame.select("x1", "x2").to_numpy(), frame["side"].to_numpy()
        assert LogisticRegression().fit(x, y).score(x, y) < 0.9
    ring = toy.plane("circle", 2000, noise=0.01)
    outer = (ring["x1"] ** 2 + ring["x2"] ** 2) > 0.75**2
    assert (outer == (ring["side"] == "outer")).all()


def test_wave_is_the_curve_that_it_says() -> None:
    frame = toy.wave(5000, noise=0.3)
    rest = frame["y"] - (2 * frame["x"]).sin() - frame["x"] / 3
    assert rest.std() == pytest.approx(0.3, rel=0.05) and abs(rest.mean()) < 0.02


def test_what_cannot_be_planted_is_refused() -> None:
    with pytest.raises(
        SadariError, match="'cubic' is not a truth that can be planted; choose from linear, product, noise"
    ):
        toy.planted("cubic")  # type: ignore[arg-type]
    with pytest.raises(
        SadariError, match=r"rows=0, features=5, noise=0.5: a planted table needs at least 1 row"
    ):
        toy.planted("linear", 0)
    with pytest.raises(
        SadariError, match="'square' is not a shape in the plane; choose from circle, moons, spiral"
    ):
        toy.plane("square")  # type: ignore[arg-type]
