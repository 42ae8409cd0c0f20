"""From the text of a cell to its value: marks of a missing cell, how numbers, truth and dates are written.

A column is read one way as a whole: of `READINGS`, the first that reads every cell which is not missing.
Text is what is left. A table and the spec of a trained run share them, so rows to predict are read as the
rows trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import polars as pl

# A lone hyphen and question mark are what spreadsheets and old data archives write.
MISSING = (
    "",
    "-",
    "?",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "NaN",
    "nan",
    "NAN",
    "NULL",
    "null",
    "None",
    "none",
    "<NA>",
)
TRUE = frozenset({"true", "t", "yes", "y", "예", "네"})
FALSE = frozenset({"false", "f", "no", "n", "아니오", "아니요"})

DAYS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%Y년 %m월 %d일",
    "%Y. %m. %d.",
)
TIMES = (" %H:%M:%S", " %H:%M", "T%H:%M:%S", "T%H:%M", " %H:%M:%S%.f", "T%H:%M:%S%.f")
ZONED = ("T%H:%M:%S%#z", " %H:%M:%S%#z", "T%H:%M:%S%.f%#z", " %H:%M:%S%.f%#z")


@dataclass(frozen=True)
class Reading:
    """One way to read a whole column of text."""

    name: str
    """How the cells are written: `integer`, `number`, or a date's pattern."""
    dtype: pl.DataType
    """What they become."""
    read: Callable[[pl.Expr], pl.Expr]
    """Text to value; null where a cell is not written so."""
    shape: re.Pattern[str]
    """What every cell looks like: a quick test, which most readings fail on a column's first cell."""

    @property
    def ambiguous(self) -> bool:
        """Whether another reading may fit cells that this one reads."""
        return self.dtype.is_temporal() or self.name in ("grouped number", "decimal comma")

    def may_fit(self, cells: Iterable[str]) -> bool:
        """Whether trimmed cells look as if this read them."""
        return all(map(self.shape.fullmatch, cells))


def trimmed(text: pl.Expr) -> pl.Expr:
    """Text without the space around it, and null where it is a mark of a missing cell."""
    text = text.str.strip_chars()
    return pl.when(~text.is_in(MISSING)).then(text)


def number(text: pl.Expr) -> pl.Expr:
    """Text such as ` 12`, `1e-5`, `1,234.5` as float64; null where it is no number."""
    text = text.str.strip_chars()
    plain = text.cast(pl.Float64, strict=False)
    grouped = pl.when(text.str.contains(r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?$")).then(
        text.str.replace_all(",", "", literal=True)
    )
    return pl.coalesce(plain, grouped.cast(pl.Float64, strict=False))


def decimal_comma(text: pl.Expr) -> pl.Expr:
    """Text such as `1,5` or `1.234,5`, as the files of a semicolon country write it, as float64."""
    written = text.str.contains(r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?$")
    dotted = text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    return pl.when(written).then(dotted.cast(pl.Float64, strict=False))


def boolean(text: pl.Expr) -> pl.Expr:
    """Yes and no, true and false, Y and N, in any case, as a boolean; null where it is neither."""
    word = text.str.strip_chars().str.to_lowercase()
    return pl.when(word.is_in(list(TRUE))).then(True).when(word.is_in(list(FALSE))).then(False)


def date(text: pl.Expr) -> pl.Expr:
    """Text in any of the patterns as a datetime in UTC without a zone; null where it is none."""
    return pl.coalesce(
        *(reading.read(text).cast(pl.Datetime("us")) for reading in READINGS if reading.dtype.is_temporal())
    )


def _dated(pattern: str) -> Reading:
    def read(text: pl.Expr) -> pl.Expr:
        day = text.str.strip_chars().str.to_date(pattern, strict=False)
        return pl.when(day.dt.year() >= 1000).then(day)  # `24-01-31` is not the year 24

    return Reading(pattern, pl.Date(), read, _shape(pattern))


def _timed(pattern: str, zoned: bool) -> Reading:
    def read(text: pl.Expr) -> pl.Expr:
        moment = text.str.strip_chars().str.to_datetime(pattern, time_unit="us", strict=False)
        moment = moment.dt.replace_time_zone(None) if zoned else moment  # it is already turned to UTC
        return pl.when(moment.dt.year() >= 1000).then(moment)

    return Reading(pattern, pl.Datetime("us"), read, _shape(pattern))


def _shape(pattern: str) -> re.Pattern[str]:
    """What a cell written in a date's pattern looks like."""
    parts = {"%Y": r"\d{4}", "%.f": r"\.\d+", "%#z": r"(Z|[+-]\d\d:?(\d\d)?)"}
    found = re.split(r"(%\.f|%#z|%.)", pattern)
    return re.compile(
        "".join(parts.get(part, r"\d{1,2}" if part[:1] == "%" else re.escape(part)) for part in found)
    )


_WHOLE = re.compile(r"[+-]?\d+")
_FRACTION = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?|[+-]?nan", re.IGNORECASE)
_GROUPED = re.compile(r"[+-]?([1-9]\d{0,2}(,\d{3})+(\.\d+)?)|" + _FRACTION.pattern, re.IGNORECASE)
_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?")

READINGS: tuple[Reading, ...] = (
    Reading("integer", pl.Int64(), lambda text: text.cast(pl.Int64, strict=False), _WHOLE),
    Reading("number", pl.Float64(), lambda text: text.cast(pl.Float64, strict=False), _FRACTION),
    Reading(
        "spaced integer", pl.Int64(), lambda text: text.str.strip_chars().cast(pl.Int64, strict=False), _WHOLE
    ),
    Reading("grouped number", pl.Float64(), number, _GROUPED),
    *(_dated(pattern) for pattern in DAYS),
    *(_timed(day + time, False) for day in DAYS for time in TIMES),
    *(_timed("%Y-%m-%d" + time, True) for time in ZONED),
)
COMMA = Reading("decimal comma", pl.Float64(), decimal_comma, _COMMA)
TEXT = Reading("text", pl.String(), trimmed, re.compile(r"(?s).*"))
KNOWN = {reading.name: reading for reading in (*READINGS, COMMA)}


def in_order(comma: bool) -> tuple[Reading, ...]:
    """The readings in the order in which they are tried; with `comma`, `1,234` is 1.234 rather than 1234."""
    at = next(place for place, reading in enumerate(READINGS) if reading.name == "grouped number")
    return (*READINGS[:at], COMMA, *READINGS[at:]) if comma else READINGS
