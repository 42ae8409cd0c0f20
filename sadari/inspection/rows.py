"""Rows to look at a model with: a sample in raw form, the typical row, rows in which one column varies."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from sadari.data.columns import ColumnSpec
from sadari.errors import SadariError

if TYPE_CHECKING:
    from sadari.data.spec import TableSpec
    from sadari.runs import Run

Part = Literal["train", "validation", "test"]
PARTS = {"train": ("training", "훈련"), "validation": ("validation", "검증"), "test": ("test", "시험")}
MOST_CATEGORIES = 12  # a chart with more bars than these is a wall
TRIED = 40  # columns that a default choice looks at closely
DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class Rows:
    """N rows of a run's data."""

    frame: pl.DataFrame
    """As they lie in the table, all columns."""
    numbers: np.ndarray
    """Their row numbers in the table, counted from 0, ascending."""
    features: np.ndarray
    """Encoded, (N, C) float32; of pictures, pixels (N, H, W, C) uint8."""
    targets: np.ndarray
    """In model space float32, or class numbers int64, (N,)."""
    values: np.ndarray
    """The same in the target's own units float64; class numbers as they are."""


def sample(run: Run, part: Part = "train", limit: int = 2000) -> Rows:
    """At most `limit` rows of a part of the run's split, drawn evenly at random and always the same ones.

    Raises SadariError when the part has no such name, or the data has changed since the fit.
    """
    if part not in PARTS:
        raise SadariError(f"part {part!r} is no part of the split; choose train, validation or test")
    prepared = run.data()
    numbers = getattr(prepared.split, part)
    if len(numbers) > limit:
        numbers = np.sort(np.random.default_rng(0).choice(numbers, limit, replace=False))
    if prepared.kind == "images":  # decoded already
        every, arrays = getattr(prepared.split, part), getattr(prepared, part)
        at: Any = slice(None) if len(numbers) == len(every) else np.searchsorted(every, numbers)
        frame = prepared.table.frame.collect()[numbers]
        return Rows(frame, numbers, arrays.features[at], arrays.targets[at], arrays.targets[at])
    if prepared.table.streamed:
        wanted = pl.DataFrame({"row": numbers.astype(np.uint32)})
        rows = (
            prepared.table.frame.with_row_index("row").join(wanted.lazy(), on="row", how="semi").sort("row")
        )
        frame = rows.drop("row").collect(engine="streaming")
    else:
        frame = prepared.table.frame.collect()[numbers]
    targets = run.spec.encode_target(frame)
    own = run.spec.decode_target(targets) if run.spec.classes is None else targets
    return Rows(frame, numbers, run.spec.encode(frame), targets, own)


def find_column(spec: TableSpec, name: str) -> ColumnSpec:
    """The column called `name`. Raises SadariError with near names when the run does not use it."""
    for column in spec.columns:
        if column.name == name:
            return column
    names = [column.name for column in spec.columns]
    near = get_close_matches(name, names, n=3, cutoff=0.4) or names[:8]
    raise SadariError(f"feature {name!r} is no column that this run uses; near it: {', '.join(near)}")


def readable(column: ColumnSpec, frame: pl.DataFrame) -> pl.Series:
    """A raw column as the spec reads it: float64 (dates as days since 1970) or text; gaps are null."""
    return frame.select(column.values(frame.schema[column.name]).alias("value"))["value"]  # type: ignore[union-attr]


def raw(column: ColumnSpec, values: np.ndarray) -> pl.Series:
    """Readable values as the raw table would hold them."""
    if column.kind == "date":
        return pl.Series(column.name, np.round(values * DAY).astype(np.int64)).cast(pl.Datetime("us"))
    return pl.Series(column.name, values, dtype=pl.String if column.kind == "category" else pl.Float64)


def spread(column: ColumnSpec, rows: Rows, points: int) -> np.ndarray:
    """Values along a column: the commonest categories, or `points` from its 1st to its 99th per cent."""
    seen = readable(column, rows.frame).drop_nulls()
    if column.kind == "category":
        counts = seen.value_counts(sort=True, name="rows").sort(["rows", "value"], descending=[True, False])
        return counts["value"].head(MOST_CATEGORIES).to_numpy().astype(str)
    values = seen.to_numpy()
    distinct = np.unique(values)
    if len(distinct) == 0:
        raise SadariError(
            f"feature {column.name!r} is empty in all rows of this part; choose another --feature"
        )
    if len(distinct) <= 2:
        return distinct
    low, high = np.quantile(values, [0.01, 0.99])
    if low == high:
        low, high = distinct[0], distinct[-1]
    return np.linspace(low, high, points)


def typical(spec: TableSpec, rows: Rows) -> dict[str, float | str]:
    """One row's readable values: medians of numbers and dates, the most frequent category or boolean."""
    found: dict[str, float | str] = {}
    for column in spec.columns:
        seen = readable(column, rows.frame).drop_nulls()
        if column.kind in ("category", "boolean"):
            found[column.name] = seen.mode().sort()[0] if len(seen) else ""
        else:
            found[column.name] = float(seen.median()) if len(seen) else column.center  # type: ignore[arg-type]
    return found


def vary(spec: TableSpec, still: dict[str, float | str], moving: dict[str, np.ndarray]) -> np.ndarray:
    """Encoded rows (N, C) that hold every column still but the `moving` ones, N readable values each."""
    count = len(next(iter(moving.values())))
    return spec.encode(
        pl.DataFrame(
            [
                raw(
                    column,
                    moving[column.name] if column.name in moving else np.full(count, still[column.name]),
                )
                for column in spec.columns
            ]
        )
    )


def influences(run: Run, rows: Rows) -> dict[str, float]:
    """How far the model's answer moves when one column alone goes through its values, the others typical.

    The standard deviation of the prediction, in the target's units or summed over the classes' probabilities.
    Of many columns only those are tried that a rough look finds most promising.
    """
    still = typical(run.spec, rows)
    found: dict[str, float] = {}
    for column in _promising(run, rows):
        if readable(column, rows.frame).null_count() == rows.frame.height:
            continue
        features = vary(run.spec, still, {column.name: spread(column, rows, 15)})
        found[column.name] = float(run.predictions(features).std(axis=0).sum())
    return found


def _promising(run: Run, rows: Rows) -> list[ColumnSpec]:
    """The columns, or the TRIED of them whose features, one up from the mean, move the answer most."""
    columns = list(run.spec.columns)
    if len(columns) <= TRIED:
        return columns
    width = run.spec.width
    centre = rows.features.mean(0, dtype=np.float64).astype(np.float32)
    shifted = np.repeat(centre[None], width + 1, axis=0)  # (C + 1, C), the last one unshifted
    shifted[np.arange(width), np.arange(width)] += 1
    answers = run.predictions(shifted).reshape(width + 1, -1)
    moved = np.abs(answers[:-1] - answers[-1:]).sum(1)  # (C,)
    ends = np.cumsum([len(column.features) for column in columns])
    best = [moved[end - len(column.features) : end].max() for column, end in zip(columns, ends, strict=True)]
    kept = np.sort(np.argsort(-np.array(best), kind="stable")[:TRIED])
    return [columns[k] for k in kept]


def strongest(
    run: Run, rows: Rows, count: int = 1, kinds: tuple[str, ...] = ("number", "boolean", "category", "date")
) -> list[str]:
    """The columns of those kinds that move the answer most, strongest first; file order among equals."""
    allowed = {column.name for column in run.spec.columns if column.kind in kinds}
    ranked = [
        name
        for name, _ in sorted(influences(run, rows).items(), key=lambda item: -item[1])
        if name in allowed
    ]
    if len(ranked) < count:
        raise SadariError(
            f"this view needs {count} columns of kind {' or '.join(kinds)}, and this run uses {len(ranked)}; "
            f"look at another view"
        )
    return ranked[:count]
