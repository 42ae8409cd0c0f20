"""The line's exact solution against scikit-learn's LinearRegression, on the same arrays.

Each fit is whole: a new `Line` and its `solve` against `LinearRegression().fit`, which may use one thread or
all, whichever a pilot finds faster. Where columns nearly coincide (`coinciding`: one is another plus 1e-9 of
noise, `twice`: one is another), finding it out and looking again at those directions are counted in. Its
`tol` is 1e-12: at the default of 1e-6 it drops what nearly coincides, which is another problem.

ratio        median over interleaved rounds of their wall-clock ratio; cpu_ratio the same in processor time
error        of either's weights, relative, against lstsq refined by residuals in long double
built-ins    their encoded training rows, as `sadari fit` passes them on, and the same in float64

    python benchmarks/line.py            writes benchmarks/results/line.csv
"""

from __future__ import annotations

import csv
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.linear_model import LinearRegression
from threadpoolctl import threadpool_limits

from sadari.data.builtin import BUILTIN
from sadari.data.prepare import prepare
from sadari.losses import make_loss
from sadari.models.line import Line, LineConfig

ROUNDS = 11
GOAL_LARGE, GOAL_BUILTIN = 0.25, 0.7
RESULTS = Path(__file__).parent / "results" / "line.csv"
CORES = os.cpu_count() or 1
SQUARED = make_loss("squared")


def tables() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, features (N, C) and target (N,) of each case."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100_000, 50))
    y = X @ rng.standard_normal(50) + rng.standard_normal(100_000)
    yield "100k x 50", X, y
    yield "100k x 50", X.astype(np.float32), y.astype(np.float32)
    near = X.copy()
    near[:, 1] = X[:, 0] + 1e-9 * X[:, 1]
    yield "100k x 50, coinciding", near, y
    twice = X.copy()
    twice[:, 1] = X[:, 0]
    yield "100k x 50, twice", twice, y
    for built_in in BUILTIN.values():
        if built_in.kind == "table" and built_in.task == "regress" and "data get" not in built_in.how:
            rows = prepare(built_in.name).train
            yield built_in.name, rows.features, rows.targets
            yield built_in.name, rows.features.astype(np.float64), rows.targets.astype(np.float64)


def refined(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights (C,) of least squares, the shortest where columns coincide: lstsq, corrected by residuals."""
    X, y = X.astype(np.longdouble), y.astype(np.longdouble)
    X, y = X - X.mean(axis=0), y - y.mean()
    inverse = np.linalg.pinv(X.astype(np.float64), rcond=1e-13)  # (C, N)
    weights = np.zeros(X.shape[1], np.longdouble)
    for _ in range(5):
        weights += inverse @ (y - X @ weights).astype(np.float64)
    return weights.astype(np.float64)


def clock(fit: Callable[[], object], times: int) -> tuple[float, float]:
    """Wall-clock and processor seconds of one fit, the mean of several."""
    time.sleep(0.1)  # until the threads that the last fit left waiting have gone to sleep
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(times):
        fit()
    return (time.perf_counter() - wall) / times, (time.process_time() - processor) / times


def compare(name: str, X: np.ndarray, y: np.ndarray) -> dict[str, object]:
    """All rounds of one case, as a row of the table."""
    features, targets = torch.from_numpy(X), torch.from_numpy(y)

    def ours() -> tuple[Line, dict]:
        line = Line(LineConfig(), X.shape[1], 1).to(features.dtype)
        return line, line.solve(features, targets, SQUARED)

    def theirs() -> LinearRegression:
        return LinearRegression(tol=1e-12).fit(X, y)

    pilot = {}
    for threads in {1, CORES}:
        with threadpool_limits(threads):
            pilot[threads] = statistics.median(clock(theirs, 1)[0] for _ in range(7))
    threads = min(pilot, key=lambda count: pilot[count])
    line, facts = ours()
    times = max(1, int(0.02 / pilot[threads]))
    rounds = []
    for _ in range(ROUNDS):
        mine = clock(ours, times)
        with threadpool_limits(threads):
            rounds.append((mine, clock(theirs, times)))
    truth = refined(X, y)

    def error(weights: np.ndarray) -> float:
        return float(f"{np.linalg.norm(weights - truth) / np.linalg.norm(truth):.1e}")

    def median(of: Callable[[tuple], float], digits: int) -> float:
        return round(statistics.median(map(of, rounds)), digits)

    return {
        "table": name, "rows": len(X), "columns": X.shape[1], "dtype": str(X.dtype), "rank": facts["rank"],
        "condition": float(f"{facts['condition']:.2g}"),
        "sadari_ms": median(lambda r: r[0][0] * 1e3, 3), "sklearn_ms": median(lambda r: r[1][0] * 1e3, 3),
        "ratio": median(lambda r: r[0][0] / r[1][0], 3), "cpu_ratio": median(lambda r: r[0][1] / r[1][1], 3),
        "sadari_error": error(line.linear.weight.detach().numpy()[0]), "sklearn_error": error(theirs().coef_),
        "sadari_threads": torch.get_num_threads(), "sklearn_threads": threads, "rounds": ROUNDS,
        "numpy": np.__version__, "torch": torch.__version__, "sklearn": sklearn.__version__,
        "machine": f"{platform.machine()}, {CORES} cores",
    }  # fmt: skip


def main() -> None:
    table = []
    for case in tables():
        row = compare(*case)
        table.append(row)
        print(
            "{table:22} {dtype:8} {sadari_ms:8.3f} ms, its {sklearn_ms:8.3f}: {ratio:.2f} ({cpu_ratio:.2f} "
            "of the processor); error {sadari_error:.0e}, its {sklearn_error:.0e}".format(**row),
            flush=True,
        )
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    for row in table:
        goal = GOAL_LARGE if str(row["table"]).startswith("100k") else GOAL_BUILTIN
        assert row["ratio"] <= goal, f"slower than {goal} of its time: {row}"


if __name__ == "__main__":
    main()
