"""Arrays in files that are mapped, not read, and whose pages leave memory again when there are too many of
them.

The kernel counts every page of a mapped file that was ever touched as resident, and keeps it until memory
runs short. So while any array is mapped, a thread looks fifty times a second at what the process holds, and
above its budget gives the pages back; what is touched again comes from the kernel's cache of the file (0.2 s
a gigabyte).
"""

from __future__ import annotations

import mmap
import os
import threading
import time
import weakref
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

_MAPS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
_PERIOD = 0.02  # seconds
_STATM = Path("/proc/self/statm")
_lock = threading.Lock()
_budget = 0
_thread: threading.Thread | None = None


def map_array(path: Path, dtype: type, shape: tuple[int, ...], budget: int) -> np.memmap:
    """An array over a raw file, read-only in effect: what is written to it reaches neither the file nor
    lasts.

    Writable all the same, for torch shares memory with no other. From now on the process gives mapped pages
    back when it holds more than `budget` bytes (on Linux; elsewhere the kernel alone decides).
    """
    array = np.memmap(path, dtype, "c", shape=shape)
    with _lock:
        global _budget, _thread
        _MAPS.add(array._mmap)  # type: ignore[attr-defined]
        _budget = budget
        if _STATM.exists() and (_thread is None or not _thread.is_alive()):
            _thread = threading.Thread(target=_give_back, name="mapped pages", daemon=True)
            _thread.start()
    return array


def stack(blocks: Iterable[np.ndarray], width: int, path: Path | None, memory: int) -> np.ndarray:
    """Blocks (n, width) of int32 tokens, PAD (-1) at the right, as one array.

    Without a path it is in memory, as narrow as its longest row allows and at least 1; else mapped from that
    file.
    """
    rows, longest, kept = 0, 1, []
    with nullcontext() if path is None else path.open("wb") as file:
        for block in blocks:
            rows += len(block)
            if file is None:
                longest = max(longest, int((block >= 0).sum(1).max(initial=0)))
                kept.append(block)
            else:
                file.write(block.tobytes())
    if path is not None and rows:
        return map_array(path, np.int32, (rows, width), memory // 2)
    return np.concatenate([np.empty((0, longest), np.int32), *(block[:, :longest] for block in kept)])


def resident() -> int:
    """Bytes of memory that this process holds, mapped pages included."""
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _give_back() -> None:
    while _trim():
        time.sleep(_PERIOD)


def _trim() -> bool:
    """Give pages back if there are too many; False when no array is mapped any more."""
    with _lock:
        maps = list(_MAPS)
    if resident() > _budget:
        for pages in maps:
            pages.madvise(mmap.MADV_DONTNEED)
    return bool(maps)
