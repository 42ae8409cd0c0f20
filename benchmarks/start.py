"""How long a person waits for words: `sadari --help`, `sadari rungs` and the like, start to last byte.

Each command is a process of its own, taking turns over several rounds, beside a Python that does nothing:
what is above that floor is ours. Milliseconds of the wall clock, median and least, and of processor time,
median. These processes have one thread and wait for nothing, so processor time is what a person waits on an
idle machine: for the commands that are marked it must stay below 300. `load` is how many processes wanted
the cores.

    python benchmarks/start.py            writes benchmarks/results/start.csv
"""

from __future__ import annotations

import csv
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 15
LIMIT = 300.0  # milliseconds
RESULTS = Path(__file__).parent / "results" / "start.csv"
LIMITED = ("--help", "rungs")
WORDS = (
    "",
    "--help",
    "rungs",
    "rungs shallow",
    "fit --help",
    "fit shallow --help",
    "climb --help",
    "--version",
)


def commands() -> dict[str, list[str]]:
    """Command lines by the name that the results give them."""
    sadari = [sys.executable, "-c", "from sadari.cli import main; main()"]
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        **{f"sadari {words}".strip(): [*sadari, *words.split()] for words in WORDS},
    }


def milliseconds(command: list[str]) -> tuple[float, float]:
    """Wall clock and processor time of one process."""
    began, before = time.perf_counter(), os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return 1000 * (time.perf_counter() - began), 1000 * used


def main() -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands()}
    for command in commands().values():
        milliseconds(command)  # the first run compiles and fills the disk's cache
    for _ in range(ROUNDS):
        for name, command in commands().items():
            times[name].append(milliseconds(command))
    rows = []
    for name, taken in times.items():
        wall, used = zip(*taken, strict=True)
        limit = LIMIT if name.removeprefix("sadari ") in LIMITED else ""
        row = [
            name,
            *(f"{value:.0f}" for value in (statistics.median(wall), min(wall), statistics.median(used))),
            limit,
        ]
        print(f"{name:28} {row[1]:>4} ms, least {row[2]:>4}, processor {row[3]:>4}")
        rows.append(row)
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="") as file:
        writer = csv.writer(file)
        names = ["command", "median_ms", "least_ms", "processor_ms", "limit_ms"]
        writer.writerow([*names, "rounds", "cores", "load", "python"])
        around = [ROUNDS, os.cpu_count(), f"{os.getloadavg()[0]:.1f}", platform.python_version()]
        writer.writerows([*row, *around] for row in rows)
    slow = [row[0] for row in rows if row[4] and float(row[3]) > LIMIT]
    if slow:
        raise SystemExit(f"slower than {LIMIT:.0f} ms: {', '.join(slow)}")


if __name__ == "__main__":
    main()
