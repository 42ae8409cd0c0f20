"""Features: what the filters of some stages answer to one picture, the strongest channels as pictures.

A map holds one filter's answer at every place (Zeiler & Fergus 2013, 1311.2901, look at the same maps). Early
ones are large and answer to edges and colours; late ones are small, and few places are not zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.errors import SadariError
from sadari.inspection.exhibit import exhibit
from sadari.inspection.record import record
from sadari.inspection.stages import find_stage, stages_of
from sadari.inspection.view import View, say

if TYPE_CHECKING:
    from sadari.runs import Run

STAGES = 5  # that are shown, from the first to the last
MOST = 12  # channels of a stage that can be shown

TEXTS = {
    "title": (
        "{rung} says “{answer}” ({sure}): {first} answers at {many} × {many} places, {stage} at {few} × "
        "{few}",
        "{rung}의 답은 “{answer}”({sure}): {first}의 답은 {many} × {many}자리, {stage}의 답은 {few} × "
        "{few}자리",
    ),
    "title_one": (
        "{rung} says “{answer}” ({sure}): {alive} of {channels} channels of {stage} answer to this picture",
        "{rung}의 답은 “{answer}”({sure}): {stage}의 채널 {channels}개 중 {alive}개가 이 그림에 반응한다",
    ),
    "caption": (
        "Above, {picture}. Below, a row a stage: its {top} channels of the largest mean, strongest first, "
        "with their numbers; at the left the stage and the size of its maps. The darker, the larger the "
        "answer at that place; each row has a scale of its own.",
        "위는 {picture}. 아래는 단계마다 한 줄: 평균이 가장 큰 채널 {top}개를 센 것부터 번호와 함께, 왼쪽은 "
        "단계와 맵의 크기. 짙을수록 그 자리의 답이 크며 줄마다 눈금이 다르다.",
    ),
    "see": (
        "A map shows where one filter found what it looks for. Of {first} {zero_first} of the values are "
        "zero, of {stage} {zero_last}; {silent}. Places grow fewer and see further: early maps still look "
        "like the picture, late ones say that something is there more than where.",
        "맵은 필터 하나가 찾던 것을 어디서 찾았는지 보입니다. {first}에서는 값의 {zero_first}, {stage}에서는 "
        "{zero_last}가 0이고, {silent}. 자리는 점점 줄고 더 넓게 봅니다. 앞쪽 맵은 아직 그림을 닮았고, 뒤쪽 "
        "맵은 어디보다 무엇이 있는지를 말합니다.",
    ),
    "see_one": (
        "A map shows where one filter found what it looks for. Of {stage} {zero_last} of the values are "
        "zero; {silent}.",
        "맵은 필터 하나가 찾던 것을 어디서 찾았는지 보입니다. {stage}에서는 값의 {zero_last}가 0이고, "
        "{silent}.",
    ),
    "some": (
        "{count} of its {channels} channels are silent on this picture and wait for others",
        "채널 {channels}개 중 {count}개는 이 그림에 말없이 다른 그림을 기다립니다",
    ),
    "none": (
        "each of its {channels} channels answers somewhere on this picture",
        "채널 {channels}개가 모두 이 그림 어딘가에 반응합니다",
    ),
    "stage": ("stage", "단계"),
    "zero": ("share of values that are zero", "0인 값의 비율"),
    "silent": ("channels that are all zero", "모두 0인 채널 수"),
    "channels": ("channels", "채널 수"),
    "places": ("places along a side", "한 변의 자리 수"),
    "picture": ("the picture's pixels", "그림의 픽셀"),
    "answer": ("answer of a filter", "필터의 답"),
}


def features(run: Run, *, image: str | None = None, stage: str | None = None, top: int = 8) -> View:
    """The `top` strongest channels of some stages, or of `stage` alone, on one picture.

    image    file of the picture; else one of the run's validation part

    zero, silent, channels, places (S,): of the stages shown; map{i} (top, h, w) and channel{i} (top,) of
    stage i: maps, strongest mean first, and their numbers from 0; picture (H, W, C) uint8.
    SadariError for a `top` outside 1 to 12, a stage that there is not, or a picture that is none.
    """
    if not 1 <= top <= MOST:
        raise SadariError(f"--top {top}: a row holds 1 to {MOST} maps; give a number among these")
    names = [each.name for each in stages_of(run.model)]
    chosen = [only] if (only := find_stage(names, stage)) else spread(names)
    seen = exhibit(run, image)
    values = {name: value[0] for name, value in record(run.model, seen.tensor).items() if name in chosen}
    arrays: dict[str, Any] = {
        "zero": np.array([float((values[name] == 0).double().mean()) for name in chosen]),
        "silent": np.array([int((values[name] == 0).flatten(1).all(1).sum()) for name in chosen]),
        "channels": np.array([len(values[name]) for name in chosen]),
        "places": np.array([values[name].shape[1] for name in chosen]),
        "stage": np.array(chosen),
        "picture": seen.pixels,
    }
    for i, name in enumerate(chosen):
        maps = values[name].double().numpy()
        order = np.argsort(-maps.mean((1, 2)), kind="stable")[:top]
        arrays |= {f"map{i}": maps[order].astype(np.float32), f"channel{i}": order}
    said = {
        "rung": run.rung,
        "answer": seen.said,
        "sure": f"{seen.facts['probability']:.0%}",
        "many": arrays["places"][0],
        "few": arrays["places"][-1],
        "first": chosen[0],
        "stage": chosen[-1],
        "channels": arrays["channels"][-1],
        "silent": say(
            TEXTS,
            "some" if arrays["silent"][-1] else "none",
            count=arrays["silent"][-1],
            channels=arrays["channels"][-1],
        ),
        "zero_first": f"{arrays['zero'][0]:.0%}",
        "zero_last": f"{arrays['zero'][-1]:.0%}",
        "alive": arrays["channels"][-1] - arrays["silent"][-1],
    }
    return View(
        "features",
        say(TEXTS, "title_one" if only else "title", **said),
        say(TEXTS, "caption", picture=seen.name, top=min(top, int(arrays["channels"].max()))),
        say(TEXTS, "see_one" if only else "see", **said),
        arrays,
        {"rung": run.rung, **seen.facts},
        {
            **{key: TEXTS[key] for key in ("stage", "zero", "silent", "channels", "places", "picture")},
            **{f"map{i}": (f"{name}: {TEXTS['answer'][0]}", f"{name}: {TEXTS['answer'][1]}")
               for i, name in enumerate(chosen)},
        },
    )  # fmt: skip


def spread(names: list[str], most: int = STAGES) -> list[str]:
    """At most so many of the names, evenly spread, the first and the last among them."""
    places = np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int)
    return [names[place] for place in places]
