"""Deep: equal to torch's and scikit-learn's, counted by its formulas, and folding its input as taught."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import Tensor, nn

from sadari.layers.activations import ACTIVATIONS
from sadari.models.deep import Deep, DeepConfig
from sadari.models.shallow import Shallow, ShallowConfig

SKLEARN = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic", "linear": "identity"}


@pytest.mark.proof("deep", "parity")
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_equals_a_sequence_of_torch_modules(activation: str) -> None:
    torch.manual_seed(0)
    model = Deep(DeepConfig(width=16, layers=3, activation=activation), 6, 2)
    layers: list[nn.Module] = []
    for size in (6, 16, 16):
        layers += [nn.Linear(size, 16), ACTIVATIONS[activation].module()]
    reference = nn.Sequential(*layers, nn.Linear(16, 2))
    reference.load_state_dict(dict(zip(reference.state_dict(), model.state_dict().values(), strict=True)))
    features = torch.randn(40, 6)
    torch.testing.assert_close(model(features), reference(features), rtol=0, atol=1e-5)


@pytest.mark.proof("deep", "parity")
@pytest.mark.parametrize("activation", SKLEARN)
def test_equals_the_perceptrons_of_scikit_learn(activation: str) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 6)).astype(np.float32)
    settings = {"hidden_layer_sizes": (16, 16), "activation": SKLEARN[activation], "random_state": 0}
    regressor = MLPRegressor(**settings).partial_fit(features, features[:, 0])
    classifier = MLPClassifier(**settings).partial_fit(features, np.arange(60) % 3, classes=[0, 1, 2])
    for theirs, outputs in ((regressor, 1), (classifier, 3)):
        model = Deep(DeepConfig(width=16, layers=2, activation=activation), 6, outputs)
        for layer, weight, bias in zip(
            [*model.hidden, model.output], theirs.coefs_, theirs.intercepts_, strict=True
        ):
            layer.weight.data.copy_(torch.from_numpy(weight.T))
            layer.bias.data.copy_(torch.from_numpy(bias))
        answer = model(torch.from_numpy(features)).detach()
        if outputs == 1:
            np.testing.assert_allclose(answer[:, 0], theirs.predict(features), rtol=0, atol=1e-5)
        else:
            np.testing.assert_allclose(answer.softmax(-1), theirs.predict_proba(features), rtol=0, atol=1e-5)


@given(
    width=st.integers(1, 30),
    layers=st.integers(1, 5),
    inputs=st.integers(1, 20),
    outputs=st.integers(1, 8),
)
def test_formulas_count_the_parameters_and_the_multiply_adds(width, layers, inputs, outputs) -> None:
    config = DeepConfig(width=width, layers=layers)
    tensors = [p.shape for p in Deep(config, inputs, outputs).parameters()]
    assert Deep.parameter_count(config, inputs, outputs) == sum(shape.numel() for shape in tensors)
    assert Deep.macs(config, inputs, outputs) == sum(s.numel() for s in tensors if len(s) == 2)
    assert Deep.parameter_count(config, 1, 1) == 3 * width + 1 + (layers - 1) * width * (width + 1)


def test_one_hidden_layer_is_the_shallow_network() -> None:
    torch.manual_seed(0)
    deep = Deep(DeepConfig(width=9, layers=1), 4, 2)
    shallow = Shallow(ShallowConfig(width=9), 4, 2)
    shallow.load_state_dict(deep.state_dict())
    features = torch.randn(20, 4)
    assert torch.equal(deep(features), shallow(features))


def test_names_its_inner_values_and_its_weights() -> None:
    model = Deep(DeepConfig(width=4, layers=2), 3, 2)
    seen: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> Tensor:
        return seen.setdefault(name, value)

    answer = model(torch.randn(7, 3), keep)
    assert {name: value.shape[1] for name, value in seen.items()} == {
        "pre0": 4, "hidden0": 4, "pre1": 4, "hidden1": 4, "output": 2,
    }  # fmt: skip
    assert torch.equal(seen["pre1"].relu(), seen["hidden1"]) and torch.equal(seen["output"], answer)
    keys = [f"{layer}.{kind}" for layer in ("hidden.0", "hidden.1", "output") for kind in ("weight", "bias")]
    assert list(model.state_dict()) == keys


@torch.no_grad()
def pieces(model: nn.Module, layers: int, low: float, high: float) -> int:
    """Linear pieces of a relu network of one input on [low, high], exactly: layer after layer, the zeros of
    each unit cut the pieces of the layers below, in which it is a straight line."""
    points = torch.tensor([low, high], dtype=torch.float64)
    for i in range(layers):
        at = units(model, f"pre{i}", points)  # (points, D)
        left, right = at[:-1], at[1:]
        share = left / (left - right)
        zeros = points[:-1, None] + share * (points[1:] - points[:-1])[:, None]
        points = torch.cat([points, zeros[(left * right) < 0]]).unique()
    values = units(model, "output", points)[:, 0]
    slopes = values.diff() / points.diff()
    return 1 + int((slopes.diff().abs() > 1e-6 * slopes.abs().max()).sum())


def units(model: nn.Module, which: str, points: Tensor) -> Tensor:
    seen: dict[str, Tensor] = {}
    model.double()(points[:, None], lambda name, value: seen.setdefault(name, value))
    return seen[which]


def zigzag(layers: int) -> Deep:
    """Two units a layer fold [0, 1] in half, L times: 2 relu(x) - 4 relu(x - 1/2) is a tent."""
    model = Deep(DeepConfig(width=2, layers=layers), 1, 1)
    tent, bends = torch.tensor([2.0, -4.0]), torch.tensor([0.0, -0.5])
    with torch.no_grad():
        for i, layer in enumerate(model.hidden):
            layer.weight.copy_(torch.ones(2, 1) if i == 0 else tent.expand(2, 2))
            layer.bias.copy_(bends)
        model.output.weight.copy_(tent[None])
    return model


@pytest.mark.proof("deep", "claim")
@pytest.mark.parametrize(("layers", "units_of_shallow"), [(2, 4), (4, 8), (8, 16), (12, 24)])
def test_bends_more_often_than_a_shallow_network_of_as_many_parameters(layers, units_of_shallow) -> None:
    deep, shallow = DeepConfig(width=2, layers=layers), ShallowConfig(width=units_of_shallow)
    assert Deep.parameter_count(deep, 1, 1) == Shallow.parameter_count(shallow, 1, 1)
    model = zigzag(layers)
    found = pieces(model, layers, 0.0, 1.0)
    assert found == 2**layers
    # counted a second time, along the input: it goes down, up, down at every multiple of 2^-L
    grid = torch.arange(2**layers + 1, dtype=torch.float64)[:, None] / 2**layers
    assert torch.equal(model(grid)[:, 0], torch.arange(2**layers + 1, dtype=torch.float64) % 2)
    if layers > 2:  # two folds make 4 pieces where five are to be had; from there on the folds win
        assert found > units_of_shallow + 1


@given(width=st.integers(1, 6), layers=st.integers(1, 4), seed=st.integers(0, 10_000))
def test_never_passes_the_bound(width: int, layers: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = Deep(DeepConfig(width=width, layers=layers), 1, 1)
    assert 1 <= pieces(model, layers, -50.0, 50.0) <= (width + 1) ** layers
