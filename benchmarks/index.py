"""A million vectors in the index on one machine: what it takes to put them in, to search exactly, and nearly.

The vectors are of width 512, in 3,000 heaps with much noise, as embeddings of pictures lie; none is fetched.

add          seconds to store all, in blocks of 10,000, and bytes on disk a vector
exact        milliseconds of one query that reads every vector, after the first, and in a batch of 64
build        seconds to learn the cells of approximate search
approximate  milliseconds of one query, and the share of the ten truly nearest that it finds, by cells read
memory       the most that the process held, GB

    pip install -e '.[index]'
    python benchmarks/index.py [VECTORS]       minutes; writes benchmarks/results/index.csv
"""

from __future__ import annotations

import csv
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sadari.index import Index

WIDTH, HEAPS, BLOCK, QUERIES = 512, 3000, 10_000, 20
PROBES = (5, 20, 80)
RESULTS = Path(__file__).parent / "results" / "index.csv"


def seconds(way: Callable[[], Any]) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


def main() -> None:
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    draw = np.random.default_rng(0)
    heaps = draw.standard_normal((HEAPS, WIDTH), dtype=np.float32)

    def vectors(rows: int) -> np.ndarray:
        noise = draw.standard_normal((rows, WIDTH), dtype=np.float32)
        return heaps[draw.integers(0, HEAPS, rows)] + 1.2 * noise

    table: list[dict[str, object]] = []

    def tell(what: str, value: float, unit: str, note: str = "") -> None:
        table.append({"what": what, "value": round(value, 3), "unit": unit, "note": note})
        print(what, table[-1]["value"], unit, note, flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "index"
        made, spent = Index.create(folder, WIDTH), 0.0
        for first in range(0, count, BLOCK):
            names = [str(row) for row in range(first, min(first + BLOCK, count))]
            block = vectors(len(names))
            spent += seconds(lambda names=names, block=block: made.add(names, block))
        tell("add", spent, "s", f"{count:,} vectors")
        held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        tell("disk", held / count, "bytes a vector")
        index, queries = Index.open(folder), vectors(64)
        tell("exact, the first", 1e3 * seconds(lambda: index.search(queries[0])), "ms")
        exact = [seconds(lambda row=row: index.search(queries[row])) for row in range(1, 8)]
        tell("exact", 1e3 * statistics.median(exact), "ms")
        tell("load", seconds(index.load), "s")
        tell("exact, 64 at once", 1e3 * seconds(lambda: index.search_all(queries)), "ms")
        tell("build", seconds(index.build), "s")
        near = [seconds(lambda row=row: index.search(queries[row], exact=False)) for row in range(8)]
        tell("approximate", 1e3 * statistics.median(near), "ms")
        for probes in PROBES:
            tell("recall at 10", index.recall(10, QUERIES, probes=probes), "", f"{probes} cells read")
    tell("memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, "GB")
    about = {"machine": f"{platform.machine()}, 1 thread"}
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*table[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in table)


if __name__ == "__main__":
    main()
