"""Pairs of texts, a source and its target: a translation, a summary, an answer, code.

What is odd in a source and what is done with it:

CSV, TSV, Parquet      two columns of text; quotes, encodings and ragged rows as for every table
TSV without a header   two fields a line, or more, of which the first two columns of text are read (said);
                       quotes count only in a line that has too many fields without them, and hold tabs there;
                       lines of other numbers of fields are left out (said), and refused when they are most
CSV without a header   of three columns or more, where its first line shows it, is refused
two aligned files      `train.en` and `train.ko` in a folder: line n of one belongs to line n of the other;
                       unequal numbers of lines, and one file alone, are refused
JSONL                  two keys; what is no object is left out (said); numbers are texts, lists are none
invalid UTF-8, CP949   CP949/EUC-KR if it is that throughout; in lines, a little that is broken is U+FFFD
                       (said); a table in neither encoding is refused with the line
decomposed (NFD), NUL  composed; taken out. White space around a side goes
no value               an empty side, which cleaning leaves out and counts
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from sadari.data import text_files
from sadari.data.columns import as_text
from sadari.data.pair_lines import (
    SOURCE_NAMES,
    TARGET_NAMES,
    Layout,
    headless,
    holds_values,
    is_known,
    is_language,
    lines_of,
    read_pairs,
)
from sadari.data.table import Table, check_columns, fingerprint, open_table
from sadari.data.text import is_free
from sadari.data.text_rows import SAMPLE, Oddities, existing, is_jsonl, rows_of
from sadari.data.text_rows import TEXTS as OF_TEXTS
from sadari.data.tokenizers import clean_text
from sadari.errors import SadariError
from sadari.lang import Note

_SHOWN = 20  # letters of a value in a sentence about it


def open_pairs(
    source: str | Path | pl.DataFrame | Table,
    *,
    text: str | None = None,
    target: str | None = None,
    cache: Path | None = None,
    memory: int = 2 << 30,
) -> Table:
    """A table of source, target and, if there is one, `group`, in this order.

    `text` and `target` name them: columns or, of two aligned files, the endings of their names. Without them
    the two columns that there are, those that are called as source and target, or the two of free text; the
    first of them is the source. When one is named, the other of the two is the other side. `cache` is where
    fetched sets are kept. Nothing is cleaned yet (`clean_pairs`).
    Raises SadariError for anything that holds no such pairs, naming what is wrong and what to do.
    """
    if text is not None and text == target:
        raise SadariError(f"{text!r} is both the source and the target; choose another --target")
    path = existing(source)
    if path is not None and path.is_dir():
        table, frame = _of_folder(path, text, target)
    elif path is not None and path.is_file() and is_jsonl(path):
        table, frame = _of_jsonl(path, text, target)
    elif path is not None and path.is_file() and (layout := headless(path, text, target)) is not None:
        table, frame = _of_lines(path, layout, text, target)
    else:
        table, frame = _of_table(source, text, target, cache, memory)
    if "group" in frame.columns and not table.task:
        table = replace(table, notes=(*table.notes, Note.of(OF_TEXTS, "group")))
    return replace(
        table,
        frame=frame.lazy(),
        schema=dict(frame.schema),
        rows=frame.height,
        fingerprint=fingerprint(frame),
        streamed=False,
        target=frame.columns[1],
        task="translate",
        written={},
    )


def pair_columns(table: Table) -> tuple[str, str] | None:
    """Source and target of a table that is nothing but a pair: two columns of free text, `group` maybe."""
    names = [name for name in table.schema if name != "group"]
    if len(names) != 2 or any(table.schema[name] != pl.String for name in names):
        return None
    head = table.frame.head(SAMPLE).collect()
    return (names[0], names[1]) if all(is_free(head[name]) for name in names) else None


def aligned_files(folder: Path) -> dict[str, dict[str, Path]]:
    """The files of a folder whose names end with a language, by what stands before it: train -> en, ko."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir()):
        stem, _, ending = re.sub(r"\.gz$", "", path.name).rpartition(".")
        if stem and is_language(ending) and not path.name.startswith(".") and path.is_file():
            found.setdefault(stem, {})[ending] = path
    return found


# --------------------------------------------------------------------- which columns


def _choose(
    name: str, frame: pl.DataFrame, text: str | None, target: str | None, what: str = "column"
) -> tuple[str, str]:
    """The names of source and target among the columns of a frame (of its first rows, at least)."""
    names = [column for column in frame.columns if column != "group" or column in (text, target)]
    check_columns(name, names, text, target, what=what)
    if text is not None and target is not None:
        return text, target
    given = text or target
    for candidates in _candidates(frame, names):
        if given is None and len(candidates) == 2:
            return candidates[0], candidates[1]
        others = [column for column in candidates if column != given]
        if given is not None and len(others) == 1:
            return (given, others[0]) if text else (others[0], given)
    if len(names) < 2:
        raise SadariError(
            f"{name} has one {what} ({', '.join(names)}); pairs need a source and a target, one {what} each"
        )
    raise SadariError(
        f"{name} has {len(names)} {what}s, and which two are a pair is not clear ({', '.join(names[:8])}); "
        "name the source with --text and the target with --target"
    )


def _candidates(frame: pl.DataFrame, names: Sequence[str]) -> Iterator[list[str]]:
    """Columns that may be the two sides, surest first."""
    called = {
        key: [name for name in names if name.lower() in known]
        for key, known in {"source": SOURCE_NAMES, "target": TARGET_NAMES}.items()
    }
    if all(len(found) == 1 for found in called.values()):
        yield called["source"] + called["target"]
    yield list(names)
    yield [name for name in names if frame.schema[name] == pl.String]
    yield [name for name in names if frame.schema[name] == pl.String and is_free(frame[name])]


# --------------------------------------------------------------------- tables


def _of_table(
    source: str | Path | pl.DataFrame | Table,
    text: str | None,
    target: str | None,
    cache: Path | None,
    memory: int,
) -> tuple[Table, pl.DataFrame]:
    table = source if isinstance(source, Table) else open_table(source, memory=memory, cache=cache)
    path = existing(source) or (existing(table.source) if isinstance(source, Table) else None)
    head = table.frame.head(SAMPLE).collect()
    if path is not None and path.suffix != ".parquet" and text is None and target is None:
        _check_names(table.name, head.columns)
    text, target = _choose(table.name, head, text, target)
    if path is not None and any(table.schema[name] != pl.String for name in (text, target)):
        table = open_table(path, memory=memory, types={text: pl.String(), target: pl.String()})
    chosen = [text, target] + ["group"] * ("group" in table.schema and "group" not in (text, target))
    frame = table.frame.select(chosen).collect(engine="streaming")
    return table, frame.with_columns(_side(frame, name, table.name) for name in (text, target))


def _check_names(name: str, names: Sequence[str]) -> None:
    """SadariError where a file of many columns begins with a row of values in place of their names."""
    if len(names) > 2 and not any(map(is_known, names)) and holds_values(names):
        shown = ", ".join(repr(value[:_SHOWN]) for value in names[:3])
        raise SadariError(
            f"{name} begins with values ({shown}), not with the names of its {len(names)} columns; write a "
            "line of names above, or if they are names, choose with --text and --target"
        )


def _side(frame: pl.DataFrame, column: str, name: str) -> pl.Series:
    """A column as clean texts, nothing as the empty one."""
    texts = as_text(pl.col(column), frame.schema[column])
    if texts is None:
        raise SadariError(
            f"{name}: column {column} is {frame.schema[column]}, no text; name another: --text or --target"
        )
    if frame.schema[column] in (pl.String, pl.Categorical, pl.Enum):
        texts = pl.col(column).cast(pl.String)
    return _clean(column, frame.select(texts.alias(column)).to_series().to_list())


def _clean(column: str, texts: Sequence[str | None]) -> pl.Series:
    return pl.Series(column, ["" if text is None else clean_text(text).strip() for text in texts], pl.String)


# --------------------------------------------------------------------- lines with a tab


def _of_lines(path: Path, layout: Layout, text: str | None, target: str | None) -> tuple[Table, pl.DataFrame]:
    """The pairs of a file without a header; its columns are called source and target."""
    file, notes = text_files.look(path), Oddities(path.name)
    notes.add(file)
    pairs, said = read_pairs(path, file, layout)
    columns = ["source", "target"]
    frame = pl.DataFrame([_clean(name, [pair[k] for pair in pairs]) for k, name in enumerate(columns)])
    chosen = _choose(path.name, frame, text, target)
    return _named(path, [*notes.said(), *said]), frame.select(chosen)


# --------------------------------------------------------------------- two files


def _of_folder(folder: Path, text: str | None, target: str | None) -> tuple[Table, pl.DataFrame]:
    """The lines of two files of equal name and another language."""
    found = aligned_files(folder)
    if not found:
        raise SadariError(
            f"{folder} has no files of aligned lines; call them after their languages: train.en and train.ko"
        )
    both = {stem: sides for stem, sides in found.items() if len(sides) > 1}
    if not both:
        alone = next(iter(next(iter(found.values())).values())).name
        raise SadariError(
            f"{folder} has {alone} and no other language of it; put the file of the other side, with as many "
            "lines, beside it"
        )
    if len(both) > 1:
        raise SadariError(
            f"{folder} has pairs of {', '.join(both)}; put the two files of one in a folder of its own"
        )
    sides = next(iter(both.values()))
    chosen = _choose(
        str(folder), pl.DataFrame(schema=dict.fromkeys(sides, pl.String())), text, target, "side"
    )
    notes, columns = Oddities(folder.name), []
    for side in chosen:
        file = text_files.look(sides[side])
        notes.add(file)
        columns.append(_clean(side, list(lines_of(file))))
    one, other = columns
    if len(one) != len(other):
        raise SadariError(
            f"{sides[chosen[0]].name} has {len(one):,} lines and {sides[chosen[1]].name} {len(other):,}; "
            "line n of one must belong to line n of the other"
        )
    return _named(folder, notes.said()), pl.DataFrame(columns)


# --------------------------------------------------------------------- JSONL


def _of_jsonl(path: Path, text: str | None, target: str | None) -> tuple[Table, pl.DataFrame]:
    """Two values of each object, and its group."""
    file, notes = text_files.look(path), Oddities(path.name)
    notes.add(file)
    head = list(islice(rows_of(file, Oddities("")), SAMPLE))
    keys = list(dict.fromkeys(key for row in head for key in row))
    strings = (
        [key for key in keys if any(isinstance(row.get(key), str) for row in head)] if len(keys) > 2 else keys
    )
    shown = {
        key: [_value(row, key) for row in head]
        for key in dict.fromkeys([*strings, *_asked(keys, text, target)])
    }
    text, target = _choose(
        path.name, pl.DataFrame(shown, schema=dict.fromkeys(shown, pl.String())), text, target
    )
    chosen = [text, target] + ["group"] * ("group" in keys and "group" not in (text, target))
    values: dict[str, list[str | None]] = {key: [] for key in chosen}
    for row in rows_of(file, notes):
        for key in chosen:
            values[key].append(_value(row, key))
    return _named(path, notes.said()), pl.DataFrame([_clean(key, found) for key, found in values.items()])


def _asked(keys: Sequence[str], *names: str | None) -> list[str]:
    return [name for name in names if name in keys]  # type: ignore[misc]


def _value(row: Mapping[str, Any], key: str) -> str | None:
    """A string, or a number as one; None for all else."""
    value = row.get(key)
    if isinstance(value, str) or value is None:
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _named(path: Path, notes: Sequence[Note]) -> Table:
    """A table of that name, whose rows are still to be put in."""
    return Table(path.name, str(path.resolve()), pl.LazyFrame(), {}, 0, "", False, notes=tuple(notes))
