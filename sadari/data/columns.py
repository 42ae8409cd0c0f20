"""One column of a table and its features: standard numbers, one-hot categories, dates as turns of a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, Literal

import polars as pl

from sadari.data import readings

Kind = Literal["number", "boolean", "category", "date"]
YEAR_DAYS, WEEK_DAYS = 365.2425, 7.0
TURN = 6.283185307179586  # 2 pi
FARTHEST = 1e9  # deviations from the mean; a cell beyond them would be infinite in float32 arithmetic
LARGEST = 1e100  # a number beyond this counts as infinite, so that sums of its cubes do not
RARE, GAP = "(rare)", "(missing)"


@dataclass(frozen=True)
class ColumnSpec:
    """How one raw column becomes features, learnt on training rows; plain arithmetic, which ONNX can do."""

    name: str
    kind: Kind
    missing: bool = False
    """Training had gaps: one more 0/1 feature says where. The others take the mean there, or zero."""
    center: float = 0.0
    """Subtracted from the number, the boolean as 0/1, or the days since 1970-01-01 UTC."""
    scale: float = 1.0
    """Divided by after that."""
    categories: tuple[str, ...] = ()
    """Categories that have a feature of their own, sorted."""
    rare: bool = False
    """One more feature for every other category; without it an unseen category is zero in all features."""
    clock: bool = False
    """The date has a time of day."""
    written: str = ""
    """The reading of text in training where others might fit (`%d/%m/%Y`, `decimal comma`): tried first."""

    @property
    def features(self) -> list[str]:
        """Names of the features, in order."""
        if self.kind == "category":
            more = [RARE] * self.rare + [GAP] * self.missing
            return [f"{self.name}={category}" for category in (*self.categories, *more)]
        gap = [f"{self.name} is missing"] * self.missing
        if self.kind == "date":
            turns = ["year", "week"] + ["day"] * self.clock
            sides = [f"{self.name}: {turn} {side}" for turn in turns for side in ("sin", "cos")]
            return [f"{self.name}: days", *sides, *gap]
        return [self.name, *gap]

    @property
    def reading(self) -> readings.Reading | None:
        """The reading that `written` names."""
        return readings.KNOWN.get(self.written)

    def values(self, dtype: pl.DataType) -> pl.Expr | None:
        """The raw column as float64 (number, boolean, days since 1970) or text (category).

        None where `dtype` cannot be that. A missing or infinite value is null, and so is text that cannot be
        read: `unread` tells one from the other.
        """
        column = pl.col(self.name)
        if self.kind == "category":
            return as_text(column, dtype)
        if dtype == pl.String:
            column, dtype = self.read(), pl.Datetime("us") if self.kind == "date" else pl.Float64()
        if self.kind == "date":
            return as_days(column, dtype)
        return as_number(column, dtype)

    def read(self) -> pl.Expr:
        """A column of text as float64 (number, boolean) or a UTC datetime (date); null where it is none."""
        text = pl.col(self.name)
        if self.kind == "boolean":
            return readings.boolean(text).cast(pl.Float64)
        ways = [readings.date(text) if self.kind == "date" else readings.number(text)]
        if self.reading:
            ways.insert(
                0, self.reading.read(text).cast(pl.Datetime("us") if self.kind == "date" else pl.Float64)
            )
        return pl.coalesce(ways)

    def unread(self) -> pl.Expr:
        """Whether a cell of text says neither a value of this column's kind nor that it is missing."""
        return readings.trimmed(pl.col(self.name)).is_not_null() & self.read().is_null()

    def encode(self, dtype: pl.DataType) -> list[pl.Expr]:
        """Float32 features in the order of `features`; for a category its Int32 place among them, or null."""
        value = self.values(dtype)
        assert value is not None  # the spec has checked the type
        if self.kind == "category":
            return [self._place(value)]
        parts = [((value - self.center) / self.scale).clip(-FARTHEST, FARTHEST)]
        if self.kind == "date":
            turns = [value / YEAR_DAYS, value.floor() / WEEK_DAYS] + [value - value.floor()] * self.clock
            parts += [side for turn in turns for side in ((turn * TURN).sin(), (turn * TURN).cos())]
        gap = [value.is_null().cast(pl.Float32)] * self.missing
        return [part.cast(pl.Float32).fill_null(0.0) for part in parts] + gap

    def _place(self, value: pl.Expr) -> pl.Expr:
        place = value.cast(pl.Enum(self.categories), strict=False).to_physical().cast(pl.Int32)
        if self.rare:
            place = place.fill_null(len(self.categories))
        if self.missing:  # where training had no gaps, a gap is one more unseen category
            place = pl.when(value.is_null()).then(len(self.features) - 1).otherwise(place)
        return place

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"categories": list(self.categories)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ColumnSpec:
        known = {field.name for field in fields(cls)}
        if unknown := set(content) - known:
            raise ValueError(f"a column has {', '.join(sorted(unknown))}")
        if content.get("written") and content["written"] not in readings.KNOWN:
            raise ValueError(f"no reading is called {content['written']}")
        return cls(**{**content, "categories": tuple(content.get("categories", ()))})


@cache
def readable(kind: Kind, dtype: pl.DataType) -> bool:
    """Whether a column of this type can hold what `kind` is."""
    return ColumnSpec("", kind).values(dtype) is not None


def as_number(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """Numbers, booleans as 0 and 1, durations and times of day in seconds, text of a number; in float64.

    An infinite value is null.
    """
    if dtype == pl.String:
        value = readings.number(column)
    elif dtype == pl.Duration:
        value = column.dt.total_microseconds().cast(pl.Float64) / 1e6
    elif dtype == pl.Time:
        value = column.cast(pl.Int64).cast(pl.Float64) / 1e9
    elif dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        value = column.cast(pl.Float64)
    else:
        return None
    return pl.when(value.abs() < LARGEST).then(value)  # false for NaN too


def as_days(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """Dates and moments as days since 1970-01-01 (UTC), in float64."""
    if dtype == pl.String:
        column = readings.date(column)
    elif isinstance(dtype, pl.Datetime) and dtype.time_zone:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    elif dtype != pl.Null and not (dtype == pl.Date or isinstance(dtype, pl.Datetime)):
        return None
    return column.cast(pl.Datetime("us")).cast(pl.Int64).cast(pl.Float64) / 86_400_000_000


def as_text(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """Categories as text: a whole number without its decimal point, truth as true and false."""
    if dtype == pl.String:
        return readings.trimmed(column)
    if dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        return (
            pl.when(whole.cast(dtype) == column)
            .then(whole.cast(pl.String))
            .when(column.is_not_nan())
            .then(column.cast(pl.String))
        )
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        return None
    return column.cast(pl.String)
