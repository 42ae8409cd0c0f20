"""Filters: what is drawn is what a pixel does to a unit; noise and smoothness are told apart by number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sadari.charts import draw, png, svg
from sadari.charts.filters import as_picture
from sadari.charts.theme import NARROW, WIDE
from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.filters import colourfulness, smoothness, weights_of
from sadari.inspection.record import record
from sadari.runs import Run
from tests.inspection.small_images import planted

RUNGS: dict[str, tuple[str, dict[str, Any]]] = {
    "logistic": ("templates", {}),
    "shallow": ("hidden", {"width": 9}),
    "alexnet": ("filters", {"width": 0.2}),
    "vgg": ("filters", {"width": 0.25}),
    "resnet": ("filters", {"width": 0.5}),
    "vit": ("patches", {"width": 16, "layers": 1, "heads": 2}),
}


def first_answers(run: Run, pixels: np.ndarray) -> np.ndarray:
    """What the first layer answers (D, ...) to pixels (H, W, C), before any bend."""
    model: Any = run.model
    tensor = run.task.tensors(torch.from_numpy(pixels)[None])
    with torch.no_grad():
        if run.rung == "logistic":
            return model(tensor)[0].double().numpy()
        if run.rung == "shallow":
            return record(model, tensor)["pre0"][0].double().numpy()
        layer = model.conv_proj if run.rung == "vit" else model.stages[0][1]
        return layer(tensor)[0].double().numpy()


@pytest.mark.parametrize(
    "rung", [pytest.param(rung, marks=pytest.mark.proof(rung, "inside")) for rung in RUNGS]
)
def test_a_filter_is_what_a_brighter_pixel_does_to_its_unit(rung: str) -> None:
    """Each weight drawn is the change of the answer when that pixel goes from 0 to 255."""
    kind, settings = RUNGS[rung]
    run: Any = planted(rung, 24, **settings)
    weights, found = weights_of(run)
    assert found == kind
    dark = np.zeros((24, 24, 3), np.uint8)
    i, j, channel = 2, 1, 2
    pixels = dark.copy()
    at = (i, j)
    if kind == "filters":  # the window of place (1, 1), which begins at stride - padding
        layer = run.model.stages[0][1]
        start = layer.stride[0] - layer.padding[0]
        at = (start + i, start + j)
    pixels[at[0], at[1], channel] = 255
    change = first_answers(run, pixels) - first_answers(run, dark)
    place = {"filters": (..., 1, 1), "patches": (..., 0, 0)}.get(kind, (...,))
    np.testing.assert_allclose(change[place], weights[:, i, j, channel], rtol=1e-3, atol=1e-4)


@given(seed=st.integers(0, 50), side=st.integers(8, 12), channels=st.sampled_from((1, 3)))
def test_noise_is_not_smooth_and_colours_are_two_thirds_of_it(seed: int, side: int, channels: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(64, side, side, channels))
    assert abs(smoothness(noise)) < 0.06
    if channels == 3:
        assert colourfulness(noise) == pytest.approx(2 / 3, abs=0.05)
    assert smoothness(np.ones((2, side, side, channels))) == pytest.approx(1)
    board = (np.indices((side, side)).sum(0) % 2 * 2 - 1.0)[None, :, :, None]
    assert smoothness(board) == pytest.approx(-1)
    assert colourfulness(np.repeat(noise[..., :1], 3, -1)) == pytest.approx(0, abs=1e-12)


def test_nothing_at_all_is_neither_smooth_nor_coloured() -> None:
    nothing = np.zeros((3, 4, 4, 3))
    assert (smoothness(nothing), colourfulness(nothing)) == (0.0, 0.0)


def test_the_strongest_come_first_and_the_faint_are_counted() -> None:
    run: Any = planted("resnet", 16, width=1.0)
    weight = run.model.conv1.weight
    with torch.no_grad():
        weight[3] *= 50
        weight[5] *= 1e-3
    view = look(run, "filters", top=4)
    assert view.arrays["name"][0] == "4" and (np.diff(view.arrays["length"]) <= 0).all()
    assert view.arrays["filter"].shape == (4, 3, 3, 3) and view.facts["all"] == 16
    assert view.facts["faint"] == 15 and "4 strongest of 16" in view.caption[0]
    assert "16개 중 강한 4개" in view.caption[1]


def test_a_filter_that_sums_to_zero_is_counted_as_blind_to_brightness() -> None:
    run: Any = planted("resnet", 16, width=1.0, channels=1)
    with torch.no_grad():
        run.model.conv1.weight.fill_(1.0)
        run.model.conv1.weight[:5, :, :, 0] = -1.0
        run.model.conv1.weight[:5, :, :, 1] = 0.0
    view = look(run, "filters")
    assert view.facts["even"] == 5 and view.facts["colour"] is None
    assert sorted(view.arrays["sum"].round(6).tolist()) == [0.0] * 5 + [1.0] * 11


def test_templates_are_named_by_class_and_of_two_classes_there_is_one() -> None:
    view = look(planted("logistic", 8), "filters", top=2)
    assert view.arrays["name"].tolist() == ["apple", "개"]
    two = look(planted("logistic", 8, classes=("no", "yes")), "filters")
    assert two.arrays["name"].tolist() == ["yes"] and two.arrays["filter"].shape == (1, 8, 8, 3)
    assert "개" in svg(draw(view, "en"))


def test_zero_is_grey_or_white_and_the_largest_weight_is_full() -> None:
    weights = np.zeros((2, 2, 3))
    weights[0, 0] = (2.0, -2.0, 0.0)
    assert as_picture(weights)[0, 0].tolist() == [255, 0, 128]
    assert set(as_picture(weights)[1, 1].tolist()) == {128}
    grey = as_picture(np.array([[[1.0], [0.0], [-1.0]]]))
    assert grey.shape == (1, 3, 3) and min(grey[0, 1]) >= 253
    assert grey[0, 0, 2] > grey[0, 0, 0] and grey[0, 2, 0] > grey[0, 2, 2]  # blue raises, orange lowers


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rung", RUNGS)
def test_sentences_and_drawings_in_both_languages(rung: str, channels: int) -> None:
    view = look(planted(rung, 24, channels=channels, **RUNGS[rung][1]), "filters")
    for part in ("title", "caption", "see"):
        english, korean = getattr(view, part)
        assert "{" not in english + korean
        assert any("가" <= letter <= "힣" for letter in korean)
        assert not any("가" <= letter <= "힣" for letter in english)
    for lang, width in (("en", WIDE), ("ko", NARROW)):
        chart = draw(view, lang, width)  # type: ignore[arg-type]
        drawing = svg(chart)
        assert drawing.count("data:image/png") == len(view.arrays["filter"])
    assert png(chart)[:4] == b"\x89PNG"


def test_no_filters_are_refused() -> None:
    with pytest.raises(SadariError, match="--top 0 filters cannot be shown; give 1 or more"):
        look(planted("resnet", 16, width=0.25), "filters", top=0)
    with pytest.raises(SadariError, match="'filters' does not fit a nearest"):
        look(planted("nearest", 16), "filters")
