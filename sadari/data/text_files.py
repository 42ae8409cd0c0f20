"""Files of text as they are found: what they are encoded in, where their lines end, and what is no text.

UTF-8 (with a mark or without), UTF-16 with a mark, and CP949/EUC-KR, gzipped or not. A file that is neither
is read as UTF-8 with U+FFFD for what is broken, as long as that is little; a file with NUL bytes is no text.
Each file is looked through once before it is read, so that the rule is known before the first line is used.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import os
import re
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sadari.errors import SadariError

BROKEN = "�"
_BLOCK = 1 << 20
_LONGEST_WORD = 8 << 20  # letters without any white space that are kept together
_MOST_BROKEN = 0.01  # of a file's letters; beyond that it is no text that a few bytes were lost of
_MOST_FILES = 1_000_000
SUFFIXES = (".txt", ".text", ".md")


@dataclass(frozen=True)
class TextFile:
    """A file that was looked through."""

    path: Path
    encoding: str
    size: int
    """Bytes of the content, unpacked."""
    broken: int
    """Places that are no text; read as U+FFFD."""
    digest: bytes
    """Eight bytes that tell this content from others."""
    blank_lines: bool
    """There is an empty line between two lines."""


@dataclass
class Walk:
    """The text files below a folder, in the order of their names, and what was passed over."""

    files: list[Path] = field(default_factory=list)
    links: int = 0
    """Links are never followed: they may lead out of the folder, or round in a circle."""
    others: int = 0
    """Files of other kinds, by their names."""


def look(path: Path) -> TextFile:
    """Look a file through. Raises SadariError when it is no text, naming the line."""
    size, line, blank, last = 0, 1, False, b""
    digest = hashlib.blake2b(digest_size=8)
    decoder, failed, wide = codecs.getincrementaldecoder("utf-8")(), False, False
    for block in _bytes(path):
        if not size:
            wide = block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        if not wide and b"\0" in block:
            at = line + block[: block.index(b"\0")].count(b"\n")
            raise SadariError(
                f"{path} has a NUL byte in line {at:,}, so it is no text; give a text file in UTF-8"
            )
        if not (wide or failed):
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                failed = True
        last += block
        blank = blank or _has_blank(last, wide)
        last = last[-8:]
        digest.update(block)
        size += len(block)
        line += block.count(b"\n")
    if not (wide or failed):
        try:
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            failed = True
    encoding, broken = ("utf-16" if wide else "utf-8-sig"), 0
    if failed and _decodes(path, "cp949"):
        encoding = "cp949"
    elif failed or wide:
        broken = sum(text.count(BROKEN) for text in _text(path, encoding))
        if broken > _MOST_BROKEN * size:
            raise SadariError(
                f"{path} is neither UTF-8 nor CP949/EUC-KR ({broken:,} of its {size:,} bytes are no text); "
                "save it as UTF-8"
            )
    return TextFile(path, encoding, size, broken, digest.digest(), blank)


def lines(file: TextFile) -> Iterator[str]:
    """Stretches of the text in NFC that end with a line or, in a line of many MB, at white space."""
    rest = ""
    for text in _text(file.path, file.encoding):
        text = rest + text
        cut = text.rfind("\n") + 1 or text.rfind(" ") + 1
        if not cut and len(text) > _LONGEST_WORD:
            cut = len(text)
        yield _composed(text[:cut])
        rest = text[cut:]
    yield _composed(rest)


def whole(file: TextFile) -> str:
    """The file as one text, without white space around it."""
    return "".join(lines(file)).strip()


def documents(file: TextFile, longest: int) -> Iterator[tuple[str, bool]]:
    """Its texts: what empty lines part or, where there is none, its lines.

    A text of more than `longest` letters is cut at white space: True with every piece but the last.
    """
    mark = "\n\n" if file.blank_lines else "\n"
    rest = ""
    for stretch in lines(file):
        *ended, rest = (rest + stretch).split(mark)
        for text in ended:
            yield from pieces(text.strip(), longest)
        while len(rest) > 2 * longest:  # no end in sight
            piece, rest = _first(rest, longest)
            if piece:
                yield piece, True
    yield from pieces(rest.strip(), longest)


def objects(file: TextFile) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The objects of a JSONL file with their lines' numbers; None for a line that holds none.

    Empty lines are passed over.
    """
    number, rest = 0, ""
    for text in _text(file.path, file.encoding):
        *ended, rest = (rest + text).split("\n")
        for line in ended:
            number += 1
            if line.strip():
                yield number, _object(line)
    if rest.strip():
        yield number + 1, _object(rest)


def walk(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> Walk:
    """The files below a folder whose names end as text's do; names that begin with a dot are passed over.

    Raises SadariError for a folder of more than a million files, and for one that may not be read.
    """
    found, seen = Walk(), 0

    def refuse(error: OSError) -> None:
        raise SadariError(
            f"{error.filename} cannot be read ({error.strerror}); change its rights or leave it out"
        )

    for place, folders, names in os.walk(folder, onerror=refuse):
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found.links += len(linked)
        folders[:] = sorted(name for name in folders if name not in linked and not name.startswith("."))
        for name in sorted(names):
            seen += 1
            path = Path(place, name)
            if path.is_symlink():
                found.links += 1
            elif (
                name.startswith(".")
                or not name.lower().removesuffix(".gz").endswith(suffixes)
                or not path.is_file()
            ):
                found.others += 1
            else:
                found.files.append(path)
        if seen > _MOST_FILES:
            raise SadariError(f"{folder} holds more than {_MOST_FILES:,} files; name a smaller folder")
    return found


def _composed(text: str) -> str:
    """NFC, and without the NUL that UTF-16 may hold; no half surrogates come out of a decoder."""
    return unicodedata.normalize("NFC", text).replace("\0", "")


def _has_blank(content: bytes, wide: bool) -> bool:
    if wide:
        content = content.replace(b"\0", b"")
    return re.search(rb"\n\r?\n\r?[^\s]", content) is not None


def _object(line: str) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def pieces(text: str, longest: int) -> Iterator[tuple[str, bool]]:
    """The text, or pieces of it cut at white space with True for all but the last; nothing of an empty "
    "one."""
    while len(text) > longest:
        piece, text = _first(text, longest)
        if piece:
            yield piece, bool(text)
    if text:
        yield text, False


def _first(text: str, longest: int) -> tuple[str, str]:
    """The first piece of a text that is too long, and the rest of it."""
    cut = max(text.rfind(" ", 0, longest), text.rfind("\n", 0, longest))
    cut = cut if cut > longest // 2 else longest
    return text[:cut].strip(), text[cut:].lstrip()


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for block in _bytes(path):
            decoder.decode(block)
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def _text(path: Path, encoding: str) -> Iterator[str]:
    """The content in blocks, every line's end as one newline."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    returned = False  # the last block ended with a carriage return, whose newline may come
    for block in _and_end(path):
        if not (text := decoder.decode(block, not block)):
            continue
        start = returned and text[0] == "\n"
        returned = text[-1] == "\r"
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        yield text[start:]


def _and_end(path: Path) -> Iterator[bytes]:
    yield from _bytes(path)
    yield b""


def _bytes(path: Path) -> Iterator[bytes]:
    try:
        with _open(path) as file:
            while block := file.read(_BLOCK):
                yield block
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SadariError(f"{path} is a damaged gzip file ({error}); copy or download it again") from error
    except OSError as error:
        raise SadariError(
            f"{path} cannot be read ({error.strerror or error}); check the path and its rights"
        ) from error


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]
