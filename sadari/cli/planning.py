"""`--plan`: what a fit or a climb would take, told before anything is trained or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sadari.cli import say
from sadari.lang import Lang, pick

if TYPE_CHECKING:
    from sadari.fitting import Plan as Planned
    from sadari.plan import Plan

TEXTS = {
    "solved": (
        "solved directly, without a step of training; parameters: {parameters:,}",
        "훈련 없이 바로 풀림, 매개변수 {parameters:,}개",
    ),
    "end": (
        "nothing was trained or written; leave --plan out to go ahead",
        "아무것도 훈련하거나 쓰지 않았습니다. 실행하려면 --plan을 빼세요",
    ),
}


def tell(planned: Mapping[str, Planned], lang: Lang) -> None:
    """One line a rung on standard output. Raises SadariError for the first without room."""
    for name, each in planned.items():
        found = foresee(each)
        words = found.say(lang) if found else pick(TEXTS, "solved", lang, parameters=_parameters(each))
        print(f"{name}: {words}", flush=True)
        if found:
            found.check()
    say.aside(pick(TEXTS, "end", lang))


def foresee(planned: Planned) -> Plan | None:
    """What training would take, measured on a copy; None for a rung that is solved directly."""
    check(planned)
    networks = planned.networks()
    return None if _solved(networks, planned) else _plan(networks, planned)


def check(planned: Planned) -> None:
    """Raise SadariError, with the remedy, when a fit has no room in memory; only shapes are counted."""
    import torch

    with torch.device("meta"):
        networks = planned.networks()
    if not _solved(networks, planned):
        _plan(networks, planned).check()


def _plan(networks: Sequence[Any], planned: Planned) -> Plan:
    from sadari.fitting import tensors
    from sadari.layers.stack import Stack, stackable
    from sadari.plan import plan

    model = Stack.of(networks) if stackable(networks[0]) else networks[0]
    data = planned.prepared
    return plan(model, planned.task, tensors(data.train), tensors(data.validation), planned.training)


def _solved(networks: Sequence[Any], planned: Planned) -> bool:
    from sadari.fitting import can_solve

    return can_solve(networks[0], planned.loss)


def _parameters(planned: Planned) -> int:
    return sum(weight.numel() for weight in planned.networks()[0].parameters())
