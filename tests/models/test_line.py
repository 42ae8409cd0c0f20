"""Line: equal to lstsq and scikit-learn, as precise where columns nearly coincide, and met by descent."""

from __future__ import annotations

from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, Ridge

from sadari.errors import SadariError
from sadari.layers import squares
from sadari.layers.squares import least_squares
from sadari.losses import make_loss
from sadari.models.line import Line, LineConfig

SQUARED = make_loss("squared")


def solved(X: np.ndarray, y: np.ndarray, **settings: float) -> tuple[Line, dict]:
    """A line of the features' own precision, and the facts of its solution."""
    model = Line(LineConfig(**settings), X.shape[1], 1).to(torch.from_numpy(X).dtype)
    facts = model.solve(torch.from_numpy(X), torch.from_numpy(y), SQUARED)
    return model, facts


def weights_of(model: Line) -> np.ndarray:
    return model.linear.weight.detach().numpy()[0]


def planted(rows: int, columns: int, seed: int = 0, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns))
    return X, X @ rng.standard_normal(columns) + 2 + noise * rng.standard_normal(rows)


def conditioned(condition: float, noise: float, offset: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A table (60, 4) whose centred columns have about that condition."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((60, 4)))[0]
    right = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    X = np.sqrt(60) * left * np.logspace(0, -np.log10(condition), 4) @ right + offset
    return X, X @ rng.standard_normal(4) + noise * rng.standard_normal(60)


def exact(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The weights (C,) and intercept in sixty digits, rounded at the end."""
    with mpmath.workdps(60):
        A, b = mpmath.matrix(np.column_stack([X, np.ones(len(X))]).tolist()), mpmath.matrix(y.tolist())
        return np.array([float(value) for value in mpmath.lu_solve(A.T * A, A.T * b)])


@pytest.mark.proof("line", "parity")
@pytest.mark.parametrize("rows", [6, 50, 3000, 30_000])  # one block, several, and several threads
def test_equals_lstsq_and_scikit_learn(rows: int) -> None:
    X, y = planted(rows, 4)
    model, facts = solved(X, y)
    coefficients = np.linalg.lstsq(np.column_stack([X, np.ones(rows)]), y)[0]
    np.testing.assert_allclose(weights_of(model), coefficients[:-1], rtol=0, atol=1e-12)
    assert model.linear.bias.item() == pytest.approx(coefficients[-1], abs=1e-12)
    np.testing.assert_allclose(weights_of(model), LinearRegression().fit(X, y).coef_, rtol=0, atol=1e-12)
    assert facts["rank"] == 4 and facts["converged"] and not facts["notes"]


@pytest.mark.proof("line", "parity")
@pytest.mark.parametrize("alpha", [1e-6, 1.0, 1e4])
def test_ridge_equals_scikit_learns(alpha: float) -> None:
    """On real data with a column twice, to which the penalty alone gives an answer; the intercept is free."""
    X, y = load_diabetes(return_X_y=True)
    X = np.column_stack([X, X[:, 0]]) + 3.0
    model, facts = solved(X, y, ridge=alpha)
    theirs = Ridge(alpha=alpha, solver="svd").fit(X, y)
    np.testing.assert_allclose(weights_of(model), theirs.coef_, rtol=1e-6, atol=1e-6)
    assert model.linear.bias.item() == pytest.approx(theirs.intercept_, rel=1e-6)
    assert facts["rank"] == 11


@pytest.mark.parametrize("small", [0, squares.SMALL], ids=["in passes", "at once"])
@pytest.mark.parametrize("offset", [0.0, 1e4], ids=["centred", "far"])
@pytest.mark.parametrize("noise", [1e-6, 1.0])
@pytest.mark.parametrize("power", range(2, 13, 2))
def test_is_as_precise_as_lstsq_also_where_columns_nearly_coincide(
    power: int, noise: float, offset: float, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against sixty digits: within ten times of lstsq's error, the geometric mean over eight tables.

    lstsq is given the centred table, for with a column of ones it loses the far one altogether.
    """
    monkeypatch.setattr(squares, "SMALL", small)
    ours, theirs = [], []
    for seed in range(8):
        X, y = conditioned(10.0**power, noise, offset, seed)
        truth = exact(X, y)[:-1]
        by_lstsq = np.linalg.lstsq(X - X.mean(0), y - y.mean())[0]
        solution = least_squares(X, y)
        assert solution.rank == 4
        assert 0.02 < solution.condition / 10.0**power < 10
        ours.append(np.linalg.norm(solution.weights - truth) / np.linalg.norm(truth))
        theirs.append(np.linalg.norm(by_lstsq - truth) / np.linalg.norm(truth))
    assert np.exp(np.mean(np.log(ours))) <= 10 * np.exp(np.mean(np.log(theirs)))


@given(
    seed=st.integers(0, 10_000),
    columns=st.integers(2, 6),
    rank=st.integers(1, 5),
    single=st.booleans(),
    wide=st.booleans(),
    small=st.sampled_from([0, squares.SMALL]),
)
def test_coinciding_columns_give_the_shortest_weights_and_a_note(
    seed: int, columns: int, rank: int, single: bool, wide: bool, small: int
) -> None:
    """As lstsq does: columns made of small whole numbers, so that they coincide exactly."""
    rank = min(rank, columns - 1)
    rng = np.random.default_rng(seed)
    mix = rng.integers(-2, 3, (rank, columns)).astype(np.float64)
    rows = columns if wide else 40
    X = rng.integers(-9, 10, (rows, rank)) @ mix + rng.integers(-50, 50, columns)
    y = rng.standard_normal(rows)
    centred = X - X.mean(0)
    theirs, _, true_rank, _ = np.linalg.lstsq(centred, y - y.mean(), rcond=1e-10)
    if single:
        X, y = X.astype(np.float32), y.astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(squares, "SMALL", small)
        model, facts = solved(X, y)
    assert facts["rank"] == true_rank < columns
    tolerance = 1e-4 if single else 1e-9
    np.testing.assert_allclose(weights_of(model), theirs, rtol=tolerance, atol=tolerance)
    (note,) = facts["notes"]
    assert note.about["rank"] == true_rank and note.about["columns"] == columns
    assert f"{columns - true_rank} of {columns} columns only repeat others" in note.say("en")
    assert f"열 {columns}개 가운데 {columns - true_rank}개" in note.say("ko")


def test_one_column_a_category_is_one_too_many() -> None:
    """All columns of a category add up to the intercept's: the fit is whole, in float32 too."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 4, 2000)
    X = np.column_stack([np.eye(4)[group], rng.standard_normal(2000)])
    X = ((X - X.mean(0)) / X.std(0)).astype(np.float32)
    y = (group**2 + 0.1 * rng.standard_normal(2000)).astype(np.float32)
    model, facts = solved(X, y)
    assert facts["rank"] == 4 and facts["iterations"] == 1
    theirs = LinearRegression().fit(X.astype(np.float64), y.astype(np.float64))
    np.testing.assert_allclose(
        model(torch.from_numpy(X)).detach().numpy()[:, 0], theirs.predict(X), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("rows", [3, 40, 4000])
def test_constant_columns_and_targets_weigh_nothing(rows: int) -> None:
    X, y = planted(rows, 3)
    X[:, 1] = 1e7 / 3
    model, facts = solved(X, y)
    assert facts["rank"] == 2 and weights_of(model)[1] == 0
    model, _ = solved(X, np.full(rows, 7.3))
    np.testing.assert_allclose(weights_of(model), 0, atol=1e-14)
    assert model.linear.bias.item() == pytest.approx(7.3)
    _, facts = solved(np.ones((rows, 2)), y)
    assert facts["rank"] == 0


def test_fewer_rows_than_columns() -> None:
    X, y = planted(5, 30)
    model, facts = solved(X, y)
    theirs = np.linalg.lstsq(X - X.mean(0), y - y.mean())[0]
    np.testing.assert_allclose(weights_of(model), theirs, rtol=0, atol=1e-12)
    assert facts["rank"] == 4
    model, facts = solved(X, y, ridge=0.5)
    np.testing.assert_allclose(weights_of(model), Ridge(alpha=0.5).fit(X, y).coef_, rtol=0, atol=1e-12)
    assert facts["rank"] == 30


def test_a_table_mapped_from_a_file_is_read_where_it_lies(tmp_path: Path) -> None:
    X, y = planted(20_000, 5)
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, X.shape)
    mapped[:] = X
    y = y.astype(np.float32)
    ours, plain = solved(mapped, y)[0], solved(X.astype(np.float32), y)[0]
    assert torch.equal(ours.linear.weight, plain.linear.weight)
    np.testing.assert_allclose(weights_of(ours), LinearRegression().fit(X, y).coef_, rtol=0, atol=1e-6)


def test_values_that_are_not_finite_are_named() -> None:
    X, y = planted(40, 3)
    X[7, 2] = np.nan
    with pytest.raises(SadariError, match="column 2 of the features holds a value that is not finite"):
        solved(X, y)
    X[7, 2] = 0.0
    y[3] = np.inf
    with pytest.raises(SadariError, match="the target holds a value that is not finite"):
        solved(X, y)
    with pytest.raises(SadariError, match="the target holds a value that is not finite"):
        solved(X[:2], y[2:4])


@pytest.mark.proof("line", "claim")
@pytest.mark.parametrize("share", [0.5, 0.999, 1.001, 2.0])
def test_descent_lands_only_below_two_over_lambda_max(share: float) -> None:
    """On the mean squared loss, a quadratic: it converges if the rate is below 2 / lambda_max."""
    X, y = planted(300, 3)
    X[:, 0] = 2 * X[:, 0] + 1
    features, targets = torch.from_numpy(X), torch.from_numpy(y)
    best = solved(X, y)[0].state_dict()
    rate = share * Line.step_bound(features)

    model = Line(LineConfig(method="gradient"), 3, 1).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    distances = []
    for _ in range(4000 if 0.9 < share < 1.1 else 100):
        optimizer.zero_grad()
        SQUARED(model(features), targets).mean().backward()
        optimizer.step()
        distances.append(
            max((value - best[name]).abs().max().item() for name, value in model.state_dict().items())
        )
    if share < 1:
        assert distances[-1] < 0.05 * distances[0]
    else:
        assert distances[-1] > 20 * distances[0]


def test_the_step_bound_is_that_of_the_hessian() -> None:
    X = torch.randn(500, 4, dtype=torch.float64) * torch.tensor([1.0, 3.0, 0.1, 1.0]) + 2
    A = torch.cat([X, torch.ones(500, 1, dtype=torch.float64)], dim=1)
    hessian = torch.autograd.functional.hessian(
        lambda w: SQUARED((A @ w)[:, None], torch.zeros(500)).mean(), torch.zeros(5, dtype=torch.float64)
    )
    assert Line.step_bound(X) == pytest.approx(2 / torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-12)
    assert Line.step_bound(X.float()) == pytest.approx(Line.step_bound(X), rel=1e-6)


def test_solves_squared_errors_exactly_and_nothing_else() -> None:
    line = Line(LineConfig(), 3, 1)
    assert line.can_solve(SQUARED)
    for name in ("absolute", "huber", "poisson", "gaussian"):
        assert not line.can_solve(make_loss(name))
    assert not Line(LineConfig(method="gradient"), 3, 1).can_solve(SQUARED)


@given(inputs=st.integers(1, 20), outputs=st.integers(1, 3))
def test_is_counted_by_its_formulas(inputs: int, outputs: int) -> None:
    config = LineConfig()
    model = Line(config, inputs, outputs)
    assert sum(p.numel() for p in model.parameters()) == Line.parameter_count(config, inputs, outputs)
    assert Line.macs(config, inputs, outputs) == model.linear.weight.numel()
    assert list(model.state_dict()) == ["linear.weight", "linear.bias"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ridge": -1.0}, r"ridge -1\.0: a penalty is 0 or more"),
        ({"ridge": float("nan")}, "ridge nan: a penalty is 0 or more"),
        ({"method": "magic"}, "method 'magic' is neither 'exact' nor 'gradient'"),
    ],
)
def test_wrong_settings_are_refused_with_a_remedy(settings: dict, message: str) -> None:
    with pytest.raises(SadariError, match=message):
        LineConfig(**settings)
