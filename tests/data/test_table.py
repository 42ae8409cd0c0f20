"""Tables as they come: separators, encodings, types, missing marks, Parquet, names."""

from __future__ import annotations

import gzip
import unicodedata
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.data.table import fingerprint, open_table
from sadari.errors import SadariError


def write(text: str | bytes, name: str = "rows.csv", encoding: str = "utf-8") -> Path:
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def column(text: str, name: str = "x") -> list[object]:
    """The values of a column that is written as `text`, one cell a line, beside a column of ones."""
    lines = "".join(f"{line},1\n" for line in text.split("\n"))
    return open_table(write(f"{name},one\n{lines}")).frame.collect()[name].to_list()


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found(separator: str) -> None:
    table = open_table(write("a,b,c\n1,x y,2.5\n3,z,4\n".replace(",", separator)))
    assert table.frame.collect().rows() == [(1, "x y", 2.5), (3, "z", 4.0)]
    assert (table.rows, table.streamed, table.name) == (2, False, "rows.csv")
    assert table.source == str(Path("rows.csv").resolve())


def test_commas_in_quotes_do_not_hide_the_semicolon() -> None:
    table = open_table(write('a;b\n"1,2,3";4\n"5,6,7";8\n'))
    assert table.frame.collect().rows() == [("1,2,3", 4), ("5,6,7", 8)]


def test_decimal_commas_are_numbers_where_semicolons_separate() -> None:
    assert open_table(write("a;b\n1,5;2\n1.234,5;3\n")).frame.collect()["a"].to_list() == [1.5, 1234.5]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949", "euc-kr", "utf-16"])
def test_korean_reads_the_same_in_every_encoding(encoding: str) -> None:
    text = "이름,나이,지역\n김철수,31,서울\n이영희,29,부산\n"
    table = open_table(write(text, "사람 목록.csv", encoding))
    assert table.frame.collect().rows() == [("김철수", 31, "서울"), ("이영희", 29, "부산")]
    assert list(table.schema) == ["이름", "나이", "지역"]


def test_letters_in_parts_are_composed() -> None:
    text = unicodedata.normalize("NFD", "지역,값\n서울,1\n") + "서울,2\n"
    table = open_table(write(text))
    assert list(table.schema) == ["지역", "값"]
    assert table.frame.collect()["지역"].n_unique() == 1


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_endings_and_blank_lines_at_the_end(ending: str) -> None:
    table = open_table(write("a,b\n1,x\n2,y\n\n\n".replace("\n", ending)))
    assert table.frame.collect().rows() == [(1, "x"), (2, "y")]
    assert table.rows == 2


def test_gzip_is_unpacked_and_has_the_fingerprint_of_its_content() -> None:
    plain = write("a,b\n1,x\n2,y\n")
    packed = write(gzip.compress(plain.read_bytes()), "rows.csv.gz")
    assert open_table(packed).frame.collect().equals(open_table(plain).frame.collect())
    assert open_table(packed).fingerprint == open_table(plain).fingerprint


def test_a_late_float_among_integers_makes_a_column_of_floats() -> None:
    values = open_table(write("a,b\n" + "1,1\n" * 5000 + "1.5,1\n")).frame.collect()["a"]
    assert values.dtype == pl.Float64
    assert values[-1] == 1.5


def test_late_text_among_numbers_makes_text_and_a_warning_that_names_the_cell() -> None:
    table = open_table(write("a,b\n" + "1,1\n" * 3000 + "unknown,1\n" + "2,1\n"))
    assert table.schema["a"] == pl.String
    (note,) = table.notes
    assert note.level == "warning"
    assert "column `a` counts as text" in note.english
    assert "'unknown' in row 3,001" in note.english
    assert "3,001행의 'unknown'" in note.korean


def test_missing_marks() -> None:
    marks = ["", "-", "?", "NA", "N/A", "NaN", "null", "None", " NA ", '""']
    values = open_table(write("x,one\n" + "".join(f"{mark},1\n" for mark in [*marks, "7"]))).frame.collect()[
        "x"
    ]
    assert values.dtype == pl.Int64
    assert values.to_list() == [None] * len(marks) + [7]
    assert column("\n".join([*marks, "text"])) == [None] * len(marks) + ["text"]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1\n-2\n+3", [1, -2, 3]),
        ("1\n 2\n3 ", [1, 2, 3]),
        ("1.5\n.5\n1e3\n-2E-2", [1.5, 0.5, 1000.0, -0.02]),
        ('"1,234"\n"1,234,567.5"\n12', [1234.0, 1234567.5, 12.0]),
        ("99999999999999999999\n1", [1e20, 1.0]),
        ("2024-01-31\n2024-2-3", [date(2024, 1, 31), date(2024, 2, 3)]),
        ("2024/01/31\n2023/12/01", [date(2024, 1, 31), date(2023, 12, 1)]),
        ("31.01.2024\n1.2.2024", [date(2024, 1, 31), date(2024, 2, 1)]),
        ("31/01/2024\n01/02/2024", [date(2024, 1, 31), date(2024, 2, 1)]),
        ("2024년 1월 31일\n2024년 12월 1일", [date(2024, 1, 31), date(2024, 12, 1)]),
        ("2024. 1. 31.\n2024. 12. 1.", [date(2024, 1, 31), date(2024, 12, 1)]),
        ("2024-01-31 10:20\n2024-01-31 00:00", [datetime(2024, 1, 31, 10, 20), datetime(2024, 1, 31)]),
        (
            "2024-01-31T10:20:30\n2024-02-01T00:00:00",
            [datetime(2024, 1, 31, 10, 20, 30), datetime(2024, 2, 1)],
        ),
        ("2024-01-31T10:20:30.5", [datetime(2024, 1, 31, 10, 20, 30, 500000)]),
        ("2024-01-31T10:20:30+09:00\n2024-01-31T01:20:30Z", [datetime(2024, 1, 31, 1, 20, 30)] * 2),
        ("2024-01-31\nsoon", ["2024-01-31", "soon"]),
        ("24-01-31\n24-02-01", ["24-01-31", "24-02-01"]),
        ("yes\nNo", ["yes", "No"]),
        ("007\n008\nx", ["007", "008", "x"]),
    ],
)
def test_types_of_cells(text: str, values: list[object]) -> None:
    assert column(text) == values


def test_ambiguous_days_are_read_month_first_with_a_warning() -> None:
    table = open_table(write("when,y\n01/02/2024,1\n03/04/2024,2\n"))
    assert table.frame.collect()["when"].to_list() == [date(2024, 1, 2), date(2024, 3, 4)]
    (note,) = table.notes
    assert "01/02/2024 are read month first" in note.english
    assert "월/일 순서" in note.korean


def test_names_are_trimmed_and_an_empty_one_is_called_after_its_place() -> None:
    assert list(open_table(write(",  height (cm) ,키\n0,1,2\n")).schema) == ["column 1", "height (cm)", "키"]


def test_a_column_may_be_kept_as_it_is_written() -> None:
    table = open_table(write("code,y\n007,1\n008,2\n"), types={"code": pl.String()})
    assert table.frame.collect()["code"].to_list() == ["007", "008"]


def test_quoted_newlines_commas_and_quotes() -> None:
    table = open_table(write('a,b\n"two\nlines",1\n"say ""hi"", now",2\n'))
    assert table.frame.collect()["a"].to_list() == ["two\nlines", 'say "hi", now']


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-(2**53), 2**53)),
            st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
            st.one_of(st.none(), st.sampled_from(["가", "나 다", 'q"q', "a,b", "x\ny", "z;z"])),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_what_polars_writes_is_read_back(rows: list[tuple[object, ...]]) -> None:
    """Any frame of integers, floats and text comes back from CSV, streamed or not, up to a wider type."""
    frame = pl.DataFrame(rows, schema={"i": pl.Int64, "f": pl.Float64, "t": pl.String}, orient="row")
    frame = frame.with_columns(end=pl.lit("x"))
    frame.write_csv("written.csv")
    for memory in (1, 1 << 30):
        table = open_table("written.csv", memory=memory)
        assert table.streamed == (memory == 1)
        assert table.rows == frame.height
        read = table.frame.collect()
        for name in ("i", "f", "t"):
            if frame[name].null_count() < frame.height:  # a column of gaps alone has no type
                assert read[name].cast(frame[name].dtype).to_list() == frame[name].to_list()


def test_parquet_is_read_with_its_own_types() -> None:
    frame = pl.DataFrame({"a": [1, 2], "b": [True, None], "d": [date(2024, 1, 1), None]})
    frame.write_parquet("rows.parquet")
    table = open_table("rows.parquet")
    assert table.frame.collect().equals(frame)
    assert table.schema == dict(frame.schema)
    assert len(table.fingerprint) == 64


def test_fingerprints_follow_the_content() -> None:
    frame = pl.DataFrame({"a": [1.5, None], "b": ["x", ""], "c": [[1], [2]]})
    pieces = pl.concat([frame[:1], frame[1:]], rechunk=False)
    assert fingerprint(frame) == fingerprint(pieces) == open_table(frame).fingerprint
    others = [
        frame.with_columns(a=pl.Series([1.5, 0.0])),
        frame.with_columns(b=pl.Series(["x", None])),
        frame.rename({"a": "z"}),
        frame[::-1],
    ]
    assert len({fingerprint(other) for other in [frame, *others]}) == 5
    write("a,b\n1,2\n", "one.csv")
    write("a,b\n1,2\n", "two.csv")
    write("a,b\n1,3\n", "three.csv")
    first, second, third = (open_table(f"{name}.csv").fingerprint for name in ("one", "two", "three"))
    assert first == second != third


def test_a_built_in_brings_its_target_task_and_test_rows() -> None:
    table = open_table("mnist1d")
    assert (table.target, table.task, table.rows, table.official_test) == ("digit", "classify", 5000, 1000)
    assert table.source == "mnist1d"


def test_a_path_wins_over_a_name() -> None:
    write("a,b\n1,2\n", "diabetes")
    assert list(open_table("diabetes").schema) == ["a", "b"]


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(
        SadariError, match=r"'diabets' is neither a file nor built-in data; did you mean diabetes.*wine"
    ):
        open_table("diabets")
