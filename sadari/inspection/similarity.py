"""Similarity: some pictures against some captions, every pair by its cosine (CLIP, 2103.00020, figure 3).

    captions   y_1   y_2   y_3            a picture and its own caption stand on the diagonal; where training
    x_1        .8    .1    .0             has done its work, nothing in the same row or column is larger
    x_2        .2    .7    .1
    x_3        .0    .2    .9

A cosine is what both towers say of a pair. What the loss makes of it is a probability, by the run's own scale
(and bias): with softmax that a picture picks this caption out of those shown, so that a row sums to 1; with
sigmoid that this pair belongs together, whatever stands beside it. Neither changes which caption of a row is
the nearest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float
from scipy.special import expit, softmax

from sadari.errors import SadariError
from sadari.inspection.captioned import bias_of, captioned, logits, right, scale_of
from sadari.inspection.rows import PARTS, Part
from sadari.inspection.thumbnails import thumbnails
from sadari.inspection.view import View, say

if TYPE_CHECKING:
    from sadari.runs import Run

Values = Literal["cosine", "probability"]
FEWEST, LARGEST = 2, 16  # pictures
SHOWN = 40  # letters of a caption in a sentence

TEXTS = {
    "title": (
        "{rung}: {hits} of {count} pictures are nearest to their own caption",
        "{rung}: 그림 {count}장 가운데 {hits}장이 제 설명에 가장 가깝다",
    ),
    "caption": (
        "A column for each picture, a row for each caption, {kind}; the darker, the larger. The outlined "
        "diagonal holds the true pairs; a dot marks a wrong caption that is a picture's nearest. {count} "
        "pictures of the {part} part, evenly spread, no two of one subject.",
        "열은 그림, 행은 설명, 칸은 {kind}. 짙을수록 크다. 테두리를 두른 대각선이 참인 쌍이고, 점은 그림에 "
        "가장 가까운 틀린 설명을 나타낸다. {part} 부분에서 고르게 뽑은, 대상이 서로 다른 그림 {count}장.",
    ),
    "cosine kind": ("the cosine of the two vectors", "두 벡터의 코사인"),
    "softmax kind": (
        "the probability that the picture picks this caption out of those shown (scale {scale}), so that a "
        "column sums to 1",
        "그림이 여기 있는 설명 가운데 이것을 고를 확률(스케일 {scale}). 열의 합은 1",
    ),
    "sigmoid kind": (
        "the probability that the two belong together (scale {scale}, bias {bias}), each pair for itself",
        "둘이 짝일 확률(스케일 {scale}, 편향 {bias}). 쌍마다 따로 셈함",
    ),
    "see": (
        "True pairs have a mean cosine of {own}, false ones of {other}. Nobody told the model what these "
        "pictures show: it learnt from other pairs to put what belongs together near each other. {worst} "
        "Among {count} captions chance alone would find {chance}; among more it is harder.",
        "참인 쌍의 코사인은 평균 {own}, 거짓인 쌍은 {other}입니다. 이 그림들이 무엇인지 알려 준 적은 "
        "없습니다. 다른 쌍들에서 서로 맞는 것을 가까이 놓는 법을 배웠을 뿐입니다. {worst} 설명 {count}개 "
        "가운데서라면 우연히도 {chance}는 맞히며, 설명이 많아질수록 어려워집니다.",
    ),
    "mistaken": (
        "The picture of “{own}” lies nearest to “{other}”.",
        "“{own}” 그림은 “{other}”에 가장 가깝습니다.",
    ),
    "none mistaken": ("None is mistaken here.", "여기서는 잘못 짝지은 것이 없습니다."),
    "picture": ("pictures", "그림"),
    "caption_text": ("captions", "설명"),
    "cosine": ("cosine", "코사인"),
    "probability": ("probability", "확률"),
}


def similarity(
    run: Run,
    *,
    part: Part = "test",
    count: int = 10,
    values: Values = "cosine",
    language: str | None = None,
) -> View:
    """Some pictures of a part against their first captions.

    values   cosine, or probability: what the run's loss makes of it

    value (N, N): row a picture, column a caption, as asked for; cosine (N, N); nearest (N,): the caption
    nearest to each picture; caption (N,); picture (N, h, w, C) uint8.
    SadariError for a count or values that there are not.
    """
    if not FEWEST <= count <= LARGEST:
        raise SadariError(f"--count {count}: a matrix has {FEWEST} to {LARGEST} pictures; use --count 10")
    if values not in ("cosine", "probability"):
        raise SadariError(f"--values {values}: a cell shows a cosine or a probability; choose one of these")
    shown = captioned(run, part, language=language).distinct(count)
    N = len(shown)
    if N < FEWEST:
        raise SadariError(
            f"the {part} part has pictures of {N} subject; a matrix needs {FEWEST}, take another --part"
        )
    image, text = shown.vectors(run)
    cosines = image @ text.T
    own = np.eye(N, dtype=bool)
    hits, found = right(image, text, own), right(text, image, own)
    kind, value = _valued(run, cosines, values)
    nearest = np.where(hits, np.arange(N), np.where(own, -np.inf, cosines).argmax(1))
    wrong = np.flatnonzero(~hits)
    worst = TEXTS["none mistaken"]
    if len(wrong):
        row = int(wrong[np.argmax(cosines[wrong, nearest[wrong]] - cosines[wrong, wrong])])
        names = {"own": shown.texts[row][:SHOWN], "other": shown.texts[nearest[row]][:SHOWN]}
        worst = say(TEXTS, "mistaken", **names)
    bias = bias_of(run)
    named = {"scale": scale_of(run), "bias": bias or 0.0}
    return View(
        "similarity",
        say(TEXTS, "title", rung=run.rung, hits=int(hits.sum()), count=N),
        say(TEXTS, "caption", kind=say(TEXTS, f"{kind} kind", **named), count=N, part=PARTS[part]),
        say(
            TEXTS, "see", own=float(cosines[own].mean()), other=float(cosines[~own].mean()), worst=worst,
            count=N, chance=f"{1 / N:.0%}",
        ),
        {
            "value": value.astype(np.float32),
            "cosine": cosines.astype(np.float32),
            "nearest": nearest,
            "caption": np.array(shown.texts),
            "number": shown.numbers,
            "picture": thumbnails(shown.pixels),
        },
        {
            "rung": run.rung,
            "kind": kind,
            "share": float(hits.mean()),
            "captions_share": float(found.mean()),
            "own": float(cosines[own].mean()),
            "other": float(cosines[~own].mean()),
            "scale": named["scale"],
            "bias": bias,
        },
        {
            "value": TEXTS[values],
            "cosine": TEXTS["cosine"],
            "picture": TEXTS["picture"],
            "caption": TEXTS["caption_text"],
        },
    )  # fmt: skip


def _valued(
    run: Run, cosines: Float[np.ndarray, "N N"], values: Values
) -> tuple[str, Float[np.ndarray, "N N"]]:
    """What is drawn, by name, and its numbers."""
    if values == "cosine":
        return "cosine", cosines
    if bias_of(run) is None:
        return "softmax", softmax(logits(run, cosines), axis=1)
    return "sigmoid", expit(logits(run, cosines))
