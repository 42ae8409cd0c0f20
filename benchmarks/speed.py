"""What the view `speed` shows, as a table: tokens a second of rnn, lstm and transformer by length and width.

Training (a forward and a backward pass over 2,048 tokens) and writing (a token after a text of that length,
with state or cache), without the vocabulary, fp32, as `sadari.inspection.speed.measure` takes them: medians
of interleaved rounds, no peer.

    python benchmarks/speed.py       writes benchmarks/results/speed.csv
"""

from __future__ import annotations

import csv
import os
import platform
from pathlib import Path

import torch

from sadari.inspection.speed import KINDS, LENGTHS, measure

WIDTHS, LAYERS, ROUNDS = (64, 256, 512), 1, 5
CORES = len(os.sched_getaffinity(0))
RESULTS = Path(__file__).parent / "results" / "speed.csv"


def main() -> None:
    table = []
    for width in WIDTHS:
        for threads in sorted({1, CORES}):
            torch.set_num_threads(threads)
            rates = measure(width, LAYERS, LENGTHS, ROUNDS)
            for a, length in enumerate(LENGTHS):
                row = {"width": width, "layers": LAYERS, "threads": threads, "length": length}
                row |= {f"{kind}_training": round(rates[kind][a]) for kind in KINDS}
                row |= {f"{kind}_writing": round(rates[f"{kind}_written"][a]) for kind in KINDS}
                print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
                machine = f"{platform.machine()}, {CORES} core(s)"
                table.append({**row, "rounds": ROUNDS, "torch": torch.__version__, "machine": machine})
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
