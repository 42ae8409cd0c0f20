"""Small runs to look into, each fitted once a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from sadari.fitting import fit
from sadari.runs import Run

Fitted = Callable[..., Run]
NETWORK = {"width": 12}
STEPS = "300steps"


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """fitted(rung, data, **settings): the run, from the second time on without fitting."""
    folder, known = tmp_path_factory.mktemp("runs"), {}

    def fit_once(rung: str, data: str, **settings: Any) -> Run:
        key = f"{rung} {data} {sorted(settings.items())!r}"
        if key not in known:
            out = folder / str(len(known))
            small = {"model": NETWORK} if rung in ("shallow", "deep", "deep-skip") else {}
            known[key] = fit(rung, data, out=out, **{"budget": STEPS, **small, **settings})
        return known[key]

    return fit_once


@pytest.fixture(scope="session")
def mixed_csv(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table of numbers with gaps, a boolean, a category and dates; `price` depends on all of them."""
    draw = np.random.default_rng(0)
    rows = 300
    size, garden = draw.uniform(20, 120, rows), draw.integers(0, 2, rows).astype(bool)
    city = draw.choice(["서울", "Busan", "Jeju's"], rows)
    day = np.datetime64("2024-01-01") + draw.integers(0, 700, rows)
    price = (
        3 * size
        + 40 * garden
        + 30 * (city == "서울")
        + 0.05 * (day - day.min()).astype(int)
        + draw.normal(0, 5, rows)
    )
    frame = pl.DataFrame({"size": size, "garden": garden, "city": city, "day": day, "price": price})
    frame = frame.with_columns(
        pl.when(pl.int_range(pl.len()) % 17 == 0).then(None).otherwise(pl.col("size")).alias("size")
    )
    path = tmp_path_factory.mktemp("tables") / "houses.csv"
    frame.write_csv(path)
    return str(path)
