"""Losses: how hard a false pair is pushed apart, by how near it is, and where pairs of the run stand.

Both losses push picture and caption of a false pair apart, with a gradient that depends on their similarity u
(s the scale, b the bias, p the similarity of the true pair in the same row, B pairs a batch):

    softmax   s e^(s u) / (e^(s u) + e^(s p) + (B - 2) e^(s v))    v: what the other false pairs amount to
    sigmoid   s sigmoid(s u + b)                                   no p: each pair is asked for itself

So with softmax a pair that is settled, p well above all else, keeps nearly nothing for its false ones to be
pushed with, however near they are to each other; with sigmoid a false pair is pushed as its own similarity
says. What is drawn is that gradient as a share of s, the most that it can be.

A run has learnt by one of them. For the other, the same s; and for sigmoid, where the run has no b, the one
at which its false pairs get the odds that they have in a batch, 1 : B - 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float

from sadari.batches_captions import PAIRS
from sadari.errors import SadariError
from sadari.inspection.captioned import bias_of, captioned, scale_of
from sadari.inspection.rows import PARTS, Part
from sadari.inspection.view import View, say
from sadari.layers.contrast import pull

if TYPE_CHECKING:
    from sadari.runs import Run

COMPARED = 1000  # pictures, all of whose pairs are looked at
POINTS = 121  # of a curve
BINS = 60
SURE = 0.99  # of softmax, from which a pair is called settled

TEXTS = {
    "title": (
        "{rung}: a false pair at the median is pushed with {median} of full force, one as near as a true "
        "pair with {near}",
        "{rung}: 보통의 거짓 쌍은 최대 힘의 {median}로, 참인 쌍만큼 가까운 거짓 쌍은 {near}로 밀어낸다",
    ),
    "caption": (
        "Above, the gradient that pushes a false pair apart, against its cosine, as a share of the scale "
        "s = {scale}: softmax beside a settled true pair (cosine {settled}: softmax is {sure} sure of it) "
        "and beside this run's median one ({near}), and sigmoid (bias {bias}{assumed}), in batches of "
        "{batch}. Below, where {true} true and {false} false pairs of the {part} part stand, each kind by "
        "its own share.",
        "위: 거짓 쌍을 밀어내는 기울기를 스케일 s = {scale}에 대한 몫으로, 코사인에 따라. 소프트맥스는 자리 "
        "잡은 참인 쌍(코사인 {settled}, 소프트맥스의 확신 {sure}) 곁과 이 실행의 중앙값인 쌍({near}) 곁에서, "
        "시그모이드는 편향 {bias}{assumed}. 배치는 {batch}쌍. 아래: {part} 부분의 참인 쌍 {true}개와 거짓 쌍 "
        "{false}개가 있는 자리(종류마다의 몫).",
    ),
    "assumed": (
        ", which this run has not: chosen so that its false pairs have odds of 1 : {others}",
        "(이 실행에는 없어, 거짓 쌍의 승산이 1 : {others}이 되도록 정함)",
    ),
    "see": (
        "Softmax pushes a false pair at cosine {near} with {busy} of full force beside the median true pair, "
        "and with {calm} beside a settled one: a settled pair stops pulling. {there} of this run's true "
        "pairs are that settled. Sigmoid pushes with {alone} whatever the true pair does. {hard} of the "
        "false pairs are nearer than the median true pair; they get {work} of this run's push.",
        "소프트맥스는 코사인 {near}인 거짓 쌍을 중앙값인 참인 쌍 곁에서는 최대 힘의 {busy}로, 자리 잡은 쌍 "
        "곁에서는 {calm}로 밉니다. 자리 잡은 쌍은 더 당기지 않습니다. 이 실행의 참인 쌍 가운데 그만큼 자리 "
        "잡은 것은 {there}입니다. 시그모이드는 참인 쌍과 무관하게 {alone}로 밉니다. 거짓 쌍의 {hard}가 참인 "
        "쌍의 중앙값보다 가까우며, 이 실행이 미는 힘의 {work}를 받습니다.",
    ),
    "softmax": ("softmax", "소프트맥스"),
    "sigmoid": ("sigmoid", "시그모이드"),
    "softmax_settled": ("softmax, settled pair", "소프트맥스, 자리 잡은 쌍 곁"),
    "softmax_median": ("softmax, median pair", "소프트맥스, 중앙값인 쌍 곁"),
    "median": ("median true pair", "참인 쌍의 중앙값"),
    "similarity": ("cosine of picture and caption", "그림과 설명의 코사인"),
    "push": ("push on a false pair, % of s", "거짓 쌍을 미는 힘, s의 %"),
    "share": ("share of pairs", "쌍의 몫"),
    "true": ("true pairs", "참인 쌍"),
    "false": ("false pairs", "거짓 쌍"),
}


def losses(run: Run, *, part: Part = "test", language: str | None = None) -> View:
    """How softmax and sigmoid push false pairs, at the run's own scale, over the similarities of its pairs.

    similarity, softmax_settled, softmax_median, sigmoid (P,): pushes as shares of the scale; edge (E + 1,),
    true, false (E,): shares of the pairs of either kind.
    SadariError for a part without false pairs.
    """
    pairs = captioned(run, part, COMPARED, language)
    image, text = pairs.vectors(run)
    cosines, known = image @ text.T, pairs.true()
    true, false = np.diag(cosines), cosines[~known]
    if not len(false):
        raise SadariError(
            f"all captions of the {part} part are true of all its pictures; take another --part"
        )
    scale, own_bias = scale_of(run), bias_of(run)
    own = "softmax" if own_bias is None else "sigmoid"
    batch = min(run.config["train"]["batch_size"] or PAIRS, max(run.config["data"]["split"]["train"], 2))
    others = amounts_to(false, scale)
    bias = balanced(false, scale, batch) if own_bias is None else own_bias
    near, median = float(np.median(true)), float(np.median(false))
    settled = max(min(others + math.log((batch - 1) * SURE / (1 - SURE)) / scale, 1.0), near)
    sure = 1 / (1 + (batch - 1) * math.exp(scale * (others - settled)))
    low, high = min(float(cosines.min()), -0.2), 1.0
    at = np.linspace(low, high, POINTS)

    def pushes(where: Any, positive: float) -> tuple[np.ndarray, np.ndarray]:
        """By softmax and by sigmoid."""
        return pushed(where, positive, others, scale, bias, batch)

    mine = {"softmax": 0, "sigmoid": 1}[own]
    work = np.concatenate([
        pushes(row[~same], positive)[mine]
        for row, same, positive in zip(cosines, known, true, strict=True)
    ])  # fmt: skip
    hard = false > near
    edge = np.linspace(low, high, BINS + 1)
    told = {
        "near": near,
        "calm": _share(pushes(near, settled)[0]),
        "busy": _share(pushes(near, near)[0]),
        "alone": _share(pushes(near, settled)[1]),
        "hard": _share(hard.mean()),
        "there": _share((true >= settled).mean()),
        "work": _share(work[hard].sum() / work.sum()),
    }
    assumed = say(TEXTS, "assumed", others=batch - 1) if own == "softmax" else ("", "")
    return View(
        "losses",
        say(
            TEXTS, "title", rung=run.rung, median=_share(pushes(median, near)[mine]),
            near=_share(pushes(near, near)[mine]),
        ),
        say(
            TEXTS, "caption", scale=scale, settled=settled, near=near, sure=_share(sure), bias=bias,
            assumed=assumed, batch=batch, true=len(true), false=len(false), part=PARTS[part],
        ),
        say(TEXTS, "see", **told),
        {
            "similarity": at,
            "softmax_settled": pushes(at, settled)[0],
            "softmax_median": pushes(at, near)[0],
            "sigmoid": pushes(at, settled)[1],
            "edge": edge,
            "true": np.histogram(true, edge)[0] / len(true),
            "false": np.histogram(false, edge)[0] / len(false),
        },
        {
            "rung": run.rung,
            "loss": own,
            "scale": scale,
            "bias": bias,
            "batch": batch,
            "settled": settled,
            "sure": sure,
            "there": float((true >= settled).mean()),
            "others": others,
            "true_median": near,
            "false_median": median,
            "harder": float(hard.mean()),
            "work": float(work[hard].sum() / work.sum()),
        },
        {
            name: TEXTS[name]
            for name in (
                "similarity", "softmax_settled", "softmax_median", "sigmoid", "push", "median", "share",
                "true", "false",
            )
        },
    )  # fmt: skip


def pushed(
    similarity: Any, positive: float, others: float, scale: float, bias: float, batch: int
) -> tuple[Float[np.ndarray, "*N"], Float[np.ndarray, "*N"]]:
    """The push of softmax and of sigmoid on a false pair, as shares of the scale.

    It stands in a row whose true pair has the similarity `positive` and whose other false ones amount to
    `others`. A softmax does not change where all similarities are moved alike, so `pull`, for which the
    others stand at 0, is asked with these taken away.
    """
    u = torch.as_tensor(similarity, dtype=torch.float64)
    softmax, _ = pull(u - others, scale, 0.0, positive - others, batch)
    _, sigmoid = pull(u, scale, bias)
    return softmax.numpy() / scale, sigmoid.numpy() / scale


def amounts_to(false: Float[np.ndarray, " N"], scale: float) -> float:
    """The one similarity that, had by all false pairs, gives softmax the same sum: a mean by e^(s u)."""
    top = float(false.max())
    return top + math.log(float(np.exp(scale * (false - top)).mean())) / scale


def balanced(false: Float[np.ndarray, " N"], scale: float, batch: int) -> float:
    """The bias at which a false pair of middling similarity gets the odds of a batch, 1 : B - 1."""
    return -math.log(max(batch - 1, 1)) - scale * float(np.median(false))


def _share(value: Any) -> str:
    """As per cent, small ones with the digits that they need."""
    percent = 100 * float(value)
    return f"{percent:.0f}%" if percent >= 10 or percent == 0 else f"{percent:.1g}%"
