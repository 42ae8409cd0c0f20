"""The preview of augmentation: each row is that change of those pictures, of a run or of data alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sadari.augment import OPERATIONS, flip
from sadari.cli import run as command
from sadari.data.prepare import Prepared, prepare
from sadari.errors import SadariError
from sadari.inspection import look, look_at_data
from sadari.inspection.augment import changed
from sadari.inspection.view import View
from tests.inspection.small_pictures import digits, shown


@pytest.fixture(scope="module")
def data() -> Prepared:
    return prepare("digits-images")


@pytest.fixture(scope="module")
def seen(data: Prepared) -> View:
    return look_at_data(data, "augment")


def row(view: View, name: str) -> np.ndarray:
    return view.arrays["pictures"][view.facts["changes"].index(name)]


def test_flip_is_the_mirror_image_of_every_picture(seen: View) -> None:
    np.testing.assert_array_equal(row(seen, "flip"), row(seen, "original")[:, :, ::-1])


def test_every_change_there_is_has_a_row_and_shows(seen: View) -> None:
    assert seen.facts["changes"] == ["original", *OPERATIONS, "mixup", "cutmix"]
    original = row(seen, "original")
    for name in (*OPERATIONS, "mixup", "cutmix"):
        assert (row(seen, name) != original).any((1, 2, 3)).all(), name


def test_the_originals_are_training_pictures_under_their_classes(seen: View, data: Prepared) -> None:
    labels = seen.arrays["labels"]
    assert len(set(labels)) == 6
    for picture, label in zip(row(seen, "original"), labels, strict=True):
        at = (data.train.features == picture).all((1, 2, 3))
        assert set(data.train.targets[at]) == {data.spec.classes.index(label)}  # type: ignore[union-attr]


def test_blends_are_of_the_pictures_and_shares_that_are_named(seen: View) -> None:
    original, shares, partners = row(seen, "original"), seen.facts["shares"], seen.facts["partners"]
    for name in ("mixup", "cutmix"):
        assert 0.35 <= shares[name] <= 0.65
        assert all(own != other for own, other in enumerate(partners[name]))
    share, other = shares["mixup"], original[partners["mixup"]]
    wanted = share * original.astype(float) + (1 - share) * other
    np.testing.assert_allclose(row(seen, "mixup"), wanted, atol=0.51)
    cut, other = row(seen, "cutmix"), original[partners["cutmix"]]
    box = ((cut != original) & (cut == other)).any((0, 3))
    down, across = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
    assert ((cut == original) | (cut == other)).all()
    size = (np.ptp(down) + 1) * (np.ptp(across) + 1) / box.size
    assert size <= 1 - shares["cutmix"] + 1e-9


def test_a_change_that_cannot_show_leaves_the_picture_and_ends() -> None:
    flat = torch.full((3, 5, 5, 1), 7, dtype=torch.uint8)
    assert torch.equal(changed(flip, flat), flat)


def test_the_same_look_twice_is_the_same_and_the_generator_is_left_alone(data: Prepared, seen: View) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    again = look_at_data(data, "augment")
    assert torch.equal(torch.rand(3), wanted)
    np.testing.assert_array_equal(again.arrays["pictures"], seen.arrays["pictures"])
    read = View.from_json(json.loads(json.dumps(seen.to_json())))
    np.testing.assert_array_equal(read.arrays["pictures"], seen.arrays["pictures"])


@pytest.mark.parametrize(
    ("training", "used", "said"),
    [
        ({}, [], "trained without any"),
        ({"augment": "auto"}, ["crop"], "trained with: crop."),
        ({"augment": "flip, colour", "mixup": 0.2}, ["flip", "colour", "mixup"], "flip, colour, mixup."),
    ],
)
def test_a_run_says_what_it_was_trained_with(
    fitted: Any, training: dict[str, Any], used: list[str], said: str
) -> None:
    view = look(fitted("logistic", "digits-images", train=training, budget="3steps"), "augment")
    assert view.facts["used"] == used and said in view.caption[0]
    if len(used) != 1:
        shown(view)


def test_two_classes_of_few_pictures_fill_the_row_as_far_as_they_go(tmp_path: Path) -> None:
    few = prepare(digits(tmp_path / "few.parquet", np.arange(20) % 2, 7), kind="images")
    view = look_at_data(few, "augment")
    count = len(few.train.targets)
    assert count < 6 and view.arrays["pictures"].shape[1] == count
    shown(view)


def test_the_command_takes_data_by_name_and_leaves_its_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(["look", "digits-images", "augment", "--size", "12", "--lang", "en"]) == 0
    said = capsys.readouterr().out
    written = Path("runs/digits-images-looks/augment.json")
    assert "digits-images: what 7 random changes make of 6" in said
    assert View.from_json(json.loads(written.read_text())).arrays["pictures"].shape[2] == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_what_is_no_look_at_pictures_is_refused(
    fitted: Any, data: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SadariError, match="wine is read as table, and augment looks at images"):
        look_at_data(prepare("wine"), "augment")
    with pytest.raises(SadariError, match=r"'confusion' is no look at data .* those are: augment"):
        look_at_data(data, "confusion")
    with pytest.raises(SadariError, match="'augment' has no option --top; its options: none"):
        look_at_data(data, "augment", top=3)
    path = fitted("logistic", "digits-images").path
    assert command(["look", str(path), "augment", "--size", "9"]) == 2
    assert f"--size is for data, and {path} is looked at as a run" in capsys.readouterr().err
