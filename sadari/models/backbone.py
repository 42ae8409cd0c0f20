"""The rungs from the foundation, of pictures: an eye that has seen a great deal, under a line.

What differs from the rungs below: it does not begin from nothing. A network trained elsewhere, on a million
photographs of a thousand things, brings a vector for each picture; `probe` leaves it as it is and fits only
the line on top (Alain & Bengio 2016, 1610.01644; Kornblith 2018, 1805.08974), `fine-tune` begins where the
probe ended (Kumar 2022, 2202.10054, for that order) and goes on:

    picture -- stage 0 -- stage 1 -- ... -- stage S-1 -- features --(dropout)-- output -- logits
                 pace q^S             ...        q         (B, D)                 1

Every stage learns at q times the rate of the one after it: what it sees, edges and textures, is everybody's
(Howard & Ruder 2018, 1801.06146; there, too, stages that thaw one after another from the last). Norms keep
the statistics that they came with. A stage that is frozen stays bit for bit; with adapters (`lora`) the whole
eye does, and a low-rank change of each of its matrices is learnt beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.dense import Recorder, unrecorded
from sadari.layers.newton import fit_logistic
from sadari.layers.rows import quiet_blas
from sadari.losses import CLASSES, Loss
from sadari.models.eye import SMALLEST, class_of, make_eye, read_words, settings_of, stages_of
from sadari.models.seeing import EyeConfig, Pictures, Seeing, has_bf16

Shape = tuple[int, int, int]
ALPHA = 2  # adapters count so many times their rank


@dataclass(frozen=True)
class ProbeConfig(EyeConfig):
    """Settings of a `Probe`; each field's text is the help of its flag."""

    penalty: float = 0.1
    """Penalty on half the squared weights of the line, as scikit-learn's 1 / C, times the features' variance;
    0 is none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.penalty < math.inf:
            raise SadariError(
                f"penalty {self.penalty}: a penalty is 0 or more; use penalty=0.1, or 0 for none"
            )


@dataclass(frozen=True)
class FineTuneConfig(ProbeConfig):
    """Settings of a `FineTune`: those of the probe that it begins from, and how it goes on."""

    dropout: float = 0.1
    """Share of features silenced at random in each training step."""
    pace: float = 0.7
    """Share of the rate of the next stage at which each stage learns, down from the line; 1 is all alike."""
    frozen: int = 0
    """Stages, from the first, that stay as they were."""
    unfreeze: float = 0.0
    """Share of the steps in which the stages thaw, one after another from the last; 0 is all at once."""
    lora: int = 0
    """Rank of the adapters that learn in place of the eye, which stays as it is; 0 is none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.dropout < 1.0:
            raise SadariError(f"dropout {self.dropout}: the share dropped lies in [0, 1); use dropout=0.1")
        if not 0.0 < self.pace <= 1.0:
            raise SadariError(f"pace {self.pace}: the share of a rate lies in (0, 1]; use pace=0.7")
        if not 0.0 <= self.unfreeze < 1.0:
            raise SadariError(f"unfreeze {self.unfreeze}: a share of the steps lies in [0, 1); use 0.3")
        if self.lora < 0:
            raise SadariError(f"lora {self.lora}: a rank is at least 1; use lora=8, or 0 for none")
        if self.lora and (self.frozen or self.unfreeze):
            raise SadariError(
                f"lora {self.lora} leaves the whole eye as it is; leave frozen and unfreeze at 0"
            )
        words = read_words(self.backbone)
        with torch.device("meta"):
            stages = len(stages_of(make_eye(words, int(words["channels"]))[0], words))
        if not 0 <= self.frozen <= stages:
            raise SadariError(f"frozen {self.frozen}: the eye has {stages} stages; use frozen=0 to {stages}")


class PictureClassifier(Seeing):
    """An eye, and a line on its features: what both rungs here are."""

    def __init__(self, config: ProbeConfig, inputs: Shape, outputs: int) -> None:
        super().__init__(config, inputs)
        self.output = nn.Linear(self.width, outputs)
        with torch.no_grad():
            self.output.weight.normal_(0.0, 0.1 * self.width**-0.5)  # until the solution takes its place
            self.output.bias.zero_()

    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B O"]:
        features = self.features(pictures, rec)
        rec = rec or unrecorded
        return rec("output", self.output(self._dropped(rec("features", features))))

    def _dropped(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return features

    @torch.no_grad()
    def fit_line(self, pictures: Pictures, targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        """Put the pretrained weights in, and solve the line on the pictures' features, each looked at once.
        Facts and notes as `Logistic.solve`.

        In bf16 where the processor has it, at two to three times the speed.
        """
        self.fill()
        bf16 = has_bf16()
        features, seconds = self.encoded(pictures, bf16)
        penalty = self.config.penalty * features.double().var(0, correction=0).sum().item()
        with quiet_blas(len(features), features.shape[1] * loss.outputs):
            answer = fit_logistic(features.numpy(), targets.numpy(), loss.outputs, penalty, loss.smoothing)
        self.output.weight.copy_(torch.from_numpy(answer.weights))
        self.output.bias.copy_(torch.from_numpy(answer.intercepts))
        return {
            "iterations": answer.steps,
            "objective": answer.objective,
            "converged": answer.converged,
            "encoding": "bf16" if bf16 else "fp32",
            "pictures_per_second": len(features) / max(seconds, 1e-9),
            "notes": [],
        }

    @staticmethod
    def parameter_count(config: ProbeConfig, inputs: Shape, outputs: int) -> int:
        """The network's, frozen ones too, O (D + 1), and r (in + out) for each matrix that has an adapter."""
        words, rank = read_words(config.backbone), getattr(config, "lora", 0)
        shape = (inputs[0], int(words["size"]), int(words["size"]))
        count = class_of(words).parameter_count(settings_of(words), shape, outputs)
        if rank:
            from sadari.methods.lora import adapted  # methods stand above models

            with torch.device("meta"):
                network, _ = make_eye(words, inputs[0])
            count += sum(rank * sum(sizes) for sizes in adapted(network).values())
        return count


class Probe(PictureClassifier):
    """A line on the features of an eye that stays as it is: only the line is fitted."""

    Config: ClassVar = ProbeConfig
    TINY: ClassVar = ProbeConfig(weights="", backbone=SMALLEST)

    def __init__(self, config: ProbeConfig, inputs: Shape, outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> Probe:
        """The eye never learns: what it gives for a picture is to stay the same."""
        super().train(mode)
        self.backbone.eval()
        return self

    def can_solve(self, loss: Loss) -> bool:
        """True for the losses over classes."""
        return loss.name in CLASSES

    def solve(self, features: Pictures, targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        """Look at each picture once and solve the line by Newton's method; see `fit_line`."""
        return self.fit_line(features, targets, loss)


class FineTune(PictureClassifier):
    """The probe, trained on from its solution, eye and all."""

    Config: ClassVar = FineTuneConfig
    TINY: ClassVar = FineTuneConfig(weights="", backbone=SMALLEST, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {
        "learning_rate": 3e-4,
        "batch_size": 32,
        "weight_decay": 0.01,
        "clip": 1.0,
        "warmup": 0.1,
        "schedule": "cosine",
    }

    def __init__(self, config: FineTuneConfig, inputs: Shape, outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.tuned = config
        self.dropout = nn.Dropout(config.dropout)
        self.stages = stages_of(self.backbone, self.words)
        self.resting = config.frozen
        if config.lora:
            from sadari.methods.lora import inject  # methods stand above models

            self.resting = len(self.stages)
            inject(self.backbone, config.lora, ALPHA * config.lora)
        else:
            self._rest(config.frozen)

    def _dropped(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        return self.dropout(features)

    def _stage(self, name: str) -> int:
        """Which stage a module or parameter of the eye belongs to; -1 for what holds several."""
        return next((i for i, stage in enumerate(self.stages) if stage.match(name)), -1)

    def _rest(self, count: int) -> None:
        """Let the first stages rest: they take no gradient, and behave as when they are only asked."""
        self.resting = count
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(self._stage(name) >= count)
        self.train(self.training)

    def train(self, mode: bool = True) -> FineTune:
        """Stages that rest are never in training, and norms nowhere in the eye: they go on by the statistics
        that they have, else the first steps would see other features than the line was solved on.
        """
        super().train(mode)
        for name, module in self.backbone.named_modules():
            if isinstance(module, nn.BatchNorm2d) or 0 <= self._stage(name) < self.resting:
                module.training = False
        return self

    def at(self, step: int, steps: int) -> None:
        """To be called before each step: thaw the stages whose time has come."""
        if not self.tuned.unfreeze:
            return
        left = max(1 - step / (self.tuned.unfreeze * steps), 0.0)  # of the thaw
        count = self.tuned.frozen + math.ceil(left * (len(self.stages) - self.tuned.frozen))
        if count != self.resting:
            self._rest(count)

    def paces(self) -> list[tuple[float, list[nn.Parameter]]]:
        """Parameters that learn at one share of the rate, each with that share; the line first."""
        parts = [(1.0, list(self.output.parameters()))]
        if self.tuned.lora:
            return [*parts, (1.0, list(self.backbone.parameters()))]
        named = [(self._stage(name), parameter) for name, parameter in self.backbone.named_parameters()]
        for stage in reversed(range(len(self.stages))):
            pace = self.tuned.pace ** (len(self.stages) - stage)
            parts.append((pace, [parameter for place, parameter in named if place == stage]))
        return parts

    def begin(self, features: Pictures, targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        """To be called once before training: the line as the probe solves it, so that the first steps, which
        would come from a line of chance, do not spoil the eye. Facts and notes as `Logistic.solve`.
        """
        return self.fit_line(features, targets, loss)
