"""Mean: the one constant under which the training targets are likeliest, whatever the loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyRegressor

from sadari.errors import SadariError
from sadari.losses import NUMBERS, make_loss
from sadari.models.mean import Mean, MeanConfig


def solved(name: str, targets: torch.Tensor, **settings: float) -> Mean:
    """A mean fitted in float64."""
    loss = make_loss(name, **settings)
    model = Mean(MeanConfig(), 3, loss.outputs).double()
    assert model.can_solve(loss)
    model.solve(torch.zeros(len(targets), 3), targets, loss)
    return model


@pytest.mark.proof("mean", "claim")
@pytest.mark.parametrize("name", NUMBERS)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 40))
def test_no_other_constant_makes_the_targets_likelier(name: str, seed: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets = 3 * torch.randn(rows, generator=generator, dtype=torch.float64)
    if name == "poisson":
        targets = targets.abs().ceil()
    loss, model = make_loss(name), solved(name, targets)

    def cost(constant: torch.Tensor) -> float:
        return loss(constant.expand(rows, -1), targets).sum().item()

    constant = model.constant.detach()
    least = cost(constant)
    for step in (1e-3, 0.1, 2.0):
        for k in range(loss.outputs):
            for sign in (-1, 1):
                other = constant.clone()
                other[k] += sign * step
                assert least <= cost(other) + 1e-9 * abs(least)
    if name != "absolute":  # which has a corner at its least
        slope = loss.gradient(constant.expand(rows, -1), targets).mean(0)
        torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-9)


@pytest.mark.proof("mean", "parity")
@pytest.mark.parametrize(("name", "strategy"), [("squared", "mean"), ("absolute", "median")])
def test_equals_scikit_learns_dummy(name: str, strategy: str) -> None:
    targets = np.random.default_rng(0).standard_normal(101)
    features = np.zeros((101, 3))
    theirs = DummyRegressor(strategy=strategy).fit(features, targets).predict(features)
    ours = solved(name, torch.from_numpy(targets))(torch.from_numpy(features)).detach()
    np.testing.assert_allclose(ours[:, 0], theirs, rtol=0, atol=1e-12)


def test_each_loss_has_its_own_constant() -> None:
    targets = torch.tensor([0.0, 0.0, 1.0, 2.0, 12.0], dtype=torch.float64)
    answers = {name: solved(name, targets).constant.tolist() for name in NUMBERS}
    assert answers["squared"] == [3.0]
    assert answers["absolute"] == [1.0]
    assert answers["poisson"] == [math.log(3.0)]
    assert answers["gaussian"] == [3.0, pytest.approx(math.log(targets.var(correction=0).item()))]
    assert answers["huber"] == [pytest.approx(1.0)]  # errors -1 -1 0 1 and 11, of which 1 counts, add up to 0


def test_wide_and_narrow_huber_are_the_mean_and_the_median() -> None:
    targets = torch.randn(101, dtype=torch.float64)
    assert solved("huber", targets, delta=1e6).constant.item() == pytest.approx(
        targets.mean().item(), abs=1e-12
    )
    assert solved("huber", targets, delta=1e-9).constant.item() == pytest.approx(
        targets.median().item(), abs=1e-6
    )


def test_what_would_be_the_log_of_zero_stays_finite() -> None:
    same = torch.full((5,), 2.0, dtype=torch.float64)
    assert solved("gaussian", same).constant.tolist() == [2.0, -30.0]
    assert solved("poisson", torch.zeros(5)).constant.tolist() == [-30.0]
    for name in NUMBERS:
        assert solved(name, same).constant.isfinite().all()


def test_counts_below_zero_are_refused() -> None:
    with pytest.raises(SadariError, match="a target is -1, and loss 'poisson'"):
        solved("poisson", torch.tensor([1.0, -1.0]))


def test_says_the_same_for_every_row_and_is_counted_by_its_formulas() -> None:
    for outputs in (1, 2):
        model = Mean(MeanConfig(), 7, outputs)
        model.constant.data.normal_()
        output = model(torch.randn(5, 7))
        assert output.shape == (5, outputs) and (output == output[0]).all()
        assert sum(p.numel() for p in model.parameters()) == Mean.parameter_count(MeanConfig(), 7, outputs)
        assert Mean.macs(MeanConfig(), 7, outputs) == 0
    assert not model.can_solve(make_loss("binary", classes=2))


def test_mapped_targets_are_read_from_their_file(tmp_path) -> None:
    mapped = np.lib.format.open_memmap(tmp_path / "y.npy", "w+", np.float32, (1000,))
    mapped[:] = np.arange(1000)
    assert solved("squared", torch.from_numpy(mapped)).constant.item() == 499.5
