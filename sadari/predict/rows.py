"""Rows of a file to go through once: cells as they are written or with types, texts, lines of JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from sadari.data import delimited, readings, text_files
from sadari.data.readings import READINGS, Reading
from sadari.data.spec import TableSpec
from sadari.data.spec_images import ImageSpec
from sadari.data.spec_text import TextSpec
from sadari.data.table import open_table
from sadari.errors import SadariError

_SAMPLE = 1000


@dataclass(frozen=True)
class Rows:
    """Raw rows to go through once, and what turns a block of them into what the spec encodes."""

    name: str
    schema: dict[str, pl.DataType]
    batches: Callable[[], Iterator[pl.DataFrame]]
    typed: Callable[[pl.DataFrame], pl.DataFrame]
    plain: str = ""
    """The separator of a text file in which no cell is quoted, nor need be while it stays the separator."""


def rows_of(source: str | Path, spec: Any, block_rows: int, as_text: bool) -> Rows:
    """The rows of a file; `as_text` says that a text file's cells are carried over as they are written."""
    rows = _document_rows(Path(source), spec, block_rows)
    if rows is not None:
        return rows
    if as_text and _is_text(Path(source)):
        return _text_rows(Path(source), spec, block_rows)
    return _typed_rows(source, block_rows)


def _is_text(source: Path) -> bool:
    if not source.is_file():
        return False
    with open(source, "rb") as file:
        return file.read(4) != b"PAR1"


def _typed_rows(source: str | Path, block_rows: int) -> Rows:
    """Rows that already have types: Parquet, a built-in set, or a text file that is to become Parquet."""
    table = open_table(source)
    return Rows(
        table.name,
        table.schema,
        lambda: table.frame.collect_batches(chunk_size=block_rows, maintain_order=True),
        lambda batch: batch,
    )


def _document_rows(path: Path, spec: Any, block_rows: int) -> Rows | None:
    """Rows of plain text, a text a line, or of lines of JSON; None for a table."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    known = [".txt", ".jsonl", ".ndjson"] if isinstance(spec, TextSpec) else [".jsonl", ".ndjson"]
    if not (isinstance(spec, TextSpec | ImageSpec) and path.is_file() and {*suffixes[-1:]} & {*known}):
        return None
    file = text_files.look(path)
    column = spec.text if isinstance(spec, TextSpec) else spec.image
    what, plain = ("text" if isinstance(spec, TextSpec) else "picture"), suffixes[-1] == ".txt"

    def texts() -> Iterator[str]:
        if plain:
            rest = ""
            for stretch in text_files.lines(file):
                *ended, rest = (rest + stretch).split("\n")
                yield from ended
            if rest:
                yield rest
            return
        for number, row in text_files.objects(file):
            if not isinstance((row or {}).get(column), str):
                raise SadariError(
                    f"{path.name} line {number:,} has no {what} {column!r}; mend it or leave the line out"
                )
            yield row[column]  # type: ignore[index]

    def batches() -> Iterator[pl.DataFrame]:
        source = texts()
        while block := list(islice(source, block_rows)):
            yield pl.DataFrame({column: block}, schema={column: pl.String()})

    return Rows(path.name, {column: pl.String()}, batches, lambda batch: batch)


def _text_rows(path: Path, spec: TableSpec, block_rows: int) -> Rows:
    """Rows of a text file with every cell as it is written."""
    file = delimited.survey(path)
    lazy = pl.scan_csv(
        file.text, separator=file.separator, infer_schema=False, new_columns=list(file.names), glob=False
    )
    chosen = _readings(lazy, spec, file.names, comma=file.separator == ";")

    def typed(batch: pl.DataFrame) -> pl.DataFrame:
        """Columns as numbers and dates; one with a cell that is not written so stays text, for the spec."""
        if not chosen:
            return batch
        values = batch.select(reading.read(pl.col(name)).alias(name) for name, reading in chosen.items())
        gaps, lost = batch.select(list(chosen)).null_count().row(0), values.null_count().row(0)
        doubtful = [name for name, gap, loss in zip(chosen, gaps, lost, strict=True) if loss > gap]
        odd = batch.select((_given(name) & values[name].is_null()).any().alias(name) for name in doubtful)
        unread = [name for name in doubtful if odd[name].item()]
        return batch.with_columns(values.drop(unread))

    schema: dict[str, pl.DataType] = dict.fromkeys(file.names, pl.String())
    plain = file.separator if file.even else ""
    return Rows(path.name, schema, lambda: _whole(lazy, file, block_rows), typed, plain)


def _whole(lazy: pl.LazyFrame, file: delimited.Delimited, block_rows: int) -> Iterator[pl.DataFrame]:
    """The rows without blank lines at the end. Raises SadariError after the last if one was too short."""
    blank = (
        file.blank if len(file.names) > 1 else 0
    )  # polars passes over blank lines where there is one column
    held: pl.DataFrame | None = None
    gaps = 0
    for batch in lazy.collect_batches(chunk_size=block_rows, maintain_order=True):
        batch = batch if held is None else held.vstack(batch)
        held = batch.tail(blank) if blank else None
        batch = batch.head(-blank) if blank else batch
        gaps += batch[:, -1].null_count()
        if batch.height:
            yield batch
    if gaps and not file.even:  # polars fills a short row with gaps in silence
        open_table(file.path)  # says which one


def _given(name: str) -> pl.Expr:
    return pl.col(name).is_not_null() & pl.col(name).str.strip_chars().is_in(readings.MISSING).not_()


def _readings(
    lazy: pl.LazyFrame, spec: TableSpec, names: Sequence[str], *, comma: bool
) -> dict[str, Reading]:
    """How each column of numbers or dates is written: as in training, where another reading might have fitted
    too, else the first reading that fits all rows.

    A sample leaves one candidate as a rule; only where it leaves several (day and month may stand either way
    round) are all rows looked at.
    """
    offered = {
        "number": [_PLAIN, *((_GROUPED, readings.COMMA) if comma else ())],
        "date": [reading for reading in READINGS if reading.dtype.is_temporal()],
    }
    present = [c for c in spec.columns if c.name in names and c.kind in offered]
    chosen: dict[str, Reading] = {c.name: c.reading for c in present if c.reading}
    wanted = {c.name: offered[c.kind] for c in present if c.name not in chosen}
    sample = lazy.select(list(wanted)).head(_SAMPLE).collect().lazy()
    for name, options in wanted.items():
        fits = _fitting(sample, name, options)
        if len(fits) > 1:
            fits = _fitting(lazy, name, fits) or fits
        if fits:
            chosen[name] = fits[0]
    return chosen


def _fitting(lazy: pl.LazyFrame, name: str, options: Sequence[Reading]) -> list[Reading]:
    """The readings that read every cell of a column."""
    tests = [_given(name) & option.read(pl.col(name)).is_null() for option in options]
    odd = lazy.select(test.any().alias(str(k)) for k, test in enumerate(tests)).collect(engine="streaming")
    return [option for option, fails in zip(options, odd.row(0), strict=True) if not fails]


_PLAIN = next(reading for reading in READINGS if reading.name == "number")
_GROUPED = next(reading for reading in READINGS if reading.name == "grouped number")
