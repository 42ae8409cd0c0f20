"""Distillation (Hinton, Vinyals & Dean 2015, 1503.02531): a network learns from what another one answers.

    loss = (1 - w) * loss(s, y)  +  w * T^2 * KL(softmax(t / T) || softmax(s / T))  +  m * |P f_s - f_t|^2

with s and t the student's and the teacher's logits, f their features, y the labels. Softened by T, an answer
also says which wrong classes a picture is like; T^2 keeps the gradient's size whatever T. The teacher sees
the very crop and blend that the student sees, at every step anew (Beyer 2021, 2106.05237: a patient and
consistent teacher), as large and scaled as it learnt to see. Features, of length 1 on both sides, are matched
through a learnt projection P (after Romero 2014, 1412.6550), which is gone when training ends.

A task is wrapped, and the loop knows nothing of it: what the student was shown is heard by a hook.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.data.spec_images import ImageSpec
from sadari.data.spec_text import TextSpec
from sadari.errors import SadariError
from sadari.randaugment import grey
from sadari.tasks import Batch, Spec


@dataclass(frozen=True)
class DistillConfig:
    """How a teacher teaches; each field's text is the help of its flag."""

    temperature: float = 4.0
    """By how much the teacher's answers are softened: 1 is as they are, more shows what else is alike."""
    soft: float = 0.9
    """Share of the loss that the teacher's answers have; the labels have the rest."""
    match: float = 0.0
    """Weight of the distance between the student's features and the teacher's; 0 is none."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise SadariError(
                f"--temperature {self.temperature:g}: answers are softened by more than 0; use 4"
            )
        if not 0 <= self.soft <= 1:
            raise SadariError(f"--soft {self.soft:g}: a share of the loss lies in [0, 1]; use 0.9")
        if not 0 <= self.match < math.inf:
            raise SadariError(f"--match {self.match:g}: a weight is 0 or more; use 1, or 0 for none")


class Distill:
    """A task of classes, taught by a network. Whatever is not said here, the wrapped task says."""

    def __init__(self, task: Any, teacher: nn.Module, spec: Spec, config: DistillConfig) -> None:
        """`spec` is the teacher's; the student's are `task.spec` of pictures, else the same."""
        self.task, self.config, self.theirs = task, config, spec
        self.teacher = teacher.eval().requires_grad_(False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "task":
            raise AttributeError(name)
        return getattr(self.task, name)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`"loss"`, and its parts as means: `hard` by the labels, `soft` and `match` by the teacher."""
        if not (self.config.soft or self.config.match):
            return self.task(model, batch)
        with _heard(model, bool(self.config.match)) as heard:
            losses = self.task(model, batch)
        shown, output, features = heard["shown"], heard["output"], heard.get("features")
        with torch.no_grad(), _heard(self.teacher, bool(self.config.match)) as told:
            theirs = output.detach() if output.device.type == "meta" else self.teacher(self.seen(shown))
        share = self.config.soft
        parts = {"hard": losses["loss"], "soft": softened(output, theirs, self.config.temperature)}
        total = (1 - share) * parts["hard"] + share * parts["soft"]
        if features is not None and "features" in told:
            student: Any = model
            parts["match"] = distance(features @ student.projection.mT, told["features"])
            total = total + self.config.match * parts["match"]
        return {**losses, "loss": total, **{name: value.detach() for name, value in parts.items()}}

    def backward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Fill the gradients and return the losses, each (1,)."""
        model.zero_grad(set_to_none=True)
        losses = self(model, batch)
        losses["loss"].backward()
        return {name: value.detach().reshape(1) for name, value in losses.items()}

    def seen(self, shown: Tensor) -> Tensor:
        """What the student was shown as the teacher takes it: pictures (B, C, H, W) of its size and scale."""
        if not isinstance(self.theirs, ImageSpec):
            return shown
        return translated(shown, self.task.spec, self.theirs)

    @contextmanager
    def teaching(self, model: nn.Module) -> Iterator[None]:
        """While this lasts the student has what it needs to be taught: the projection, drawn from a seed of
        its own, where features are matched.
        """
        if not self.config.match:
            yield
            return
        student: Any = model
        own, theirs = last_layer(model).in_features, last_layer(self.teacher).in_features
        drawn = torch.randn(theirs, own, generator=torch.Generator().manual_seed(0))
        student.projection = nn.Parameter(drawn * own**-0.5)
        try:
            yield
        finally:
            del student.projection


def softened(
    student: Float[Tensor, "B O"], teacher: Float[Tensor, "B K"], temperature: float
) -> Float[Tensor, ""]:
    """T^2 KL(teacher || student), both softened by T: the mean over the rows.

    One output is the logit of class 1 of two, so that either side may have one or two.
    """
    own, theirs = (F.log_softmax(_logits(output.float()) / temperature, -1) for output in (student, teacher))
    return F.kl_div(own, theirs, reduction="batchmean", log_target=True) * temperature**2


def distance(student: Float[Tensor, "B D"], teacher: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Squared distance of the features, each of length 1: the mean over the rows."""
    ends = F.normalize(student.float()), F.normalize(teacher.float())
    return (ends[0] - ends[1]).square().sum(-1).mean()


def translated(
    pictures: Float[Tensor, "B C H W"], own: ImageSpec, theirs: ImageSpec
) -> Float[Tensor, "B D I J"]:
    """Scaled pictures of one spec as another has them: other channels, size and scale."""
    mean, deviation = (
        torch.tensor(values, device=pictures.device).view(-1, 1, 1) for values in (own.mean, own.deviation)
    )
    light = pictures * deviation + mean  # 0 to 1
    if own.channels != theirs.channels:
        light = (
            grey(light.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            if theirs.channels == 1
            else light.expand(-1, theirs.channels, -1, -1)
        )
    if light.shape[-1] != theirs.size:
        size = (theirs.size, theirs.size)
        light = F.interpolate(light, size, mode="bilinear", antialias=True, align_corners=False)
    mean, deviation = (
        torch.tensor(values, device=pictures.device).view(-1, 1, 1)
        for values in (theirs.mean, theirs.deviation)
    )
    return ((light - mean) / deviation).contiguous(memory_format=torch.channels_last)


def last_layer(model: nn.Module) -> nn.Linear:
    """The layer that gives the answer, whose input are the features. SadariError where there is none."""
    found = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not found:
        raise SadariError(
            f"--match: {type(model).__name__} has no features that could be matched; leave --match out"
        )
    return found[-1]


def check_teacher(
    task: str, kind: str, spec: Spec, teacher: Mapping[str, Any], theirs: Spec, path: object
) -> None:
    """Raise SadariError where a run, told by its config and spec, cannot teach a rung of these data."""
    if task != "classify":
        raise SadariError(
            f"--teacher {path}: task {task} has no classes to be taught; leave it out, or give labels"
        )
    asked, given = f"{task} {kind}", f"{teacher['task']} {teacher.get('kind', 'table')}"
    if asked != given:
        raise SadariError(
            f"--teacher {path} is a run of {given}, the data is {asked}; give a run of the same"
        )
    if spec.classes != theirs.classes:
        mine, other = (set(each.classes or ()) for each in (spec, theirs))
        odd = sorted(mine ^ other) or ["their order"]
        raise SadariError(
            f"--teacher {path} knows other classes than these data ({', '.join(odd[:3])}); give a run fitted "
            f"on the same classes"
        )
    if isinstance(spec, ImageSpec):
        return
    ours, its = ({**each.to_json(), "notes": None} for each in (spec, theirs))
    if isinstance(spec, TextSpec) and isinstance(theirs, TextSpec):
        ours["tokenizer"], its["tokenizer"] = (each.tokenizer.to_json() for each in (spec, theirs))
    if odd := [name for name in ours if ours[name] != its.get(name)]:
        raise SadariError(
            f"--teacher {path} reads its rows in another way (its {odd[0]} differ); fit it on the same data "
            f"with the same seed and settings"
        )


@contextmanager
def _heard(model: nn.Module, features: bool) -> Iterator[dict[str, Tensor]]:
    """What a network is shown, what it answers and, if wanted, its features, filled in when it is called."""
    heard: dict[str, Tensor] = {}

    def answered(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        heard["shown"], heard["output"] = inputs[0], output

    def reads(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        heard["features"] = inputs[0]

    with ExitStack() as hooks:
        hooks.callback(model.register_forward_hook(answered).remove)
        if features:
            hooks.callback(last_layer(model).register_forward_pre_hook(reads).remove)
        yield heard


def _logits(output: Float[Tensor, "B O"]) -> Float[Tensor, "B K"]:
    return output if output.shape[-1] > 1 else torch.cat([torch.zeros_like(output), output], -1)
