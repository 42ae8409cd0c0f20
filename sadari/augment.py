"""Random changes of training pictures that leave their classes as they are, and blends that do not.

A change takes a batch of pictures and gives one, uint8 (B, H, W, C) both, every picture drawing for itself:

| name        | what is drawn                                                       | source                 |
|-------------|---------------------------------------------------------------------|------------------------|
| crop        | a window of the picture, mirrored outwards by an eighth of a side   | Krizhevsky 2012        |
| flip        | left and right change places, or not                                | Krizhevsky 2012        |
| colour      | brightness, contrast and saturation, each times 0.6 to 1.4          | Howard 2013, 1312.5402 |
| randaugment | two of fourteen changes, see `randaugment.py`                       | Cubuk 2019, 1909.13719 |
| erase       | in half of the pictures, a rectangle that turns into noise          | Zhong 2017, 1708.04896 |

Whole numbers stay whole: what a change makes of a picture is a picture again. Flips and colours are no change
of a street or a cat, but of a digit, a letter or a traffic light they are; so only `crop` goes without
saying.

A blend mixes each picture with another one of its batch and says in which shares their two classes count:

    mixup (Zhang 2017, 1710.09412)    share x + (1 - share) x'        share ~ Beta(alpha, alpha), one a batch
    cutmix (Yun 2019, 1905.04899)     x, but a box of x' in it        the box takes 1 - share of the area

Every draw comes from torch's global generator on the processor, whose state a checkpoint holds: an
interrupted training goes on with the very pictures it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from sadari.errors import SadariError
from sadari.randaugment import grey, randaugment, to_pixels

Pixels = UInt8[Tensor, "B H W C"]
Operation = Callable[[Pixels], Pixels]

MARGIN = 8  # a picture is widened by one pixel in so many, on each side
JITTER = 0.4  # brightness, contrast and saturation are multiplied by 1 - this to 1 + this
ERASED = 0.5  # share of the pictures that are erased from
AREAS = (0.02, 0.4)  # of the picture that a rectangle takes
LONGEST = 1 / 0.3  # height by width, or width by height, of a rectangle
AUTO = "crop"


def parse(names: str) -> tuple[Operation, ...]:
    """The changes of `TrainConfig.augment` in the order of their names: "crop,flip", "auto" or "none".

    Raises SadariError for a name that is none.
    """
    if names == "none":
        return ()
    asked = dict.fromkeys(name.strip() for name in (AUTO if names == "auto" else names).split(","))
    for name in asked:
        if name not in OPERATIONS:
            raise SadariError(
                f"--augment {names!r}: there is no change {name!r}; give none, auto, or names with commas "
                f"of: {', '.join(OPERATIONS)}"
            )
    return tuple(OPERATIONS[name] for name in asked)


def crop(pictures: Pixels) -> Pixels:
    """A window of each picture's own size, from the picture mirrored outwards by an eighth of each side."""
    count, height, width, channels = pictures.shape
    rows, columns = (_window(count, size).to(pictures.device) for size in (height, width))
    first = torch.arange(count, device=pictures.device).view(-1, 1, 1) * (height * width)
    chosen = first + rows.unsqueeze(2) * width + columns.unsqueeze(1)  # (B, H, W) numbers of pixels
    return pictures.reshape(-1, channels).index_select(0, chosen.flatten()).view_as(pictures)


def _window(count: int, size: int) -> Tensor:
    """Places along one side that each picture is read at: (B, size)."""
    margin = size // MARGIN
    begin = torch.randint(-margin, margin + 1, (count, 1))
    places = (begin + torch.arange(size)).abs()  # before the edge, the mirror: -1 is 1
    return torch.where(places < size, places, 2 * (size - 1) - places)


def flip(pictures: Pixels) -> Pixels:
    """Left for right, in each picture or not."""
    chosen = (torch.rand(len(pictures)) < 0.5).nonzero().squeeze(1).to(pictures.device)
    return pictures.index_copy(0, chosen, pictures.index_select(0, chosen).flip(2))


def colour(pictures: Pixels) -> Pixels:
    """Brightness, then contrast about the picture's mean, then saturation; in grey the first two."""
    factors = torch.empty(3, len(pictures), 1, 1, 1).uniform_(1 - JITTER, 1 + JITTER).to(pictures.device)
    brightness, contrast, saturation = factors.unbind()
    light = pictures.to(torch.float32) * brightness
    light = torch.lerp(grey(light).mean((1, 2), keepdim=True), light, contrast)
    if pictures.shape[-1] > 1:
        light = torch.lerp(grey(light), light, saturation)
    return to_pixels(light)


def erase(pictures: Pixels) -> Pixels:
    """In half of the pictures a rectangle of random place, size and shape becomes noise."""
    count, height, width, channels = pictures.shape
    hit, area, shape, down, across = torch.rand(5, count)
    area = (AREAS[0] + (AREAS[1] - AREAS[0]) * area) * (height * width)
    longer = LONGEST ** (2 * shape - 1)  # height by width, as often tall as broad
    tall = (area * longer).sqrt().round().clamp(1, height)
    broad = (area / longer).sqrt().round().clamp(1, width)
    rows = _span(down, tall, height) & (hit < ERASED).unsqueeze(1)  # (B, H)
    inside = (rows.unsqueeze(2) & _span(across, broad, width).unsqueeze(1)).to(pictures.device)  # (B, H, W)
    noise = torch.randint(256, (int(inside.sum()), channels), dtype=torch.uint8)
    erased = pictures.clone()
    erased[inside] = noise.to(pictures.device)
    return erased


def _span(where: Tensor, length: Tensor, size: int) -> Tensor:
    """Which of `size` places lie in each stretch of `length` that begins anywhere it fits: (B, size)."""
    begin = (where * (size - length + 1)).floor().unsqueeze(1)
    places = torch.arange(size)
    return (places >= begin) & (places < begin + length.unsqueeze(1))


class Mixed(NamedTuple):
    """What a blended batch is: targets (B,) that count with `share`, and others (B,) with the rest."""

    targets: Shaped[Tensor, " B"]
    others: Shaped[Tensor, " B"]
    share: float


def mixup(
    pictures: Pixels, targets: Shaped[Tensor, " B"], alpha: float
) -> tuple[Float[Tensor, "B H W C"], Mixed]:
    """Each picture laid over another one, their pixels in shares; these are no whole numbers any more."""
    share, order = _share(alpha), torch.randperm(len(pictures)).to(pictures.device)
    light, other = pictures.to(torch.float32), pictures[order].to(torch.float32)
    return other.lerp_(light, share), Mixed(targets, targets[order], share)


def cutmix(pictures: Pixels, targets: Shaped[Tensor, " B"], alpha: float) -> tuple[Pixels, Mixed]:
    """A box of another picture in each, at one place in the whole batch; what an edge cuts off the box counts
    for the picture itself."""
    share, order = _share(alpha), torch.randperm(len(pictures)).to(pictures.device)
    _, height, width, _ = pictures.shape
    part = (1 - share) ** 0.5  # of each side
    rows, columns = _box(height, part), _box(width, part)
    cut = pictures.clone()
    cut[:, rows, columns] = pictures[:, rows, columns][order]
    inside = (rows.stop - rows.start) * (columns.stop - columns.start)
    return cut, Mixed(targets, targets[order], 1 - inside / (height * width))


def _share(alpha: float) -> float:
    return float(torch.distributions.Beta(alpha, alpha).sample())


def _box(size: int, part: float) -> slice:
    """A stretch about a random middle, cut off at the edges."""
    middle, half = int(torch.randint(size, ())), int(size * part) // 2
    return slice(max(middle - half, 0), min(middle + half, size))


OPERATIONS: dict[str, Operation] = {
    "crop": crop,
    "flip": flip,
    "colour": colour,
    "randaugment": randaugment,
    "erase": erase,
}
