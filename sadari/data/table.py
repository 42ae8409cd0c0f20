"""A table: CSV, TSV, gzip, Parquet, a built-in set or a polars frame, opened lazily with typed columns."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import polars as pl

from sadari.data import delimited
from sadari.data.inference import read_text
from sadari.errors import SadariError
from sadari.files import sha256
from sadari.lang import Note

# Bytes of memory that preparing takes at its peak for each byte of text, measured by benchmarks/stream.py.
_GROWTH = 6.0
_OTHER = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; save the sheet as CSV, or unpack the archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV",
    b"\x89PNG": "a picture; a table is CSV, TSV or Parquet",
    b"\xff\xd8\xff": "a picture; a table is CSV, TSV or Parquet",
    b"%PDF": "a PDF; a table is CSV, TSV or Parquet",
    b"SQLi": "an SQLite database; export the table as CSV",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive; unpack it first",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it first",
}


@dataclass(frozen=True)
class Table:
    """Rows with named, typed columns."""

    name: str
    """What to call it: a file's name, or a built-in's."""
    source: str
    """What opens it again: a path made absolute, or a built-in's name; empty for a frame in memory."""
    frame: pl.LazyFrame
    """The rows in file order."""
    schema: dict[str, pl.DataType]
    """Names and types of the columns."""
    rows: int
    fingerprint: str
    """Hexadecimal digest of the raw content: the same for the same content."""
    streamed: bool
    """Larger than the memory budget: `frame` is never collected whole."""
    target: str | None = None
    """A built-in's own target."""
    task: str | None = None
    """A built-in's own task."""
    licence: str = ""
    official_test: int = 0
    """How many of the last rows are the data set's own test split."""
    written: Mapping[str, str] = field(default_factory=dict)
    """How columns of text are written whose cells could be read otherwise: the names of their readings."""
    notes: tuple[Note, ...] = ()
    """What was remarkable in reading it."""


def open_table(
    source: str | Path | pl.DataFrame,
    *,
    memory: int = 2 << 30,
    types: Mapping[str, pl.DataType] | None = None,
    cache: Path | None = None,
) -> Table:
    """Open a file (CSV, TSV, either gzipped, Parquet), a built-in by its name, or a frame. A path wins.

    Text may be in UTF-8, UTF-16 with a mark, or CP949/EUC-KR, separated by comma, semicolon, tab or bar. A
    column's type is found from all of its rows, unless it is String in `types`: then it stays as it is
    written. A table that would take more than `memory` bytes is marked to be streamed. `cache` is where
    fetched sets are kept.
    Raises SadariError for anything that is not such a table, naming the file, what is wrong and what to do.
    """
    if isinstance(source, pl.DataFrame):
        return _framed(source, "the frame", memory)
    if not isinstance(source, str | Path):
        kind = f"{type(source).__module__}.{type(source).__name__}"
        raise SadariError(
            f"a {kind} is no table; give a file, a built-in's name or a polars frame (pl.DataFrame)"
        )
    path = Path(source)
    try:
        path = path.expanduser() if str(source).startswith("~") else path
        if path.exists():
            return _open_path(path, memory, types or {})
        if path.is_symlink():
            raise SadariError(f"{path} links to {path.readlink()}, which is not there; mend the link")
    except PermissionError as error:
        raise SadariError(
            f"{path} may not be read (permission denied); change its rights or copy it"
        ) from error
    except RuntimeError as error:  # no such user
        raise SadariError(f"{path} names a home folder that is not there; write the path in full") from error
    except OSError as error:
        raise SadariError(
            f"{str(path)[:200]} cannot be read ({error.strerror or error}); check the path"
        ) from error
    return _open_name(str(source), memory, cache)


def _open_name(name: str, memory: int, cache: Path | None) -> Table:
    from sadari.data.builtin import BUILTIN, open_builtin

    if "://" in name:
        raise SadariError(f"{name} is an address; download the file first and name the copy")
    if name not in BUILTIN:
        tables = [entry.name for entry in BUILTIN.values() if entry.kind == "table"]
        near = get_close_matches(name, BUILTIN, n=1, cutoff=0.6)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise SadariError(
            f"{name!r} is neither a file nor built-in data{meant} (built in: {', '.join(tables)})"
        )
    frame, entry = open_builtin(name, cache)
    table = replace(_framed(frame, name, memory), source=name, target=entry.target, task=entry.task)
    return replace(table, licence=entry.licence, official_test=entry.official_test)


def _open_path(path: Path, memory: int, types: Mapping[str, pl.DataType]) -> Table:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise SadariError(f"{path} is a folder; name one file: CSV, TSV or Parquet")
    if not stat.S_ISREG(mode):
        raise SadariError(f"{path} is a pipe or a device, not a file; save the rows in a file first")
    with open(path, "rb") as file:
        magic = file.read(4)
    for start, what in _OTHER.items():
        if magic.startswith(start):
            raise SadariError(f"{path} is {what}")
    if magic == b"PAR1" or path.suffix.lower() in (".parquet", ".pq"):
        return _open_parquet(path, memory)
    return _open_text(path, memory, types)


def _open_parquet(path: Path, memory: int) -> Table:
    try:
        frame = pl.scan_parquet(path, glob=False)
        schema = dict(frame.collect_schema())
        rows = frame.select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SadariError(
            f"{path} is no readable Parquet file ({_first_line(error)}); write it again"
        ) from error
    if not schema or not rows:
        raise SadariError(f"{path} has {len(schema)} columns and {rows} rows; a table needs both")
    size = rows * sum(64 if dtype == pl.String else 16 for dtype in schema.values())
    return Table(path.name, str(path.resolve()), frame, schema, rows, sha256(path), size > memory)


def _open_text(path: Path, memory: int, types: Mapping[str, pl.DataType]) -> Table:
    file = delimited.survey(path)
    streamed = file.bytes * _GROWTH > memory
    typed = read_text(file, streamed, types)
    schema = {name: reading.dtype for name, reading in typed.readings.items()}
    written = {name: reading.name for name, reading in typed.readings.items() if reading.ambiguous}
    table = Table(path.name, str(path.resolve()), typed.frame, schema, typed.rows, file.digest, streamed)
    return replace(table, written=written, notes=typed.notes)


def _framed(frame: pl.DataFrame, name: str, memory: int) -> Table:
    if frame.is_empty():
        raise SadariError(f"{name} has {frame.width} columns and {frame.height} rows; a table needs both")
    streamed = frame.estimated_size() > memory
    return Table(name, "", frame.lazy(), dict(frame.schema), frame.height, fingerprint(frame), streamed)


def check_columns(name: str, known: Iterable[str], *asked: str | None, what: str = "column") -> None:
    """SadariError for the first of the names `asked` for that none of the `known` columns has."""
    names = list(known)
    for one in asked:
        if one is not None and one not in names:
            near = get_close_matches(one, names, n=3, cutoff=0.5) or names[:8]
            raise SadariError(f"{name} has no {what} {one!r}; near it: {', '.join(near)}")


def fingerprint(frame: pl.DataFrame) -> str:
    """A digest of names, types and values that does not depend on how polars lays out memory."""
    digest = hashlib.sha256()
    for column in frame:
        digest.update(f"{column.name}\0{column.dtype}\0".encode())
        digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
        if column.dtype.is_numeric() and not column.dtype.is_decimal():
            digest.update(column.fill_null(0).to_numpy().tobytes())
        else:
            plain = not (column.dtype.is_nested() or column.dtype in (pl.Object, pl.Binary))
            text = column.cast(pl.String, strict=False).fill_null("") if plain else column
            digest.update("\0".join(map(str, text.to_list())).encode())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
