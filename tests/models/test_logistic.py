"""Logistic: the optimum that scikit-learn finds, its gradient X'(p - y), and a straight boundary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression

from sadari.errors import SadariError
from sadari.losses import Loss, make_loss
from sadari.models.logistic import Logistic, LogisticConfig

TABLES = {"iris": load_iris, "wine": load_wine, "breast-cancer": load_breast_cancer, "digits": load_digits}


def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A built-in's features at variance 1 in float64, constant ones at zero, and its classes."""
    X, y = TABLES[name](return_X_y=True)
    spread = X.std(0)
    return (X - X.mean(0)) / np.where(spread > 0, spread, 1.0), y


def loss_for(y: np.ndarray, smoothing: float = 0.0) -> Loss:
    classes = int(y.max()) + 1
    return make_loss("binary" if classes == 2 else "cross-entropy", classes=classes, smoothing=smoothing)


def solved(
    X: np.ndarray, y: np.ndarray, loss: Loss | None = None, penalty: float = 1.0
) -> tuple[Logistic, dict]:
    """A logistic of the features' own precision, and the facts of its solution."""
    loss = loss or loss_for(y)
    model = Logistic(LogisticConfig(penalty=penalty), X.shape[1], loss.outputs)
    model = model.to(torch.from_numpy(X).dtype)
    return model, model.solve(torch.from_numpy(X), torch.from_numpy(y), loss)


def objective(model: Logistic, X: np.ndarray, y: np.ndarray, penalty: float = 1.0) -> float:
    """scikit-learn's, in float64: the sum of losses plus half the penalised squares."""
    double = Logistic(model.config, *reversed(model.linear.weight.shape)).double()
    double.load_state_dict(model.state_dict())
    value = loss_for(y)(double(torch.from_numpy(X)), torch.from_numpy(y)).sum()
    return (value + 0.5 * penalty * double.linear.weight.square().sum()).item()


@pytest.mark.proof("logistic", "parity")
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("penalty", [1.0, 100.0])
def test_equals_scikit_learn(name: str, penalty: float) -> None:
    """The same coefficients to 1e-3, and an objective that is no higher than theirs."""
    X, y = table(name)
    model, facts = solved(X, y, penalty=penalty)
    reference = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=10_000).fit(X, y)
    theirs = Logistic(model.config, *reversed(model.linear.weight.shape)).double()
    theirs.linear.weight.data.copy_(torch.from_numpy(reference.coef_))
    theirs.linear.bias.data.copy_(torch.from_numpy(reference.intercept_))
    np.testing.assert_allclose(model.linear.weight.detach(), reference.coef_, rtol=0, atol=1e-3)
    np.testing.assert_allclose(model.linear.bias.detach(), reference.intercept_, rtol=0, atol=1e-3)
    ours = objective(model, X, y, penalty)
    assert ours <= objective(theirs, X, y, penalty) * (1 + 1e-8)
    assert facts["objective"] == pytest.approx(ours, rel=1e-7) and facts["converged"]
    assert not facts["notes"]


@pytest.mark.parametrize("name", ["breast-cancer", "digits"])
def test_single_precision_reaches_the_same_optimum(name: str) -> None:
    X, y = table(name)
    ours = objective(solved(X.astype(np.float32), y)[0], X, y)
    assert ours == pytest.approx(objective(solved(X, y)[0], X, y), rel=1e-6)


@pytest.mark.proof("logistic", "claim")
@pytest.mark.parametrize("name", ["breast-cancer", "wine"])
def test_its_gradient_is_features_times_probability_minus_label(name: str) -> None:
    """Autograd's derivative of the summed loss is X'(p - y); at the optimum it is minus the penalty's."""
    X, y = table(name)
    loss = loss_for(y)
    features, targets = torch.from_numpy(X), torch.from_numpy(y)
    labels = np.eye(y.max() + 1)[y][:, -loss.outputs :]  # (N, O): of class 1, or of every class
    model = Logistic(LogisticConfig(), X.shape[1], loss.outputs).double()
    for optimum in (False, True):
        if optimum:
            model.solve(features, targets, loss)
        model.zero_grad()
        output = model(features)
        loss(output, targets).sum().backward()
        probabilities = loss.predict(output).detach().numpy()[:, -loss.outputs :]
        by_hand = (probabilities - labels).T @ X
        np.testing.assert_allclose(model.linear.weight.grad, by_hand, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            model.linear.bias.grad, (probabilities - labels).sum(0), rtol=1e-9, atol=1e-9
        )
    np.testing.assert_allclose(by_hand, -model.linear.weight.detach(), rtol=0, atol=1e-3)


@pytest.mark.proof("logistic", "claim")
@given(seed=st.integers(0, 1000), classes=st.integers(2, 4), along=st.floats(-5, 5))
def test_the_boundary_between_two_classes_is_straight(seed: int, classes: int, along: float) -> None:
    """Both classes are equally likely on the line (w_a - w_b) x + (b_a - b_b) = 0, each on its own side."""
    rng = np.random.default_rng(seed)
    y = np.arange(60) % classes
    X = rng.standard_normal((60, 2)) + 2 * rng.standard_normal((classes, 2))[y]
    loss = loss_for(y)
    model, _ = solved(X, y, loss)
    weight, bias = model.linear.weight.detach().numpy(), model.linear.bias.detach().numpy()
    normal, shift = (weight[0], bias[0]) if classes == 2 else (weight[1] - weight[0], bias[1] - bias[0])
    size = normal @ normal
    on = -shift * normal / size + along * np.array([-normal[1], normal[0]]) / np.sqrt(size)
    points = torch.from_numpy(np.stack([on, on + normal / size, on - normal / size]))
    logs = loss.predict(model(points)).detach().log()
    difference = (logs[:, 1] - logs[:, 0]).numpy()
    np.testing.assert_allclose(difference, [0.0, 1.0, -1.0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.05, 0.3])
@pytest.mark.parametrize("name", ["breast-cancer", "iris"])
def test_smoothed_labels_are_solved_too(name: str, smoothing: float) -> None:
    """The gradient of the house's own smoothed loss is zero, even where nothing else holds the weights."""
    X, y = table(name)
    X, loss = X[:, :4], loss_for(y, smoothing)
    model, facts = solved(X, y, loss, penalty=0.0)
    loss(model(torch.from_numpy(X)), torch.from_numpy(y)).sum().backward()
    assert model.linear.weight.grad is not None and model.linear.weight.grad.abs().max() < 1e-3
    assert facts["converged"] and not facts["notes"]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("rows", [60, 60_000])
def test_classes_that_separate_stop_gracefully_with_a_note(classes: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(rows) % classes
    X = np.array([[0.0, 0], [6, 0], [0, 6]])[y] + rng.uniform(-1, 1, (rows, 2))
    model, facts = solved(X, y, penalty=0.0)
    assert facts["objective"] < 0.5 and model.linear.weight.isfinite().all()
    assert (loss_for(y).predict(model(torch.from_numpy(X))).argmax(-1).numpy() == y).all()
    (note,) = facts["notes"]
    assert note.level == "warning" and "without a penalty the weights would grow" in note.say("en")
    assert "벌점" in note.say("ko")
    assert not solved(X, y, penalty=1e-3)[1]["notes"]


def test_coinciding_columns_share_their_weight() -> None:
    """With a penalty as any; without one too, where second derivatives alone would have no inverse."""
    X, y = table("breast-cancer")
    X = X[:, :3]
    once, _ = solved(X, y, penalty=0.0)
    twice, facts = solved(np.column_stack([X, X]), y, penalty=0.0)
    weight = twice.linear.weight.detach().numpy()
    np.testing.assert_allclose(weight[:, :3] + weight[:, 3:], once.linear.weight.detach(), rtol=1e-3)
    assert facts["converged"]
    _, facts = solved(np.zeros((30, 2)), np.arange(30) % 2)
    assert facts["objective"] == pytest.approx(30 * np.log(2))


def test_a_class_without_rows_is_found_unlikely() -> None:
    X, y = table("iris")
    loss = make_loss("cross-entropy", classes=4)
    model, _ = solved(X, y, loss)
    assert loss.predict(model(torch.from_numpy(X)))[:, 3].max() < 1e-6


def test_a_large_table_mapped_from_a_file_is_read_where_it_lies(tmp_path: Path) -> None:
    """Large enough for a smaller table to be solved first."""
    rng = np.random.default_rng(0)
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (120_000, 5))
    mapped[:] = rng.standard_normal(mapped.shape)
    y = (rng.random(len(mapped)) < 1 / (1 + np.exp(-mapped.sum(1)))).astype(np.int64)
    ours, facts = solved(mapped, y)
    again, _ = solved(np.array(mapped), y)
    assert torch.equal(ours.linear.weight, again.linear.weight)
    reference = LogisticRegression(tol=1e-8).fit(mapped.astype(np.float64), y)
    np.testing.assert_allclose(ours.linear.weight.detach(), reference.coef_, rtol=0, atol=1e-4)
    assert facts["iterations"] < 10


@pytest.mark.parametrize("name", ["breast-cancer", "wine"])
def test_values_that_are_not_finite_or_too_large_are_refused(name: str) -> None:
    X, y = table(name)
    X[5, 1] = np.nan
    with pytest.raises(SadariError, match="a feature holds a value that is not finite; give numbers"):
        solved(X, y)
    X[:, 1] = 1e200 * np.arange(len(X))
    with pytest.raises(SadariError, match="too large for their second derivatives; standardise them"):
        solved(X, y)


def test_solves_class_losses_exactly_and_nothing_else() -> None:
    model = Logistic(LogisticConfig(), 3, 1)
    assert model.can_solve(make_loss("binary", classes=2))
    assert model.can_solve(make_loss("cross-entropy", classes=3, smoothing=0.1))
    assert not model.can_solve(make_loss("squared"))
    descending = Logistic(LogisticConfig(method="gradient"), 3, 1)
    assert not descending.can_solve(make_loss("binary", classes=2))


@given(inputs=st.integers(1, 20), outputs=st.integers(1, 9))
def test_is_counted_by_its_formulas(inputs: int, outputs: int) -> None:
    config = LogisticConfig()
    model = Logistic(config, inputs, outputs)
    assert sum(p.numel() for p in model.parameters()) == Logistic.parameter_count(config, inputs, outputs)
    assert Logistic.macs(config, inputs, outputs) == model.linear.weight.numel()
    assert list(model.state_dict()) == ["linear.weight", "linear.bias"]


def test_wrong_settings_are_refused_with_a_remedy() -> None:
    with pytest.raises(SadariError, match=r"penalty -1\.0: a penalty is 0 or more; use penalty=1\.0"):
        LogisticConfig(penalty=-1.0)
    with pytest.raises(SadariError, match="method 'magic' is neither 'exact' nor 'gradient'"):
        LogisticConfig(method="magic")
