"""The adding problem over 100 and 400 steps: an LSTM, an RNN as the rung is born, and one of small weights.

Two of T numbers are marked, their sum is the answer; always answering 1 errs by 1/6 (mean squared error).
Width 64, Adam at 0.003 (the LSTM) or 0.001 (the RNNs, which do worse at 0.003), 64 fresh examples a step.

    python benchmarks/adding.py    writes benchmarks/results/adding.csv; the runs go on side by side
"""

from __future__ import annotations

import csv
import os
import platform
import time
from pathlib import Path

import torch
from joblib import Parallel, delayed

from sadari.inspection.memory import TRIVIAL, adding_course

LENGTHS = {100: 1000, 400: 2000}  # steps to add over: updates
RATES = {"lstm": 0.003, "rnn": 0.001, "small": 0.001}
RESULTS = Path(__file__).parent / "results" / "adding.csv"


def course(length: int, kind: str, steps: int) -> dict[str, object]:
    torch.set_num_threads(1)
    began = time.process_time()
    _, errors = adding_course(length, kind, steps, rate=RATES[kind])
    return {
        "length": length, "kind": kind, "updates": steps, "rate": RATES[kind],
        **{f"error_{k}_of_5": f"{errors[len(errors) * k // 5 - 1]:.2g}" for k in range(1, 6)},
        "least": f"{errors.min():.2g}", "trivial": f"{TRIVIAL:.3f}",
        "seconds": round(time.process_time() - began), "torch": torch.__version__,
        "machine": f"{platform.machine()}, 1 thread",
    }  # fmt: skip


def main() -> None:
    tasks = [(length, kind, steps) for length, steps in LENGTHS.items() for kind in RATES]
    rows = Parallel(len(os.sched_getaffinity(0)))(delayed(course)(*task) for task in tasks)
    for row in rows:
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        if row["kind"] == "lstm":
            assert float(str(row["error_5_of_5"])) < 0.02, f"the LSTM did not learn to add: {row}"
        elif row["kind"] == "small":
            assert float(str(row["least"])) > 0.9 * TRIVIAL, f"small weights learnt to add: {row}"


if __name__ == "__main__":
    main()
