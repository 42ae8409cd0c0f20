"""Memory in large pages, and freed memory kept at hand instead of being given back and fetched anew.

glibc gives every tensor above 32 MB back to the kernel when it is freed, and most of what lies free at the
heap's end. The next step asks for the same tensors again, and the kernel fills each of their pages with
zeros before they are used: with a large vocabulary that costs as much time as the arithmetic.

Pages of 2 MB instead of 4 KB are filled 512 at a time, and found more quickly: ResNet-50 answers 16 photos of
224 pixels in a tenth less time. Linux gives them to whoever asks, and torch asks for tensors of 2 MB and more
if it is told so before it makes its first one.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # numbers of mallopt's settings, as in glibc's malloc.h
# Where glibc's own thresholds come to rest once something large was freed; set by hand, they move no more.
USUAL = {TRIM_THRESHOLD: 64 << 20, MMAP_THRESHOLD: 32 << 20, MMAP_MAX: 65536}
KEEPING = {TRIM_THRESHOLD: 2**31 - 1, MMAP_MAX: 0}

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it once; 0 from outside stays 0

_depth = 0


@cache
def _glibc() -> Any:
    """The C library where it is glibc, which alone has both calls; else None."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version, library.mallopt, library.malloc_trim  # noqa: B018
    except (OSError, AttributeError, TypeError):
        return None
    return library


@contextmanager
def kept_memory() -> Iterator[bool]:
    """While it is open, freed memory stays with the process; then it goes back. Whether that can be had here.

    For the whole process, and on Linux with glibc only; elsewhere nothing changes. May be nested.
    """
    global _depth
    library = _glibc()
    if library is None:
        yield False
        return
    _depth += 1
    if _depth == 1:
        _set(library, KEEPING)
    try:
        yield True
    finally:
        _depth -= 1
        if _depth == 0:
            _set(library, USUAL)
            library.malloc_trim(0)


def _set(library: Any, settings: dict[int, int]) -> None:
    for name, value in settings.items():
        library.mallopt(name, value)
