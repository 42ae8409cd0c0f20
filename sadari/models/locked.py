"""Locked towers (LiT, Zhai et al. 2021, 2111.07991): an eye and a reader that are there, joined by two lines.

What differs from the rungs below (clip, siglip): neither tower begins from nothing. An eye that has learnt
elsewhere to tell pictures apart and an encoder that has learnt elsewhere to tell sentences apart stay as they
are; only the way from each into one space is learnt, by either loss. Thousands of pairs then do what takes
millions otherwise. LiT locks the picture's tower alone; here both are locked, and layers of either, from the
last one down, can be let loose.

    picture -- eye (locked) ----- features -- level -- image_projection: W x + b ---+
                                   (B, E)                                           |
                                           exp(logit_scale) x . y (+ logit_bias) ---+
                                   (B, C)                                           |
    caption -- reader (locked) -- vector ---- level -- text_projection: W y + b ----+

    level     x less the mean of its numbers, over their deviation: these are near 1 for an eye, near 0.05 for
              a vector of length 1, beside which a bias that starts at 0 would move twenty times as fast

Alphabet: B batch, T tokens of a caption, E features of a picture, C width of a caption's vector, D width of
the shared space, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.lang import Note
from sadari.layers.convolution import Shape
from sadari.layers.dense import Recorder, unrecorded
from sadari.layers.tokens import PAD, trimmed
from sadari.models.encoder import SMALLEST as SMALLEST_READER
from sadari.models.encoder import ProbeConfig as ReaderConfig
from sadari.models.encoder import SentenceClassifier, foreign_notes
from sadari.models.eye import SMALLEST, class_of, make_eye, read_words, settings_of, stages_of
from sadari.models.seeing import EyeConfig, Seeing, has_bf16
from sadari.models.seeing import Pictures as Looked
from sadari.models.transformer import Encoder
from sadari.models.two_towers import (
    Captions,
    Embeddings,
    Pictures,
    TwoTowers,
    check_contrast,
    check_ids,
    temperature,
)
from sadari.pretrained import find_pretrained

FEW = 16  # pictures by which the time for all is told


@dataclass(frozen=True)
class LockedConfig(EyeConfig):
    """Settings of `Locked`; each field's text is the help of its flag."""

    texts: str = "minilm"
    """The reader: minilm (`sadari data get minilm`), a folder with config.json, model.safetensors and
    tokenizer.json, or "" for one that has read nothing."""
    encoder: str = ""
    """Sizes of the reader, as `width=384 layers=6 ...`; empty: as its weights say."""
    dimension: int = 384
    """Width D of the shared space."""
    contrast: str = "softmax"
    """What the projections learn by: softmax (each picks its partner out of the batch) or sigmoid (each pair
    alone is told to belong together or not)."""
    thaw_image: int = 0
    """Stages of the eye, from the last, that learn too."""
    thaw_text: int = 0
    """Layers of the reader, from the last, that learn too; with all of them its embeddings do."""
    pace: float = 0.1
    """Share of the projections' rate at which these learn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.encoder:
            object.__setattr__(self, "encoder", self.reader.encoder)
        if self.dimension < 1:
            raise SadariError(f"dimension {self.dimension}: at least 1 is needed; use dimension=384")
        if not 0.0 < self.pace <= 1.0:
            raise SadariError(f"pace {self.pace}: the share of a rate lies in (0, 1]; use pace=0.1")
        check_contrast(self.contrast)
        words = read_words(self.backbone)
        with torch.device("meta"):
            stages = len(stages_of(make_eye(words, int(words["channels"]))[0], words))
        layers = self.reader.sizes(1).layers
        for name, most, what in (
            ("thaw_image", stages, f"the eye has {stages} stages"),
            ("thaw_text", layers, f"the reader has {layers} layers"),
        ):
            if not 0 <= (value := getattr(self, name)) <= most:
                raise SadariError(f"{name} {value}: {what}; use {name}=0 to {most}")

    @property
    def reader(self) -> ReaderConfig:
        """The reader's own settings."""
        return ReaderConfig(weights=self.texts, encoder=self.encoder)


class Locked(TwoTowers, Seeing):
    """Embeddings of pictures and of captions, by towers that stay as they came."""

    Config: ClassVar = LockedConfig
    TINY: ClassVar = LockedConfig(
        weights="", backbone=SMALLEST, texts="", encoder=SMALLEST_READER, dimension=8
    )
    TRAINING: ClassVar[dict[str, Any]] = {
        "learning_rate": 1e-3,
        "batch_size": 256,
        "weight_decay": 0.01,
        "clip": 1.0,
        "warmup": 0.05,
        "schedule": "cosine",
        "augment": "none",  # what a locked eye makes of a picture is then made once
    }
    special: ClassVar[bool] = True
    """Its tokens need the tokenizer's own [CLS] ... [SEP] round each caption."""

    def __init__(self, config: LockedConfig, inputs: Shape, vocabulary: int) -> None:
        super().__init__(config, inputs)
        self.config: LockedConfig = config
        self.inputs, self.vocabulary = inputs, vocabulary
        sizes = config.reader.sizes(vocabulary)
        reader: Any = SentenceClassifier(ReaderConfig(weights="", encoder=config.encoder), vocabulary, 1)
        reader.output = nn.Identity()  # its vectors are asked for, not a line in them
        self.reader: SentenceClassifier = reader
        self.image_projection = nn.Linear(self.width, config.dimension)
        self.text_projection = nn.Linear(sizes.width, config.dimension)
        self.logit_scale, self.logit_bias = temperature(config.contrast)
        self.stages = stages_of(self.backbone, self.words)
        self.resting = len(self.stages) - config.thaw_image
        self._lock()
        _initialise(self)

    def fill(self) -> None:
        """Put the pretrained weights of both towers in, where there are any.

        SadariError where the reader's vocabulary is another than that of the tokens.
        """
        super().fill()
        if not self.config.texts:
            return
        found = find_pretrained(self.config.texts)
        if found.sizes["vocabulary"] != self.vocabulary:
            raise SadariError(
                f"the tokens come from a vocabulary of {self.vocabulary:,}, the reader {self.config.texts} "
                f"knows {found.sizes['vocabulary']:,}; recode the captions with its own tokenizer.json"
            )
        encoder = self.reader.encoder
        wanted = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
        encoder.load_state_dict(found.read(wanted))

    def begin(self, features: Any, targets: Captions, loss: Any = None) -> dict[str, list[Note]]:
        """To be called once before training: `fill`; and a note where the reader does not know the language
        of the captions' tokens `targets`."""
        self.fill()
        return {"notes": foreign_notes(targets, self.config.texts)}

    @torch.no_grad()
    def kept(
        self, pictures: Sequence[Looked], captions: Sequence[Captions], bf16: bool | None = None
    ) -> tuple[Lines, list[Float[Tensor, "N E"]], list[Int[Tensor, "K 1"]]] | None:
        """What is left to learn where both towers are locked, and what it is shown: both towers' answers.

        pictures   of each part, normalised; what the eye makes of them is returned in their place
        captions   of each part; in their place are the numbers of rows in a table that the `Lines` hold, in
                   which a caption that is said often stands once
        bf16       products in bf16; else where the processor has them

        None where a tower learns too. The `Lines` share their parameters with this model.
        """
        if self.config.thaw_image or self.config.thaw_text:
            return None
        bf16 = has_bf16() if bf16 is None else bf16
        features = [self.encoded(part, bf16)[0] for part in pictures]
        once, rows = _once(captions)
        return Lines(self, self.reader.encode(once, bf16)), features, rows

    @torch.no_grad()
    def rehearsed(
        self, pictures: Sequence[Looked], captions: Sequence[Captions]
    ) -> tuple[Lines, list[Float[Tensor, "N E"]], list[Int[Tensor, "K 1"]], float] | None:
        """What `kept` returns in shape alone, all answers 0, for whoever plans; and the seconds that the real
        ones would take, by a few of them; 0 on torch's "meta" device."""
        if self.config.thaw_image or self.config.thaw_text:
            return None
        once, rows = _once(captions)
        device = self.image_projection.weight.device
        seconds = 0.0
        if device.type != "meta":
            few, some = pictures[0][:FEW], once[:: len(once) // (4 * FEW) + 1]
            began, bf16 = time.perf_counter(), has_bf16()
            self.encode(few, bf16)
            seen = time.perf_counter()
            self.reader.encode(some, bf16)
            seconds = sum(map(len, pictures)) / len(few) * (seen - began)
            seconds += len(once) / len(some) * (time.perf_counter() - seen)
        features = [torch.zeros(len(part), self.width, device=device) for part in pictures]
        table = torch.zeros(len(once), self.text_projection.in_features, device=device)
        return Lines(self, table), features, rows, seconds

    def train(self, mode: bool = True) -> Locked:
        """What is locked is never in training, and norms nowhere in the eye: they keep their statistics."""
        super().train(mode)
        for name, module in self.backbone.named_modules():
            if isinstance(module, nn.BatchNorm2d) or self._stage(name) < self.resting:
                module.training = False
        self.reader.eval()
        return self

    def encode_image(self, pictures: Pictures, rec: Recorder | None = None) -> Embeddings:
        """Pictures of any size that the eye takes, not normalised."""
        return self.project_image(self.features(pictures, rec), rec)

    def encode_text(self, tokens: Captions, rec: Recorder | None = None) -> Embeddings:
        """Captions, not normalised; PAD stands behind them and changes nothing.

        SadariError where a caption is longer than the reader has positions for.
        """
        return self.project_text(self.reader.vectors(trimmed(tokens), rec), rec)

    def project_image(self, features: Float[Tensor, "B E"], rec: Recorder | None = None) -> Embeddings:
        """What is learnt for pictures: what a locked eye makes of them can be kept, and come in here."""
        rec = rec or unrecorded
        return _project(self.image_projection, rec("features", features))

    def project_text(self, vectors: Float[Tensor, "B C"], rec: Recorder | None = None) -> Embeddings:
        """The same for captions."""
        rec = rec or unrecorded
        return _project(self.text_projection, rec("pooled", vectors))

    def check_tokens(self, tokens: Captions) -> None:
        """SadariError where a tokenizer does not fit: ids beyond the vocabulary, a caption of no token."""
        check_ids(tokens, self.vocabulary)

    def paces(self) -> list[tuple[float, list[nn.Parameter]]]:
        """Parameters that learn at one share of the rate, each with that share; the projections first."""
        towers = [*self.backbone.parameters(), *self.reader.parameters()]
        inside = {id(parameter) for parameter in towers}
        lines = [parameter for parameter in self.parameters() if id(parameter) not in inside]
        return [(1.0, lines), (self.config.pace, [part for part in towers if part.requires_grad])]

    @classmethod
    def tokenizer_json(cls, config: LockedConfig) -> str:
        """The text of the reader's own tokenizer.json, by which captions are to be made tokens."""
        return find_pretrained(config.texts).tokenizer_json()

    @classmethod
    def most(cls, config: LockedConfig) -> int:
        """Tokens, [CLS] and [SEP] included, that the reader was made to read; longer captions are cut."""
        return find_pretrained(config.texts).most

    @staticmethod
    def parameter_count(config: LockedConfig, inputs: Shape, vocabulary: int) -> int:
        """The towers', locked ones too, D (E + 1) + D (C + 1); the scale, and a bias with sigmoid."""
        words, sizes = read_words(config.backbone), config.reader.sizes(vocabulary)
        shape = (inputs[0], int(words["size"]), int(words["size"]))
        image = class_of(words).parameter_count(settings_of(words), shape, config.dimension)
        text = Encoder.parameter_count(sizes) + config.dimension * (sizes.width + 1)
        return image + text + 1 + (config.contrast == "sigmoid")

    @staticmethod
    def macs(  # type: ignore[override]  # other rungs with an eye have outputs, this has a vocabulary
        config: LockedConfig, inputs: Shape, vocabulary: int, length: int = 1
    ) -> int:
        """Multiply-adds for a picture and a caption of `length` tokens: the towers', E D and C D."""
        sizes = config.reader.sizes(vocabulary)
        text = Encoder.macs(sizes, length) + sizes.width * config.dimension
        return Seeing.macs(config, inputs, config.dimension) + text

    def _stage(self, name: str) -> int:
        """Which stage a module or parameter of the eye belongs to; the first for what holds several."""
        return next((i for i, stage in enumerate(self.stages) if stage.match(name)), 0)

    def _lock(self) -> None:
        """What is locked takes no gradient."""
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(self._stage(name) >= self.resting)
        layers = list(self.reader.encoder.encoder.layer)
        loose = layers[len(layers) - self.config.thaw_text :]
        self.reader.requires_grad_(len(loose) == len(layers))
        for layer in loose:
            layer.requires_grad_(True)
        self.train(self.training)


class Lines(TwoTowers):
    """What `Locked` learns, for what its towers have answered already: features, and rows of `vectors`."""

    def __init__(self, model: Locked, vectors: Float[Tensor, "V C"]) -> None:
        super().__init__()
        self.config = model.config
        self.vectors: Tensor
        self.register_buffer("vectors", vectors, persistent=False)
        self.image_projection, self.text_projection = model.image_projection, model.text_projection
        self.logit_scale, self.logit_bias = model.logit_scale, model.logit_bias

    def encode_image(self, features: Float[Tensor, "B E"], rec: Recorder | None = None) -> Embeddings:
        return _project(self.image_projection, features)

    def encode_text(self, rows: Int[Tensor, "B 1"], rec: Recorder | None = None) -> Embeddings:
        return _project(self.text_projection, self.vectors[rows[:, 0]])

    @staticmethod
    def macs(config: LockedConfig, inputs: Shape, vocabulary: int, length: int = 1) -> int:
        """Multiply-adds for a picture and a caption: E D and C D."""
        words = read_words(config.backbone)
        with torch.device("meta"):
            _, width = make_eye(words, int(words["channels"]))
        return (width + config.reader.sizes(vocabulary).width) * config.dimension


def _once(captions: Sequence[Captions]) -> tuple[Int[Tensor, "V T"], list[Int[Tensor, "K 1"]]]:
    """The captions of all parts, equal ones once; and for each part their numbers among these."""
    width = max(part.shape[1] for part in captions)
    every = torch.cat([F.pad(part, (0, width - part.shape[1]), value=PAD) for part in captions])
    once, numbers = torch.unique(every, dim=0, return_inverse=True)
    return once, list(numbers.unsqueeze(1).split([len(part) for part in captions]))


def _project(line: nn.Linear, features: Float[Tensor, "B E"]) -> Embeddings:
    return line(F.layer_norm(features, features.shape[-1:]))


@torch.no_grad()
def _initialise(model: Locked) -> None:
    """First weights of what is learnt, from torch's global generator.

    | parameter                         | law                 | why                                         |
    |-----------------------------------|---------------------|---------------------------------------------|
    | image_projection, text_projection | normal, 1 / sqrt(E) | level variance over features that are level |
    | their biases                      | zero                |                                             |
    """
    for line in (model.image_projection, model.text_projection):
        line.weight.normal_(0.0, line.in_features**-0.5)
        line.bias.zero_()
