"""Rows in blocks: one pass over a table of any size, each block small enough to stay in cache, on every core.

The direct solutions (line, logistic) read a table this way, so that it may be a file mapped into memory.
Threads are torch's number. BLAS runs on one thread meanwhile: on blocks of this size its own threads wait for
each other longer than they work, and for very long when another program has the second core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

import torch
from threadpoolctl import ThreadpoolController

T = TypeVar("T")

BLOCK = 1 << 16  # float64 cells a block: half a megabyte, which stays in second-level cache
SHARED = 1 << 19  # cells from which a second thread earns its start


def over_rows(visit: Callable[[Iterator[slice]], T], rows: int, width: int) -> list[T]:
    """Share `rows` out: each worker calls `visit` with the blocks of its part; all answers, in order.

    The shares depend on the number of threads alone, so that sums come out the same every time.
    """
    block = max(BLOCK // width, 16)
    blocks = -(-rows // block)
    workers = 1 if rows * width < SHARED else min(torch.get_num_threads(), blocks)

    def part(worker: int) -> Iterator[slice]:
        for i in range(blocks * worker // workers, blocks * (worker + 1) // workers):
            yield slice(i * block, min((i + 1) * block, rows))

    with quiet_blas():
        if workers == 1:
            return [visit(part(0))]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda worker: visit(part(worker)), range(workers)))


def quiet_blas() -> AbstractContextManager[Any]:
    """NumPy's BLAS on one thread while this context lasts; entering and leaving takes 5 microseconds."""
    return _blas().limit(limits=1)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
