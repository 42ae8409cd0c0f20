"""Shapes: counted on modules as by formulas, and without padding or pooling as the changed network does."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sadari.charts import draw, png, svg
from sadari.charts.shapes import short
from sadari.charts.theme import NARROW, WIDE
from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.shapes import costs_of, counted, macs_along, sides
from sadari.inspection.stages import stages_of, unpadded, unpooled
from sadari.layers.convolution import dense_costs
from sadari.models import alexnet, resnet, vgg
from tests.inspection.small_images import planted

NETS: list[tuple[str, Any, int, dict[str, Any]]] = [
    ("alexnet", alexnet.AlexNet, 64, {"variant": "alexnet"}),
    ("two-tower", alexnet.AlexNet, 64, {"variant": "two-tower"}),
    ("alexnet-64", alexnet.AlexNet, 32, {}),
    ("vgg16", vgg.VGG, 64, {"variant": "vgg16"}),
    ("vgg11-64", vgg.VGG, 29, {}),
    ("resnet18", resnet.ResNet, 64, {"variant": "resnet18"}),
    ("resnet50", resnet.ResNet, 64, {"variant": "resnet50"}),
    ("resnet20", resnet.ResNet, 16, {}),
    ("plain20", resnet.ResNet, 16, {"variant": "plain20"}),
]
EVERY = pytest.mark.parametrize(("name", "family", "side", "settings"), NETS, ids=[net[0] for net in NETS])


def network(family: Any, side: int, settings: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return family(family.Config(width=1 / 8, **settings), (3, side, side), 7).eval()


def along(layers: Sequence[nn.Module], pixels: Tensor) -> list[int]:
    """The maps' sides after each layer, 0 from where one finds no place."""
    found: list[int] = []
    x = pixels
    for layer in layers:
        try:
            x = layer(x)
        except RuntimeError:
            return found + [0] * (len(layers) - len(found))
        found.append(x.shape[-1])
    return found


@EVERY
def test_stages_hold_all_weights_and_all_arithmetic(
    name: str, family: Any, side: int, settings: dict[str, Any]
) -> None:
    model = network(family, side, settings)
    costs = costs_of(model, (3, side, side))
    assert sum(cost.parameters for cost in costs) == sum(p.numel() for p in model.parameters())
    assert sum(cost.macs for cost in costs) == family.macs(model.config, (3, side, side), 7)
    stages = [stage for stage, _ in model.stages]
    assert [cost.stage for cost in costs if cost.stage in stages] == stages
    assert costs[-1].stage == "output" and costs[-1].shape == (7,)
    sizes = {field.stage: (field.channels, *field.size) for field in model.fields()}
    assert {cost.stage: cost.shape for cost in costs if cost.stage in sizes} == sizes


@EVERY
def test_arithmetic_by_windows_is_that_of_the_convolutions(
    name: str, family: Any, side: int, settings: dict[str, Any]
) -> None:
    """Two ways: hooks on real layers, and windows that the changed networks below are counted by."""
    model = network(family, side, settings)
    costs = {cost.stage: cost.macs for cost in costs_of(model, (3, side, side))}
    assert macs_along(stages_of(model), side) == sum(costs[stage] for stage, _ in model.stages)


@pytest.mark.parametrize(("name", "family", "side", "settings"), NETS[:5], ids=[n[0] for n in NETS[:5]])
def test_without_padding_and_pooling_as_real_layers_without_them(
    name: str, family: Any, side: int, settings: dict[str, Any]
) -> None:
    model = network(family, side, settings)
    stages, pixels = stages_of(model), torch.randn(1, 3, side, side)
    layers = [module for _, module in model.stages]
    assert sides(stages, side) == along(layers, pixels)
    bare: Any = copy.deepcopy(layers)
    for layer in bare:
        layer.padding = (0, 0) if isinstance(layer, nn.Conv2d) else 0
    assert sides(unpadded(stages), side) == along(bare, pixels)
    whole = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert sides(unpooled(stages), side) == along(whole, pixels)
    counts = []
    for layer, n in zip(whole, sides(unpooled(stages), side), strict=True):
        counts.append(layer.weight.numel() * n * n)
    assert macs_along(unpooled(stages), side) == sum(counts)


def test_a_full_alexnet_is_the_table_of_the_paper() -> None:
    view = look(planted("alexnet", 224, variant="alexnet"), "shapes")
    found = dict(zip(view.arrays["stage"].tolist(), view.arrays["result"].tolist(), strict=True))
    assert found == {
        "conv1": "64 × 55 × 55", "pool1": "64 × 27 × 27", "conv2": "192 × 27 × 27",
        "pool2": "192 × 13 × 13", "conv3": "384 × 13 × 13", "conv4": "256 × 13 × 13",
        "conv5": "256 × 13 × 13", "pool5": "256 × 6 × 6", "fc6": "4096", "fc7": "4096", "output": "3",
    }  # fmt: skip
    without_last = 61_100_840 - 4097 * 1000
    assert view.arrays["parameters"][:-1].sum() == without_last
    assert view.arrays["macs"][:-1].sum() == 714_188_480 - 4096 * 1000
    assert view.arrays["memory"][0] == 4 * 64 * 55 * 55
    assert view.arrays["parameters"].argmax() == 8  # fc6: 37.7 of the 57 million
    assert view.arrays["side_unpooled"].tolist() == [55] * 8
    assert "256" in view.title[0] and "6 × 6" in view.title[1]
    _, dense = dense_costs([9216, 4096, 4096, 3])
    assert view.facts["unpooled"] == pytest.approx(
        macs_along(
            [s for s in stages_of(planted("alexnet", 224, variant="alexnet").model) if not s.pools], 224
        )
        / (view.facts["macs"] - dense)
    )


@pytest.mark.parametrize("rung", ["alexnet", "vgg", "resnet"])
def test_sentences_and_drawings_in_both_languages(rung: str) -> None:
    view = look(planted(rung, 28, width=0.25), "shapes")
    for part in ("title", "caption", "see"):
        english, korean = getattr(view, part)
        assert "{" not in english + korean
        assert any("가" <= letter <= "힣" for letter in korean)
        assert not any("가" <= letter <= "힣" for letter in english)
    pooled = rung != "resnet"
    assert ("times the arithmetic" in view.see[0]) == pooled
    assert ("no pooling to leave out" in view.see[0]) != pooled
    for lang, width in (("en", WIDE), ("ko", NARROW)):
        chart = draw(view, lang, width)  # type: ignore[arg-type]
        chart.to_dict(validate=True)
        drawing = svg(chart)
        assert view.arrays["stage"][0] in drawing and "NaN" not in drawing
        assert png(chart)[:4] == b"\x89PNG"


def test_a_hundred_stages_are_drawn_in_low_rows() -> None:
    view = look(planted("resnet", 16, variant="resnet110", width=1 / 8), "shapes")
    drawing = svg(draw(view, "en"))
    assert len(view.arrays["stage"]) == 57 and drawing.count("layer3.17") >= 2


def test_nothing_left_is_said_with_the_stage() -> None:
    view = look(planted("vgg", 32, width=0.125), "shapes")
    first = view.facts["stages"][view.arrays["side_unpadded"].tolist().index(0)]
    assert f"nothing would be left of the picture at {first}" in view.see[0]
    assert f"{first}에서 그림이 하나도" in view.see[1]
    assert (np.diff(view.arrays["side_unpadded"]) <= 0).all()


def test_options_and_rungs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SadariError, match="'shapes' has no option --image"):
        look(planted("resnet", 16, width=0.25), "shapes", image="a.png")
    with pytest.raises(SadariError, match=r"'shapes' does not fit a logistic .*; views that do: .*filters"):
        look(planted("logistic", 8), "shapes")


def test_large_counts_in_words() -> None:
    assert counted(999) == ("999", "999")
    assert counted(61_100_840) == ("61.1 million", "6,110만 ")
    assert counted(15_470_000_000) == ("15.5 billion", "155억 ")
    assert [short(n) for n in (0, 650, 61_100_840)] == ["0", "650", "61.1 M"]
    assert [short(n, True) for n in (40, 774_400)] == ["40 B", "774 kB"]
    assert short(999_600) == "1 M"
