"""The spec of a table: encoding against a plain one, round trips, errors that name column, row and value."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.data.spec import TableSpec
from sadari.errors import SadariError

FRAME = pl.DataFrame(
    {
        "age": [31.0, None, 29.5, 40.0, 40.0, 22.0],
        "sex": ["F", "M", "F", None, "M", "X"],
        "member": ["yes", "No", "YES", "no", "y", None],
        "day": [
            date(2024, 1, 1),
            date(2024, 2, 29),
            None,
            date(1969, 7, 20),
            date(2030, 12, 31),
            date(2024, 1, 2),
        ],
        "seen": [datetime(2024, 1, 1, hour, 30) for hour in (0, 6, 12, 18, 21, 23)],
        "ok": [True, False, True, True, None, False],
        "y": [1.0, 2.0, 3.0, 5.0, 8.0, 13.0],
    }
)


def learn(frame: pl.DataFrame, target: str = "y", task: str = "regress", **options: object) -> TableSpec:
    return TableSpec.learn(frame, target, task, **options)  # type: ignore[arg-type]


def plainly(spec: TableSpec, row: dict[str, object]) -> list[float]:
    """One row encoded in plain Python, from the meaning of each column rather than from its code."""
    features: list[float] = []
    for column in spec.columns:
        value = row[column.name]
        gap = [float(value is None)] * column.missing
        if column.kind == "category":
            names = [*column.categories, *["(rare)"] * column.rare, *["(missing)"] * column.missing]
            label = "(missing)" if value is None else value if value in column.categories else "(rare)"
            features += [float(name == label) for name in names]
            continue
        if column.kind == "date":
            clock = isinstance(value, datetime)
            days = None
            if value is not None:
                moment = value if clock else datetime(value.year, value.month, value.day)  # type: ignore[attr-defined]
                days = (moment - datetime(1970, 1, 1)) / timedelta(days=1)
            turns = (
                [] if days is None else [days / 365.2425, math.floor(days) / 7] + [days % 1] * column.clock
            )
            empty = [0.0] * (4 + 2 * column.clock)
            circle = [side(2 * math.pi * turn) for turn in turns for side in (math.sin, math.cos)] or empty
            features += [0.0 if days is None else (days - column.center) / column.scale, *circle, *gap]
            continue
        if column.kind == "boolean" and isinstance(value, str):
            value = value.lower() in ("yes", "y")
        features += [0.0 if value is None else (float(value) - column.center) / column.scale, *gap]  # type: ignore[arg-type]
    return features


def test_encoding_equals_a_plain_one() -> None:
    spec = learn(FRAME)
    assert spec.feature_names == [
        "age", "age is missing", "sex=F", "sex=M", "sex=(rare)", "sex=(missing)",
        "member", "member is missing",
        "day: days", "day: year sin", "day: year cos", "day: week sin", "day: week cos", "day is missing",
        "seen: days", "seen: year sin", "seen: year cos", "seen: week sin", "seen: week cos",
        "seen: day sin", "seen: day cos",
        "ok", "ok is missing",
    ]  # fmt: skip
    features = spec.encode(FRAME)
    assert features.shape == (6, spec.width) == (6, 23)
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    expected = np.array([plainly(spec, row) for row in FRAME.iter_rows(named=True)])
    np.testing.assert_allclose(features, expected, atol=2e-6)


def test_numbers_have_mean_0_and_deviation_1_over_the_rows_that_have_one() -> None:
    draw = np.random.default_rng(0)
    frame = pl.DataFrame({"x": draw.normal(1e6, 3, 5000), "y": draw.normal(size=5000)})
    frame = frame.with_columns(x=pl.when(pl.col("y") < 1).then(pl.col("x")))
    features = learn(frame).encode(frame)
    there = features[:, 1] == 0
    assert abs(features[there, 0].mean()) < 1e-5
    assert abs(features[there, 0].std() - 1) < 1e-5
    assert (features[~there, 0] == 0).all()


@pytest.mark.parametrize(
    ("day", "sine", "cosine"),
    [
        (date(1970, 1, 1), 0, 1),
        (date(1970, 1, 8), 0, 1),
        (date(1970, 1, 2), math.sin(2 * math.pi / 7), math.cos(2 * math.pi / 7)),
    ],
)
def test_a_week_is_one_turn(day: date, sine: float, cosine: float) -> None:
    spec = learn(FRAME)
    row = spec.encode(FRAME[:1].with_columns(day=pl.lit(day)))[0]
    assert row[spec.feature_names.index("day: week sin")] == pytest.approx(sine, abs=1e-6)
    assert row[spec.feature_names.index("day: week cos")] == pytest.approx(cosine, abs=1e-6)


def test_a_moment_with_a_zone_counts_in_utc() -> None:
    spec = learn(FRAME)
    seoul = datetime(2024, 1, 1, 9, 30, tzinfo=timezone(timedelta(hours=9)))
    zoned = FRAME[:1].with_columns(seen=pl.Series([seoul]).dt.convert_time_zone("Asia/Seoul"))
    text = FRAME[:1].with_columns(seen=pl.lit("2024-01-01T00:30:00"))
    np.testing.assert_array_equal(spec.encode(zoned), spec.encode(FRAME[:1]))
    np.testing.assert_array_equal(spec.encode(text), spec.encode(FRAME[:1]))


def test_unseen_categories_are_rare_or_nothing() -> None:
    rows = pl.DataFrame({"c": ["a", "b"] * 20, "d": ["a", "b"] * 19 + ["x", "y"], "y": range(40)})
    spec = learn(rows)
    assert spec.feature_names == ["c=a", "c=b", "d=a", "d=b", "d=(rare)"]
    unseen = pl.DataFrame({"c": ["q", None], "d": ["q", None]})
    assert spec.encode(unseen).tolist() == [[0, 0, 0, 0, 1]] * 2


def test_64_categories_at_most_and_no_rarer_than_a_thousandth() -> None:
    often = [f"c{place:03}" for place in range(100) for _ in range(10 + place)]
    spec = learn(pl.DataFrame({"c": often, "y": range(len(often))}))
    (column,) = spec.columns
    assert len(column.categories) == 64
    assert column.categories == tuple(f"c{place:03}" for place in range(36, 100))
    assert column.rare
    many = ["a"] * 5000 + ["b"] * 5 + ["c"] * 6
    (column,) = learn(pl.DataFrame({"c": many, "y": range(len(many))})).columns
    assert column.categories == ("a", "c")


@pytest.mark.parametrize(
    ("cast", "name"),
    [
        (pl.col("age").cast(pl.String), "age"),
        (pl.col("age").cast(pl.Decimal(10, 2)), "age"),
        (pl.col("age").fill_null(float("nan")), "age"),
        (pl.col("ok").cast(pl.Int64), "ok"),
        (pl.col("ok").cast(pl.String), "ok"),
        (pl.col("member").str.to_lowercase().is_in(["yes", "y"]), "member"),
        (pl.col("sex").cast(pl.Categorical), "sex"),
        (pl.col("day").cast(pl.String), "day"),
        (pl.col("day").cast(pl.Datetime("ms")), "day"),
        (pl.col("day").dt.strftime("%Y. %m. %d."), "day"),
    ],
)
def test_the_same_values_in_another_type_encode_alike(cast: pl.Expr, name: str) -> None:
    spec = learn(FRAME)
    other = FRAME.with_columns(cast.alias(name))
    assert other.schema[name] != FRAME.schema[name] or name == "age"
    np.testing.assert_array_equal(spec.encode(other), spec.encode(FRAME))


def test_whole_numbers_serve_where_training_had_fractions_and_text_categories_as_numbers() -> None:
    frame = pl.DataFrame({"x": [0.5, 1.5, 2.0, 3.0], "code": ["1", "2", "1", "2"], "y": [1, 2, 3, 5]})
    spec = learn(frame)
    whole = pl.DataFrame({"x": [2, 3], "code": [1.0, 2.0]})
    np.testing.assert_array_equal(spec.encode(whole), spec.encode(frame[2:]))
    assert spec.types == {"code": pl.String()}


def test_durations_times_and_decimals_are_numbers() -> None:
    frame = pl.DataFrame(
        {
            "took": [timedelta(minutes=1), timedelta(minutes=3), None],
            "price": [Decimal("1.5"), Decimal("2.5"), Decimal("3.5")],
            "at": [datetime(2024, 1, 1, hour).time() for hour in (1, 2, 3)],
            "y": [1, 2, 4],
        }
    )
    spec = learn(frame)
    assert [(column.center, column.kind) for column in spec.columns] == [
        (120, "number"),
        (2.5, "number"),
        (7200, "number"),
    ]
    np.testing.assert_allclose(spec.encode(frame)[:, 0], [-1, 1, 0], atol=1e-6)


def test_values_far_out_stay_finite() -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 2.0, 3.0, 5.0]})
    spec = learn(frame)
    wild = pl.DataFrame({"x": [1e99, -1e99, 1e300, math.inf, -math.inf, math.nan, None]})
    assert spec.encode(wild)[:, 0].tolist() == pytest.approx([1e9, -1e9, 0, 0, 0, 0, 0])


tables = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-1000, 1000)),
        st.one_of(st.none(), st.floats(-1e6, 1e6)),
        st.one_of(st.none(), st.sampled_from(["서울", "부산", "a=b", "", " x "])),
        st.one_of(st.none(), st.booleans()),
        st.one_of(st.none(), st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))),
    ),
    min_size=3,
    max_size=40,
)


@given(tables)
def test_json_holds_the_whole_spec_and_batches_encode_as_the_whole(rows: list[tuple[object, ...]]) -> None:
    kinds = {"i": pl.Int64, "f": pl.Float64, "c": pl.String, "b": pl.Boolean, "t": pl.Datetime("us")}
    frame = pl.DataFrame(rows, schema=kinds, orient="row").with_columns(
        always=pl.int_range(pl.len()) % 3, y=pl.int_range(pl.len()).cast(pl.Float64)
    )
    spec = learn(frame)
    again = TableSpec.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False)))
    assert again == spec
    whole = spec.encode(frame)
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(again.encode(frame), whole)
    pieces = np.concatenate([spec.encode(frame[:2]), spec.encode(frame[2:])])
    np.testing.assert_allclose(pieces, whole, atol=1e-7)  # polars divides a single row another way
    assert learn(frame.lazy()) == spec


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=50), st.booleans())
def test_the_target_goes_to_model_space_and_back(values: list[float], log_target: bool) -> None:
    if max(values) - min(values) < 1e-3:
        return
    frame = pl.DataFrame({"x": range(len(values)), "y": values}).with_columns(x=pl.col("x") % 7)
    spec = learn(frame, log_target=log_target)
    inside = spec.encode_target(frame)
    assert inside.dtype == np.float32
    assert abs(inside.mean()) < 1e-4
    assert abs(inside.std() - 1) < 1e-3
    reach = max(abs(value) for value in values) + 1
    np.testing.assert_allclose(
        spec.decode_target(inside), values, rtol=1e-4 if log_target else 0, atol=1e-5 * reach
    )


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pl.Series(["no", "yes", "no", "yes"]), ("no", "yes")),
        (pl.Series([10, 9, 10, 9]), ("9", "10")),
        (pl.Series([1.0, 0.0, 1.0, 0.0]), ("0", "1")),
        (pl.Series([True, False, True, False]), ("false", "true")),
        (pl.Series(["나", "가", "나", "가"], dtype=pl.Categorical), ("가", "나")),
    ],
)
def test_classes_are_sorted_labels(labels: pl.Series, classes: tuple[str, ...]) -> None:
    frame = pl.DataFrame({"x": [1, 2, 1, 3], "y": labels})
    spec = learn(frame, task="classify")
    assert spec.classes == classes
    numbers = spec.encode_target(frame)
    assert numbers.dtype == np.int64
    assert [classes[number] for number in numbers] == [
        classes[number] for number in (numbers[0], 1 - numbers[0]) * 2
    ]


def test_every_absent_column_is_named() -> None:
    with pytest.raises(
        SadariError, match=r"rows\.csv lacks columns: age, day; the run was trained with age, sex, member"
    ):
        learn(FRAME).encode(FRAME.drop("age", "day"), name="rows.csv")
    with pytest.raises(SadariError, match="lacks column: sex;"):
        learn(FRAME).encode(FRAME.drop("sex"))


def test_every_column_of_another_type_is_named() -> None:
    other = FRAME.with_columns(age=pl.col("day"), day=pl.col("y"), sex=pl.concat_list("y"))
    with pytest.raises(
        SadariError,
        match=r"other type: age \(Date, trained on number\), sex \(List.* day \(Float64, tr.* date\)",
    ):
        learn(FRAME).encode(other)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [("age", "abc", "number"), ("day", "2024-13-45", "date"), ("member", "maybe", "boolean")],
)
def test_a_cell_that_cannot_be_read_is_named(name: str, value: str, kind: str) -> None:
    frame = FRAME.with_columns(pl.Series(name, ["NA", " ", "", value, None, value]))
    match = f"new.csv: column {name} is '{value}' in row 104, and the run was trained on a {kind} there"
    with pytest.raises(SadariError, match=match):
        learn(FRAME).encode(frame, first_row=101, name="new.csv")


def test_targets_that_cannot_be_encoded() -> None:
    spec = learn(FRAME)
    with pytest.raises(SadariError, match="lacks the target column y"):
        spec.encode_target(FRAME.drop("y"))
    with pytest.raises(SadariError, match="row 2 has no y; leave out the rows without a target"):
        spec.encode_target(pl.DataFrame({"y": [1.0, None]}))
    with pytest.raises(SadariError, match=r"the target y is infinite in row 2 \(inf\)"):
        spec.encode_target(pl.DataFrame({"y": [1.0, math.inf]}))
    with pytest.raises(SadariError, match=r"the target y is no number in row 2 \('high'\)"):
        spec.encode_target(pl.DataFrame({"y": ["1", "high"]}))
    with pytest.raises(SadariError, match="the target y is Date, which cannot be predicted by regress"):
        spec.encode_target(pl.DataFrame({"y": [date(2024, 1, 1)]}))
    logged = learn(FRAME, log_target=True)
    with pytest.raises(SadariError, match="y goes down to -2, and log1p needs more than -1"):
        logged.encode_target(pl.DataFrame({"y": [1.0, -2.0]}))
    classes = learn(FRAME.drop_nulls("sex"), target="sex", task="classify")
    with pytest.raises(
        SadariError, match="sex has the class 'Q', which is in no training row; classes there: F, M, X"
    ):
        classes.encode_target(pl.DataFrame({"sex": ["F", "Q"]}))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"task": "regress"},
        {**learn(FRAME).to_json(), "columns": [{"name": "x", "shape": 1}]},
        {**learn(FRAME).to_json(), "columns": [{"name": "x", "kind": "date", "written": "%Q"}]},
        {"columns": 3},
    ],
)
def test_a_spec_that_does_not_fit_is_refused(content: dict[str, object]) -> None:
    with pytest.raises(SadariError, match=r"spec\.json is no spec of a table .*fit the run again"):
        TableSpec.from_json(content)
