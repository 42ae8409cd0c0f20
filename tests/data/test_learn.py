"""What a table's spec learns: moments against numpy, and each thing it warns of, planted one at a time."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.data.learn import Learner
from sadari.data.spec import TableSpec
from sadari.data.summary import Moments, Pair
from sadari.errors import SadariError
from sadari.lang import Note

ROWS = 400
DRAW = np.random.default_rng(0)
NOISE = DRAW.normal(size=ROWS)
Y = DRAW.normal(size=ROWS)


def notes(frame: pl.DataFrame, task: str = "regress", target: str = "y") -> dict[str, Note]:
    """The notes of a table with one usable column `noise` beside those given."""
    spec = TableSpec.learn(frame.with_columns(noise=pl.Series(NOISE[: frame.height])), target, task)
    return {note.about["kind"]: note for note in spec.notes}


def frame(**columns: object) -> pl.DataFrame:
    return pl.DataFrame({**columns, "y": Y})  # type: ignore[arg-type]


values = st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=60)


@given(values, st.lists(st.integers(0, 60), max_size=4))
def test_moments_of_batches_are_those_of_the_whole(numbers: list[float], cuts: list[int]) -> None:
    whole = np.array(numbers)
    moments = Moments()
    for piece in np.split(whole, sorted(min(cut, len(whole)) for cut in cuts)):
        moments.add(piece)
    reach = np.abs(whole).max() + 1
    away = whole - whole.mean()
    assert moments.count == len(whole)
    assert moments.mean == pytest.approx(whole.mean(), abs=1e-10 * reach)
    assert moments.second == pytest.approx((away**2).sum(), abs=1e-10 * len(whole) * reach**2)
    assert moments.third == pytest.approx((away**3).sum(), abs=1e-9 * len(whole) * reach**3)
    assert (moments.low, moments.high) == (whole.min(), whole.max())


def test_moments_far_from_zero_keep_their_digits() -> None:
    """A deviation of 1 about a mean of 1e9: sums of squares would lose all of it."""
    moments = Moments()
    for piece in np.split(1e9 + DRAW.normal(size=100_000), 50):
        moments.add(piece)
    assert moments.deviation == pytest.approx(1, abs=0.01)


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=60),
    st.integers(0, 60),
)
def test_correlation_of_batches_is_that_of_the_whole(rows: list[tuple[float, float]], cut: int) -> None:
    x, y = np.array(rows).T
    if min(x.std(), y.std()) < 1e-3:
        return
    pair = Pair()
    pair.add(x[:cut], y[:cut])
    pair.add(x[cut:], y[cut:])
    assert pair.correlation == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "column", "says"),
    [
        ("constant", [7] * ROWS, "`x` has the same value everywhere; left out"),
        ("constant", ["a"] * ROWS, "`x` has the same value everywhere"),
        ("constant", [0.1 + 0.2, 0.3] * (ROWS // 2), "`x` has the same value everywhere"),
        ("empty", pl.Series([None] * ROWS, dtype=pl.Float64), "`x` has no value at all; left out"),
        ("empty", pl.Series([None] * ROWS), "`x` has no value at all; left out"),
        ("unreadable", [[1, 2]] * ROWS, "`x` holds List(Int64), which no rung reads; left out"),
        ("unreadable", [{"a": 1}] * ROWS, "`x` holds Struct"),
        ("unreadable", [b"raw"] * ROWS, "`x` holds Binary"),
        ("unique", [f"name {row}" for row in range(ROWS)], "`x` has 400 different texts in 400 rows"),
        ("unique", [f"zip {row % 390}" for row in range(ROWS)], "`x` has 390 different texts in 400 rows"),
    ],
)
def test_columns_that_are_left_out(kind: str, column: object, says: str) -> None:
    note = notes(frame(x=column))[kind]
    assert says in note.english
    assert note.about["column"] == "x"
    assert "`x`" in note.korean


def test_repeated_columns_are_left_out_whatever_their_type() -> None:
    code = DRAW.integers(0, 9, ROWS)
    table = frame(
        a=code,
        b=code.astype(float),
        c=code + 1,
        t=code.astype(str),
        u=code.astype(str),
        v=code[::-1].astype(str),
    )
    spec = TableSpec.learn(table, "y", "regress")
    assert [column.name for column in spec.columns] == ["a", "c", "t", "v"]
    assert [note.english for note in spec.notes] == [
        "column `b` repeats `a`; left out",
        "column `u` repeats `t`; left out",
    ]
    assert "`b` 열은 `a` 열과 같아" in spec.notes[0].korean


def test_row_numbers() -> None:
    found = notes(frame(id=range(ROWS)))
    assert found["id"].english == "column `id` only numbers the rows; left out"
    found = notes(frame(**{"고객 번호": range(5, ROWS + 5)}, 번호=range(ROWS), week=range(10, ROWS + 10)))
    assert found["id"].about["column"] == "번호"
    assert found["numbered"].about["column"] == "week"
    assert "leave it out: --drop 'week'" in found["numbered"].english
    assert not notes(frame(id=DRAW.integers(0, 50, ROWS)))


def test_rare_and_many_categories() -> None:
    found = notes(frame(x=[f"c{min(row, 3) if row < 398 else row}" for row in range(ROWS)]))
    assert found["rare"].english == "column `x`: categories in fewer than 2 rows count as (rare); there are 5"
    found = notes(frame(x=[f"c{row % 100}" for row in range(ROWS)]))
    assert (
        "`x` has 100 categories; the 64 most common (64% of its rows) have a feature" in found["many"].english
    )


def test_gaps_and_infinite_values() -> None:
    found = notes(frame(x=[None, np.inf, -np.inf, np.nan, *map(float, range(ROWS - 4))]))
    assert found["gaps"].english.startswith("column `x` is missing in 1.0% of rows")
    assert found["infinite"].english == "column `x`: infinite values (2) count as missing"
    assert found["infinite"].level == "warning"


@pytest.mark.parametrize(
    ("kind", "column", "says"),
    [
        (
            "leak, correlation",
            Y * -2 + 5,
            "its correlation with `y` is -1.00000; if it is not known when you predict",
        ),
        ("leak, correlation", Y + 0.01 * NOISE, "its correlation with `y` is 0.99995"),
        ("leak, variance", None, "its 5 values explain 100.00% of the variance of `y`"),
    ],
)
def test_leaks_of_a_number_are_kept_with_a_warning(kind: str, column: np.ndarray | None, says: str) -> None:
    table = frame(x=column)
    if column is None:
        groups = DRAW.integers(0, 5, ROWS)
        table = pl.DataFrame(
            {"x": [f"g{group}" for group in groups], "y": (groups - 2.0) ** 2 + 3 * groups + 1e-6 * NOISE}
        )
    found = notes(table)
    assert says in found[kind].english
    assert "--drop 'x'" in found[kind].korean
    assert "x" in {column.name for column in TableSpec.learn(table, "y", "regress").columns}


def test_leaks_of_a_class() -> None:
    classes = DRAW.choice(["a", "b", "c"], ROWS)
    codes = pl.DataFrame({"x": np.unique(classes, return_inverse=True)[1] * 10, "y": classes})
    found = notes(codes, "classify")
    assert "its 3 values tell `y` in 100.00% of rows" in found["leak, classes"].english
    two = np.where(Y > 0, "up", "down")
    gaps = pl.DataFrame({"x": np.where(Y > 0, NOISE, np.nan), "y": two})
    assert "where it is empty tells `y` (correlation" in notes(gaps, "classify")["leak, gaps"].english
    assert "leak, gaps" not in notes(frame(x=np.where(Y > 0, NOISE, np.nan)))


@pytest.mark.parametrize("seed", range(20))
def test_no_leak_is_seen_in_noise_in_an_unequal_class_or_in_a_good_feature(seed: int) -> None:
    draw = np.random.default_rng(seed)
    rare = np.where(draw.random(ROWS) < 0.004, "yes", "no")
    rare[:2] = ["yes", "no"]
    table = pl.DataFrame({"x": draw.choice(["a", "b"], ROWS), "z": draw.normal(size=ROWS), "y": rare})
    assert not {kind for kind in notes(table, "classify") if kind.startswith("leak")}
    y = draw.normal(size=ROWS)
    table = pl.DataFrame({"x": y + 0.1 * draw.normal(size=ROWS), "y": y})
    assert not {kind for kind in notes(table) if kind.startswith("leak")}


def test_skewed_targets_propose_a_remedy() -> None:
    found = notes(pl.DataFrame({"x": NOISE**2, "y": np.exp(2 * Y)}))
    assert "try --log-target or --loss absolute" in found["skewed"].english
    assert "--log-target" in found["skewed"].korean
    found = notes(pl.DataFrame({"x": NOISE**2, "y": -np.exp(2 * Y)}))
    assert found["tailed"].english.endswith("try --loss absolute")
    assert not notes(pl.DataFrame({"x": NOISE**2, "y": Y}))


def test_unequal_and_tiny_classes() -> None:
    found = notes(pl.DataFrame({"x": NOISE**2, "y": ["no"] * (ROWS - 3) + ["yes"] * 3}), "classify")
    assert "`no` is 99.2% of the rows" in found["imbalance"].english
    assert "balanced accuracy" in found["imbalance"].english
    assert "균형 정확도" in found["imbalance"].korean
    assert found["few"].english.startswith("class `yes` has 3 training rows")


def test_more_features_than_rows() -> None:
    wide = pl.DataFrame({f"x{place}": DRAW.normal(size=10) for place in range(30)}).with_columns(
        y=pl.Series(Y[:10])
    )
    assert "31 features for 10 training rows" in notes(wide)["wide"].english


def test_rows_without_a_target_teach_nothing() -> None:
    table = frame(x=NOISE**3)
    extra = pl.DataFrame({"x": [1e6, None], "y": [None, np.nan]}, schema={"x": pl.Float64, "y": pl.Float64})
    assert TableSpec.learn(pl.concat([extra, table]), "y", "regress") == TableSpec.learn(
        table, "y", "regress"
    )


def test_counts_of_text_stay_bounded() -> None:
    learner = Learner({"x": pl.String(), "n": pl.Float64(), "y": pl.Float64()}, "y", "regress")
    for batch in range(4):
        ids = [f"id {row}" for row in range(batch * 50_000, (batch + 1) * 50_000)]
        learner.update(
            pl.DataFrame(
                {
                    "x": ["often"] * 10_000 + ids[10_000:],
                    "n": DRAW.normal(size=50_000),
                    "y": DRAW.normal(size=50_000),
                }
            )
        )
    (text, _) = learner.summaries
    assert text.bounded
    assert text.counts is not None
    assert text.counts.height <= 100_000
    (column, _) = learner.finish().columns
    assert (column.categories, column.rare) == (("often",), True)


@pytest.mark.parametrize(
    ("table", "task", "match"),
    [
        (
            pl.DataFrame({"x": NOISE, "y": [3.0] * ROWS}),
            "regress",
            "the target y is 3 in all 400 training rows",
        ),
        (
            pl.DataFrame({"x": NOISE, "y": ["a"] * ROWS}),
            "classify",
            r"one class in the training rows \(a\); choose another",
        ),
        (
            pl.DataFrame({"x": [1] * ROWS, "y": Y}),
            "regress",
            "no column is left to predict y from .column `x` has the same",
        ),
    ],
)
def test_nothing_to_learn(table: pl.DataFrame, task: str, match: str) -> None:
    with pytest.raises(SadariError, match=match):
        TableSpec.learn(table, "y", task)


def test_a_log_target_must_stay_above_minus_one() -> None:
    with pytest.raises(SadariError, match=r"the target y goes down to -\d.*leave --log-target out"):
        TableSpec.learn(frame(x=NOISE**3), "y", "regress", log_target=True)
