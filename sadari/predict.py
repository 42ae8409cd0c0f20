"""Use a run on a file: the same rows in the same order, predictions appended, streamed, whole or not at all.

Text in, text out: the cells of a CSV file are carried over as they are written (`007` stays `007`), and only
what the model needs is read as numbers. Parquet is written with types.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import torch
from polars.io.plugins import register_io_source

from sadari.data import delimited, readings, text_files
from sadari.data.readings import READINGS, Reading
from sadari.data.spec import TableSpec
from sadari.data.spec_text import LanguageSpec, TextSpec
from sadari.data.table import open_table
from sadari.errors import SadariError
from sadari.runs import Run

PREDICTION = "prediction"
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_SAMPLE = 1000
PIXELS = 1 << 26  # bytes of pictures that are in work at a time


@dataclass(frozen=True)
class Rows:
    """Raw rows to go through once, and what turns a block of them into what the spec encodes."""

    name: str
    schema: dict[str, pl.DataType]
    batches: Callable[[], Iterator[pl.DataFrame]]
    typed: Callable[[pl.DataFrame], pl.DataFrame]
    plain: str = ""
    """The separator of a text file in which no cell is quoted, nor need be while it stays the separator."""


def predict_file(
    run: Run,
    source: str | Path,
    out: str | Path | None = None,
    *,
    probabilities: bool = False,
    keep: Sequence[str] | None = None,
    block_rows: int = 1 << 16,
    told: Callable[[int], None] | None = None,
) -> Path:
    """Write the rows of `source` with a `prediction`, and `probability of CLASS` columns if asked for.

    Returns `out`: .csv, .tsv or .parquet; left out, SOURCE-predicted.csv (or .parquet) beside the source.
    `keep` names the columns to carry over instead of all; a target among them is not read. `told` hears how
    many rows are done. Memory does not grow with the file: `block_rows` rows are in work at a time.
    Raises SadariError naming each column that is missing or of the wrong type, the first cell that cannot be
    read, a malformed line, a name that is taken, or a full disk. An old `out` is then untouched.
    """
    out = Path(out) if out is not None else _beside(Path(source))
    if out.suffix.lower() not in (*_SEPARATORS, ".parquet"):
        raise SadariError(
            f"--out {out}: predictions are written as .csv, .tsv or .parquet; choose such an ending"
        )
    if isinstance(run.spec, LanguageSpec):
        raise SadariError("this run continues texts; give a beginning instead of a file, or call run.write")
    if run.kind == "images":
        block_rows = max(min(block_rows, PIXELS // math.prod(run.spec.width)), 1)
    as_text = out.suffix.lower() in _SEPARATORS and _is_text(Path(source))
    rows = _document_rows(Path(source), run.spec, block_rows)
    rows = (
        rows or _text_rows(Path(source), run.spec, block_rows) if as_text else _typed_rows(source, block_rows)
    )
    run.spec.check(rows.schema, rows.name)
    kept = _kept(rows, keep)
    added = _added(run, probabilities)
    if taken := [name for name in added if name in kept]:
        raise SadariError(
            f"{rows.name} has a column {taken[0]!r} already; rename it, or leave it out with --keep"
        )
    failure: list[BaseException] = []

    def work(batch: pl.DataFrame, start: int) -> pl.DataFrame:
        if run.kind == "pairs":
            return batch.select(kept).with_columns(run.predict(rows.typed(batch)).to_series())
        features = run.spec.encode(rows.typed(batch), first_row=start + 1, name=rows.name)
        return pl.DataFrame([*batch.select(kept), *_predictions(run, features, probabilities)])

    def predicted(columns: object, predicate: object, limit: object, size: object) -> Iterator[pl.DataFrame]:
        done = 0
        try:
            for frame in _side_by_side(work, rows.batches()):
                yield frame
                done += frame.height
                if told is not None:
                    told(done)
        except BaseException as error:
            failure.append(error)  # polars would hand on its text alone
            raise

    schema = {name: rows.schema[name] for name in kept} | added
    with _in_place(out) as temporary:
        try:
            lazy = register_io_source(predicted, schema=schema)
            if out.suffix.lower() in _SEPARATORS:
                separator = _SEPARATORS[out.suffix.lower()]
                ours = "".join([*added, *(run.spec.classes or ())])
                bare = separator == rows.plain and not set(ours) & {separator, '"', "\n", "\r"}
                # looking whether each cell has to be quoted takes as long as writing them
                lazy.sink_csv(temporary, separator=separator, quote_style="never" if bare else "necessary")
            else:
                lazy.sink_parquet(temporary)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = failure[0] if failure else error
            if isinstance(reason, SadariError):
                raise reason from None
            if isinstance(reason, pl.exceptions.PolarsError):
                open_table(source)  # says which line is malformed, and how
            raise SadariError(f"{out} cannot be written ({str(reason).splitlines()[0][:200]})") from error
    return out


def _side_by_side(
    work: Callable[[pl.DataFrame, int], pl.DataFrame], batches: Iterable[pl.DataFrame]
) -> Iterator[pl.DataFrame]:
    """work(batch, its first row's number from 0) of each batch in order, one batch a core at a time.

    Each core's products run on one thread: several for a small product cost more than they win.
    """
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    pool = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
    try:
        waiting: deque[Future[pl.DataFrame]] = deque()
        start = 0
        for batch in batches:
            waiting.append(pool.submit(work, batch, start))
            start += batch.height
            if len(waiting) > cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _is_text(source: Path) -> bool:
    if not source.is_file():
        return False
    with open(source, "rb") as file:
        return file.read(4) != b"PAR1"


def _beside(source: Path) -> Path:
    stem = source.name.removesuffix(".gz")
    ending = Path(stem).suffix.lower()
    return source.with_name(f"{Path(stem).stem}-predicted{'.parquet' if ending == '.parquet' else '.csv'}")


def _kept(rows: Rows, keep: Sequence[str] | None) -> list[str]:
    for name in keep or ():
        if name not in rows.schema:
            near = get_close_matches(name, rows.schema, n=3, cutoff=0.5) or list(rows.schema)[:8]
            raise SadariError(f"--keep: {rows.name} has no column {name!r}; near it: {', '.join(near)}")
    return list(rows.schema if keep is None else dict.fromkeys(keep))


# predictions


def _added(run: Run, probabilities: bool) -> dict[str, pl.DataType]:
    """Names and types of the columns that are appended."""
    if run.spec.classes is None:
        if probabilities:
            what = "text" if run.kind == "pairs" else "a number"
            raise SadariError(f"--probabilities needs classes, but this run predicts {what}; leave it out")
        return {PREDICTION: pl.String() if run.kind == "pairs" else pl.Float64()}
    shares = {f"probability of {c}": pl.Float32() for c in run.spec.classes if probabilities}
    return {PREDICTION: pl.String(), **shares}


def _predictions(run: Run, features: np.ndarray, probabilities: bool) -> list[pl.Series]:
    """The appended columns for encoded rows (N, C)."""
    predicted = run.predictions(features)  # (N,), or (N, classes)
    if run.spec.classes is None:
        return [pl.Series(PREDICTION, predicted, dtype=pl.Float64)]
    labels = pl.Series(PREDICTION, run.spec.classes, dtype=pl.String).gather(predicted.argmax(-1))
    shares = [pl.Series(f"probability of {c}", predicted[:, k]) for k, c in enumerate(run.spec.classes)]
    return [labels, *(shares if probabilities else [])]


# rows


def _typed_rows(source: str | Path, block_rows: int) -> Rows:
    """Rows that already have types: Parquet, a built-in set, or a text file that is to become Parquet."""
    table = open_table(source)
    return Rows(
        table.name,
        table.schema,
        lambda: table.frame.collect_batches(chunk_size=block_rows, maintain_order=True),
        lambda batch: batch,
    )


def _document_rows(path: Path, spec: TableSpec | TextSpec, block_rows: int) -> Rows | None:
    """Rows of plain text, a text a line, or of lines of JSON; None for a table."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    if (
        not isinstance(spec, TextSpec)
        or not path.is_file()
        or suffixes[-1:] not in ([".txt"], [".jsonl"], [".ndjson"])
    ):
        return None
    file = text_files.look(path)
    column, plain = spec.text, suffixes[-1] == ".txt"

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
                    f"{path.name} line {number:,} has no text {column!r}; mend it or leave the line out"
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


@contextmanager
def _in_place(out: Path) -> Iterator[Path]:
    """A neighbour of `out` that takes its place when all is written, and goes when something fails."""
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # a rename may reach the disk before the bytes that it names
        temporary.chmod(0o644)
        os.replace(temporary, out)
    except OSError as error:
        raise SadariError(f"cannot write {out} ({error.strerror}); choose another file with --out") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
