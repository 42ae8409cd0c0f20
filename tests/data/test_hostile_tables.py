"""Malformed and hostile tables: each is read rightly, or refused in one line of value, rule and remedy."""

from __future__ import annotations

import gzip
import io
import os
import random
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sadari.data.prepare import Prepared, prepare
from sadari.errors import SadariError

DRAW = np.random.default_rng(0)
ROWS = "".join(f"{row % 7},{row % 5 / 2},{'ab'[row % 2]}\n" for row in range(60))
GOOD = "p,q,y\n" + ROWS


def put(name: str, content: str | bytes) -> Path:
    path = Path(name)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def text(content: str | bytes, name: str = "rows.csv") -> Callable[[], Path]:
    return lambda: put(name, content)


def parquet(**columns: Any) -> Callable[[], Path]:
    def write() -> Path:
        pl.DataFrame(columns).write_parquet("rows.parquet")
        return Path("rows.parquet")

    return write


def zipped(name: str) -> Callable[[], Path]:
    def write() -> Path:
        with zipfile.ZipFile(name, "w") as archive:
            archive.writestr("rows.csv", GOOD)
        return Path(name)

    return write


def folder() -> Path:
    Path("rows.csv").mkdir()
    return Path("rows.csv")


def pipe() -> Path:
    os.mkfifo("rows.csv")
    return Path("rows.csv")


def dangling() -> Path:
    Path("rows.csv").symlink_to("gone.csv")
    return Path("rows.csv")


def cut_parquet() -> Path:
    content = parquet(x=list(range(100)), y=list(range(100)))().read_bytes()
    return put("rows.parquet", content[: len(content) // 2])


def loop() -> Path:
    Path("rows.csv").symlink_to("rows.csv")
    return Path("rows.csv")


WIDE = ",".join(f"x{place}" for place in range(10_000))

# What is refused: how to make it, how to ask for it, and what the one line says.
REFUSED: dict[str, tuple[Callable[[], object], dict[str, Any], str]] = {
    "empty file": (text(""), {}, r"rows\.csv is empty; a table needs a line of column names and rows"),
    "only spaces": (text("  \n \n"), {}, r"rows\.csv is empty"),
    "header only": (
        text("a,b,y\n"),
        {},
        "has a line of column names and no rows below it; a table needs rows",
    ),
    "header without its newline": (text("a,b,y"), {}, "has a line of column names and no rows below it"),
    "one column": (text("y\n1\n2\n3\n4\n"), {}, r"has one column \(y\); a table needs a target and a column"),
    "two rows": (
        text("a,y\n1,2\n3,5\n"),
        {},
        "has 2 rows with a target; 5 are the least, hundreds teach",
    ),
    "one class": (
        text("a,y\n" + "1,k\n2,k\n" * 3),
        {},
        r"target y is one class \('k' in all 6 rows\); choose another --target",
    ),
    "constant target": (
        text("a,y\n" + "1,5.5\n2,5.5\n" * 3),
        {},
        r"target y is constant \(5\.5 in all 6 rows\)",
    ),
    "target all missing": (
        text("a,y\n1,\n2,NA\n3,?\n"),
        {},
        "the target y has no value in 3 rows; choose another --target",
    ),
    "target mostly missing": (
        text("a,y\n1,1.5\n2,2.5\n3,\n4,\n"),
        {},
        "has 2 rows with a target; 5 are the least",
    ),
    "infinite target": (
        text("a,y\n1,1.5\n2,inf\n3,2\n"),
        {},
        r"the target y is infinite in row 2 \(inf\); mend the value",
    ),
    "target beyond float range": (
        text("a,y\n1,1.5\n2,1e999\n3,2\n"),
        {},
        r"the target y is infinite in row 2",
    ),
    "text target asked to regress": (
        text(GOOD),
        {"task": "regress"},
        r"the target y is no number in row 1 \('a'\)",
    ),
    "date target": (
        text("a,y\n1,2024-01-01\n2,2024-01-02\n3,2024-01-03\n"),
        {},
        "target y is Date, which no rung predicts",
    ),
    "unique text target": (
        text("a,y\n" + "".join(f"{row},n{row}\n" for row in range(50))),
        {},
        "50 classes in 50 rows, too many",
    ),
    "unknown target": (text(GOOD), {"target": "z"}, r"rows\.csv has no column 'z'; near it: p, q, y"),
    "unknown drop": (text(GOOD), {"drop": ["qq"]}, "has no column 'qq'; near it: q"),
    "target dropped": (text(GOOD), {"target": "y", "drop": ["y"]}, "'y' is both the target and in --drop"),
    "nothing but the target left": (text(GOOD), {"drop": ["p", "q"]}, r"has one column \(y\)"),
    "only constants left": (
        text("a,y\n" + "1,2\n1,3\n" * 20),
        {},
        "no column is left to predict y from .column `a` has the same",
    ),
    "NUL bytes": (text("a,y\n1,2\n3\0,4\n"), {}, r"rows\.csv has a NUL byte in line 3, so it is no text"),
    "a picture": (
        text(b"\x89PNG\r\n\x1a\n" + bytes(50)),
        {},
        r"rows\.csv is a picture; a table is CSV, TSV or Parquet",
    ),
    "random bytes": (text(random.Random(1).randbytes(5000)), {}, r"rows\.csv has a NUL byte in line \d+"),
    "random bytes without NUL": (
        text(random.Random(2).randbytes(5000).replace(b"\0", b"\xff")),
        {},
        "is neither UTF-8",
    ),
    "mixed encodings": (
        text("이름,y\n".encode() + "김,1\n".encode("cp949") + "é,2\n".encode("latin-1") + b"c,3\n"),
        {},
        r"rows\.csv is neither UTF-8 \(line 2\) nor CP949/EUC-KR \(line \d\); save it as UTF-8",
    ),
    "a letter cut off at the end": (
        text("a,y\n1,é".encode()[:-1] + b""),
        {},
        "is neither UTF-8 .line 2. nor CP949",
    ),
    "row too long": (
        text("a,y\n1,2\n3,4,5\n6,7\n"),
        {},
        "line 3 has 3 fields and the header 2; mend that line",
    ),
    "row too short": (text("a,b,y\n1,2,3\n4,5\n6,7,8\n"), {}, "line 3 has 2 fields and the header 3"),
    "row too short among quotes": (
        text('a,b,y\n"1\n2",2,3\n4,5\n'),
        {},
        "line 4 has 2 fields and the header 3",
    ),
    "unclosed quote": (text('a,y\n1,2\n"3,4\n5,6\n'), {}, r"line 3 opens a quote \(\"\) and never closes it"),
    "duplicate names": (
        text("a,b,a,y\n1,2,3,4\n"),
        {},
        "calls columns 1 and 3 'a' alike; give each column a name of its own",
    ),
    "names that differ by spaces": (text("a, a ,y\n1,2,3\n"), {}, "calls columns 1 and 2 'a' alike"),
    "no names": (
        text("5.1,3.5,0\n4.9,3.0,1\n"),
        {},
        r"begins with numbers \(5\.1, 3\.5, 0\); write a line of column names",
    ),
    "blank first line": (
        text("\na,y\n1,2\n"),
        {},
        "begins with a blank line; its first line must hold the names",
    ),
    "a folder": (folder, {}, r"rows\.csv is a folder; name one file: CSV, TSV or Parquet"),
    "a pipe": (pipe, {}, "is a pipe or a device, not a file; save the rows in a file first"),
    "a device": (lambda: "/dev/null", {}, "/dev/null is a pipe or a device, not a file"),
    "a link to nothing": (dangling, {}, r"rows\.csv links to gone\.csv, which is not there; mend the link"),
    "a link to itself": (loop, {}, r"rows\.csv"),
    "a path through a file": (
        lambda: str(text(GOOD)() / "x.csv"),
        {},
        r"'rows\.csv/x\.csv' is neither a file nor built-in",
    ),
    "a name of 5,000 letters": (
        lambda: "n" * 5000,
        {},
        r"n+ cannot be read \(File name too long\); check the path",
    ),
    "an empty path": (lambda: "", {}, "is a folder|is neither a file nor built-in data"),
    "a NUL in the path": (lambda: "rows\0.csv", {}, r"'rows\\x00\.csv' is neither a file nor built-in data"),
    "no such user": (
        lambda: "~nobody-at-all/rows.csv",
        {},
        "names a home folder that is not there; write the path in full",
    ),
    "no such file": (
        lambda: "absent.csv",
        {},
        r"'absent\.csv' is neither a file nor built-in data .built in: diabetes",
    ),
    "an address": (
        lambda: "https://example.org/rows.csv",
        {},
        "is an address; download the file first and name the copy",
    ),
    "a zip archive": (
        zipped("rows.zip"),
        {},
        r"rows\.zip is a zip archive or an Excel workbook; save the sheet as CSV",
    ),
    "a workbook": (
        zipped("rows.xlsx"),
        {},
        r"rows\.xlsx is a zip archive or an Excel workbook; save the sheet as CSV",
    ),
    "an old workbook": (
        text(b"\xd0\xcf\x11\xe0" + bytes(99), "rows.xls"),
        {},
        r"rows\.xls is an Excel workbook",
    ),
    "a PDF": (text(b"%PDF-1.7\n", "rows.pdf"), {}, r"rows\.pdf is a PDF"),
    "a gzip cut off": (
        text(gzip.compress(GOOD.encode())[:-12], "r.csv.gz"),
        {},
        r"r\.csv\.gz is a damaged gzip file",
    ),
    "a gzip with a wrong byte": (
        text(gzip.compress(b"a,y\n" + random.Random(0).randbytes(999))[:500] + bytes(500), "r.csv.gz"),
        {},
        "is a damaged gzip file .*; copy or download it again",
    ),
    "half a Parquet file": (
        cut_parquet,
        {},
        r"rows\.parquet is no readable Parquet file \(.*\); write it again",
    ),
    "text named Parquet": (text(GOOD, "rows.parquet"), {}, r"rows\.parquet is no readable Parquet file"),
    "Parquet without rows": (
        parquet(x=[], y=[]),
        {},
        r"rows\.parquet has 2 columns and 0 rows; a table needs both",
    ),
    "Parquet with lists as target": (
        parquet(x=[1, 2, 3], y=[[1], [2], [3]]),
        {},
        r"target y is List\(Int64\), which no rung",
    ),
    "a frame without rows": (
        lambda: pl.DataFrame({"x": [], "y": []}),
        {},
        "the frame has 2 columns and 0 rows",
    ),
    "10,000 names and short rows": (
        text(WIDE + "\n" + "1,2\n" * 3),
        {},
        "line 2 has 2 fields and the header 10000",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("memory", [2 << 30, 1], ids=["whole", "streamed"])
def test_refused_in_one_clear_line(case: str, memory: int) -> None:
    make, options, match = REFUSED[case]
    with pytest.raises(SadariError, match=match) as caught:
        prepare(make(), memory=memory, cache=Path("cache"), **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert "Traceback" not in message


def test_a_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = text(GOOD)()
    monkeypatch.setattr("builtins.open", refuse)  # root may read everything
    with pytest.raises(
        SadariError, match=r"rows\.csv may not be read \(permission denied\); change its rights or copy it"
    ):
        prepare(path)


def test_a_disk_that_fails_while_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    path = text(GOOD)()
    monkeypatch.setattr("builtins.open", fail)
    with pytest.raises(SadariError, match=r"rows\.csv cannot be read \(Input/output error\); check the path"):
        prepare(path)


def names(prepared: Prepared) -> set[str]:
    return {column.name for column in prepared.spec.columns}


def kinds(prepared: Prepared) -> dict[str, str]:
    return {column.name: column.kind for column in prepared.spec.columns}


def said(prepared: Prepared, kind: str) -> bool:
    return any(note.about["kind"] == kind for note in prepared.notes)


def lines(header: str, row: Callable[[int], str], count: int = 40) -> str:
    return header + "\n" + "".join(row(place) + "\n" for place in range(count))


# What is odd and yet a table: how to make it, and what must hold.
READ: dict[str, tuple[Callable[[], object], Callable[[Prepared], bool]]] = {
    "five rows": (text("a,y\n1,2.5\n2,3.5\n4,5.5\n5,6\n7,8\n"), lambda p: len(p.train.features) == 3),
    "a path with spaces and Hangul": (text(GOOD, "내 표 (1).csv"), lambda p: p.table.name == "내 표 (1).csv"),
    "Hangul names and values": (
        text(lines("이름,나이,지역", lambda r: f"{'가나다'[r % 3]},{r % 11},{'서울' if r % 2 else '부산'}")),
        lambda p: p.spec.classes == ("부산", "서울") and "이름=가" in p.spec.feature_names,
    ),
    "an unnamed row number": (
        text(lines(",x,y", lambda r: f"{r},{r % 7},{r % 5 / 2}")),
        lambda p: names(p) == {"x"},
    ),
    "a byte order mark": (text("\ufeff" + GOOD), lambda p: names(p) == {"p", "q"}),
    "quoted newlines": (
        text(lines("c,y", lambda r: f'"a\n{r % 2}",{r / 3}')),
        lambda p: "c=a\n1" in p.spec.feature_names,
    ),
    "a cell of a megabyte": (
        text(
            GOOD.replace("p,q,y\n", "p,q,y,w\n")
            .replace("a\n", "a,1\n")
            .replace("b\n", 'b,"' + "v" * (1 << 20) + '"\n', 1)
            .replace("b\n", "b,2\n")
        ),
        lambda p: len(p.train.features) == 36,
    ),
    "formulas": (
        text(lines("f,y", lambda r: f"=cmd|{r % 2}!A1,{r / 3}")),
        lambda p: kinds(p)["f"] == "category",
    ),
    "numbers beyond float range": (
        text(lines("x,z,y", lambda r: f"{'1e999' if r % 9 == 0 else r % 7},{r % 5},{r / 3}")),
        lambda p: said(p, "infinite") and bool(np.isfinite(p.train.features).all()),
    ),
    "whole numbers beyond 64 bits": (
        text(lines("x,y", lambda r: f"{10**25 + r % 3 * 10**24},{r / 3}")),
        lambda p: kinds(p)["x"] == "number",
    ),
    "dates mixed with text": (
        text(lines("d,y", lambda r: f"{'later' if r % 3 == 0 else '2024-01-0' + str(r % 3)},{r / 3}")),
        lambda p: kinds(p)["d"] == "category",
    ),
    "dates that do not exist": (
        text(lines("d,y", lambda r: f"2024-02-{28 + r % 4},{r / 3}")),
        lambda p: kinds(p)["d"] == "category",
    ),
    "a column of gaps": (
        text(lines("g,x,y", lambda r: f",{r % 7},{r / 3}")),
        lambda p: said(p, "empty") and names(p) == {"x"},
    ),
    "gaps in the last column": (
        text(lines("x,y", lambda r: f'"{r % 7}",{r / 3 if r % 5 else ""}')),
        lambda p: said(p, "no target"),
    ),
    "CR line ends": (text(GOOD.replace("\n", "\r")), lambda p: len(p.train.features) == 36),
    "blank lines everywhere": (
        text(GOOD.replace("\n", "\n\n")),
        lambda p: len(p.train.features) == 36 and said(p, "no target"),
    ),
    "semicolons and decimal commas": (
        text(lines("x;y", lambda r: f"{r % 7},5;{r},25")),
        lambda p: kinds(p)["x"] == "number" and p.task == "regress",
    ),
    "CP949": (
        text(lines("값,종류", lambda r: f"{r % 7},{'예' if r % 2 else '아니오'}").encode("cp949")),
        lambda p: p.spec.classes == ("아니오", "예"),
    ),
    "lists and structs": (
        parquet(x=list(range(9)), l=[[1, 2]] * 9, s=[{"a": 1}] * 9, y=[row / 3 for row in range(9)]),
        lambda p: names(p) == {"x"} and said(p, "unreadable"),
    ),
    "decimals": (
        parquet(x=[Decimal(row % 5) / 4 for row in range(9)], y=[row / 3 for row in range(9)]),
        lambda p: kinds(p) == {"x": "number"},
    ),
    "decimal target": (
        parquet(x=[row % 5 for row in range(9)], y=[Decimal(row) / 4 for row in range(9)]),
        lambda p: p.task == "regress",
    ),
    "durations and times of day": (
        parquet(
            d=[timedelta(hours=row * row) for row in range(9)],
            t=[time(row * row % 24) for row in range(9)],
            y=[row / 3 for row in range(9)],
        ),
        lambda p: kinds(p) == {"d": "number", "t": "number"},
    ),
    "moments with a zone": (
        parquet(
            t=[datetime(2024, 1, 1, row, tzinfo=UTC) for row in (5, 1, 9, 3, 2, 8, 6)],
            y=[row / 3 for row in range(7)],
        ),
        lambda p: "t: day sin" in p.spec.feature_names,
    ),
    "dates before 1970": (
        parquet(d=[date(1600 + row * row, 1, 1) for row in range(9)], y=[row / 3 for row in range(9)]),
        lambda p: kinds(p) == {"d": "date"},
    ),
    "raw bytes": (
        parquet(b=[b"\xff"] * 9, x=[row % 5 for row in range(9)], y=[row / 3 for row in range(9)]),
        lambda p: names(p) == {"x"},
    ),
    "NaN and infinity": (
        parquet(
            x=[float("nan"), float("inf"), -float("inf"), *map(float, range(30))],
            z=[row % 5 for row in range(33)],
            y=[row / 3 for row in range(33)],
        ),
        lambda p: bool(np.isfinite(p.test.features).all()),
    ),
    "values at the end of float64": (
        parquet(x=[1.7e308, -1.7e308, 5e-324, *map(float, range(30))], y=[row / 3 for row in range(33)]),
        lambda p: bool(np.isfinite(p.train.features).all()),
    ),
    "a Parquet file with another name": (
        lambda: Path(parquet(x=[row % 5 for row in range(9)], y=[row / 3 for row in range(9)])()).rename(
            "rows.csv"
        ),
        lambda p: kinds(p) == {"x": "number"},
    ),
    "a gzip inside a gzip's name only": (text(GOOD, "rows.csv.gz"), lambda p: names(p) == {"p", "q"}),
    "a name of two thousand letters": (
        text(GOOD.replace("p,q", "p" * 2000 + ",q")),
        lambda p: "p" * 2000 in names(p),
    ),
    "names that look like features": (
        text(lines("c,c=a,y", lambda r: f"{'ab'[r % 2]},{r % 3},{r / 3}")),
        lambda p: p.train.features.shape[1] == 3,
    ),
    "a header quoted over two lines": (
        text(lines('"a\nb",y', lambda r: f"{r % 7},{r / 3}")),
        lambda p: names(p) == {"a\nb"},
    ),
    "right-to-left and emoji": (
        text(lines("🙂,y", lambda r: f"{'אב'[r % 2]},{r / 3}")),
        lambda p: "🙂=א" in p.spec.feature_names,
    ),
}


@pytest.mark.parametrize("case", READ)
@pytest.mark.parametrize("memory", [2 << 30, 1], ids=["whole", "streamed"])
def test_read_all_the_same(case: str, memory: int) -> None:
    make, holds = READ[case]
    prepared = prepare(make(), memory=memory, cache=Path("cache"))  # type: ignore[arg-type]
    assert holds(prepared), (kinds(prepared), [note.english for note in prepared.notes])


def test_ten_thousand_columns() -> None:
    numbers = "".join(
        ",".join(f"{value:.3f}" for value in DRAW.normal(size=10_001)) + "\n" for _ in range(12)
    )
    prepared = prepare(put("rows.csv", f"{WIDE},y\n{numbers}"))
    assert prepared.spec.width == 10_000
    assert [note.about["kind"] for note in prepared.notes] == ["wide"]


def test_there_are_at_least_forty() -> None:
    assert len(REFUSED) >= 40
    assert len(READ) >= 25


def test_a_frame_of_objects_is_no_table() -> None:
    frame = pl.DataFrame(
        {
            "o": pl.Series([io.StringIO() for _ in range(9)], dtype=pl.Object),
            "x": [row % 4 for row in range(9)],
            "y": range(9),
        }
    )
    assert names(prepare(frame, task="regress")) == {"x"}
