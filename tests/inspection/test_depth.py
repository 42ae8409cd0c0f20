"""Depth: plain and residual networks trained alike, measured as the task measures, and honestly judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.depth import TEXTS, Measured, _kind
from sadari.inspection.view import View
from sadari.inspection.watching import watched
from sadari.tasks import build, make_task
from tests.inspection.small_pictures import shown


@pytest.fixture(scope="module")
def seen(fitted: Any) -> View:
    return look(fitted("logistic", "digits-images"), "depth", depths=(32, 20, 20), steps=24)


def test_each_depth_once_and_all_measured_alike(seen: View) -> None:
    assert seen.arrays["depths"].tolist() == [20, 32]
    assert seen.arrays["steps"].tolist() == [0, 4, 8, 12, 16, 20, 24]
    for name in ("plain_train", "plain_other", "resnet_train", "resnet_other"):
        errors = seen.arrays[name]
        assert errors.shape == (2, 7) and (errors >= 0).all() and (errors <= 1).all()
    assert seen.facts["parameters"]["plain"] == seen.facts["parameters"]["resnet"]  # shortcuts have none


def test_residual_networks_have_learnt_where_plain_ones_have_not(seen: View) -> None:
    residual, plain = seen.arrays["resnet_train"], seen.arrays["plain_train"]
    assert (residual[:, 0] > 0.7).all() and (residual[:, -1] < residual[:, 0] - 0.25).all()
    assert (residual[:, -1] < plain[:, -1]).all()


def test_the_same_look_twice_is_the_same(fitted: Any) -> None:
    run = fitted("logistic", "digits-images")
    first, second = (look(run, "depth", depths=(20,), steps=3, part="validation") for _ in range(2))
    for name, values in first.arrays.items():
        np.testing.assert_array_equal(values, second.arrays[name])
    assert "validation pictures" in first.caption[0] and "검증 그림" in first.caption[1]


def test_what_is_measured_is_the_share_of_wrong_classes(fitted: Any) -> None:
    run = fitted("logistic", "digits-images")
    part = run.data().test
    arrays = {"features": torch.from_numpy(part.features), "targets": torch.from_numpy(part.targets)}
    task = make_task("images", "classify", run.loss, run.spec, "error")
    network = build("resnet", "classify", {"variant": "plain20"}, run.spec.width, run.loss, 0, "images")
    measured = Measured(network, task, arrays, arrays)
    measured({"step": 7})
    with torch.no_grad():
        answers = network.eval()(task.tensors(arrays["features"])).argmax(1)
    assert (
        measured.train
        == measured.other
        == [pytest.approx(float((answers != arrays["targets"]).double().mean()))]
    )


def test_trainings_can_be_watched(fitted: Any) -> None:
    names: list[str] = []
    steps: list[int] = []

    def watch(name: str) -> Any:
        names.append(name)
        return [lambda record: steps.append(record["step"])]

    run = fitted("logistic", "digits-images")
    with watched(watch):
        look(run, "depth", depths=(20,), steps=2)
    look(run, "depth", depths=(20,), steps=1)  # no longer watched
    assert names == ["plain20 1/2", "resnet20 2/2"] and steps == [1, 2, 1, 2]


def found(plain: list[float], resnet: list[float]) -> dict[str, np.ndarray]:
    return {"plain_train": np.array(plain)[:, None], "resnet_train": np.array(resnet)[:, None]}


@pytest.mark.parametrize(
    ("plain", "resnet", "kind"),
    [
        ([0.40, 0.75], [0.01, 0.01], "worse"),
        ([0.40, 0.75], [0.10, 0.14], "worse"),  # both are, but plain ones far more
        ([0.01, 0.01], [0.01, 0.02], "alike"),
        ([0.50, 0.40], [0.10, 0.02], "alike"),
        ([0.80, 0.85], [0.20, 0.40], "slow"),
        ([0.80], [0.20], "one"),
    ],
)
def test_no_more_is_claimed_than_was_seen(plain: list[float], resnet: list[float], kind: str) -> None:
    assert _kind(found(plain, resnet)) == kind
    assert f"found {kind}" in TEXTS


def test_drawn(seen: View) -> None:
    shown(seen)
    assert View.from_json(seen.to_json()).arrays["plain_other"].shape == (2, 7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depths": (20, 21)}, r"--depths 21: there is no plain21; choose from 18, 20, 32, 34, 44, 56, 110"),
        ({"depths": ()}, "--depths names none; choose from 18"),
        ({"steps": 0}, "--steps 0: give 1 or more"),
        ({"part": "train"}, "--part train stands beside the training pictures; choose validation or test"),
    ],
)
def test_what_cannot_be_trained_is_refused(fitted: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SadariError, match=said):
        look(fitted("logistic", "digits-images"), "depth", **options)
