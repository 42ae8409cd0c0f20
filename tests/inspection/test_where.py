"""Where: the map of a planted net lies where it looks, Grad-CAM and rollout by their formulas."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from sadari.charts import draw, png, svg
from sadari.charts.pixels import heated
from sadari.charts.theme import NARROW, WIDE
from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.exhibit import exhibit
from sadari.inspection.record import record
from sadari.inspection.where import _told, covered, grad_cam, last_convolution, over_pixels, patches, verdict
from sadari.runs import Run
from tests.inspection.small_images import Chain, picture, planted

VIT: dict[str, Any] = {"width": 16, "layers": 3, "heads": 2}
CORNERS = {"apple": (0, 0), "개": (1, 1)}  # of the red patch, and of the blue one


def looks_at_colours() -> Run:
    """Class `apple` for red, `개` for blue, `zebra` for neither, whatever else there is."""
    layer: Any = nn.Conv2d(3, 2, 3, padding=1)
    bends = nn.Conv2d(2, 2, 1)
    model = Chain([layer, bends], 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        layer.weight[0, 0], layer.weight[0, 1:] = 0.2, -0.2
        layer.weight[1, 2], layer.weight[1, :2] = 0.2, -0.2
        bends.weight[0, 0] = bends.weight[1, 1] = 1.0
        layer.bias.fill_(-3.0)
        model.output.weight[0, 0], model.output.weight[1, 1] = 3.0, 4.4  # red is further from its mean
    return planted("resnet", 24, model=model)


def two_patches(path: Path) -> str:
    """A grey picture with a red patch in its upper left corner, and a blue one in its lower right."""
    pixels = np.full((24, 24, 3), 128, np.uint8)
    pixels[2:9, 2:9] = (255, 0, 0)
    pixels[15:22, 15:22] = (0, 0, 255)
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.mark.parametrize("label", CORNERS)
def test_the_map_lies_in_the_corner_that_the_class_speaks_from(label: str, tmp_path: Path) -> None:
    view = look(looks_at_colours(), "where", image=two_patches(tmp_path / "a.png"), of=label)
    heat = view.arrays["heat"]
    down, right = CORNERS[label]
    corner = heat[12 * down : 12 * down + 12, 12 * right : 12 * right + 12]
    assert corner.sum() > 0.99 * heat.sum() and heat.max() == pytest.approx(1)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert 2 <= y - 13 * down <= 9 and 2 <= x - 13 * right <= 9
    number = view.facts["spoken"]
    whole, hot, cold = (view.arrays[key][number] for key in ("probability", "covered_hot", "covered_cold"))
    assert hot < 0.6 * whole and cold >= whole - 1e-6
    assert view.facts["of"] == label and f"“{label}”" in view.title[1]
    assert "points at what matters" in view.see[0]


def test_a_class_that_nothing_speaks_for_has_an_empty_map(tmp_path: Path) -> None:
    run: Any = looks_at_colours()
    with torch.no_grad():
        run.model.output.weight[2] = -1.0
    view = look(run, "where", image=two_patches(tmp_path / "a.png"), of="zebra")
    assert not view.arrays["heat"].any() and np.isnan(view.arrays["covered_hot"]).all()
    assert "the map is empty" in view.see[0] and "지도는 비어" in view.see[1]
    assert "nothing at stage1 speaks for “zebra”" in view.title[0]
    assert "nan" not in json.dumps(view.to_json()).lower()
    drawing = svg(draw(view, "ko"))
    assert "NaN" not in drawing and png(draw(view, "en"))[:4] == b"\x89PNG"


def test_after_an_average_grad_cam_is_the_class_activation_map(tmp_path: Path) -> None:
    """Zhou et al. 2015 (1512.04150) weigh the last maps by the last layer; Grad-CAM must find the same."""
    run: Any = planted("resnet", 32, width=0.5)
    seen = exhibit(run, picture(tmp_path / "a.png"))
    stage = last_convolution(run.model)
    assert stage == "layer3.2"
    maps = record(run.model, seen.tensor)[stage][0].double()
    for number in range(3):
        weights = run.model.fc.weight[number].detach().double()
        wanted = torch.einsum("k,kij->ij", weights, maps).relu().numpy() / maps[0].numel()
        np.testing.assert_allclose(grad_cam(run.model, seen.tensor, number, stage), wanted, atol=1e-7)


def test_two_classes_with_one_output_speak_against_each_other(tmp_path: Path) -> None:
    run = planted("resnet", 32, width=0.5, classes=("no", "yes"))
    seen = exhibit(run, picture(tmp_path / "a.png"))
    with torch.enable_grad():
        yes, no = (grad_cam(run.model, seen.tensor, number, "layer3.2") for number in (1, 0))
    assert yes.any() or no.any()
    assert not (yes * no).any()  # of opposite sums, one at most is left at a place
    assert look(run, "where", image=picture(tmp_path / "a.png"), of="no").facts["of"] == "no"


@pytest.mark.proof("alexnet", "inside")
@pytest.mark.proof("vgg", "inside")
@pytest.mark.proof("resnet", "inside")
@pytest.mark.parametrize(
    ("rung", "stage"), [("alexnet", "conv5"), ("vgg", "conv5_2"), ("resnet", "layer3.2")]
)
def test_the_last_convolution_speaks_unless_another_stage_is_asked(
    rung: str, stage: str, tmp_path: Path
) -> None:
    run = planted(rung, 32, width=0.25)
    image = picture(tmp_path / "a.png")
    view = look(run, "where", image=image)
    assert view.facts["stage"] == stage and view.facts["of"] == view.facts["answer"]
    first = look(run, "where", image=image, stage="conv1" if rung != "vgg" else "conv1_1")
    assert first.arrays["map"].shape[0] > view.arrays["map"].shape[0]
    assert view.arrays["heat"].shape == (32, 32)


@pytest.mark.proof("vit", "inside")
@pytest.mark.parametrize(("side", "pooling"), [(16, "class"), (19, "class"), (16, "map")])
def test_rollout_rows_sum_to_one_and_every_share_is_told(side: int, pooling: str, tmp_path: Path) -> None:
    run: Any = planted("vit", side, pooling=pooling, **VIT)
    seen = exhibit(run, picture(tmp_path / "a.png"))
    shares, own, followed = patches(run.model, seen.tensor)
    np.testing.assert_allclose(followed.sum(1), 1.0, atol=1e-6)
    assert shares.shape == run.model.grid and (shares > 0).all()
    assert shares.sum() + own == pytest.approx(1, abs=1e-6)
    assert (own > 0) == (pooling == "class")
    view = look(run, "where", image=picture(tmp_path / "a.png"))
    assert view.arrays["map"].mean() == pytest.approx(1, abs=1e-5)
    assert view.arrays["heat"].min() == 0 and view.arrays["heat"].max() == pytest.approx(1)
    assert view.arrays["heat"].shape == (side, side) and view.facts["stage"] is None
    assert ("class token" in view.see[0]) == (pooling == "class")


def test_a_vit_whose_class_token_looks_at_one_patch_is_shown_there(tmp_path: Path) -> None:
    """Keys of that patch alone answer to the class token's query, in every layer."""
    run: Any = planted("vit", 16, **VIT)
    chosen = 1 + 4 * 3 + 2  # of 8 x 8 patches of 2 pixels: row 1, column 6
    T = math.prod(run.model.grid) + 1

    def attend(q: Any, k: Any, v: Any, plain: bool = False, **_: Any) -> Any:
        weights = torch.full((*q.shape[:2], T, T), 1e-9)
        weights[..., chosen] = 1.0
        weights = weights / weights.sum(-1, keepdim=True)
        return weights @ v, weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sadari.models.vit.attend", attend)
        view = look(run, "where", image=picture(tmp_path / "a.png"))
    rows, columns = run.model.grid
    assert np.unravel_index(view.arrays["map"].argmax(), (rows, columns)) == divmod(chosen - 1, columns)
    half = 1 - 0.5 ** VIT["layers"]  # each layer keeps half of what was there
    assert view.arrays["rollout"][0, chosen] == pytest.approx(half, abs=1e-5)


@given(rows=st.integers(1, 5), columns=st.integers(1, 5), patch=st.integers(1, 4), seed=st.integers(0, 20))
def test_maps_over_pixels_keep_their_range_and_even_stays_even(
    rows: int, columns: int, patch: int, seed: int
) -> None:
    places = np.random.default_rng(seed).random((rows, columns))
    size = (rows * patch - min(1, patch - 1), columns * patch)  # a last row of patches over the edge
    heat = over_pixels(places, size, patch)
    assert heat.shape == size
    assert heat.min() >= places.min() - 1e-9 and heat.max() <= places.max() + 1e-9
    np.testing.assert_allclose(over_pixels(np.full((rows, columns), 0.3), size), 0.3)


def test_covering_hides_the_hottest_and_the_coldest_fifth(tmp_path: Path) -> None:
    run = looks_at_colours()
    seen = exhibit(run, two_patches(tmp_path / "a.png"))
    heat = np.arange(24 * 24, dtype=float).reshape(24, 24)  # hottest below: the blue patch lies there
    hot, cold = covered(run, seen, heat)
    assert hot[1] < seen.probabilities[1] - 0.1 and hot[0] > cold[0] + 0.1


def test_the_test_of_a_map_can_pass_fail_or_tell_nothing() -> None:
    assert verdict(0.9, 0.3, 0.8) == "holds"
    assert verdict(0.9, 0.8, 0.3) == "fails"
    assert verdict(0.9, 0.9, 0.5) == "fails"
    assert verdict(0.999, 0.998, 0.9985) == "robust"


def test_the_class_spoken_for_is_always_among_those_shown() -> None:
    probabilities = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
    assert _told(probabilities, 1) == [0, 1, 2, 3, 4]
    assert _told(probabilities, 5) == [0, 1, 2, 3, 5]
    assert _told(np.array([0.4, 0.6]), 0) == [1, 0]
    assert _told(np.arange(9) / 36, 4, 0) == [8, 7, 6, 4, 0]  # and the one that is said where it is covered
    assert _told(np.array([0.4, 0.6]), 0, 1) == [1, 0]


def test_no_heat_leaves_the_picture_and_heat_colours_it() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    plain = heated(pixels, np.zeros((4, 4)))
    assert (plain[..., 0] == plain[..., 2]).all() and plain.min() > 150  # grey, and pale
    hot = heated(pixels, np.ones((4, 4))).astype(int)
    assert (hot[..., 0] > hot[..., 2] + 40).all()


def test_a_dark_ground_is_not_taken_for_heat() -> None:
    pixels = np.zeros((5, 5, 1), np.uint8)
    pixels[2, 2] = 255
    plain = heated(pixels, np.zeros((5, 5)))
    assert (plain[0, 0] == 255).all() and (plain[2, 2] < 200).all()  # the ground is white, the stroke is not


@pytest.mark.parametrize("rung", ["alexnet", "vgg", "resnet", "vit"])
def test_sentences_and_drawings_in_both_languages(rung: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = VIT if rung == "vit" else {"width": 0.25}
    run = planted(rung, 32, classes=("<b>a.b[0]", "b'\"\\", "c"), **settings)
    view = look(run, "where", image=picture(tmp_path / "a.png"))
    for part in ("title", "caption", "see"):
        english, korean = getattr(view, part)
        assert "{" not in english + korean and "nan" not in (english + korean).split()
        assert any("가" <= letter <= "힣" for letter in korean)
        assert not any("가" <= letter <= "힣" for letter in english)
    for lang, width in (("en", WIDE), ("ko", NARROW)):
        chart = draw(view, lang, width)  # type: ignore[arg-type]
        chart.to_dict(validate=True)
        drawing = svg(chart)
        assert drawing.count("data:image/png") == 2 and "<b>" not in drawing and "NaN" not in drawing
    assert png(chart)[:4] == b"\x89PNG"


def test_bad_classes_stages_and_pictures_are_refused(tmp_path: Path) -> None:
    run, image = planted("resnet", 16, width=0.25), picture(tmp_path / "a.png")
    with pytest.raises(
        SadariError, match="--of 'dog' is no class of this run; its classes: apple, 개, zebra"
    ):
        look(run, "where", image=image, of="dog")
    with pytest.raises(SadariError, match="--stage 'fc' is no stage of this network; its stages: conv1"):
        look(run, "where", image=image, stage="fc")
    vit = planted("vit", 16, **VIT)
    for option in ({"of": "apple"}, {"stage": "layer0"}):
        with pytest.raises(SadariError, match=r"rollout speaks for the answer as a whole.*leave out --of"):
            look(vit, "where", image=image, **option)
    (tmp_path / "words.txt").write_text("no picture")
    with pytest.raises(SadariError, match=r"words\.txt is no picture"):
        look(run, "where", image=str(tmp_path / "words.txt"))
