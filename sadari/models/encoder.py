"""The rungs from the foundation: a sentence encoder that has read a great deal, under a line (MiniLM, BERT).

What differs from the rung below (transformer): it does not begin from nothing. An encoder trained elsewhere
on hundreds of millions of sentences brings a vector for each text; `probe` leaves it as it is and fits only
the line on top (Alain & Bengio 2016, 1610.01644), `fine-tune` begins where the probe ended and goes on to
train everything, slowly (Devlin 2018, 1810.04805; Kumar 2022, 2202.10054, for that order).

Weights: all-MiniLM-L6-v2 (Wang 2020, 2002.10957; Reimers & Gurevych 2019, 1908.10084), or any BERT in the
hub's layout.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.lang import Note, Texts
from sadari.layers.dense import Recorder, unrecorded
from sadari.layers.newton import fit_logistic
from sadari.layers.rows import quiet_blas
from sadari.layers.tokens import is_real, trimmed
from sadari.losses import CLASSES, Loss
from sadari.models.transformer import Encoder, EncoderConfig, mean_of
from sadari.pretrained import find_pretrained

TEXTS: Texts = {
    "foreign": (
        "This encoder was trained on English. Here {spelt} of the tokens are single letters of Hangul and "
        "{unknown} are unknown to it: it sees spellings, not words.",
        "이 인코더는 영어로 훈련되었다. 여기서는 토큰의 {spelt}가 한글 낱자이고 {unknown}는 모르는 토큰이다. "
        "낱말이 아니라 철자를 보는 셈이다.",
    ),
}
FOREIGN = 0.25  # share of tokens, unknown or single letters, from which this is said
LAST: dict[
    str, tuple[Tensor, float]
] = {}  # of the texts encoded last: vectors and seconds, by what decides them
BLOCK = 8192  # tokens that are encoded at once, padding included
SIZES = ("width", "layers", "heads", "inner", "longest", "types")
SMALLEST = "width=8 layers=2 heads=2 inner=16 longest=64 types=2 pooling=mean normalise=1"


def _described(weights: str) -> str:
    """The sizes of a folder's encoder as words, for the run's config: the run then stands on its own."""
    if not weights:
        return SMALLEST
    found = find_pretrained(weights)
    sizes = {name: found.sizes[name] for name in SIZES}
    rest = {"eps": found.eps, "pooling": found.pooling, "normalise": int(found.normalise)}
    return " ".join(f"{name}={value}" for name, value in (sizes | rest).items())


def _words(encoder: str) -> dict[str, str]:
    """The words of `_described`, checked."""
    words = dict(word.split("=", 1) for word in encoder.split() if "=" in word)
    known = {"pooling": ("mean", "cls"), "normalise": ("0", "1")}
    for name in (*SIZES, *known):
        value = words.get(name, "")
        if value not in known.get(name, (value,)) or (name in SIZES and not value.isdecimal()):
            raise SadariError(
                f"encoder {encoder!r}: {name} is {value or 'missing'}; leave it empty to have the sizes read "
                f"from the weights, or write all of {SMALLEST!r}"
            )
    return words


@dataclass(frozen=True)
class ProbeConfig:
    """Settings of a `Probe`; each field's text is the help of its flag."""

    weights: str = "minilm"
    """Of pictures the eye: efficientnet-lite0, a run, a hub folder, or timm:NAME. Of texts the encoder:
    minilm (`sadari data get minilm`), a folder with config.json, model.safetensors and tokenizer.json, or ""
    for one that has read nothing."""
    penalty: float = 0.1
    """Penalty on half the squared weights of the line, as scikit-learn's 1 / C (of pictures, times the
    features' variance); 0 is none."""
    encoder: str = ""
    """Sizes of the encoder, as `width=384 layers=6 ...`; empty: as its weights say."""

    def __post_init__(self) -> None:
        if not 0 <= self.penalty < math.inf:
            raise SadariError(
                f"penalty {self.penalty}: a penalty is 0 or more; use penalty=0.1, or 0 for none"
            )
        if not self.encoder:
            object.__setattr__(self, "encoder", _described(self.weights))
        self.sizes(1)  # read here, so that a mistake is said here

    def sizes(self, vocabulary: int) -> EncoderConfig:
        """The sizes of the encoder, for a vocabulary of so many tokens."""
        words = _words(self.encoder)
        sizes: dict[str, Any] = {name: int(words[name]) for name in SIZES}
        return EncoderConfig(vocabulary=vocabulary, eps=float(words.get("eps", "1e-12")), **sizes)


@dataclass(frozen=True)
class FineTuneConfig(ProbeConfig):
    """Settings of a `FineTune`: those of the probe that it begins from, and how it goes on."""

    dropout: float = 0.1
    """Share silenced at random in training, of the sum at the start and at the end of each branch."""
    frozen: int = 0
    """Layers, from the first, that stay as they were; with any, so do the embeddings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.dropout < 1.0:
            raise SadariError(f"dropout {self.dropout}: the share dropped lies in [0, 1); use dropout=0.1")
        layers = self.sizes(1).layers
        if not 0 <= self.frozen <= layers:
            raise SadariError(
                f"frozen {self.frozen}: the encoder has {layers} layers; use frozen=0 to {layers}"
            )

    def sizes(self, vocabulary: int) -> EncoderConfig:
        """As the probe's, with the dropout of training."""
        return replace(super().sizes(vocabulary), dropout=self.dropout)


class SentenceClassifier(nn.Module):
    """A sentence encoder and a line on its vector of the text: what both rungs are."""

    special: ClassVar[bool] = True
    """Its tokens need the tokenizer's own [CLS] ... [SEP] round each text."""

    def __init__(self, config: ProbeConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.config = config
        words, sizes = _words(config.encoder), config.sizes(inputs)
        self.cls, self.normalise = words["pooling"] == "cls", words["normalise"] == "1"
        self.encoder = Encoder(sizes)
        self.output = nn.Linear(sizes.width, outputs)
        self._begin(inputs)

    @torch.no_grad()
    def _begin(self, inputs: int) -> None:
        """First weights: the encoder's from its folder where that is here, else by law.

        | parameter             | law                                                               |
        |-----------------------|-------------------------------------------------------------------|
        | encoder, with weights | as in the folder                                                  |
        | encoder, without      | normal, 0.02; biases zero, LayerNorm.weight one (Devlin 2018)     |
        | output                | normal, 0.02; bias zero (until the probe's solution takes place)  |
        """
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.02)
            else:
                parameter.fill_(float(name.endswith("LayerNorm.weight")))
        weights = self.config.weights
        if not weights or self.output.weight.is_meta:
            return
        try:
            found = find_pretrained(weights)
        except SadariError:  # a run that is opened elsewhere brings its own weights
            return
        if found.sizes["vocabulary"] != inputs:
            raise SadariError(
                f"the tokens come from a vocabulary of {inputs:,}, the encoder {weights} knows "
                f"{found.sizes['vocabulary']:,}; recode the texts with its own tokenizer.json"
            )
        wanted = {name: tuple(value.shape) for name, value in self.encoder.state_dict().items()}
        self.encoder.load_state_dict(found.read(wanted))

    def vectors(self, tokens: Int[Tensor, "B T"], rec: Recorder | None = None) -> Float[Tensor, "B C"]:
        """The texts' vectors as the encoder is made to give them: mean or [CLS], of length 1 or not."""
        h = self.encoder(tokens, rec)  # (B, T, C)
        pooled = h[:, 0] * is_real(tokens)[:, :1] if self.cls else mean_of(h, is_real(tokens))
        return F.normalize(pooled) if self.normalise else pooled

    def forward(self, tokens: Int[Tensor, "B T"], rec: Recorder | None = None) -> Float[Tensor, "B O"]:
        pooled = self.vectors(tokens, rec)
        rec = rec or unrecorded
        return rec("output", self.output(rec("pooled", pooled)))

    @torch.no_grad()
    def encode(self, tokens: Int[Tensor, "N T"], bf16: bool = False) -> Float[Tensor, "N C"]:
        """The vectors of any number of texts, without gradients or dropout, in blocks of like length."""
        lengths = is_real(tokens).sum(-1).clamp(min=1)
        out = torch.empty(len(tokens), self.encoder.embeddings.word_embeddings.embedding_dim)
        was_training = self.training
        self.eval()
        for rows in _blocks(lengths):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                out[rows] = self.vectors(trimmed(tokens[rows])).float()
        self.train(was_training)
        return out

    def _encoded(self, tokens: Int[Tensor, "N T"], bf16: bool) -> tuple[Float[Tensor, "N C"], float]:
        """`encode` and the seconds that it took, or what it gave last if it was asked the same: a climb fits
        the probe and then begins fine-tune from the same vectors.
        """
        digest = hashlib.sha256(f"{bf16} {tuple(tokens.shape)} {self.config.encoder}".encode())
        for value in (tokens, *self.encoder.state_dict().values()):
            digest.update(value.contiguous().numpy())
        key = digest.hexdigest()
        if key not in LAST:
            began = time.perf_counter()
            vectors = self.encode(tokens, bf16)
            LAST.clear()
            LAST[key] = vectors, time.perf_counter() - began
        return LAST[key]

    @torch.no_grad()
    def fit_line(self, tokens: Int[Tensor, "N T"], targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        """Solve the line on the texts' vectors, each encoded once. Facts and notes as `Logistic.solve`.

        In bf16 where the processor has it, at 2.7 times the speed; a vector's numbers then differ by 0.002.
        """
        bf16 = _has_bf16()
        features, seconds = self._encoded(tokens, bf16)
        with quiet_blas(len(features), features.shape[1] * loss.outputs):
            answer = fit_logistic(
                features.numpy(), targets.numpy(), loss.outputs, self.config.penalty, loss.smoothing
            )
        self.output.weight.copy_(torch.from_numpy(answer.weights))
        self.output.bias.copy_(torch.from_numpy(answer.intercepts))
        return {
            "iterations": answer.steps,
            "objective": answer.objective,
            "converged": answer.converged,
            "encoding": "bf16" if bf16 else "fp32",
            "texts_per_second": len(features) / max(seconds, 1e-9),
            "notes": foreign_notes(tokens, self.config.weights),
        }

    @classmethod
    def tokenizer_json(cls, config: ProbeConfig) -> str:
        """The text of the encoder's own tokenizer.json, by which texts are to be made tokens."""
        return find_pretrained(config.weights).tokenizer_json()

    @classmethod
    def most(cls, config: ProbeConfig) -> int:
        """Tokens, [CLS] and [SEP] included, that the encoder was made to read; longer texts are cut."""
        return find_pretrained(config.weights).most

    @staticmethod
    def parameter_count(config: ProbeConfig, inputs: int, outputs: int) -> int:
        """The encoder's, frozen ones too, and O (C + 1)."""
        sizes = config.sizes(inputs)
        return Encoder.parameter_count(sizes) + outputs * (sizes.width + 1)

    @staticmethod
    def macs(config: ProbeConfig, inputs: int, outputs: int, length: int = 1) -> int:
        """Multiply-adds for a text of `length` tokens: the encoder's, and C O."""
        sizes = config.sizes(inputs)
        return Encoder.macs(sizes, length) + sizes.width * outputs


class Probe(SentenceClassifier):
    """A line on the vectors of an encoder that stays as it is: only the line is fitted."""

    Config: ClassVar = ProbeConfig
    TINY: ClassVar = ProbeConfig(weights="", encoder=SMALLEST)
    TRAINING: ClassVar[dict[str, Any]] = {"learning_rate": 0.01}

    def __init__(self, config: ProbeConfig, inputs: int, outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.encoder.requires_grad_(False)

    def train(self, mode: bool = True) -> Probe:
        """The encoder never drops anything: what it gives for a text is to stay the same."""
        super().train(mode)
        self.encoder.eval()
        return self

    def can_solve(self, loss: Loss) -> bool:
        """True for the losses over classes."""
        return loss.name in CLASSES

    def solve(self, tokens: Int[Tensor, "N T"], targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        """Encode each text once and solve the line by Newton's method; see `fit_line`."""
        return self.fit_line(tokens, targets, loss)


class FineTune(SentenceClassifier):
    """The probe, trained on from its solution, encoder and all."""

    Config: ClassVar = FineTuneConfig
    TINY: ClassVar = FineTuneConfig(weights="", encoder=SMALLEST, dropout=0.0)
    TRAINING: ClassVar[dict[str, Any]] = {
        "learning_rate": 5e-5,
        "epochs": 3,
        "batch_size": 32,
        "weight_decay": 0.01,
        "clip": 1.0,
        "warmup": 0.1,
        "schedule": "warmup",
    }

    def __init__(self, config: FineTuneConfig, inputs: int, outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        if config.frozen:
            self.encoder.embeddings.requires_grad_(False)
            self.encoder.encoder.layer[: config.frozen].requires_grad_(False)

    def begin(self, tokens: Int[Tensor, "N T"], targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        """To be called once before training: the line as the probe solves it, so that the first steps, which
        would come from a line of chance, do not spoil the encoder. Facts and notes as `Logistic.solve`.
        """
        return self.fit_line(tokens, targets, loss) if loss.name in CLASSES else {"notes": []}


def foreign_notes(tokens: Int[Tensor, "N T"], weights: str) -> list[Note]:
    """One note where most tokens are unknown to the encoder or single letters of Hangul, else none."""
    if not weights:
        return []
    spelt, unknown = unknown_share(tokens, find_pretrained(weights).tokenizer_json())
    if spelt + unknown <= FOREIGN:
        return []
    return [Note.of(TEXTS, "foreign", "warning", spelt=f"{spelt:.0%}", unknown=f"{unknown:.0%}")]


def unknown_share(tokens: Int[Tensor, "N T"], tokenizer: str) -> tuple[float, float]:
    """Of the tokens, special ones left out: the share that are single letters of Hangul, and that of [UNK].

    An English word-piece vocabulary has letters of Hangul (ㅎ, ㅏ, ㄴ) but none of its syllables.
    """
    content = json.loads(tokenizer)
    vocabulary: dict[str, int] = content["model"].get("vocab", {})
    added = {entry["id"] for entry in content.get("added_tokens", []) if entry.get("special")}
    unknown = vocabulary.get(content["model"].get("unk_token", "[UNK]"), -1)
    letters = [id for piece, id in vocabulary.items() if _is_letter(piece.removeprefix("##"))]
    found = tokens[tokens >= 0]
    special = torch.tensor(sorted(added - {unknown}), dtype=found.dtype)
    words = found[~torch.isin(found, special)]
    spelt = torch.isin(words, torch.tensor(letters, dtype=found.dtype))
    count = max(len(words), 1)
    return spelt.sum().item() / count, (words == unknown).sum().item() / count


def _is_letter(piece: str) -> bool:
    """Whether it is one conjoining or compatibility letter of Hangul."""
    return len(piece) == 1 and ("\u1100" <= piece <= "\u11ff" or "\u3130" <= piece <= "\u318f")


def _blocks(lengths: Int[Tensor, " N"]) -> Iterator[Tensor]:
    """Row numbers, texts of like length together, each block of at most BLOCK tokens with its padding."""
    order = lengths.argsort(stable=True, descending=True)
    start = 0
    while start < len(order):
        count = max(1, BLOCK // int(lengths[order[start]]))
        yield order[start : start + count]
        start += count


def _has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; elsewhere it is slower than single precision."""
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in known)
