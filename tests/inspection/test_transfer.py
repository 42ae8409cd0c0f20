"""Transfer: nested labels in every class's share, scores as a fit's own, rungs without weights left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.transfer import _sizes, nested
from sadari.inspection.view import View
from tests.inspection.small_pictures import shown

NOWHERE = "/nowhere/at/all"


@pytest.fixture(scope="module")
def seen(fitted: Any) -> View:
    run = fitted("shallow", "digits-images")
    rungs = ("shallow", "nearest", "probe")
    return look(run, "transfer", rungs=rungs, sizes=(200, 10), steps=250, weights=NOWHERE)


def test_scores_rise_with_labels_and_lie_within_their_intervals(seen: View) -> None:
    assert seen.arrays["sizes"].tolist() == [10, 200] and seen.facts["rungs"] == ["shallow", "nearest"]
    score, low, high = (seen.arrays[name] for name in ("score", "low", "high"))
    assert score.shape == (2, 2) and (low < score).all() and (score < high).all()
    assert (score[:, 1] > score[:, 0] + 0.1).all() and (score[:, 0] > 0.3).all()
    assert seen.facts["rows"] == 359


def test_a_rung_whose_weights_are_not_at_hand_is_left_out_and_named(seen: View) -> None:
    assert list(seen.facts["left"]) == ["probe"] and NOWHERE in seen.facts["left"]["probe"]
    assert "Left out: probe (" in seen.caption[0] and "뺀 단: probe (" in seen.caption[1]
    assert "None of these has learnt anything elsewhere" in seen.see[0]


def test_all_labels_give_the_score_of_the_run_itself(fitted: Any) -> None:
    run = fitted("nearest", "digits-images")
    data = run.data()
    view = look(run, "transfer", rungs=("nearest", "prior"), sizes=(len(data.split.train),))
    own = (run.predictions(data.test.features).argmax(1) == data.test.targets).mean()
    assert view.arrays["score"][0, 0] == pytest.approx(own)
    commonest = np.bincount(data.train.targets).argmax()
    assert view.arrays["score"][1, 0] == pytest.approx((data.test.targets == commonest).mean())


def test_a_run_of_pictures_can_be_what_the_others_begin_from(fitted: Any) -> None:
    """An eye that knows these very digits needs no more than a label a class."""
    eye = fitted("shallow", "digits-images", model={"width": 64}, budget="400steps")
    run = fitted("logistic", "digits-images")
    rungs = ("logistic", "probe", "fine-tune")
    view = look(run, "transfer", rungs=rungs, sizes=(10, 100), steps=10, weights=str(eye.path))
    assert view.facts["rungs"] == list(rungs) and not view.facts["left"]
    logistic, probe, tuned = view.arrays["score"][:, 0]
    assert probe > logistic and tuned > logistic
    assert "in labels that you need not write" in view.see[0]
    shown(view)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_every_beginning_holds_each_class_in_about_its_share(counts: list[int], seed: int) -> None:
    targets = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    order = nested(targets, seed)
    assert sorted(order.tolist()) == list(range(len(targets)))
    held = np.cumsum(np.eye(len(counts))[targets[order]], axis=0)  # (N, K)
    wanted = np.arange(1, len(targets) + 1)[:, None] * np.array(counts) / len(targets)
    # each class is within half a picture of a common share, and they differ from it together by K / 2
    assert np.abs(held - wanted).max() <= 0.5 + len(counts) / 2
    np.testing.assert_array_equal(order, nested(targets, seed))


@pytest.mark.parametrize(
    ("total", "classes", "sizes"),
    [
        (1078, 10, [10, 20, 50, 100, 200, 500, 1000]),
        (6000, 10, [10, 20, 50, 100, 200, 500, 1000, 2000]),
        (140, 3, [10, 20, 50, 100, 140]),
        (6, 2, [6]),
        (900, 300, [500, 900]),
    ],
)
def test_sizes_go_in_steps_of_one_two_five_up_to_all(total: int, classes: int, sizes: list[int]) -> None:
    assert _sizes((), total, classes) == sizes


def test_drawn(seen: View) -> None:
    shown(seen)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rungs": ("resnt",)}, r"no rung 'resnt' for classify; did you mean 'resnet'\?"),
        ({"sizes": (10, 5000)}, "--sizes 5000: there are 1 to 1,078 training pictures to learn from"),
        ({"steps": 0}, "--steps 0 --part test: give 1 step or more, and validation or test"),
        ({"part": "train"}, "--part train: give 1 step or more, and validation or test"),
        ({"rungs": ("probe",), "weights": NOWHERE}, f"none of probe can be fitted here; probe: .*{NOWHERE}"),
    ],
)
def test_what_cannot_be_fitted_is_refused(fitted: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(SadariError, match=said):
        look(fitted("shallow", "digits-images"), "transfer", **options)
