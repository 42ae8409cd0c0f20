"""How pictures become pixels, and labels classes: learnt in training, kept as JSON, applied to any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sadari.data.decode_image import CHANNELS, FITS, LARGEST, decode
from sadari.data.image_columns import pictures_of
from sadari.data.image_files import side_by_side
from sadari.data.spec import class_codes
from sadari.errors import SadariError
from sadari.lang import Note

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt8

_READABLE = (pl.String, pl.Binary, pl.Null, pl.Struct)


@dataclass(frozen=True)
class ImageColumn:
    """The column that holds the pictures."""

    name: str
    kind: str = "image"


@dataclass(frozen=True)
class ImageSpec:
    """The way from picture files to pixels and from labels to classes, and back.

    Pixels stay whole numbers, 0 to 255; what a model sees is (pixel / 255 - mean) / deviation of its channel.
    """

    target: str
    """The label's column."""
    image: str
    """The column of the pictures: paths, or the files' bytes."""
    classes: tuple[str, ...]
    """Class labels in sorted order, numbers by value."""
    size: int
    """Pixels of a side; every picture is made a square of it."""
    fit: str = "crop"
    """How it becomes a square: crop (its middle), pad (white around it), squash (its sides alike)."""
    channels: int = 3
    """1 for grey, 3 for red, green and blue."""
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    """Of each channel over the training pictures, pixels from 0 to 1."""
    deviation: tuple[float, ...] = (0.5, 0.5, 0.5)
    """Standard deviation of each channel over the training pictures; never 0."""
    notes: tuple[Note, ...] = ()
    """What was found in the pictures."""
    task: str = "classify"
    unit: str = "images"

    @property
    def width(self) -> tuple[int, int, int]:
        """(C, H, W), as models take it."""
        return self.channels, self.size, self.size

    @property
    def columns(self) -> tuple[ImageColumn, ...]:
        """The columns that are read."""
        return (ImageColumn(self.image),)

    @property
    def types(self) -> dict[str, pl.DataType]:
        """For `open_table`: paths stay as they are written, were they all numbers."""
        return {self.image: pl.String()}

    def check(self, schema: Mapping[str, pl.DataType], name: str = "the rows") -> None:
        """Raise SadariError when the pictures' column is absent, or holds no pictures."""
        if self.image not in schema:
            raise SadariError(
                f"{name} lacks column: {self.image}; the run was trained on its pictures (columns here: "
                f"{', '.join(list(schema)[:8])})"
            )
        if schema[self.image] not in _READABLE:
            raise SadariError(
                f"{name}: column {self.image} is {schema[self.image]}; give pictures as paths or as "
                f"the files' bytes"
            )

    def encode(
        self, frame: pl.DataFrame, *, first_row: int = 1, name: str = "the rows"
    ) -> UInt8[np.ndarray, "N H W C"]:
        """Pixels (N, H, W, C) of the rows' pictures; paths that are not full start where the program runs.

        Raises SadariError when there is no such column, or naming the first row whose picture is missing or
        cannot be decoded.
        """
        self.check(frame.schema, name)
        column = frame[self.image]
        column = column if column.dtype == pl.Null else pictures_of(column, name)
        if column.null_count():
            row = int(column.is_null().to_numpy().argmax())
            raise SadariError(f"{name} row {first_row + row:,} has no {self.image}; leave the row out")
        pictures = column.to_list()
        pixels = np.empty((frame.height, self.size, self.size, self.channels), np.uint8)

        def one(row: int) -> np.ndarray:
            return self.decode(pictures[row], f"{name} row {first_row + row:,}")

        for row, found in enumerate(side_by_side(one, range(frame.height))):
            pixels[row] = found
        return pixels

    def decode(self, picture: bytes | str | Path, name: str = "") -> UInt8[np.ndarray, "H W C"]:
        """The pixels of one picture, a path or a file's bytes. Raises SadariError when it is none.

        `name` is what errors call bytes; a path is called as it is.
        """
        source = picture if isinstance(picture, bytes) else Path(picture)
        called = name if isinstance(picture, bytes) else ""
        return decode(source, size=self.size, fit=self.fit, channels=self.channels, name=called)

    def encode_target(
        self, frame: pl.DataFrame, *, first_row: int = 1, name: str = "the rows"
    ) -> Int64[np.ndarray, " N"]:
        """Class numbers (N,). Raises SadariError for a label that is missing, or unknown to training."""
        return class_codes(frame, self.target, self.classes, first_row, name)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "kind": "images",
            "task": self.task,
            "target": self.target,
            "image": self.image,
            "classes": list(self.classes),
            "size": self.size,
            "fit": self.fit,
            "channels": self.channels,
            "mean": list(self.mean),
            "deviation": list(self.deviation),
            "notes": [note.to_json() for note in self.notes],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ImageSpec:
        """The spec that `to_json` wrote. Raises SadariError for another content."""
        try:
            if content["kind"] != "images" or content["task"] != "classify":
                raise ValueError(f"kind {content['kind']!r}, task {content['task']!r}")
            spec = cls(
                target=str(content["target"]),
                image=str(content["image"]),
                classes=tuple(map(str, content["classes"])),
                size=int(content["size"]),
                fit=str(content["fit"]),
                channels=int(content["channels"]),
                mean=tuple(map(float, content["mean"])),
                deviation=tuple(map(float, content["deviation"])),
                notes=tuple(Note.from_json(note) for note in content["notes"]),
            )
            spec._check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SadariError(
                f"spec.json is no spec of pictures ({type(error).__name__}: {error}); fit the run again"
            ) from error
        return spec

    def _check(self) -> None:
        if not 1 <= self.size <= LARGEST or self.fit not in FITS or self.channels not in CHANNELS:
            raise ValueError(f"size {self.size}, fit {self.fit!r}, channels {self.channels}")
        known = np.isfinite([*self.mean, *self.deviation]).all()
        if not (len(self.mean) == len(self.deviation) == self.channels and known and min(self.deviation) > 0):
            raise ValueError(f"mean {self.mean}, deviation {self.deviation}, channels {self.channels}")
