"""The surface is the loss, the path goes down it, and ends in the optimum."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.rows import sample
from sadari.tasks import build


def batch_of(run: Any) -> dict[str, torch.Tensor]:
    rows = sample(run, limit=1000)
    return {"features": torch.from_numpy(rows.features), "targets": torch.from_numpy(rows.targets)}


@pytest.mark.parametrize(
    ("rung", "data"), [("line", "diabetes"), ("logistic", "breast-cancer"), ("logistic", "wine")]
)
def test_over_two_weights_every_point_is_the_loss_of_that_model(fitted: Any, rung: str, data: str) -> None:
    run = fitted(rung, data)
    view = look(run, "surface", steps=30)
    places = [run.spec.feature_names.index(name) for name in view.facts["names"]]
    of = view.facts["of"]
    output = run.spec.classes.index(of) if of else 0
    scale = run.spec.target_scale if run.spec.classes is None else 1.0
    arrays = view.arrays
    for row, column in ((0, 0), (17, 40), (60, 3)):
        model = copy.deepcopy(run.model)
        with torch.no_grad():
            model.linear.weight[output, places[0]] = arrays["x"][column] / scale
            model.linear.weight[output, places[1]] = arrays["y"][row] / scale
        expected = run.task.evaluate(model, batch_of(run)).item()
        assert arrays["loss"][row, column] == pytest.approx(expected, rel=1e-4)
    assert view.facts["least"] <= arrays["loss"].min() + 1e-12
    assert (np.diff(arrays["path_loss"]) <= 1e-12).all()


def test_for_a_line_descent_ends_in_the_optimum_which_is_the_runs_own_weights(fitted: Any) -> None:
    run = fitted("line", "diabetes")
    view = look(run, "surface", features=("bmi", "s5"), steps=200)
    own = [
        run.model.linear.weight[0, run.spec.feature_names.index(name)].item() * run.spec.target_scale
        for name in ("bmi", "s5")
    ]
    np.testing.assert_allclose(view.facts["optimum"], own, rtol=1e-3)
    np.testing.assert_allclose([view.arrays["path_x"][-1], view.arrays["path_y"][-1]], own, rtol=1e-3)
    assert view.arrays["path_x"][0] == view.arrays["path_y"][0] == 0


def test_a_networks_path_starts_at_its_first_weights_and_lies_in_the_plane(fitted: Any) -> None:
    run = fitted("deep", "diabetes")
    view = look(run, "surface", steps=40)
    fresh = build("deep", "regress", run.config["model"], run.spec.width, run.loss, run.config["seed"])
    assert view.arrays["path_loss"][0] == pytest.approx(
        run.task.evaluate(fresh, batch_of(run)).item(), rel=1e-4
    )
    assert view.arrays["path_loss"][-1] < view.arrays["path_loss"][0]
    assert 0 < view.facts["share"] <= 1
    # the end of the path is the origin of the plane, so the surface there is the loss there
    x, y = view.arrays["x"], view.arrays["y"]
    nearest = view.arrays["loss"][np.abs(y).argmin(), np.abs(x).argmin()]
    assert nearest == pytest.approx(view.arrays["path_loss"][-1], rel=0.1)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    look(run, "surface", steps=5)
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())


def test_what_has_no_two_weights_is_said(fitted: Any) -> None:
    line, deep = fitted("line", "diabetes"), fitted("deep", "diabetes")
    with pytest.raises(SadariError, match="--features bmi bmi: give two different ones of age, sex, bmi"):
        look(line, "surface", features=("bmi", "bmi"))
    with pytest.raises(SadariError, match="a deep has its path's two directions, leave them out"):
        look(deep, "surface", features=("bmi", "s5"))
    with pytest.raises(SadariError, match="--steps 1: a path needs 2 or more"):
        look(line, "surface", steps=1)
