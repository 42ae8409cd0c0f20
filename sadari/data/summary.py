"""What is kept of a column while its rows go by: moments by Chan's merge, bounded counts of its values."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from sadari.data.columns import as_days, as_number, as_text

_BOUND = 100_000  # different values counted in a column of text
_FEW = 64  # different values up to which a column of numbers is counted too


@dataclass
class Moments:
    """Count, mean and centred sums of squares and cubes, merged batch by batch (Chan 1979, Pebay 2008)."""

    count: int = 0
    mean: float = 0.0
    second: float = 0.0
    third: float = 0.0
    low: float = np.inf
    high: float = -np.inf

    def add(self, values: np.ndarray) -> None:
        """Take in finite float64 values (N,)."""
        if not (more := len(values)):
            return
        away = values - values.mean()
        second = float(
            np.einsum("i,i->", away, away)
        )  # einsum, for a threaded BLAS waits longer than it works here
        third = float(np.einsum("i,i,i->", away, away, away))
        total, gap = self.count + more, float(values.mean()) - self.mean
        self.third += third + gap**3 * self.count * more * (self.count - more) / total**2
        self.third += 3 * gap * (self.count * second - more * self.second) / total
        self.second += second + gap**2 * self.count * more / total
        self.mean += gap * more / total
        self.count = total
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    @property
    def deviation(self) -> float:
        return float(np.sqrt(self.second / self.count)) if self.count else 0.0

    @property
    def skewness(self) -> float:
        return self.third / self.count / self.deviation**3 if self.deviation else 0.0

    @property
    def constant(self) -> bool:
        """All alike, but for the rounding of float64 arithmetic."""
        return self.high - self.low <= 1e-14 * max(abs(self.low), abs(self.high))


@dataclass
class Pair:
    """Moments of a column and of the target where the column has a value, for their correlation."""

    x: Moments = field(default_factory=Moments)
    y: Moments = field(default_factory=Moments)
    product: float = 0.0

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take in finite float64 values of both (N,)."""
        if not (more := len(x)):
            return
        gaps = (float(x.mean()) - self.x.mean) * (float(y.mean()) - self.y.mean)
        product = float(np.einsum("i,i->", x - x.mean(), y - y.mean()))
        self.product += product + gaps * self.x.count * more / (self.x.count + more)
        self.x.add(x)
        self.y.add(y)

    @property
    def correlation(self) -> float:
        spread = float(np.sqrt(self.x.second) * np.sqrt(self.y.second))
        return self.product / spread if spread > 0 else 0.0


@dataclass
class Summary:
    """What has been seen of one column of features."""

    name: str
    dtype: pl.DataType
    kind: str = ""
    """number, date or category by its type; empty where no rung reads it."""
    pair: Pair = field(default_factory=Pair)
    rows: int = 0
    missing: int = 0
    """Rows without a finite value."""
    missing_target: float = 0.0
    """Sum of the target over those rows."""
    infinite: int = 0
    rising: bool = True
    """Whole numbers, each larger than the one before."""
    last: float = -np.inf
    digest: int = 0
    """Hash of the values in order, to find columns that repeat another."""
    counts: pl.DataFrame | None = None
    """Different values, each with its `rows` and the target's `sum`, or with its `rows` in each `class`.
    None once a column of numbers has too many."""
    bounded: bool = False
    """Rare values of a text have been forgotten, for there were too many."""

    def __post_init__(self) -> None:
        reads = {"number": as_number, "date": as_days, "category": as_text}
        if self.dtype == pl.String:
            del reads["number"], reads["date"]  # a file's columns of numbers and dates are typed already
        self.kind = next(
            (kind for kind, read in reads.items() if read(pl.col("x"), self.dtype) is not None), ""
        )

    def value(self) -> pl.Expr:
        """The column as float64 or as text."""
        read = {"number": as_number, "date": as_days, "category": as_text}[self.kind]
        value = read(pl.col(self.name), self.dtype)
        assert value is not None  # its kind was chosen so
        return value.alias(self.name)

    def add(self, values: pl.Series, given: pl.Series, target: pl.Series, y: np.ndarray, first: int) -> None:
        """Take in values (N,), the raw column, the target as it is and as numbers, after `first` rows."""
        self.rows += len(values)
        if values.null_count():
            self.missing += values.null_count()
            self.missing_target += float(y[values.is_null().to_numpy()].sum())
        order = np.arange(2 * first + 1, 2 * (first + len(values)), 2, dtype=np.uint64)
        self.digest = (self.digest + int((values.hash().to_numpy() * order).sum())) % (1 << 64)
        if self.kind == "category":
            self.counts = _merged(self.counts, values, target)
            if self.counts.height > _BOUND:
                self.counts, self.bounded = self.counts.top_k(_BOUND // 2, by="rows"), True
        else:
            self._add_numbers(values, given, target, y)

    def _add_numbers(self, values: pl.Series, given: pl.Series, target: pl.Series, y: np.ndarray) -> None:
        gaps, numbers = values.null_count(), values.to_numpy()  # null is NaN
        if gaps and given.dtype.is_float():
            self.infinite += int((given.is_not_null() & given.is_not_nan() & values.is_null()).sum())
        fresh = self.pair.x.count == 0
        there = ~np.isnan(numbers) if gaps else slice(None)
        known = numbers[there]
        self.pair.add(known, y[there])
        if self.rising and len(known):
            ordered = known[0] > self.last and bool((np.diff(known) > 0).all())
            self.rising = ordered and not gaps and bool((known == np.floor(known)).all())
            self.last = float(known[-1])
        if (fresh or self.counts is not None) and values.head(1000).n_unique() <= _FEW + 1:
            counts = _merged(self.counts, values, target)
            self.counts = counts if counts["value"].n_unique() <= _FEW else None
        else:
            self.counts = None


def _merged(counts: pl.DataFrame | None, values: pl.Series, target: pl.Series) -> pl.DataFrame:
    """Counts with those of a batch added: (value, class) -> rows, or value -> rows and the target's sum."""
    pairs = pl.DataFrame({"value": values, "class": target}).drop_nulls("value")
    rows = pl.len().cast(pl.Int64).alias("rows")
    if target.dtype == pl.String:
        keys, fresh = ["value", "class"], pairs.group_by("value", "class").agg(rows)
    else:
        keys, fresh = ["value"], pairs.group_by("value").agg(rows, pl.col("class").sum().alias("sum"))
    return fresh if counts is None else pl.concat([counts, fresh]).group_by(keys).agg(pl.exclude(keys).sum())
