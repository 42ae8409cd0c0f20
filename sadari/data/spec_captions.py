"""How pictures become pixels and captions tokens: learnt in training, kept as JSON, applied to any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sadari.data.caption_columns import captions_in, merged
from sadari.data.image_columns import pictures_of
from sadari.data.spec_images import ImageColumn, ImageSpec
from sadari.data.spec_text import TextColumn, padded
from sadari.data.tokenizers import Tokenizer
from sadari.errors import SadariError
from sadari.lang import Note

if TYPE_CHECKING:
    from jaxtyping import Int32, UInt8


@dataclass(frozen=True)
class CaptionSpec:
    """The way from picture files to pixels and from captions to tokens.

    Pixels are those of `ImageSpec`. A caption is START, its tokens, END; a tokenizer that came with a model
    puts its own special tokens. One that is too long loses what stands before its END.
    """

    pictures: ImageSpec
    """Of the pictures: size, fit, channels, mean and deviation; it has no classes."""
    captions: tuple[str, ...]
    """The columns of captions: caption, or caption.en and caption.ko."""
    tokenizer: Tokenizer = field(compare=False)
    """Of all languages."""
    length: int
    """The most tokens that a caption has, START and END included."""
    notes: tuple[Note, ...] = ()
    """What was found in pictures and captions."""
    task: str = "match"
    unit: str = "images"
    classes: None = None

    @property
    def image(self) -> str:
        """The column of the pictures."""
        return self.pictures.image

    @property
    def target(self) -> str:
        """The column of captions that comes first."""
        return self.captions[0]

    @property
    def languages(self) -> tuple[str, ...]:
        """Of each column of captions; "" where none is said."""
        return tuple(name.partition(".")[2] for name in self.captions)

    @property
    def size(self) -> int:
        return self.pictures.size

    @property
    def mean(self) -> tuple[float, ...]:
        return self.pictures.mean

    @property
    def deviation(self) -> tuple[float, ...]:
        return self.pictures.deviation

    @property
    def width(self) -> tuple[int, int, int]:
        """(C, H, W), as image towers take it."""
        return self.pictures.width

    @property
    def vocabulary(self) -> int:
        """V, as text towers take it."""
        return self.tokenizer.size

    @property
    def end(self) -> int:
        """The token that ends each caption."""
        return self.tokenizer.end

    @property
    def columns(self) -> tuple[ImageColumn | TextColumn, ...]:
        """The columns that are read."""
        return (ImageColumn(self.image), *map(TextColumn, self.captions))

    @property
    def types(self) -> dict[str, pl.DataType]:
        """For `open_table`: paths and captions stay as they are written, were they all numbers."""
        return dict.fromkeys((self.image, *self.captions), pl.String())

    def check(self, schema: Mapping[str, pl.DataType], name: str = "the rows") -> None:
        """Raise SadariError when the pictures' column is absent, or holds no pictures."""
        self.pictures.check(schema, name)

    def encode(
        self, frame: pl.DataFrame, *, first_row: int = 1, name: str = "the rows"
    ) -> UInt8[np.ndarray, "N H W C"]:
        """Pixels (N, H, W, C) of the rows' pictures. Raises SadariError as `ImageSpec.encode` does."""
        return self.pictures.encode(frame, first_row=first_row, name=name)

    def encode_target(
        self, frame: pl.DataFrame, *, first_row: int = 1, name: str = "the rows"
    ) -> Int32[np.ndarray, "N T"]:
        """Tokens (N, T) of each row's first caption. Raises SadariError for a row that has none."""
        firsts = []
        for row, texts in enumerate(self.captions_of(frame, name)):
            if not texts:
                raise SadariError(f"{name} row {first_row + row:,} has no {self.target}; leave the row out")
            firsts.append(texts[0])
        return self.encode_captions(firsts)

    def captions_of(self, frame: pl.DataFrame, name: str = "the rows") -> list[list[str]]:
        """The captions of each row in all languages, those of the first column first.

        Raises SadariError when no column of captions is there.
        """
        there = [column for column in self.captions if column in frame.columns]
        if not there:
            raise SadariError(
                f"{name} lacks columns: {', '.join(self.captions)}; the run was trained on its captions "
                f"(columns here: {', '.join(frame.columns[:8])})"
            )
        by_column = [[captions_in(value) for value in frame[column].to_list()] for column in there]
        return [merged(row).get("", []) for row in zip(*by_column, strict=True)]

    def encode_captions(self, texts: Sequence[str], length: int = 0) -> Int32[np.ndarray, "N T"]:
        """Tokens (N, T) of captions, PAD at the right; T is `length`, or else that of the longest here."""
        found = self.tokenizer.encode(texts, special=True)
        return padded([self.cut(tokens) for tokens in found], length)

    def cut(self, tokens: Int32[np.ndarray, " T"]) -> Int32[np.ndarray, " T"]:
        """At most `length` tokens of a caption; the last stays the last."""
        if len(tokens) <= self.length:
            return tokens
        return np.append(tokens[: self.length - 1], tokens[-1:])

    def picture_column(self, frame: pl.DataFrame, name: str = "the rows") -> pl.Series:
        """The pictures as paths or bytes. Raises SadariError when there are none."""
        self.check(frame.schema, name)
        return pictures_of(frame[self.image], name)

    def to_json(self) -> dict[str, Any]:
        """All but the tokenizer, which has a file of its own."""
        return {
            "kind": "captions",
            "task": self.task,
            "pictures": self.pictures.to_json(),
            "captions": list(self.captions),
            "length": self.length,
            "notes": [note.to_json() for note in self.notes],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], tokenizer: Tokenizer) -> CaptionSpec:
        """The spec that `to_json` wrote. Raises SadariError for another content."""
        try:
            if content["kind"] != "captions" or content["task"] != "match":
                raise ValueError(f"kind {content['kind']!r}, task {content['task']!r}")
            spec = cls(
                pictures=ImageSpec.from_json(content["pictures"]),
                captions=tuple(map(str, content["captions"])),
                tokenizer=tokenizer,
                length=int(content["length"]),
                notes=tuple(Note.from_json(note) for note in content["notes"]),
            )
            if not spec.captions or spec.length < 2:
                raise ValueError(f"captions {spec.captions}, length {spec.length}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SadariError(
                f"spec.json is no spec of captions ({type(error).__name__}: {error}); fit the run again"
            ) from error
        return spec


def check_tokenizer(tokenizer: Tokenizer, vocabulary: int, *, end: int | None = None) -> None:
    """Raise SadariError when a tokenizer is not that of a text tower with `vocabulary` tokens.

    `end` is the token whose place the tower reads: each caption must have it, and it must be the last one.
    """
    if tokenizer.size > vocabulary:
        raise SadariError(
            f"the tokenizer has {tokenizer.size:,} tokens and the text tower knows {vocabulary:,}; give the "
            "tokenizer.json that came with the model"
        )
    if end is None:
        return
    probe = tokenizer.encode(["a"], special=True)[0]
    if not len(probe) or probe[-1] != end:
        found = int(probe[-1]) if len(probe) else "none"
        raise SadariError(
            f"the text tower reads a caption at its end token {end:,}, and the tokenizer ends one with "
            f"{found}; give the tokenizer.json that came with the model"
        )
