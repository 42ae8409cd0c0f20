"""Depth: error on training and test pictures of ever deeper plain networks and of residual ones.

A deeper network could copy a shallower one and do nothing in the layers that are too many, so it should never
be worse; trained by gradient descent, plain ones are, on the very pictures that they learn from. Shortcuts
make doing nothing the easy case (He et al. 2015, 1512.03385, figures 1 and 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.inspection.rows import PARTS, Part
from sadari.inspection.view import View, say
from sadari.inspection.watching import watchers
from sadari.models.resnet import VARIANTS, ResNet
from sadari.tasks import build, make_task
from sadari.train import TrainConfig, train

if TYPE_CHECKING:
    from sadari.runs import Run

KINDS = ("plain", "resnet")
WHERE = ("train", "other")
DEPTHS = (20, 32, 56)
STEPS = 300
BATCH = 32
LOOKS = 6  # times that errors are measured
SCORED = 800  # pictures on which they are, of each part
NEAR = 0.02  # of a share wrong: networks that differ by less are said to do as well

TEXTS = {
    "worse": (
        "Plain networks get worse with depth: {few} layers have {plain_few} of the training pictures wrong, "
        "{many} layers {plain_many}; with shortcuts {resnet_few} and {resnet_many}",
        "평범한 망은 깊어지면 더 나빠집니다: 훈련 그림 오답이 {few}층 {plain_few}, {many}층 {plain_many}. "
        "지름길이 있으면 {resnet_few}, {resnet_many}",
    ),
    "alike": (
        "{many} layers have {plain_many} of the training pictures wrong without shortcuts and {resnet_many} "
        "with them ({few} layers: {plain_few} and {resnet_few})",
        "{many}층의 훈련 그림 오답은 지름길이 없으면 {plain_many}, 있으면 {resnet_many}({few}층: "
        "{plain_few}, {resnet_few})",
    ),
    "one": (
        "{many} layers have {plain_many} of the training pictures wrong without shortcuts and {resnet_many} "
        "with them",
        "{many}층의 훈련 그림 오답은 지름길이 없으면 {plain_many}, 있으면 {resnet_many}",
    ),
    "caption": (
        "{name}, {size} × {size} pixels: share of pictures with a wrong answer along {steps} steps of "
        "{batch} pictures, measured on {train} training and {scored} {part} pictures. All networks see the "
        "same pictures in the same order, with the same optimizer ({optimizer}, learning rate {rate}).",
        "{name}, {size} × {size}픽셀: 그림 {batch}장씩 {steps}걸음을 배우는 동안 틀린 그림의 비율. 훈련 "
        "그림 {train}장과 {part} 그림 {scored}장에서 잰다. 모든 망이 같은 그림을 같은 순서로 보고 같은 "
        "방법({optimizer}, 학습률 {rate})으로 배운다.",
    ),
    "see": (
        "Dashed: pictures that the networks learn from. If depth only led to learning by heart, the deepest "
        "plain network would be best there and worst on the others. {found} A block with a shortcut only has "
        "to add what is missing, and zero is easy to learn.",
        "점선은 망이 보고 배우는 그림입니다. 깊이가 외우기만 부른다면 가장 깊은 평범한 망이 거기서는 가장 "
        "좋고 다른 그림에서 나빠야 합니다. {found} 지름길이 있는 블록은 모자란 것만 더하면 되고, 0은 배우기 "
        "쉽습니다.",
    ),
    "found worse": (
        "But {many} layers without shortcuts are worse than {few} on the training pictures too: descent does "
        "not find weights that are there.",
        "그런데 지름길 없는 {many}층은 훈련 그림에서도 {few}층보다 나쁩니다. 있는 답을 경사 하강이 찾지 "
        "못하는 것입니다.",
    ),
    "found alike": (
        "Here {many} layers without shortcuts learn the training pictures as well as {few} do: they are easy "
        "enough, or {steps} steps are enough. Fewer --steps or more --depths may part them.",
        "여기서는 지름길 없는 {many}층도 훈련 그림을 {few}층만큼 배웠습니다. 그림이 쉽거나 {steps}걸음으로 "
        "충분한 것입니다. --steps를 줄이거나 --depths를 늘리면 갈라질 수 있습니다.",
    ),
    "found slow": (
        "Here {many} layers with shortcuts are no better than {few}: in {steps} steps the deepest has not "
        "come far; give it more --steps.",
        "여기서는 지름길이 있어도 {many}층이 {few}층보다 낫지 않습니다. {steps}걸음으로는 가장 깊은 망이 "
        "멀리 가지 못했으니 --steps를 늘려 보십시오.",
    ),
    "found one": (
        "What going deeper does, one depth cannot say: give --depths 20,56.",
        "더 깊어지면 어떻게 되는지는 깊이 하나로 알 수 없습니다. --depths 20,56처럼 주십시오.",
    ),
    "steps": ("step", "걸음"),
    "depths": ("layers", "층 수"),
    "error": ("pictures wrong", "틀린 그림"),
    "train": ("training pictures", "훈련 그림"),
    "part": ("{part} pictures", "{part} 그림"),
    "plain": ("plain", "평범한 망"),
    "resnet": ("with shortcuts (resnet)", "지름길이 있는 망 (resnet)"),
    "curve": ("{kind}, {part}", "{kind}, {part}"),
}


def depth(run: Run, *, depths: Sequence[int] = DEPTHS, steps: int = STEPS, part: Part = "test") -> View:
    """Train a plain and a residual network of each of A `depths` on the run's pictures, all alike.

    depths (A,), steps (S,): when errors were measured, from 0; plain_train, plain_other, resnet_train,
    resnet_other (A, S): the share of training pictures, and of those of `part`, given a wrong class.
    facts["parameters"]: of each network, kind by kind. Takes a while; nothing is kept.
    Raises SadariError for a depth that He et al. have no network for, for no step, or for part "train".
    """
    depths = _checked(depths, steps, part)
    prepared = run.data()
    arrays = {name: _tensors(prepared, name) for name in ("train", part)}
    config = TrainConfig(
        **{
            **ResNet.TRAINING,
            **_how(run),
            "budget_steps": steps,
            "log_every": -(-steps // LOOKS),
            "evaluate_every": -(-steps // LOOKS),
            "seed": run.config["seed"],
        }
    )
    task = make_task("images", "classify", run.loss, run.spec, "error", len(arrays["train"]["targets"]))
    few = {name: _few(rows) for name, rows in arrays.items()}
    errors: dict[str, list[list[float]]] = {f"{kind}_{name}": [] for kind in KINDS for name in WHERE}
    parameters: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for layers in depths:
        for kind in KINDS:
            name = f"{kind}{layers}"
            network = build(
                "resnet", "classify", {"variant": name}, run.spec.width, run.loss, config.seed, "images"
            )
            parameters[kind].append(sum(weight.numel() for weight in network.parameters()))
            measured = Measured(network, task, few["train"], few[part])
            place = f"{name} {len(errors[f'{kind}_train']) * 2 + KINDS.index(kind) + 1}/{2 * len(depths)}"
            train(network, task, arrays["train"], {}, config, watchers=[measured, *watchers(place)])
            errors[f"{kind}_train"].append(measured.train)
            errors[f"{kind}_other"].append(measured.other)
    found = {name: np.array(values) for name, values in errors.items()}
    values: dict[str, Any] = {
        "name": prepared.table.name,
        "size": run.spec.size,
        "few": depths[0],
        "many": depths[-1],
        "steps": steps,
        "batch": BATCH,
        "train": len(few["train"]["targets"]),
        "scored": len(few[part]["targets"]),
        "part": PARTS[part],
        "optimizer": config.optimizer,
        "rate": config.learning_rate,
        **{f"{kind}_few": f"{found[f'{kind}_train'][0, -1]:.1%}" for kind in KINDS},
        **{f"{kind}_many": f"{found[f'{kind}_train'][-1, -1]:.1%}" for kind in KINDS},
    }
    kind = _kind(found)
    return View(
        "depth",
        say(TEXTS, kind if kind in ("worse", "one") else "alike", **values),
        say(TEXTS, "caption", **values),
        say(TEXTS, "see", found=say(TEXTS, f"found {kind}", **values)),
        {"depths": np.array(depths), "steps": np.array(measured.steps), **found},
        {"found": kind, "part": part, "parameters": parameters, "learning_rate": config.learning_rate},
        {
            **{name: TEXTS[name] for name in ("steps", "depths", "error", "train", *KINDS)},
            "other": say(TEXTS, "part", part=PARTS[part]),
            **{
                f"{kind}_{name}": say(
                    TEXTS,
                    "curve",
                    kind=TEXTS[kind],
                    part=TEXTS["train"] if name == "train" else say(TEXTS, "part", part=PARTS[part]),
                )
                for kind in KINDS
                for name in WHERE
            },
        },
    )


def _kind(found: dict[str, np.ndarray]) -> str:
    """What became of depth, judged by the training pictures after the last step."""
    if len(found["plain_train"]) == 1:
        return "one"
    gained = {kind: found[f"{kind}_train"][-1, -1] - found[f"{kind}_train"][0, -1] for kind in KINDS}
    if gained["plain"] > max(NEAR, 2 * gained["resnet"]):
        return "worse"
    return "slow" if gained["resnet"] > NEAR else "alike"


class Measured:
    """A watcher that measures the errors of a network before the first step and whenever the loop logs."""

    def __init__(
        self, network: nn.Module, task: Any, train: dict[str, Tensor], other: dict[str, Tensor]
    ) -> None:
        self.network, self.task, self.parts = network, task, (train, other)
        self.steps: list[int] = []
        self.train: list[float] = []
        self.other: list[float] = []

    def start(self, facts: dict[str, Any]) -> None:
        self({"step": 0})

    def __call__(self, record: dict[str, Any]) -> None:
        self.steps.append(record["step"])
        for errors, part in zip((self.train, self.other), self.parts, strict=True):
            errors.append(float(self.task.score(self.network, part)["error"]))


def _checked(depths: Sequence[int], steps: int, part: str) -> list[int]:
    known = sorted(int(name[5:]) for name in VARIANTS if name.startswith("plain"))
    unknown = [layers for layers in depths if layers not in known]
    if unknown or not depths:
        said = f"--depths {unknown[0]}: there is no plain{unknown[0]}" if unknown else "--depths names none"
        raise SadariError(f"{said}; choose from {', '.join(map(str, known))}")
    if steps < 1:
        raise SadariError(f"--steps {steps}: give 1 or more")
    if part not in ("validation", "test"):
        raise SadariError(f"--part {part} stands beside the training pictures; choose validation or test")
    return sorted(set(depths))


def _how(run: Run) -> dict[str, Any]:
    """What the run says of how to train, where it does not depend on its rung."""
    return {
        "augment": run.config["train"]["augment"],
        "batch_size": BATCH,
        "patience": 0,
        "precision": "fp32",
        "monitor": "error",
    }


def _tensors(prepared: Any, part: str) -> dict[str, Tensor]:
    arrays = getattr(prepared, part)
    return {"features": torch.from_numpy(arrays.features), "targets": torch.from_numpy(arrays.targets)}


def _few(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """SCORED of the rows, evenly spread."""
    count = len(arrays["targets"])
    if count <= SCORED:
        return arrays
    chosen = torch.arange(SCORED) * count // SCORED
    return {name: values[chosen] for name, values in arrays.items()}
