"""The curve against sums done by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.curve import curve
from sadari.inspection.rows import sample, strongest


@pytest.mark.proof("line", "inside")
def test_a_lines_curve_is_its_coefficient_and_does_not_bend(fitted: Any) -> None:
    run = fitted("line", "diabetes")
    view = look(run, "curve", feature="bmi")
    x, y = view.arrays["x"], view.arrays["typical"][0]
    column = next(column for column in run.spec.columns if column.name == "bmi")
    place = run.spec.feature_names.index("bmi")
    slope = run.model.linear.weight[0, place].item() * run.spec.target_scale / column.scale
    np.testing.assert_allclose(np.diff(y) / np.diff(x), slope, rtol=1e-3)
    assert view.facts["bends"][0] < 1e-3 * np.ptp(y)
    # the average over rows has the same slope, shifted by what their other features add
    np.testing.assert_allclose(np.diff(view.arrays["average"][0]), np.diff(y), rtol=1e-2)


def test_the_average_is_partial_dependence_row_by_row(fitted: Any) -> None:
    run = fitted("shallow", "diabetes")
    view = look(run, "curve", feature="s5")
    rows = sample(run)
    own = rows.frame[np.linspace(0, len(rows.numbers) - 1, 200).astype(int)]
    for i in (0, 50, 100):
        moved = own.with_columns(pl.lit(view.arrays["x"][i]).alias("s5"))
        expected = run.predict(moved)["prediction"].mean()
        assert view.arrays["average"][0, i] == pytest.approx(expected, rel=1e-5)


def test_the_typical_curve_holds_medians_and_modes_still(fitted: Any, mixed_csv: str) -> None:
    run = fitted("shallow", mixed_csv, target="price")
    view = look(run, "curve", feature="size")
    train = run.data().table.frame.collect()[run.data().split.train]
    still = view.facts["still"]
    assert still["size"] == pytest.approx(train["size"].median())
    assert still["city"] == train["city"].mode().sort()[0]
    row = pl.DataFrame(
        {
            "size": view.arrays["x"][:3],
            "garden": [bool(still["garden"])] * 3,
            "city": [still["city"]] * 3,
            "day": np.full(3, round(still["day"] * 86_400_000_000)).astype("datetime64[us]"),
        }
    )
    np.testing.assert_allclose(run.predict(row)["prediction"], view.arrays["typical"][0, :3], rtol=1e-4)


def test_rungs_share_one_x_and_the_default_feature_is_the_tallest_rungs_strongest(fitted: Any) -> None:
    runs = [fitted(rung, "diabetes") for rung in ("mean", "line", "shallow")]
    view = look(runs, "curve")
    assert view.facts["feature"] == strongest(runs[-1], sample(runs[-1]))[0]
    assert view.arrays["typical"].shape == (3, len(view.arrays["x"]))
    assert np.ptp(view.arrays["typical"][0]) == 0
    assert "line and shallow part by up to" in view.title[0]  # that the ground parts from them is no news


def test_a_category_gets_a_value_each(fitted: Any, mixed_csv: str) -> None:
    run = fitted("line", mixed_csv, target="price")
    view = look(run, "curve", feature="city")
    assert sorted(view.arrays["x"]) == ["Busan", "Jeju's", "서울"]
    by_city = dict(zip(view.arrays["x"], view.arrays["typical"][0], strict=True))
    weight = dict(zip(run.spec.feature_names, run.model.linear.weight[0].tolist(), strict=True))
    expected = (weight["city=서울"] - weight["city=Busan"]) * run.spec.target_scale
    assert by_city["서울"] - by_city["Busan"] == pytest.approx(expected, rel=1e-4)
    assert 10 < expected < 60  # planted: 30
    assert "서울" in view.title[0] and "서울" in view.title[1]


def test_dates_are_days_and_said_as_days(fitted: Any, mixed_csv: str) -> None:
    view = look(fitted("line", mixed_csv, target="price"), "curve", feature="day")
    assert view.arrays["x"].min() >= (np.datetime64("2024-01-01") - np.datetime64("1970-01-01")).astype(int)
    assert "2024-01" in view.title[0] and "2025-1" in view.title[0]


def test_classes_are_probabilities_over_shares_with_wilson_intervals(fitted: Any) -> None:
    run = fitted("logistic", "breast-cancer")
    view = look(run, "curve", feature="mean radius", of="benign")
    assert view.facts["of"] == "benign"
    assert ((view.arrays["typical"] >= 0) & (view.arrays["typical"] <= 1)).all()
    assert view.arrays["bin_rows"].sum() == len(view.arrays["data_x"])
    rows = view.arrays["bin_rows"]
    hits = np.round(view.arrays["bin_y"] * rows).astype(int)
    assert hits.sum() == view.arrays["data_y"].sum()
    for k in range(len(rows)):
        interval = binomtest(int(hits[k]), int(rows[k])).proportion_ci(method="wilson")
        assert view.arrays["bin_low"][k] == pytest.approx(interval.low, abs=1e-6)
        assert view.arrays["bin_high"][k] == pytest.approx(interval.high, abs=1e-6)


def test_what_cannot_be_drawn_is_said(fitted: Any) -> None:
    line, logistic = fitted("line", "diabetes"), fitted("logistic", "wine")
    with pytest.raises(SadariError, match="feature 'bni' is no column that this run uses; near it: bmi"):
        look(line, "curve", feature="bni")
    with pytest.raises(SadariError, match="--of high names a class, but these runs predict a number"):
        look(line, "curve", of="high")
    with pytest.raises(SadariError, match=r"--of 'red' is no class of .*; classes: class_0"):
        look(logistic, "curve", of="red")
    with pytest.raises(SadariError, match="predict different targets"):
        curve([line, logistic])


def test_a_wide_table_is_not_tried_column_by_column(fitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fitted("logistic", "breast-cancer")
    rows = sample(run)
    best = strongest(run, rows, 3)
    monkeypatch.setattr("sadari.inspection.rows.TRIED", 12)
    assert strongest(run, rows)[0] in best
