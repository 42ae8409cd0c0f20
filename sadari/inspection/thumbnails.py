"""Pictures as a view carries them: small, so that its JSON and its page stay small too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from jaxtyping import UInt8

SIDE = 96  # pixels


def thumbnails(pictures: UInt8[np.ndarray, "N H W C"], side: int = SIDE) -> UInt8[np.ndarray, "N h w C"]:
    """The same pictures, at most `side` pixels wide and high; smaller ones stay as they are."""
    count, height, width, channels = pictures.shape
    if max(height, width) <= side:
        return np.ascontiguousarray(pictures)
    share = side / max(height, width)
    size = max(round(width * share), 1), max(round(height * share), 1)
    small = np.empty((count, size[1], size[0], channels), np.uint8)
    for i, picture in enumerate(pictures):
        image = Image.fromarray(picture[..., 0] if channels == 1 else picture)
        small[i] = np.asarray(image.resize(size, Image.Resampling.BOX)).reshape(small.shape[1:])
    return small
