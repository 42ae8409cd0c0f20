"""What every view returns: arrays and facts, with the words that explain them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sadari.errors import SadariError
from sadari.lang import Lang, Texts, pick
from sadari.metrics import number

Said = tuple[str, str]
"""One sentence twice: English, Korean."""


def say(texts: Texts, key: str, **values: Any) -> Said:
    """The sentence `key` in both languages, its numbers shortened; a value may be a Said itself."""

    def filled(lang: Lang) -> str:
        return pick(texts, key, lang, **{name: _shown(value, lang) for name, value in values.items()})

    return filled("en"), filled("ko")


def _shown(value: Any, lang: Lang) -> Any:
    if isinstance(value, tuple):
        return value[lang == "ko"]
    if isinstance(value, float | np.floating):
        return number(float(value)).replace("-", "−")
    return f"{value:,}" if isinstance(value, int | np.integer) else value


@dataclass(frozen=True)
class View:
    """One look inside a run: the numbers, and the words that make them readable."""

    name: str
    """Which view it is, as `sadari look RUN NAME` calls it; charts choose their drawing by it."""
    title: Said
    """What was found, in a sentence with its number."""
    caption: Said
    """What is drawn: axes, rows, what was held still."""
    see: Said
    """What to see here: the sentence that a learner needs, its numbers filled in."""
    arrays: dict[str, np.ndarray]
    """The numbers. Arrays of one length are columns of one table; a matrix whose last length is theirs adds
    rows of columns.
    """
    facts: dict[str, Any] = field(default_factory=dict)
    """Single numbers and names behind the words; plain JSON values."""
    labels: dict[str, Said] = field(default_factory=dict)
    """What each array is called where people read it, its unit included."""

    def say(self, part: str, lang: Lang) -> str:
        """`title`, `caption` or `see` in one language."""
        return getattr(self, part)[lang == "ko"]

    def label(self, array: str, lang: Lang) -> str:
        """The name of an array for people."""
        return self.labels[array][lang == "ko"] if array in self.labels else array

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a value that is not finite becomes null, since JSON has neither NaN nor infinity, and
        bytes of pixels (..., H, W, C) are written as base64."""
        return {
            "view": self.name,
            **{part: _said(getattr(self, part)) for part in ("title", "caption", "see")},
            "arrays": {name: _packed(values) for name, values in self.arrays.items()},
            "facts": _plain(self.facts),
            "labels": {name: _said(label) for name, label in self.labels.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> View:
        """The view that `to_json` wrote, null read as NaN. Raises SadariError when `content` is no view."""
        try:
            return cls(
                name=content["view"],
                title=_read(content["title"]),
                caption=_read(content["caption"]),
                see=_read(content["see"]),
                arrays={name: _unpacked(packed) for name, packed in content["arrays"].items()},
                facts=dict(content["facts"]),
                labels={name: _read(label) for name, label in content["labels"].items()},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SadariError(
                f"this JSON holds no view ({error!r}); write it again with `sadari look`"
            ) from error


def _said(said: Said) -> dict[str, str]:
    return dict(zip(("en", "ko"), said, strict=True))


def _read(said: Mapping[str, str]) -> Said:
    return said["en"], said["ko"]


def _packed(values: np.ndarray) -> dict[str, Any]:
    if values.dtype == np.uint8 and values.ndim > 2:  # pixels: as lists they would take ten times the room
        packed = base64.b64encode(values.tobytes()).decode()
        return {"dtype": "uint8", "shape": list(values.shape), "base64": packed}
    flat = values.ravel().tolist()
    if values.dtype.kind == "f":
        flat = [value if np.isfinite(value) else None for value in flat]
    kind = "str" if values.dtype.kind == "U" else values.dtype.name
    return {"dtype": kind, "shape": list(values.shape), "values": flat}


def _unpacked(packed: Mapping[str, Any]) -> np.ndarray:
    if "base64" in packed:
        pixels = base64.b64decode(packed["base64"], validate=True)
        return np.frombuffer(pixels, np.uint8).reshape(packed["shape"]).copy()
    values = packed["values"]
    if packed["dtype"].startswith("float"):
        values = [np.nan if value is None else value for value in values]
    return np.array(values, dtype=packed["dtype"]).reshape(packed["shape"])


def _plain(value: Any) -> Any:
    """Numpy scalars and tuples as JSON knows them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
