"""Rows in blocks: one pass over a table of any size, a block near the processor at a time, on every core.

The direct solutions (line, logistic) read a table this way, so that it may be a file mapped into memory.
Threads are torch's number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

Sums = tuple[np.ndarray, ...]

BLOCK = 1 << 18  # float64 cells a block: 2 MB, near enough to the processor, and few calls a pass
SHARED = 1 << 19  # cells from which a second thread earns its start
BLAS_ALONE = 1 << 17  # multiply-adds below which BLAS takes one thread by itself


def over_rows(visit: Callable[[Iterator[slice]], Sums], rows: int, width: int) -> Sums:
    """Sums over `rows`: each worker calls `visit` with the blocks of its part, and the answers are added.

    `width` is how many cells a row takes of the cache. The parts depend on the number of threads alone, so
    that sums come out the same every time. To be called within `quiet_blas`.
    """
    block = max(BLOCK // width, 16)
    blocks = -(-rows // block)
    workers = 1 if rows * width < SHARED else min(torch.get_num_threads(), blocks)

    def part(worker: int) -> Iterator[slice]:
        for i in range(blocks * worker // workers, blocks * (worker + 1) // workers):
            yield slice(i * block, min((i + 1) * block, rows))

    if workers == 1:
        return visit(part(0))
    with ThreadPoolExecutor(workers - 1) as pool:
        others = [pool.submit(visit, part(worker)) for worker in range(1, workers)]
        answers = [visit(part(0)), *(other.result() for other in others)]
    return tuple(sum(sums[1:], start=sums[0]) for sums in zip(*answers, strict=True))


def quiet_blas(rows: int, width: int) -> AbstractContextManager[Any]:
    """NumPy's BLAS on one thread while this context lasts, for products (width, rows) by (rows, width).

    On the blocks of a pass its own threads wait for each other longer than they work, and very long when
    another program has the second core.
    """
    return nullcontext() if rows * width**2 < BLAS_ALONE else _blas().limit(limits=1)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
