"""Logistic and one hidden layer over pixels: rows of pixels and nothing more, counted by their formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sadari.errors import SadariError
from sadari.layers.stack import stackable
from sadari.losses import make_loss
from sadari.models.logistic import Logistic, LogisticConfig
from sadari.models.pixels import PixelLogistic, PixelLogisticConfig, PixelShallow, PixelShallowConfig
from sadari.models.prior import Prior, PriorConfig
from sadari.models.shallow import Shallow, ShallowConfig

SHAPE = (3, 6, 5)
RUNGS = pytest.mark.parametrize(
    ("model_class", "config"),
    [(PixelLogistic, PixelLogisticConfig()), (PixelShallow, PixelShallowConfig(width=7, dropout=0.0))],
    ids=["logistic", "shallow"],
)


def pictures(rows: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    made = torch.randn(rows, *SHAPE, generator=generator)
    return made.contiguous(memory_format=torch.channels_last)


@pytest.mark.proof("logistic", "parity")
def test_logistic_is_the_tables_logistic_on_rows_of_pixels() -> None:
    """Newton's optimum of the table's rung, put into this one, gives the same logits; descent cannot better
    it.
    """
    x, y = pictures(60), torch.arange(60) % 4
    loss = make_loss("cross-entropy", classes=4)
    table = Logistic(LogisticConfig(penalty=1.0), x[0].numel(), 4).double()
    rows = x.double().contiguous().flatten(1)
    table.solve(rows, y, loss)
    model = PixelLogistic(PixelLogisticConfig(), SHAPE, 4).double()
    model.output.load_state_dict(table.linear.state_dict())
    torch.testing.assert_close(model(x.double()), table(rows), rtol=0, atol=1e-12)
    objective = loss(model(x.double()), y).sum() + 0.5 * model.output.weight.square().sum()
    objective.backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, torch.zeros_like(parameter), rtol=0, atol=2e-4)


@pytest.mark.proof("shallow", "parity")
def test_shallow_is_the_tables_shallow_on_rows_of_pixels() -> None:
    x = pictures()
    model = PixelShallow(PixelShallowConfig(width=7, activation="tanh", dropout=0.0), SHAPE, 3)
    table = Shallow(ShallowConfig(width=7, activation="tanh"), x[0].numel(), 3)
    table.load_state_dict(
        {name.replace("hidden.", "hidden.0."): value for name, value in model.state_dict().items()}
    )
    torch.testing.assert_close(model(x), table(x.contiguous().flatten(1)))


@RUNGS
def test_neither_knows_that_pixels_are_neighbours(model_class: Any, config: Any) -> None:
    """With all pixels in another order, and the first layer's weights with them, the answers are the same."""
    model = model_class(config, SHAPE, 3)
    x = pictures()
    order = torch.randperm(x[0].numel(), generator=torch.Generator().manual_seed(1))
    before = model(x)
    first = model.output if model_class is PixelLogistic else model.hidden
    with torch.no_grad():
        first.weight.copy_(first.weight[:, order].clone())
    shuffled = x.contiguous().flatten(1)[:, order].view_as(x)
    torch.testing.assert_close(model(shuffled), before)


@RUNGS
@pytest.mark.parametrize("outputs", [1, 5])
def test_counts_are_those_of_its_tensors_and_its_products(
    model_class: Any, config: Any, outputs: int
) -> None:
    model = model_class(config, SHAPE, outputs)
    assert sum(p.numel() for p in model.parameters()) == model_class.parameter_count(config, SHAPE, outputs)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert model(pictures(1)).shape == (1, outputs)
    assert counter.get_total_flops() == 2 * model_class.macs(config, SHAPE, outputs)


@RUNGS
def test_names_what_the_last_layer_reads_and_is_drawn_from_the_seed(model_class: Any, config: Any) -> None:
    torch.manual_seed(3)
    model, seen = model_class(config, SHAPE, 3).eval(), {}
    output = model(pictures(), rec=lambda name, value: seen.setdefault(name, value))
    assert torch.equal(output, model(pictures()))
    torch.testing.assert_close(model.output(seen["features"]), output)
    assert torch.equal(seen["features"], model.features(pictures()))
    torch.manual_seed(3)
    again = model_class(config, SHAPE, 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not stackable(model)  # whose formulas are for rows, not for pictures


def test_first_answers_are_near_zero_and_units_of_size_one() -> None:
    torch.manual_seed(0)
    x = pictures(500)
    shallow = PixelShallow(PixelShallowConfig(width=200, activation="linear"), SHAPE, 3).eval()
    assert shallow.features(x).std().item() == pytest.approx(1.0, abs=0.15)
    assert PixelLogistic(PixelLogisticConfig(), SHAPE, 3)(x).abs().max() < 0.6
    assert shallow(x).abs().max() < 0.6


def test_settings_that_no_network_can_have_are_refused() -> None:
    with pytest.raises(SadariError, match="width 0: a hidden layer needs at least 1 unit; use width=100"):
        PixelShallowConfig(width=0)
    with pytest.raises(SadariError, match="no activation 'step'"):
        PixelShallowConfig(activation="step")


def test_prior_says_the_same_for_every_picture() -> None:
    loss = make_loss("cross-entropy", classes=3)
    model = Prior(PriorConfig(), SHAPE, 3)
    model.solve(pictures(4), torch.tensor([0, 1, 1, 2]), loss)
    torch.testing.assert_close(loss.predict(model(pictures(2))), torch.tensor([[0.25, 0.5, 0.25]] * 2))
