"""Pairs in lines of fields between tabs that have no line of column names: which columns, which lines.

    Turn on the light <tab> 불을 켜세요                       two fields: source, target
    Go. <tab> 가. <tab> CC-BY 2.0 (France), tatoeba.org       more: the first two columns of text
    1276 <tab> Let's try. <tab> 2481 <tab> 뭔가 해 보자!      numbers are no text: the second and the fourth

Of two fields, a first line that holds no usual names is a pair. Of more, it is one only if it holds what no
name of a column is like: a sentence, a number, or what stands in the same column again.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sadari.data import text_files
from sadari.data.delimited import is_number
from sadari.data.text_rows import SAMPLE
from sadari.errors import SadariError
from sadari.lang import Note

TEXTS = {
    "fields": (
        "{count:,} lines of {name} have not two fields and are left out (the first: line {line:,})",
        "{name}의 {count:,}줄은 칸이 둘이 아니어서 뺐습니다(처음: {line:,}번째 줄)",
    ),
    "ragged": (
        "{count:,} lines of {name} have not {wanted} fields and are left out (the first: line {line:,})",
        "{name}의 {count:,}줄은 칸이 {wanted}개가 아니어서 뺐습니다(처음: {line:,}번째 줄)",
    ),
    "headless": (
        "{name} has no line of column names; of its {width} columns, {one} and {other} are read as source "
        "and target (for others, write names above and choose with --text and --target)",
        "{name}에는 열 이름을 적은 줄이 없습니다. 열 {width}개 가운데 {one}번째를 원문으로, {other}번째를 "
        "번역으로 읽습니다(다른 열을 읽으려면 첫 줄에 이름을 적고 --text와 --target으로 고르십시오)",
    ),
}

SOURCE_NAMES = ("source", "src", "input", "question", "prompt", "원문", "질문", "입력")
TARGET_NAMES = ("target", "tgt", "output", "translation", "summary", "answer", "번역", "요약", "답", "출력")
_TABBED = (".tsv", ".tab", *text_files.SUFFIXES)
_LANGUAGE = re.compile(r"([a-z]{2,3})(?:[-_][a-z]{2,4})?")
_CODES = (  # noqa: SIM905
    "af am ar az be bg bn bs ca cs cy da de el en eo es et eu fa fi fr ga gl gu he hi hr hu hy id is it "
    "ja jv ka kk km kn ko ku ky la lo lt lv mg mi mk ml mn mr ms mt my nb ne nl nn no pa pl ps pt ro ru "
    "sd si sk sl so sq sr sv sw ta te tg th tk tl tr tt ug uk ur uz vi xh yi yo zh zu ara deu eng fra hin "
    "ind ita jpn kor por rus spa tur vie zho src tgt "
).split()
_ENDS = tuple(".?!…。？！")  # of a sentence, and of no name
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Layout:
    """How the lines of a file without a header are cut."""

    width: int
    """Fields of the first line."""
    places: tuple[int, int]
    """Which of them, from 0, are the source and the target."""


def headless(path: Path, text: str | None, target: str | None) -> Layout | None:
    """The layout of a file of lines whose first is a pair; None for a header, and for another kind of file.

    Raises SadariError for plain text, and where fewer than two columns hold text.
    """
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith(_TABBED):
        return None
    lines = (line for line in lines_of(text_files.look(path)) if line.strip())
    first = fields_of(next(lines, ""))
    width = len(first)
    if width == 1 and name.endswith(text_files.SUFFIXES):
        raise SadariError(
            f"{path} holds text, not pairs; put a tab between source and target of each line, or name a "
            "folder with two files of aligned lines (train.en, train.ko)"
        )
    if width < 2 or _is_header(first, text, target):
        return None
    if width == 2:
        return Layout(2, (0, 1))
    below = [fields_of(line, width) for line in islice(lines, SAMPLE)]
    rows = [first, *(row for row in below if len(row) == width)]
    if not holds_values(first) and not _recurs(first, rows[1:]):
        return None
    places = [place for place in range(width) if not all(is_number(row[place]) for row in rows)]
    if len(places) < 2:
        raise SadariError(
            f"{path} has no line of column names, and {len(places)} of its {width} columns hold text; write "
            "source, tab, target in each line"
        )
    return Layout(width, (places[0], places[1]))


def read_pairs(path: Path, file: text_files.TextFile, layout: Layout) -> tuple[list[list[str]], list[Note]]:
    """Source and target of each line as they stand there, and what is to be said of the file.

    A line may lack fields behind the target's. SadariError where most lines have too few fields or too many.
    """
    pairs: list[list[str]] = []
    odd, first, found = 0, 0, 0
    least, most = max(layout.places) + 1, layout.width
    for number, line in enumerate(lines_of(file), 1):
        if not line.strip():
            continue
        fields = fields_of(line, most)
        if least <= len(fields) <= most:
            pairs.append([fields[place] for place in layout.places])
        else:
            odd, first, found = odd + 1, first or number, found or len(fields)
    wanted = "two" if most == 2 else str(most) if least == most else f"{least}-{most}"
    if odd > len(pairs):
        raise SadariError(
            f"{path}: {odd:,} of {odd + len(pairs):,} lines have not {wanted} fields (the first: line "
            f"{first:,} has {found}); write source, tab, target in each line"
        )
    said = []
    if most > 2:
        one, other = (place + 1 for place in layout.places)
        said.append(Note.of(TEXTS, "headless", name=path.name, width=most, one=one, other=other))
    if odd:
        key, more = ("fields", {}) if most == 2 else ("ragged", {"wanted": wanted})
        said.append(Note.of(TEXTS, key, "warning", count=odd, name=path.name, line=first, **more))
    return pairs, said


def lines_of(file: text_files.TextFile) -> Iterator[str]:
    """The lines of a file, however long; nothing stands behind the last end of a line."""
    parts: list[str] = []
    for stretch in text_files.lines(file):
        *ended, rest = stretch.split("\n")
        for line in ended:
            yield "".join([*parts, line])
            parts = []
        parts.append(rest)
    if last := "".join(parts):
        yield last


def fields_of(line: str, width: int = 2) -> list[str]:
    """The fields between tabs; quotes are letters unless only they make so many fields of the line."""
    fields = line.split("\t")
    if len(fields) > width and '"' in line:
        quoted = next(csv.reader([line], delimiter="\t"), [])
        return quoted if len(quoted) == width else fields
    return fields


def is_language(name: str) -> bool:
    """Whether a name is the code of a language, as en, kor or pt-BR are."""
    match = _LANGUAGE.fullmatch(name.lower())
    return match is not None and match[1] in _CODES


def is_known(name: str) -> bool:
    """Whether a side of a pair is usually called so."""
    return name.lower() in (*SOURCE_NAMES, *TARGET_NAMES, "text") or is_language(name)


def holds_values(fields: Sequence[str]) -> bool:
    """Whether one of these is no name of a column: a number, or a sentence by its end or its length."""
    found = [field.strip() for field in fields]
    return any(
        is_number(field) or field.endswith(_ENDS) or len(field) > _LONGEST_NAME for field in found if field
    )


def _is_header(fields: Sequence[str], text: str | None, target: str | None) -> bool:
    """Whether a line names columns: by the names that were asked for, or two names that are usual."""
    names = [field.strip() for field in fields]
    return not {text, target}.isdisjoint(names) or sum(map(is_known, names)) >= 2


def _recurs(first: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether something of the first line stands in its column again, in a line that is not the same."""
    return any(
        field.strip() and field == other
        for row in below
        if row != first
        for field, other in zip(first, row, strict=True)
    )
