"""What predictions of many rows share: columns, batches answered a core each, files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import polars as pl
import torch
from polars.io.plugins import register_io_source

from sadari.data.image_files import cores
from sadari.errors import SadariError
from sadari.runs import Run

PREDICTION = "prediction"
SEPARATORS = {".csv": ",", ".tsv": "\t"}
T = TypeVar("T")


def added(run: Run, probabilities: bool) -> dict[str, pl.DataType]:
    """Names and types of the columns that are appended. Raises SadariError where there are no classes."""
    if run.spec.classes is None:
        if probabilities:
            what = "text" if run.kind == "pairs" else "a number"
            raise SadariError(f"--probabilities needs classes, but this run predicts {what}; leave it out")
        return {PREDICTION: pl.String() if run.kind == "pairs" else pl.Float64()}
    shares = {f"probability of {c}": pl.Float32() for c in run.spec.classes if probabilities}
    return {PREDICTION: pl.String(), **shares}


def columns_of(run: Run, predicted: np.ndarray, probabilities: bool) -> list[pl.Series]:
    """The appended columns, of numbers in the target's units (N,) or probabilities (N, classes)."""
    if run.spec.classes is None:
        return [pl.Series(PREDICTION, predicted, dtype=pl.Float64)]
    labels = pl.Series(PREDICTION, run.spec.classes, dtype=pl.String).gather(predicted.argmax(-1))
    shares = [pl.Series(f"probability of {c}", predicted[:, k]) for k, c in enumerate(run.spec.classes)]
    return [labels, *(shares if probabilities else [])]


def check_ending(out: Path) -> None:
    """Raise SadariError unless a file of that name can be written."""
    if out.suffix.lower() not in (*SEPARATORS, ".parquet"):
        raise SadariError(
            f"--out {out}: predictions are written as .csv, .tsv or .parquet; choose such an ending"
        )


def write_frames(
    out: Path,
    schema: Mapping[str, pl.DataType],
    frames: Iterable[pl.DataFrame],
    quotes: Literal["never", "necessary"] = "necessary",
) -> None:
    """Write frames one after another as .csv, .tsv or .parquet, by the name's ending.

    Raises what `frames` raises, and SadariError when the file cannot be written. An old `out` is then
    untouched.
    """
    failure: list[BaseException] = []

    def given(columns: object, predicate: object, limit: object, size: object) -> Iterator[pl.DataFrame]:
        try:
            yield from frames
        except BaseException as error:
            failure.append(error)  # polars would hand on its text alone
            raise

    with _in_place(out) as temporary:
        try:
            lazy = register_io_source(given, schema=schema)
            if out.suffix.lower() in SEPARATORS:
                lazy.sink_csv(temporary, separator=SEPARATORS[out.suffix.lower()], quote_style=quotes)
            else:
                lazy.sink_parquet(temporary)
        except (pl.exceptions.PolarsError, OSError) as error:
            if failure and isinstance(failure[0], SadariError | pl.exceptions.PolarsError):
                raise failure[0] from None
            raise unwritten(out, failure[0] if failure else error) from error


def unwritten(out: Path, reason: BaseException) -> SadariError:
    """What is said where a file cannot be written."""
    return SadariError(f"{out} cannot be written ({str(reason).splitlines()[0][:200]})")


def side_by_side(
    work: Callable[[T, int], pl.DataFrame], batches: Iterable[tuple[T, int]]
) -> Iterator[pl.DataFrame]:
    """work(batch, its first row's number from 0) of each (batch, rows) in order, one batch a core at a time.

    Each core's products run on one thread: several for a small product cost more than they win.
    """
    many, threads = cores(), torch.get_num_threads()
    pool = ThreadPoolExecutor(many, initializer=torch.set_num_threads, initargs=(1,))
    try:
        waiting: deque[Future[pl.DataFrame]] = deque()
        start = 0
        for batch, rows in batches:
            waiting.append(pool.submit(work, batch, start))
            start += rows
            if len(waiting) > many:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


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
