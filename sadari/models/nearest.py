"""Nearest: the pictures most like a new one vote for its class (Fix & Hodges 1951; Cover & Hart 1967).

What differs from the rung below (prior): the picture is looked at. Nothing is learnt but which k suits; the
training pictures themselves are the model. With ever more of them the error of the nearest one falls to at
most twice the least possible (Cover & Hart 1967), however the classes lie; but far is everything in many
dimensions, and a picture moved by two pixels is another one.

Likeness is the cosine of the pixels less their mean, so that neither brightness nor contrast counts:

    s_i = <u, x_i - mean(x_i)> / |x_i - mean(x_i)|        u likewise of the new picture, of length 1

A class gets a vote for each of its pictures among the k of greatest s, and its share of w votes more, the
fewer the more the neighbours are to be trusted:

    p_c = (votes_c + w share_c) / (k + w)                 logits ln p_c, or ln p_1 - ln p_0 for one output

Alphabet: N training pictures, B batch, P = C h w pixels after reducing, k neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.errors import SadariError
from sadari.lang import Note, Texts
from sadari.layers.dense import Recorder, unrecorded
from sadari.losses import CLASSES, Loss

TEXTS: Texts = {
    "chosen": (
        "The vote goes to the k = {k} nearest pictures: with each of {judged} training pictures left out in "
        "turn, {errors} of them get a wrong class.",
        "가장 가까운 그림 {k}장이 투표합니다. 훈련 그림을 하나씩 빼고 물어보니 {judged}장 가운데 {errors}가 "
        "틀립니다.",
    ),
}
CANDIDATES = (1, 3, 5, 7, 9, 15, 25, 50)  # numbers of neighbours that are tried
TRUSTS = (1.0, 0.3, 0.1, 0.03, 0.01)  # votes w of the classes' shares that are tried
SPARE = 8  # more neighbours found than asked for: single precision may have them in another order
ROWS, BLOCK = 1024, 8192  # pictures asked about, and stored ones, at once: their likeness fills 32 MB
READ = 1 << 26  # bytes of pictures read at once
KEPT = 1 << 28  # bytes up to which the stored pictures are kept ready as unit vectors
JUDGED = 1 << 39  # multiply-adds that choosing k may take, about 15 s
FLAT = 1e-4  # length of a picture's pixels less their mean below which it is of one colour
CLOSER = 1e-3  # of a vote: what likeness adds, so that of two classes with equal votes the nearer one wins


class Pictures(Protocol):
    """Normalised pictures, as a tensor (N, C, H, W) or as what gives one for a slice."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice, /) -> Float[Tensor, "B C H W"]: ...


@dataclass(frozen=True)
class NearestConfig:
    """Settings of `Nearest`; each field's text is the help of its flag."""

    neighbours: int = 0
    """Nearest pictures k that vote; 0 tries 1 to 50 on the training pictures, each left out in turn."""
    side: int = 32
    """Pixels of the longer side that pictures are reduced to before they are compared and stored."""

    def __post_init__(self) -> None:
        if self.neighbours < 0:
            raise SadariError(
                f"neighbours {self.neighbours}: at least 1 picture votes; use neighbours=0 to have k chosen"
            )
        if self.side < 1:
            raise SadariError(f"side {self.side}: a picture has at least 1 pixel; use side=32")


class Nearest(nn.Module):
    """All training pictures, reduced, and a search through them.

    Buffers: `pictures` (N, C, h, w) uint8, `low` and `high` (C,) what 0 and 255 stand for, `labels` (N,)
    int64, `k` how many vote, `trust` the votes w of the `shares` (classes,) of the classes in training.
    """

    pictures: Tensor
    labels: Tensor
    low: Tensor
    high: Tensor
    k: Tensor
    trust: Tensor
    shares: Tensor

    Config: ClassVar = NearestConfig
    TINY: ClassVar = NearestConfig(neighbours=1, side=8)

    def __init__(self, config: NearestConfig, inputs: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        self.config = config
        self.inputs, self.outputs = inputs, outputs
        channels, height, width = inputs
        longer = max(height, width)
        part = min(config.side / longer, 1.0)
        self.reduced = max(round(height * part), 1), max(round(width * part), 1)
        self.register_buffer("pictures", torch.zeros(0, channels, *self.reduced, dtype=torch.uint8))
        self.register_buffer("low", torch.zeros(channels))
        self.register_buffer("high", torch.ones(channels))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("k", torch.tensor(1))
        self.register_buffer("trust", torch.tensor(1.0))
        self.register_buffer("shares", torch.full((max(outputs, 2),), 1 / max(outputs, 2)))
        self._units: Tensor | None = None  # made when first asked

    def features(self, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B P"]:
        """Each picture's reduced pixels less their mean, of length 1; zero for a picture of one colour."""
        return _unit(self._reduce(pictures).flatten(1))

    @torch.no_grad()
    def forward(
        self, pictures: Float[Tensor, "B C H W"], rec: Recorder | None = None
    ) -> Float[Tensor, "B O"]:
        """Logits: the logarithms of the classes' shares of the votes."""
        rec = rec or unrecorded
        units = rec("features", self.features(pictures))
        likeness, index = self._found(units, int(self.k))
        rec("likeness", likeness)
        rec("neighbours", index)
        log_shares = self._log_shares(likeness, self.labels[index], units.any(1), self.trust)
        output = log_shares if self.outputs > 1 else log_shares[:, 1:] - log_shares[:, :1]
        return rec("output", output.to(units.dtype))

    @torch.no_grad()
    def neighbours(
        self, pictures: Float[Tensor, "B C H W"], count: int
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
        """The `count` stored pictures that are most like each, or all there are: likeness, then numbers.

        Greatest likeness first, the first in training order where several are equally like.
        """
        return self._found(self.features(pictures), count)

    def can_solve(self, loss: Loss) -> bool:
        """True for every loss over classes: to keep the pictures is the solution."""
        return loss.name in CLASSES

    @torch.no_grad()
    def solve(self, features: Pictures, targets: Int[Tensor, " N"], loss: Loss) -> dict[str, Any]:
        """Keep normalised pictures and their classes, and choose w, and k unless it is set.

        Pictures are read twice, a block at a time: a tensor (N, C, H, W), or what gives one for a slice.
        Returns facts as every `solve`, with `k`, `trust` (w) and `left_out_error`. SadariError when there is
        no picture.
        """
        if not len(targets):
            raise SadariError("there is no picture to keep; give at least one")
        lows, highs = zip(*(_range(self._reduce(block)) for _, block in _read(features)), strict=True)
        low, high = torch.stack(lows).amin(0), torch.stack(highs).amax(0)
        high = torch.where(high > low, high, low + 1)
        stored = torch.empty(len(targets), *self.pictures.shape[1:], dtype=torch.uint8)
        for rows, block in _read(features):
            levels = (self._reduce(block) - low.view(-1, 1, 1)) / (high - low).view(-1, 1, 1) * 255
            stored[rows] = levels.round_().clamp_(0, 255).to(torch.uint8)
        self.pictures, self.labels = stored, targets.to(torch.int64).clone()
        self.low, self.high, self._units = low, high, None
        shares = torch.bincount(self.labels, minlength=len(self.shares)) / len(targets)
        self.shares = shares.clamp(min=1e-13)  # a class without a picture is not impossible
        k, trust, error, judged = self._choose()
        self.k, self.trust = torch.tensor(k), torch.tensor(trust)
        note = Note.of(TEXTS, "chosen", "info", k=k, judged=f"{judged:,}", errors=f"{error:.1%}")
        facts = {"iterations": 1, "converged": True, "notes": [] if self.config.neighbours else [note]}
        return facts | {"k": k, "trust": trust, "left_out_error": error}

    @staticmethod
    def parameter_count(config: NearestConfig, inputs: tuple[int, int, int], outputs: int) -> None:
        """None: nothing is learnt, and how much is kept, the pictures decide."""

    @staticmethod
    def macs(config: NearestConfig, inputs: tuple[int, int, int], outputs: int) -> int:
        """0: a look takes N P multiply-adds, and N hangs on the pictures that are kept, not on settings."""
        return 0

    def _reduce(self, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        return F.adaptive_avg_pool2d(pictures.contiguous(), self.reduced)

    def _stored(self, rows: Any) -> Float[Tensor, "M P"]:
        """Those of the stored pictures as unit vectors."""
        scale = ((self.high - self.low) / 255).view(-1, 1, 1)
        return _unit((self.pictures[rows] * scale + self.low.view(-1, 1, 1)).flatten(1))

    def _blocks(self) -> Iterator[tuple[int, Float[Tensor, "M P"]]]:
        """The number of each block's first picture, and its unit vectors."""
        if self._units is None and self.pictures.numel() * self.low.element_size() <= KEPT:
            parts = [self._stored(slice(i, i + BLOCK)) for i in range(0, len(self.pictures), BLOCK)]
            self._units = torch.cat(parts)
        for first in range(0, len(self.pictures), BLOCK):
            rows = slice(first, first + BLOCK)
            yield first, self._stored(rows) if self._units is None else self._units[rows]

    def _nearest(
        self, units: Float[Tensor, "B P"], count: int, without: Int[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
        """Likeness and number of the nearest in single precision; `without` leaves one out of each search."""
        best = units.new_empty(len(units), 0)
        index = torch.empty(len(units), 0, dtype=torch.int64)
        for first, block in self._blocks():
            likeness = units @ block.mT  # (B, M)
            if without is not None:
                inside = ((without >= first) & (without < first + len(block))).nonzero().squeeze(1)
                likeness[inside, without[inside] - first] = -torch.inf
            top, where = likeness.topk(min(count, len(block)), sorted=False)
            best, index = torch.cat([best, top], 1), torch.cat([index, where + first], 1)
            if best.shape[1] > count:
                best, where = best.topk(count, sorted=False)
                index = index.gather(1, where)
        best, order = best.sort(dim=1, descending=True, stable=True)
        return best, index.gather(1, order)

    def _found(
        self, units: Float[Tensor, "B P"], count: int
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
        """The nearest, put in order in double precision, so that a picture's are the same in any batch."""
        if not len(self.pictures):
            raise SadariError("there is no picture to compare with; solve the model on some first")
        count = min(count, len(self.pictures))
        likeness, index = [], []
        for some in units.split(ROWS):
            near = self._nearest(some, count + SPARE)[1].sort(1).values  # (b, K), in training order
            rows = max(BLOCK * 1024 // near.shape[1] // units.shape[1], 1)
            for mine, theirs in zip(some.split(rows), near.split(rows), strict=True):
                others = self._stored(theirs.flatten()).unflatten(0, theirs.shape).double()
                exact = (others * mine.double().unsqueeze(1)).sum(-1)
                exact, order = exact.sort(dim=1, descending=True, stable=True)
                likeness.append(exact[:, :count])
                index.append(theirs.gather(1, order)[:, :count])
        return torch.cat(likeness), torch.cat(index)

    def _log_shares(
        self, likeness: Float[Tensor, "B K"], labels: Int[Tensor, "B K"], seen: Tensor, trust: float | Tensor
    ) -> Float[Tensor, "B classes"]:
        """ln p of each class; a picture of one colour (`seen` False) is like none, and none votes."""
        weights = ((1 + CLOSER * likeness) * seen.unsqueeze(1)).to(self.shares.dtype)
        votes = weights.new_zeros(len(labels), len(self.shares)).scatter_add_(1, labels, weights)
        most = weights.sum(1, keepdim=True) + trust * self.shares.sum()
        return ((votes + trust * self.shares) / most).log()

    def _choose(self) -> tuple[int, float, float, int]:
        """k and w, the share of errors with them, and how many pictures were asked about.

        Each is left out in turn. The k of fewest errors, of two with as few that of the smaller loss; then
        the w of the smallest loss.
        """
        N, P = len(self.pictures), self.pictures[0].numel()
        known = (
            [min(self.config.neighbours, N)] if self.config.neighbours else [k for k in CANDIDATES if k < N]
        )
        if N == 1:
            return 1, 1.0, 0.0, 0
        judged = min(N, max(JUDGED // (N * P), 256))
        asked = torch.arange(judged) * N // judged
        wrong, loss = torch.zeros(len(known), len(TRUSTS)), torch.zeros(len(known), len(TRUSTS))
        for some in asked.split(ROWS):
            units, truth = self._stored(some), self.labels[some]
            likeness, index = self._nearest(units, min(known[-1], N - 1), without=some)
            for i, k in enumerate(known):
                for j, trust in enumerate(TRUSTS):
                    labels = self.labels[index[:, :k]]
                    log_shares = self._log_shares(likeness[:, :k], labels, units.any(1), trust)
                    wrong[i, j] += (log_shares.argmax(1) != truth).sum()
                    loss[i, j] -= log_shares.gather(1, truth.unsqueeze(1)).sum()
        least = loss.min(1).values
        i = min(range(len(known)), key=lambda i: (wrong[i].min().item(), least[i].item()))
        j = int(loss[i].argmin())
        return known[i], TRUSTS[j], wrong[i, j].item() / judged, judged

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any
    ) -> None:  # torch's own hook: how many pictures there are, the file says
        for name in ("pictures", "labels"):
            given = state_dict.get(prefix + name)
            if given is not None and given.ndim == self.get_buffer(name).ndim:
                buffer = self.get_buffer(name)
                setattr(self, name, buffer.new_empty(len(given), *buffer.shape[1:]))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._units = None
        errors = rest[-1]
        if not errors and (problem := self._problem()):
            errors.append(problem)

    def _problem(self) -> str:
        """What makes the buffers unfit to look things up in; empty when they are sound."""
        if len(self.labels) != len(self.pictures):
            return f"{len(self.pictures)} pictures have {len(self.labels)} labels"
        if len(self.labels) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.shares):
            return f"labels lie outside the {len(self.shares)} classes"
        if not 1 <= int(self.k) <= max(len(self.labels), 1):
            return f"k {int(self.k)} is no number of neighbours among {len(self.labels)} pictures"
        if not (torch.isfinite(self.low) & torch.isfinite(self.high) & (self.high > self.low)).all():
            return "low and high are no range of pixels"
        if not (self.shares > 0).all() or not 0 < self.trust < torch.inf:
            return "shares hold a class that is impossible, or no vote"
        return ""


def _unit(x: Float[Tensor, "B P"]) -> Float[Tensor, "B P"]:
    """Less its mean, of length 1; zero where hardly anything is left."""
    x = x - x.mean(1, keepdim=True)
    length = x.norm(dim=1, keepdim=True)
    return torch.where(length > FLAT, x / length.clamp(min=FLAT), 0.0)


def _range(pictures: Float[Tensor, "B C h w"]) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
    return pictures.amin((0, 2, 3)), pictures.amax((0, 2, 3))


def _read(features: Pictures) -> Iterator[tuple[slice, Float[Tensor, "B C H W"]]]:
    """The pictures in blocks, and which they are."""
    rows = max(READ // max(features[0:1].nbytes, 1), 1)
    for first in range(0, len(features), rows):
        block = slice(first, min(first + rows, len(features)))
        yield block, features[block]
