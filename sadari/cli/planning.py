"""`--plan`: what a fit or a climb would take, told before anything is trained or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
    parts = tensors(planned.prepared.train), tensors(planned.prepared.validation)
    if (
        hasattr(model, "rehearsed")
        and not hasattr(parts[0], "stream")
        and not getattr(planned.task, "changes", ())
    ):
        found = _rehearsed(model, planned, *parts)
        if found is not None:
            return found
    return plan(model, planned.task, *parts, planned.training)


def _rehearsed(locked: Any, planned: Planned, *parts: Mapping[str, Any]) -> Plan | None:
    """The plan of towers that answer once, before the first step; None where they learn too."""
    from sadari.plan import MARGIN, plan
    from sadari.tasks_images import Pictures
    from sadari.train import left_of

    spec: Any = planned.prepared.spec
    pictures = [Pictures(part["features"], spec.pictures) for part in parts]
    made = locked.rehearsed(pictures, [part["tokens"] for part in parts])
    if made is None:
        return None
    lines, features, rows, seconds = made
    train, validation = [
        {**part, "features": seen, "tokens": said}
        for part, seen, said in zip(parts, features, rows, strict=True)
    ]
    found = plan(lines, planned.task, train, validation, left_of(planned.training, seconds))
    peak = found.peak_bytes + lines.vectors.nbytes + sum(seen.nbytes for seen in features)
    fits = peak <= MARGIN * found.available_bytes
    remedy = "" if fits else found.remedy or "give fewer pictures, or captions"
    return replace(found, peak_bytes=peak, fits=fits, remedy=remedy, seconds=found.seconds + seconds)


def _solved(networks: Sequence[Any], planned: Planned) -> bool:
    from sadari.fitting import can_solve

    return can_solve(networks[0], planned.loss)


def _parameters(planned: Planned) -> int:
    return sum(weight.numel() for weight in planned.networks()[0].parameters())
