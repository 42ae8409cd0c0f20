"""Mistakes: planted wrong labels are found, the list is of the very pictures, nothing is claimed too much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from sadari import charts
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.inspection import look
from sadari.inspection.mistakes import confident
from sadari.inspection.view import View
from sadari.runs import Run
from tests.inspection.small_pictures import HOSTILE, digits, shown

COUNT, WRONG = 900, 45


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, np.ndarray, np.ndarray]:
    """A run on digits of which some are labelled as another class; true labels, and those in the file."""
    folder, draw = tmp_path_factory.mktemp("planted"), np.random.default_rng(3)
    true = load_digits().target[:COUNT]
    labels = true.copy()
    at = draw.choice(COUNT, WRONG, replace=False)
    labels[at] = (labels[at] + draw.integers(1, 10, WRONG)) % 10
    path = digits(folder / "digits.parquet", labels, COUNT)
    return fit("logistic", path, out=folder / "run", budget="500steps"), true, labels


@pytest.fixture(scope="module")
def seen(planted: Any) -> View:
    return look(planted[0], "mistakes")


def test_planted_wrong_labels_are_found(planted: Any, seen: View) -> None:
    run, true, labels = planted
    doubted = seen.arrays["row"][seen.arrays["reason"] == "label"] - 1
    train = run.data().split.train
    wrong = train[true[train] != labels[train]]
    found = np.intersect1d(doubted, wrong)
    # of wrong labels that are seen through, half lie above the mean that is the threshold
    assert len(found) >= 0.4 * len(wrong), f"{len(found)} of {len(wrong)}"
    assert len(found) >= 0.8 * len(doubted), f"{len(found)} of {len(doubted)} doubted"
    assert seen.facts["suspects"] == len(doubted)
    assert f"it doubts {len(doubted)} training labels" in seen.title[0]


def test_the_surest_doubts_come_first_and_are_nearly_all_right(planted: Any, seen: View) -> None:
    _, true, labels = planted
    first = seen.arrays["row"][seen.arrays["reason"] == "label"][:12] - 1
    assert (true[first] != labels[first]).sum() >= 10
    said = seen.arrays["said"][seen.arrays["reason"] == "label"][:12]
    assert (said == true[first].astype(str)).sum() >= 10


def test_the_list_is_of_the_very_pictures(planted: Any, seen: View) -> None:
    run, _, labels = planted
    data, arrays = run.data(), seen.arrays
    np.testing.assert_array_equal(arrays["true"], labels[arrays["row"] - 1].astype(str))
    for line, picture in zip(arrays["shown"], arrays["pictures"], strict=True):
        part, row = str(arrays["part"][line]), arrays["row"][line] - 1
        place = int(np.flatnonzero(getattr(data.split, part) == row)[0])
        np.testing.assert_array_equal(picture, getattr(data, part).features[place])
    errors = arrays["reason"] == "error"
    assert set(arrays["part"][errors]) == {"validation", "test"}
    assert set(arrays["part"][~errors]) == {"train"}
    assert (np.diff(arrays["probability"][errors]) <= 0).all()
    assert (arrays["probability"] > arrays["own"]).all()


def test_what_is_taken_for_what_is_counted_as_in_the_confusion_matrix(planted: Any, seen: View) -> None:
    run = planted[0]
    both = sum(look(run, "confusion", part=part).arrays["matrix"] for part in ("validation", "test"))
    off = both - np.diag(both.diagonal())
    assert seen.facts["wrong"] == off.sum() and seen.facts["rows"] == both.sum()
    pairs = zip(*(seen.arrays[f"pair_{name}"] for name in ("true", "said", "count")), strict=True)
    for true, said, count in pairs:
        assert off[int(true), int(said)] == count
    assert seen.arrays["pair_count"][0] == off.max()


def test_it_is_said_that_the_network_has_learnt_from_the_labels(planted: Any, seen: View) -> None:
    run = planted[0]
    data = run.data().train
    share = (run.predictions(data.features).argmax(1) == data.targets).mean()
    assert f"repeats {share:.1%} of them" in seen.see[0] and f"{share:.1%}를 그대로" in seen.see[1]
    assert "not proven right" in seen.see[0]


def test_a_network_that_knows_little_is_no_judge_of_labels(fitted: Any) -> None:
    view = look(fitted("logistic", "digits-images", budget="1steps"), "mistakes", most=50)
    assert view.facts["repeated"] < 0.7
    assert "tells more of the network than of the labels" in view.see[0] and "망에 대해" in view.see[1]


def slow(odds: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Confident learning in words."""
    found = labels.copy()
    for i, label in enumerate(labels):
        best = -1.0
        for k in range(odds.shape[1]):
            held = odds[labels == k, k]
            if len(held) and odds[i, k] >= held.mean() and odds[i, k] > max(best, odds[i, label]):
                best, found[i] = odds[i, k], k
    return found


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 6))
def test_confident_learning_is_as_in_words(seed: int, rows: int, classes: int) -> None:
    draw = np.random.default_rng(seed)
    odds = draw.dirichlet(np.full(classes, 0.5), rows)
    labels = draw.integers(classes, size=rows)
    found = confident(odds, labels)
    np.testing.assert_array_equal(found, slow(odds, labels))
    kept = odds.argmax(1) == labels
    np.testing.assert_array_equal(found[kept], labels[kept])


def test_a_label_learnt_by_heart_is_not_doubted() -> None:
    """The threshold of a class is what its own pictures get: a network sure of all it learnt doubts none."""
    odds = np.full((6, 3), 0.001)
    labels = np.array([0, 0, 1, 1, 2, 2])
    odds[np.arange(6), labels] = 0.998
    np.testing.assert_array_equal(confident(odds, labels), labels)
    odds[1] = (0.3, 0.69, 0.01)  # likelier 1, but 1's own pictures get .998
    np.testing.assert_array_equal(confident(odds, labels), labels)


def test_no_mistakes_are_said_and_drawn(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = planted[0]
    answers: Iterator[np.ndarray] = iter(
        np.eye(10)[getattr(run.data(), part).targets] for part in ("validation", "test", "train")
    )
    monkeypatch.setattr(Run, "predictions", lambda self, features: next(answers))
    view = look(run, "mistakes")
    assert view.title[0].startswith("logistic: all ") and view.title[0].endswith(
        "it doubts no training label"
    )
    assert len(view.arrays["row"]) == 0
    shown(view)
    assert View.from_json(view.to_json()).title == view.title


def test_drawn_from_hostile_classes_and_written_as_csv(tmp_path: Path) -> None:
    labels = np.array([HOSTILE[digit % 3] for digit in load_digits().target])
    run = fit("logistic", digits(tmp_path / "d.parquet", labels, 150), out=tmp_path / "run", budget="30steps")
    view = look(run, "mistakes", top=4, most=20)
    assert len(view.arrays["row"]) > 4 and set(view.arrays["true"]) <= set(HOSTILE.values())
    shown(view)
    charts.save_table(view, tmp_path / "list.csv")
    table = pl.read_csv(tmp_path / "list.csv")
    assert table.columns == ["reason", "part", "row", "picture", "true", "said", "probability", "own"]
    assert table["true"].to_list() == view.arrays["true"].tolist()
    assert view.facts["rows"] == 40  # 20 of each part


def test_nothing_to_look_at_is_refused(planted: Any) -> None:
    with pytest.raises(
        SadariError, match="--top 0 with --most 5 leaves no picture to look at; give 1 or more"
    ):
        look(planted[0], "mistakes", top=0, most=5)
