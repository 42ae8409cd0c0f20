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

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sadari.data import text_files
from sadari.data.columns import as_text
from sadari.data.table import Table, fingerprint, open_table
from sadari.data.tokenizers import clean_text
from sadari.errors import SadariError
from sadari.lang import Note

TEXTS = {
    "broken": (
        "{count:,} places of {name} are no UTF-8; they are read as U+FFFD",
        "{name}의 {count:,}곳은 UTF-8이 아니어서 U+FFFD로 읽었습니다",
    ),
    "cp949": (
        "{count:,} files are CP949/EUC-KR, read as such",
        "{count:,}개 파일은 CP949/EUC-KR로 읽었습니다",
    ),
    "links": (
        "{count:,} links in {name} are not followed",
        "{name} 안의 링크 {count:,}개는 따라가지 않았습니다",
    ),
    "others": (
        "{count:,} files in {name} are left out, for their names are not those of text ({wanted})",
        "{name} 안의 파일 {count:,}개는 글 파일의 이름({wanted})이 아니어서 뺐습니다",
    ),
    "no text": (
        "{count:,} files in {name} are left out, for they are no text (the first: {first})",
        "{name} 안의 파일 {count:,}개는 글이 아니어서 뺐습니다(처음: {first})",
    ),
    "outside": (
        "{count:,} files in {name} are in no class's folder and are left out",
        "{name} 안의 파일 {count:,}개는 범주 폴더에 들어 있지 않아 뺐습니다",
    ),
    "no object": (
        "{count:,} lines of {name} are no JSON objects and are left out (the first: line {line:,})",
        "{name}의 {count:,}줄은 JSON 객체가 아니어서 뺐습니다(처음: {line:,}번째 줄)",
    ),
    "no string": (
        "{count:,} rows of {name} have no text in `{column}` (a number, a list or nothing) and are left out",
        "{name}의 {count:,}행은 `{column}` 값이 글이 아니라(수, 목록, 빈 값) 뺐습니다",
    ),
    "no label": (
        "{count:,} rows of {name} have a list or an object in `{column}`, which is no label",
        "{name}의 {count:,}행은 `{column}` 값이 목록이나 객체라 범주가 될 수 없습니다",
    ),
    "empty": (
        "{count:,} of {rows:,} texts are empty; no rung can tell them from each other",
        "글 {rows:,}개 가운데 {count:,}개는 비어 있어 어느 단도 구별하지 못합니다",
    ),
    "group": (
        "rows of the same `group` stay in one part of the split",
        "`group` 값이 같은 행은 나눌 때 한쪽에 함께 둡니다",
    ),
    "cut": (
        "{count:,} documents are pieces of longer ones, cut at white space so that memory stays small",
        "문서 {count:,}개는 긴 문서를 빈칸에서 나눈 조각입니다(메모리를 아끼기 위해)",
    ),
    "no document": (
        "{count:,} texts of {name} are empty and are no documents",
        "{name}의 빈 글 {count:,}개는 문서로 치지 않았습니다",
    ),
}

TEXT_NAMES = (
    "text",
    "content",
    "document",
    "sentence",
    "review",
    "body",
    "본문",
    "내용",
    "글",
    "문장",
    "리뷰",
)
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
_JSONL = (".jsonl", ".ndjson")
_PARTS = {"train", "test", "valid", "validation", "val", "dev", "eval"}
_LETTERS = 20.0  # characters that free text has on average
_DIFFERENT = 0.5  # share of its texts that are met once
_SAMPLE = 10_000  # rows that are looked at to tell free text
_STRETCHES = 100  # that a single file is cut into for the split: neighbours tell of the same things
_SHORTEST_CUT, _LONGEST_CUT = 2_000, 1 << 16  # characters of a document, at most
_MEMORY = 2 << 30


@dataclass(frozen=True)
class Corpus:
    """Documents to learn a language from, read again and again from where they are."""

    name: str
    """What to call it: a file's or a folder's name, or a built-in's."""
    source: str
    """What opens it again: a path made absolute, or a built-in's name; empty for texts in memory."""
    rows: int
    """Documents."""
    bytes: int
    """Of their text in UTF-8 and NFC, without what stood between them."""
    fingerprint: str
    """Hexadecimal digest of the documents in their order: the same for the same text, however encoded."""
    streamed: bool
    """Larger than the memory budget."""
    groups: np.ndarray = field(compare=False)
    """(rows,) int64: documents of one number stay in one part of the split: a file, an article, a stretch."""
    read: Callable[[], Iterator[str]] = field(compare=False, repr=False)
    """Begins to read from the start."""
    licence: str = ""
    notes: tuple[Note, ...] = ()
    """What was remarkable in reading it."""
    target: None = None
    task: str = "language"
    official_test: int = 0

    def documents(self) -> Iterator[str]:
        """Each document, none of them empty, in NFC."""
        return self.read()


# Labelled texts.


def open_texts(
    source: str | Path | pl.DataFrame | Table,
    *,
    text: str | None = None,
    target: str | None = None,
    memory: int = _MEMORY,
) -> Table:
    """A table whose first column is the text and whose second is its label; `group` is third if there is one.

    `source` is a folder with a folder of .txt files for each class, a JSONL, CSV, TSV or Parquet file, a
    built-in's name, or a frame. `text` and `target` name columns; without them the text is the column of
    free text, and the label the one that is named or used as one. Rows of one `group` stay together.
    Raises SadariError for anything that holds no labelled texts, naming what is wrong and what to do.
    """
    notes: list[Note] = []
    path = Path(source).expanduser() if isinstance(source, str | Path) else None
    if path is not None and path.is_dir():
        frame, notes = _read_folder(path)
        table = _named(frame, path.name, str(path.resolve()), "text", "label")
    elif path is not None and path.is_file() and _is_jsonl(path):
        frame, notes = _read_jsonl(path, text, target)
        table = _named(frame, path.name, str(path.resolve()), *frame.columns[:2])
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
    head = table.frame.head(_SAMPLE).collect()
    free = [name for name in strings if _is_free(head[name])]
    if not free:
        return None
    chosen = max(free, key=lambda name: head[name].str.len_chars().mean() or 0.0)
    others = [name for name in table.schema if name not in (*free, target, "group")]
    useful = [name for name in others if not _is_key(head[name], name)]
    return chosen if len(useful) <= (target is None) else None


def _is_free(column: pl.Series) -> bool:
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
    for name in (text, target):
        if name is not None and name not in names:
            near = get_close_matches(name, names, n=3, cutoff=0.5) or names[:8]
            raise SadariError(f"{table.name} has no column {name!r}; near it: {', '.join(near)}")
    if text is not None and text == target:
        raise SadariError(f"{text!r} is both the text and the target; choose another --target")
    target = target or (table.target if table.target != text else None)
    if text is None:
        strings = [
            name for name in names if table.schema[name] == pl.String and name not in (target, "group")
        ]
        said = [name for name in strings if name.lower() in TEXT_NAMES]
        text = said[0] if said else _longest(table, strings)
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


def _longest(table: Table, strings: Sequence[str]) -> str | None:
    """The column with the longest texts."""
    if not strings:
        return None
    head = table.frame.select(strings).head(_SAMPLE).collect()
    return max(strings, key=lambda name: head[name].str.len_chars().mean() or 0.0)


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


def _is_jsonl(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(_JSONL)


def _read_folder(folder: Path) -> tuple[pl.DataFrame, list[Note]]:
    """The texts below each class's folder, with the class."""
    found = text_files.walk(folder)
    texts, labels, notes = [], [], _Notes(folder.name)
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
    file, notes = text_files.look(path), _Notes(path.name)
    notes.add(file)
    keys: dict[str, None] = {}  # in the order in which they are met
    for row in islice(_rows(file, _Notes("")), _SAMPLE):
        keys.update(dict.fromkeys(row))
    if text is None:
        text = _text_key(file, target)
    nothing = pl.LazyFrame(schema={key: pl.String() for key in keys})
    text, target = _columns(
        Table(path.name, "", nothing, dict.fromkeys(keys, pl.String()), 0, "", False), text, target
    )
    grouped = "group" in keys and "group" not in (text, target)
    texts: list[str] = []
    labels: list[str | None] = []
    groups: list[str] = []
    rows = odd = 0
    for row in _rows(file, notes):
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


def _rows(file: text_files.TextFile, notes: _Notes) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; what is none is counted, and refused when it is most of the file."""
    rows = bad = first = 0
    for number, content in text_files.objects(file):
        if content is None:
            bad, first = bad + 1, first or number
        else:
            rows += 1
            yield content
    if bad > rows:
        raise SadariError(
            f"{file.path}: {bad:,} of {rows + bad:,} lines are no JSON objects (the first: line "
            f"{first:,}); write one object a line"
        )
    if not rows:
        raise SadariError(f"{file.path} is empty; write one JSON object a line, with a text in it")
    notes.no_object(bad, first)


def _label(value: Any) -> str | None:
    """A label as text: true and false in small letters, whole numbers without a point."""
    if value is None or isinstance(value, list | dict):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return clean_text(str(value)).strip() or None


class _Notes:
    """Counts what was odd in files, and says it once for all of them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.outside = self.broken = self.cp949 = self.no_text = self.bad = self.line = 0
        self.first = ""

    def look(self, path: Path) -> text_files.TextFile | None:
        """The file looked through; None, and counted, when it is no text."""
        try:
            file = text_files.look(path)
        except SadariError as error:
            if "no text" not in str(error) and "neither" not in str(error):
                raise
            self.no_text, self.first = self.no_text + 1, self.first or path.name
            return None
        return file

    def add(self, file: text_files.TextFile) -> None:
        self.broken += file.broken
        self.cp949 += file.encoding == "cp949"

    def no_object(self, bad: int, first: int) -> None:
        self.bad, self.line = self.bad + bad, self.line or first

    def said(self, walk: text_files.Walk | None = None) -> list[Note]:
        wanted = " ".join(text_files.SUFFIXES)
        counts: list[tuple[str, int, dict[str, Any]]] = [
            ("broken", self.broken, {}),
            ("cp949", self.cp949, {}),
            ("no text", self.no_text, {"first": self.first}),
            ("outside", self.outside, {}),
            ("no object", self.bad, {"line": self.line}),
            ("links", walk.links if walk else 0, {}),
            ("others", walk.others if walk else 0, {"wanted": wanted}),
        ]
        return [
            Note.of(TEXTS, key, "info" if key == "cp949" else "warning", count=count, name=self.name, **more)
            for key, count, more in counts
            if count
        ]


# Corpora.

_Read = Callable[["_Notes"], Iterator[tuple[str | None, bytes | None, bool]]]
"""Reads a source from its start: each text (None where there is none), what to group it by, and whether it is
a piece with more of the same text behind it."""


def open_corpus(
    source: str | Path | pl.DataFrame | Table | Sequence[str],
    *,
    text: str | None = None,
    memory: int = _MEMORY,
) -> Corpus:
    """The documents of a text file of any size, a folder of them, a column of a table, a built-in, or a list.

    A text file's documents are what empty lines part; a file without empty lines has one a line. It is cut
    into a hundred stretches, each of which stays in one part of the split. In a folder each file stays whole
    there; in JSONL, CSV and Parquet each row does, with the rows that repeat its text. `text` names their
    column. Everything is read once here, for counts and fingerprint, and nothing of it is kept in memory.
    Raises SadariError for a source that holds no text, naming what is wrong and what to do.
    """
    if isinstance(source, Sequence) and not isinstance(source, str):
        texts = [clean_text(text) for text in source]
        return _scan("the texts", "", lambda _: _from_rows((text, None) for text in texts), memory)
    path = Path(source).expanduser() if isinstance(source, str | Path) else None
    if path is not None and path.is_dir():
        return _open_folder(path, text, memory)
    if path is not None and path.is_file() and _is_jsonl(path):
        file = text_files.look(path)
        key = text or _text_key(file)
        return _scan(path.name, str(path.resolve()), lambda notes: _from_jsonl(file, key, notes), memory, key)
    if path is not None and path.is_file() and not _is_table(path):
        file = text_files.look(path)
        return _scan(
            path.name, str(path.resolve()), lambda notes: _from_plain(file, notes), memory, one_file=True
        )
    return _open_column(source, text, memory)  # type: ignore[arg-type]


def _scan(
    name: str,
    source: str,
    read: _Read,
    memory: int,
    column: str = "",
    walk: text_files.Walk | None = None,
    one_file: bool = False,
) -> Corpus:
    """Read everything once: counts, fingerprint, groups, and what is worth saying."""
    notes, digest = _Notes(name), hashlib.sha256()
    groups, sizes = array("Q"), array("Q")
    empty = lost = cut = total = 0
    for text, group, goes_on in read(notes):
        if text is None:
            lost += 1
        elif not text:
            empty += 1
        else:
            content = text.encode() + b"\0"
            digest.update(content)
            if group is None:
                group = hashlib.blake2b(content, digest_size=8).digest()
            groups.append(int.from_bytes(group, "little"))
            sizes.append(len(content))
            total += len(content) - 1
            cut += goes_on
    if not total:
        raise SadariError(
            f"{name} holds no text ({lost + empty:,} rows without any); give a source with text in it"
        )
    said = notes.said(walk)
    for key, count in (("no string", lost), ("no document", empty), ("cut", cut)):
        if count:
            level = "warning" if key == "no string" else "info"
            said.append(Note.of(TEXTS, key, level, count=count, name=name, column=column))  # type: ignore[arg-type]
    codes = np.unique(np.frombuffer(groups, np.uint64), return_inverse=True)[1].astype(np.int64)
    if one_file:  # neighbours stay together
        before = np.cumsum(np.frombuffer(sizes, np.uint64).astype(np.int64))
        codes = (before - 1) * _STRETCHES // before[-1]
    return Corpus(
        name,
        source,
        len(codes),
        total,
        digest.hexdigest(),
        total > memory // 4,
        codes,
        lambda: (text for text, _, _ in read(_Notes(name)) if text),
        notes=tuple(said),
    )


def _from_plain(file: text_files.TextFile, notes: _Notes) -> Iterator[tuple[str, bytes, bool]]:
    """Documents of a text file; one longer than a hundredth of the file is cut, so that it can be split."""
    notes.add(file)
    longest = int(np.clip(file.size // _STRETCHES, _SHORTEST_CUT, _LONGEST_CUT))
    for text, goes_on in text_files.documents(file, longest):
        yield clean_text(text), file.digest, goes_on


def _from_rows(rows: Iterable[tuple[str | None, Any]]) -> Iterator[tuple[str | None, bytes | None, bool]]:
    """Texts with the value that groups them, None for those of the same text."""
    for text, group in rows:
        if text is None or not (text := text.strip()):
            yield text, None, False
            continue
        said = text if group is None else f"\0{group}"
        key = hashlib.blake2b(said.encode(), digest_size=8).digest()
        for piece, goes_on in text_files.pieces(text, _LONGEST_CUT):
            yield piece, key, goes_on


def _from_jsonl(
    file: text_files.TextFile, key: str, notes: _Notes
) -> Iterator[tuple[str | None, bytes | None, bool]]:
    notes.add(file)
    values = ((row.get(key), row.get("group")) for row in _rows(file, notes))
    return _from_rows((clean_text(text) if isinstance(text, str) else None, group) for text, group in values)


def _text_key(file: text_files.TextFile, target: str | None = None) -> str:
    """The key of a JSONL file's texts: called as one, else the one with the longest strings."""
    letters: dict[str, int] = {}
    keys: dict[str, None] = {}
    for row in islice(_rows(file, _Notes("")), _SAMPLE):
        keys.update(dict.fromkeys(row))
        for key, value in row.items():
            if isinstance(value, str) and key not in (target, "group"):
                letters[key] = letters.get(key, 0) + len(value)
    if not letters:
        raise SadariError(
            f"{file.path} has no key whose values are texts ({', '.join(list(keys)[:8])}); name one with "
            "--text"
        )
    named = [key for key in letters if key.lower() in TEXT_NAMES]
    return named[0] if named else max(letters, key=lambda key: letters[key])


def _open_folder(folder: Path, text: str | None, memory: int) -> Corpus:
    walk = text_files.walk(folder, (*text_files.SUFFIXES, *_JSONL))

    def read(notes: _Notes) -> Iterator[tuple[str | None, bytes | None, bool]]:
        for path in walk.files:
            if (file := notes.look(path)) is None:
                continue
            if _is_jsonl(path):
                yield from _from_jsonl(file, text or _text_key(file), notes)
            else:
                yield from _from_plain(file, notes)

    if not walk.files:
        raise SadariError(
            f"{folder} has no text files ({' '.join(text_files.SUFFIXES)}); name a folder that has"
        )
    return _scan(folder.name, str(folder.resolve()), read, memory, text or "", walk)


def _is_table(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv", ".parquet", ".pq"))


def _open_column(source: str | Path | pl.DataFrame | Table, text: str | None, memory: int) -> Corpus:
    """The texts of a table's column; of a built-in, grouped as it says."""
    types = {text: pl.String()} if text else None
    table = source if isinstance(source, Table) else open_table(source, memory=memory, types=types)
    names = list(table.schema)
    if text is not None and text not in names:
        near = get_close_matches(text, names, n=3, cutoff=0.5) or names[:8]
        raise SadariError(f"{table.name} has no column {text!r}; near it: {', '.join(near)}")
    strings = [name for name, dtype in table.schema.items() if dtype == pl.String and name != "group"]
    column = (
        text
        or next((name for name in strings if name.lower() in TEXT_NAMES), None)
        or _longest(table, strings)
    )
    if column is None or table.schema[column] != pl.String:
        raise SadariError(
            f"{table.name} has no column of text ({', '.join(names[:8])}); name one with --text"
        )
    chosen = [column] + ["group"] * ("group" in names and column != "group")

    def rows() -> Iterator[tuple[str | None, Any]]:
        for batch in table.frame.select(chosen).collect_batches(
            chunk_size=1 << 14, maintain_order=True, lazy=True
        ):
            texts = batch[column].to_list()
            groups = batch["group"].to_list() if len(chosen) > 1 else [None] * len(texts)
            yield from (
                (None if text is None else clean_text(text), group)
                for text, group in zip(texts, groups, strict=True)
            )

    corpus = _scan(table.name, table.source, lambda _: _from_rows(rows()), memory, column)
    return replace(corpus, licence=table.licence, notes=(*table.notes, *corpus.notes))
