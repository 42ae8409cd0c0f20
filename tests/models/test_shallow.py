"""Shallow: equal to torch's and scikit-learn's, counted by its formulas, and bending as the course says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import Tensor, nn

from sadari.layers.activations import ACTIVATIONS
from sadari.layers.stack import Stack
from sadari.losses import make_loss
from sadari.models.shallow import Shallow, ShallowConfig

SKLEARN = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic", "linear": "identity"}


@pytest.mark.proof("shallow", "parity")
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equals_a_sequence_of_torch_modules(activation: str) -> None:
    torch.manual_seed(0)
    model = Shallow(ShallowConfig(width=16, activation=activation), 6, 3)
    reference = nn.Sequential(nn.Linear(6, 16), ACTIVATIONS[activation].module(), nn.Linear(16, 3))
    names = {"0.weight": "hidden.0.weight", "0.bias": "hidden.0.bias"}
    names |= {"2.weight": "output.weight", "2.bias": "output.bias"}
    reference.load_state_dict({theirs: model.state_dict()[ours] for theirs, ours in names.items()})
    features = torch.randn(40, 6)
    torch.testing.assert_close(model(features), reference(features), rtol=0, atol=1e-5)


@pytest.mark.proof("shallow", "parity")
@pytest.mark.parametrize("activation", SKLEARN)
def test_equals_the_perceptrons_of_scikit_learn(activation: str) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 6)).astype(np.float32)
    settings = {"hidden_layer_sizes": (16,), "activation": SKLEARN[activation], "random_state": 0}
    regressor = MLPRegressor(**settings).partial_fit(features, features[:, 0])
    classifier = MLPClassifier(**settings).partial_fit(features, np.arange(60) % 3, classes=[0, 1, 2])
    for theirs, outputs in ((regressor, 1), (classifier, 3)):
        model = Shallow(ShallowConfig(width=16, activation=activation), 6, outputs)
        for layer, weight, bias in zip(
            [model.hidden[0], model.output], theirs.coefs_, theirs.intercepts_, strict=True
        ):
            layer.weight.data.copy_(torch.from_numpy(weight.T))
            layer.bias.data.copy_(torch.from_numpy(bias))
        answer = model(torch.from_numpy(features)).detach()
        if outputs == 1:
            np.testing.assert_allclose(answer[:, 0], theirs.predict(features), rtol=0, atol=1e-5)
        else:
            np.testing.assert_allclose(answer.softmax(-1), theirs.predict_proba(features), rtol=0, atol=1e-5)


@given(width=st.integers(1, 40), inputs=st.integers(1, 30), outputs=st.integers(1, 12))
def test_formulas_count_the_parameters_and_the_multiply_adds(width: int, inputs: int, outputs: int) -> None:
    config = ShallowConfig(width=width)
    tensors = [p.shape for p in Shallow(config, inputs, outputs).parameters()]
    assert Shallow.parameter_count(config, inputs, outputs) == sum(shape.numel() for shape in tensors)
    assert Shallow.macs(config, inputs, outputs) == sum(s.numel() for s in tensors if len(s) == 2)
    assert Shallow.parameter_count(config, 1, 1) == 3 * width + 1


def test_names_its_inner_values_and_its_weights() -> None:
    model = Shallow(ShallowConfig(width=4), 3, 2)
    seen: dict[str, Tensor] = {}

    def double(name: str, value: Tensor) -> Tensor:
        seen[name] = value
        return 2 * value if name == "hidden0" else value

    features = torch.randn(7, 3)
    answer = model(features, double)
    assert {name: tuple(value.shape) for name, value in seen.items()} == {
        "pre0": (7, 4), "hidden0": (7, 4), "output": (7, 2),
    }  # fmt: skip
    torch.testing.assert_close(answer, model.output(2 * seen["pre0"].relu()))  # what rec returns goes on
    assert list(model.state_dict()) == ["hidden.0.weight", "hidden.0.bias", "output.weight", "output.bias"]


def pieces(model: Shallow) -> int:
    """Linear pieces of a relu network of one input: one more than the distinct bends that the output sees."""
    weight, bias = model.hidden[0].weight[:, 0].double(), model.hidden[0].bias.double()
    jumps = model.output.weight[0].double() * weight.abs()  # change of slope at each unit's bend
    bends: dict[float, float] = {}
    for bend, jump in zip((-bias / weight).tolist(), jumps.tolist(), strict=True):
        bends[bend] = bends.get(bend, 0.0) + jump
    return 1 + sum(jump != 0 for jump in bends.values())


@pytest.mark.proof("shallow", "claim")
@pytest.mark.parametrize("width", [1, 3, 10, 100])
def test_reaches_its_bound_of_one_more_piece_than_units(width: int) -> None:
    model = Shallow(ShallowConfig(width=width), 1, 1)
    with torch.no_grad():
        model.hidden[0].weight.fill_(1.0)
        model.hidden[0].bias.copy_(-torch.arange(width) / width)  # a bend at 0, 1/D, 2/D, ...
        model.output.weight.copy_(torch.tensor([1.0 if i % 2 == 0 else -2.0 for i in range(width)])[None])
    assert pieces(model) == width + 1
    # counted a second time, along the input: the slope differs from piece to piece
    middles = (torch.arange(width + 1, dtype=torch.float64) - 0.5) / width
    ends = torch.stack([middles - 0.2 / width, middles + 0.2 / width], dim=1)  # (D + 1, 2) inside each piece
    values = model.double()(ends.view(-1, 1)).view(-1, 2)
    slopes = (values[:, 1] - values[:, 0]) / (ends[:, 1] - ends[:, 0])
    assert (slopes.diff().abs() > 0.5).all()


@given(width=st.integers(1, 60), seed=st.integers(0, 10_000))
def test_never_passes_the_bound(width: int, seed: int) -> None:
    torch.manual_seed(seed)
    assert pieces(Shallow(ShallowConfig(width=width), 1, 1)) <= width + 1


@pytest.mark.proof("shallow", "claim")
def test_the_more_units_the_more_flexible_the_curve() -> None:
    torch.manual_seed(0)
    x = torch.linspace(-1.7, 1.7, 200)[:, None]
    y = (4 * x[:, 0]).sin()
    loss, errors = make_loss("squared"), []
    for width in (1, 3, 10, 100):
        stack = Stack.of([Shallow(ShallowConfig(width=width), 1, 1) for _ in range(10)])
        optimizer = torch.optim.Adam([stack.flat], lr=0.01)
        for step in range(1500):
            optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / 1500)
            stack.gradients(x, y, loss)
            optimizer.step()
        errors.append(2 * loss(stack(x), y.expand(10, -1)).mean(1).min().item())  # best of ten starts
    assert errors[0] > 1.3 * errors[1] > 1.3**2 * errors[2]
    assert errors[3] < 0.02 * errors[2] and errors[3] < 1e-3 * y.var().item()
