"""Prior: the shares of the classes, the likeliest answer that looks at nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier

from sadari.losses import Loss, make_loss
from sadari.models.prior import Prior, PriorConfig


def solved(loss: Loss, targets: torch.Tensor) -> Prior:
    """A prior fitted in float64."""
    model = Prior(PriorConfig(), 3, loss.outputs).double()
    assert model.can_solve(loss)
    model.solve(torch.zeros(len(targets), 3), targets, loss)
    return model


def loss_of(classes: int, smoothing: float = 0.0) -> Loss:
    return make_loss("binary" if classes == 2 else "cross-entropy", classes=classes, smoothing=smoothing)


@pytest.mark.proof("prior", "claim")
@given(
    classes=st.integers(2, 5),
    rows=st.integers(6, 40),
    seed=st.integers(0, 1000),
    smoothing=st.sampled_from([0.0, 0.1]),
)
def test_no_other_constant_makes_the_classes_likelier(
    classes: int, rows: int, seed: int, smoothing: float
) -> None:
    """The loss is convex, so that a gradient of zero is its least."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.cat([torch.arange(classes), torch.randint(classes, (rows,), generator=generator)])
    loss = loss_of(classes, smoothing)
    constant = solved(loss, targets).constant.detach()
    slope = loss.gradient(constant.expand(len(targets), -1), targets).mean(0)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-12)


@pytest.mark.proof("prior", "parity")
@pytest.mark.parametrize("classes", [2, 4])
def test_equals_scikit_learns_dummy(classes: int) -> None:
    targets = np.random.default_rng(0).integers(0, classes, 50) % classes
    features = np.zeros((50, 3))
    theirs = DummyClassifier(strategy="prior").fit(features, targets).predict_proba(features)
    loss = loss_of(classes)
    output = solved(loss, torch.from_numpy(targets))(torch.from_numpy(features))
    np.testing.assert_allclose(loss.predict(output).detach(), theirs, rtol=0, atol=1e-12)


def test_a_class_without_a_row_stays_finite() -> None:
    loss = loss_of(3)
    output = solved(loss, torch.tensor([0, 1, 1]))(torch.zeros(1, 3))
    np.testing.assert_allclose(loss.predict(output).detach()[0], [1 / 3, 2 / 3, 0.0], atol=1e-12)
    assert solved(loss_of(2), torch.tensor([1, 1])).constant.item() == pytest.approx(30.0)


def test_says_the_same_for_every_row_and_is_counted_by_its_formulas() -> None:
    for outputs in (1, 5):
        model = Prior(PriorConfig(), 7, outputs)
        model.constant.data.normal_()
        output = model(torch.randn(4, 7))
        assert output.shape == (4, outputs) and (output == output[0]).all()
        assert sum(p.numel() for p in model.parameters()) == Prior.parameter_count(PriorConfig(), 7, outputs)
        assert Prior.macs(PriorConfig(), 7, outputs) == 0
    assert not model.can_solve(make_loss("squared"))
