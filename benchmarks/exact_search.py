"""The 10 nearest of 100,000 vectors of width 512 in fp32, exactly: against usearch, faiss, torch and numpy.

Drawn directions, and queries drawn alike: the 10 nearest stand apart as little as can be. One thread each,
interleaved, by processor time, which another program's load changes little; medians of the rounds, ratios
the medians of the rounds' own. All find the same rows, or the benchmark fails.

sadari      `layers.nearest.top`                     sadari_8bit   the same with `round_vectors`
usearch     `search(exact=True)`                     faiss         `IndexFlatIP`, where it is installed
torch       the product and its topk                 numpy         the product and argpartition
product     the matrix product alone, as fast as oneDNN makes it with the queries laid out: a batch's floor
reading_ms  all vectors read once, a single query's floor
made_ms     what `round_vectors` takes, once         held_mb       what it holds beside the vectors

    python benchmarks/exact_search.py       writes benchmarks/results/exact_search.csv
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from usearch.index import MetricKind
from usearch.index import search as usearch_search

from sadari.layers.nearest import round_vectors, top

N, D, K = 100_000, 512, 10
BATCHES = (1, 4, 16, 64, 256)
ROUNDS = 9
GOALS = {  # (way, peer, batch): the greatest ratio of their times
    ("sadari", "usearch", 1): 1.0, ("sadari", "product", 64): 2.0, ("sadari_8bit", "sadari", 64): 0.5,
}  # fmt: skip
RESULTS = Path(__file__).parent / "results" / "exact_search.csv"
Way = Callable[[np.ndarray], np.ndarray | None]


def draw(rows: int, seed: int) -> np.ndarray:
    """Directions (rows, D), of length 1."""
    vectors = np.random.default_rng(seed).standard_normal((rows, D), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ways(vectors: np.ndarray) -> dict[str, Way]:
    """What finds the rows of the nearest, the nearest first, by its name."""
    tensor, rounded = torch.from_numpy(vectors), round_vectors(vectors)

    def by_usearch(queries: np.ndarray) -> np.ndarray:
        found = usearch_search(vectors, queries, K, MetricKind.IP, exact=True, threads=1)
        return np.atleast_2d(found.keys).astype(np.int64)

    def by_torch(queries: np.ndarray) -> np.ndarray:
        return (torch.from_numpy(queries) @ tensor.T).topk(K).indices.numpy()

    def by_numpy(queries: np.ndarray) -> np.ndarray:
        scores = queries @ vectors.T
        rows = np.argpartition(scores, -K, axis=1)[:, -K:]
        return np.take_along_axis(rows, np.argsort(-np.take_along_axis(scores, rows, 1)), 1)

    def product(queries: np.ndarray) -> None:
        laid = torch.ops.mkldnn._reorder_linear_weight(torch.from_numpy(queries), 2048)
        for first in range(0, N, 2048):
            torch.ops.mkldnn._linear_pointwise(tensor[first : first + 2048], laid, None, "none", [], "")

    found: dict[str, Way] = {
        "sadari": lambda queries: top(queries, vectors, K)[1],
        "sadari_8bit": lambda queries: top(queries, vectors, K, rounded)[1],
        "usearch": by_usearch, "torch": by_torch, "numpy": by_numpy, "product": product,
    }  # fmt: skip
    if importlib.util.find_spec("faiss"):
        import faiss

        index = faiss.IndexFlatIP(D)
        index.add(vectors)
        found["faiss"] = lambda queries: index.search(queries, K)[1]
    return found


def seconds(way: Way, queries: np.ndarray) -> float:
    """Of the processor, for one call."""
    started = time.process_time()
    way(queries)
    return time.process_time() - started


def compare(known: dict[str, Way], batch: int) -> list[dict[str, Any]]:
    """A row for each way at one batch."""
    queries = draw(batch, batch)
    truth = known["sadari"](queries)
    for name, way in known.items():  # a first call compiles, lays out and fetches
        found = way(queries)
        assert found is None or (found == truth).all(), f"{name} finds other rows at batch {batch}"
    times: dict[str, list[float]] = {name: [] for name in known}
    for _ in range(ROUNDS):
        for name, way in known.items():
            times[name].append(seconds(way, queries))
    rows = []
    for name, taken in times.items():
        row: dict[str, Any] = {"batch": batch, "way": name, "ms": round(statistics.median(taken) * 1e3, 2)}
        for peer in ("usearch", "product", "sadari"):
            ratios = [mine / other for mine, other in zip(taken, times[peer], strict=True)]
            row[f"ratio_{peer}"] = round(statistics.median(ratios), 3)
        goals = [
            row[f"ratio_{peer}"] <= most
            for (mine, peer, size), most in GOALS.items()
            if (mine, size) == (name, batch)
        ]
        row["goal"] = "" if not goals else "met" if all(goals) else "missed"
        rows.append(row)
    return rows


def reading(vectors: np.ndarray) -> float:
    """Milliseconds for reading all vectors once: their sum."""
    taken = []
    for _ in range(ROUNDS):
        started = time.process_time()
        torch.from_numpy(vectors).sum()
        taken.append(time.process_time() - started)
    return statistics.median(taken) * 1e3


def main() -> None:
    torch.set_num_threads(1)
    vectors = draw(N, 0)
    started = time.process_time()
    rounded = round_vectors(vectors)
    made = (time.process_time() - started) * 1e3
    held = 0.0 if rounded is None else sum(t.nbytes for t in (rounded.values, rounded.step)) / 1e6
    known, rows = ways(vectors), []
    read = reading(vectors)
    versions = " ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "torch", "usearch")
    )
    for batch in BATCHES:
        rows += compare(known, batch)
    for row in rows:
        row |= {"reading_ms": round(read, 2), "made_ms": round(made, 1), "held_mb": round(held, 1)}
        row |= {"processor": platform.processor() or platform.machine(), "versions": versions}
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
