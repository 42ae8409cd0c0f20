"""Newton's method: each of its ways to the optimum ends at the same one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sadari.layers import newton
from sadari.layers.newton import _samples, _Table, fit_logistic
from sadari.losses import make_loss


def planted(rows: int, columns: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of unlike sizes, and classes that follow them with much chance."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns)) * np.logspace(-1, 1, columns)
    logits = X @ rng.standard_normal((columns, classes)) / np.logspace(-1, 1, columns).sum()
    return X, (logits + rng.gumbel(size=logits.shape)).argmax(1)


def objective(
    parameters: torch.Tensor, X: np.ndarray, y: np.ndarray, penalty: float, smoothing: float
) -> torch.Tensor:
    """What is minimised, written with the losses of the rest of the house; parameters (O, C + 1)."""
    outputs = len(parameters)
    classes = 2 if outputs == 1 else outputs
    loss = make_loss("binary" if outputs == 1 else "cross-entropy", classes=classes, smoothing=smoothing)
    logits = torch.from_numpy(X) @ parameters[:, :-1].T + parameters[:, -1]
    return loss(logits, torch.from_numpy(y)).sum() + 0.5 * penalty * (parameters[:, :-1] ** 2).sum()


WAYS = {
    "kept whole": {},
    "in passes": {"SMALL": 0},
    "an eighth first": {"SMALL": 0, "ROWS_A_WEIGHT": 1, "ENOUGH": 1},
    "an eighth first, its second derivatives never good enough": {
        "SMALL": 0,
        "ROWS_A_WEIGHT": 1,
        "ENOUGH": 1,
        "HOLDS": 0.0,
    },
    "conjugate gradients": {"WHOLE": 0},
    "conjugate gradients in passes": {"WHOLE": 0, "SMALL": 0},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("single", [False, True], ids=["float64", "float32"])
def test_every_way_ends_at_the_optimum(
    way: dict[str, float], outputs: int, single: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the distance that a full Newton step of autograd's derivatives would still win."""
    for name, value in way.items():
        monkeypatch.setattr(newton, name, value)
    X, y = planted(9000, 4, max(outputs, 2))
    X = X.astype(np.float32) if single else X
    found = fit_logistic(X, y, outputs, 2.0, 0.1)
    assert found.converged and found.steps < 20
    parameters = torch.from_numpy(np.column_stack([found.weights, found.intercepts])).requires_grad_()

    def cost(weights: torch.Tensor) -> torch.Tensor:
        return objective(weights, X.astype(np.float64), y, 2.0, 0.1)

    value = cost(parameters)
    (gradient,) = torch.autograd.grad(value, parameters)
    hessian = torch.autograd.functional.hessian(cost, parameters.detach()).reshape(gradient.numel(), -1)
    gap = 0.5 * gradient.ravel() @ torch.linalg.pinv(hessian, rtol=1e-10) @ gradient.ravel()
    assert gap < 5e-9 * value
    assert found.objective == pytest.approx(value.item(), rel=1e-7)


@pytest.mark.parametrize("offset", [1e3, 1e7])
@pytest.mark.parametrize("small", [True, False])
def test_far_columns_are_moved_home(offset: float, small: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newton, "SMALL", newton.SMALL if small else 0)
    X, y = planted(3000, 4, 2)
    near, far = fit_logistic(X, y, 1, 1.0), fit_logistic(X + offset, y, 1, 1.0)
    np.testing.assert_allclose(far.weights, near.weights, rtol=1e-3)
    assert far.objective == pytest.approx(near.objective, rel=1e-8)


def test_second_derivatives_times_a_direction_are_autograds() -> None:
    """What conjugate gradients multiply by, and what they are preconditioned by."""
    X, y = planted(200, 3, 4)
    rng = np.random.default_rng(1)
    W, V = rng.standard_normal((2, 4, 4))
    hessian = torch.autograd.functional.hessian(
        lambda w: objective(w, X, y, 0.0, 0.0), torch.from_numpy(W)
    ).numpy()  # (O, D, O, D)
    table = _Table(X, y, np.zeros(3), 4, 1.0, 0.0)
    table.whole = False
    table.single, table.shares = X.astype(np.float32), np.empty((4, 200), np.float32)
    table.look(W, second=True)
    curved = table._curve(V.astype(np.float32))
    np.testing.assert_allclose(curved, np.einsum("odpe,pe->od", hessian, V), rtol=1e-4, atol=1e-3)
    blocks = np.einsum("odoe->ode", hessian) + np.diag([1.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(table.inverse, np.linalg.inv(blocks), rtol=1e-3, atol=1e-4)


def test_samples_are_runs_from_all_over_the_table() -> None:
    small, large = _samples(100_000, 50, 51)
    assert len(small) == 1552 and len(large) == 12_496
    for sample in (small, large):
        assert len(set(sample)) == len(sample) and sample.min() >= 0 and sample.max() < 100_000
        assert (np.diff(sample) > 0).all()
        assert np.histogram(sample, 10, (0, 100_000))[0].min() > 0.08 * len(sample)
    assert _samples(5000, 50, 51) == []
    assert [len(sample) for sample in _samples(10_000_000, 200, 201)] == [19_520]  # larger ones fill memory
