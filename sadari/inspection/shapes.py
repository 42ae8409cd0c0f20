"""Shapes: how large the maps of each stage are, and what each stage costs, counted on the modules themselves.

A window of k pixels that moves by s over n with p zeros at each edge leaves floor((n + 2 p - k) / s) + 1
places. What padding and pooling do is shown by the same windows without them: unpadded maps lose k - 1
pixels a stage and the rim of the picture with them; unpooled ones stay large, and every stage behind pays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sadari.inspection.record import Recorder
from sadari.inspection.stages import Stage, fields_of, stages_of, unpadded, unpooled
from sadari.inspection.view import Said, View, say
from sadari.layers.convolution import Shape
from sadari.metrics import number

if TYPE_CHECKING:
    from sadari.runs import Run

UNITS = (("", " thousand", " million", " billion", " trillion"), ("", "만 ", "억 ", "조 "))
BYTES = 4  # of a number in single precision

TEXTS = {
    "title": (
        "{rung}: {side} × {side} pixels become {places} × {places} places of {channels} channels, for {macs} "
        "multiply-adds",
        "{rung}: {side} × {side}픽셀이 채널 {channels}개의 {places} × {places}자리가 되고, 곱셈-덧셈은 "
        "{macs}번",
    ),
    "caption": (
        "Stage by stage: the result (channels × height × width), weights, multiply-adds for one picture, and "
        "the memory that the result takes (4 bytes a number). Below, the side of the maps as it is, and with "
        "the same windows without {what}.",
        "단계마다 결과의 크기(채널 × 높이 × 너비), 가중치, 그림 한 장의 곱셈-덧셈, 결과가 차지하는 메모리(수 "
        "하나에 4바이트). 아래는 맵의 한 변: 지금 그대로, 그리고 같은 창에서 {what} 뺐을 때.",
    ),
    "alike": ("{share}, as in {count} more", "{share}, 같은 곳이 {count}개 더"),
    "both": ("padding or without pooling", "패딩이나 풀링을"),
    "padding alone": ("padding", "패딩을"),
    "see": (
        "Most weights lie in {heaviest} ({weights}), most arithmetic in {busiest} ({work}), most memory in "
        "{largest} ({memory}): where maps are large the numbers are many and the weights "
        "few.{padding}{pooling}",
        "가중치는 {heaviest}에 가장 많고({weights}), 계산은 {busiest}에({work}), 메모리는 {largest}에 가장 "
        "많이 듭니다({memory}). 맵이 큰 곳은 수가 많고 가중치는 적습니다.{padding}{pooling}",
    ),
    "padding": (
        " Without padding the last maps would have {side} places a side instead of {now}.",
        " 패딩이 없으면 마지막 맵의 한 변은 {now}자리가 아니라 {side}자리입니다.",
    ),
    "no padding": (
        " Without padding nothing would be left of the picture at {stage}.",
        " 패딩이 없으면 {stage}에서 그림이 하나도 남지 않습니다.",
    ),
    "pooling": (
        " Without pooling they would have {side}, and the convolutions would take {times} times the "
        "arithmetic.",
        " 풀링이 없으면 {side}자리이고, 합성곱 계산은 {times}배가 됩니다.",
    ),
    "no pooling": (
        " It has no pooling to leave out: strides alone shrink its maps.",
        " 뺄 풀링이 없습니다. 맵은 스트라이드만으로 작아집니다.",
    ),
    "stage": ("stage", "단계"),
    "result": ("result", "결과"),
    "parameters": ("weights", "가중치"),
    "macs": ("multiply-adds", "곱셈-덧셈"),
    "memory": ("memory of the results, bytes", "결과의 메모리(바이트)"),
    "side": ("side of the maps, places", "맵의 한 변(자리)"),
    "side_unpadded": ("without padding", "패딩 없이"),
    "side_unpooled": ("without pooling", "풀링 없이"),
    "as it is": ("as it is", "그대로"),
}


@dataclass(frozen=True)
class Cost:
    """What one stage makes and takes, for one picture."""

    stage: str
    shape: tuple[int, ...]
    """(C, H, W) of its result, or (D,)."""
    parameters: int
    macs: int


def shapes(run: Run) -> View:
    """Sizes and costs of every stage, from the first convolution to the logits, for one picture.

    parameters, macs, memory (S,); memory in bytes of the stage's result; result (S,), the shape in words. Of
    the C stages that are convolutions or poolings: side, side_unpadded, side_unpooled (C,), places along a
    side; 0 where nothing is left, and for a pooling that is left out, what came before it.
    """
    model: Any = run.model
    inputs = run.spec.width
    costs = costs_of(model, inputs)
    stages = stages_of(model)
    actual = [field.size[0] for field in fields_of(stages, inputs)]
    bare, whole = sides(unpadded(stages), inputs[1]), _carried(stages, inputs[1])
    parameters = np.array([cost.parameters for cost in costs])
    macs = np.array([cost.macs for cost in costs])
    memory = np.array([BYTES * int(np.prod(cost.shape)) for cost in costs])
    without = macs_along(unpooled(stages), inputs[1]) / max(macs_along(stages, inputs[1]), 1)
    pools = any(stage.pools for stage in stages)
    last = next(cost for cost in reversed(costs) if len(cost.shape) == 3)
    total: dict[str, Any] = {
        "macs": int(macs.sum()),
        "parameters": int(parameters.sum()),
        "memory": int(memory.sum()),
        "unpooled": float(without) if pools else None,
    }
    return View(
        "shapes",
        say(
            TEXTS, "title", rung=run.rung, side=inputs[1], places=last.shape[1], channels=last.shape[0],
            macs=counted(total["macs"]),
        ),
        say(TEXTS, "caption", what=TEXTS["both" if pools else "padding alone"]),
        say(
            TEXTS, "see", **_most(costs, parameters, macs, memory),
            padding=_without_padding(stages, actual, bare),
            pooling=_without_pooling(whole, float(without), pools),
        ),
        {
            "parameters": parameters,
            "macs": macs,
            "memory": memory,
            "stage": np.array([cost.stage for cost in costs]),
            "result": np.array([" × ".join(map(str, cost.shape)) for cost in costs]),
            "side": np.array(actual),
            "side_unpadded": np.array(bare),
            "side_unpooled": np.array(whole),
        },
        {
            "rung": run.rung,
            "inputs": list(inputs),
            "stages": [stage.name for stage in stages],
            "pools": pools,
            **total,
        },
        {key: TEXTS[key] for key in TEXTS if key in (*COLUMNS, "as it is")},
    )  # fmt: skip


COLUMNS = ("stage", "result", "parameters", "macs", "memory", "side", "side_unpadded", "side_unpooled")


def costs_of(model: nn.Module, inputs: Shape) -> list[Cost]:
    """Every stage that a recorder is told of, with all that its layers hold and multiply."""
    found: list[Cost] = []
    parameters = macs = 0

    def layer(module: nn.Module, _: Any, answer: Tensor) -> None:
        nonlocal parameters, macs
        parameters += sum(each.numel() for each in module.parameters())
        if isinstance(module, nn.Conv2d | nn.Linear):
            macs += module.weight.numel() * (answer.shape[-2:].numel() if answer.ndim == 4 else 1)

    class Told(Recorder):
        def __call__(self, name: str, value: Float[Tensor, "1 ..."]) -> Tensor:
            nonlocal parameters, macs
            if name != "features" or parameters or found[-1].shape != tuple(value.shape[1:]):
                found.append(Cost(name, tuple(value.shape[1:]), parameters, macs))
            parameters = macs = 0
            return value

    whole = (nn.Conv2d, nn.Linear)  # with the adapters on its weight, which are modules too
    inside = {part for module in model.modules() if isinstance(module, whole) for part in module.children()}
    inside = {part for each in inside for part in each.modules()}
    leaves = [
        module
        for module in model.modules()
        if module not in inside and (isinstance(module, whole) or not list(module.children()))
    ]
    hooks = [module.register_forward_hook(layer) for module in leaves]
    try:
        with torch.no_grad():
            model(torch.zeros(1, *inputs), Told())
    finally:
        for hook in hooks:
            hook.remove()
    return found


def sides(stages: Sequence[Stage], pixels: int) -> list[int]:
    """Places along a side after each stage; 0 from where a window no longer fits."""
    found, n = [], pixels
    for stage in stages:
        for window in stage.branch:
            n = max(window.size(n), 0) if n > 0 else 0
        found.append(n)
    return found


def macs_along(stages: Sequence[Stage], pixels: int) -> int:
    """Multiply-adds of all convolutions for a square picture, those of shortcuts included."""
    total, n = 0, pixels
    for stage in stages:
        for window in stage.branch:
            n = window.size(n)
            total += window.macs(n, n) if window.outputs else 0
        total += sum(window.macs(n, n) for window in stage.aside)
    return total


def counted(count: int) -> Said:
    """A large count in words, to three digits: 714 million, 7.14억."""
    return _in(count, 1000, UNITS[0]), _in(count, 10_000, UNITS[1])


def _in(count: int, base: int, names: Sequence[str]) -> str:
    power = 0
    while count >= base ** (power + 1) and power + 1 < len(names):
        power += 1
    return f"{number(count / base**power)}{names[power]}"


def _carried(stages: Sequence[Stage], pixels: int) -> list[int]:
    """Sides without poolings, one for each stage: a pooling that is left out hands on what it was given."""
    found, n = [], pixels
    for stage in stages:
        if not stage.pools:
            (n,) = sides([stage], n)
        found.append(n)
    return found


def _most(costs: list[Cost], parameters: np.ndarray, macs: np.ndarray, memory: np.ndarray) -> dict[str, Any]:
    words: dict[str, Any] = {}
    for where, share, values in (
        ("heaviest", "weights", parameters),
        ("busiest", "work", macs),
        ("largest", "memory", memory),
    ):
        at = int(values.argmax())
        most = f"{values[at] / max(int(values.sum()), 1):.0%}"
        alike = int((values == values[at]).sum()) - 1
        words |= {
            where: costs[at].stage,
            share: say(TEXTS, "alike", share=most, count=alike) if alike else most,
        }
    return words


def _without_padding(stages: list[Stage], actual: list[int], bare: list[int]) -> Said:
    if bare[-1] == 0:
        return say(TEXTS, "no padding", stage=stages[bare.index(0)].name)
    return say(TEXTS, "padding", side=bare[-1], now=actual[-1])


def _without_pooling(whole: list[int], times: float, pools: bool) -> Said:
    if not pools:
        return say(TEXTS, "no pooling")
    return say(TEXTS, "pooling", side=whole[-1], times=f"{times:.3g}" if times < 100 else f"{times:,.0f}")
