"""The contrast losses over pairs that are spread across processes (torch.distributed), as if in one.

Each process has its own share of the batch, of any size. What travels is as large as embeddings, never B x B:

    softmax    all captions are gathered; a process makes its own images' rows of logits
               (CLIP, 2103.00020, section 2.5), and the sums over columns are added up between both passes:

                   own images x all captions -> row sums, parts of column sums -> sum across -> gradients

    sigmoid    captions go round a ring, from neighbour to neighbour (SigLIP, 2303.15343, section 3.3), and
               their gradient goes with them; after as many steps as there are processes both are home:

                   process 0   text 0 -> text 2 -> text 1         each step: own images x the visitors
                   process 1   text 1 -> text 0 -> text 2
                   process 2   text 2 -> text 1 -> text 0

Every process returns the loss of the whole batch. Gradients are those of the sum over all processes of what
they return, as with `torch.distributed.nn`: after the mean that DistributedDataParallel takes they are those
of the loss in one process. All is done on the way to the loss; a backward pass sends nothing.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor

from sadari.errors import SadariError
from sadari.layers import contrast
from sadari.layers.contrast import Known, Sums, Tiles, exactly, sigmoid_terms, wants


def softmax_loss(
    image: Float[Tensor, "b D"],
    text: Float[Tensor, "b D"],
    scale: Float[Tensor, "*one"],
    ids: Int[Tensor, " b"] | None = None,
    chunk: int = 0,
    group: dist.ProcessGroup | None = None,
) -> Float[Tensor, ""]:
    """`contrast.softmax_loss` of the pairs of all processes of `group`; each gives its own b, which may be 0.

    All processes call it together, with the same scale, and either all or none with ids, which hold across
    processes. Raises SadariError for shapes that do not fit.
    """
    if not _many(group):
        return contrast.softmax_loss(image, text, scale, ids, chunk)
    contrast.check(image, text, scale, ids, least=0)
    wanted, scale = wants(image, text, scale), scale.reshape(())
    with exactly(image):
        shares, me = _shares(text, group)
        first, B = sum(shares[:me]), sum(shares)
        everything = torch.cat(_gathered(text, shares, group))
        everyone = None if ids is None else torch.cat(_gathered(ids, shares, group))
        tiles = Tiles(image, everything, scale, None, ids, everyone, wanted, first, chunk)
        sums = Sums(tiles)
        _added_up(sums, group)
        sums.pull()
        if tiles.texts is not None:
            # gloo has no reduce_scatter; the sum is as large as what was gathered
            dist.all_reduce(tiles.texts, group=group)
            own = slice(first, first + len(text))
            tiles.text, tiles.texts = tiles.text[own], tiles.texts[:, own]
        value = sums.terms().sum() / (2 * B)
        dist.all_reduce(value, group=group)
        gradients = tiles.gradients(len(shares) / (2 * B))
    return Known.apply(value, gradients[:3], image, text, scale)


def sigmoid_loss(
    image: Float[Tensor, "b D"],
    text: Float[Tensor, "b D"],
    scale: Float[Tensor, "*one"],
    bias: Float[Tensor, "*one"],
    ids: Int[Tensor, " b"] | None = None,
    chunk: int = 0,
    group: dist.ProcessGroup | None = None,
) -> Float[Tensor, ""]:
    """`contrast.sigmoid_loss` of the pairs of all processes of `group`, as `softmax_loss` here."""
    if not _many(group):
        return contrast.sigmoid_loss(image, text, scale, bias, ids, chunk)
    contrast.check(image, text, scale, ids, least=0)
    wanted, scale, bias = wants(image, text, scale, bias), scale.reshape(()), bias.reshape(())
    with exactly(image):
        shares, me = _shares(text, group)
        everyone = None if ids is None else _gathered(ids, shares, group)
        home = Tiles(image, text, scale, bias, ids, ids, wanted, 0, chunk)
        value = sigmoid_terms(home)
        visitor, pulls = _padded(home.text, shares), home.texts
        if pulls is not None:
            pulls = _padded(pulls.t(), shares)
        for step in range(1, len(shares)):
            whose = (me - step) % len(shares)
            if pulls is not None:
                pulls = _from_the_left(pulls, group)
            visitor = _from_the_left(visitor, group)
            others = None if everyone is None else everyone[whose]
            tiles = Tiles(image, visitor[: shares[whose]], scale, bias, ids, others, wanted, None, chunk)
            value += sigmoid_terms(tiles)
            home.biases += tiles.biases
            if home.images is not None and tiles.images is not None:
                home.images += tiles.images
            if pulls is not None and tiles.texts is not None:
                pulls[: shares[whose]] += tiles.texts.t()
        if pulls is not None:
            home.texts = _from_the_left(pulls, group)[: len(text)].t()
        value /= sum(shares)
        dist.all_reduce(value, group=group)
        gradients = home.gradients(len(shares) / sum(shares))
    return Known.apply(value, gradients, image, text, scale, bias)


def _many(group: dist.ProcessGroup | None) -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1


def _shares(x: Float[Tensor, "b D"], group: dist.ProcessGroup | None) -> tuple[list[int], int]:
    """How many pairs each process has, and which process this is. SadariError where none has any."""
    counts = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(dist.get_world_size(group))]
    dist.all_gather(counts, counts[0].new_tensor([len(x)]), group=group)
    shares = [int(count) for count in counts]
    if not sum(shares):
        raise SadariError(
            f"no pair in any of {len(shares)} processes: a contrast needs one; leave an empty batch out"
        )
    return shares, dist.get_rank(group)


def _padded(x: Tensor, shares: list[int]) -> Tensor:
    """Rows of zeros behind `x`, up to the largest share, so that what travels has one shape."""
    whole = x.new_zeros(max(shares), *x.shape[1:])
    whole[: len(x)] = x
    return whole


def _gathered(x: Tensor, shares: list[int], group: dist.ProcessGroup | None) -> list[Tensor]:
    """The rows of each process, in their order."""
    if x.is_floating_point():
        x = x.to(torch.promote_types(x.dtype, torch.float32))  # as gloo does not take every lower precision
    own = _padded(x, shares)
    parts = [torch.empty_like(own) for _ in shares]
    dist.all_gather(parts, own, group=group)
    return [part[:share] for part, share in zip(parts, shares, strict=True)]


def _added_up(sums: Sums, group: dist.ProcessGroup | None) -> None:
    """Column sums e^top total of a process's rows become those of all rows, in place."""
    top, total = sums.tops[1], sums.totals[1]
    top.masked_fill_(total == 0, torch.finfo(top.dtype).min)  # no row here, so no top either
    highest = top.clone()
    dist.all_reduce(highest, dist.ReduceOp.MAX, group=group)
    total *= top.sub_(highest).exp_()
    top.copy_(highest)
    dist.all_reduce(total, group=group)


def _from_the_left(x: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    """Hand `x` to the process on the right, and take what the one on the left hands on."""
    me, many = dist.get_rank(group), dist.get_world_size(group)
    left, right = (
        rank if group is None else dist.get_global_rank(group, rank)
        for rank in ((me - 1) % many, (me + 1) % many)
    )
    given = torch.empty_like(x)
    sending = dist.P2POp(dist.isend, x, right, group)
    taking = dist.P2POp(dist.irecv, given, left, group)
    for work in dist.batch_isend_irecv([sending, taking]):
        work.wait()
    return given
