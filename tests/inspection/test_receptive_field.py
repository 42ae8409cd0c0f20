"""Receptive field: exact sizes from the modules, no gradient outside them, and words for a stranger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from sadari.charts import draw, png, svg
from sadari.charts.theme import NARROW, WIDE
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.inspection import look
from sadari.inspection.exhibit import exhibit
from sadari.inspection.receptive_field import centre, middle, sensitivity, side_of
from sadari.inspection.stages import fields_of, stages_of
from sadari.inspection.view import View
from sadari.layers.convolution import Field, Window
from sadari.models import alexnet, resnet, vgg
from tests.inspection.small_images import Chain, picture, planted

FAMILIES: dict[str, Any] = {"alexnet": alexnet.AlexNet, "vgg": vgg.VGG, "resnet": resnet.ResNet}
VARIANTS = [
    (name, variant)
    for name, module in (("alexnet", alexnet), ("vgg", vgg), ("resnet", resnet))
    for variant in module.VARIANTS
]
PAPERS = [
    ("alexnet", "alexnet", "pool5", 195, 32),
    ("vgg", "vgg16", "pool5", 212, 32),
    ("resnet", "resnet18", "layer4.1", 435, 32),
    ("resnet", "resnet34", "layer4.2", 899, 32),
    ("resnet", "resnet20", "layer3.2", 81, 4),
]

windows = st.tuples(st.booleans(), st.integers(1, 4), st.integers(1, 2), st.integers(0, 1))


def chain_of(sizes: list[tuple[bool, int, int, int]], seed: int, bend: bool) -> Chain:
    """A small random network; of a window with `pools` and room for its padding, a pooling."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    channels = 2
    for pools, kernel, stride, padding in sizes:
        if pools and 2 * padding <= kernel and bend:
            layers.append(nn.MaxPool2d(kernel, stride, padding))
        else:
            layers.append(nn.Conv2d(channels, 3, kernel, stride, padding))
            channels = 3
    if channels == 2:
        layers.append(nn.Conv2d(2, 3, 1))
    return Chain(layers, 3, bend)


def last_field(model: Chain, side: int) -> Field:
    fields = fields_of(stages_of(model), (2, side, side))
    assume(all(min(field.size) > 0 for field in fields))
    return fields[-1]


def inside_of(field: Field, place: tuple[int, int], side: int) -> np.ndarray:
    """The pixels of a picture that a place can see, (side, side)."""
    near = [np.abs(np.arange(side) + 0.5 - at) < field.reach / 2 for at in centre(field, place)]
    return near[0][:, None] & near[1][None, :]


@pytest.mark.parametrize(("family", "variant", "stage", "reach", "jump"), PAPERS)
def test_sizes_are_those_of_the_papers_networks(
    family: str, variant: str, stage: str, reach: int, jump: int
) -> None:
    model_class = FAMILIES[family]
    with torch.device("meta"):
        model = model_class(model_class.Config(variant=variant, width=1 / 16), (3, 224, 224), 5)
    last = fields_of(stages_of(model), (3, 224, 224))[-1]
    assert (last.stage, last.reach, last.jump) == (stage, reach, jump)


@pytest.mark.parametrize(("family", "variant"), VARIANTS)
def test_modules_and_plans_tell_the_same_fields(family: str, variant: str) -> None:
    """Two ways: read from the modules that compute, and from the windows that they were built by."""
    model_class, inputs = FAMILIES[family], (3, 224, 200)
    with torch.device("meta"):
        model = model_class(model_class.Config(variant=variant, width=1 / 16), inputs, 5)
    assert fields_of(stages_of(model), inputs) == model.fields()


@settings(max_examples=60)
@given(sizes=st.lists(windows, min_size=1, max_size=4), seed=st.integers(0, 99), side=st.integers(6, 20))
def test_no_pixel_outside_moves_a_place_at_all(
    sizes: list[tuple[bool, int, int, int]], seed: int, side: int
) -> None:
    model = chain_of(sizes, seed, bend=True)
    field = last_field(model, side)
    place = middle(field, (side, side))
    heat = sensitivity(model, torch.randn(1, 2, side, side), {field.stage: place}, 8)[field.stage]
    assert (heat[~inside_of(field, place, side)] == 0).all()
    assert heat.sum() == pytest.approx(1) or not heat.any()


@settings(max_examples=40)
@given(
    sizes=st.lists(windows.filter(lambda w: w[1] >= w[2]), min_size=1, max_size=3), seed=st.integers(0, 99)
)
def test_every_pixel_inside_moves_a_place_of_a_line_of_filters(
    sizes: list[tuple[bool, int, int, int]], seed: int
) -> None:
    """With positive weights and no bends nothing cancels, so the gradient fills the square, no more.

    Where the square reaches over the edge, padding within may hide a part of it.
    """
    model, side = chain_of(sizes, seed, bend=False), 16
    for parameter in model.parameters():
        parameter.data.abs_().add_(0.1)
    field = last_field(model, side)
    place = middle(field, (side, side))
    heat = sensitivity(model, torch.randn(1, 2, side, side), {field.stage: place}, 3)[field.stage]
    inside = inside_of(field, place, side)
    assert not (heat[~inside] > 0).any()
    if all(field.reach / 2 <= at <= side - field.reach / 2 for at in centre(field, place)):
        np.testing.assert_array_equal(heat > 0, inside)


def test_the_heat_of_one_convolution_is_its_weights() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(2, 4, 3, padding=1)
    model = Chain([convolution], 3, bend=False)
    heat = sensitivity(model, torch.randn(1, 2, 9, 9), {"stage0": (4, 5)}, 4)["stage0"]
    weights = convolution.weight.detach().double().abs().sum((0, 1)).numpy()
    np.testing.assert_allclose(heat[3:6, 4:7], weights / weights.sum(), rtol=1e-5)
    assert heat[3:6, 4:7].sum() == pytest.approx(1)


def test_channels_in_blocks_are_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chain_of([(False, 3, 1, 1), (False, 3, 2, 1)], 3, bend=True)
    pixels = torch.randn(1, 2, 12, 12)
    places = {"stage0": (5, 5), "stage1": (2, 3)}
    whole = sensitivity(model, pixels, places, 3)
    monkeypatch.setattr("sadari.inspection.receptive_field.NUMBERS", 1)
    for stage, heat in sensitivity(model, pixels, places, 3).items():
        np.testing.assert_allclose(heat, whole[stage], rtol=1e-6)


@given(
    rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 99), half=st.booleans(),
    held=st.floats(0.1, 1.0),
)  # fmt: skip
def test_the_effective_square_is_the_smallest_that_holds_enough(
    rows: int, columns: int, seed: int, half: bool, held: float
) -> None:
    draw_ = np.random.default_rng(seed)
    heat = draw_.random((rows, columns)) * (draw_.random((rows, columns)) < 0.5)
    at = (rows // 2 + 0.5 * half, columns // 2 + 0.5 * half)
    side = side_of(heat, at, held)
    if not heat.any():
        assert np.isnan(side)
        return

    def share(width: float) -> float:
        down, across = (
            np.abs(np.arange(n) + 0.5 - a) <= width / 2 for n, a in zip(heat.shape, at, strict=True)
        )
        return float(heat[np.ix_(down, across)].sum() / heat.sum())

    assert side >= 1 and share(side) >= held - 1e-9
    assert share(side - 1.001) < held


def test_a_full_alexnet_sees_195_pixels(tmp_path: Path) -> None:
    run = planted("alexnet", 224, width=1 / 16)
    view = look(run, "receptive-field", image=picture(tmp_path / "photo.png"))
    assert view.arrays["stage"].tolist() == [
        "conv1",
        "pool1",
        "conv2",
        "pool2",
        "conv3",
        "conv4",
        "conv5",
        "pool5",
    ]
    assert view.arrays["reach"].tolist() == [11, 19, 51, 67, 99, 131, 163, 195]
    assert view.arrays["jump"].tolist() == [4, 8, 8, 16, 16, 16, 16, 32]
    assert view.arrays["places"].tolist() == [55, 27, 27, 13, 13, 13, 13, 6]
    left, top, right, bottom = view.facts["square"]
    assert (right - left, bottom - top) == (195, 195)
    x, y = view.facts["middle"]
    assert abs(x - 112) <= 16 and abs(y - 112) <= 16
    heat = view.arrays["heat"]
    assert heat.shape == (224, 224) and heat.sum() == pytest.approx(1, abs=1e-4)
    assert 0 < view.facts["effective"] <= 195
    assert "195 × 195" in view.title[0] and "195 × 195" in view.title[1] and "photo.png" in view.caption[1]


def test_a_stage_can_be_chosen_and_its_square_lies_inside(tmp_path: Path) -> None:
    run = planted("resnet", 32, width=0.25)
    view = look(run, "receptive-field", image=picture(tmp_path / "a.png"), stage="layer1.0")
    assert view.facts["reach"] == 7 and view.facts["stage"] == "layer1.0"
    left, top, right, bottom = (int(edge) for edge in view.facts["square"])
    heat = view.arrays["heat"].copy()
    assert heat[top:bottom, left:right].sum() == pytest.approx(1, abs=1e-5)
    heat[top:bottom, left:right] = 0
    assert not heat.any()
    assert (view.arrays["effective"] <= view.arrays["reach"]).all()
    with pytest.raises(SadariError, match=r"--stage 'layer9' is no stage .*: conv1, layer1.0"):
        look(run, "receptive-field", image=picture(tmp_path / "a.png"), stage="layer9")


def test_a_silent_place_is_said_to_be_silent(tmp_path: Path) -> None:
    run: Any = planted("alexnet", 32, width=0.2)
    dict(run.model.stages)["conv5"].bias.data.fill_(-1e4)  # a relu and a pooling follow
    view = look(run, "receptive-field", image=picture(tmp_path / "a.png"))
    assert np.isnan(view.arrays["effective"][-1]) and not view.arrays["heat"].any()
    assert "silent" in view.title[0] and "반응하지" in view.title[1]
    assert "nan" not in json.dumps(view.to_json()).lower()
    assert png(draw(view, "ko"))[:4] == b"\x89PNG"


@pytest.mark.parametrize("rung", ["alexnet", "vgg", "resnet"])
def test_sentences_and_drawings_in_both_languages(rung: str, tmp_path: Path) -> None:
    run = planted(rung, 32, width=0.2)
    view = look(run, "receptive-field", image=picture(tmp_path / "a.png"))
    assert View.from_json(json.loads(json.dumps(view.to_json()))).facts["reach"] == view.facts["reach"]
    for part in ("title", "caption", "see"):
        english, korean = getattr(view, part)
        assert "{" not in english + korean and "nan" not in (english + korean).split()
        assert any("가" <= letter <= "힣" for letter in korean)
        assert not any("가" <= letter <= "힣" for letter in english)
    for lang, width in (("en", WIDE), ("ko", NARROW)):
        chart = draw(view, lang, width)  # type: ignore[arg-type]
        chart.to_dict(validate=True)
        drawing = svg(chart)
        assert "data:image/png;base64," in drawing and "NaN" not in drawing and "undefined" not in drawing


def test_what_is_no_picture_and_a_run_of_a_table_are_refused(tmp_path: Path) -> None:
    run = planted("resnet", 16, width=0.25)
    (tmp_path / "words.png").write_text("no picture")
    with pytest.raises(SadariError, match=r"words\.png is no picture that is read here; give JPEG"):
        look(run, "receptive-field", image=str(tmp_path / "words.png"))
    with pytest.raises(SadariError, match=r"gone\.png is not there; check the path"):
        look(run, "receptive-field", image="gone.png")
    table = fit("logistic", "wine", out=tmp_path / "wine", budget="5steps")
    with pytest.raises(SadariError, match="'receptive-field' does not fit a logistic that was fitted"):
        look(table, "receptive-field")
    with pytest.raises(
        SadariError, match=r"'receptive-field' does not fit a vit .* opens: alexnet, vgg, resnet"
    ):
        look(planted("vit", 16, width=16, layers=1, heads=2), "receptive-field")


def test_without_a_file_a_picture_of_the_validation_part_is_shown(tmp_path: Path) -> None:
    from sadari.cli import run as command

    run = fit("resnet", "digits-images", out=tmp_path / "r", budget="4steps", model={"width": 0.25})
    seen = exhibit(run, None)
    split, features = run.data().split, run.data().validation.features
    rows = {int(row) + 1: i for i, row in enumerate(split.validation)}
    number = int(seen.name[0].split()[1].replace(",", ""))
    np.testing.assert_array_equal(seen.pixels, features[rows[number]])
    assert seen.label == run.spec.classes[int(run.data().validation.targets[rows[number]])]
    photo = picture(tmp_path / "사진.png")
    code = command(
        [
            "look",
            str(tmp_path / "r"),
            "receptive-field",
            "--image",
            photo,
            "--lang",
            "ko",
            "--out",
            str(tmp_path / "o"),
        ]
    )
    assert code == 0
    assert (tmp_path / "o" / "receptive-field.png").stat().st_size > 5000
    page = (tmp_path / "o" / "receptive-field.html").read_text(encoding="utf-8")
    assert "사진.png" in page and "data:image/png" in page


def test_window_counts_of_shortcuts_are_kept_aside() -> None:
    with torch.device("meta"):
        model = resnet.ResNet(resnet.ResNetConfig(variant="resnet18"), (3, 224, 224), 10)
    stages = {stage.name: stage for stage in stages_of(model)}
    assert stages["layer2.0"].aside == (Window(1, 2, 0, 64, 128, bias=False),)
    assert stages["maxpool"].pools and not stages["conv1"].pools and stages["layer1.0"].aside == ()
