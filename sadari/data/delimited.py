"""What a text file of rows is made of before any value is read: encoding, separator, names of the columns, ragged rows.

Polars reads UTF-8 only, fills short rows with gaps in silence, and does not say where a row is too long; here a file is
looked through once in blocks, so that all three are answered by the file's name and a line.
"""

from __future__ import annotations

import atexit
import codecs
import csv
import gzip
import hashlib
import io
import shutil
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sadari.errors import SadariError

_BLOCK = 1 << 22
_HEAD = 1 << 16
_SEPARATORS = ",;\t|"
csv.field_size_limit(1 << 30)  # a cell of a megabyte is odd, not wrong


@dataclass(frozen=True)
class Delimited:
    """A file of rows, ready for polars."""

    path: Path
    """The file as the user named it."""
    text: Path
    """The same rows in plain UTF-8: the file itself, or a copy that lives as long as the program."""
    separator: str
    names: tuple[str, ...]
    """Names of the columns: trimmed, composed (NFC), an empty one called after its place."""
    sha256: str
    bytes: int
    """Length of the text in UTF-8."""
    blank: int
    """Blank lines at the end."""
    lines: int
    quoted: bool
    """Whether there is any quote sign, so that a line need not be a row."""
    separators: int
    """How many separator characters the file has."""


def survey(path: Path) -> Delimited:
    """Look through a CSV, TSV or gzipped file of rows once.

    Raises SadariError for a file that is empty, cut off, binary, in an unknown encoding, or without usable names.
    """
    with open(path, "rb") as file:
        magic = file.read(4)
    encoding = _encoding(path)
    text = path if encoding == "utf-8" and not magic.startswith(b"\x1f\x8b") else _plain(path, encoding)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with open(text, "rb") as file:
        head = file.read(_HEAD)
    separator = _separator(path, head)
    lines = separators = size = 0
    quoted, tail = False, b""
    for block in _blocks(text):
        size += len(block)
        lines += block.count(b"\n")
        separators += block.count(separator.encode())
        quoted = quoted or b'"' in block
        tail = (tail + block)[-_HEAD:]
    blank = len(tail) - len(tail.rstrip(b"\r\n"))
    blank = max(0, tail[len(tail) - blank :].count(b"\n") - 1)
    lines += not tail.endswith(b"\n")
    return Delimited(path, text, separator, _names(path, text, separator), digest, size, blank, lines, quoted, separators)


def ragged(file: Delimited) -> tuple[int, int] | None:
    """The first row whose number of fields is not the header's: its line and its fields. Reads the file row by row."""
    for line, row in _rows(file.text, file.separator):
        if row and len(row) != len(file.names):
            return line, len(row)
    return None


def unclosed(file: Delimited) -> int | None:
    """The first line with an odd number of quote signs that no later line makes even, else None."""
    start, odd = 0, False
    with open(file.text, "rb") as lines:
        for at, line in enumerate(lines, 1):
            if line.count(b'"') % 2:
                start, odd = (at, True) if not odd else (start, False)
    return start if odd else None


def _rows(text: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    with open(text, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        start = 1
        for row in reader:
            yield start, row
            start = reader.line_num + 1


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else open(path, "rb")  # type: ignore[return-value]


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with _open(path) as file:
            while block := file.read(_BLOCK):
                yield block
    except (EOFError, gzip.BadGzipFile, __import__("zlib").error) as error:
        raise SadariError(f"{path} is a damaged gzip file ({error}); copy or download it again") from error


def _encoding(path: Path) -> str:
    """The encoding in which the whole file is valid text: UTF-8, UTF-16 by its mark, or CP949 (which holds EUC-KR)."""
    first, line, failures = b"", 1, {}
    decoders = {name: codecs.getincrementaldecoder(name)() for name in ("utf-8", "cp949")}
    for block in _blocks(path):
        if not first:
            first = block[:4]
            if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "utf-16"
        if b"\0" in block:
            at = line + block[: block.index(b"\0")].count(b"\n")
            raise SadariError(f"{path} has a NUL byte in line {at}, so it is not a table in text; save it as CSV in UTF-8")
        for name in [name for name in decoders if name not in failures]:
            try:
                decoders[name].decode(block)
            except UnicodeDecodeError as error:
                failures[name] = line + block[: error.start].count(b"\n")
        if len(failures) == len(decoders):
            break
        line += block.count(b"\n")
    if not first:
        raise SadariError(f"{path} is empty; a table needs a line of column names and rows below it")
    for name in decoders:
        if name not in failures:
            return name
    raise SadariError(
        f"{path} is neither UTF-8 (line {failures['utf-8']}) nor CP949/EUC-KR (line {failures['cp949']}); save it as UTF-8"
    )


def _plain(path: Path, encoding: str) -> Path:
    """A copy of the file as plain UTF-8 in a folder that goes when the program ends."""
    folder = Path(tempfile.mkdtemp(prefix="sadari-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    decoder = codecs.getincrementaldecoder(encoding)()
    copy = folder / "rows.csv"
    try:
        with open(copy, "wb") as out:
            for block in _blocks(path):
                out.write(block if encoding == "utf-8" else decoder.decode(block).encode())
    except UnicodeDecodeError as error:
        raise SadariError(f"{path} is not valid {encoding.upper()} ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise SadariError(f"no room in {folder} to unpack {path} ({error.strerror}); free some space or set TMPDIR") from error
    return copy


def _separator(path: Path, head: bytes) -> str:
    """The separator that cuts the first lines into the same number of fields, at least two; a tab for .tsv, else a comma."""
    text = head.decode("utf-8-sig", errors="ignore")
    text = text[: text.rfind("\n") + 1] if len(head) == _HEAD and "\n" in text else text
    best, favourite = (0.0, 0), "\t" if ".tsv" in path.name.lower() else ","
    for separator in sorted(_SEPARATORS, key=lambda mark: mark != favourite):
        counts = Counter(len(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row)
        fields, times = counts.most_common(1)[0] if counts else (1, 0)
        score = (times / max(1, counts.total()), fields)
        if fields > 1 and score > best and (score[0] > best[0] + 0.05 or fields > best[1]):
            best, favourite = score, separator
    return favourite


def _names(path: Path, text: Path, separator: str) -> tuple[str, ...]:
    """The column names of the first row, clean and each of them once."""
    row = next((row for _, row in _rows(text, separator)), [])
    names = [unicodedata.normalize("NFC", name.strip()) for name in row]
    if not any(names):
        raise SadariError(f"{path} begins with a blank line; its first line must hold the names of the columns")
    names = [name or f"column {place}" for place, name in enumerate(names, 1)]
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        places = [str(place) for place, name in enumerate(names, 1) if name == twice]
        raise SadariError(f"{path} names columns {' and '.join(places)} both {twice!r}; give each column a name of its own")
    if len(names) > 1 and all(_is_number(name) for name in names) and any("." in name for name in names):
        raise SadariError(f"{path} begins with numbers ({', '.join(names[:3])}); write a line of column names above them")
    return tuple(names)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
