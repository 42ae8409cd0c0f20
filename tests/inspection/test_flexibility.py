"""The more hidden units, the more flexible the curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sadari.errors import SadariError
from sadari.inspection import look


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three turns of a sine with a little noise: one bend follows none of it, ten follow all of it."""
    draw = np.random.default_rng(1)
    x = draw.uniform(-3, 3, 400)
    path: Path = tmp_path_factory.mktemp("wave") / "wave.csv"
    pl.DataFrame({"x": x, "y": np.sin(3 * x) + draw.normal(0, 0.1, 400)}).write_csv(path)
    return str(path)


@pytest.mark.proof("shallow", "inside")
def test_more_units_bend_more_and_fit_closer(fitted: Any, wave: str) -> None:
    run = fitted("shallow", wave, target="y")
    view = look(run, "flexibility", steps=1500)
    assert view.arrays["units"].tolist() == [1, 3, 10, 100]
    pieces, losses = view.arrays["pieces"], view.arrays["train_loss"]
    assert (np.diff(pieces) > 0).all()
    assert (pieces <= view.arrays["units"] + 1).all()
    assert (np.diff(losses) < 0).all()
    assert losses[-1] < 0.1 * losses[0]
    wiggle = np.abs(np.diff(view.arrays["y"], 2, axis=1)).sum(1)  # how much the curve turns
    assert (np.diff(wiggle) > 0).all()


def test_classes_are_one_against_the_rest(fitted: Any) -> None:
    view = look(
        fitted("shallow", "wine"), "flexibility", feature="alcohol", of="class_1", units=(1, 4), steps=60
    )
    assert view.facts["of"] == "class_1"
    assert ((view.arrays["y"] >= 0) & (view.arrays["y"] <= 1)).all()
    assert view.arrays["bin_y"].mean() == pytest.approx(view.arrays["data_y"].mean(), abs=0.02)


def test_a_curved_activation_is_compared_by_loss(fitted: Any) -> None:
    run = fitted("shallow", "diabetes", model={"width": 8, "activation": "tanh"})
    view = look(run, "flexibility", units=(1, 4), steps=60)
    assert "pieces" not in view.arrays and "training loss" in view.title[0]


def test_what_cannot_be_trained_is_said(fitted: Any, mixed_csv: str) -> None:
    run = fitted("shallow", mixed_csv, target="price")
    with pytest.raises(SadariError, match="needs a feature that is a number, city is a category"):
        look(run, "flexibility", feature="city")
    with pytest.raises(
        SadariError, match="--units 0 3 with 2000 steps: each width and the steps must be 1 or more"
    ):
        look(run, "flexibility", units=(0, 3))
    with pytest.raises(SadariError, match="--of 'red' is no class"):
        look(fitted("shallow", "wine"), "flexibility", of="red")
