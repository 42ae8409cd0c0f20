"""From what the user named to arrays: open, choose the task, split, learn from training rows, encode all."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sadari.data.kinds import OF_CAPTIONS, OF_IMAGES, recognise
from sadari.data.learn import Learner
from sadari.data.mapped import map_array
from sadari.data.spec import TableSpec, target_values
from sadari.data.split import Split, split_rows
from sadari.data.table import Table, check_columns, open_table
from sadari.errors import SadariError
from sadari.files import make_folder
from sadari.lang import Note

if TYPE_CHECKING:
    from jaxtyping import Float32, Shaped

    from sadari.data.tokenizers import Tokenizer

TEXTS = {
    "no target": (
        "{count:,} of {rows:,} rows have no `{target}` and are left out",
        "{rows:,}행 가운데 `{target}` 값이 없는 {count:,}행은 뺐습니다",
    ),
    "text": (
        "target `{target}` is text, so the task is classify",
        "목표 `{target}`의 값이 글이므로 과제는 classify",
    ),
    "truth": (
        "target `{target}` is true or false, so the task is classify",
        "목표 `{target}`의 값이 참 또는 거짓이므로 과제는 classify",
    ),
    "few whole": (
        "target `{target}` has only {distinct} different whole numbers in {rows:,} rows, so the task is "
        "classify; if they are amounts, use --task regress",
        "목표 `{target}`의 값은 {rows:,}행에 서로 다른 정수 {distinct}가지뿐이므로 과제는 classify. 양을 "
        "나타내는 수라면 --task regress를 쓰십시오",
    ),
    "numbers": (
        "target `{target}` has {distinct:,} different numbers in {rows:,} rows, so the task is regress",
        "목표 `{target}`의 값은 {rows:,}행에 서로 다른 수 {distinct:,}가지이므로 과제는 regress",
    ),
}

MOST_CLASSES = 20
_SHARE = 0.05
_LEAST = 5  # rows: three to train on, one to choose by, one for the score
_BATCH = 1 << 16
_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Arrays:
    """Encoded rows of one part, in file order; memory-mapped when the table is streamed."""

    features: Float32[np.ndarray, "N C"]
    targets: Shaped[np.ndarray, " N"]
    """Float32 in model space, or int64 class numbers."""


@dataclass(frozen=True)
class Prepared:
    """A table ready to train on."""

    table: Table
    task: str
    spec: TableSpec
    split: Split
    train: Arrays
    validation: Arrays
    test: Arrays
    notes: tuple[Note, ...]
    """What the reader should know of the table, the task and the spec."""
    kind: str = "table"
    """table, series, text, pairs or images: what a row is."""

    def recoded(self, tokenizer: Tokenizer, length: int = 0) -> Prepared:
        """The same texts or pairs in the same split, in another tokenizer; `length` 0 chooses anew."""
        from sadari.data import prepare_captions, prepare_pairs, prepare_text

        if self.kind == "captions":
            return prepare_captions.resized(self, tokenizer=tokenizer, length=length)
        return (prepare_pairs if self.kind == "pairs" else prepare_text).recoded(self, tokenizer, length)


def prepare(
    source: str | Path | pl.DataFrame | Table,
    *,
    target: str | None = None,
    task: str | None = None,
    seed: int = 0,
    drop: Sequence[str] = (),
    log_target: bool = False,
    kind: str | None = None,
    reading: Mapping[str, Any] | None = None,
    memory: int = 2 << 30,
    cache: Path | None = None,
) -> Prepared:
    """Open `source`, split it 60/20/20, learn the spec on the training part and encode all three.

    `kind` (table, series, text, pairs, images) is told by what the source holds; `reading` says how texts or
    pictures are read: the settings of `prepare_text`, `prepare_language`, `prepare_pairs` and
    `prepare_images` by name.

    The target is `target`, a built-in's own, or the last column; the task is `task`, a built-in's own, or
    what `detect_task` finds. A table that takes more than `memory` bytes is read twice in batches, and its
    features go to raw files in `cache` (a temporary folder if None).
    Raises SadariError when the table, its target or `drop` cannot be used.
    """
    source, kind, task = recognise(
        source, kind=kind, task=task, target=target, reading=reading, memory=memory
    )
    pictured = kind in ("images", "captions")
    if not pictured and (odd := [name for name in OF_IMAGES if (reading or {}).get(name)]):
        flag = odd[0].replace("_", "-")
        raise SadariError(f"--{flag} is for pictures, and --kind {kind} reads none; leave one of them out")
    if kind in ("text", "pairs", "images", "captions"):
        if drop or log_target:
            flag = f"--drop {drop[0]}" if drop else "--log-target"
            name = source.name if isinstance(source, Table) else source
            raise SadariError(f"{flag} is for tables, and {name} is read as {kind}; leave it out")
        if pictured:
            return _prepare_pictures(source, kind, target, task, seed, dict(reading or {}), memory, cache)
        if kind == "pairs":
            return _prepare_pairs(source, target, task, seed, dict(reading or {}), memory, cache)
        return _prepare_text(source, target, task, seed, dict(reading or {}), memory, cache)
    prepared = _prepare_table(source, target, task, seed, drop, log_target, memory, cache)
    return replace(prepared, kind=kind)


def _prepare_text(
    source: Any,
    target: str | None,
    task: str | None,
    seed: int,
    reading: dict[str, Any],
    memory: int,
    cache: Path | None,
) -> Prepared:
    from sadari.data.prepare_text import prepare_language, prepare_text  # they stand on this file

    if task == "language":
        if target is not None or reading.pop("length", 0):
            flag = f"--target {target}" if target is not None else "--length"
            raise SadariError(f"{flag} is for labelled texts; task language learns from all of a text")
        return prepare_language(source, seed=seed, memory=memory, cache=cache, **reading)
    if task not in (None, "classify"):
        raise SadariError(f"{task!r} is not a task of texts; choose classify or language")
    return prepare_text(source, target=target, seed=seed, **reading)


def _prepare_pairs(
    source: Any,
    target: str | None,
    task: str | None,
    seed: int,
    reading: dict[str, Any],
    memory: int,
    cache: Path | None,
) -> Prepared:
    from sadari.data.prepare_pairs import prepare_pairs  # it stands on this file

    if task != "translate":
        raise SadariError(f"{task!r} is not a task of pairs; choose translate")
    return prepare_pairs(source, target=target, seed=seed, memory=memory, cache=cache, **reading)


def _prepare_pictures(
    source: Any,
    kind: str,
    target: str | None,
    task: str | None,
    seed: int,
    reading: dict[str, Any],
    memory: int,
    cache: Path | None,
) -> Prepared:
    """Pictures with classes, or with captions."""
    from sadari.data.prepare_captions import prepare_captions  # both stand on this file
    from sadari.data.prepare_images import prepare_images

    captioned = kind == "captions"
    own, said = ("match", "pictures with captions") if captioned else ("classify", "pictures")
    if task not in (None, own):
        raise SadariError(f"{task!r} is not a task of {said}; choose {own}")
    known = (*OF_IMAGES, *(OF_CAPTIONS if captioned else ()))
    if others := [name for name, value in reading.items() if value and name not in known]:
        what = "other texts" if captioned else "texts"
        raise SadariError(f"--{others[0]} is for {what}, and {source} is read as {said}; leave it out")
    chosen = {name: value for name, value in reading.items() if value}
    if not captioned:
        return prepare_images(source, target=target, seed=seed, memory=memory, cache=cache, **chosen)
    if target is not None:
        chosen.setdefault("caption", target)
    return prepare_captions(source, seed=seed, memory=memory, cache=cache, **chosen)


def _prepare_table(
    source: Any,
    target: str | None,
    task: str | None,
    seed: int,
    drop: Sequence[str],
    log_target: bool,
    memory: int,
    cache: Path | None,
) -> Prepared:
    table = source if isinstance(source, Table) else open_table(source, memory=memory)
    target = _check_names(table, target, drop)
    notes = list(table.notes)
    if task is None and target == table.target and table.task:
        task = table.task
    if task is None:
        task, reason = detect_task(table, target)
        if reason.about["kind"] == "few whole":  # the one guess that a reader may want to turn round
            notes.append(reason)
    if task not in ("regress", "classify"):
        raise SadariError(f"{task!r} is not a task of tables; choose regress or classify")
    column = table.frame.select(target).collect(engine="streaming")
    y = target_values(column, target, task, name=table.name)
    kept = np.flatnonzero(y.is_not_null().to_numpy())
    if len(kept) < table.rows:
        notes.append(
            Note.of(
                TEXTS, "no target", "warning", count=table.rows - len(kept), rows=table.rows, target=target
            )
        )
    split = _split(table, target, task, y, kept, seed)
    part = np.full(table.rows, len(_PARTS), np.int8)  # (N,) of each row; rows without a target are in none
    for number, rows in enumerate((split.train, split.validation, split.test)):
        part[rows] = number
    spec = _learn(table, part, target, task, drop, log_target)
    if table.streamed or 4 * table.rows * spec.width > memory:
        train, validation, test = _encode_to_files(table, spec, split, part, cache or _scratch(), memory)
    else:
        train, validation, test = _encode(table, spec, split)
    return Prepared(table, task, spec, split, train, validation, test, (*notes, *spec.notes))


def detect_task(table: Table, target: str) -> tuple[str, Note]:
    """Classify or regress, and why, in a sentence.

    Text, categories and booleans are classes. Numbers are classes when they are whole and either just two,
    or at most 20 that are each met 20 times on average. All other numbers are quantities.
    """
    dtype = table.schema[target]
    if dtype == pl.Boolean:
        return "classify", Note.of(TEXTS, "truth", target=target)
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "classify", Note.of(TEXTS, "text", target=target)
    if not dtype.is_numeric():
        raise SadariError(
            f"{table.name}: the target {target} is {dtype}, which no rung predicts; choose another --target"
        )
    column = pl.col(target).cast(pl.Float64).fill_nan(None)
    whole, distinct, rows = (
        table.frame.select(
            (column.drop_nulls() == column.drop_nulls().floor()).all().alias("whole"),
            column.drop_nulls().n_unique().alias("distinct"),
            column.count().alias("rows"),
        )
        .collect(engine="streaming")
        .row(0)
    )
    few = distinct == 2 or distinct <= min(MOST_CLASSES, _SHARE * rows)
    task, key = ("classify", "few whole") if whole and few else ("regress", "numbers")
    return task, Note.of(TEXTS, key, target=target, distinct=distinct, rows=rows)


def _check_names(table: Table, target: str | None, drop: Sequence[str]) -> str:
    """The target's name, once it and the names to drop are known to be columns."""
    names = list(table.schema)
    check_columns(table.name, names, *drop, target)
    left = [name for name in names if name not in drop]
    chosen = target or table.target or (left[-1] if left else "")
    if chosen not in left:
        raise SadariError(
            f"{chosen!r} is both the target and in --drop; drop another column or choose another --target"
        )
    if len(left) < 2:
        raise SadariError(
            f"{table.name} has one column ({left[0]}); a table needs a target and a column to predict it by"
        )
    return chosen


def _split(table: Table, target: str, task: str, y: pl.Series, kept: np.ndarray, seed: int) -> Split:
    """A split of the rows that have a target, in the table's row numbers."""
    if not len(kept):
        raise SadariError(
            f"{table.name}: the target {target} has no value in {table.rows:,} rows; choose another --target"
        )
    if len(kept) < _LEAST:
        raise SadariError(
            f"{table.name} has {len(kept)} rows with a target; {_LEAST} are the least, hundreds teach"
        )
    known = y.drop_nulls()
    distinct = known.n_unique()
    if distinct == 1:
        what = "is one class" if task == "classify" else "is constant"
        raise SadariError(
            f"{table.name}: the target {target} {what} ({known[0]!r} in all {len(kept):,} rows); choose "
            f"another --target"
        )
    if task == "classify" and distinct > max(MOST_CLASSES, len(kept) / 2):
        raise SadariError(
            f"{table.name}: the target {target} has {distinct:,} classes in {len(kept):,} rows, too many to "
            f"learn; choose another --target"
            + "".join(f" ({note.english})" for note in table.notes if note.about.get("column") == target)
        )
    strata = known.rank("dense").to_numpy().astype(np.int64) if task == "classify" else None
    official = int((kept >= table.rows - table.official_test).sum())
    return split_rows(len(kept), seed, strata=strata, official_test=official).of(kept)


def _batches(table: Table, part: np.ndarray) -> Iterator[tuple[pl.DataFrame, np.ndarray]]:
    """The rows in file order, with the part of each."""
    batches: Iterable[pl.DataFrame]
    if table.streamed:
        batches = table.frame.collect_batches(chunk_size=_BATCH, maintain_order=True, lazy=True)
    else:
        batches = table.frame.collect().iter_slices(_BATCH)
    start = 0
    for batch in batches:
        yield batch, part[start : start + batch.height]
        start += batch.height


def _learn(
    table: Table, part: np.ndarray, target: str, task: str, drop: Sequence[str], log_target: bool
) -> TableSpec:
    learner = Learner(table.schema, target, task, drop=drop, log_target=log_target, written=table.written)
    for batch, here in _batches(table, part):
        learner.update(batch.filter(pl.Series(here == 0)))
    return learner.finish()


def _encode(table: Table, spec: TableSpec, split: Split) -> list[Arrays]:
    """The three parts as arrays in memory."""
    sizes = np.cumsum([len(split.train), len(split.validation)])
    rows = table.frame.collect()[np.concatenate([split.train, split.validation, split.test])]
    parts = zip(np.split(spec.encode(rows), sizes), np.split(spec.encode_target(rows), sizes), strict=True)
    return [Arrays(features, targets) for features, targets in parts]


def _encode_to_files(
    table: Table, spec: TableSpec, split: Split, part: np.ndarray, cache: Path, memory: int
) -> list[Arrays]:
    """The three parts as arrays mapped from raw files, written batch by batch or found in the cache."""
    said = json.dumps([table.fingerprint, split.fingerprint, spec.to_json()], sort_keys=True)
    folder = cache / hashlib.sha256(said.encode()).hexdigest()[:32]
    try:
        make_folder(folder, lambda fresh: _write(table, spec, part, fresh))
    except OSError as error:
        raise SadariError(
            f"cannot write the features of {table.name} to {cache} ({error.strerror}); free some space"
        ) from error
    kind = np.float32 if spec.classes is None else np.int64
    arrays = []
    for name, rows in zip(_PARTS, (split.train, split.validation, split.test), strict=True):
        features = map_array(folder / f"{name}.features", np.float32, (len(rows), spec.width), memory // 2)
        arrays.append(
            Arrays(features, map_array(folder / f"{name}.targets", kind, (len(rows),), memory // 2))
        )
    return arrays


def _write(table: Table, spec: TableSpec, part: np.ndarray, folder: Path) -> None:
    with ExitStack() as stack:
        files = {
            (name, what): stack.enter_context(open(folder / f"{name}.{what}", "wb"))
            for name in _PARTS
            for what in ("features", "targets")
        }
        for batch, here in _batches(table, part):
            batch, here = batch.filter(pl.Series(here < len(_PARTS))), here[here < len(_PARTS)]
            features, targets = spec.encode(batch), spec.encode_target(batch)
            for number, name in enumerate(_PARTS):
                files[name, "features"].write(features[here == number])
                files[name, "targets"].write(targets[here == number])


def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sadari-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def in_own_units(prepared: Prepared) -> Prepared:
    """The same data, the target as it stands: a Poisson rate is one of counts, not of deviations from a mean.

    Raises SadariError when the target's logarithm was asked for.
    """
    spec = prepared.spec
    if spec.log_target:
        raise SadariError(
            "--log-target does not go with loss 'poisson', which predicts a log rate; use either"
        )

    def own(part: Arrays) -> Arrays:
        values = spec.decode_target(part.targets.astype(np.float64))
        return replace(part, targets=values.round(4).astype(np.float32))  # counts again, after float32

    return replace(
        prepared,
        spec=replace(spec, target_center=0.0, target_scale=1.0),
        train=own(prepared.train),
        validation=own(prepared.validation),
        test=own(prepared.test),
    )
