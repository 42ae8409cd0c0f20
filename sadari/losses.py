"""Losses as maximum likelihood: each is the negative log-likelihood of one distribution whose parameters the
model gives (Prince 2023, Understanding Deep Learning, ch. 5).

`output` is (..., O) and `target` (...), whatever the leading dimensions: a batch (B), a stack of networks
(K, B). Every loss keeps its value and its gradient finite at outputs of +-1e4 in float32, and has its
derivative as a formula, in few tensor operations, for models that train without autograd.

| name          | the model gives        | distribution                       |
|---------------|------------------------|------------------------------------|
| squared       | mean                   | Gaussian, variance 1               |
| gaussian      | mean, log variance     | Gaussian                           |
| absolute      | median                 | Laplace, scale 1                   |
| huber         | centre                 | Gaussian core with Laplace tails   |
| poisson       | log rate               | Poisson                            |
| binary        | logit of class 1       | Bernoulli                          |
| cross-entropy | one logit a class      | categorical                        |
"""

from __future__ import annotations

import difflib
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from sadari.errors import SadariError

# Where exp goes on as its tangent: a rate or a precision over e^30 = 1e13 means nothing, and must not
# overflow.
STEEPEST = 30.0


class Loss:
    """A negative log-likelihood per example, up to a constant that each subclass states."""

    name: ClassVar[str]
    task: ClassVar[str] = "regress"
    outputs: int = 1
    """Numbers O that a model must give for one row."""
    smoothing: float = 0.0
    """Label smoothing; 0 for losses over numbers."""

    def __call__(self, output: Float[Tensor, "*B O"], target: Shaped[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """Each example's negative log-likelihood."""
        raise NotImplementedError

    def gradient(self, output: Float[Tensor, "*B O"], target: Shaped[Tensor, "*B"]) -> Float[Tensor, "*B O"]:
        """The derivative of each example's loss towards its outputs, in a tensor of its own."""
        raise NotImplementedError

    def value_and_gradient(
        self, output: Float[Tensor, "*B O"], target: Shaped[Tensor, "*B"]
    ) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B O"]]:
        """Both at once, sharing what they share: the form for a step of training."""
        return self(output, target), self.gradient(output, target)

    def predict(self, output: Float[Tensor, "*B O"]) -> Float[Tensor, "*B"]:
        """The point prediction (...,) of a number, or the probabilities (..., classes) of each class."""
        return output[..., 0]

    def check(self, target: Shaped[Tensor, "*B"]) -> None:
        """SadariError when the distribution gives some target no probability. Called once, before a fit."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"


class Squared(Loss):
    """Gaussian of variance 1 about the predicted mean m: (m - y)^2 / 2. Dropped: log(2 pi) / 2."""

    name = "squared"

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        error = output.squeeze(-1) - target
        return error * error * 0.5

    def gradient(self, output: Tensor, target: Tensor) -> Tensor:
        return output - target.unsqueeze(-1)

    def value_and_gradient(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        error = output - target.unsqueeze(-1)
        return (error * error * 0.5).squeeze(-1), error


class Gaussian(Loss):
    """Gaussian with predicted mean m and log variance s: (s + (m - y)^2 e^-s) / 2. Dropped: log(2 pi) / 2.

    The precision e^-s goes on as its tangent beyond s = -30, so that a spread collapsed to nothing stays
    finite.
    """

    name = "gaussian"
    outputs = 2

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        error, log_variance = output[..., 0] - target, output[..., 1]
        return 0.5 * (log_variance + error * error * _exp(-log_variance))

    def gradient(self, output: Tensor, target: Tensor) -> Tensor:
        error, log_variance = output[..., 0] - target, output[..., 1]
        slope = torch.exp(torch.clamp(-log_variance, max=STEEPEST))  # minus the derivative of the precision
        towards_spread = 0.5 - 0.5 * error * error * slope
        return torch.stack([error * _exp(-log_variance), towards_spread], dim=-1)


class Absolute(Loss):
    """Laplace of scale 1 about the predicted median m: |m - y|. Dropped: log 2. Derivative at m = y: 0."""

    name = "absolute"

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return (output.squeeze(-1) - target).abs()

    def gradient(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target.unsqueeze(-1)).sign_()


class Huber(Loss):
    """Huber's density, Gaussian within `delta` of the predicted centre m and Laplace beyond (Huber 1964).

    With e = m - y: e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2). Dropped: the log of the
    density's normaliser, which depends on delta alone.
    """

    name = "huber"

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = delta

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        error = output.squeeze(-1) - target
        near = error.clamp(-self.delta, self.delta)
        return near * (error - 0.5 * near)

    def gradient(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target.unsqueeze(-1)).clamp_(-self.delta, self.delta)

    def value_and_gradient(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        error = output - target.unsqueeze(-1)
        near = error.clamp(-self.delta, self.delta)
        return (near * (error - 0.5 * near)).squeeze(-1), near


class Poisson(Loss):
    """Poisson with predicted log rate r: e^r - y r. Dropped: log y!. Predicts the rate.

    e^r goes on as its tangent beyond r = 30. SadariError when a target is negative.
    """

    name = "poisson"

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        log_rate = output.squeeze(-1)
        return _exp(log_rate) - target * log_rate

    def gradient(self, output: Tensor, target: Tensor) -> Tensor:
        return output.clamp(max=STEEPEST).exp_().sub_(target.unsqueeze(-1))

    def predict(self, output: Tensor) -> Tensor:
        return _exp(output[..., 0])

    def check(self, target: Tensor) -> None:
        if len(target) and (lowest := target.min().item()) < 0:
            raise SadariError(
                f"a target is {lowest:g}, and loss 'poisson' is for counts from 0 up; use loss 'squared'"
            )


class Binary(Loss):
    """Bernoulli with predicted logit z of class 1: log(1 + e^z) - y z. Nothing is dropped.

    Label smoothing s moves each label towards one half: y (1 - s) + s / 2, as cross-entropy over two classes.
    """

    name = "binary"
    task = "classify"

    def __init__(self, smoothing: float = 0.0) -> None:
        self.smoothing = smoothing

    def _soft(self, target: Tensor, like: Tensor) -> Tensor:
        target = target.to(like.dtype)
        return target if self.smoothing == 0 else target * (1 - self.smoothing) + self.smoothing / 2

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        label = self._soft(target, output)
        return functional.binary_cross_entropy_with_logits(output.squeeze(-1), label, reduction="none")

    def gradient(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.sigmoid(output).sub_(self._soft(target, output).unsqueeze(-1))

    def value_and_gradient(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        label = self._soft(target, output)
        values = functional.binary_cross_entropy_with_logits(output.squeeze(-1), label, reduction="none")
        return values, torch.sigmoid(output).sub_(label.unsqueeze(-1))

    def predict(self, output: Tensor) -> Tensor:
        return torch.sigmoid(torch.cat([-output, output], dim=-1))


class CrossEntropy(Loss):
    """Categorical with one predicted logit z a class: log sum e^z - z_y. Nothing is dropped.

    Label smoothing s spreads a share s of each label evenly over all classes (Szegedy et al. 2015,
    1512.00567).
    """

    name = "cross-entropy"
    task = "classify"

    def __init__(self, classes: int, smoothing: float = 0.0) -> None:
        self.outputs = classes
        self.smoothing = smoothing
        # Row y is the label of class y, one copy a precision; made when first asked for, since a language has
        # thousands of classes and asks for none.
        self._labels: dict[torch.dtype, Tensor] = {}

    def _label(self, target: Tensor, like: Tensor) -> Tensor:
        if like.dtype not in self._labels:
            even = self.smoothing / self.outputs
            labels = torch.eye(self.outputs, dtype=torch.float64) * (1 - self.smoothing) + even
            self._labels[like.dtype] = labels.to(like.dtype)
        return torch.embedding(self._labels[like.dtype], target)  # (..., O)

    def _value(self, log_shares: Tensor, target: Tensor) -> Tensor:
        if self.smoothing == 0:
            return log_shares.gather(-1, target.unsqueeze(-1)).squeeze(-1).neg()
        return (log_shares * self._label(target, log_shares)).sum(-1).neg()

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return self._value(torch.log_softmax(output, dim=-1), target)

    def gradient(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.softmax(output, dim=-1).sub_(self._label(target, output))

    def value_and_gradient(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        log_shares = torch.log_softmax(output, dim=-1)
        values = self._value(log_shares, target)
        return values, log_shares.exp_().sub_(self._label(target, output))

    def predict(self, output: Tensor) -> Tensor:
        return torch.softmax(output, dim=-1)


def _exp(x: Tensor) -> Tensor:
    """e^x, beyond STEEPEST its tangent there: finite, and with a derivative that still pulls back."""
    near = x.clamp(max=STEEPEST)
    return near.exp() * (1 + (x - near))


NUMBERS = ("squared", "gaussian", "absolute", "huber", "poisson")
CLASSES = ("binary", "cross-entropy")


def make_loss(name: str, *, classes: int | None = None, smoothing: float = 0.0, delta: float = 1.0) -> Loss:
    """A loss by name. `classes` is None for a number, else how many classes the target has.

    smoothing  share of each label that is spread evenly over the classes, in [0, 1); class losses only
    delta      where huber turns from squared to absolute, in units of the target in model space

    Raises SadariError for a name that does not exist or does not fit the target, and for settings outside
    their range.
    """
    fitting = NUMBERS if classes is None else CLASSES
    if name not in NUMBERS + CLASSES:
        close = difflib.get_close_matches(name, fitting, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise SadariError(f"no loss {name!r}{hint}; losses for this target: {', '.join(fitting)}")
    if name not in fitting:
        what = "a number" if classes is None else f"one of {classes} classes"
        raise SadariError(f"loss {name!r} does not fit a target that is {what}; use {' or '.join(fitting)}")
    if not 0.0 <= smoothing < 1.0:
        raise SadariError(f"smoothing {smoothing}: the share of a label spread lies in [0, 1); use 0.1")
    if smoothing > 0 and classes is None:
        raise SadariError(f"smoothing {smoothing} is for classes, and loss {name!r} has none; use 0")
    if not (0.0 < delta < float("inf")):
        raise SadariError(f"delta {delta}: huber needs a positive distance; use 1.0")
    if name == "binary" and classes != 2:
        raise SadariError(f"loss 'binary' has two classes, and the target {classes}; use 'cross-entropy'")
    if classes is not None and classes < 2:
        raise SadariError(f"{classes} class: there is nothing to tell apart; a target needs two or more")
    if name == "cross-entropy":
        assert classes is not None
        return CrossEntropy(classes, smoothing)
    if name == "binary":
        return Binary(smoothing)
    if name == "huber":
        return Huber(delta)
    return {"squared": Squared, "gaussian": Gaussian, "absolute": Absolute, "poisson": Poisson}[name]()
