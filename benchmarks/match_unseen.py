"""What nobody saw: emoji or an artist held out, by three seeds: found by words, and named zero-shot.

Two splits of `emoji-captions`. By emoji: all drawings of a fifth of the emoji are the test. By artist: all of
noto's drawings are, and the others' drawings of the same emoji are learnt from. Each rung learns from pairs
of pictures and captions alone; `zero-shot` then asks it for the category of each test picture, of nine, by
the names of these: no label is read.

recall@1, 5, 10  per cent, of pictures by words and of words by pictures (`image-to-text`, `text-to-image`),
                 captions of one language at a time
zero-shot        accuracy, per cent, names of categories in English; prior: that of the most frequent one
mean (a to b)    over the seeds, with the 95 % interval of Student's t

    sadari data get emoji-artists; sadari data get efficientnet-lite0; sadari data get minilm
    python benchmarks/match_unseen.py [SECONDS]   of training each, 60 unless said; writes
                                                  benchmarks/results/match_unseen.csv
"""

from __future__ import annotations

import csv
import platform
import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sadari.climbing.retrieved import recalls
from sadari.data.prepare import prepare
from sadari.fitting import plan_fit, run_fit
from sadari.runs import Run

SEEDS = (0, 1, 2)
T95 = 4.303  # Student's t for two degrees of freedom
RUNGS = ("bag-of-words", "clip", "siglip", "locked")
SPLITS = {"emoji": "", "artist": "artist=noto"}
WAYS = ("text-to-image", "image-to-text")
RESULTS = Path(__file__).parent / "results" / "match_unseen.csv"


def measured(rung: str, hold_out: str, seconds: float, seed: int) -> list[dict[str, Any]]:
    """A row a language: what a rung finds, and what it says of pictures that have no label."""
    reading = {"hold_out": hold_out} if hold_out else {}
    prepared = prepare("emoji-captions", seed=seed, reading=reading)
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_fit(rung, prepared.table, prepared=prepared, budget=f"{seconds:g}s", seed=seed)
        run = run_fit(plan, Path(folder) / "run", [])
        with torch.inference_mode():
            test: Any = plan.prepared.test
            spec: Any = prepared.spec
            found = recalls(run.vectors(test), test, spec.languages)
        named, prior = zero_shot(run, reading, seed)
    rows = []
    for language, scores in found.items():
        if not language:
            continue
        row = {"language": language, "steps": run.result["steps"]}
        row |= {
            f"{way} recall@{cut}": round(100 * scores[f"{way}-recall@{cut}"], 1)
            for way in WAYS
            for cut in (1, 5, 10)
        }
        rows.append(row | {"zero-shot": round(named, 1), "prior": round(prior, 1)})
    return rows


def zero_shot(run: Run, reading: dict[str, str], seed: int) -> tuple[float, float]:
    """Accuracy of the run on the same test pictures with their categories, and of always the same answer."""
    labelled = prepare("emoji", seed=seed, reading=reading)
    asked = {"towers": str(run.path), "calibrate": False}
    plan = plan_fit("zero-shot", labelled.table, prepared=labelled, model=asked, seed=seed)
    named = run_fit(plan, run.path.with_name("named"), [])
    test: Any = plan.prepared.test
    rows = np.bincount(test.targets)
    right = named.answers(test).argmax(1) == test.targets
    return 100 * float(right.mean()), 100 * float(rows.max() / rows.sum())


def over_seeds(values: list[float]) -> str:
    middle, half = statistics.mean(values), T95 * statistics.stdev(values) / len(values) ** 0.5
    return f"{middle:.1f} ({middle - half:.1f} to {middle + half:.1f})"


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    table: list[dict[str, Any]] = []
    for name, hold_out in SPLITS.items():
        for rung in RUNGS:
            seeds = [measured(rung, hold_out, seconds, seed) for seed in SEEDS]
            for rows in zip(*seeds, strict=True):
                row: dict[str, Any] = {"held out": name, "rung": rung, "language": rows[0]["language"]}
                row |= {key: over_seeds([each[key] for each in rows]) for key in rows[0] if key != "language"}
                table.append(row)
                print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
    about = {"seconds": seconds, "torch": torch.__version__, "machine": f"{platform.machine()}, 1 thread"}
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*table[0], *about])
        writer.writeheader()
        writer.writerows(row | about for row in table)


if __name__ == "__main__":
    main()
