"""Rate: going on too fast destroys what was learnt, going on slowly does not, and the run stays as it was."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.rate import _beside
from sadari.inspection.view import View
from tests.inspection.small_pictures import shown


@pytest.fixture(scope="module")
def seen(fitted: Any) -> View:
    return look(fitted("shallow", "digits-images"), "rate", steps=20, count=7)


def test_too_high_a_rate_ends_worse_than_before_and_a_low_one_as_before(fitted: Any, seen: View) -> None:
    rates, errors, facts = seen.arrays["rates"], seen.arrays["errors"], seen.facts
    run = fitted("shallow", "digits-images")
    data = run.data().validation
    before = (run.predictions(data.features).argmax(1) != data.targets).mean()
    assert facts["start"] == pytest.approx(before)
    assert errors[-1] > before + 0.1
    assert abs(errors[0] - before) < 0.01
    assert rates[0] == pytest.approx(1e-6) and rates[-1] == pytest.approx(1.0)
    np.testing.assert_allclose(np.diff(np.log10(rates)), 1.0)


def test_what_is_said_is_what_was_measured(seen: View) -> None:
    rates, errors, facts = seen.arrays["rates"], seen.arrays["errors"], seen.facts
    assert errors[rates == facts["best"]].item() == errors.min()
    at = int(np.flatnonzero(rates == facts["limit"])[0])
    assert (errors[at:] > facts["start"] + 0.02).all() and errors[at - 1] <= facts["start"] + 0.02
    assert f"from {facts['limit']:.2g} on they do harm" in seen.title[0]
    assert f"{errors[-1]:.0%} are wrong" in seen.see[0]


def test_the_run_is_left_as_it_was(fitted: Any) -> None:
    run = fitted("shallow", "digits-images")
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    look(run, "rate", steps=2, count=3)
    assert all((before[name] == value).all() for name, value in run.model.state_dict().items())
    assert not run.model.training and run.task.changes == ()


def test_a_network_that_has_not_finished_is_helped(fitted: Any) -> None:
    early = fitted("shallow", "digits-images", budget="5steps")
    view = look(early, "rate", steps=40, count=5)
    assert view.arrays["errors"].min() < view.facts["start"] - 0.1
    assert "help most at a rate of" in view.title[0] and "가장 나아집니다" in view.title[1]


def test_the_best_rate_is_compared_with_that_of_the_training() -> None:
    assert "below the rate of its first training (0.001)" in _beside(1e-4, 1e-3)[0]
    assert "near the rate" in _beside(1e-3, 1e-3)[0] and "비슷합니다" in _beside(6e-4, 1e-3)[1]
    assert "above the rate" in _beside(0.1, 1e-3)[0] and "(0.001)보다 큽니다" in _beside(0.1, 1e-3)[1]
    assert all(said.startswith(" ") for best in (1e-4, 1e-3, 0.1) for said in _beside(best, 1e-3))
    assert _beside(0.1, 0.0) == ("", "")


def test_a_loss_that_is_no_number_counts_as_the_commonest_class(
    fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three rates the second dies in training, and the third leaves weights that are none."""
    calls: list[float] = []

    def failing(network: Any, task: Any, *arrays: Any, watchers: Any) -> None:
        calls.append(arrays[-1].learning_rate)
        if len(calls) == 2:
            raise SadariError("the loss became nan")
        if len(calls) == 3:
            for weight in network.parameters():
                weight.data.fill_(float("nan"))

    monkeypatch.setattr("sadari.inspection.rate.train", failing)
    view = look(fitted("shallow", "digits-images"), "rate", steps=1, count=3)
    assert calls == pytest.approx([1e-6, 1e-3, 1.0])
    prior = view.facts["prior"]
    assert view.arrays["errors"].tolist() == pytest.approx([view.facts["start"], prior, prior])
    assert np.isfinite(view.arrays["losses"]).tolist() == [True, False, False]
    assert prior == pytest.approx(
        1 - np.bincount(fitted("shallow", "digits-images").data().validation.targets).max() / 360
    )
    json.dumps(view.to_json(), allow_nan=False)
    shown(view)


def test_drawn(seen: View) -> None:
    shown(seen)


def test_too_little_to_see_is_refused(fitted: Any) -> None:
    run = fitted("shallow", "digits-images")
    for options, said in (
        ({"steps": 0}, "--steps 0 at --count 13"),
        ({"count": 2}, "--steps 50 at --count 2"),
    ):
        with pytest.raises(SadariError, match=f"{said} rates: give 1 step or more, and 3 rates or more"):
            look(run, "rate", **options)
    with pytest.raises(SadariError, match="'rate' does not fit a nearest"):
        look(fitted("nearest", "digits-images"), "rate")
