"""The losses that draw an image and its caption together and all other pairs apart, never B x B at once.

Of B images x and captions y, each of length 1, with logits l_ij = s x_i . y_j (+ b):

    softmax  (CLIP, Radford 2021, 2103.00020, fig. 3)   mean of -log softmax(l)_ii, over rows and over columns
    sigmoid  (SigLIP, Zhai 2023, 2303.15343, alg. 1)    sum of -log sigmoid(z_ij l_ij) / B, z_ii = 1, else -1

The plain way keeps l, its softmax or sigmoid, and their gradients: gigabytes for 16,384 pairs. Here a tile of
l is made, used and forgotten, and the gradients, which are known, are made on the way to the loss:

              y_j ...                    softmax, once over the tiles:  row and column sums of e^l
        +------+------+---               then once more:  G = (p_row + p_column) / 2 - 1 where i = j
    x_i |  l   |      |  -> G y_j        sigmoid, once:          G = sigmoid(l) - 1 where i = j
        +------+------+---
           |                             G / B pulls at x_i by s G y_j, at y_j by s G' x_i, at s by
           v  G' x_i                     sum G (x . y), and at b by sum G

So a sigmoid takes the three products of the plain way, and a softmax a fourth where tiles were forgotten.
Equal `ids` are known positives, such as two captions of one picture: these are pulled neither together nor
apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from sadari.errors import SadariError

SIDE = 1408  # rows and columns of a tile: 8 MB, which are cached; 512 took a sixth longer, 2,048 a sixteenth
KEPT = 9  # tiles of softmax that are not forgotten, so that up to 4,096 pairs take three products, not four
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
CALM = 60.0  # logits within +-60: e^l and any sum of them is a float32 number, with no maximum taken off


def softmax_loss(
    image: Float[Tensor, "B D"],
    text: Float[Tensor, "B D"],
    scale: Float[Tensor, "*one"],
    ids: Int[Tensor, " B"] | None = None,
    chunk: int = 0,
) -> Float[Tensor, ""]:
    """CLIP's loss in nats: cross-entropy of each image among the captions and each caption among the images.

    `image` and `text` are of length 1, row i of each a pair; `scale` is the inverse temperature itself, not
    its logarithm. Pairs of equal `ids` are left out of each other's sums. `chunk` is the side of a tile; 0
    chooses one. Products and sums are in float32 (float64 of float64), under autocast too: a logit near 100
    in bfloat16 would be off by a quarter. Gradients are given once, and not differentiated again.

    Raises SadariError for shapes that do not fit.
    """
    check(image, text, scale, ids)
    wanted, scale = wants(image, text, scale), scale.reshape(())
    with exactly(image):
        tiles = Tiles(image, text, scale, None, ids, ids, wanted, chunk=chunk)
        sums = Sums(tiles)
        sums.pull()
        factor = 1 / (2 * len(image))
        value, gradients = factor * sums.terms().sum(), tiles.gradients(factor)
    return Known.apply(value, gradients[:3], image, text, scale)


def sigmoid_loss(
    image: Float[Tensor, "B D"],
    text: Float[Tensor, "B D"],
    scale: Float[Tensor, "*one"],
    bias: Float[Tensor, "*one"],
    ids: Int[Tensor, " B"] | None = None,
    chunk: int = 0,
) -> Float[Tensor, ""]:
    """SigLIP's loss in nats: each of the B x B pairs is asked for itself whether it belongs together.

    As `softmax_loss`; `bias` is added to every logit. Its paper starts at scale 10, bias -10.
    """
    check(image, text, scale, ids)
    wanted, scale, bias = wants(image, text, scale, bias), scale.reshape(()), bias.reshape(())
    with exactly(image):
        tiles = Tiles(image, text, scale, bias, ids, ids, wanted, chunk=chunk)
        value, gradients = sigmoid_terms(tiles) / len(image), tiles.gradients(1 / len(image))
    return Known.apply(value, gradients, image, text, scale, bias)


def pull(
    similarity: Float[Tensor, "*N"], scale: float, bias: float, positive: float = 1.0, batch: int = 2
) -> tuple[Float[Tensor, "*N"], Float[Tensor, "*N"]]:
    """How hard softmax and sigmoid push a negative away: B times their gradients at its similarity.

    It stands in a batch of such pairs whose own similarity is `positive`, and whose others' is 0:

        softmax   s e^(s u) / (e^(s u) + e^(s positive) + batch - 2)     less, the better the pair is settled
        sigmoid   s sigmoid(s u + b)                                     whatever the pair and the batch
    """
    others = similarity.new_tensor([scale * positive] + [0.0] * (batch > 2))
    counts = similarity.new_tensor([1.0] + [batch - 2.0] * (batch > 2)).log()
    share = torch.sigmoid(scale * similarity - (others + counts).logsumexp(0))
    return scale * share, scale * torch.sigmoid(scale * similarity + bias)


class Known(torch.autograd.Function):
    """A value whose gradients are known already. They are handed on once, as no copy of them is kept."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor | None, ...], *leaves: Tensor) -> Tensor:
        """`value` with its `gradients` towards `leaves`."""
        ctx.gradients = gradients
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, times what comes from above."""
        if ctx.gradients is None:
            raise RuntimeError("a contrast's gradients are given once; compute the loss again")
        gradients, ctx.gradients = ctx.gradients, None
        if upstream.device.type != "cpu" or upstream != 1:  # a look at a number is free on a processor only
            gradients = tuple(None if each is None else each.mul_(upstream) for each in gradients)
        return None, None, *gradients


class Tiles:
    """The logits s x y' + b of M images and N captions, a tile at a time, and the pulls of gradients on them.

    first   the caption of the first image, those of the others follow it; None where none is here
    wanted  which of image, text, scale and bias want a gradient
    chunk   the side of a tile; 0 chooses one
    """

    def __init__(
        self,
        image: Float[Tensor, "M D"],
        text: Float[Tensor, "N D"],
        scale: Float[Tensor, ""],
        bias: Float[Tensor, ""] | None,
        own: Int[Tensor, " M"] | None,
        others: Int[Tensor, " N"] | None,
        wanted: tuple[bool, ...],
        first: int | None = 0,
        chunk: int = 0,
    ) -> None:
        dtype = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
        self.image, self.text, self.scale = (each.to(dtype).contiguous() for each in (image, text, scale))
        self.bias, self.own, self.others, self.first = bias, own, others, first
        self.again = _again(own, others, first)
        side = chunk or SIDE
        self.rows, self.columns = (_slices(len(each), side, even=not chunk) for each in (image, text))
        self.space = self.image.new_empty(min(len(image), side) * min(len(text), side))
        self.wanted = *wanted, *(False,) * (4 - len(wanted))
        # the scale's gradient can be had from either side, so that a frozen tower costs no product
        self.images = torch.zeros_like(self.image) if wanted[0] or (wanted[2] and not wanted[1]) else None
        self.texts = torch.zeros_like(self.text.t()) if wanted[1] else None  # (D, N), as its product comes
        self.biases = self.image.new_zeros(())

    def __iter__(self) -> Iterator[tuple[slice, slice]]:
        return ((rows, columns) for columns in self.columns for rows in self.rows)

    def make(self, rows: slice, columns: slice) -> Float[Tensor, "m n"]:
        """The logits of a tile; -inf for known positives that are not the pair itself."""
        words = self.text[columns]
        bias = None if self.bias is None else self.bias.to(words.dtype).expand(len(words)).contiguous()
        logits = product(self.image[rows] * self.scale, words, bias)
        if self.again is None or self.own is None or self.others is None:
            return logits
        some = self.again[rows].nonzero().squeeze(-1)
        if len(some):
            pairs = self.pairs(logits, rows, columns).clone()
            same = self.own[rows][some].unsqueeze(-1) == self.others[columns]
            logits[some] = logits[some].masked_fill_(same, -torch.inf)
            self.pairs(logits, rows, columns).copy_(pairs)
        return logits

    def pairs(self, tile: Float[Tensor, "m n"], rows: slice, columns: slice) -> Float[Tensor, " k"]:
        """The pairs themselves in a tile, as a view of it: part of a diagonal, often nothing."""
        offset = columns.start if self.first is None else rows.start + self.first - columns.start
        outside = self.first is None or not -tile.shape[0] < offset < tile.shape[1]
        return tile[:0, 0] if outside else tile.diagonal(offset)

    def room(self, like: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
        """Space for another tile of the same shape, always the same one."""
        return self.space[: like.numel()].view_as(like)

    def add(self, gradient: Float[Tensor, "m n"], rows: slice, columns: slice) -> None:
        """Take the gradient at a tile's logits to the images and captions, their scale left out."""
        if self.images is not None:
            self.images[rows] += product(gradient, self.text[columns].t())
        if self.texts is not None:
            self.texts[:, columns] += product(self.image[rows].t(), gradient.t())
        if self.wanted[3]:
            self.biases += gradient.sum()

    def gradients(self, factor: float) -> tuple[Tensor | None, ...]:
        """`factor` times those of image, text, scale and bias, None where none is wanted. Asked once."""
        texts = None if self.texts is None else self.texts.t().contiguous()
        ends, pulls = (self.image, self.images) if self.images is not None else (self.text, texts)
        scale = torch.zeros_like(self.scale) if self.wanted[2] else None
        if scale is not None and pulls is not None:
            for part in _slices(len(ends), SIDE):
                scale += factor * (ends[part] * pulls[part]).sum()
        image = self.images.mul_(factor * self.scale) if self.images is not None and self.wanted[0] else None
        text = None if texts is None else texts.mul_(factor * self.scale)
        return image, text, scale, factor * self.biases if self.wanted[3] else None


class Sums:
    """Softmax's sums over rows and over columns, e^top times total, and with them its gradient.

    `top` is 0 where no logit can be far from it, else the largest one so far, as in FlashAttention's running
    softmax (Dao 2022, 2205.14135, section 3.1).
    """

    def __init__(self, tiles: Tiles) -> None:
        self.tiles, image, text = tiles, tiles.image, tiles.text
        bound = tiles.scale.abs() * _longest(image) * _longest(text)  # of any logit, as |x . y| <= |x| |y|
        self.calm = bound.device.type != "meta" and bool(bound <= CALM)
        lowest = 0.0 if self.calm else torch.finfo(image.dtype).min
        self.tops = image.new_full((len(image), 1), lowest), image.new_full((1, len(text)), lowest)
        self.totals = image.new_zeros((len(image), 1)), image.new_zeros((1, len(text)))
        self.hits = image.new_zeros(len(image))
        self.kept: dict[tuple[int, int], Tensor] = {}
        for rows, columns in tiles:
            tile = tiles.make(rows, columns)
            start = max(rows.start, columns.start - (tiles.first or 0))
            hits = tiles.pairs(tile, rows, columns)
            self.hits[start : start + len(hits)] = hits
            if self.calm:
                tile.exp_()
                self.totals[0][rows] += tile.sum(1, keepdim=True)
                self.totals[1][:, columns] += tile.sum(0, keepdim=True)
            else:
                _fold(tile, tiles.room(tile), 1, self.tops[0][rows], self.totals[0][rows])
                _fold(tile, tiles.room(tile), 0, self.tops[1][:, columns], self.totals[1][:, columns])
            if len(self.kept) < KEPT and any(tiles.wanted):
                self.kept[rows.start, columns.start] = tile

    def terms(self) -> Float[Tensor, " M"]:
        """Each image's -log softmax along its row plus that of its caption along its column."""
        first = self.tiles.first or 0
        own = slice(first, first + len(self.hits))
        rows = self.tops[0][:, 0] - self.hits + self.totals[0][:, 0].log()
        return rows + (self.tops[1][0, own] - self.hits + self.totals[1][0, own].log())

    def pull(self) -> None:
        """Second pass: 2 B times the gradient at every logit, taken to images and captions."""
        tiles = self.tiles
        if not any(tiles.wanted):
            return
        shares = [1 / total for total in self.totals]
        if self.calm:  # tops are not 0 where another process was not
            shares = [share * (-top).exp() for share, top in zip(shares, self.tops, strict=True)]
        for rows, columns in tiles:
            kept = self.kept.pop((rows.start, columns.start), None)
            tile = tiles.make(rows, columns) if kept is None else kept
            if self.calm:
                gradient = tile.exp_() if kept is None else tile
                gradient *= torch.add(shares[0][rows], shares[1][:, columns], out=tiles.room(tile))
            else:
                along = torch.sub(tile, self.tops[1][:, columns], out=tiles.room(tile)).exp_()
                gradient = tile.sub_(self.tops[0][rows]).exp_().mul_(shares[0][rows])
                gradient.addcmul_(along, shares[1][:, columns])
            tiles.pairs(gradient, rows, columns).sub_(2)
            tiles.add(gradient, rows, columns)


def sigmoid_terms(tiles: Tiles) -> Float[Tensor, ""]:
    """The sum of -log sigmoid(z l) over all tiles; B times its gradient is taken to images and captions."""
    total = tiles.image.new_zeros(())
    for rows, columns in tiles:
        tile = tiles.make(rows, columns)
        pairs = tiles.pairs(tile, rows, columns)
        pairs.neg_()  # now -z l everywhere, and softplus of it is what is wanted
        total += torch.ops.aten.softplus.out(tile, out=tiles.room(tile)).sum()
        if any(tiles.wanted):
            tile.sigmoid_()
            pairs.neg_()
            tiles.add(tile, rows, columns)
    return total


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Float[Tensor, "m n"]:
    """x w' + b. On a processor by oneDNN: MKL, which torch calls, has half its speed on AMD's."""
    if ONEDNN and x.device.type == "cpu" and x.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def wants(*leaves: Tensor) -> tuple[bool, ...]:
    """Which tensors want a gradient now."""
    return tuple(torch.is_grad_enabled() and leaf.requires_grad for leaf in leaves)


@contextmanager
def exactly(like: Tensor) -> Iterator[None]:
    """No graph, and no lower precision by autocast."""
    device = "cpu" if like.device.type == "meta" else like.device.type
    with torch.no_grad(), torch.autocast(device, enabled=False):
        yield


def check(image: Tensor, text: Tensor, scale: Tensor, ids: Tensor | None, least: int = 1) -> None:
    """Raise SadariError where a batch is no pairs of embeddings, or empty, or has not an id for each pair."""
    shapes = f"images {tuple(image.shape)} and captions {tuple(text.shape)}"
    if image.ndim != 2 or image.shape != text.shape:
        raise SadariError(f"{shapes}: a contrast takes as many of each, both (B, D); give pairs")
    if len(image) < least:
        raise SadariError(f"{shapes}: a contrast needs a pair at least; leave an empty batch out")
    if scale.numel() != 1:
        raise SadariError(f"scale {tuple(scale.shape)}: it is one number; give the one of the model")
    if ids is not None and ids.shape != image.shape[:1]:
        raise SadariError(f"ids {tuple(ids.shape)} of {len(image)} pairs: give one each, ({len(image)},)")


def _fold(tile: Tensor, room: Tensor, dim: int, top: Tensor, total: Tensor) -> None:
    """Add a tile's exponentials along `dim` to running sums e^top total, in place."""
    higher = torch.maximum(top, tile.amax(dim, keepdim=True))
    total *= top.sub_(higher).exp_()
    top.copy_(higher)
    total += torch.sub(tile, higher, out=room).exp_().sum(dim, keepdim=True)


def _again(own: Tensor | None, others: Tensor | None, first: int | None) -> Tensor | None:
    """(M,) whether an image's id stands at another caption than its own; None where none does."""
    if own is None or others is None or own.device.type == "meta":
        return None
    order = others.sort().values
    counts = torch.searchsorted(order, own, right=True) - torch.searchsorted(order, own)
    again = counts > (0 if first is None else 1)
    return again if again.any() else None


def _slices(count: int, side: int, even: bool = True) -> list[slice]:
    """0 to `count` in parts of at most `side`; evenly, as a small last tile is a slow product."""
    if even and count:
        side = -(-count // -(-count // side))
    return [slice(start, min(start + side, count)) for start in range(0, count, side)]


def _longest(x: Float[Tensor, "M D"]) -> Tensor:
    return x.norm(dim=-1).amax() if len(x) else x.new_zeros(())
