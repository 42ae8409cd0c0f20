"""RandAugment (Cubuk et al. 2019, 1909.13719): N of fourteen changes for each picture, all of strength M.

What differs from searching a policy (AutoAugment, Cubuk 2018, 1805.09501): nothing is searched. Two numbers
remain, N = 2 changes one after the other and M = 9 of 10, those of the paper's ImageNet networks; 10 is the
far end of AutoAugment's ranges. Where a change has two directions, each is as likely.

| change        | at strength M / 10 = m                                               |
|---------------|----------------------------------------------------------------------|
| identity      | nothing                                                              |
| autocontrast  | each channel stretched to 0 .. 255                                   |
| equalize      | each channel's values spread so that all are about as frequent       |
| posterize     | only the upper 8 - 4 m bits of a value stay                          |
| solarize      | values from 256 (1 - m) up are inverted                              |
| color         | saturation times 1 ± 0.9 m                                           |
| contrast      | distance from the mean brightness times 1 ± 0.9 m                    |
| brightness    | values times 1 ± 0.9 m                                               |
| sharpness     | distance from a smoothed picture times 1 ± 0.9 m                     |
| rotate        | by ± 30 m degrees about the middle                                   |
| shear-x, -y   | by ± 0.3 m pixels a pixel from the middle                            |
| translate-x,  | by ± 0.45 m of a side                                                |
| translate-y   |                                                                      |

What moves pixels reads between them (bilinear), and what comes in from outside is grey, 128. The colours
follow Pillow's `ImageOps` and `ImageEnhance`, on which the paper's code stands. There, strength is taken the
wrong way round for posterize and solarize; here, as in the paper's text, more M is always more change.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

Pixels = UInt8[Tensor, "B H W C"]

CHANGES, STRENGTH = 2, 9  # the paper's N and M, of 10
ENHANCED, TURNED, SHEARED, MOVED, LOST_BITS = 0.9, 30.0, 0.3, 0.45, 4  # far ends of the ranges
OUTSIDE = 128.0
GREY = (0.299, 0.587, 0.114)  # of red, green and blue in what the eye takes for brightness (ITU-R BT.601)


def randaugment(pictures: Pixels, changes: int = CHANGES, strength: float = STRENGTH) -> Pixels:
    """`changes` changes of each picture, drawn from the fourteen, at `strength` of 10."""
    m = strength / 10
    for _ in range(changes):
        kinds = torch.randint(len(COLOURS) + len(MOVES), (len(pictures),))
        signs = torch.randint(2, (len(pictures),)) * 2.0 - 1
        changed = pictures.clone()
        for kind, change in enumerate(COLOURS.values()):
            rows = (kinds == kind).nonzero().squeeze(1)
            if len(rows):
                sign, rows = signs[rows].to(pictures.device), rows.to(pictures.device)
                changed[rows] = change(pictures[rows], m * sign.view(-1, 1, 1, 1))
        rows = (kinds >= len(COLOURS)).nonzero().squeeze(1)
        if len(rows):  # they differ only in their matrix
            maps = _maps(kinds[rows] - len(COLOURS), m * signs[rows])
            changed[rows.to(pictures.device)] = moved(pictures[rows.to(pictures.device)], maps)
        pictures = changed
    return pictures


# Colours: of pictures (n, H, W, C) and signed strengths (n, 1, 1, 1) from -1 to 1.


def identity(pictures: Pixels, m: Tensor) -> Pixels:
    """The pictures."""
    return pictures


def autocontrast(pictures: Pixels, m: Tensor) -> Pixels:
    """Each channel stretched so that its darkest pixel is 0 and its lightest 255; a flat one stays."""
    low, high = (bound.float()[:, None, None] for bound in _planes(pictures).aminmax(dim=-1))  # (n, 1, 1, C)
    factor = torch.where(high > low, 255 / (high - low), 1.0)
    return to_pixels((pictures - torch.where(high > low, low, 0.0)).mul_(factor))


def equalize(pictures: Pixels, m: Tensor) -> Pixels:
    """Each channel's values by their rank, so that the histogram is as flat as whole numbers allow."""
    count, height, width, channels = pictures.shape
    values = _planes(pictures).flatten(0, 1).long()  # (P, H W), a plane a row
    offsets = 256 * torch.arange(len(values), device=pictures.device).unsqueeze(1)
    histogram = torch.bincount((values + offsets).flatten(), minlength=256 * len(values)).view(-1, 256)
    last = histogram.gather(1, values.amax(1, keepdim=True))  # pixels of the lightest value that occurs
    step = (height * width - last) // 255
    below = histogram.cumsum(1) - histogram
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255).to(torch.uint8)
    # a channel with too few pixels to spread stays as it is
    table = torch.where(step > 0, table, torch.arange(256, device=pictures.device).to(torch.uint8))
    return table.gather(1, values).view(count, channels, height, width).permute(0, 2, 3, 1)


def posterize(pictures: Pixels, m: Tensor) -> Pixels:
    """The upper bits alone."""
    lost = round(LOST_BITS * float(m.abs().max()))
    return pictures & (256 - (1 << lost))


def solarize(pictures: Pixels, m: Tensor) -> Pixels:
    """Light inverted, dark as it is."""
    threshold = round(256 * (1 - float(m.abs().max())))
    return torch.where(pictures.to(torch.int16) >= threshold, 255 - pictures, pictures)  # 256 is no byte


def color(pictures: Pixels, m: Tensor) -> Pixels:
    """Away from grey, or towards it."""
    light = pictures.to(torch.float32)
    return _enhanced(grey(light), light, m)


def contrast(pictures: Pixels, m: Tensor) -> Pixels:
    """Away from the mean brightness, or towards it."""
    light = pictures.to(torch.float32)
    return _enhanced(grey(light).mean((1, 2), keepdim=True).round(), light, m)


def brightness(pictures: Pixels, m: Tensor) -> Pixels:
    """Lighter, or darker."""
    light = pictures.to(torch.float32)
    return _enhanced(torch.zeros_like(light), light, m)


def sharpness(pictures: Pixels, m: Tensor) -> Pixels:
    """Away from the picture smoothed by a 3 x 3 filter, whose rim is the picture's own, or towards it."""
    light = pictures.to(torch.float32)
    smooth = light.clone()
    if min(light.shape[1:3]) >= 3:
        rows = light[:, :-2] + light[:, 1:-1] + light[:, 2:]
        around = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
        smooth[:, 1:-1, 1:-1] = (around + 4 * light[:, 1:-1, 1:-1]) / 13
    return _enhanced(smooth, light, m)


def _planes(pictures: Pixels) -> UInt8[Tensor, "n C P"]:
    return pictures.permute(0, 3, 1, 2).flatten(2)


def _enhanced(ground: Tensor, light: Tensor, m: Tensor) -> Pixels:
    return to_pixels(torch.lerp(ground.expand_as(light), light, (1 + ENHANCED * m).expand_as(light)))


# Moves: maps (n, 2, 3) from a pixel of the new picture to the place in the old one that it is read from, both
# counted from the middle; the third column is in sides.


def rotate(m: Float[Tensor, " n"]) -> Float[Tensor, "n 2 3"]:
    """About the middle."""
    angle = math.radians(TURNED) * m
    return _map(angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def shear_x(m: Float[Tensor, " n"]) -> Float[Tensor, "n 2 3"]:
    """Rows slide over each other."""
    return _map(torch.ones_like(m), SHEARED * m, torch.zeros_like(m), torch.ones_like(m))


def shear_y(m: Float[Tensor, " n"]) -> Float[Tensor, "n 2 3"]:
    """Columns slide over each other."""
    return _map(torch.ones_like(m), torch.zeros_like(m), SHEARED * m, torch.ones_like(m))


def translate_x(m: Float[Tensor, " n"]) -> Float[Tensor, "n 2 3"]:
    """To a side."""
    maps = shear_x(torch.zeros_like(m))
    maps[:, 0, 2] = MOVED * m
    return maps


def translate_y(m: Float[Tensor, " n"]) -> Float[Tensor, "n 2 3"]:
    """Up or down."""
    maps = shear_x(torch.zeros_like(m))
    maps[:, 1, 2] = MOVED * m
    return maps


def _map(xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor) -> Tensor:
    zero = torch.zeros_like(xx)
    return torch.stack([xx, xy, zero, yx, yy, zero], dim=1).view(-1, 2, 3)


def _maps(kinds: Tensor, m: Tensor) -> Tensor:
    """Each picture's map by its kind of move."""
    every = torch.stack([move(m) for move in MOVES.values()])  # (moves, n, 2, 3)
    return every[kinds, torch.arange(len(kinds))]


def moved(pictures: Pixels, maps: Float[Tensor, "B 2 3"]) -> Pixels:
    """Pixels read at the places that maps give."""
    _, height, width, _ = pictures.shape
    maps = maps.to(pictures.device).unsqueeze(-1).unsqueeze(-1)  # (B, 2, 3, 1, 1)
    x = torch.arange(width, device=pictures.device) - (width - 1) / 2  # from the middle
    y = (torch.arange(height, device=pictures.device) - (height - 1) / 2).unsqueeze(1)
    from_x = maps[:, 0, 0] * x + maps[:, 0, 1] * y + maps[:, 0, 2] * width  # (B, H, W)
    from_y = maps[:, 1, 0] * x + maps[:, 1, 1] * y + maps[:, 1, 2] * height
    places = torch.stack([2 * from_x / width, 2 * from_y / height], dim=-1)  # (B, H, W, 2), -1 to 1
    light = pictures.permute(0, 3, 1, 2).to(torch.float32) - OUTSIDE  # what lies outside is 0
    with torch.autocast(pictures.device.type, enabled=False):
        read = F.grid_sample(light, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    return to_pixels(read.permute(0, 2, 3, 1) + OUTSIDE)


def grey(light: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W 1"]:
    """The brightness of each pixel."""
    if light.shape[-1] == 1:
        return light
    red, green, blue = (light[..., k : k + 1] * GREY[k] for k in range(3))  # a sum over so few is slow
    return red + green + blue


def to_pixels(light: Float[Tensor, "B H W C"]) -> Pixels:
    """The nearest whole numbers from 0 to 255."""
    return light.round().clamp_(0, 255).to(torch.uint8)


COLOURS: dict[str, Callable[[Pixels, Tensor], Pixels]] = {
    "identity": identity,
    "autocontrast": autocontrast,
    "equalize": equalize,
    "posterize": posterize,
    "solarize": solarize,
    "color": color,
    "contrast": contrast,
    "brightness": brightness,
    "sharpness": sharpness,
}
MOVES: dict[str, Callable[[Tensor], Tensor]] = {
    "rotate": rotate,
    "shear-x": shear_x,
    "shear-y": shear_y,
    "translate-x": translate_x,
    "translate-y": translate_y,
}
