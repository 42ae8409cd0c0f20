"""Texts: with labels as a table of two columns, or as a corpus of documents to learn a language from.

What is odd in a source and what is done with it:

invalid UTF-8             CP949/EUC-KR if it is that throughout, else U+FFFD for what is broken (said); more
                          than 1 % broken is refused
UTF-16, a byte-order mark read as such; without a mark UTF-16 has NUL bytes
NUL bytes                 in a file of text: refused, with the line; \\u0000 in JSONL or in a cell: taken out
lone surrogates           (\\ud83d in JSONL) U+FFFD
decomposed letters (NFD)  composed; the same text has the same fingerprint either way
JSONL lines that are no objects, texts that are no strings   left out (said); more than half of them: refused
empty texts               of a table: stay, as texts without a token; of a corpus: are no documents
links in folders          not followed (said), wherever they lead
files that are no text    in folders, by their names or for NUL bytes: left out (said)
long documents            in a corpus cut at white space (said); in a table the spec keeps the first tokens
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from sadari.data import text_files
from sadari.data.columns import as_text
from sadari.data.corpus import Corpus, open_corpus
from sadari.data.table import Table, check_columns, fingerprint, open_table
from sadari.data.text_rows import (
    SAMPLE,
    TEXT_NAMES,
    TEXTS,
    Oddities,
    as_written,
    existing,
    is_jsonl,
    longest_column,
    rows_of,
    text_key,
)
from sadari.data.tokenizers import clean_text
from sadari.errors import SadariError
from sadari.lang import Note

__all__ = ["Corpus", "open_corpus", "open_texts", "text_column"]

LABEL_NAMES = (
    "label",
    "class",
    "target",
    "category",
    "topic",
    "sentiment",
    "y",
    "분류",
    "범주",
    "라벨",
    "레이블",
)
_PARTS = {"train", "test", "valid", "validation", "val", "dev", "eval"}
_LETTERS = 20.0  # characters that free text has on average
_DIFFERENT = 0.5  # share of its texts that are met once


def open_texts(
    source: str | Path | pl.DataFrame | Table,
    *,
    text: str | None = None,
    target: str | None = None,
    memory: int = 2 << 30,
) -> Table:
    """A table whose first column is the text and whose second is its label; `group` is third if there is one.

    `source` is a folder with a folder of .txt files for each class, a JSONL, CSV, TSV or Parquet file, a
    built-in's name, or a frame. `text` and `target` name columns; without them the text is the column of
    free text, and the label the one that is named or used as one. Rows of one `group` stay together.
    Raises SadariError for anything that holds no labelled texts, naming what is wrong and what to do.
    """
    notes: list[Note] = []
    path = existing(source)
    if path is not None and path.is_dir():
        frame, notes = _read_folder(path)
        table = _named(frame, path.name, str(path.resolve()), "text", "label")
    elif path is not None and path.is_file() and is_jsonl(path):
        frame, notes = _read_jsonl(path, text, target)
        table = _named(frame, path.name, str(path.resolve()), *frame.columns[:2])
    elif path is not None and path.name.lower().removesuffix(".gz").endswith(text_files.SUFFIXES):
        raise SadariError(
            f"{path} holds text without labels; put the texts of each class in a folder of its own, or use "
            f"--task language"
        )
    else:
        types = {text: pl.String()} if text else None
        table = source if isinstance(source, Table) else open_table(source, memory=memory, types=types)
        if table.task and table.task != "classify":
            raise SadariError(f"{table.name} has no labels to classify by; use --task {table.task}")
        text, target = _columns(table, text, target)
        chosen = [text, target] + ["group"] * ("group" in table.schema and "group" not in (text, target))
        frame = table.frame.select(chosen).collect(engine="streaming")
        frame, more = _clean_frame(frame, text, target, table.name)
        notes = [*table.notes, *more]
        if "group" in frame.columns and not table.task:
            notes.append(Note.of(TEXTS, "group"))
        table = replace(table, streamed=False)
    if frame.is_empty():
        raise SadariError(f"{table.name} has no row with a text and a label; give some hundreds")
    if empty := int((frame[frame.columns[0]].str.strip_chars() == "").sum()):
        notes.append(Note.of(TEXTS, "empty", "warning", count=empty, rows=frame.height))
    return replace(
        table,
        frame=frame.lazy(),
        schema=dict(frame.schema),
        rows=frame.height,
        fingerprint=fingerprint(frame),
        target=frame.columns[1],
        task="classify",
        notes=tuple(notes),
        written={},
    )


def text_column(table: Table, target: str | None = None) -> str | None:
    """The column of free text that a label is to be told by; None when the table is one of other features.

    Free text is strings of more than 20 characters on average, most of them met once, in several words. It
    makes the table one of texts when every other column but the target would be left out anyway: the same
    everywhere, a number of the row, or keys that are hardly ever repeated. `group` may stand beside it.
    """
    strings = [name for name, dtype in table.schema.items() if dtype == pl.String and name != target]
    if not strings:
        return None
    head = table.frame.head(SAMPLE).collect()
    free = [name for name in strings if is_free(head[name])]
    if not free:
        return None
    chosen = max(free, key=lambda name: head[name].str.len_chars().mean() or 0.0)
    others = [name for name in table.schema if name not in (*free, target, "group")]
    useful = [name for name in others if not _is_key(head[name], name)]
    return chosen if len(useful) <= (target is None) else None


def is_free(column: pl.Series) -> bool:
    """Whether the texts of a column are free text."""
    known = column.drop_nulls()
    if known.is_empty():
        return False
    length, blanks, signs = (  # some scripts write without spaces
        float(counted.mean() or 0)  # type: ignore[arg-type]
        for counted in (
            known.str.len_chars(),
            known.str.count_matches(r"\s"),
            known.str.count_matches(r"[^\x00-\x7F]"),
        )
    )
    several = known.n_unique() > _DIFFERENT * len(known)
    return length > _LETTERS and (blanks >= 2 or signs >= 10) and several


def _is_key(column: pl.Series, name: str) -> bool:
    """Whether a column says nothing: one value, a number of the row, or texts that hardly repeat."""
    known = column.drop_nulls()
    distinct = known.n_unique()
    if distinct <= 1:
        return True
    if known.dtype.is_integer():
        return distinct == len(known) and bool((known.diff().drop_nulls() > 0).all())
    return known.dtype == pl.String and distinct > 0.9 * len(known)


def _columns(table: Table, text: str | None, target: str | None) -> tuple[str, str]:
    """Names of the text's and the label's column."""
    names = list(table.schema)
    check_columns(table.name, names, text, target)
    if text is not None and text == target:
        raise SadariError(f"{text!r} is both the text and the target; choose another --target")
    target = target or (table.target if table.target != text else None)
    if text is None:
        strings = [
            name for name in names if table.schema[name] == pl.String and name not in (target, "group")
        ]
        said = [name for name in strings if name.lower() in TEXT_NAMES]
        text = said[0] if said else longest_column(table, strings)
        if text is None:
            raise SadariError(
                f"{table.name} has no column of text ({', '.join(names[:8])}); name one with --text"
            )
    if target is None:
        others = [name for name in names if name not in (text, "group")]
        said = [name for name in others if name.lower() in LABEL_NAMES]
        if not others:
            raise SadariError(
                f"{table.name} has texts ({text}) and no labels; add a column of them, or use --task language"
            )
        target = said[0] if said else others[-1]
    return text, target


def _clean_frame(frame: pl.DataFrame, text: str, target: str, name: str) -> tuple[pl.DataFrame, list[Note]]:
    """Text and label as strings, rows without a text left out."""
    notes: list[Note] = []
    if frame.schema[text] not in (pl.String, pl.Categorical, pl.Enum):
        raise SadariError(
            f"{name}: column {text} is {frame.schema[text]}, not text; name another with --text"
        )
    texts = [None if value is None else clean_text(value) for value in frame[text].cast(pl.String).to_list()]
    labels = as_text(pl.col(target), frame.schema[target])
    if labels is None:
        raise SadariError(
            f"{name}: column {target} is {frame.schema[target]}, which is no label; choose another --target"
        )
    frame = frame.with_columns(pl.Series(text, texts, pl.String), labels.alias(target))
    if lost := frame[text].null_count():
        notes.append(Note.of(TEXTS, "no string", "warning", count=lost, name=name, column=text))
        frame = frame.filter(pl.col(text).is_not_null())
    return frame, notes


def _named(frame: pl.DataFrame, name: str, source: str, text: str, target: str) -> Table:
    return Table(name, source, frame.lazy(), dict(frame.schema), frame.height, "", False, target, "classify")


def _read_folder(folder: Path) -> tuple[pl.DataFrame, list[Note]]:
    """The texts below each class's folder, with the class."""
    found = text_files.walk(folder)
    texts, labels, notes = [], [], Oddities(folder.name)
    for path in found.files:
        inside = path.relative_to(folder)
        if len(inside.parts) < 2:
            notes.outside += 1
            continue
        if (file := notes.look(path)) is not None:
            notes.add(file)
            texts.append(clean_text(text_files.whole(file)))
            labels.append(clean_text(inside.parts[0]))
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise SadariError(
            f"{folder} has {len(classes)} folders of texts ({', '.join(classes) or 'none'}); put the .txt "
            f"files of each class in a folder of its own"
        )
    if {label.lower() for label in classes} <= _PARTS:
        raise SadariError(
            f"{folder} has the folders {', '.join(classes)}, which are parts of a data set, not classes; "
            "name one of them"
        )
    return pl.DataFrame({"text": texts, "label": labels}), notes.said(found)


def _read_jsonl(path: Path, text: str | None, target: str | None) -> tuple[pl.DataFrame, list[Note]]:
    """Text, label and group of each object."""
    file, notes = text_files.look(path), Oddities(path.name)
    notes.add(file)
    keys: dict[str, None] = {}  # in the order in which they are met
    for row in islice(rows_of(file, Oddities("")), SAMPLE):
        keys.update(dict.fromkeys(row))
    if text is None:
        text = text_key(file, target)
    nothing = pl.LazyFrame(schema={key: pl.String() for key in keys})
    text, target = _columns(
        Table(path.name, "", nothing, dict.fromkeys(keys, pl.String()), 0, "", False), text, target
    )
    grouped = "group" in keys and "group" not in (text, target)
    texts: list[str] = []
    labels: list[str | None] = []
    groups: list[str] = []
    rows = odd = 0
    for row in rows_of(file, notes):
        rows += 1
        value, label = row.get(text), row.get(target)
        if isinstance(value, str):
            texts.append(clean_text(value))
            labels.append(_label(label))
            groups.append(str(row.get("group", "")))
            odd += isinstance(label, list | dict)
    if (lost := rows - len(texts)) > rows / 2:
        raise SadariError(
            f"{path.name}: {lost:,} of {rows:,} rows have no text in {text}; name another with --text"
        )
    said = notes.said()
    if lost:
        said.append(Note.of(TEXTS, "no string", "warning", count=lost, name=path.name, column=text))
    if odd:
        said.append(Note.of(TEXTS, "no label", "warning", count=odd, name=path.name, column=target))
    if grouped:
        said.append(Note.of(TEXTS, "group"))
    frame = pl.DataFrame({text: texts, target: labels}, schema={text: pl.String, target: pl.String})
    return (frame.with_columns(pl.Series("group", groups)) if grouped else frame), said


def _label(value: Any) -> str | None:
    """A label as clean text; None where there is none."""
    written = as_written(value)
    return None if written is None else clean_text(written).strip() or None
