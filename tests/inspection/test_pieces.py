"""Pieces solved for exactly against activation patterns found by brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.pieces import pieces_along
from sadari.inspection.record import record
from sadari.models.deep import Deep, DeepConfig
from sadari.models.deep_skip import DeepSkip, DeepSkipConfig
from sadari.models.shallow import Shallow, ShallowConfig


def network(
    kind: str, width: int, layers: int, inputs: int, outputs: int, seed: int, activation: str = "relu"
) -> Any:
    torch.manual_seed(seed)
    if kind == "shallow":
        model: Any = Shallow(ShallowConfig(width=width, activation=activation), inputs, outputs)
    else:
        made = (Deep, DeepConfig) if kind == "deep" else (DeepSkip, DeepSkipConfig)
        model = made[0](made[1](width=width, layers=layers, activation=activation), inputs, outputs)
    with torch.no_grad():  # fresh networks have level direct connections and biases of zero: draw all of them
        for value in model.parameters():
            value.normal_()
    return model.double().eval()


def patterns(model: Any, start: np.ndarray, direction: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Which units are on at each t, (N, L * D), from the model itself."""
    points = torch.from_numpy(start + t[:, None] * direction)
    values = record(model, points)
    return np.concatenate([(values[name] > 0).numpy() for name in values if name.startswith("pre")], axis=1)


@settings(max_examples=40)
@given(
    st.sampled_from(["shallow", "deep", "deep-skip"]),
    st.integers(1, 8),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 10_000),
    st.sampled_from(["relu", "leaky-relu"]),
)
def test_pieces_are_the_network_itself_and_sampling_finds_no_more(
    kind: str, width: int, layers: int, inputs: int, outputs: int, seed: int, activation: str
) -> None:
    model = network(kind, width, layers, inputs, outputs, seed, activation)
    draw = np.random.default_rng(seed)
    start, direction = draw.normal(size=inputs), draw.normal(size=inputs)
    found = pieces_along(model, start, direction)
    reach = 1.5 * (np.abs(found.breaks).max() if len(found.breaks) else 1.0) + 1
    t = np.sort(np.concatenate([np.linspace(-reach, reach, 4001), found.breaks, draw.uniform(-3, 3, 200)]))
    # 1. the pieces say what the network says, everywhere
    with torch.no_grad():
        output = model(torch.from_numpy(start + t[:, None] * direction)).numpy()
    np.testing.assert_allclose(found(t), output, rtol=1e-8, atol=1e-8 * (1 + np.abs(output).max()))
    # 2. dense sampling never finds more patterns than were solved for
    seen = patterns(model, start, direction, t)
    switches = int((np.diff(seen.astype(int), axis=0) != 0).any(1).sum())
    assert found.patterns >= found.count
    assert switches + 1 <= found.patterns + len(
        found.breaks
    )  # a sample on a break itself may stand between two patterns
    # 3. every break is a real bend, and there are no more than the bound
    assert (np.diff(found.breaks) > 0).all()
    assert found.count <= (width + 1) ** len(model.hidden)


@pytest.mark.parametrize("kind", ["shallow", "deep", "deep-skip"])
@pytest.mark.parametrize("seed", range(5))
def test_where_pieces_are_well_apart_sampling_finds_all_of_them(kind: str, seed: int) -> None:
    model = network(kind, 5, 2, 1, 1, seed)
    found = pieces_along(model, np.zeros(1), np.ones(1))
    assert len(found.breaks) > 1
    step = np.diff(found.breaks).min() / 3
    t = np.arange(found.breaks[0] - 1, found.breaks[-1] + 1, max(step, 1e-5))
    with torch.no_grad():
        y = model(torch.from_numpy(t[:, None])).numpy()[:, 0]
    slopes = np.diff(y) / np.diff(t)
    steep = np.abs(found.slope).max()
    corners = np.abs(np.diff(slopes)) > 1e-6 * steep
    # a corner that falls inside a step bends two neighbouring slopes: count runs of corners
    runs = int((np.diff(np.concatenate([[0], corners.astype(int)])) == 1).sum())
    assert runs == len(found.breaks)


def test_a_unit_that_changes_nothing_makes_no_piece() -> None:
    model = network("shallow", 3, 1, 1, 1, 0)
    with torch.no_grad():
        model.output.weight[0, 1] = 0.0
    found = pieces_along(model, np.zeros(1), np.ones(1))
    assert found.patterns == 4 and found.count == 3
    level = pieces_along(network("shallow", 3, 1, 2, 1, 0), np.ones(2), np.zeros(2))
    assert level.count == level.patterns == 1  # a line that goes nowhere


def test_a_curved_activation_has_no_pieces() -> None:
    with pytest.raises(
        SadariError, match="counts straight pieces, and tanh has none; fit with --activation relu"
    ):
        pieces_along(network("deep", 3, 2, 1, 1, 0, "tanh"), np.zeros(1), np.ones(1))


@pytest.mark.proof("shallow", "inside")
def test_a_shallow_network_has_at_most_one_piece_more_than_units(fitted: Any) -> None:
    run = fitted("shallow", "diabetes")
    for feature in ("bmi", "s5", "age"):
        view = look(run, "regions", feature=feature)
        assert 1 < view.facts["pieces"] <= run.model.config.width + 1
        assert len(view.arrays["slopes"]) == view.facts["pieces"] == len(view.arrays["breaks"]) + 1
    assert f"at most {run.model.config.width + 1} possible" in view.title[0]


def test_the_drawn_corners_lie_on_the_prediction(fitted: Any) -> None:
    run = fitted("deep-skip", "diabetes")
    view = look(run, "regions", feature="bmi")
    curve = look(run, "curve", feature="bmi")
    x, y = curve.arrays["x"], curve.arrays["typical"][0]
    np.testing.assert_allclose(np.interp(x, view.arrays["x"], view.arrays["y"]), y, rtol=1e-4)


def test_between_two_rows_the_ends_are_those_rows(fitted: Any) -> None:
    run = fitted("deep", "wine")
    view = look(run, "regions", between=(3, 90), of="class_2")
    rows = run.data().table.frame.collect()[[2, 89]]
    expected = run.outputs(run.spec.encode(rows))[:, 2].numpy()
    np.testing.assert_allclose(
        np.interp([0, 1], view.arrays["x"], view.arrays["y"]), expected, rtol=1e-4, atol=1e-5
    )


def test_lines_that_cannot_be_drawn_are_said(fitted: Any, mixed_csv: str) -> None:
    run = fitted("shallow", mixed_csv, target="price")
    with pytest.raises(SadariError, match="needs a feature that is a number, city is a category"):
        look(run, "regions", feature="city")
    with pytest.raises(SadariError, match="row 301 is not in the table; rows go from 1 to 300"):
        look(run, "regions", between=(1, 301))
    with pytest.raises(SadariError, match="rows 4 and 4 are the same to the model"):
        look(run, "regions", between=(4, 4))
    with pytest.raises(SadariError, match="--of 'red' is no class"):
        look(fitted("deep", "wine"), "regions", of="red")
