"""Losses: equal to torch's and to the distributions they name, with the derivatives that autograd finds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, distributions
from torch.nn import functional

from sadari.errors import SadariError
from sadari.losses import CLASSES, NUMBERS, STEEPEST, Loss, make_loss

LOSSES = {
    "squared": make_loss("squared"),
    "gaussian": make_loss("gaussian"),
    "absolute": make_loss("absolute"),
    "huber": make_loss("huber", delta=0.7),
    "poisson": make_loss("poisson"),
    "binary": make_loss("binary", classes=2),
    "binary, smoothed": make_loss("binary", classes=2, smoothing=0.2),
    "cross-entropy": make_loss("cross-entropy", classes=4),
    "cross-entropy, smoothed": make_loss("cross-entropy", classes=4, smoothing=0.2),
}
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def example(
    loss: Loss, *lead: int, seed: int = 0, scale: float = 2.0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Outputs (*lead, O) and targets (*lead) that the loss is made for."""
    generator = torch.Generator().manual_seed(seed)
    output = scale * torch.randn((*lead, loss.outputs), generator=generator, dtype=torch.float64).to(dtype)
    if loss.task == "classify":
        return output, torch.randint(max(loss.outputs, 2), lead, generator=generator)
    target = torch.randn(lead, generator=generator, dtype=torch.float64).to(dtype)
    return output, target.abs().round() if loss.name == "poisson" else target


def theirs(loss: Loss, output: Tensor, target: Tensor) -> Tensor:
    """The same loss by torch.nn.functional."""
    one = output[..., 0]
    if loss.name == "squared":
        return 0.5 * functional.mse_loss(one, target, reduction="none")
    if loss.name == "gaussian":
        return functional.gaussian_nll_loss(one, target, output[..., 1].exp(), reduction="none")
    if loss.name == "absolute":
        return functional.l1_loss(one, target, reduction="none")
    if loss.name == "huber":
        return functional.huber_loss(one, target, delta=0.7, reduction="none")
    if loss.name == "poisson":
        return functional.poisson_nll_loss(one, target, log_input=True, reduction="none")
    classes = torch.cat([torch.zeros_like(output), output], -1) if loss.name == "binary" else output
    return functional.cross_entropy(classes, target, label_smoothing=loss.smoothing, reduction="none")


@EVERY_LOSS
def test_equals_torch(loss: Loss) -> None:
    output, target = example(loss, 50)
    torch.testing.assert_close(loss(output, target), theirs(loss, output, target), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "likelihood", "dropped"),
    [
        ("squared", lambda o: distributions.Normal(o[:, 0], 1.0), 0.5 * math.log(2 * math.pi)),
        (
            "gaussian",
            lambda o: distributions.Normal(o[:, 0], (o[:, 1] / 2).exp()),
            0.5 * math.log(2 * math.pi),
        ),
        ("absolute", lambda o: distributions.Laplace(o[:, 0], 1.0), math.log(2)),
        ("binary", lambda o: distributions.Bernoulli(logits=o[:, 0]), 0.0),
        ("cross-entropy", lambda o: distributions.Categorical(logits=o), 0.0),
    ],
)
def test_is_the_negative_log_likelihood_that_it_names(name: str, likelihood, dropped: float) -> None:
    loss = LOSSES[name]
    output, target = example(loss, 50)
    expected = -likelihood(output).log_prob(target.to(output.dtype)) - dropped
    torch.testing.assert_close(loss(output, target), expected, rtol=1e-10, atol=1e-10)


def test_poisson_drops_the_log_of_the_factorial() -> None:
    output, target = example(LOSSES["poisson"], 50)
    expected = -distributions.Poisson(output[:, 0].exp()).log_prob(target) - torch.lgamma(target + 1)
    torch.testing.assert_close(LOSSES["poisson"](output, target), expected, rtol=1e-10, atol=1e-10)


def test_huber_is_a_density_whose_normaliser_depends_on_delta_alone() -> None:
    """Integrated over the target, e^-loss gives the same number wherever the centre lies."""
    loss, grid = LOSSES["huber"], torch.linspace(-60, 60, 400_001, dtype=torch.float64)
    masses = [
        torch.trapezoid((-loss(torch.full((len(grid), 1), centre, dtype=torch.float64), grid)).exp(), grid)
        for centre in (-3.0, 0.0, 5.0)
    ]
    torch.testing.assert_close(masses[0], masses[1], rtol=1e-8, atol=0)
    torch.testing.assert_close(masses[2], masses[1], rtol=1e-8, atol=0)


@given(
    name=st.sampled_from(list(LOSSES)),
    lead=st.lists(st.integers(1, 5), max_size=3),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.1, 3.0, 40.0]),
)
def test_gradient_is_autograds(name: str, lead: list[int], seed: int, scale: float) -> None:
    """Also beyond the bend of exp, and for any leading dimensions, a stack's (K, B) among them."""
    loss = LOSSES[name]
    output, target = example(loss, *lead, seed=seed, scale=scale)
    output.requires_grad_()
    values = loss(output, target)
    assert values.shape == target.shape
    (expected,) = torch.autograd.grad(values.sum(), output)
    with torch.no_grad():
        gradient = loss.gradient(output, target)
        both = loss.value_and_gradient(output, target)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(both, (values.detach(), expected), rtol=1e-9, atol=1e-12)


@EVERY_LOSS
def test_arguments_stay_as_they_were(loss: Loss) -> None:
    output, target = example(loss, 3, 4)
    before = output.clone(), target.clone()
    loss(output, target), loss.gradient(output, target), loss.value_and_gradient(output, target)
    loss.predict(output)
    assert torch.equal(output, before[0]) and torch.equal(target, before[1])


@EVERY_LOSS
def test_stays_finite_and_right_at_outputs_of_ten_thousand(loss: Loss) -> None:
    """In float32; the right value is that of float64, where the plain formulas have it."""
    high = torch.tensor([1e4, -1e4])
    output = torch.cartesian_prod(*[high] * loss.outputs).reshape(-1, loss.outputs)
    classes = max(loss.outputs, 2) if loss.task == "classify" else 2
    for label in range(classes):
        target = torch.full((len(output),), label)
        if loss.task == "regress":
            target = target.float()
        values, gradient = loss.value_and_gradient(output, target)
        exact = loss(output.double(), target)
        assert values.isfinite().all() and gradient.isfinite().all()
        assert loss.predict(output).isfinite().all()
        torch.testing.assert_close(loss(output, target), values)
        torch.testing.assert_close(values.double(), exact, rtol=1e-6, atol=1e-4)
        if loss.name in CLASSES and loss.smoothing == 0:
            logits = torch.cat([torch.zeros_like(output), output], -1) if loss.name == "binary" else output
            margin = (logits.max(-1).values - logits[:, label]).double()
            ties = (logits == logits.max(-1, keepdim=True).values).sum(-1).double().log()
            torch.testing.assert_close(values.double(), margin + ties, rtol=1e-6, atol=1e-6)


def test_exp_goes_on_as_its_tangent() -> None:
    poisson, at = LOSSES["poisson"], torch.tensor([[STEEPEST], [STEEPEST + 2]], dtype=torch.float64)
    value, gradient = poisson.value_and_gradient(at, torch.zeros(2))
    torch.testing.assert_close(value, math.exp(STEEPEST) * torch.tensor([1.0, 3.0], dtype=torch.float64))
    assert gradient[0] == gradient[1]


def test_predictions_are_points_or_probabilities() -> None:
    for name, loss in LOSSES.items():
        output, _ = example(loss, 3, 7)
        prediction = loss.predict(output)
        if loss.task == "classify":
            classes = max(loss.outputs, 2)
            assert prediction.shape == (3, 7, classes)
            torch.testing.assert_close(prediction.sum(-1), torch.ones(3, 7, dtype=torch.float64))
        else:
            expected = output[..., 0].exp() if loss.name == "poisson" else output[..., 0]
            torch.testing.assert_close(prediction, expected, msg=name)
    binary = LOSSES["binary"].predict(torch.tensor([[math.log(3.0)]]))
    torch.testing.assert_close(binary, torch.tensor([[0.25, 0.75]]))


def test_two_classes_by_one_logit_or_two_are_the_same() -> None:
    output, target = example(LOSSES["binary, smoothed"], 20)
    two = make_loss("cross-entropy", classes=2, smoothing=0.2)
    logits = torch.cat([torch.zeros_like(output), output], dim=-1)
    torch.testing.assert_close(LOSSES["binary, smoothed"](output, target), two(logits, target))
    torch.testing.assert_close(LOSSES["binary"].predict(output), two.predict(logits))


def test_every_loss_names_its_distribution() -> None:
    for name in NUMBERS + CLASSES:
        text = type(LOSSES[name]).__doc__
        assert any(word in text for word in ("Gaussian", "Laplace", "Poisson", "Bernoulli", "Categorical"))
        assert "Dropped" in text or "Nothing is dropped" in text
        assert repr(LOSSES[name]) == f"{type(LOSSES[name]).__name__}({name})"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("squard", {}, "no loss 'squard'; did you mean 'squared'.*for this target: squared, gaussian"),
        ("mystery", {"classes": 3}, "no loss 'mystery'; losses for this target: binary, cross-entropy"),
        (
            "squared",
            {"classes": 3},
            "'squared' does not fit a target that is one of 3 classes; use binary or",
        ),
        ("binary", {}, "'binary' does not fit a target that is a number; use squared or"),
        ("binary", {"classes": 3}, "'binary' has two classes, and the target 3; use 'cross-entropy'"),
        ("cross-entropy", {"classes": 1}, "1 class: there is nothing to tell apart"),
        ("binary", {"classes": 2, "smoothing": 1.0}, r"smoothing 1.0: .* lies in \[0, 1\); use 0.1"),
        ("squared", {"smoothing": 0.1}, "smoothing 0.1 is for classes, and loss 'squared' has none; use 0"),
        ("huber", {"delta": 0.0}, "delta 0.0: huber needs a positive distance; use 1.0"),
        ("huber", {"delta": math.inf}, "delta inf: huber needs a positive distance"),
    ],
)
def test_wrong_settings_are_refused_with_a_remedy(name: str, settings: dict, message: str) -> None:
    with pytest.raises(SadariError, match=message):
        make_loss(name, **settings)


def test_poisson_is_for_counts() -> None:
    LOSSES["poisson"].check(torch.tensor([0.0, 3.0, 0.5]))
    with pytest.raises(SadariError, match=r"a target is -0\.5, and loss 'poisson' is for counts from 0 up"):
        LOSSES["poisson"].check(torch.tensor([1.0, -0.5]))
    for name in ("squared", "absolute"):
        LOSSES[name].check(torch.tensor([-1.0]))
