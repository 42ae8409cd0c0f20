"""Gradients vanish with depth in plain networks, and survive with direct connections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.inspection import look
from sadari.inspection.rows import sample
from sadari.tasks import build


@pytest.mark.proof("deep", "inside")
@pytest.mark.proof("deep-skip", "inside")
def test_vanish_in_plain_networks_and_survive_with_direct_connections(fitted: Any) -> None:
    run = fitted("deep-skip", "diabetes")
    for activation, plain_falls, skip_keeps in (("relu", 0.3, 0.5), ("sigmoid", 1e-12, 0.5)):
        view = look(run, "gradients", depths=(2, 10, 50), steps=4, activation=activation)
        plain, skip = view.facts["first_layer"]["deep"], view.facts["first_layer"]["deep-skip"]
        assert plain[-1] < plain_falls * plain[0], activation
        assert skip[-1] > skip_keeps * skip[0], activation
        assert skip[-1] > 3 * plain[-1], activation


def test_the_first_step_is_the_gradient_of_fresh_networks(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    table = pl.DataFrame({"a": draw.normal(size=80), "b": draw.normal(size=80), "y": draw.normal(size=80)})
    table.write_csv(tmp_path / "small.csv")  # 48 training rows: all of them are in every batch
    run = fit("deep", tmp_path / "small.csv", out=tmp_path / "run", budget="20steps", model={"width": 4})
    view = look(run, "gradients", depths=(2, 3), steps=2, width=5)
    assert view.arrays["deep"].shape == view.arrays["deep_skip"].shape == (2, 2, 3)
    assert np.isnan(view.arrays["deep"][0, :, 2]).all()  # no third layer in a network of two
    rows = sample(run)
    for kind, name in (("deep", "deep"), ("deep-skip", "deep_skip")):
        norms = np.empty((5, 3))
        for seed in range(5):
            settings = {"width": 5, "layers": 3, "activation": "relu"}
            model = build(kind, "regress", settings, run.spec.width, run.loss, seed)
            run.loss(model(torch.from_numpy(rows.features)), torch.from_numpy(rows.targets)).mean().backward()
            for i, layer in enumerate(model.hidden):
                norms[seed, i] = torch.cat([layer.weight.grad.flatten(), layer.bias.grad]).norm()
        np.testing.assert_allclose(view.arrays[name][1, 0], np.exp(np.log(norms).mean(0)), rtol=1e-4)


def test_settings_out_of_range_are_said(fitted: Any) -> None:
    run = fitted("deep", "wine")
    with pytest.raises(SadariError, match="--depths 1 5 with 100 steps: give depths and steps from 2 up"):
        look(run, "gradients", depths=(1, 5))
    with pytest.raises(SadariError, match="no activation 'step'; choose one of relu"):
        look(run, "gradients", activation="step")
