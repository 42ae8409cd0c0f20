"""Space: pictures and captions on one map, and the gap between the two kinds, before and after training.

Vectors of two towers do not mix by themselves: each tower's lie in a narrow cone of their own from the first
step on, and a contrastive loss closes the gap between the cones only in part (Liang et al. 2022, 2203.02053).

    gap = | mean of the pictures' vectors - mean of the captions' vectors |    0: the same, 2: opposite

The map is the two directions in which all these vectors together differ most (principal components), whose
signs are fixed so that the largest part of each is above 0. A map of two directions out of many: the numbers
are reckoned with all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int

from sadari.errors import SadariError
from sadari.inspection.captioned import BLOCK, Captioned, captioned, right
from sadari.inspection.rows import PARTS, Part
from sadari.inspection.thumbnails import thumbnails
from sadari.inspection.view import View, say
from sadari.tasks import build

if TYPE_CHECKING:
    from sadari.runs import Run

MAPPED = 120  # pairs that are drawn, so that lines can be told apart
PICTURED = 10  # of them as pictures
SIDE = 60  # pixels of them, at most
COMPARED = 1000  # pairs whose gap is measured
FEWEST = 3  # pairs that have a map

TEXTS = {
    "title": (
        "{rung}: the gap between pictures and captions goes from {before} to {after} in training, the cosine "
        "of a pair from {pair_before} to {pair_after}",
        "{rung}: 훈련으로 그림과 설명 사이의 틈이 {before}에서 {after}로, 짝의 코사인이 {pair_before}에서 "
        "{pair_after}로 바뀐다",
    ),
    "title_after": (
        "{rung}: the gap between pictures and captions is {after}, the cosine of a pair {pair_after}",
        "{rung}: 그림과 설명 사이의 틈은 {after}, 짝의 코사인은 {pair_after}",
    ),
    "caption": (
        "Each dot a picture or a caption, each line a pair: {drawn} of {count} pairs of the {part} part, "
        "some of them shown. {panels} The two directions hold {share} of all variation; the gap is the "
        "distance of the two means (crosses) in all {width} directions.",
        "점은 그림이나 설명, 선은 짝. {part} 부분의 쌍 {count}개 중 {drawn}개, 몇은 그림으로 보임. {panels} "
        "두 방향에 변화의 {share}가 담긴다. 틈은 {width}개 방향 모두에서 잰 두 평균(십자)의 거리.",
    ),
    "two panels": (
        "First with the weights that training began from, then as it is; both in the same units, each in "
        "its own two main directions.",
        "처음은 훈련을 시작한 가중치, 다음은 지금. 단위는 같고 주된 두 방향은 각자의 것.",
    ),
    "one panel": (
        "Where training began is not shown: the towers that this run was given are no longer here.",
        "훈련의 시작은 그리지 않았다: 이 실행이 받아 쓴 인코더가 여기에 없다.",
    ),
    "see": (
        "A true pair has a mean cosine of {pair}, a false one of {other}. What counts is that a line is "
        "shorter than those to others, not that both kinds lie in one heap: {right} of the pictures are "
        "nearest to a caption that is true of them, among {count}. {gap}",
        "참인 쌍의 코사인은 평균 {pair}, 거짓인 쌍은 {other}입니다. 두 종류가 한데 섞이는 것보다 짝의 선이 "
        "남보다 짧은 것이 중요합니다. 그림의 {right}가 설명 {count}개 가운데 맞는 설명에 가장 가깝습니다. "
        "{gap}",
    ),
    "gap closes": (
        "The two clouds have moved nearer to each other.",
        "두 무리가 서로 다가왔습니다.",
    ),
    "gap opens": (
        "The two clouds have not moved together: a contrastive loss asks only for the order of distances.",
        "두 무리는 다가오지 않았습니다. 대조 손실은 거리의 순서만을 묻기 때문입니다.",
    ),
    "gap alone": (
        "A gap between the clouds does no harm by itself: a contrastive loss asks only for the order of "
        "distances.",
        "두 무리 사이의 틈은 그 자체로 해롭지 않습니다. 대조 손실은 거리의 순서만을 묻습니다.",
    ),
    "x": ("first direction", "첫째 방향"),
    "y": ("second direction", "둘째 방향"),
    "pictures": ("pictures", "그림"),
    "captions": ("captions", "설명"),
    "before": ("before training: gap {gap}", "훈련 전: 틈 {gap}"),
    "after": ("after training: gap {gap}", "훈련 후: 틈 {gap}"),
    "alone": ("gap {gap}", "틈 {gap}"),
}


@dataclass(frozen=True)
class Space:
    """Pictures and captions in one space, and the map of them."""

    image: Float[np.ndarray, "n 2"]
    text: Float[np.ndarray, "n 2"]
    centres: Float[np.ndarray, "2 2"]
    """Means of pictures and of captions, on the map."""
    gap: float
    """Distance of the two means in all directions (Liang et al. 2022, section 2.1)."""
    pair: float
    """Mean cosine of true pairs."""
    other: float
    """Mean cosine of pairs that are not true."""
    right: float
    """Share of pictures whose nearest caption is true of them."""
    explained: float
    """Share of all variation that the map holds."""


def space(run: Run, *, part: Part = "test", language: str | None = None) -> View:
    """Pictures of a part and their first captions on a map, beside the same before training.

    Those that begin with before_ are there where the weights that training began from can be made again.
    image_x, image_y, text_x, text_y (M,): of the pairs drawn; centre_x, centre_y (2,): of pictures, of
    captions; caption (M,); picture (P, h, w, C) uint8: those of the first P pairs drawn.
    SadariError for a part of fewer than three pairs.
    """
    pairs = captioned(run, part, COMPARED, language)
    if len(pairs) < FEWEST:
        raise SadariError(f"{len(pairs)} pairs in the {part} part; a map needs {FEWEST}, take another --part")
    vectors = pairs.vectors(run)
    after, first = space_of(pairs, *vectors), begun(run, pairs)
    before = None if first is None else space_of(pairs, *pairs.vectors(run, first))
    seen = {"": after} if before is None else {"before_": before, "": after}
    rows = _drawn(after.image)
    arrays: dict[str, np.ndarray] = {}
    for name, found in seen.items():
        for side in ("image", "text"):
            arrays[f"{name}{side}_x"], arrays[f"{name}{side}_y"] = getattr(found, side)[rows].T
        arrays[f"{name}centre_x"], arrays[f"{name}centre_y"] = found.centres.T
    numbers: dict[str, Any] = {"rung": run.rung, "after": _two(after.gap), "pair_after": _two(after.pair)}
    if before is not None:
        numbers |= {"before": _two(before.gap), "pair_before": _two(before.pair)}
    moved = "alone" if before is None else "closes" if after.gap < before.gap else "opens"
    return View(
        "space",
        say(TEXTS, "title_after" if before is None else "title", **numbers),
        say(
            TEXTS, "caption", drawn=len(rows), count=len(pairs), part=PARTS[part],
            panels=TEXTS["one panel" if before is None else "two panels"],
            share=f"{after.explained:.0%}", width=vectors[0].shape[1],
        ),
        say(
            TEXTS, "see", pair=_two(after.pair), other=_two(after.other), right=f"{after.right:.0%}",
            count=len(pairs), gap=TEXTS[f"gap {moved}"],
        ),
        {
            **arrays,
            "caption": np.array([pairs.texts[row] for row in rows]),
            "picture": thumbnails(pairs.pixels[rows[:PICTURED]], SIDE),
        },
        {
            "rung": run.rung,
            "pairs": len(pairs),
            **_numbers(after),
            "before": None if before is None else _numbers(before),
        },
        {
            **{name: TEXTS[name] for name in ("x", "y", "pictures", "captions")},
            "": say(TEXTS, "after" if before is not None else "alone", gap=_two(after.gap)),
            **({} if before is None else {"before_": say(TEXTS, "before", gap=_two(before.gap))}),
        },
    )  # fmt: skip


def begun(run: Run, pairs: Captioned) -> Any:
    """The model as training began with it, from the run's seed; None where the towers that it was given are
    no longer at hand."""
    model: Any = build(
        run.rung, run.task.name, run.config["model"], run.spec.width, run.loss, run.config["seed"], run.kind
    )
    if hasattr(model, "begin"):
        try:
            model.begin(torch.from_numpy(pairs.pixels), torch.from_numpy(pairs.tokens), run.loss)
        except SadariError:
            return None
    return model.eval()


def space_of(pairs: Captioned, image: Float[np.ndarray, "n D"], text: Float[np.ndarray, "n D"]) -> Space:
    """The numbers of a space, and its map; row i of each side is a pair."""
    centres = np.stack([image.mean(0), text.mean(0)])
    every = np.concatenate([image, text])
    middle = every.mean(0)
    axes, explained = main_directions(every - middle)
    found, others, count = 0, 0.0, 0
    for first in range(0, len(pairs), BLOCK):
        rows = slice(first, first + BLOCK)
        true = pairs.true(rows)
        found += int(right(image[rows], text, true).sum())
        others += float((image[rows] @ text.T)[~true].sum())
        count += int((~true).sum())
    return Space(
        (image - middle) @ axes,
        (text - middle) @ axes,
        (centres - middle) @ axes,
        float(np.linalg.norm(centres[0] - centres[1])),
        float((image * text).sum(1).mean()),
        others / max(count, 1),
        found / len(pairs),
        explained,
    )


def main_directions(centred: Float[np.ndarray, "n D"]) -> tuple[Float[np.ndarray, "D 2"], float]:
    """The two directions in which rows differ most, the largest part of each above 0; and the share of all
    variation that they hold. A space of one direction has a second one of zeros."""
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    if axes.shape[1] < 2:
        axes = np.column_stack([axes, np.zeros(len(axes))])
    largest = np.abs(axes).argmax(0)
    signs = np.where(axes[largest, [0, 1]] < 0, -1.0, 1.0)
    return axes * signs, float(values[::-1][:2].sum() / max(values.sum(), np.finfo(float).tiny))


def _drawn(image: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, " M"]:
    """Which pairs are drawn, evenly spread; first those shown as pictures, each as far as can be from those
    before it on the map."""
    few = min(MAPPED, len(image))
    rows = np.arange(few) * len(image) // few
    places = image[rows]
    pictured = [int(places[:, 0].argmin())]
    while len(pictured) < min(PICTURED, few):
        away = ((places[:, None] - places[pictured]) ** 2).sum(-1).min(1)
        away[pictured] = -1.0
        pictured.append(int(away.argmax()))
    return np.concatenate([rows[pictured], np.delete(rows, pictured)])


def _two(value: float) -> str:
    """Two decimals with a real minus sign; a rounded zero has none."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _numbers(seen: Space) -> dict[str, float]:
    return {name: value for name, value in vars(seen).items() if isinstance(value, float)}
