"""Pairs from any source: which two columns, which lines belong together, and a rule for whatever is odd."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sadari.data.kinds import recognise
from sadari.data.pairs import open_pairs
from sadari.data.table import Table, open_table
from sadari.errors import SadariError

ROWS = [("Turn on the light", "불을 켜세요"), ("Turn it off", "끄세요"), ("Open the door", "문을 여세요")]


def write(path: str, content: bytes | str) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def rows(table: Table) -> list[tuple[Any, ...]]:
    return table.frame.collect().rows()


def kinds(table: Table) -> list[str]:
    return [note.about["kind"] for note in table.notes]


def lines(pairs: list[tuple[str, str]], separator: str = "\t") -> str:
    return "".join(separator.join(pair) + "\n" for pair in pairs)


def frame(**columns: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(columns)


# The same pairs from every form.


def test_every_form_gives_the_same_pairs() -> None:
    named = pl.DataFrame(ROWS, schema=["en", "ko"], orient="row")
    named.write_csv("a.csv")
    named.write_csv("a.tsv", separator="\t")
    named.write_parquet("a.parquet")
    write("a.csv.gz", gzip.compress(Path("a.csv").read_bytes(), mtime=0))
    write("a.jsonl", "".join(json.dumps(dict(zip(("en", "ko"), row, strict=True))) + "\n" for row in ROWS))
    write("both/train.en", "".join(one + "\n" for one, _ in ROWS))
    write("both/train.ko", "\r\n".join(other for _, other in ROWS))
    sources: list[Any] = [
        named,
        open_table(named),
        "a.csv",
        "a.tsv",
        "a.parquet",
        "a.csv.gz",
        "a.jsonl",
        Path("both"),
    ]
    found = [open_pairs(source) for source in sources]
    for table in found:
        assert rows(table) == ROWS and list(table.schema) == ["en", "ko"]
        assert (table.task, table.target, table.rows, table.streamed) == ("translate", "ko", 3, False)
    assert len({table.fingerprint for table in found}) == 1
    for source in sources:
        assert rows(open_pairs(source, target="en")) == [pair[::-1] for pair in ROWS]
        assert rows(open_pairs(source, text="ko")) == [pair[::-1] for pair in ROWS]


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.tab", "a.tsv.gz"])
def test_two_fields_a_line_need_no_header(name: str) -> None:
    content = lines(ROWS).encode()
    table = open_pairs(write(name, gzip.compress(content, mtime=0) if name.endswith(".gz") else content))
    assert rows(table) == ROWS and list(table.schema) == ["source", "target"]
    assert rows(open_pairs(name, target="source")) == [pair[::-1] for pair in ROWS]


def test_a_first_line_of_usual_or_asked_names_is_a_header() -> None:
    for names in ("en\tko", "question\tanswer", "source\ttarget", "en_US\tko-KR"):
        table = open_pairs(write("a.tsv", names + "\n" + lines(ROWS)))
        assert list(table.schema) == names.split("\t") and rows(table) == ROWS
    table = open_pairs(write("a.tsv", "Satz\tSentence\n" + lines(ROWS)), target="Satz")
    assert list(table.schema) == ["Sentence", "Satz"] and rows(table) == [pair[::-1] for pair in ROWS]


def test_digits_and_dates_stay_as_they_are_written() -> None:
    written = [("007", "2021-03-05"), ("1.50", "2021-03-06"), ("12", "true")]
    assert rows(open_pairs(write("a.csv", "a,b\n" + lines(written, ",")))) == written
    assert rows(open_pairs(frame(a=["1+1", "2+3"], b=[2, 5]))) == [("1+1", "2"), ("2+3", "5")]


# Which columns.


def test_columns_are_found_by_names_by_type_or_by_free_text() -> None:
    long = [f"this is a longer sentence of number {place}" for place in range(20)]
    other = [f"이것은 조금 더 긴 {place}번째 문장입니다" for place in range(20)]
    numbers, keys = list(range(20)), ["k"] * 20
    assert list(open_pairs(frame(target=long, n=numbers, source=other, k=keys)).schema) == [
        "source",
        "target",
    ]
    assert list(open_pairs(frame(n=numbers, a=long, b=other)).schema) == ["a", "b"]
    assert list(open_pairs(frame(k=keys, a=long, m=keys, b=other)).schema) == ["a", "b"]
    assert list(open_pairs(frame(k=keys, a=long, b=other), text="k", target="a").schema) == ["k", "a"]
    assert list(open_pairs(frame(k=keys, a=long, b=other), target="a").schema) == ["b", "a"]


def test_a_group_is_kept_and_is_no_side() -> None:
    table = open_pairs(frame(group=[1, 1, 2], en=["a", "b", "c"], ko=["가", "나", "다"]))
    assert list(table.schema) == ["en", "ko", "group"] and kinds(table) == ["group"]


def test_unclear_columns_are_one_clear_error() -> None:
    many = frame(a=["x", "y"], b=["x", "y"], c=["x", "y"])
    with pytest.raises(
        SadariError, match=r"has 3 columns, and which two are a pair is not clear \(a, b, c\); name"
    ):
        open_pairs(many)
    with pytest.raises(SadariError, match=r"which two are a pair is not clear"):
        open_pairs(many, target="a")
    with pytest.raises(
        SadariError, match=r"the frame has one column \(a\); pairs need a source and a target"
    ):
        open_pairs(many[["a"]])
    with pytest.raises(SadariError, match=r"has no column 'd'; near it: a, b, c"):
        open_pairs(many, text="d")
    with pytest.raises(SadariError, match=r"'a' is both the source and the target; choose another --target"):
        open_pairs(many, text="a", target="a")
    with pytest.raises(
        SadariError, match=r"column b is List\(Int64\), no text; name another: --text or --target"
    ):
        open_pairs(frame(a=["x"], b=[[1]]))
    with pytest.raises(SadariError, match=r"a.tsv has no column 'ko'; near it: source, target"):
        open_pairs(write("a.tsv", lines(ROWS)), target="ko")


# Odd lines.


def test_quotes_are_letters_unless_they_hold_a_tab() -> None:
    content = '"Who?"\t"누구?"\nHe said "no\t싫다\n"one\tfield"\t"한 ""칸"""\n'
    expected = [('"Who?"', '"누구?"'), ('He said "no', "싫다"), ("one\tfield", '한 "칸"')]
    assert rows(open_pairs(write("a.tsv", content))) == expected
    table = open_pairs(write("b.tsv", 'en\tko\n"one\tfield"\t"한\t칸"\n"two\nlines"\t두 줄\n'))
    assert rows(table) == [("one\tfield", "한\t칸"), ("two\nlines", "두 줄")]


def test_lines_of_other_than_two_fields_are_counted_or_refused() -> None:
    table = open_pairs(write("a.tsv", lines(ROWS) + "three\tfields\there\n\nalone\n"))
    assert rows(table) == ROWS and kinds(table) == ["fields"]
    assert (
        "2 lines of a.tsv have not two fields and are left out (the first: line 4)" in table.notes[0].english
    )
    assert "2줄은 칸이 둘이 아니어서" in table.notes[0].korean
    with pytest.raises(
        SadariError, match=r"2 of 3 lines have not two fields \(the first: line 2 has 1\); write"
    ):
        open_pairs(write("a.tsv", "a b\tc d\nalone\nalone\n"))
    with pytest.raises(
        SadariError, match=r"a.txt holds text, not pairs; put a tab between source and target"
    ):
        open_pairs(write("a.txt", "just\nlines\n"))


LICENCE = "CC-BY 2.0 (France) Attribution: tatoeba.org #{} (CM)"
FORMS = {  # lines as they are handed round, and the two columns that are read
    "a licence behind": ([(*row, LICENCE.format(k)) for k, row in enumerate(ROWS)], 3, (1, 2)),
    "the same licence": ([(*row, "CC-BY") for row in ROWS], 3, (1, 2)),
    "numbers of sentences": (
        [(str(k), one, str(k + 9), two) for k, (one, two) in enumerate(ROWS)],
        4,
        (2, 4),
    ),
    "a score before": ([("1.25", *ROWS[0]), ("1.19", *ROWS[1]), ("1.0", *ROWS[2])], 3, (2, 3)),
    "sentences of two": ([("Go.", "가.", "x", "y"), ("No.", "아니.", "z", "w")], 4, (1, 2)),
}


@pytest.mark.parametrize("name", ["a.tsv", "a.txt"])
@pytest.mark.parametrize("form", FORMS)
def test_more_fields_without_a_header_are_read_as_two_columns_of_text(form: str, name: str) -> None:
    found, width, (one, other) = FORMS[form]
    table = open_pairs(write(name, lines(found)))
    assert rows(table) == [(row[one - 1], row[other - 1]) for row in found]
    assert list(table.schema) == ["source", "target"]
    (note,) = table.notes
    assert note.about == {"kind": "headless", "name": name, "width": width, "one": one, "other": other}
    assert f"of its {width} columns, {one} and {other} are read as source and target" in note.english
    assert f"열 {width}개 가운데 {one}번째를 원문으로, {other}번째를 번역으로" in note.korean


def test_more_columns_with_names_stay_a_table() -> None:
    long = [f"this is a longer sentence of number {place}" for place in range(20)]
    other = [f"이것은 조금 더 긴 {place}번째 문장입니다" for place in range(20)]
    below = lines([*zip(long, other, ["CC-BY"] * 20, strict=True)])
    for names in ("English\tKorean\tlicence", "en\tko\tCC-BY", "Is it English?\tKorean\tlicence"):
        asked = {"text": "Is it English?"} if "?" in names else {}
        table = open_pairs(write("a.tsv", f"{names}\n{below}"), **asked)
        assert list(table.schema) == names.split("\t")[:2] and table.rows == 20 and not table.notes


def test_lines_of_many_fields_may_lack_the_last_and_other_lines_are_counted() -> None:
    full = lines([(*row, "CC-BY") for row in ROWS])
    table = open_pairs(write("a.tsv", full + "no licence\t없음\nalone\na\tb\tc\td\n"))
    assert rows(table) == [*ROWS, ("no licence", "없음")] and kinds(table) == ["headless", "ragged"]
    assert (
        "2 lines of a.tsv have not 2-3 fields and are left out (the first: line 5)" in table.notes[1].english
    )
    assert "2줄은 칸이 2-3개가 아니어서" in table.notes[1].korean
    quoted = open_pairs(write("a.tsv", full + '"one\tfield"\t한 칸\tCC-BY\n'))
    assert rows(quoted)[-1] == ("one\tfield", "한 칸")
    with pytest.raises(
        SadariError, match=r"3 of 4 lines have not 2-3 fields \(the first: line 2 has 1\); write"
    ):
        open_pairs(write("a.tsv", "Go.\t가.\tCC-BY\n" + "alone\n" * 3))
    with pytest.raises(SadariError, match=r"a.tsv has no line of column names, and 1 of its 3 columns hold"):
        open_pairs(write("a.tsv", "1\tGo.\t2\n2\tStop.\t3\n"))


def test_a_csv_that_begins_with_a_pair_is_refused() -> None:
    content = lines([(f"{one}.", f"{other}.", "CC-BY") for one, other in ROWS], ",")
    message = (
        r"a.csv begins with values \('Turn on the light\.', '불을 켜세요\.', 'CC-BY'\), not with the names "
        r"of its 3 columns; write a line of names above"
    )
    with pytest.raises(SadariError, match=message):
        open_pairs(write("a.csv", content))
    named = open_pairs(write("a.csv", "Is it so?,No.,note\n" + content), text="Is it so?", target="No.")
    assert named.rows == 3 and list(named.schema) == ["Is it so?", "No."]


def test_no_value_is_an_empty_side() -> None:
    assert rows(open_pairs(write("a.tsv", "\t한쪽만\nonly one\t\n  both \t 둘 \n"))) == [
        ("", "한쪽만"),
        ("only one", ""),
        ("both", "둘"),
    ]
    assert rows(open_pairs(frame(a=["x", None], b=[None, "y"]))) == [("x", ""), ("", "y")]
    table = open_pairs(write("a.jsonl", '{"a": "x"}\n{"a": "z", "b": "y"}\n{"a": ["x"], "b": 3}\nno\n'))
    assert rows(table) == [("x", ""), ("z", "y"), ("", "3")] and kinds(table) == ["no object"]


def test_every_encoding_reads_the_same() -> None:
    text = lines(ROWS)
    for content in (
        ("\ufeff" + text).encode(),
        text.encode("utf-16"),
        text.encode("cp949"),
        unicodedata.normalize("NFD", text).encode(),
        text.replace("\n", "\r\n").encode(),
        text.replace("\n", "\r").encode(),
    ):
        assert rows(open_pairs(write("a.tsv", content))) == ROWS


def test_broken_bytes_are_said_when_few_and_refused_when_many() -> None:
    many = lines(ROWS * 40).encode()
    table = open_pairs(write("a.tsv", many + b"bad \xff\xed\tbyte\n"))
    assert kinds(table) == ["broken"] and rows(table)[-1][0].startswith("bad �")
    with pytest.raises(SadariError, match=r"a.tsv is neither UTF-8 nor CP949/EUC-KR .* save it as UTF-8"):
        open_pairs(write("a.tsv", b"\xff\xff\xff\xff\tx\n"))
    with pytest.raises(SadariError, match=r"a.csv is neither UTF-8 \(line 2\) nor CP949/EUC-KR"):
        open_pairs(write("a.csv", b"en,ko\n\xff\xff,x\n"))
    with pytest.raises(SadariError, match=r"a.tsv has a NUL byte in line 1, so it is no text"):
        open_pairs(write("a.tsv", b"a\0\tb\n"))
    with pytest.raises(SadariError, match=r"b/t.ko is neither UTF-8 nor CP949"):
        write("b/t.en", "a\n")
        open_pairs(write("b/t.ko", b"\xff\xff\xff\n").parent)


def test_a_side_of_any_length_is_read() -> None:
    long = "낱말 " * 40_000 + "끝"
    assert rows(open_pairs(write("a.tsv", f"{long}\tend\n" * 2)))[1] == (long, "end")
    write("b/t.en", "x" * 200_000 + "\nshort")
    write("b/t.ko", f"{long}\n짧다")
    assert rows(open_pairs("b")) == [("x" * 200_000, long), ("short", "짧다")]


# Two files.


def test_only_an_end_of_line_ends_a_line() -> None:
    write("b/t.en", "one\u2028still one\x0b\x85\n\nthree\n")
    write("b/t.ko", "하나\n둘\n셋")
    assert rows(open_pairs("b"))[0] == ("one\u2028still one", "하나")
    assert rows(open_pairs("b"))[1:] == [("", "둘"), ("three", "셋")]


def test_uneven_files_are_refused_with_both_counts() -> None:
    write("b/t.en", "one\ntwo\n")
    write("b/t.ko", "하나\n둘\n셋\n")
    with pytest.raises(
        SadariError, match=r"t.en has 2 lines and t.ko 3; line n of one must belong to line n"
    ):
        open_pairs("b")


def test_a_folder_holds_one_pair_of_languages() -> None:
    write("b/README.md", "about")
    with pytest.raises(
        SadariError, match=r"b has no files of aligned lines; call them after their languages"
    ):
        open_pairs("b")
    write("b/t.en", "one\n")
    with pytest.raises(
        SadariError, match=r"b has t.en and no other language of it; put the file of the other"
    ):
        open_pairs("b")
    write("b/t.ko", "하나\n")
    write("b/t.de", "eins\n")
    with pytest.raises(
        SadariError, match=r"b has 3 sides, and which two are a pair is not clear \(de, en, ko\)"
    ):
        open_pairs("b")
    with pytest.raises(SadariError, match=r"b has no side 'fr'; near it: de, en, ko"):
        open_pairs("b", text="fr")
    assert rows(open_pairs("b", text="ko", target="de")) == [("하나", "eins")]
    write("b/test.en", "one\n")
    write("b/test.ko", "하나\n")
    with pytest.raises(SadariError, match=r"b has pairs of t, test; put the two files of one in a folder"):
        open_pairs("b")


# What is taken for pairs.


def test_pairs_are_recognised() -> None:
    free = [
        (f"this is a sentence of some length, number {k}", f"이것은 조금 긴 {k}번째 문장입니다, 네")
        for k in range(9)
    ]
    table = pl.DataFrame(free, schema=["a", "b"], orient="row")
    assert recognise(table)[1:] == ("pairs", "translate")
    assert recognise(table, reading={"tokenizer": "words"})[1:] == ("pairs", "translate")
    assert recognise(table, task="classify")[1] == "text" and recognise(table, target="b")[1] == "text"
    assert recognise(table, kind="table")[1] == "table"
    assert recognise("any.csv", task="translate")[1:] == ("pairs", "translate")
    assert recognise("any.csv", kind="pairs")[1:] == ("pairs", "translate")
    for name in ("toy-reverse", "toy-sums", "toy-dates", "homeassistant", "help-pairs", "wiki-summaries"):
        assert recognise(name)[1:] == ("pairs", "translate")
    opened = open_table("toy-sums")
    assert recognise(opened)[1] == recognise(open_pairs(opened), target="sum")[1] == "pairs"
    write("b/t.en", "one\n")
    write("b/t.ko", "하나\n")
    assert recognise("b")[1:] == ("pairs", "translate")
