"""From a source to arrays: the same in memory and streamed, and only the training rows are learnt from."""

from __future__ import annotations

import errno
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sadari.data import prepare as module
from sadari.data.builtin import BUILTIN
from sadari.data.prepare import Prepared, detect_task, prepare
from sadari.data.table import open_table
from sadari.errors import SadariError

DRAW = np.random.default_rng(0)
PARTS = ("train", "validation", "test")


def mixed(rows: int) -> pl.DataFrame:
    """A table with every kind of column, gaps, and a few rows without a target."""
    names = [f"도시{place}" for place in range(80)]
    frame = pl.DataFrame(
        {
            "번호": range(rows),
            "x": DRAW.normal(50, 10, rows),
            "city": np.array(names)[np.minimum(79, DRAW.exponential(15, rows).astype(int))],
            "member": DRAW.choice(["yes", "no"], rows),
            "day": [date(2020, 1, 1) + timedelta(days=int(day)) for day in DRAW.integers(0, 1500, rows)],
            "count": DRAW.integers(0, 9, rows),
        }
    )
    score = (frame["x"] - 50) / 10 + (frame["member"] == "yes") + DRAW.normal(size=rows)
    gaps = pl.Series(DRAW.random(rows) < 0.05)
    kind = (
        pl.when(score < -1)
        .then(pl.lit("낮음"))
        .when(score < 1)
        .then(pl.lit("중간"))
        .otherwise(pl.lit("높음"))
    )
    frame = frame.with_columns(
        x=pl.when(~gaps).then("x"), member=pl.when(~gaps.reverse()).then("member"), kind=kind, y=score
    )
    return frame.with_columns(y=pl.when(pl.int_range(rows) % 97 != 5).then("y"))


def near(one: Any, other: Any) -> None:
    """Equal, and numbers within 1e-9 of their size."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            near(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            near(left, right)
    else:
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9) if isinstance(one, float) else one == other


def rows_of(prepared: Prepared) -> list[int]:
    return [len(getattr(prepared, part).features) for part in PARTS]


@pytest.mark.parametrize("target", ["y", "kind"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_streamed_equals_in_memory(target: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 700)  # many batches, the last of them short
    frame = mixed(5000)
    getattr(frame, f"write_{kind}")(f"rows.{kind}")
    other = "kind" if target == "y" else "y"
    whole = prepare(f"rows.{kind}", target=target, drop=[other], seed=3)
    pieces = prepare(f"rows.{kind}", target=target, drop=[other], seed=3, memory=1, cache=Path("cache"))
    assert pieces.table.streamed
    assert not whole.table.streamed
    assert pieces.split.fingerprint == whole.split.fingerprint
    near(pieces.spec.to_json(), whole.spec.to_json())
    for part in PARTS:
        one, many = getattr(whole, part), getattr(pieces, part)
        assert isinstance(many.features, np.memmap)
        assert isinstance(many.targets, np.memmap)
        assert many.features.dtype == one.features.dtype == np.float32
        assert many.targets.dtype == one.targets.dtype == (np.float32 if target == "y" else np.int64)
        np.testing.assert_allclose(many.features, one.features, atol=1e-6)
        np.testing.assert_allclose(many.targets, one.targets, atol=1e-6)
    assert [note.english for note in pieces.notes] == [note.english for note in whole.notes]


def test_the_arrays_are_the_rows_of_the_split() -> None:
    frame = mixed(600)
    prepared = prepare(frame, target="y")
    kept = np.sort(np.concatenate([getattr(prepared.split, part) for part in PARTS]))
    assert np.array_equal(kept, np.flatnonzero(frame["y"].is_not_null()))
    for part in PARTS:
        rows = frame[getattr(prepared.split, part)]
        arrays = getattr(prepared, part)
        np.testing.assert_array_equal(arrays.features, prepared.spec.encode(rows))
        np.testing.assert_allclose(
            prepared.spec.decode_target(arrays.targets), rows["y"].to_numpy(), atol=1e-5
        )
    assert rows_of(prepared) == [356, 118, 119]


def test_only_training_rows_are_learnt_from() -> None:
    frame = mixed(600)
    before = prepare(frame, target="y", drop=["kind"])
    other = np.concatenate([before.split.validation, before.split.test])
    strange = pl.int_range(600).is_in(other)
    changed = frame.with_columns(
        x=pl.when(strange).then(1e6).otherwise("x"),
        city=pl.when(strange).then(pl.lit("elsewhere")).otherwise("city"),
        y=pl.when(strange & pl.col("y").is_not_null()).then(pl.col("y") * 100).otherwise("y"),
    )
    after = prepare(changed, target="y", drop=["kind"])
    assert after.split.fingerprint == before.split.fingerprint
    assert after.spec == before.spec
    np.testing.assert_array_equal(after.train.features, before.train.features)


def test_rows_without_a_target_are_left_out_with_a_note() -> None:
    prepared = prepare(mixed(600), target="y")
    note = prepared.notes[0]
    assert note.english == "7 of 600 rows have no `y` and are left out"
    assert "`y` 값이 없는 7행은 뺐습니다" in note.korean
    assert sum(rows_of(prepared)) == 593


@pytest.mark.parametrize(
    "name", [name for name, entry in BUILTIN.items() if entry.kind == "table" and not entry.fetched]
)
def test_built_in_tables(name: str) -> None:
    entry = BUILTIN[name]
    prepared = prepare(name)
    assert (prepared.task, prepared.spec.target) == (entry.task, entry.target)
    assert sum(rows_of(prepared)) == entry.rows
    assert all(np.isfinite(getattr(prepared, part).features).all() for part in PARTS)
    if entry.task == "classify":
        classes = range(len(prepared.spec.classes or ()))
        assert set(prepared.train.targets) == set(prepared.test.targets) == set(classes)


def test_the_official_test_rows_are_the_test() -> None:
    prepared = prepare("mnist1d", seed=9)
    assert rows_of(prepared) == [3200, 800, 1000]
    assert np.array_equal(prepared.split.test, np.arange(4000, 5000))


def test_the_last_column_is_the_target_unless_it_is_dropped() -> None:
    frame = mixed(100)
    assert prepare(frame).spec.target == "y"
    assert prepare(frame, drop=["y"]).spec.target == "kind"
    assert "kind" not in {column.name for column in prepare(frame, drop=["kind"]).spec.columns}


@pytest.mark.parametrize(
    ("values", "task", "says"),
    [
        (["a", "b"] * 50, "classify", "target `y` is text"),
        ([True, False] * 50, "classify", "target `y` is true or false"),
        ([0, 1] * 5, "classify", "target `y` has only 2 different whole numbers in 10 rows"),
        ([1.0, 2.0, 3.0] * 20, "classify", "3 different whole numbers in 60 rows"),
        (list(range(10)) * 20, "classify", "10 different whole numbers"),
        (
            list(range(10)) * 19,
            "regress",
            "target `y` has 10 different numbers in 190 rows, so the task is regress",
        ),
        (list(range(21)) * 100, "regress", "21 different numbers"),
        ([0.5, 1.5] * 50, "regress", "2 different numbers"),
        ([0, 1, None, float("nan")] * 5, "classify", "2 different whole numbers in 10 rows"),
    ],
)
def test_the_task_is_found_with_its_reason(values: list[object], task: str, says: str) -> None:
    table = open_table(pl.DataFrame({"x": range(len(values)), "y": pl.Series(values, strict=False)}))
    found, note = detect_task(table, "y")
    assert found == task
    assert says in note.english
    assert task in note.korean


def test_whole_numbers_taken_as_classes_are_said_aloud() -> None:
    frame = pl.DataFrame({"x": DRAW.normal(size=200), "stars": DRAW.integers(1, 6, 200)})
    assert "if they are amounts, use --task regress" in prepare(frame).notes[0].english
    assert prepare(frame, task="regress").notes == ()


def test_a_cache_is_written_once_and_never_half() -> None:
    mixed(500).write_csv("rows.csv")
    first = prepare("rows.csv", target="y", memory=1, cache=Path("cache"))
    files = {path: path.stat().st_mtime_ns for path in Path("cache").rglob("*")}
    assert len(files) == 7  # one folder, features and targets of three parts
    prepare("rows.csv", target="y", memory=1, cache=Path("cache"))
    assert {path: path.stat().st_mtime_ns for path in Path("cache").rglob("*")} == files
    prepare("rows.csv", target="y", memory=1, cache=Path("cache"), seed=1)
    assert len(list(Path("cache").iterdir())) == 2
    first.train.features[:] = 0  # a copy on write: the file keeps its rows
    assert prepare("rows.csv", target="y", memory=1, cache=Path("cache")).train.features.any()


def test_a_full_disk_is_said_and_leaves_nothing_half_written(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed(500).write_csv("rows.csv")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(
        SadariError, match=r"cannot write the features of rows\.csv to cache \(No space left on device\)"
    ):
        prepare("rows.csv", target="y", memory=1, cache=Path("cache"))
    assert list(Path("cache").iterdir()) == []


def test_features_larger_than_memory_go_to_files_though_the_table_does_not() -> None:
    frame = pl.DataFrame({"c": [f"c{row % 60}" for row in range(6000)], "y": DRAW.normal(size=6000)})
    prepared = prepare(frame, memory=1_000_000, cache=Path("cache"))
    assert not prepared.table.streamed
    assert isinstance(prepared.train.features, np.memmap)
    np.testing.assert_array_equal(prepared.train.features, prepare(frame).train.features)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"target": "hight"}, r"frame has no column 'hight'; near it: height"),
        ({"drop": ["hight"]}, "has no column 'hight'; near it: height"),
        ({"target": "zzz"}, "has no column 'zzz'; near it: height, width, when, y"),
        ({"target": "y", "drop": ["y"]}, "'y' is both the target and in --drop"),
        (
            {"drop": ["height", "width", "when"]},
            r"has one column \(y\); a table needs a target and a column to predict",
        ),
        ({"task": "rank"}, "'rank' is not a task of tables; choose regress or classify"),
        ({"target": "when"}, "the target when is Date, which no rung predicts; choose another --target"),
        (
            {"target": "when", "task": "regress"},
            "the target when is Date, which cannot be predicted by regress",
        ),
        (
            {"target": "height", "task": "classify"},
            "the target height has 50 classes in 50 rows, too many to learn",
        ),
    ],
)
def test_choices_that_a_table_does_not_allow(options: dict[str, Any], match: str) -> None:
    days = [date(2024, 1, 1) + timedelta(days=day) for day in range(50)]
    frame = pl.DataFrame(
        {
            "height": DRAW.normal(size=50),
            "width": DRAW.normal(size=50),
            "when": days,
            "y": DRAW.normal(size=50),
        }
    )
    with pytest.raises(SadariError, match=match):
        prepare(frame, **options)


def test_rows_to_predict_are_read_as_the_training_rows_were_written() -> None:
    """In training some days stand above 12, so they come first; of new rows alone that could not be seen."""
    day = [date(2024, 1 + row % 12, 1 + row % 28) for row in range(60)]
    lines = [f"{value:%d/%m/%Y};{row % 7},25{row % 10};{row / 3}" for row, value in enumerate(day)]
    Path("rows.csv").write_text("day;x;y\n" + "\n".join(lines).replace(".", ","))
    prepared = prepare("rows.csv", target="y")
    when, x = prepared.spec.columns
    assert (when.kind, when.written, x.written) == ("date", "%d/%m/%Y", "decimal comma")
    assert when.reading is not None
    as_text = pl.DataFrame({"day": ["02/01/2024"], "x": ["3,250"]})
    as_values = pl.DataFrame({"day": [date(2024, 1, 2)], "x": [3.25]})
    np.testing.assert_array_equal(prepared.spec.encode(as_text), prepared.spec.encode(as_values))


def test_a_stray_word_in_the_target_is_named_when_it_makes_too_many_classes() -> None:
    Path("rows.csv").write_text(
        "x,y\n" + "".join(f"{row % 7},{row / 3:.3f}\n" for row in range(90)) + "1,unknown\n"
    )
    with pytest.raises(
        SadariError, match=r"91 classes in 91 rows, too many.*the first of them 'unknown' in row 91"
    ):
        prepare("rows.csv")


def test_other_objects_are_no_tables() -> None:
    with pytest.raises(
        SadariError, match=r"a builtins\.dict is no table; give a file, a built-in's name or a polars frame"
    ):
        prepare({"x": [1]})  # type: ignore[arg-type]
