"""What labelled texts and corpora share: rows of JSONL, the column of text, and what is said of odd ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sadari.data import text_files
from sadari.data.table import Table
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
JSONL = (".jsonl", ".ndjson", ".json")
SAMPLE = 10_000
"""Rows that are looked at to tell which column is text."""


class Oddities:
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


def as_written(value: Any) -> str | None:
    """A value of JSON as text: true and false in small letters, whole numbers without a point; lists none."""
    if value is None or isinstance(value, list | dict):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def existing(source: object) -> Path | None:
    """The file or folder that a source names; None for a built-in's name, a frame, or no path at all."""
    if not isinstance(source, str | Path):
        return None
    try:
        path = Path(source).expanduser()
        return path if path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long, no such user, a NUL: `open_table` says which
        return None


def is_jsonl(path: Path) -> bool:
    """Whether a file is JSONL, by its name."""
    return path.name.lower().removesuffix(".gz").endswith(JSONL)


def rows_of(file: text_files.TextFile, notes: Oddities) -> Iterator[dict[str, Any]]:
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


def text_key(file: text_files.TextFile, target: str | None = None) -> str:
    """The key of a JSONL file's texts: called as one, else the one with the longest strings."""
    letters: dict[str, int] = {}
    keys: dict[str, None] = {}
    for row in islice(rows_of(file, Oddities("")), SAMPLE):
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


def longest_column(table: Table, strings: Sequence[str]) -> str | None:
    """The column with the longest texts."""
    if not strings:
        return None
    head = table.frame.select(strings).head(SAMPLE).collect()
    return max(strings, key=lambda name: head[name].str.len_chars().mean() or 0.0)
