"""What an interrupted training needs to go on as if nothing had happened.

    checkpoint/state.safetensors   tensors by name; in its header, as JSON, all that is not a tensor
    log.jsonl                      a line a step interval, cut to the saved state when training goes on

The state is replaced in one step, so a kill at any moment leaves the old one or the new one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from sadari import files
from sadari.errors import SadariError

FOLDER, STATE, LOG = "checkpoint", "state.safetensors", "log.jsonl"


def save(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the state. Raises SadariError when the disk is full; the old state is then still there."""
    content = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    header = {"facts": json.dumps(facts)}
    files.write_atomic(folder / FOLDER / STATE, to_bytes(content, header))


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The saved state, or None where there is none. Raises SadariError when it is damaged."""
    path = folder / FOLDER / STATE
    _sweep(path)
    if not path.is_file():
        return None
    try:
        facts = json.loads(_metadata(path)["facts"])
        return load_file(path), facts
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise SadariError(
            f"{path} is damaged ({error}); remove {path.parent} to begin this training again"
        ) from error


def _sweep(path: Path) -> None:
    """Remove what a kill in the middle of `write_atomic` left beside `path`."""
    for unfinished in path.parent.glob(f".{path.name}.*"):
        with suppress(OSError):
            unfinished.unlink()


def _metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, "pt") as file:
        return file.metadata()


class Log:
    """`log.jsonl`: one JSON object a line in the order of steps; what is no finite number becomes null."""

    def __init__(self, folder: Path | None, step: int) -> None:
        """Go on after `step`: later lines, or half a line, were written after the state was saved."""
        self.records: list[dict[str, Any]] = []
        self.path = None if folder is None else folder / LOG
        if self.path is None:
            return
        _sweep(self.path)
        old = self.path.read_bytes() if self.path.is_file() else b""
        self.records = list(_records_until(step, old))
        text = "".join(map(_line, self.records)).encode()
        if text != old or not old:
            files.write_atomic(self.path, text)
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115

    def append(self, record: dict[str, Any]) -> None:
        """Keep a record, and write it if there is a folder. Raises SadariError when the disk is full."""
        self.records.append(record)
        if self.path is not None:
            with _full_disk(self.path):
                self.file.write(_line(record))
                self.file.flush()

    def sync(self) -> None:
        """Bring the lines to the disk before a state that continues them."""
        if self.path is not None:
            with _full_disk(self.path):
                os.fsync(self.file.fileno())

    def close(self) -> None:
        """Let go of the file."""
        if self.path is not None:
            with suppress(OSError):  # a full disk was said by `append`
                self.file.close()


@contextmanager
def _full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SadariError(
            f"cannot write {path} ({error.strerror}); free some space, then give the same command again"
        ) from error


def _records_until(step: int, old: bytes) -> Iterator[dict[str, Any]]:
    for line in old.decode(errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            return
        if not isinstance(record, dict) or record.get("step", math.inf) > step:
            return
        yield record


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(_finite(record)) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return value
