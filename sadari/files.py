"""Files that are never half-written: each write goes to a neighbour first and takes its place in one step."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sadari.errors import SadariError


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content`: after a crash at any moment it holds the old or the new, never a part.

    Raises SadariError when the disk is full or the folder is closed; the old content is then untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # a rename may reach the disk before the bytes that it names
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner reads
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        raise SadariError(
            f"cannot write {path} ({error.strerror}); free some space or choose another folder with --out"
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented UTF-8 JSON, in one step. NaN and infinity are refused: JSON has neither."""
    write_atomic(path, json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object; `what` names the file's role in the error ("a run", "a climb").

    Raises SadariError when the file is missing, unreadable, not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SadariError(f"{path.parent} is not {what}: it has no {path.name}") from error
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as error:  # bad bytes, bad JSON, numbers or nesting without end
        raise SadariError(f"{path} cannot be read as JSON ({error}); make {what} again") from error
    if not isinstance(content, dict):
        raise SadariError(f"{path} holds {type(content).__name__}, not an object; make {what} again")
    return content


def make_folder(place: Path, fill: Callable[[Path], None]) -> None:
    """Have `fill` write a new folder and put it at `place` in one step; one that is there already stays.

    Raises OSError, of which the caller knows what it means, and what `fill` raises.
    """
    if place.is_dir():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=place.parent, prefix=".writing-", ignore_cleanup_errors=True
    ) as fresh:
        fill(Path(fresh))
        try:
            os.rename(fresh, place)
        except OSError:  # a full folder is in the way: another process was faster with the same content
            if not place.is_dir():
                raise


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
