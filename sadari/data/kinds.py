"""What kind of data a source is, told by what it holds: a table, texts, a corpus, pairs, or pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from sadari.data import text_files
from sadari.data.caption_columns import caption_columns
from sadari.data.caption_sources import holds_captions, is_shards
from sadari.data.caption_tables import jsonl_keys
from sadari.data.images import has_images, image_column
from sadari.data.pairs import aligned_files, pair_columns
from sadari.data.table import Table, open_table
from sadari.data.text import LABEL_NAMES, text_column
from sadari.data.text_rows import is_jsonl
from sadari.errors import SadariError

KINDS = ("table", "series", "text", "pairs", "images", "captions")
TELLING = ("image", "size", "fit", "channels")
OF_IMAGES = (*TELLING, "hold_out")
"""What can be said of how pictures are read; by the first of it, that they are pictures."""
OF_CAPTIONS = ("caption", "languages", "tokenizer", "vocabulary", "length")
"""And of how their captions are."""
_PLAIN = text_files.SUFFIXES
_LINES = (".jsonl", ".ndjson")


def recognise(
    source: Any,
    *,
    kind: str | None = None,
    task: str | None = None,
    target: str | None = None,
    reading: Mapping[str, Any] | None = None,
    memory: int = 2 << 30,
) -> tuple[Any, str, str | None]:
    """The source, opened where it had to be looked into, with its kind and its task (None: not known yet).

    `kind` and `task` win, then a built-in's own. A folder, plain text and lines of JSON are texts; so is a
    table that has, beside its target, nothing but free text. Texts without labels ask for a language. Two
    columns of free text and no target, and two files of aligned lines, are pairs. A folder of pictures, and a
    table or lines of JSON with a column of them, are pictures, unless a number is asked for; with texts
    beside them, or a column called caption, they are pictures with captions.
    Raises SadariError for a kind that is none.
    """
    if kind is not None and kind not in KINDS:
        raise SadariError(f"--kind {kind!r} is no kind of data; choose one of: {', '.join(KINDS)}")
    if kind in ("table", "series"):
        return source, kind, task
    if kind == "pairs" or (task == "translate" and kind is None):
        return source, "pairs", task or "translate"
    if kind == "captions" or (task == "match" and kind is None):
        return source, "captions", task or "match"
    if task == "language":
        return source, "text", task
    entry = _builtin(source)
    if entry is not None and entry.kind in ("images", "captions") and kind is None:
        return source, entry.kind, task or entry.task
    unsaid = kind is None and task is None and target is None
    if kind == "images" or (kind is None and any(name in TELLING for name in reading or {})):
        if unsaid and (_of_captions(source) or _captioned(source, memory)):
            return source, "captions", "match"
        return source, "images", task or "classify"
    if entry is not None:
        asked = "text" if entry.kind == "text" or (reading or {}).get("text") else "table"
        own = kind or ("pairs" if entry.kind == "pairs" else asked)
        return source, own, task or (None if own == "table" else entry.task)
    if unsaid and _of_captions(source):
        return source, "captions", "match"
    if isinstance(source, str | Path) and kind is None and _of_images(source):
        return source, "images", task or "classify"
    if isinstance(source, str | Path) and (found := _of_path(source)) is not None:
        return source, "pairs" if found == "translate" and kind is None else "text", task or found
    if kind == "text" or (reading and (task or target)):
        return source, "text", task or "classify"
    if isinstance(source, str | Path | pl.DataFrame | Table):
        table = source if isinstance(source, Table) else open_table(source, memory=memory)
        nothing_said = task is None and target is None and not table.task
        if (table.task == "translate" and task is None) or (nothing_said and pair_columns(table) is not None):
            return table, "pairs", "translate"
        if reading:
            return source, "text", task or "classify"
        if task != "regress" and image_column(table, target or table.target) is not None:
            captioned = nothing_said and _said(table.schema)
            return (table, "captions", "match") if captioned else (table, "images", "classify")
        if task != "regress" and text_column(table, target or table.target) is not None:
            return table, "text", "classify"
        return table, "table", task
    return source, "table", task


def _of_images(source: str | Path) -> bool:
    """Whether a path is a folder or lines of JSON with pictures."""
    try:
        return bool(str(source)) and has_images(Path(source).expanduser())
    except (OSError, RuntimeError, ValueError, SadariError):  # whoever opens it says what is wrong
        return False


def _captioned(source: Any, memory: int) -> bool:
    """Whether a table has pictures and what is said of each."""
    try:
        table = source if isinstance(source, Table) else open_table(source, memory=memory)
        return image_column(table) is not None and _said(table.schema)
    except SadariError:  # whoever opens it says what is wrong
        return False


def _of_captions(source: Any) -> bool:
    """Whether a source is a folder, shards, or lines of JSON of pictures and what is said of each."""
    if not isinstance(source, str | Path):
        return False
    try:
        path = Path(source).expanduser()
        if is_shards(source) or (path.is_dir() and holds_captions(path)):
            return True
        return path.is_file() and is_jsonl(path) and has_images(path) and _said(jsonl_keys(path))
    except (OSError, RuntimeError, ValueError, SadariError):  # whoever opens it says what is wrong
        return False


def _said(names: Iterable[str]) -> bool:
    """Whether columns beside a picture's are captions of it, and not its label."""
    names = list(names)
    return bool(caption_columns(names)) and not any(name.lower() in LABEL_NAMES for name in names)


def _of_path(source: str | Path) -> str | None:
    """The task of a folder or a file of texts; None for all else, a path that is none included."""
    try:
        path = Path(source).expanduser()
        if str(source) and path.is_dir() and text_files.walk(path, (*text_files.SUFFIXES, *_LINES)).files:
            return "classify" if any(part.is_dir() for part in path.iterdir()) else "language"
        if str(source) and path.is_dir() and any(len(sides) > 1 for sides in aligned_files(path).values()):
            return "translate"
        if not path.is_file():
            return None
    except (OSError, RuntimeError, SadariError):  # a name too long, no such user: whoever opens it says so
        return None
    stem = path.name.lower().removesuffix(".gz")
    return "language" if stem.endswith(_PLAIN) else "classify" if stem.endswith(_LINES) else None


def _builtin(source: Any) -> Any:
    """The built-in of that name, unless a path is called so."""
    from sadari.data.builtin import BUILTIN

    return BUILTIN.get(source) if isinstance(source, str) and not _exists(source) else None


def _exists(source: str) -> bool:
    try:
        return Path(source).exists()
    except OSError:
        return False
