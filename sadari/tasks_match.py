"""What is asked of pictures with captions: put what belongs together near each other, in one space.

CLIP (Radford et al. 2021, 2103.00020, fig. 3) or SigLIP (Zhai et al. 2023, 2303.15343, alg. 1), by what the
model has: with a bias the sigmoid loss, without one softmax. From pairs of a batch to a loss:

    pixels -- change -- scale -- encode_image -- length 1 -- x --+
                                                                 +-- every x . y of the batch -- loss
    tokens --------------------- encode_text --- length 1 -- y --+        ids: known positives are masked

A class is right or wrong; a pair is only nearer than others, so a score hangs on those it is among. The
validation pictures are therefore always asked in the same batches, each with its first caption, in the first
language that it has one in.

Networks can learn to give the same vector for everything (collapse). `health` measures what shows it:

    alignment    mean |x - y|^2 of pairs, 0 at best                     Wang & Isola 2020, 2005.10242
    uniformity   log mean exp(-2 |x - x'|^2) of others, 0 at worst      likewise
    directions   e^entropy of the eigenvalues of X X' / B, 1 at worst   Vendi score, 2210.02410
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.augment import Operation, parse
from sadari.batches_captions import caption_arrays
from sadari.data.spec_captions import CaptionSpec
from sadari.errors import SadariError
from sadari.lang import Note
from sadari.layers.contrast import exactly, sigmoid_loss, softmax_loss
from sadari.layers.tokens import is_real
from sadari.losses import Loss
from sadari.methods import gradient_cache
from sadari.tasks import EVALUATION_TOKENS, Batch, Monitor, macs_of
from sadari.tasks_images import PIXELS, normalised

TEXTS = {
    "pictures collapsed": (
        "{count:,} pictures point in only {directions:.1f} directions, so hardly any can be told apart; "
        "train with a lower --learning-rate or a larger --batch-size",
        "그림 {count:,}장의 벡터가 겨우 {directions:.1f}개 방향에 모여 있어 서로 거의 구별되지 않습니다. "
        "--learning-rate를 낮추거나 --batch-size를 키워 훈련해 보십시오",
    ),
    "captions collapsed": (
        "{count:,} captions point in only {directions:.1f} directions, so hardly any can be told apart; see "
        "that they differ, or train with a lower --learning-rate or a larger --batch-size",
        "설명 {count:,}개의 벡터가 겨우 {directions:.1f}개 방향에 모여 있어 서로 거의 구별되지 않습니다. "
        "설명이 서로 다른지 살펴보고, --learning-rate를 낮추거나 --batch-size를 키워 훈련해 보십시오",
    ),
}
TOGETHER = 256  # pairs told apart from one another in a validation batch
BLOCK = 1024  # pictures whose nearest captions are sought at once
SCORED_MACS, SCORED_PAIRS = 1 << 39, 256  # multiply-adds of a look at pairs, and pairs at the least
MEASURED = 1024  # vectors of which all distances are taken
COLLAPSED = 2.0  # directions below which a side has collapsed: its vectors have cosines of 0.9 or more
AUTO = "crop"  # without flip: captions tell left from right
FEW = 8  # pairs, whose directions say nothing


class Contrast(Loss):
    """The loss of pairs in one space; the model itself says by which formula, as its scale and bias do."""

    name = "contrast"
    task = "match"

    def __init__(self, vocabulary: int) -> None:
        self.outputs = vocabulary  # what a model of captions is built for

    @classmethod
    def of(cls, spec: CaptionSpec, name: str | None = None, **settings: Any) -> Contrast:
        """The one for these captions. Raises SadariError where another loss, or a setting, is asked for."""
        odd = [f"--{key} {value}" for key, value in settings.items() if value]
        if name not in (None, cls.name):
            odd.insert(0, f"--loss {name}")
        if odd:
            raise SadariError(
                f"{odd[0]} does not go with task match, whose loss is the rung's --contrast, softmax or "
                f"sigmoid; leave it out"
            )
        return cls(spec.vocabulary)

    def pairs(
        self,
        model: Any,
        image: Float[Tensor, "B D"],
        text: Float[Tensor, "B D"],
        ids: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, ""]:
        """In nats a pair, of embeddings of length 1; equal `ids` are masked out (`layers.contrast`)."""
        scale = model.scale()
        if model.logit_bias is None:
            return softmax_loss(image, text, scale, ids)
        return sigmoid_loss(image, text, scale, model.logit_bias, ids)


class MatchTask:
    """`match` pictures with captions.

    A batch is `{"features": (B, H, W, C) uint8, "tokens": (B, T) with PAD at the right, "ids": (B,)}`, equal
    ids where a pair is true of another's picture or caption. Arrays are those of `caption_tensors`.

    part   pairs embedded at a time in training, so that a batch may be larger than memory (the gradient is
           that of the whole batch, for a third more work); 0 = all
    """

    name = "match"
    batching: ClassVar[str] = "captions"

    def __init__(self, loss: Contrast, spec: CaptionSpec, monitor: Monitor = "auto", part: int = 0) -> None:
        self.loss, self.spec, self.monitor, self.part = loss, spec, monitor, part
        self.changes: tuple[Operation, ...] = ()

    @property
    def inputs(self) -> tuple[int, int, int]:
        """(C, H, W), as networks take a picture."""
        return self.spec.width

    def configure(self, config: Any) -> None:
        """Take what a `TrainConfig` says of changes of pictures; until then there are none.

        Raises SadariError for a change that there is not, and for blends, which mix classes.
        """
        for name in ("mixup", "cutmix"):
            if value := getattr(config, name):
                raise SadariError(f"--{name} {value:g} blends classes, and captions are none; leave it out")
        self.changes = parse(AUTO if config.augment == "auto" else config.augment)

    @property
    def together(self) -> int:
        """How many pictures are read together at most, outside training."""
        return max(PIXELS // self.spec.size**2, 1)

    def tensors(self, features: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """Pixels, 0 to 255, as a network takes them; what a locked eye has made of them stays as it is."""
        if features.ndim == 2:
            return features
        return normalised(features, self.spec.pictures)

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`"loss"`, nats a pair, of pictures changed where the model is in training; and the `"scale"`."""
        pairs = self._embedded(model, (self.changed(model, batch["features"]), batch["tokens"]))
        return self._named(model, self.loss.pairs(model, *pairs, batch.get("ids")))

    def backward(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Fill the gradients and return the losses, each (1,)."""
        model.zero_grad(set_to_none=True)
        if not 0 < self.part < len(batch["tokens"]):
            losses = self(model, batch)
            losses["loss"].backward()
        else:
            whole = self.changed(model, batch["features"]), batch["tokens"]
            parts = list(zip(*(each.split(self.part) for each in whole), strict=True))
            contrast = partial(self.loss.pairs, model, ids=batch.get("ids"))
            loss = gradient_cache.backward(partial(self._embedded, model), parts, contrast)
            losses = self._named(model, loss)
        return {name: value.detach().reshape(1) for name, value in losses.items()}

    @torch.no_grad()
    def changed(self, model: nn.Module, features: UInt8[Tensor, "B H W C"]) -> UInt8[Tensor, "B H W C"]:
        """The pictures as training sees them this time; as they are where nothing is trained."""
        if model.training and features.device.type != "meta":  # on which only shapes are counted
            for change in self.changes:
                features = change(features)
        return features

    def evaluate(self, model: nn.Module, arrays: Batch) -> Tensor:
        """Mean nats a pair over all pictures in their fixed batches, (1,), without changes or dropout."""
        every = np.arange(len(arrays["features"]))
        return self._mean(model, arrays, every, *self.embed(model, arrays, every))

    def score(self, model: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        """What the loop watches, each (1,): `loss` as `evaluate`'s, `recall`, and the `score` it minimises.

        `recall` is the share of pictures whose nearest caption is true of them, and of captions likewise,
        averaged. `score` is the mean logarithm of the ranks at which these are found, which falls long before
        any is the first, and unlike the loss does not rise where a model only grows too sure; with `monitor`
        "error" it is 1 - recall, or the loss. Of a model that takes long, over some of the pictures, evenly
        spread.
        """
        chosen = self._scored(model, arrays)
        image, text = self.embed(model, arrays, chosen)
        score = loss = self._mean(model, arrays, chosen, image, text)
        rows = torch.from_numpy(chosen)
        firsts = arrays["starts"].cpu()[rows]
        truths = arrays["subjects"].cpu()[rows], arrays["wordings"].cpu()[firsts]
        recall, rank = found_by(image, text, *truths)
        if self.monitor == "auto":
            score = rank.reshape(1) + 0 * loss  # nothing is before what is no number
        elif self.monitor == "error":
            score = 1 - recall + loss / (1 + loss) / (2 * len(chosen))  # below a single hit
        return {"loss": loss, "recall": recall.reshape(1), "score": score}

    def notes(self, model: Any, arrays: Batch) -> list[Note]:
        """Warnings about what a training has come to: sides that have collapsed."""
        chosen = self._scored(model, arrays)
        if len(chosen) < FEW:
            return []
        return health(*self.embed(model, arrays, chosen), model.scale().detach()).notes()

    def embed(
        self, model: nn.Module, arrays: Batch, pictures: np.ndarray
    ) -> tuple[Float[Tensor, "n D"], Float[Tensor, "n D"]]:
        """These pictures, by number, and the first caption of each, of length 1."""
        rows = torch.from_numpy(pictures)
        tokens, starts = arrays["tokens"], arrays["starts"][:-1].cpu()  # the first of its first language
        text = self.captions(model, tokens[starts[rows].to(tokens.device)])
        return self.images(model, arrays["features"], rows), text

    @torch.no_grad()
    def images(
        self, model: Any, features: UInt8[Tensor, "N H W C"], rows: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n D"]:
        """Embeddings of pictures, of length 1: of all, or of those numbered."""
        chosen = torch.arange(len(features)) if rows is None else rows
        found = []
        with _asked(model):
            for some in chosen.split(self.together):
                found.append(_unit(model.encode_image(self.tensors(features[some.to(features.device)]))))
        return torch.cat(found)

    @torch.no_grad()
    def captions(self, model: Any, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N D"]:
        """Embeddings of captions, of length 1; those of like length are read together, equal ones once."""
        tokens, numbers = torch.unique(tokens, dim=0, return_inverse=True)
        lengths = is_real(tokens).sum(-1).clamp(min=1)
        order = lengths.argsort(stable=True)
        found = []
        with _asked(model):
            for rows in order.split(max(EVALUATION_TOKENS // tokens.shape[1], 1)):
                found.append(_unit(model.encode_text(tokens[rows][:, : int(lengths[rows[-1]])])))
        return torch.cat(found)[order.argsort()[numbers]]

    def _embedded(self, model: nn.Module, part: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return model(self.tensors(part[0]), part[1])

    def _named(self, model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
        net: Any = model
        return {"loss": loss, "scale": net.logit_scale.detach().exp().squeeze()}

    def _scored(self, model: nn.Module, arrays: Batch) -> np.ndarray:
        """The pictures that the loop looks at, by number."""
        net: Any = model
        count, length = len(arrays["features"]), arrays["tokens"].shape[1]
        macs = macs_of(type(net), net.config, self.inputs, self.loss.outputs, length)
        most = max(SCORED_MACS // max(macs, 1), SCORED_PAIRS)
        return np.arange(count) if count <= most else np.arange(most) * count // most

    @torch.no_grad()
    def _mean(
        self, model: nn.Module, arrays: Batch, pictures: np.ndarray, image: Tensor, text: Tensor
    ) -> Tensor:
        """Mean loss of the embedded pairs in their fixed batches, (1,) double."""
        captions = caption_arrays(arrays)
        count = len(pictures)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        total = torch.zeros(1, dtype=torch.float64)
        with _asked(model):
            for some in order.tensor_split(-(-count // TOGETHER)):
                chosen = pictures[some.numpy()]
                ids = torch.from_numpy(captions.known_positives(chosen, captions.starts[chosen]))
                rows = some.to(image.device)
                loss = self.loss.pairs(model, image[rows], text[rows], ids.to(image.device))
                total += len(some) * loss.double().cpu()
        return total / count


@torch.no_grad()
def found_by(
    image: Float[Tensor, "N D"],
    text: Float[Tensor, "N D"],
    subjects: Int[Tensor, " N"],
    wordings: Int[Tensor, " N"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """How well pictures find captions that are true of them, and captions pictures; the mean of both ways.

    Returns the share that finds one before all others, and the mean of ln(rank) of the first that is true.
    True is what is said of the same subject, or in the same words. What is false and as near stands before.
    """
    hits, logs = torch.zeros(2, dtype=torch.float64)
    subjects, wordings = subjects.to(image.device), wordings.to(image.device)
    with exactly(image):
        for queries, stored in ((image, text), (text, image)):
            for rows in torch.arange(len(queries), device=image.device).split(BLOCK):
                near = queries[rows] @ stored.t()
                true = (subjects[rows, None] == subjects) | (wordings[rows, None] == wordings)
                best = near.masked_fill(~true, -torch.inf).amax(-1, keepdim=True)
                rank = 1 + ((near >= best) & ~true).sum(-1).cpu()
                hits += (rank == 1).sum()
                logs += rank.double().log().sum()
    return hits / (2 * len(image)), logs / (2 * len(image))


@dataclass(frozen=True)
class Health:
    """What shows whether both sides still tell their examples apart; `temperature` is 1 / scale."""

    pairs: int
    temperature: float
    alignment: float
    """Mean squared distance of a picture and its caption: 0 where they coincide, 2 where nothing is known."""
    uniformity: tuple[float, float]
    """Of pictures and of captions: 0 where all coincide, about -4 where all directions are taken."""
    directions: tuple[float, float]
    """Of pictures and of captions, in how many directions they point: 1 to the lesser of B and D."""

    def notes(self) -> list[Note]:
        """A warning with a remedy for each side that has collapsed."""
        return [
            Note.of(TEXTS, key, "warning", count=self.pairs, directions=found)
            for key, found in zip(TEXTS, self.directions, strict=True)
            if found < COLLAPSED
        ]


@torch.no_grad()
def health(image: Float[Tensor, "B D"], text: Float[Tensor, "B D"], scale: Float[Tensor, "*one"]) -> Health:
    """Measure embeddings of length 1, row i of each a pair, of models whose inverse temperature is `scale`.

    Distances are those of at most `MEASURED` pairs, evenly spread.
    Raises SadariError for fewer than two pairs, and where they are no numbers.
    """
    count = len(image)
    if count < 2:
        raise SadariError(f"{count} pair: health is measured among pairs; give two at least")
    if not bool(image.isfinite().all() and text.isfinite().all()):
        raise SadariError("embeddings hold NaN or infinity: the model has diverged; lower its learning rate")
    few = min(count, MEASURED)
    chosen = torch.arange(few, device=image.device) * count // few
    alignment = float((image.double() - text.double()).square().sum(-1).mean())
    x, y = image[chosen].double(), text[chosen].double()
    uniformity, directions = (_uniformity(x), _uniformity(y)), (_directions(x), _directions(y))
    return Health(count, 1 / float(scale), alignment, uniformity, directions)


def _uniformity(vectors: Float[Tensor, "n D"]) -> float:
    return float((-2 * F.pdist(vectors).square()).exp().mean().log())


def _directions(vectors: Float[Tensor, "n D"]) -> float:
    small = vectors if len(vectors) < vectors.shape[1] else vectors.t()
    spectrum = torch.linalg.eigvalsh(small @ small.t()).clamp(min=0)
    shares = spectrum / spectrum.sum().clamp(min=torch.finfo(spectrum.dtype).tiny)
    return float(torch.special.entr(shares).sum().exp())


def _unit(vectors: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    return F.normalize(vectors.float(), dim=-1)


@contextmanager
def _asked(model: nn.Module) -> Iterator[None]:
    """Without dropout, and afterwards as before."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
