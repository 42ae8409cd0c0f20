"""The code that makes a picture file what a network takes, as a file for whoever has nothing of ours.

No runtime shrinks a JPEG as Pillow does, bit for bit; so what is shipped is the source of `decode_image`.
"""

from __future__ import annotations

import inspect
from typing import Any

from sadari.data import decode_image
from sadari.data.spec_images import ImageSpec


def preprocess(spec: ImageSpec) -> str:
    """A Python file whose `pixels(path)` is what the input takes of a picture file: the code of `decode`."""
    names = ("_ALPHA", "_DEPTHS", "_WHITE")
    constants = [f"{name} = {getattr(decode_image, name)!r}" for name in names]
    parts: tuple[Any, ...] = (
        decode_image._upright,
        decode_image._flat,
        decode_image._shallow,
        decode_image._square,
        decode_image._resized,
    )
    own = {"SIZE": spec.size, "FIT": spec.fit, "CHANNELS": spec.channels, "FORMATS": decode_image.FORMATS}
    return "\n\n\n".join(
        [
            _HEAD + "\n".join([*(f"{name} = {value!r}" for name, value in own.items()), *constants]),
            _PIXELS.strip(),
            *(inspect.getsource(part).strip() for part in parts),
        ]
    ) + "\n"  # fmt: skip


_HEAD = '''"""What the network takes of a picture file: pixels(path), uint8 (1, SIZE, SIZE, CHANNELS).

It needs Pillow and NumPy. Several pictures are answered together: np.concatenate([pixels(p) for p in paths]).
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from PIL import Image, ImageOps

'''
_PIXELS = '''
def pixels(path) -> np.ndarray:
    """(1, SIZE, SIZE, CHANNELS): turned upright, on white, made a square."""
    with Image.open(path, formats=FORMATS) as picture:
        flat = _upright(picture, "L" if CHANNELS == 1 else "RGB", 2 * SIZE)
    return np.asarray(_square(flat, SIZE, FIT), np.uint8).reshape(1, SIZE, SIZE, CHANNELS)
'''
