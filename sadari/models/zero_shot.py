"""Zero-shot (Radford et al. 2021, 2103.00020, section 3.1): classes are asked for by their names.

What differs from all rungs below: not one labelled picture is needed. Two towers that have learnt elsewhere,
from captions, which words belong to which picture, put the picture and the name of every class into one
space; the nearest name is the answer. Names are put into sentences, as captions are ("a photo of a {}."),
several each, and what is kept of a class is the mean of their unit vectors (section 3.1.4):

    name -- templates -- tokens -- reading tower -- unit vectors -- mean -- length 1 -- names (O, D) --+
                                                     only while the run is fitted                      |
                                                                            scale x . name --- logits (B, O)
    picture -- seeing tower -- x / |x| -- features (B, D) ---------------------------------------------+

The run then needs no text tower: it holds the seeing tower, one vector a class, and the scale. The scale, the
inverse of a temperature, decides how sure an answer is and never which one it is: it is fitted to the labels
of the training pictures, one number by Newton's method on their log-loss (Guo et al. 2017, 1706.04599), or,
with calibrate off, is the towers' own and no label is read at all.

Alphabet: D width of the shared space, O classes (K = 2 where one logit tells two apart).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.lang import Note
from sadari.layers.dense import Recorder, unrecorded
from sadari.losses import CLASSES, Loss
from sadari.models.picture_tower import (
    SMALLEST,
    costs_of,
    described,
    dimension_of,
    make_tower,
    open_towers,
    read_words,
)
from sadari.models.prompts import PROMPTS, joined, names_of, prompts_of, split, spoken
from sadari.models.seeing import Pictures, Seeing, has_bf16

TEXTS = {
    "calibrated": (
        "classes were told by their names alone; only the temperature, one number, was fitted to the labels "
        "of {rows:,} training pictures, which changes how sure an answer is and not which one it is "
        "(--no-calibrate reads no label)",
        "범주는 이름만으로 가렸습니다. 훈련 그림 {rows:,}장의 라벨에는 온도 하나만 맞추었고, 이 값은 답이 "
        "아니라 얼마나 확신하는지만 바꿉니다(라벨을 전혀 읽지 않으려면 --no-calibrate)",
    ),
    "deaf": (
        "on the training pictures the right name is no nearer than the others, so the names say nothing to "
        "these towers; give others with --classes, or towers that learnt from such pictures",
        "훈련 그림에서 맞는 이름이 다른 이름보다 가깝지 않습니다. 이 두 인코더에게 이름은 아무 뜻이 없으니 "
        "--classes로 다른 이름을 주거나, 이런 그림으로 배운 인코더를 쓰십시오",
    ),
    "same": (
        "to these towers {one} and {other} are the same words, so they cannot be told apart; give other "
        "names with --classes",
        "이 두 인코더에게 다음 두 이름은 같은 말이어서 구별되지 않습니다: {one}, {other}. --classes로 다른 "
        "이름을 주십시오",
    ),
}
SCALES = (1e-2, 1e4)
"""The least and the greatest that a fitted scale can be."""
TOGETHER = 128  # captions that are read at once
STEPS, ENOUGH = 200, 1e-9  # of Newton's method, and its last step, relative
BLOCK = 4096  # pictures whose answers are weighed at once
ALIKE = 0.9999  # cosine from which two names are the same


@dataclass(frozen=True)
class ZeroShotConfig:
    """Settings of a `ZeroShot`; each field's text is the help of its flag."""

    towers: str = ""
    """What tells words and pictures apart: a run of pictures with captions (`sadari fit clip DATA`), or a
    folder of the hub with a CLIP or a SigLIP."""
    classes: str = ""
    """Names of the classes in the data's order, commas between, and | between several of one class; empty:
    the data's own. One with a comma stands in double quotes."""
    prompts: str = "auto"
    """What names are put into: plain (the name alone), en or ko (eight sentences each), or auto: the name
    alone and the sentences of its letters' language."""
    templates: str = ""
    """Sentences in place of these, {} where the name stands, commas between; one with a comma stands in
    double quotes."""
    calibrate: bool = True
    """Whether the temperature, one number, is fitted to the training labels; else it is the towers' own and
    no label is read."""
    backbone: str = ""
    """The seeing tower, as `network=clip width=192 ...`; empty: as the towers say."""

    def __post_init__(self) -> None:
        if self.prompts not in PROMPTS:
            raise SadariError(f"prompts {self.prompts!r}: there are {', '.join(PROMPTS)}; use prompts=auto")
        for template in split(self.templates):
            if "{}" not in template:
                raise SadariError(
                    f"templates: {template!r} has no {{}}, where the name stands; write for example "
                    f'"a photo of a {{}}."'
                )
        names = split(self.classes)
        if odd := [name for name in names if not any(names_of(name))]:
            raise SadariError(f"classes: {odd[0]!r} is no name; write at least one word for each class")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SadariError(f"classes: {twice[0]!r} names two classes; give each a name of its own")
        if not self.backbone:
            if not self.towers:
                raise SadariError(
                    "zero-shot needs towers that learnt from captions; give a run of them (sadari fit clip "
                    "DATA), or a folder of the hub with a CLIP or a SigLIP, with --from"
                )
            object.__setattr__(self, "backbone", described(self.towers))
        read_words(self.backbone)  # so that a mistake is said here

    def asked(self) -> list[list[str]]:
        """What is read for each class."""
        return prompts_of(split(self.classes), self.prompts, split(self.templates))


class ZeroShot(Seeing):
    """A seeing tower, and a unit vector for the name of each class."""

    Config: ClassVar = ZeroShotConfig
    TINY: ClassVar = ZeroShotConfig(backbone=SMALLEST)

    def __init__(self, config: ZeroShotConfig, inputs: tuple[int, int, int], outputs: int) -> None:
        nn.Module.__init__(self)
        self.config: ZeroShotConfig = config
        self.words = read_words(config.backbone)
        self.backbone, self.width = make_tower(self.words)
        self.names = nn.Parameter(F.normalize(torch.randn(_kinds(outputs), self.width), dim=-1))
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.outputs = outputs
        self.backbone.requires_grad_(False)
        self.names.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> ZeroShot:
        """The tower never learns: what it gives for a picture is to stay the same."""
        super().train(mode)
        self.backbone.eval()
        return self

    def features(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B D"]:
        """What the tower sees, each of length 1."""
        tower: Any = self.backbone
        return F.normalize(tower.encode_image(pictures, rec), dim=-1)

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B O"]:
        """1. see  2. compare with every name  3. spread by the scale."""
        features = self.features(pictures, rec)
        rec = rec or unrecorded
        return rec("output", self.log_scale.exp() * self.nearness(rec("features", features)))

    def nearness(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B O"]:
        """Cosines with the names; for one logit, how much nearer the second name is than the first."""
        found = features @ self.names.t()
        return found[:, 1:] - found[:, :1] if self.outputs == 1 else found

    def can_solve(self, loss: Loss) -> bool:
        """True for the losses over classes."""
        return loss.name in CLASSES

    @torch.no_grad()
    def solve(self, features: Pictures, targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        """Read the names of the classes and, with `calibrate`, fit the scale to the pictures' labels.

        Facts: how many `prompts` were read and `labels` used, the `scale` and the towers' `own_scale`, and
        notes. Without `calibrate` neither a picture nor a label is looked at.
        """
        self.fill()
        own = float(self.log_scale.exp())
        notes = self._same()
        labels, pace = 0, {}
        if self.config.calibrate:
            bf16 = has_bf16()
            seen, seconds = self.encoded(features, bf16)
            labels = len(seen)
            pace = {
                "encoding": "bf16" if bf16 else "fp32",
                "pictures_per_second": labels / max(seconds, 1e-9),
            }
            notes += self.calibrate(seen, targets)
        read = sum(map(len, self.config.asked())) if self.config.towers else 0
        facts = {"prompts": read, "labels": labels, "scale": float(self.log_scale.exp()), "own_scale": own}
        return {**facts, **pace, "notes": notes}

    @torch.no_grad()
    def fill(self) -> None:
        """Put the tower's weights, the vectors of the names and the towers' scale in.

        SadariError where the towers are others than were planned, or a name is nothing to their tokenizer.
        """
        if not self.config.towers:
            return
        network, found = open_towers(self.config.towers, self.words)
        whole = network.state_dict()
        self.backbone.load_state_dict({name: whole[name] for name in self.backbone.state_dict()})
        self.log_scale.copy_(network.scale().log())
        for row, prompts in enumerate(self.config.asked()):
            tokens = torch.from_numpy(found.tokens(prompts)).long()
            if len(empty := (tokens < 0).all(-1).nonzero()):
                raise SadariError(
                    f"classes: {prompts[int(empty[0])]!r} is no token to the towers' tokenizer; give another "
                    f"name with --classes"
                )
            network.check_tokens(tokens)
            vectors = [F.normalize(network.encode_text(part), dim=-1) for part in tokens.split(TOGETHER)]
            self.names[row] = F.normalize(torch.cat(vectors).mean(0), dim=0)

    @torch.no_grad()
    def calibrate(self, features: Float[Tensor, "N D"], targets: Int[Tensor, " N"]) -> list[Note]:
        """Fit the scale to the labels, and say so."""
        scale = fitted_scale(features @ self.names.t(), targets)
        self.log_scale.fill_(scale).log_()
        notes = [Note.of(TEXTS, "calibrated", rows=len(features))]
        return [*notes, Note.of(TEXTS, "deaf", "warning")] if scale <= SCALES[0] else notes

    def _same(self) -> list[Note]:
        """A warning for the first two names that mean the same."""
        likeness = (self.names @ self.names.t()).triu(1)
        places = (likeness > ALIKE).nonzero()
        names = split(self.config.classes)
        if not len(places) or not names:
            return []
        one, other = (names[int(place)] for place in places[0])
        return [Note.of(TEXTS, "same", "warning", one=one, other=other)]

    @classmethod
    def named(cls, config: ZeroShotConfig, classes: Sequence[str]) -> ZeroShotConfig:
        """The config with a name for each of the data's classes: theirs, unless others are given.

        SadariError where these are more or fewer.
        """
        given = split(config.classes)
        if given and len(given) != len(classes):
            first = ", ".join(classes[:6]) + (" ..." if len(classes) > 6 else "")
            raise SadariError(
                f"--classes names {len(given)}, the data has {len(classes)} classes ({first}); give one name "
                f"for each, in this order"
            )
        return replace(config, classes=joined(given or [spoken(label) for label in classes]))

    @classmethod
    def pictures(cls, config: ZeroShotConfig, own: int) -> dict[str, Any]:  # type: ignore[override]
        """How the tower is to be shown pictures, as it learnt: settings of `resized`."""
        words = read_words(config.backbone)
        mean, deviation = (tuple(map(float, words[name].split(","))) for name in ("mean", "deviation"))
        size, channels = int(words["size"]), int(words["channels"])
        return {"size": size, "fit": words["fit"], "channels": channels, "mean": mean, "std": deviation}

    @staticmethod
    def parameter_count(config: ZeroShotConfig, inputs: tuple[int, int, int], outputs: int) -> int:
        """The seeing tower's, K D for the names, and the scale."""
        words = read_words(config.backbone)
        return costs_of(words)[0] + _kinds(outputs) * dimension_of(words) + 1

    @staticmethod
    def macs(config: ZeroShotConfig, inputs: tuple[int, int, int], outputs: int) -> int:  # type: ignore[override]
        """Multiply-adds for one picture: the seeing tower's and K D."""
        words = read_words(config.backbone)
        return costs_of(words)[1] + _kinds(outputs) * dimension_of(words)


def fitted_scale(nearness: Float[Tensor, "N K"], targets: Int[Tensor, " N"]) -> float:
    """The scale s within `SCALES` at which the labels are likeliest: log sum e^(s z) - s z_y is least.

    It is convex in s, with slope E[z] - z_y and curvature Var[z] under softmax(s z): Newton's steps, and half
    the way in logarithms where one would leave the bracket.
    """
    low, high = SCALES
    if _slopes(nearness, targets, low)[0] >= 0:
        return low
    if _slopes(nearness, targets, high)[0] <= 0:
        return high
    scale = math.sqrt(low * high)
    for _ in range(STEPS):
        slope, curvature = _slopes(nearness, targets, scale)
        low, high = (scale, high) if slope < 0 else (low, scale)
        step = scale - slope / curvature if curvature > 0 else 0.0
        after = step if low < step < high else math.sqrt(low * high)
        if abs(after - scale) <= ENOUGH * scale:
            return after
        scale = after
    return scale


def _slopes(nearness: Tensor, targets: Tensor, scale: float) -> tuple[float, float]:
    """First and second derivative of the mean log-loss towards the scale."""
    slope = curvature = 0.0
    for found, right in zip(nearness.split(BLOCK), targets.split(BLOCK), strict=True):
        z = found.double()
        shares = (scale * z).softmax(-1)
        mean = (shares * z).sum(-1)
        slope += float((mean - z.gather(1, right.unsqueeze(1)).squeeze(1)).sum())
        curvature += float((shares * (z - mean.unsqueeze(1)).square()).sum())
    return slope / len(nearness), curvature / len(nearness)


def _kinds(outputs: int) -> int:
    """K, classes that have a name: one logit tells two apart."""
    return max(outputs, 2)
