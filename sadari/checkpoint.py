"""What an interrupted training needs to go on as if nothing had happened: one safetensors file, and the log cut to match.

    checkpoint/state.safetensors   tensors by name; in its header, as JSON, everything that is not a tensor
    log.jsonl                      a line a step interval

The file is replaced in one step, so a kill at any moment leaves the old state or the new one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from sadari import files
from sadari.errors import SadariError

FOLDER, STATE, LOG = "checkpoint", "state.safetensors", "log.jsonl"


def save(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the state; SadariError when the disk is full or not writable, with the old state left as it was."""
    content = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    header = {"facts": json.dumps(facts, allow_nan=True)}
    files.write_atomic(folder / FOLDER / STATE, safetensors.torch.save(content, header))


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The saved state, or None where there is none; SadariError when it is damaged."""
    path = folder / FOLDER / STATE
    for leftover in path.parent.glob(f".{STATE}.*"):  # a kill while writing leaves the unfinished neighbour
        with suppress(OSError):
            leftover.unlink()
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
            return {name: file.get_tensor(name).clone() for name in file.keys()}, facts  # noqa: SIM118
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise SadariError(f"{path} is damaged ({error}); remove {path.parent} to begin this fit again") from error


class Log:
    """`log.jsonl`: one JSON object a line, in the order of steps; not a number and infinity become null."""

    def __init__(self, folder: Path | None, step: int) -> None:
        """Open for appending after `step`: lines of later steps, or half a line, were written after the state."""
        self.path = None if folder is None else folder / LOG
        self.records: list[dict[str, Any]] = []
        if self.path is None:
            return
        if self.path.is_file():
            self.records = list(_whole_lines(self.path, step))
        text = "".join(_line(record) for record in self.records)
        if not self.path.is_file() or self.path.read_bytes() != text.encode():
            files.write_atomic(self.path, text)
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115

    def append(self, record: dict[str, Any]) -> None:
        """Keep a record, and write it where there is a folder. Raises SadariError when the disk is full."""
        self.records.append(record)
        if self.path is not None:
            try:
                self.file.write(_line(record))
                self.file.flush()
            except OSError as error:
                raise SadariError(
                    f"cannot write {self.path} ({error.strerror}); free some space, then give the same command again"
                ) from error

    def sync(self) -> None:
        """Bring the lines to the disk before the state that continues them."""
        if self.path is not None:
            os.fsync(self.file.fileno())

    def close(self) -> None:
        if self.path is not None:
            with suppress(OSError):  # a full disk was said by `append`
                self.file.close()


def _whole_lines(path: Path, step: int):
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            return
        if not isinstance(record, dict) or record.get("step", math.inf) > step:
            return
        yield record


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps({name: _finite(value) for name, value in record.items()}) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return value
