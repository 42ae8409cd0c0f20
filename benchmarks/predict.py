"""`sadari predict` against scikit-learn's pipeline on a CSV file of a million rows, file to file.

Both read the file, encode (standardise 10 numbers, one-hot 3 categories with gaps), predict, and write CSV:
all columns with the prediction beside them, or the prediction alone. The pipeline is fed by pandas, as most
are (left out where pandas is not installed), and by polars, the fastest reader that it takes. The ways take
turns in one process; medians of seconds and of ratios are kept.

    python benchmarks/predict.py [ROWS]     about 2 minutes; writes benchmarks/results/predict.csv
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import sadari
from sadari.predict import predict_file
from sadari.runs import Run

try:
    import pandas as pd
except ImportError:
    pd = None

RESULTS = Path(__file__).parent / "results" / "predict.csv"
NUMBERS = [*(f"x{k}" for k in range(8)), "age", "income"]
CATEGORIES = ["city", "plan", "channel"]
TURNS = 5


def make_rows(rows: int, seed: int = 0) -> pl.DataFrame:
    """Rows as a shop would have them: measurements, ages, incomes, a few categories with gaps, yes or no."""
    draw = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {name: (10 * draw.standard_normal(rows)).round(4) for name in NUMBERS[:8]}
    ).with_columns(
        pl.Series("age", draw.integers(18, 90, rows)),
        pl.Series("income", draw.lognormal(10, 1, rows).round(2)),
        pl.Series(
            "city",
            draw.choice(["Seoul", "Busan", "Daegu", "Incheon", "Gwangju", None], rows),
            dtype=pl.String,
        ),
        pl.Series("plan", draw.choice(["basic", "plus", "pro"], rows)),
        pl.Series("channel", draw.choice(["web", "app", "shop", "phone"], rows)),
    )
    score = (
        frame["x0"] * 0.1
        + frame["x1"] * 0.05 * (frame["plan"] == "pro")
        + pl.Series(draw.logistic(size=rows))
    )
    return frame.with_columns(bought=pl.when(score > 0).then(pl.lit("yes")).otherwise(pl.lit("no")))


def pipeline(train: pl.DataFrame, model: object) -> object:
    """scikit-learn's usual way, fitted."""
    encode = ColumnTransformer(
        [
            ("numbers", StandardScaler(), NUMBERS),
            ("categories", OneHotEncoder(handle_unknown="ignore"), CATEGORIES),
        ]
    )
    rows = train.to_pandas() if pd else train.with_columns(pl.col(CATEGORIES).fill_null(""))
    return make_pipeline(encode, model).fit(rows, train["bought"].to_numpy())


def with_pandas(fitted: object, source: Path, out: Path, whole: bool) -> None:
    rows = pd.read_csv(source)
    predicted = fitted.predict(rows)
    (rows.assign(prediction=predicted) if whole else pd.DataFrame({"prediction": predicted})).to_csv(
        out, index=False
    )


def with_polars(fitted: object, source: Path, out: Path, whole: bool) -> None:
    rows = pl.read_csv(source)
    predicted = pl.Series("prediction", fitted.predict(rows.with_columns(pl.col(CATEGORIES).fill_null(""))))
    (rows.with_columns(predicted) if whole else predicted.to_frame()).write_csv(out)


def main(rows: int) -> None:
    found: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_rows(rows).write_csv(folder / "rows.csv")
        train = make_rows(20_000, seed=1)
        for rung, model in (
            ("logistic", LogisticRegression()),
            ("shallow", MLPClassifier((100,), max_iter=5)),
        ):
            run = sadari.fit(rung, train, target="bought", out=folder / rung, budget="200steps")
            fitted = pipeline(train, model)
            for whole in (True, False):
                for line in compare(run, fitted, folder, rows, whole):
                    found.append(
                        {"model": rung, "written": "all columns" if whole else "prediction alone", **line}
                    )
                    print(*found[-1].values(), sep="\t", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    pl.DataFrame(found).write_csv(RESULTS)


def compare(run: Run, fitted: object, folder: Path, rows: int, whole: bool) -> Iterator[dict[str, object]]:
    """Let the ways take turns at one file; yields a line of results a way."""
    source, out = folder / "rows.csv", folder / "out.csv"
    ways: dict[str, Callable[[], object]] = {
        "sadari": lambda: predict_file(run, source, out, keep=None if whole else []),
        "scikit-learn, polars": lambda: with_polars(fitted, source, out, whole),
    }
    if pd is not None:
        ways["scikit-learn, pandas"] = lambda: with_pandas(fitted, source, out, whole)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    processor: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(TURNS):
        for way, go in ways.items():
            began, worked = time.perf_counter(), time.process_time()
            go()
            seconds[way].append(time.perf_counter() - began)
            processor[way].append(time.process_time() - worked)
            assert pl.scan_csv(out).select(pl.len()).collect().item() == rows
    for way, spent in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(spent, seconds["sadari"], strict=True)]
        yield {
            "way": way,
            "rows": rows,
            "seconds": round(statistics.median(spent), 3),
            "processor_seconds": round(statistics.median(processor[way]), 3),
            "times_sadari": round(statistics.median(ratios), 2),
        }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
