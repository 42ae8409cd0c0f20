"""Predicting files: the rows as they were, the run's own predictions beside them, whole files or none."""

from __future__ import annotations

import datetime
import errno
import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadari.data.spec import TableSpec
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.predict import predict_file
from sadari.runs import Run
from sadari.tasks import TableTask, build, loss_for

DRAW = np.random.default_rng(7)
N = 500
TRAIN = pl.DataFrame(
    {
        "id": [f"{k:05}" for k in range(N)],
        "age": DRAW.integers(18, 90, N),
        "income": np.where(DRAW.random(N) < 0.1, np.nan, DRAW.lognormal(10, 1, N).round(2)),
        "city": DRAW.choice(["서울", "Busan, south", "Daegu"], N),
        "member": np.where(DRAW.random(N) < 0.5, "yes", "no"),
        "joined": [
            datetime.date(2020, 1, 1) + datetime.timedelta(days=int(d)) for d in DRAW.integers(0, 1500, N)
        ],
        "bought": DRAW.choice(["yes", "no"], N),
        "spent": DRAW.lognormal(3, 1, N).round(3),
    }
).with_columns(pl.col("income").fill_nan(None))


def make_run(target: str = "bought", task: str = "classify", **settings: bool) -> Run:
    """A run with random weights: what is tested here is the way in and out, not what it learnt."""
    drop = ["id", "spent" if target == "bought" else "bought"]
    spec = TableSpec.learn(TRAIN, target, task, drop=drop, **settings)
    loss = loss_for(spec)
    model = build("shallow", task, {"width": 8}, spec.width, loss, seed=3)
    config = {
        "rung": "shallow",
        "task": task,
        "data": {"name": "rows", "fingerprint": "f", "rows": N},
        "versions": {},
    }
    return Run(Path("run"), config, {"notes": []}, spec, model.eval(), TableTask(task, loss))


RUN = make_run()
NUMBER = make_run("spent", "regress")
EXPECTED = RUN.predict(TRAIN, probabilities=True)


def test_text_rows_are_carried_over_as_they_are_written(tmp_path: Path) -> None:
    TRAIN.write_csv(tmp_path / "rows.csv")
    out = predict_file(RUN, tmp_path / "rows.csv")
    assert out == tmp_path / "rows-predicted.csv"
    before, after = (pl.read_csv(path, infer_schema=False) for path in (tmp_path / "rows.csv", out))
    assert after.drop("prediction").equals(before)
    assert after["prediction"].to_list() == EXPECTED["prediction"].to_list()


def test_odd_text_stays_as_it_is(tmp_path: Path) -> None:
    rows = [
        ["id", "age", "income", "city", "member", "joined", "note"],
        ["007", " 41", "1e4", "서울", "yes", "2021-03-01", 'said ""hi"", twice'],
        ["8", "41.50", "NA", "Nowhere", "N", "2021-03-02", "two\nlines"],
        ["", "-", "", "", "?", "", "1,5"],
    ]
    text = "\n".join(
        ",".join(f'"{cell}"' if set(cell) & set(',"\n') else cell for cell in row) for row in rows
    )
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    out = pl.read_csv(predict_file(RUN, tmp_path / "rows.csv"), infer_schema=False)
    assert out["id"].to_list() == ["007", "8", None] and out["age"].to_list() == [" 41", "41.50", "-"]
    assert out["note"].to_list() == ['said "hi", twice', "two\nlines", "1,5"]
    assert out["joined"].to_list() == ["2021-03-01", "2021-03-02", None]
    same = pl.DataFrame(
        {
            "age": [41.0, 41.5, None],
            "income": [1e4, None, None],
            "city": ["서울", "Nowhere", None],
            "member": ["yes", "no", None],
            "joined": [datetime.date(2021, 3, 1), datetime.date(2021, 3, 2), None],
        }
    )
    assert out["prediction"].to_list() == RUN.predict(same)["prediction"].to_list()


WAYS: dict[str, Callable[[Path], object]] = {
    "rows.csv": TRAIN.write_csv,
    "rows.tsv": lambda path: TRAIN.write_csv(path, separator="\t"),
    "semicolons.csv": lambda path: TRAIN.write_csv(path, separator=";", decimal_comma=True),
    "packed.csv.gz": lambda path: path.write_bytes(gzip.compress(TRAIN.write_csv().encode())),
    "korean.csv": lambda path: path.write_bytes(TRAIN.write_csv().encode("cp949")),
    "wide.csv": lambda path: path.write_bytes(TRAIN.write_csv().encode("utf-16")),
    "blank lines.csv": lambda path: path.write_text(TRAIN.write_csv() + "\n\n", encoding="utf-8"),
    "rows.parquet": TRAIN.write_parquet,
    "한글 이름.csv": TRAIN.write_csv,
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_each_kind_of_file_gives_the_same_predictions(name: str, ending: str, tmp_path: Path) -> None:
    WAYS[name](tmp_path / name)
    out = predict_file(RUN, tmp_path / name, tmp_path / f"out.{ending}", probabilities=True, block_rows=64)
    read = {"csv": pl.read_csv, "tsv": lambda p: pl.read_csv(p, separator="\t"), "parquet": pl.read_parquet}[
        ending
    ]
    found = read(out)
    assert found.columns == [*TRAIN.columns, "prediction", "probability of no", "probability of yes"]
    assert found["prediction"].to_list() == EXPECTED["prediction"].to_list()
    for column in EXPECTED.columns[1:]:
        np.testing.assert_allclose(found[column].to_numpy(), EXPECTED[column].to_numpy(), rtol=1e-6)
    assert found["age"].cast(pl.Int64).to_list() == TRAIN["age"].to_list()


def test_numbers_come_out_in_the_targets_units(tmp_path: Path) -> None:
    run = make_run("spent", "regress", log_target=True)
    TRAIN.drop("spent").write_csv(tmp_path / "rows.csv")
    found = pl.read_csv(predict_file(run, tmp_path / "rows.csv"))["prediction"]
    assert found.dtype == pl.Float64 and found.min() > 0
    np.testing.assert_allclose(found.to_numpy(), run.predict(TRAIN)["prediction"].to_numpy(), rtol=1e-12)


def test_the_target_may_be_there_and_hold_anything(tmp_path: Path) -> None:
    TRAIN.with_columns(pl.lit("unknown").alias("bought")).write_csv(tmp_path / "rows.csv")
    found = pl.read_csv(predict_file(RUN, tmp_path / "rows.csv"))
    assert found["prediction"].to_list() == EXPECTED["prediction"].to_list()
    assert set(found["bought"]) == {"unknown"}


@settings(max_examples=25)
@given(st.integers(1, 200), st.integers(1, 90))
def test_blocks_change_nothing(tmp_path_factory, rows: int, block: int) -> None:
    folder = tmp_path_factory.mktemp("blocks")
    TRAIN.head(rows).write_csv(folder / "rows.csv")
    found = pl.read_csv(predict_file(RUN, folder / "rows.csv", block_rows=block), infer_schema=False)
    assert found["id"].to_list() == TRAIN["id"].head(rows).to_list()
    assert found["prediction"].to_list() == EXPECTED["prediction"].head(rows).to_list()


def test_columns_may_be_left_out_and_reordered(tmp_path: Path) -> None:
    TRAIN.write_csv(tmp_path / "rows.csv")
    found = pl.read_csv(predict_file(RUN, tmp_path / "rows.csv", tmp_path / "o.csv", keep=["city", "id"]))
    assert found.columns == ["city", "id", "prediction"]
    found = pl.read_csv(predict_file(RUN, tmp_path / "rows.csv", tmp_path / "o.csv", keep=[]))
    assert (
        found.columns == ["prediction"] and found["prediction"].to_list() == EXPECTED["prediction"].to_list()
    )
    with pytest.raises(SadariError, match=r"--keep: rows.csv has no column 'town'; near it: "):
        predict_file(RUN, tmp_path / "rows.csv", keep=["town"])


def test_a_header_alone_gives_a_header_alone(tmp_path: Path) -> None:
    TRAIN.head(0).write_csv(tmp_path / "rows.csv")
    assert (
        predict_file(RUN, tmp_path / "rows.csv").read_text()
        == ",".join([*TRAIN.columns, "prediction"]) + "\n"
    )


@pytest.mark.parametrize(("pattern", "other"), [("%d/%m/%Y", "%m/%d/%Y"), ("%m/%d/%Y", "%d/%m/%Y")])
def test_all_rows_decide_whether_day_or_month_comes_first(pattern: str, other: str, tmp_path: Path) -> None:
    """The first thousand dates read either way; a single one below tells which it is."""
    days = [datetime.date(2021, 1 + k % 12, 1 + k % 7) for k in range(1500)] + [datetime.date(2021, 5, 28)]
    frame = TRAIN.sample(len(days), with_replacement=True, seed=1).with_columns(pl.Series("joined", days))
    frame.with_columns(pl.col("joined").dt.strftime(pattern)).write_csv(tmp_path / "rows.csv")
    found = pl.read_csv(predict_file(RUN, tmp_path / "rows.csv", probabilities=True))["probability of yes"]
    right = RUN.predict(frame, probabilities=True)["probability of yes"]
    swapped = pl.col("joined").dt.strftime(other).str.to_date(pattern, strict=False)
    wrong = RUN.predict(frame.with_columns(swapped), probabilities=True)["probability of yes"]
    np.testing.assert_allclose(found.to_numpy(), right.to_numpy(), rtol=1e-5)
    assert not np.allclose(found.to_numpy(), wrong.to_numpy(), rtol=1e-5)


def test_whoever_watches_hears_how_far_it_is(tmp_path: Path) -> None:
    TRAIN.write_csv(tmp_path / "rows.csv")
    heard: list[int] = []
    predict_file(RUN, tmp_path / "rows.csv", block_rows=200, told=heard.append)
    assert heard == sorted(heard) and heard[-1] == N and len(heard) > 1


WRONG: dict[str, tuple[pl.DataFrame | str, str]] = {
    "columns are missing": (
        TRAIN.drop("age", "city"),
        r"rows.csv lacks columns: age, city; the run was trained with age, income, city, member, joined",
    ),
    "text among numbers": (
        TRAIN.with_columns(age=pl.when(pl.int_range(N) == 404).then(pl.lit("old")).otherwise(pl.col("age"))),
        r"rows.csv: column age is 'old' in row 405, and the run was trained on a number",
    ),
    "text among dates": (
        TRAIN.with_columns(
            joined=pl.when(pl.int_range(N) == 99).then(pl.lit("soon")).otherwise(pl.col("joined"))
        ),
        r"rows.csv: column joined is 'soon' in row 100, and the run was trained on a date",
    ),
    "a name that is taken": (
        TRAIN.with_columns(prediction=1),
        r"rows.csv has a column 'prediction' already; rename it, or leave it out with --keep",
    ),
    "a row that is too short": (
        TRAIN.write_csv() + "1,2,3\n",
        r"rows.csv line 502 has 3 fields and the header 8",
    ),
    "a row that is too long": (TRAIN.write_csv() + "1,2,3,4,5,6,7,8,9\n", r"rows.csv line 502 has 9 fields"),
    "an empty file": ("", r"rows.csv is empty"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_predicted_is_named_and_leaves_the_old_output(case: str, tmp_path: Path) -> None:
    rows, message = WRONG[case]
    source, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    source.write_text(rows if isinstance(rows, str) else rows.write_csv(), encoding="utf-8")
    out.write_text("old")
    with pytest.raises(SadariError, match=message):
        predict_file(RUN, source, out, block_rows=50)
    assert out.read_text() == "old" and sorted(path.name for path in tmp_path.iterdir()) == [
        "out.csv",
        "rows.csv",
    ]


def test_wrong_types_in_parquet_are_named(tmp_path: Path) -> None:
    wrong = TRAIN.with_columns(pl.col("joined").dt.year(), pl.concat_list("age"))
    wrong.write_parquet(tmp_path / "r.parquet")
    with pytest.raises(
        SadariError, match=r"r.parquet has columns of another type: age .*trained on number.*joined"
    ):
        predict_file(RUN, tmp_path / "r.parquet")


def test_what_is_asked_wrongly_is_told(tmp_path: Path) -> None:
    TRAIN.write_csv(tmp_path / "rows.csv")
    with pytest.raises(SadariError, match=r"--out o.xlsx: predictions are written as .csv, .tsv or .parquet"):
        predict_file(RUN, tmp_path / "rows.csv", "o.xlsx")
    with pytest.raises(SadariError, match="--probabilities needs classes, but this run predicts a number"):
        predict_file(NUMBER, tmp_path / "rows.csv", probabilities=True)
    with pytest.raises(SadariError, match=r"nothing.csv. is neither a file nor built-in data"):
        predict_file(RUN, tmp_path / "nothing.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SadariError, match=r"cannot write .*folder.csv \(Is a directory\)"):
        predict_file(RUN, tmp_path / "rows.csv", tmp_path / "folder.csv")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SadariError, match=r"cannot write .*o.csv"):
        predict_file(RUN, tmp_path / "rows.csv", tmp_path / "file" / "o.csv")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    TRAIN.write_csv(tmp_path / "rows.csv")
    monkeypatch.setattr(pl.LazyFrame, "sink_csv", full)
    with pytest.raises(SadariError, match="No space left on device"):
        predict_file(RUN, tmp_path / "rows.csv", tmp_path / "o.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    TRAIN.write_csv(tmp_path / "rows.csv")
    with pytest.raises(KeyboardInterrupt):
        predict_file(RUN, tmp_path / "rows.csv", tmp_path / "o.csv", told=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_an_ambiguous_file_is_read_as_the_training_file_was(tmp_path: Path) -> None:
    """Training saw 31/01/2024, so 02/03/2024 alone is the second of March, and 1,5 is one and a half."""
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=k) for k in range(200)]
    rows = [f"{day:%d/%m/%Y};{k % 7},{k % 10};{k + (k % 7)}" for k, day in enumerate(days)]
    (tmp_path / "train.csv").write_text("\n".join(["day;size;sold", *rows]) + "\n")
    run = fit("line", tmp_path / "train.csv", task="regress", out=tmp_path / "run")
    (tmp_path / "few.csv").write_text("day;size\n02/03/2024;1,5\n03/02/2024;2,5\n")
    out = predict_file(run, tmp_path / "few.csv").read_text().splitlines()
    predicted = [float(line.rpartition(",")[2]) for line in out[1:]]
    typed = pl.DataFrame({"day": [datetime.date(2024, 3, 2), datetime.date(2024, 2, 3)], "size": [1.5, 2.5]})
    assert predicted == pytest.approx(run.predict(typed)["prediction"].to_list(), rel=1e-5)
