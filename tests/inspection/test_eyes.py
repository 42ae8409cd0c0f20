"""Rungs from the foundation are opened as the network that their eye is, or refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from sadari.charts import draw, png, svg
from sadari.errors import SadariError
from sadari.inspection import VIEWS, eye_of, look, views_for
from sadari.inspection.exhibit import exhibit
from sadari.inspection.receptive_field import middle, sensitivity
from sadari.inspection.record import Recorder, record
from sadari.inspection.stages import fields_of, stages_of, unpadded
from sadari.models.efficientnet import EfficientNet, SameConv
from sadari.models.eye import KINDS
from sadari.runs import Run
from tests.inspection.small_images import Chain, picture, planted
from tests.inspection.test_receptive_field import inside_of

SIDE = 32
EYES: dict[str, dict[str, Any]] = {
    "shallow": {"width": 9},
    "alexnet": {"variant": "alexnet-64", "width": 0.25, "dropout": 0.0},
    "vgg": {"variant": "vgg11-64", "width": 0.25, "dropout": 0.0},
    "resnet": {"variant": "resnet20", "width": 0.25},
    "vit": {"variant": "vit-32", "width": 16, "layers": 2, "heads": 2, "patch": 4},
}
INSIDE = [name for name, info in VIEWS.items() if info.eyes]
OPENS = [(view, eye) for view in INSIDE for eye in EYES if VIEWS[view].fits("classify", eye, "images")]


def looking(rung: str, eye: str, side: int = SIDE, words: str = "", **given: Any) -> Run:
    """A run of a rung from the foundation with an eye of first weights."""
    own = words or " ".join(f"{name}={value}" for name, value in EYES[eye].items())
    seen = f"size={side} channels=3 mean=0.4,0.5,0.6 deviation=0.2,0.25,0.3"
    return planted(rung, side, weights="", backbone=f"network={eye} {own} {seen}", **given)


def lite(rung: str = "probe", side: int = SIDE, **given: Any) -> Run:
    """With the smallest EfficientNet, norms far from where they begin."""
    run = looking(rung, "efficientnet", side, "variant=tiny", **given)
    draw = torch.Generator().manual_seed(0)
    for module in run.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            module.running_mean.normal_(0.0, 0.2, generator=draw)
    return run


@pytest.mark.proof("probe", "inside")
@pytest.mark.proof("fine-tune", "inside")
@pytest.mark.parametrize("rung", ["probe", "fine-tune"])
@pytest.mark.parametrize(("view", "eye"), OPENS)
def test_a_look_is_the_one_into_the_eye_itself(view: str, eye: str, rung: str, tmp_path: Path) -> None:
    """Two ways: through the rung that has the eye, and into a run of that network with the same weights."""
    run, alone = looking(rung, eye), planted(eye, SIDE, **EYES[eye])
    own: Any = run.model
    state = {name: value for name, value in own.backbone.state_dict().items()}
    head = KINDS[eye].head
    state |= {f"{head}.{name}": value for name, value in own.output.state_dict().items()}
    alone.model.load_state_dict(state)
    options: dict[str, Any] = {}
    if view in ("receptive-field", "features", "where"):
        options["image"] = picture(tmp_path / "a.png")
    found, wanted = look(run, view, **options), look(alone, view, **options)
    assert found.arrays.keys() == wanted.arrays.keys()
    for name, values in wanted.arrays.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(found.arrays[name], values, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(found.arrays[name], values)
    assert found.title[0] == wanted.title[0].replace(eye, rung, 1)
    assert png(draw(found, "ko"))[:4] == b"\x89PNG"


@pytest.mark.parametrize("lora", [0, 2])
def test_all_weights_and_all_arithmetic_of_an_efficientnet_have_a_stage(lora: int) -> None:
    run = lite("fine-tune", lora=lora)
    view = look(run, "shapes")
    assert view.facts["parameters"] == sum(p.numel() for p in run.model.parameters())
    assert view.facts["macs"] == EfficientNet.macs(EfficientNet.TINY, run.spec.width, 3)
    stages = view.arrays["stage"].tolist()
    assert stages[0] == "stem" and stages[-3:] == ["maps", "features", "output"]
    assert "no pooling to leave out" in view.see[0] and "NaN" not in svg(draw(view, "en"))


@given(side=st.integers(5, 71))
@settings(max_examples=25)
def test_places_of_an_efficientnet_are_as_many_as_it_gives(side: int) -> None:
    model = EfficientNet(EfficientNet.TINY, (3, side, side), 2).eval()
    values = record(model, torch.randn(1, 3, side, side))
    for field in fields_of(stages_of(model), (3, side, side)):
        assert (field.channels, *field.size) == values[field.stage].shape[1:]


@settings(max_examples=40)
@given(
    sizes=st.lists(st.tuples(st.sampled_from((1, 3, 5)), st.integers(1, 2)), min_size=1, max_size=3),
    side=st.integers(6, 20),
)
def test_every_pixel_that_uneven_padding_lets_a_place_see_moves_it_and_no_other(
    sizes: list[tuple[int, int]], side: int
) -> None:
    """With positive weights and no bends nothing cancels: the gradient fills the square, to the pixel."""
    assume(all(kernel >= stride for kernel, stride in sizes))
    layers: list[nn.Module] = [SameConv(2, 2, kernel, stride=stride) for kernel, stride in sizes]
    model = Chain(layers, 3, bend=False)
    for parameter in model.parameters():
        parameter.data.abs_().add_(0.1)
    field = fields_of(stages_of(model), (2, side, side))[-1]
    place = middle(field, (side, side))
    heat = sensitivity(model, torch.randn(1, 2, side, side), {field.stage: place}, 2)[field.stage]
    np.testing.assert_array_equal(heat > 0, inside_of(field, place, side))
    bare = fields_of(unpadded(stages_of(model)), (2, side, side))[-1].size[0]
    n = side
    for kernel, stride in sizes:
        n = (n - kernel) // stride + 1
    assert bare == n


def test_an_efficientnet_is_looked_into_from_the_first_filter_to_the_answer(tmp_path: Path) -> None:
    run: Any = lite()
    image = picture(tmp_path / "a.png")
    seen = exhibit(run, image)
    values = record(run.model, seen.tensor)
    view = look(run, "features", image=image, top=3)
    names = view.arrays["stage"].tolist()
    assert names == ["stem", "block0", "block1", "block3", "maps"]
    for i, name in enumerate(names):
        order = view.arrays[f"channel{i}"]
        np.testing.assert_allclose(view.arrays[f"map{i}"], values[name][0, order].numpy(), atol=1e-6)
    found = look(run, "filters")
    stem = run.model.backbone.get_parameter("_conv_stem.weight").detach().numpy().transpose(0, 2, 3, 1)
    first = int(found.arrays["name"][0]) - 1
    np.testing.assert_allclose(
        found.arrays["filter"][0] * np.array(run.spec.deviation), stem[first], rtol=1e-4, atol=1e-6
    )
    with torch.no_grad():  # so that every place speaks for one class
        run.model.output.weight[1] = 1.0
    view = look(run, "where", image=image, of="개")
    wanted = values["maps"][0].double().sum(0).relu()
    np.testing.assert_allclose(view.arrays["map"], wanted / wanted.max(), atol=1e-5)
    assert view.facts["stage"] == "maps"
    field = look(run, "receptive-field", image=image)
    assert field.arrays["jump"].tolist() == [2, 2, 4, 4, 8, 8] and field.facts["stage"] == "maps"


def test_patches_are_counted_on_the_pictures_that_an_eye_is_shown(tmp_path: Path) -> None:
    """A ViT that has learnt on 32 pixels and is shown 24 has 6 x 6 patches of them."""
    run: Any = looking("probe", "vit", side=32)
    seen = exhibit(planted("prior", 24), picture(tmp_path / "a.png"))
    from sadari.inspection.where import patches

    shares, own, _ = patches(run.model.backbone, seen.tensor)
    assert shares.shape == (6, 6) and shares.sum() + own == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("view", "why"),
    [
        ("receptive-field", "every patch of a vit sees the whole picture from the first layer on"),
        ("features", "a vit has no maps of filters; `where` shows which patches its answer comes from"),
        ("shapes", "a vit has as many patches of the same width in every layer"),
    ],
)
def test_what_a_transformer_has_not_is_refused_with_the_reason(view: str, why: str) -> None:
    for run, who in (
        (planted("vit", SIDE, **EYES["vit"]), "a vit that"),
        (looking("probe", "vit"), "a probe with the eye of a vit that"),
    ):
        with pytest.raises(
            SadariError, match=rf"'{view}' does not fit {who} was fitted to classify: {why}"
        ) as e:
            look(run, view)
        told = str(e.value)
        assert "views that do: calibration, confusion, filters, where, mistakes" in told
        assert f"({view} opens: alexnet, vgg, resnet, distilled)" in told and "\n" not in told


def test_views_that_fit_go_by_the_eye() -> None:
    assert {eye_of(looking("probe", eye).config) for eye in EYES} == set(EYES)
    assert eye_of(planted("resnet", 16, width=0.25).config) == ""
    assert eye_of({"kind": "text", "model": {"backbone": "network=vit"}}) == ""
    assert set(INSIDE) <= set(views_for("classify", "probe", "images", "efficientnet"))
    assert not set(INSIDE) & set(views_for("classify", "probe", "images"))
    assert "rate" not in views_for("classify", "probe", "images", "resnet")  # which trains it on
    assert {"filters", "where"} == set(INSIDE) & set(views_for("classify", "fine-tune", "images", "vit"))
    for view in INSIDE:
        assert view in views_for("classify", "distilled", "images")


def test_one_value_may_be_named_twice_and_two_may_not() -> None:
    """An eye names its features, and so does the line on top."""
    keep, value = Recorder(), torch.zeros(2)
    keep("features", value)
    assert keep("features", value) is value
    with pytest.raises(ValueError, match="the name 'features' to two values"):
        keep("features", torch.zeros(2))
