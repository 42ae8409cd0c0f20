"""How pairs of texts become tokens: a source to be read, a target to be written, kept as JSON beside both
tokenizers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sadari.data.spec_text import TextColumn, padded
from sadari.data.tokenizers import Tokenizer
from sadari.errors import SadariError
from sadari.lang import Note

if TYPE_CHECKING:
    from jaxtyping import Int, Int32


@dataclass(frozen=True)
class PairSpec:
    """The way from a source and a target to tokens, and back.

    A source is its tokens with END behind them; a target has START before and END behind.
    """

    source: str
    """The column that is read."""
    target: str
    """The column that is written."""
    tokenizer: Tokenizer = field(compare=False)
    """Of the target, and of the source too when it is shared."""
    source_tokenizer: Tokenizer = field(compare=False)
    """Of the source; the same object when it is shared."""
    length: int
    """The most tokens that a side has, END included: longer training pairs are left out, other ones cut."""
    shared: bool = True
    """One vocabulary serves both sides."""
    reach: int | None = None
    """Tokens that a target may have beyond twice its source's; None where the pairs were not asked."""
    notes: tuple[Note, ...] = ()
    """What was found in the pairs."""
    task: str = "translate"
    unit: str = "texts"
    classes: None = None

    @property
    def width(self) -> int:
        """Size of the source's vocabulary."""
        return self.source_tokenizer.size

    @property
    def outputs(self) -> int:
        """V, the size of the target's vocabulary."""
        return self.tokenizer.size

    @property
    def start(self) -> int:
        """The token that every target begins with."""
        return self.tokenizer.start

    @property
    def end(self) -> int:
        """The token that every target ends with."""
        return self.tokenizer.end

    @property
    def columns(self) -> tuple[TextColumn, ...]:
        """The columns that are read."""
        return (TextColumn(self.source),)

    @property
    def types(self) -> dict[str, pl.DataType]:
        """For `open_table`: both sides stay as they are written, were they all numbers."""
        return {self.source: pl.String(), self.target: pl.String()}

    def check(self, schema: Mapping[str, pl.DataType], name: str = "the rows") -> None:
        """Raise SadariError when the source's column is absent, or holds no text."""
        _check_column(schema, self.source, name, f"the run was trained to read {self.source}")

    def encode(
        self, rows: pl.DataFrame, *, first_row: int = 1, name: str = "the rows"
    ) -> Int32[np.ndarray, "N S"]:
        """Sources (N, S), S the longest here, PAD at the right; a missing text is an empty one.

        Raises SadariError when there is no such column of text.
        """
        return padded(self.encode_sources(self.sources(rows, name)))

    def sources(self, rows: pl.DataFrame, name: str = "the rows") -> list[str]:
        """The texts to be read; a missing one is empty. Raises SadariError when there is no such column."""
        self.check(rows.schema, name)
        return _texts(rows, self.source)

    def encode_target(
        self, rows: pl.DataFrame, *, first_row: int = 1, name: str = "the rows"
    ) -> Int32[np.ndarray, "N T1"]:
        """Targets (N, T+1) of the rows' target column. Raises SadariError when there is no such column."""
        _check_column(rows.schema, self.target, name, "add it, or translate instead of scoring")
        return self.encode_targets(_texts(rows, self.target))

    def encode_sources(self, texts: Sequence[str]) -> list[Int32[np.ndarray, " S"]]:
        """The tokens of each source, END behind; one that is too long loses what stands before END."""
        end = self.source_tokenizer.end
        return [
            np.append(tokens[: self.length - 1], np.int32(end))
            for tokens in self.source_tokenizer.encode(texts)
        ]

    def encode_targets(self, texts: Sequence[str]) -> Int32[np.ndarray, "N T1"]:
        """Targets (N, T+1): START, tokens, END, PAD. A longer one is cut and has no END: it goes on."""
        around = (
            np.concatenate([[self.start], tokens, [self.end]], dtype=np.int32)
            for tokens in self.tokenizer.encode(texts)
        )
        return padded([tokens[: self.length + 1] for tokens in around])

    def limits(self, lengths: Sequence[int] | Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"] | None:
        """How many tokens a search may write, END aside, for sources of so many, END included.

        Twice the source's and `reach`, since what the training pairs hold nearly never goes further; no more
        than `length`, since nothing longer was trained on. None where the pairs were not asked.
        """
        if self.reach is None:
            return None
        return np.minimum(2 * np.asarray(lengths, np.int64) + self.reach, self.length)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of a target's tokens, without START, END and PAD."""
        return self.tokenizer.decode(tokens)

    def to_json(self) -> dict[str, Any]:
        """All but the tokenizers, which have files of their own."""
        return {
            "kind": "pairs",
            "task": self.task,
            "source": self.source,
            "target": self.target,
            "length": self.length,
            "shared": self.shared,
            "reach": self.reach,
            "notes": [note.to_json() for note in self.notes],
        }

    @classmethod
    def from_json(
        cls, content: Mapping[str, Any], tokenizer: Tokenizer, source_tokenizer: Tokenizer | None = None
    ) -> PairSpec:
        """The spec that `to_json` wrote. Raises SadariError for another content or too few tokenizers."""
        try:
            if content["kind"] != "pairs" or content["task"] != "translate":
                raise ValueError(f"kind {content['kind']!r}, task {content['task']!r}")
            shared = bool(content["shared"])
            if not shared and source_tokenizer is None:
                raise ValueError("the source's tokenizer is missing")
            reach = content.get("reach")  # older runs have none
            return cls(
                source=str(content["source"]),
                target=str(content["target"]),
                tokenizer=tokenizer,
                source_tokenizer=tokenizer if shared or source_tokenizer is None else source_tokenizer,
                length=int(content["length"]),
                shared=shared,
                reach=None if reach is None else int(reach),
                notes=tuple(Note.from_json(note) for note in content["notes"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SadariError(
                f"spec.json is no spec of pairs ({type(error).__name__}: {error}); fit the run again"
            ) from error


def _check_column(schema: Mapping[str, pl.DataType], column: str, name: str, remedy: str) -> None:
    if column not in schema:
        raise SadariError(
            f"{name} lacks column: {column}; {remedy} (columns here: {', '.join(list(schema)[:8])})"
        )
    if schema[column] not in (pl.String, pl.Null, pl.Categorical, pl.Enum):
        raise SadariError(f"{name}: column {column} is {schema[column]}, not text; give texts as in training")


def _texts(rows: pl.DataFrame, column: str) -> list[str]:
    return rows[column].cast(pl.String).fill_null("").to_list()
