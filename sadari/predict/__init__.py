"""Use a run on files: the same rows in the same order, predictions appended, streamed, whole or not at all.

Text in, text out: the cells of a CSV file are carried over as they are written (`007` stays `007`), and only
what the model needs is read as numbers. Parquet is written with types. Pictures are answered as they are
named: one, several, a folder of them, or by the rows of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import polars as pl

from sadari.data.spec_images import ImageSpec
from sadari.data.spec_text import LanguageSpec
from sadari.data.table import check_columns, open_table
from sadari.engines_pictures import Engine, Precision, check_engine
from sadari.errors import SadariError
from sadari.lang import Note
from sadari.predict.pictures import (
    Broken,
    answer_of,
    answered,
    block_of,
    predict_files,
    predict_pictures,
    with_paths,
)
from sadari.predict.rows import Rows, rows_of
from sadari.predict.writing import (
    PREDICTION,
    SEPARATORS,
    added,
    check_ending,
    columns_of,
    side_by_side,
    unwritten,
    write_frames,
)
from sadari.runs import Run

__all__ = ["PREDICTION", "predict_file", "predict_files", "predict_pictures"]


def predict_file(
    run: Run,
    source: str | Path,
    out: str | Path | None = None,
    *,
    probabilities: bool = False,
    keep: Sequence[str] | None = None,
    block_rows: int = 1 << 16,
    told: Callable[[int], None] | None = None,
    notes: list[Note] | None = None,
    engine: Engine = "sadari",
    precision: Precision = "fp32",
) -> Path:
    """Write the rows of `source` with a `prediction`, and `probability of CLASS` columns if asked for.

    Returns `out`: .csv, .tsv or .parquet; left out, SOURCE-predicted.csv (or .parquet) beside the source.
    `keep` names the columns to carry over instead of all; a target among them is not read. `told` hears how
    many rows are done. Memory does not grow with the file: `block_rows` rows are in work at a time.
    A run of pictures reads their column: paths from the file's folder on, or bytes, which are not carried
    over as text. A row whose picture cannot be read has no prediction, and `notes` gets a note of that.
    `engine` and `precision`, which only pictures have, are as in `predict_pictures`.
    Raises SadariError naming each column that is missing or of the wrong type, the first cell that cannot be
    read, a malformed line, a name that is taken, or a full disk. An old `out` is then untouched.
    """
    out = Path(out) if out is not None else _beside(Path(source))
    check_ending(out)
    if isinstance(run.spec, LanguageSpec):
        raise SadariError("this run continues texts; give a beginning instead of a file, or call run.write")
    as_text = out.suffix.lower() in SEPARATORS
    check_engine(run, engine, precision)
    pictures = isinstance(run.spec, ImageSpec)
    rows = rows_of(source, run.spec, block_of(run.spec, block_rows) if pictures else block_rows, as_text)
    run.spec.check(rows.schema, rows.name)
    kept = _kept(rows, keep)
    if pictures and as_text and keep is None:
        kept = [name for name in kept if rows.schema[name] != pl.Binary and not rows.schema[name].is_nested()]
    new = added(run, probabilities)
    if taken := [name for name in new if name in kept]:
        raise SadariError(
            f"{rows.name} has a column {taken[0]!r} already; rename it, or leave it out with --keep"
        )
    broken = Broken()
    answer = answer_of(run, engine, precision) if pictures else None

    def work(batch: pl.DataFrame, start: int) -> pl.DataFrame:
        if run.kind == "pairs":
            return batch.select(kept).with_columns(run.predict(rows.typed(batch)).to_series())
        if pictures:
            found, names = with_paths(run.spec, batch, source, rows.name, start)
            new_columns = answered(run, found, names, probabilities, broken, start, answer)
            return pl.DataFrame([*batch.select(kept), *new_columns])
        features = run.spec.encode(rows.typed(batch), first_row=start + 1, name=rows.name)
        return pl.DataFrame([*batch.select(kept), *columns_of(run, run.predictions(features), probabilities)])

    def predicted() -> Iterator[pl.DataFrame]:
        done = 0
        for frame in side_by_side(work, ((batch, batch.height) for batch in rows.batches())):
            yield frame
            done += frame.height
            if told is not None:
                told(done)
        broken.check()

    ours = "".join([*new, *(run.spec.classes or ())])
    separator = SEPARATORS.get(out.suffix.lower(), "")
    # looking whether each cell has to be quoted takes as long as writing them
    bare = bool(separator) and separator == rows.plain and not set(ours) & {separator, '"', "\n", "\r"}
    schema = {name: rows.schema[name] for name in kept} | new
    try:
        write_frames(out, schema, predicted(), "never" if bare else "necessary")
    except pl.exceptions.PolarsError as error:
        open_table(source)  # says which line is malformed, and how
        raise unwritten(out, error) from error
    if notes is not None:
        notes += broken.notes()
    return out


def _beside(source: Path) -> Path:
    stem = source.name.removesuffix(".gz")
    ending = Path(stem).suffix.lower()
    return source.with_name(f"{Path(stem).stem}-predicted{'.parquet' if ending == '.parquet' else '.csv'}")


def _kept(rows: Rows, keep: Sequence[str] | None) -> list[str]:
    check_columns(f"--keep: {rows.name}", rows.schema, *(keep or ()))
    return list(rows.schema if keep is None else dict.fromkeys(keep))
