"""Is the verdict right? Climbs of tables whose truth is planted, fifty seeds each, and how often each answer
was given.

A weighted sum must stop at the line (or logistic), a product of two features must climb to shallow or above,
noise must stay on the ground. The rungs are fitted and the verdict is reached as `sadari climb` does it; the
judge, the prices and the report, which no verdict depends on, are left out.

    python benchmarks/verdict.py [SEEDS] [ROWS]       writes benchmarks/results/verdict.csv
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import joblib
import torch

from sadari.budget import Budget
from sadari.climbing import STARTS
from sadari.climbing.ascent import Order, Stages, fit_all
from sadari.climbing.scores import Scores
from sadari.data.prepare import prepare
from sadari.data.toy import planted
from sadari.ladder import ladder_for
from sadari.metrics import find_metric
from sadari.verdict import Verdict

SEEDS, ROWS = 50, 1000
BUDGET = Budget(steps=1500)  # counted, so that a busy machine changes nothing
RESULTS = Path(__file__).parent / "results" / "verdict.csv"
RIGHT = {  # (task, truth) -> the rungs that are a right answer
    (task, truth): rungs
    for task, ground, line in (("regress", "mean", "line"), ("classify", "prior", "logistic"))
    for truth, rungs in (
        ("noise", {ground}),
        ("linear", {line}),
        ("product", {"shallow", "deep", "deep-skip"}),
    )
}
ANSWERS = ("right", "unclear", "too high", "too low")


def verdict(task: str, truth: str, seed: int, rows: int = ROWS, budget: Budget = BUDGET) -> Verdict:
    """One planted table, climbed."""
    torch.set_num_threads(1)
    prepared = prepare(planted(truth, rows, seed, task=task), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        names = ladder_for(task).names
        orders = [
            Order(name, prepared, Path(folder), budget, seed, STARTS, 0, (), False, threads=1)
            for name in names
        ]
        fitted = fit_all(orders, 1, Stages(dict.fromkeys(names, 1.0), ()), ())
        return Scores(prepared, fitted, find_metric(None, task), seed).decide(None)


def answer(task: str, truth: str, reached: Verdict) -> str:
    """What kind of answer it was. `unclear` says that it does not know: it misleads nobody, and settles
    nothing.
    """
    if reached.action == "unclear":
        return "unclear"
    if reached.rung in RIGHT[task, truth]:
        return "right"
    names = ladder_for(task).names
    return "too high" if names.index(reached.rung) > min(map(names.index, RIGHT[task, truth])) else "too low"


def main(seeds: int = SEEDS, rows: int = ROWS) -> None:
    began, table = time.perf_counter(), []
    print(
        f"{'task':10}{'truth':10}{'rows':>6}{'seeds':>7}"
        + "".join(f"{kind:>10}" for kind in ANSWERS)
        + "  rungs"
    )
    for task, truth in RIGHT:
        jobs = (joblib.delayed(verdict)(task, truth, seed, rows) for seed in range(seeds))
        reached = joblib.Parallel(n_jobs=-1)(jobs)
        answers = Counter(answer(task, truth, made) for made in reached)
        chosen = " ".join(f"{name}:{n}" for name, n in Counter(made.rung for made in reached).most_common())
        table.append([task, truth, rows, seeds, *(answers[kind] for kind in ANSWERS), chosen])
        counts = "".join(f"{answers[kind]:10}" for kind in ANSWERS)
        print(f"{task:10}{truth:10}{rows:6}{seeds:7}{counts}  {chosen}", flush=True)
    wrong, total = sum(row[6] + row[7] for row in table), seeds * len(RIGHT)
    print(f"misled: {wrong} of {total} ({wrong / total:.1%}); {time.perf_counter() - began:.0f} s")
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["task", "truth", "rows", "seeds", *ANSWERS, "rungs"])
        writer.writerows(table)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
