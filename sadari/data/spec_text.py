"""How texts become tokens, and labels classes: learnt on training texts, kept as JSON, applied to any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sadari.data.spec import class_codes
from sadari.data.tokenizers import PAD, Tokenizer
from sadari.errors import SadariError
from sadari.lang import Note

if TYPE_CHECKING:
    from jaxtyping import Int32, Int64


@dataclass(frozen=True)
class TextColumn:
    """The column that holds the texts."""

    name: str
    kind: str = "text"


@dataclass(frozen=True)
class TextSpec:
    """The way from texts to tokens and from labels to classes, and back."""

    target: str
    """The label's column."""
    text: str
    """The text's column."""
    classes: tuple[str, ...]
    """Class labels in sorted order, numbers by value."""
    tokenizer: Tokenizer = field(compare=False)
    length: int
    """The most tokens that are kept of a text, from its beginning."""
    notes: tuple[Note, ...] = ()
    """What was found in the texts."""
    task: str = "classify"

    @property
    def width(self) -> int:
        """V, the size of the vocabulary."""
        return self.tokenizer.size

    @property
    def columns(self) -> tuple[TextColumn, ...]:
        """The columns that are read."""
        return (TextColumn(self.text),)

    @property
    def types(self) -> dict[str, pl.DataType]:
        """For `open_table`: the text stays as it is written, were it all numbers."""
        return {self.text: pl.String()}

    def check(self, schema: Mapping[str, pl.DataType], name: str = "the rows") -> None:
        """Raise SadariError when the text's column is absent, or holds no text."""
        if self.text not in schema:
            raise SadariError(
                f"{name} lacks column: {self.text}; the run was trained on its texts (columns here: "
                f"{', '.join(list(schema)[:8])})"
            )
        if schema[self.text] not in (pl.String, pl.Null, pl.Categorical, pl.Enum):
            raise SadariError(
                f"{name}: column {self.text} is {schema[self.text]}, not text; give texts as in training"
            )

    def encode(
        self, frame: pl.DataFrame, *, first_row: int = 1, name: str = "the rows"
    ) -> Int32[np.ndarray, "N T"]:
        """Tokens (N, T), T the longest text here and at least 1; shorter ones have PAD at the right.

        A missing text is an empty one. Raises SadariError when there is no such column of text.
        """
        self.check(frame.schema, name)
        texts = frame[self.text].cast(pl.String).fill_null("").to_list()
        found = self.tokenizer.encode(texts, special=self.special)
        return padded([self.cut(tokens) for tokens in found])

    @property
    def special(self) -> bool:
        """Whether start and end stand around each text: as a given tokenizer's model is used to."""
        return self.tokenizer.kind == "given"

    def cut(self, tokens: Int32[np.ndarray, " T"]) -> Int32[np.ndarray, " T"]:
        """The first `length` tokens; where the end stands behind each text, it stays the last."""
        if self.special and self.length > 1 and len(tokens) > self.length:
            return np.append(tokens[: self.length - 1], tokens[-1:])
        return tokens[: self.length]

    def encode_target(
        self, frame: pl.DataFrame, *, first_row: int = 1, name: str = "the rows"
    ) -> Int64[np.ndarray, " N"]:
        """Class numbers (N,). Raises SadariError for a label that is missing, or unknown to training."""
        return class_codes(frame, self.target, self.classes, first_row, name)

    def decode_target(self, values: np.ndarray) -> np.ndarray:
        """Labels, as text, of class numbers; any shape."""
        return np.array(self.classes)[np.asarray(values, np.int64)]

    def recoded(self, tokenizer: Tokenizer, length: int = 0) -> TextSpec:
        """The same texts and classes in another tokenizer."""
        return replace(self, tokenizer=tokenizer, length=length or self.length)

    def to_json(self) -> dict[str, Any]:
        """All but the tokenizer, which has a file of its own."""
        return {
            "kind": "text",
            "task": self.task,
            "target": self.target,
            "text": self.text,
            "classes": list(self.classes),
            "length": self.length,
            "notes": [note.to_json() for note in self.notes],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], tokenizer: Tokenizer) -> TextSpec:
        """The spec that `to_json` wrote. Raises SadariError when the content is none."""
        try:
            return cls(
                task=str(content["task"]),
                target=str(content["target"]),
                text=str(content["text"]),
                classes=tuple(map(str, content["classes"])),
                tokenizer=tokenizer,
                length=int(content["length"]),
                notes=tuple(Note.from_json(note) for note in content["notes"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SadariError(
                f"spec.json is no spec of texts ({type(error).__name__}: {error}); fit the run again"
            ) from error


@dataclass(frozen=True)
class LanguageSpec:
    """The way from a corpus to tokens, and from a prompt."""

    tokenizer: Tokenizer = field(compare=False)
    notes: tuple[Note, ...] = ()
    task: str = "language"
    target: str = ""
    classes: None = None
    columns: tuple[TextColumn, ...] = ()

    @property
    def width(self) -> int:
        """V, the size of the vocabulary."""
        return self.tokenizer.size

    @property
    def types(self) -> dict[str, pl.DataType]:
        return {}

    def encode_prompts(self, texts: Sequence[str]) -> list[Int32[np.ndarray, " T"]]:
        """Tokens of beginnings to be continued: the end of the document before (END) and the text, no end."""
        return [
            np.concatenate([[self.tokenizer.end], tokens], dtype=np.int32)
            for tokens in self.tokenizer.encode(texts)
        ]

    def to_json(self) -> dict[str, Any]:
        """All but the tokenizer, which has a file of its own."""
        return {"kind": "text", "task": self.task, "notes": [note.to_json() for note in self.notes]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], tokenizer: Tokenizer) -> LanguageSpec:
        """The spec that `to_json` wrote. Raises SadariError when the content is none."""
        try:
            if content["task"] != "language":
                raise ValueError(f"task {content['task']!r}")
            return cls(tokenizer, tuple(Note.from_json(note) for note in content["notes"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SadariError(
                f"spec.json is no spec of a corpus ({type(error).__name__}: {error}); fit the run again"
            ) from error


def padded(texts: Sequence[np.ndarray], length: int = 0) -> Int32[np.ndarray, "N T"]:
    """Texts as one array, PAD at the right; T is `length`, or else that of the longest and at least 1."""
    longest = length or max(1, max((len(tokens) for tokens in texts), default=0))
    out = np.full((len(texts), longest), PAD, np.int32)
    for row, tokens in zip(out, texts, strict=True):
        row[: len(tokens)] = tokens
    return out
