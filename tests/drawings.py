"""Small drawings and what is said of them in two languages, for tests of pictures with captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

COLOURS = {
    "red": ("빨강", (210, 40, 40)),
    "green": ("초록", (50, 170, 60)),
    "blue": ("파랑", (50, 70, 200)),
    "yellow": ("노랑", (230, 210, 60)),
    "black": ("검정", (20, 20, 20)),
    "white": ("하양", (240, 240, 240)),
}
SHAPES = {"square": "네모", "stripe": "줄무늬", "frame": "테두리"}
WORDS = ("a", *COLOURS, *SHAPES, *(korean for korean, _ in COLOURS.values()), *SHAPES.values())


def drawn(colour: tuple[int, int, int], shape: str, draw: np.random.Generator, side: int = 16) -> np.ndarray:
    """A shape in a colour on grey noise, (H, W, 3) uint8."""
    pixels = np.full((side, side, 3), 128) + draw.normal(0, 12, (side, side, 3))
    place = int(draw.integers(0, 5))
    if shape == "square":
        pixels[4 + place // 2 : 12, 4:12] = colour
    elif shape == "stripe":
        pixels[place % 2 :: 3] = colour
    else:
        pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:] = colour, colour, colour, colour
    return pixels.clip(0, 255).astype(np.uint8)


def captioned(folder: Path, each: int = 20) -> Path:
    """Drawings of all eighteen things, so many of each, and captions.jsonl beside them."""
    draw, rows = np.random.default_rng(0), []
    folder.mkdir(parents=True, exist_ok=True)
    for name, (korean, colour) in COLOURS.items():
        for shape, shape_ko in SHAPES.items():
            for number in range(each):
                file = f"{name}-{shape}-{number}.png"
                Image.fromarray(drawn(colour, shape, draw)).save(folder / file)
                said = [f"a {name} {shape}", name], [f"{korean} {shape_ko}", korean]
                rows.append({"image": file, "caption.en": said[0], "caption.ko": said[1]})
    pl.DataFrame(rows).write_ndjson(folder / "captions.jsonl")
    return folder / "captions.jsonl"
