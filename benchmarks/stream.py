"""A table larger than memory: 1 GB of CSV is prepared, and the line and the logistic rung fitted, in 2 GB.

The file has ten numbers (one with gaps), two categories, a moment, and two targets. Each step runs in a
process of its own, and its peak is what the kernel counted as resident, pages of mapped files included.

    python benchmarks/stream.py [GIGABYTES]     some minutes; writes benchmarks/results/stream.csv
"""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

LIMIT = 2048  # MiB
STEPS = ("prepare", "line", "logistic")
RESULTS = Path(__file__).parent / "results" / "stream.csv"
_CHUNK = 250_000


def make(path: Path, size: int) -> None:
    """Write a CSV of at least `size` bytes: amount is a weighted sum of numbers and noise, side its sign."""
    draw = np.random.default_rng(0)
    weights = np.arange(1.0, 11.0)
    with open(path, "wb") as file:
        while file.tell() < size:
            x = draw.standard_normal((_CHUNK, 10)).round(4)
            amount = (x @ weights + 5 * draw.standard_normal(_CHUNK)).round(4)
            frame = pl.DataFrame(x, schema=[f"x{place}" for place in range(10)]).with_columns(
                x3=pl.when(pl.Series(draw.random(_CHUNK) > 0.05)).then("x3"),
                city=pl.Series(draw.integers(0, 40, _CHUNK)).cast(pl.String) + "번 도시",
                plan=pl.Series(draw.choice(["basic", "plus", "pro"], _CHUNK)),
                seen=pl.datetime(2020, 1, 1)
                + pl.duration(minutes=pl.Series(draw.integers(0, 2_000_000, _CHUNK))),
                amount=pl.Series(amount),
                side=pl.Series(np.where(amount > 0, "up", "down")),
            )
            frame.write_csv(file, include_header=file.tell() == 0, datetime_format="%Y-%m-%d %H:%M")


def step(name: str, path: Path, folder: Path) -> None:
    """Do one step in this process and print rows, features, seconds and the peak in MiB."""
    began = time.perf_counter()
    target, drop = ("side", "amount") if name == "logistic" else ("amount", "side")
    from sadari.data.prepare import prepare

    prepared = prepare(path, target=target, drop=[drop], cache=folder / "cache")
    assert prepared.table.streamed
    if name != "prepare":
        import sadari

        sadari.fit(name, path, target=target, drop=[drop], prepared=prepared, out=folder / name)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(prepared.table.rows, prepared.spec.width, round(seconds, 1), peak)


def main(size: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, path = Path(place), Path(place, "rows.csv")
        run = [sys.executable, __file__]
        subprocess.run([*run, "make", str(path), str(size)], check=True)
        records = []
        for name in STEPS:
            done = subprocess.run(
                [*run, name, str(path), str(folder)], check=True, stdout=subprocess.PIPE, text=True
            )
            rows, features, seconds, peak = done.stdout.split()[-4:]
            records.append([name, rows, features, path.stat().st_size, seconds, peak, LIMIT])
            print(*records[-1])
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="") as file:
        csv.writer(file).writerows(
            [["step", "rows", "features", "bytes", "seconds", "peak_mib", "limit_mib"], *records]
        )
    if over := [record[0] for record in records if int(record[5]) > LIMIT]:
        sys.exit(f"above {LIMIT} MiB: {', '.join(over)}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", path, size]:
            make(Path(path), int(size))
        case [name, path, folder]:
            step(name, Path(path), Path(folder))
        case [size]:
            main(int(float(size) * 1e9))
        case _:
            main(1_000_000_000)
