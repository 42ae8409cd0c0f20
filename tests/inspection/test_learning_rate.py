"""The bound of gradient descent, computed two ways and met."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.learning_rate import descend, sharpness
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


def test_sharpness_by_lanczos_is_that_of_the_written_out_hessian(fitted: Any) -> None:
    run = fitted("logistic", "mnist1d")  # 410 weights: Lanczos
    arrays = arrays_of(run)
    features = arrays["features"].double().numpy()
    design = np.column_stack([features, np.ones(len(features))])
    shares = run.predictions(sample(run, limit=4096).features).astype(np.float64)
    blocks = np.einsum("nk,kl->nkl", shares, np.eye(10)) - np.einsum("nk,nl->nkl", shares, shares)
    hessian = np.einsum("nkl,ni,nj->kilj", blocks, design, design, optimize=True) / len(design)
    expected = np.linalg.eigvalsh(hessian.reshape(410, 410))[-1]
    assert sharpness(run.model, run.task, arrays) == pytest.approx(expected, rel=1e-4)


def test_descent_is_the_recursion_of_gradient_descent(fitted: Any) -> None:
    run = fitted("line", "diabetes")
    arrays = arrays_of(run)
    design = np.column_stack([arrays["features"].double().numpy(), np.ones(len(arrays["targets"]))])
    target = arrays["targets"].double().numpy()
    linear = run.model.linear
    weight = np.append(linear.weight.detach().double().numpy()[0], linear.bias.item()) * 0.5
    model = type(run.model)(run.model.config, design.shape[1] - 1, 1)
    with torch.no_grad():
        model.linear.weight.copy_(torch.from_numpy(weight[None, :-1]))
        model.linear.bias.fill_(weight[-1])
    losses = descend(model, run.task, arrays, 0.1, 5)
    weight = np.append(model.linear.weight.detach().double().numpy()[0], model.linear.bias.item())
    for loss in losses:
        assert loss == pytest.approx(0.5 * np.square(design @ weight - target).mean(), rel=1e-9)
        weight = weight - 0.1 * design.T @ (design @ weight - target) / len(target)


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
