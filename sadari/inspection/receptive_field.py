"""Receptive field: how many pixels a place of each stage can see, and how many of them move it.

What the windows allow is exact, by r -> r + (k - 1) j and j -> j s over the network's own modules (Araujo et
al. 2019, Computing Receptive Fields). What of it is heeded is measured on one picture (Luo et al. 2016,
1701.04128): the size of d a_c / d x for the values a_c of the middle place, averaged over its strongest
channels c and summed over the picture's. Outside the square that the windows allow it is exactly zero.

    |  . . . . . . . . . .  |  the square of side r: all that the place can see
    |  . . . - - - - . . .  |
    |  . . |  # # #  | . .  |  the smallest square round the same middle that holds nine tenths
    |  . . . - - - - . . .  |  of the gradient: the effective field
    |  . . . . . . . . . .  |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sadari.inspection.exhibit import exhibit
from sadari.inspection.record import Recorder, record
from sadari.inspection.stages import fields_of, find_stage, stages_of
from sadari.inspection.view import Said, View, say
from sadari.layers.convolution import Field
from sadari.tasks import macs_of

if TYPE_CHECKING:
    from sadari.runs import Run

WHOLE = 0.8  # share of what can be seen, from which nearly all of it is heeded
HELD = 0.9  # share of the gradient that the effective field holds
FEW, MOST = 4, 32  # channels of a place that are followed down, the strongest ones
MACS = 1 << 37  # multiply-adds that all of it may take, about 5 s on one core
NUMBERS = 1 << 24  # of the maps of the pictures that are followed at once

TEXTS = {
    "title": (
        "{rung}: a place of {stage} can see {reach} × {reach} pixels; nine tenths of what moves it lie "
        "within {effective} × {effective}",
        "{rung}: {stage}의 한 자리는 {reach} × {reach}픽셀을 볼 수 있고, 그 자리를 움직이는 것의 9할은 "
        "{effective} × {effective}픽셀 안에 있다",
    ),
    "title_beyond": (
        "{rung}: a place of {stage} can see {reach} × {reach} pixels, more than the picture has; nine tenths "
        "of what moves it lie within {effective} × {effective}",
        "{rung}: {stage}의 한 자리는 그림보다 넓은 {reach} × {reach}픽셀을 볼 수 있고, 그 자리를 움직이는 "
        "것의 9할은 {effective} × {effective}픽셀 안에 있다",
    ),
    "title_silent": (
        "{rung}: a place of {stage} can see {reach} × {reach} pixels; on this picture it is silent",
        "{rung}: {stage}의 한 자리는 {reach} × {reach}픽셀을 볼 수 있지만, 이 그림에는 반응하지 않는다",
    ),
    "caption": (
        "Over {picture}, {width} × {height} pixels as the network reads it: the darker, the more a pixel "
        "moves the middle place of {stage} (mean size of the gradient over its {channels} strongest "
        "channels). Solid: the square that its windows allow, drawn where it has room; dashed: the one that "
        "holds nine tenths. The curves are both sizes, stage by stage; the grey line is the picture's side.",
        "{picture}, 신경망이 읽는 {width} × {height}픽셀 위에: 짙을수록 그 픽셀이 {stage} 가운데 자리를 더 "
        "움직인다(가장 강한 채널 {channels}개에 걸친 기울기 크기의 평균). 실선은 창이 허락하는 "
        "정사각형(자리가 있을 때), 점선은 9할을 담는 정사각형. 곡선은 단계마다의 두 크기, 회색 선은 그림의 "
        "한 변.",
    ),
    "see": (
        "A window of k pixels adds k − 1 steps to what is seen, and a stride lengthens the steps: from "
        "{first} pixels a side at {start} to {reach} at {stage}, whose neighbouring places lie {jump} pixels "
        "apart. {beyond}{heeds}",
        "k픽셀짜리 창은 보이는 폭을 k − 1걸음만큼 넓히고, 스트라이드는 걸음을 길게 합니다. {start}에서 한 변 "
        "{first}픽셀이던 것이 {stage}에서는 {reach}픽셀이고, 이웃한 자리는 {jump}픽셀 떨어져 있습니다. "
        "{beyond}{heeds}",
    ),
    "beyond": (
        "The square reaches beyond the picture of {side} pixels, where only padding is seen. ",
        "이 정사각형은 {side}픽셀짜리 그림을 넘어가며, 그 밖은 채워 넣은 값뿐입니다. ",
    ),
    "narrow": (
        "Pixels at the rim have few ways to the place, those in the middle many: the dashed square is "
        "{share} of the pixels that it could see.",
        "가장자리 픽셀은 그 자리로 가는 길이 적고 가운데는 많습니다. 점선 안은 볼 수 있는 픽셀의 "
        "{share}입니다.",
    ),
    "wide": (
        "The picture is so small that the place heeds nearly all of it.",
        "그림이 작아서 이 자리는 거의 전부를 귀담아듣습니다.",
    ),
    "silent": (
        "The middle place of {stage} is zero in every channel, so no pixel moves it a little: another "
        "picture, or another --stage, shows more.",
        "{stage} 가운데 자리는 모든 채널이 0이라 어떤 픽셀도 조금씩 움직이지 못합니다. 다른 그림이나 다른 "
        "--stage를 보십시오.",
    ),
    "stage": ("stage", "단계"),
    "reach": ("what the windows allow, pixels", "창이 허락하는 폭(픽셀)"),
    "effective": ("nine tenths of the gradient, pixels", "기울기 9할의 폭(픽셀)"),
    "jump": ("pixels between neighbouring places", "이웃한 자리 사이 픽셀"),
    "start": ("middle of the first place, pixels from the edge", "첫 자리의 가운데(가장자리부터 픽셀)"),
    "places": ("places along a side", "한 변의 자리 수"),
    "side": ("the picture's side", "그림의 한 변"),
    "picture": ("the picture's pixels", "그림의 픽셀"),
    "heat": ("share of the gradient", "기울기에서 차지하는 몫"),
}


def receptive_field(run: Run, *, image: str | None = None, stage: str | None = None) -> View:
    """What the middle place of `stage`, else of the last one, sees of a picture, and every stage's numbers.

    image    file of the picture; else one of the run's validation part

    reach, jump, start, places, effective (S,): of each stage; effective is NaN where the place is silent;
    picture (H, W, C) uint8; heat (H, W), summing to 1, or 0 where silent. facts["square"]: left, top, right
    and bottom of the stage's field in pixels, which may lie outside the picture.
    SadariError for a stage that there is not, or a picture that is none.
    """
    model: Any = run.model
    stages = stages_of(model)
    names = [each.name for each in stages]
    shown = names.index(find_stage(names, stage) or names[-1])
    seen = exhibit(run, image)
    height, width = seen.pixels.shape[:2]
    fields = fields_of(stages, run.spec.width)
    places = {field.stage: middle(field, (height, width)) for field in fields}
    macs = macs_of(type(model), model.config, run.spec.width, run.loss.outputs)
    channels = int(np.clip(MACS // (macs * len(stages)), FEW, MOST))
    heats = sensitivity(model, seen.tensor, places, channels)
    effective = np.array(
        [side_of(heats[field.stage], centre(field, places[field.stage])) for field in fields]
    ).clip(max=min(height, width))  # a square round a place beside the middle may stand out
    field, heat = fields[shown], heats[names[shown]]
    y, x = centre(field, places[field.stage])
    square = [x - field.reach / 2, y - field.reach / 2, x + field.reach / 2, y + field.reach / 2]
    numbers = {
        "rung": run.rung,
        "stage": field.stage,
        "reach": field.reach,
        "effective": float(effective[shown]),
    }
    title = "title_beyond" if field.reach > max(height, width) else "title"
    return View(
        "receptive-field",
        say(TEXTS, title if heat.any() else "title_silent", **_whole(numbers)),
        say(
            TEXTS, "caption", stage=field.stage, picture=seen.name, width=width, height=height,
            channels=min(channels, field.channels),
        ),
        _see(fields, shown, float(effective[shown]), square, (height, width)),
        {
            "reach": np.array([each.reach for each in fields]),
            "effective": effective,
            "jump": np.array([each.jump for each in fields]),
            "start": np.array([each.start for each in fields]),
            "places": np.array([each.size[0] for each in fields]),
            "stage": np.array(names),
            "picture": seen.pixels,
            "heat": heat.astype(np.float32),
        },
        {**numbers, **seen.facts, "middle": [x, y], "square": square, "side": height, "shown": shown},
        {
            key: TEXTS[key]
            for key in ("stage", "reach", "effective", "jump", "start", "places", "side", "picture", "heat")
        },
    )  # fmt: skip


def middle(field: Field, size: tuple[int, int]) -> tuple[int, int]:
    """Row and column of the place whose field lies nearest to the middle of a picture of `size`."""
    found = []
    for places, pixels in zip(field.size, size, strict=True):
        away = np.abs(field.start + field.jump * np.arange(places) - pixels / 2)
        found.append(int(away.argmin()))
    return found[0], found[1]


def centre(field: Field, place: tuple[int, int]) -> tuple[float, float]:
    """The middle of a place's field, in pixels from the picture's upper and left edge."""
    return field.start + field.jump * place[0], field.start + field.jump * place[1]


def sensitivity(
    model: Any,
    picture: Float[Tensor, "1 C H W"],
    places: Mapping[str, tuple[int, int]],
    channels: int,
) -> dict[str, Float[np.ndarray, "H W"]]:
    """How much each pixel moves one place of each stage: its share of the mean size of the gradients.

    Followed are the `channels` channels that are largest there; all zeros where each of them is silent.
    """
    values = record(model, picture)
    chosen = {}
    for stage, (i, j) in places.items():
        there = values[stage][0, :, i, j].abs()
        chosen[stage] = there.topk(min(channels, len(there))).indices
    together = max(NUMBERS // sum(value.numel() for value in values.values()), 1)
    total = {stage: torch.zeros(picture.shape[-2:], dtype=torch.float64) for stage in places}
    for first in range(0, channels, together):
        count = min(together, channels - first)
        pictures = picture.repeat(count, 1, 1, 1).requires_grad_()
        recorder = Recorder()
        with torch.enable_grad():
            model(pictures, recorder)
            for stage, (i, j) in places.items():
                some = chosen[stage][first : first + count]
                if len(some):
                    one = recorder.values[stage][torch.arange(len(some)), some, i, j].sum()
                    (slope,) = torch.autograd.grad(one, pictures, retain_graph=True)
                    total[stage] += slope.double().abs().sum((0, 1))
    return {stage: (heat / (heat.sum() or 1.0)).numpy() for stage, heat in total.items()}


def side_of(heat: Float[np.ndarray, "H W"], middle: tuple[float, float], held: float = HELD) -> float:
    """Side in pixels of the smallest square round `middle` that holds a share of the heat; NaN of none."""
    if not heat.any():
        return float("nan")
    down, across = (np.abs(np.arange(count) + 0.5 - at) for count, at in zip(heat.shape, middle, strict=True))
    away = np.maximum(down[:, None], across[None, :]).ravel()
    order = np.argsort(away, kind="stable")
    grown = np.cumsum(heat.ravel()[order])
    last = int(np.searchsorted(grown, held * grown[-1]))
    return float(2 * away[order][min(last, len(order) - 1)] + 1)


def _see(
    fields: list[Field], shown: int, effective: float, square: list[float], size: tuple[int, int]
) -> Said:
    field = fields[shown]
    if np.isnan(effective):
        return say(TEXTS, "silent", stage=field.stage)
    height, width = size
    inside = (min(square[2], width) - max(square[0], 0)) * (min(square[3], height) - max(square[1], 0))
    out = square[0] < 0 or square[1] < 0 or square[2] > width or square[3] > height
    beyond = say(TEXTS, "beyond", side=height) if out else ("", "")
    share = min(effective**2 / inside, 1.0)
    heeds = say(TEXTS, "wide" if share > WHOLE else "narrow", share=f"{share:.0%}")
    return say(
        TEXTS, "see", stage=field.stage, start=fields[0].stage, first=fields[0].reach, reach=field.reach,
        jump=field.jump, beyond=beyond, heeds=heeds,
    )  # fmt: skip


def _whole(numbers: dict[str, Any]) -> dict[str, Any]:
    """Sides of squares are whole numbers of pixels."""
    side = numbers["effective"]
    return {**numbers, "effective": "" if np.isnan(side) else f"{side:.0f}"}
