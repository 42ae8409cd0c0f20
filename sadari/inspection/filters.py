"""Filters: the weights that the first layer lays on pixels, as the pictures that they are.

A unit answers most to a picture like its own weights (Krizhevsky et al. 2012, figure 3, for convolutions;
Dosovitskiy et al. 2020, 2010.11929, figure 7, for the patches of a ViT). Of logistic regression a row of
weights is the template of a class, of a hidden layer one that the classes share.

Networks read (pixel / 255 - mean) / deviation, so weights are divided by the deviation: what is drawn is the
weight on the pixel itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from sadari.errors import SadariError
from sadari.inspection.stages import modules_of, network_of
from sadari.inspection.view import Said, View, say

if TYPE_CHECKING:
    from sadari.runs import Run

FAINT = 0.1  # of the longest filter: below this a filter says next to nothing
EVEN = 0.1  # |sum of weights| / sum of |weights| below which a filter does not see brightness
MOST = 256  # filters that can be shown

TEXTS = {
    "title": (
        "{rung}: neighbouring weights of its {count} {kind} correlate by {smooth} (noise: 0)",
        "{rung}: {kind} {count}개에서 이웃한 가중치의 상관은 {smooth}(잡음이면 0)",
    ),
    "kind_filters": ("first filters", "첫 필터"),
    "kind_patches": ("patch filters", "패치 필터"),
    "kind_templates": ("templates", "틀"),
    "kind_hidden": ("hidden templates", "은닉 틀"),
    "caption_colour": (
        "Weights on the pixels of {size}, {shown}. Mid-grey is 0; a unit answers most to pixels of the "
        "colours drawn, least to those of the opposite ones. Each picture has its own scale.",
        "{size} 픽셀에 놓이는 가중치, {shown}. 중간 회색이 0이며, 유닛은 그려진 색의 픽셀에 가장 크게, "
        "반대색에 가장 작게 답한다. 그림마다 눈금이 다르다.",
    ),
    "caption_grey": (
        "Weights on the pixels of {size}, {shown}; white is 0, blue raises the unit's answer where the pixel "
        "is bright, orange lowers it. Each picture has its own scale.",
        "{size} 픽셀에 놓이는 가중치, {shown}. 흰색이 0이고, 픽셀이 밝을 때 파랑은 유닛의 답을 올리고 주황은 "
        "내린다. 그림마다 눈금이 다르다.",
    ),
    "window": ("{size} × {size} windows", "{size} × {size} 창"),
    "whole": ("whole pictures of {size} × {size}", "{size} × {size} 그림 전체"),
    "strongest": (
        "the {shown} strongest of {count}, strongest first",
        "{count}개 중 강한 {shown}개, 센 것부터",
    ),
    "all": ("all {count}, strongest first", "{count}개 모두, 센 것부터"),
    "classes": ("one for each class", "클래스마다 하나"),
    "see_window": (
        "{even} of {count} filters sum to about zero: they are blind to even brightness and answer to "
        "change, as edges do. {colour}{faint}A filter that looks like noise has learnt little: more data or "
        "a longer budget makes it smoother.",
        "필터 {count}개 중 {even}개는 합이 거의 0입니다. 고른 밝기는 보지 못하고 가장자리 같은 변화에 "
        "반응합니다. {colour}{faint}잡음처럼 보이는 필터는 배운 것이 적다는 뜻이며, 데이터나 예산이 늘면 "
        "매끄러워집니다.",
    ),
    "see_template": (
        "A unit multiplies the picture by its template and adds up: one template must fit all pictures of "
        "its kind at every place where they may stand. {colour}{faint}Templates of noise have learnt single "
        "pictures by heart.",
        "유닛은 그림에 틀을 곱해 더합니다. 틀 하나가 같은 종류의 모든 그림에, 놓일 수 있는 모든 자리에서 "
        "맞아야 합니다. {colour}{faint}잡음 같은 틀은 그림 하나하나를 외운 것입니다.",
    ),
    "colour": (
        "{share} of the weight tells colours apart (of noise it would be 67%), the rest light from dark. ",
        "무게의 {share}는 색을 가르고(잡음이라면 67%) 나머지는 밝고 어두움을 가릅니다. ",
    ),
    "faint": (
        "{faint} are below a tenth of the strongest and say next to nothing. ",
        "{faint}개는 가장 센 것의 10분의 1도 안 되어 거의 말이 없습니다. ",
    ),
    "length": ("length of the weights", "가중치의 길이"),
    "sum": ("sum / sum of sizes", "합 / 크기의 합"),
    "name": ("filter", "필터"),
    "filter": ("weights on pixels", "픽셀 위의 가중치"),
}


def filters(run: Run, *, top: int = 64) -> View:
    """The first layer's weights as `top` pictures, strongest first; of logistic regression by class.

    length, sum (F,): root of the sum of squares, and the sum of weights over that of their sizes; name (F,);
    filter (F, k, k, C): the weights on pixels from 0 to 1. facts["smooth"]: correlation of weights side by
    side, over all filters. SadariError for a `top` below 1.
    """
    if top < 1:
        raise SadariError(f"--top {top} filters cannot be shown; give 1 or more")
    weights, kind = weights_of(run)
    count, channels = weights.shape[0], weights.shape[-1]
    length = np.sqrt(np.square(weights).sum((1, 2, 3)))
    by_class = kind == "templates"
    names = _classes(run, count) if by_class else [str(k + 1) for k in range(count)]
    order = np.arange(count) if by_class else np.argsort(-length, kind="stable")
    order = order[: min(top, MOST)]
    sizes = np.abs(weights).sum((1, 2, 3))
    balance = weights.sum((1, 2, 3)) / np.where(sizes > 0, sizes, 1)
    smooth, coloured = smoothness(weights), colourfulness(weights)
    faint = int((length < FAINT * length.max()).sum())
    even = int((np.abs(balance) < EVEN).sum())
    size = weights.shape[1]
    shown: Said = say(TEXTS, "all", count=count)
    if len(order) < count:
        shown = say(TEXTS, "strongest", shown=len(order), count=count)
    elif by_class:
        shown = TEXTS["classes"]
    window = kind in ("filters", "patches")
    return View(
        "filters",
        say(
            TEXTS,
            "title",
            rung=run.rung,
            count=count,
            kind=TEXTS[f"kind_{kind}"],
            smooth=f"{smooth:.2f}".replace("-", "−"),
        ),
        say(
            TEXTS,
            "caption_colour" if channels == 3 else "caption_grey",
            size=say(TEXTS, "window" if window else "whole", size=size),
            shown=shown,
        ),
        say(
            TEXTS,
            "see_window" if window else "see_template",
            even=even,
            count=count,
            colour=say(TEXTS, "colour", share=f"{coloured:.0%}") if channels == 3 else ("", ""),
            faint=say(TEXTS, "faint", faint=faint) if faint else ("", ""),
        ),
        {
            "length": length[order],
            "sum": balance[order],
            "name": np.array([names[k] for k in order]),
            "filter": weights[order].astype(np.float32),
        },
        {
            "rung": run.rung,
            "kind": kind,
            "all": count,
            "smooth": smooth,
            "colour": coloured if channels == 3 else None,
            "even": even,
            "faint": faint,
            "by_class": by_class,
        },
        {name: TEXTS[name] for name in ("length", "sum", "name", "filter")},
    )


def weights_of(run: Run) -> tuple[Float[np.ndarray, "D k k C"], str]:
    """The first layer's weights on pixels from 0 to 1, and what they are: filters, patches, templates or
    hidden."""
    network = network_of(run.model)
    channels, height, width = run.spec.width
    if hasattr(network, "conv_proj"):
        weight, kind = network.conv_proj.weight, "patches"
    elif hasattr(network, "hidden"):
        weight, kind = network.hidden.weight.unflatten(1, (channels, height, width)), "hidden"
    elif run.rung != "logistic":
        first: Any = modules_of(network)[0][1]
        weight, kind = first.weight, "filters"
    else:
        weight, kind = network.output.weight.unflatten(1, (channels, height, width)), "templates"
    pixels = weight.detach().double().numpy().transpose(0, 2, 3, 1)  # (D, k, k, C)
    return pixels / np.array(run.spec.deviation), kind


def smoothness(weights: Float[np.ndarray, "D h w C"]) -> float:
    """Correlation of weights side by side, down and across, about 0: near 0 for noise, 1 for even areas."""
    pairs = (
        (weights[:, 1:], weights[:, :-1]),
        (weights[:, :, 1:], weights[:, :, :-1]),
    )
    product = sum(float((a * b).sum()) for a, b in pairs)
    square = sum(float(np.square(a).sum() + np.square(b).sum()) / 2 for a, b in pairs)
    return product / square if square else 0.0


def colourfulness(weights: Float[np.ndarray, "D h w C"]) -> float:
    """Share of the squared weights that is left when each pixel's channels are replaced by their mean."""
    total = float(np.square(weights).sum())
    return float(np.square(weights - weights.mean(-1, keepdims=True)).sum()) / total if total else 0.0


def _classes(run: Run, count: int) -> list[str]:
    """Of one output for two classes the template is the second's."""
    classes = run.spec.classes
    return list(classes) if count == len(classes) else [classes[1]]
