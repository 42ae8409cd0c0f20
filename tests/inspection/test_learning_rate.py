"""The bound of gradient descent, computed two ways and met."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.learning_rate import Objective
from sadari.inspection.rows import sample


def arrays_of(run: Any) -> dict[str, torch.Tensor]:
    rows = sample(run, limit=4096)
    return {"features": torch.from_numpy(rows.features), "targets": torch.from_numpy(rows.targets)}


@pytest.mark.proof("line", "inside")
def test_the_lines_bound_is_that_of_its_design_and_the_test_meets_it(fitted: Any) -> None:
    run = fitted("line", "diabetes")
    view = look(run, "learning-rate")
    features = sample(run).features.astype(np.float64)
    design = np.column_stack([features, np.ones(len(features))])
    bound = 2 / np.linalg.eigvalsh(design.T @ design / len(design))[-1]
    assert view.facts["bound"] == pytest.approx(bound, rel=1e-6)
    assert view.facts["limit"] == pytest.approx(bound, rel=0.05)
    below, above, best = view.arrays["below"], view.arrays["above"], view.facts["best"]
    assert below[-1] - best < 1e-3 * (below[0] - best)  # just below the bound it lands
    assert above[-1] > 10 * above[0]  # just above it flies off
    rates, losses = view.arrays["rates"], view.arrays["losses"]
    assert np.nanmax(losses[rates < 0.95 * bound]) <= view.facts["start"]


def test_the_sharpest_direction_is_that_of_the_written_out_hessian(fitted: Any) -> None:
    run = fitted("logistic", "mnist1d")  # 410 weights: Lanczos
    objective = Objective.of(run, arrays_of(run))
    assert objective is not None
    features = arrays_of(run)["features"].double().numpy()
    design = np.column_stack([features, np.ones(len(features))])
    with torch.no_grad():
        logits = (
            design @ np.column_stack([objective.weights[f"linear.{part}"] for part in ("weight", "bias")]).T
        )
    shares = torch.softmax(torch.from_numpy(logits), 1).numpy()
    blocks = np.einsum("nk,kl->nkl", shares, np.eye(10)) - np.einsum("nk,nl->nkl", shares, shares)
    hessian = np.einsum("nkl,ni,nj->kilj", blocks, design, design, optimize=True) / len(design)
    hessian = hessian.reshape(410, 410) + objective.penalty * np.diag(np.tile(np.arange(41) < 40, 10))
    assert objective.curvature == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-4)
    direction = objective.sharpest[1]
    along = np.column_stack([direction["linear.weight"], direction["linear.bias"]]).ravel()
    assert along @ hessian @ along == pytest.approx(objective.curvature, rel=1e-4)


@pytest.mark.parametrize(
    ("rung", "data", "model"),
    [
        ("line", "diabetes", {"ridge": 0.0}),
        ("line", "diabetes", {"ridge": 30.0}),
        ("line", "diabetes", {"method": "gradient"}),
        ("logistic", "wine", {"penalty": 2.0}),
        ("logistic", "breast-cancer", {"penalty": 1.0}),
    ],
)
def test_the_objective_is_what_the_rung_minimises(
    fitted: Any, rung: str, data: str, model: dict[str, Any]
) -> None:
    run = fitted(rung, data, model=model)
    objective = Objective.of(run, arrays_of(run))
    assert objective is not None
    _, slopes = objective.slope({name: value.requires_grad_() for name, value in objective.weights.items()})
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-5  # the optimum has no slope
    if model.get("method") != "gradient":
        for name, value in run.model.named_parameters():
            torch.testing.assert_close(
                value.detach().double(), objective.weights[name].detach(), rtol=1e-3, atol=1e-4
            )


@pytest.mark.proof("logistic", "inside")
def test_beside_a_logistic_optimum_the_bound_divides_landing_from_leaving(fitted: Any) -> None:
    for data in ("wine", "breast-cancer", "mnist1d"):
        view = look(fitted("logistic", data), "learning-rate")
        best, below, above = view.facts["best"], view.arrays["below"], view.arrays["above"]
        assert below[-1] - best < 0.01 * (below[0] - best), data
        assert above[-1] - best > 100 * (above[0] - best), data


def test_descent_is_the_recursion_of_gradient_descent(fitted: Any) -> None:
    run = fitted("line", "diabetes")
    objective = Objective.of(run, arrays_of(run))
    assert objective is not None
    design = np.column_stack([objective.features.numpy(), np.ones(len(objective.targets))])
    start = {name: 0.5 * value for name, value in objective.weights.items()}
    weight = np.append(start["linear.weight"].numpy()[0], start["linear.bias"].item())
    for value in objective.descend(start, 0.1, 5):
        error = design @ weight - objective.targets.numpy()
        assert value == pytest.approx(0.5 * np.square(error).mean(), rel=1e-9)
        weight = weight - 0.1 * design.T @ error / len(error)


def test_a_loss_that_has_no_solution_is_tested_as_it_is_trained(fitted: Any) -> None:
    view = look(fitted("line", "diabetes", loss="huber"), "learning-rate")
    assert not view.facts["solved"] and "below" not in view.arrays


def test_a_networks_test_leaves_the_run_alone_and_finds_a_valley(fitted: Any) -> None:
    run = fitted("deep", "diabetes")
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    view = look(run, "learning-rate")
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    rates, losses = view.arrays["rates"], view.arrays["losses"]
    lowest = rates[np.nanargmin(losses)]
    assert rates[0] < lowest < view.facts["limit"]
    assert view.facts["chosen"] < lowest
    assert np.nanmin(losses) < view.facts["start"]


def test_at_least_one_step_is_taken(fitted: Any) -> None:
    with pytest.raises(SadariError, match="--steps 0: give 1 or more"):
        look(fitted("line", "diabetes"), "learning-rate", steps=0)
