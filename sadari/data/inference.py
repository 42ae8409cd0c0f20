"""From a file of text to typed columns: each is read the first way that fits all rows, not the first few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from sadari.data import delimited, readings
from sadari.data.delimited import Delimited
from sadari.data.readings import READINGS, TEXT, Reading
from sadari.errors import SadariError
from sadari.lang import Note

TEXTS = {
    "stray": (
        "column `{column}` counts as text, though only {odd:,} of its {known:,} values are no numbers, the "
        "first of them {value!r} in row {row:,}; if it means a missing value, leave that cell empty",
        "`{column}` 열은 값 {known:,}개 중 {odd:,}개만 수가 아닌데도 글로 다룹니다. 첫 번째는 {row:,}행의 "
        "{value!r}입니다. 빈 값이라는 뜻이면 그 칸을 비워 두십시오",
    ),
    "month first": (
        "column `{column}`: dates such as {value} are read month first, and day first would fit too; write "
        "them as YYYY-MM-DD",
        "`{column}` 열: {value} 같은 날짜를 월/일 순서로 읽었지만 일/월 순서로도 읽힙니다. YYYY-MM-DD로 "
        "쓰십시오",
    ),
}

_SAMPLE = 1000
_LOOKED = 100


@dataclass(frozen=True)
class Typed:
    """The rows of a file of text, typed."""

    frame: pl.LazyFrame
    """In file order; in memory unless it is streamed."""
    rows: int
    readings: dict[str, Reading]
    """How each column is written."""
    notes: tuple[Note, ...]
    """What was odd."""


def read_text(file: Delimited, streamed: bool, types: Mapping[str, pl.DataType]) -> Typed:
    """Find each column's reading, and read them.

    A column that is String in `types` stays as it is written. One pass over the rows, two if the sample
    misled. Raises SadariError for rows of uneven length and for a quote that is not closed, naming the line.
    """
    raw = pl.scan_csv(
        file.text,
        separator=file.separator,
        infer_schema=False,
        new_columns=file.names,
        null_values=list(readings.MISSING),
        glob=False,
    )
    try:
        raw = raw if streamed else raw.collect().lazy()
        sample = raw.head(_SAMPLE).collect(engine="streaming")
        offered = _offered(sample, file, types)
        chosen = {name: fits[0] for name, fits in offered.items()}
        frame, rows, gaps, lost = _read(raw, chosen, streamed)
        if misled := {name: offered[name] for name in chosen if lost[name] and chosen[name] is not TEXT}:
            chosen |= {name: (found or [TEXT])[0] for name, found in _fitting(raw, misled).items()}
            frame, *_ = _read(raw, chosen, streamed)
    except pl.exceptions.PolarsError as error:
        raise _malformed(file, error) from error
    if gaps[file.names[-1]] > file.blank and not file.even and (place := delimited.ragged(file)):
        raise _uneven(file, *place)
    if len(file.names) > 1:  # polars itself skips blank lines where there is one column
        rows -= file.blank
    if rows < 1:
        raise SadariError(f"{file.path} has a line of column names and no rows below it; a table needs rows")
    frame = frame.head(rows) if file.blank else frame
    notes = (*_strays(raw, sample, chosen), *_month_first(raw, sample, chosen))
    return Typed(frame, rows, chosen, notes)


def _offered(
    sample: pl.DataFrame, file: Delimited, types: Mapping[str, pl.DataType]
) -> dict[str, list[Reading]]:
    """For each column the readings that a sample of its cells looks like, by preference; text is the last."""
    known = readings.in_order(comma=file.separator == ";")
    offered = {}
    for name, cells in sample.head(_LOOKED).to_dict(as_series=False).items():
        there = [cell.strip() for cell in cells if cell is not None and cell.strip() not in readings.MISSING]
        fits = (
            [] if types.get(name) == pl.String else [reading for reading in known if reading.may_fit(there)]
        )
        offered[name] = [*fits, TEXT]
    return offered


def _odd(name: str, reading: Reading) -> pl.Expr:
    """How many cells of a column a reading cannot read, though they are not missing."""
    return (readings.trimmed(pl.col(name)).is_not_null() & reading.read(pl.col(name)).is_null()).sum()


def _fitting(raw: pl.LazyFrame, offered: Mapping[str, Sequence[Reading]]) -> dict[str, list[Reading]]:
    """For each column those of the readings offered that fit all rows."""
    odd = [
        _odd(name, reading).alias(f"{place} {name}")
        for name, found in offered.items()
        for place, reading in enumerate(found)
    ]
    counts = iter(raw.select(odd).collect(engine="streaming").row(0) if odd else ())
    return {name: [reading for reading in found if next(counts) == 0] for name, found in offered.items()}


def _read(
    raw: pl.LazyFrame, chosen: Mapping[str, Reading], streamed: bool
) -> tuple[pl.LazyFrame, int, dict[str, int], dict[str, int]]:
    """The typed frame, its rows, each column's gaps as written, and the cells that became gaps in reading."""
    frame = raw.select(reading.read(pl.col(name)).alias(name) for name, reading in chosen.items())
    frame = frame if streamed else frame.collect().lazy()
    written = [pl.len().alias("rows"), *(pl.col(name).null_count().alias(f"raw {name}") for name in chosen)]
    if streamed:  # both counts in one pass over the file
        read = [
            reading.read(pl.col(name)).null_count().alias(f"read {name}") for name, reading in chosen.items()
        ]
        rows, *counts = raw.select(*written, *read).collect(engine="streaming").row(0)
    else:
        rows, *counts = raw.select(written).collect().row(0) + frame.select(
            pl.all().null_count()
        ).collect().row(0)
    before = dict(zip(chosen, counts[: len(chosen)], strict=True))
    after = dict(zip(chosen, counts[len(chosen) :], strict=True))
    return frame, rows, before, {name: after[name] - before[name] for name in chosen}


def _strays(raw: pl.LazyFrame, sample: pl.DataFrame, chosen: Mapping[str, Reading]) -> list[Note]:
    """A warning for each column that a few cells turn from numbers into text."""
    notes = []
    for name in [name for name, reading in chosen.items() if reading is TEXT]:
        text = readings.trimmed(pl.col(name))
        odd = text.is_not_null() & readings.number(text).is_null()
        mostly = pl.col("odd") <= 0.05 * pl.col("known")
        counts = [odd.sum().alias("odd"), text.count().alias("known")]
        if not sample.lazy().select(counts).filter(mostly, pl.col("known") >= 20).collect().height:
            continue
        first = [text.filter(odd).first().alias("value"), odd.arg_max().alias("row")]
        found = raw.select(*counts, *first).filter(mostly).collect(engine="streaming")
        for some, known, value, row in found.iter_rows():
            notes.append(
                Note.of(
                    TEXTS,
                    "stray",
                    "warning",
                    column=name,
                    odd=some,
                    known=known,
                    value=value[:40],
                    row=row + 1,
                )
            )
    return notes


def _month_first(raw: pl.LazyFrame, sample: pl.DataFrame, chosen: Mapping[str, Reading]) -> list[Note]:
    """A warning for each column of dates whose days are all below 13, so that their order is a guess."""
    notes = []
    for name, reading in chosen.items():
        swapped = [
            other
            for other in READINGS
            if other.name == reading.name.replace("%m/%d", "%d/%m") != reading.name
        ]
        if swapped and raw.select(_odd(name, swapped[0])).collect(engine="streaming").item() == 0:
            notes.append(
                Note.of(TEXTS, "month first", "warning", column=name, value=sample[name].drop_nulls()[0])
            )
    return notes


def _uneven(file: Delimited, line: int, fields: int) -> SadariError:
    return SadariError(
        f"{file.path} line {line:,} has {fields} fields and the header {len(file.names)}; mend that line, "
        f"with quotes around a field that holds {file.separator!r}"
    )


def _malformed(file: Delimited, error: Exception) -> SadariError:
    """What polars' error means, with the line that it does not name."""
    if line := delimited.unclosed(file):
        return SadariError(
            f'{file.path} line {line:,} opens a quote (") and never closes it; close it, or write it twice'
        )
    if place := delimited.ragged(file):
        return _uneven(file, *place)
    reason = str(error).strip().split("\n")[0][:200]
    return SadariError(
        f"{file.path} cannot be read as rows separated by {file.separator!r} ({reason}); save it again"
    )
