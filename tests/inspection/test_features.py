"""Features: the maps are the layers' own values, in order of strength, and silence is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sadari.charts import draw, png, svg
from sadari.charts.theme import NARROW, WIDE
from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.exhibit import exhibit
from sadari.inspection.features import spread
from tests.inspection.small_images import Chain, picture, planted


def test_a_planted_filter_shows_the_channel_that_it_takes(tmp_path: Path) -> None:
    """Channel k of the first stage takes colour k: its map is that colour above its mean."""
    layer: Any = nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        for k in range(3):
            layer.weight[k, k] = 1.0
    run = planted("resnet", 20, model=Chain([layer], 3))
    image = picture(tmp_path / "a.png", 20)
    view = look(run, "features", image=image, top=4)
    pixels = run.spec.decode(image) / 255
    colours = ((pixels - run.spec.mean) / run.spec.deviation).clip(min=0).transpose(2, 0, 1)
    order = view.arrays["channel0"].tolist()
    assert sorted(order[:3]) == [0, 1, 2] and order[3] == 3
    np.testing.assert_allclose(view.arrays["map0"][:3], colours[order[:3]], atol=1e-5)
    means = view.arrays["map0"].mean((1, 2))
    assert (np.diff(means) <= 0).all()
    assert view.arrays["silent"].tolist() == [1] and view.arrays["channels"].tolist() == [4]
    share = (np.concatenate([colours, np.zeros((1, 20, 20))]) == 0).mean()
    assert view.arrays["zero"][0] == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize("rung", ["alexnet", "vgg", "resnet"])
def test_maps_are_what_the_layers_hand_on(rung: str, tmp_path: Path) -> None:
    run: Any = planted(rung, 32, width=0.25)
    image = picture(tmp_path / "a.png")
    view = look(run, "features", image=image, top=3)
    shown = view.arrays["stage"].tolist()
    names = [name for name, _ in run.model.stages]
    assert shown[0] == names[0] and shown[-1] == names[-1] and len(shown) == 5
    handed: dict[str, torch.Tensor] = {}

    def keep(name: str, value: torch.Tensor) -> torch.Tensor:
        return handed.setdefault(name, value)

    with torch.no_grad():
        run.model(exhibit(run, image).tensor, keep)
    for i, name in enumerate(shown):
        order = view.arrays[f"channel{i}"]
        np.testing.assert_allclose(view.arrays[f"map{i}"], handed[name][0, order].numpy(), atol=1e-6)
        means = handed[name][0].mean((1, 2))
        assert set(order.tolist()) == set(means.topk(len(order)).indices.tolist())
        assert view.arrays["places"][i] == handed[name].shape[-1]


@given(count=st.integers(1, 60), most=st.integers(2, 8))
def test_stages_are_spread_from_the_first_to_the_last(count: int, most: int) -> None:
    names = [str(k) for k in range(count)]
    found = spread(names, most)
    assert found[0] == "0" and found[-1] == names[-1]
    assert len(found) == len(set(found)) == min(most, count)
    gaps = np.diff([int(name) for name in found])
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_one_stage_alone_can_be_asked_for(tmp_path: Path) -> None:
    run = planted("resnet", 32, width=0.5)
    view = look(run, "features", image=picture(tmp_path / "a.png"), stage="layer2.1", top=5)
    assert view.arrays["stage"].tolist() == ["layer2.1"] and "map1" not in view.arrays
    assert view.arrays["map0"].shape == (5, 16, 16)
    assert "of 16 channels of layer2.1 answer" in view.title[0]
    svg(draw(view, "ko", NARROW))


@pytest.mark.parametrize("rung", ["alexnet", "vgg", "resnet"])
def test_sentences_and_drawings_in_both_languages(rung: str, tmp_path: Path) -> None:
    run = planted(rung, 32, width=0.25)
    view = look(run, "features", image=picture(tmp_path / "새 그림.png"), top=12)
    assert "새 그림.png" in view.caption[0]
    for part in ("title", "see"):
        english, korean = (text.replace("개", "") for text in getattr(view, part))
        assert "{" not in english + korean
        assert any("가" <= letter <= "힣" for letter in korean)
        assert not any("가" <= letter <= "힣" for letter in english)
    shown = sum(view.arrays[f"map{i}"].shape[0] for i in range(5))
    for lang, width in (("en", WIDE), ("ko", NARROW)):
        chart = draw(view, lang, width)  # type: ignore[arg-type]
        assert svg(chart).count("data:image/png") == shown + 1
    assert png(chart)[:4] == b"\x89PNG"


def test_bad_numbers_stages_and_pictures_are_refused(tmp_path: Path) -> None:
    run = planted("resnet", 16, width=0.25)
    image = picture(tmp_path / "a.png")
    for top in (0, 13):
        with pytest.raises(SadariError, match=f"--top {top}: a row holds 1 to 12 maps"):
            look(run, "features", image=image, top=top)
    with pytest.raises(
        SadariError, match=r"--stage 'conv2' is no stage of this network; its stages: conv1, l"
    ):
        look(run, "features", image=image, stage="conv2")
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(SadariError, match=r"empty\.jpg is no picture that is read here"):
        look(run, "features", image=str(tmp_path / "empty.jpg"))
    with pytest.raises(SadariError, match="'features' does not fit a logistic"):
        look(planted("logistic", 8), "features", image=image)
