"""Texts from hostile sources: a clear rule for each, said aloud or refused in one line."""

from __future__ import annotations

import gzip
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sadari.data import text_files
from sadari.data.table import open_table
from sadari.data.text import open_corpus, open_texts, text_column
from sadari.errors import SadariError


def kinds(notes: object) -> list[str]:
    return [note.about["kind"] for note in notes]  # type: ignore[attr-defined]


def write(path: str, content: bytes | str) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def jsonl(path: str, *rows: object) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def texts(corpus_source: object, **options: object) -> list[str]:
    return list(open_corpus(corpus_source, **options).documents())  # type: ignore[arg-type]


# Files of text.


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("첫 줄\n둘째 줄".encode(), "utf-8-sig"),
        ("\ufeff첫 줄\r\n둘째 줄\r\n".encode(), "utf-8-sig"),
        ("첫 줄\r둘째 줄".encode(), "utf-8-sig"),
        ("첫 줄\n둘째 줄".encode("utf-16"), "utf-16"),
        ("첫 줄\r\n둘째 줄\n".encode("cp949"), "cp949"),
        (unicodedata.normalize("NFD", "첫 줄\n둘째 줄").encode(), "utf-8-sig"),
        (gzip.compress("첫 줄\n둘째 줄".encode(), mtime=0), "utf-8-sig"),
    ],
)
def test_every_encoding_reads_the_same(content: bytes, encoding: str) -> None:
    path = write("a.txt", content)
    assert text_files.look(path).encoding == encoding
    corpus, plain = open_corpus(path), open_corpus(write("b.txt", "첫 줄\n둘째 줄"))
    assert list(corpus.documents()) == ["첫 줄", "둘째 줄"]
    assert corpus.fingerprint == plain.fingerprint and corpus.bytes == plain.bytes == len(
        "첫 줄둘째 줄".encode()
    )


def test_blocks_cut_through_letters_and_line_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    content = "가나 다\r\n\r\n라마\r\n바사\r\n\r\n끝 é".encode()
    for size in range(1, 12):
        monkeypatch.setattr(text_files, "_BLOCK", size)
        assert texts(write("a.txt", content)) == ["가나 다", "라마\n바사", "끝 é"], size


def test_a_few_broken_bytes_are_read_as_such_and_said() -> None:
    corpus = open_corpus(write("a.txt", "좋은 글입니다\n".encode() * 300 + b"broken \xff here\nmore"))
    assert list(corpus.documents())[300:] == ["broken � here", "more"]
    assert kinds(corpus.notes) == ["broken"] and "1 places of a.txt are no UTF-8" in corpus.notes[0].english


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(
        SadariError, match=r"a.txt has a NUL byte in line 2, so it is no text; give a text file"
    ):
        open_corpus(write("a.txt", b"ok\nbad\0"))
    with pytest.raises(
        SadariError, match=r"a.txt is neither UTF-8 nor CP949/EUC-KR \(\d+ of its 600 bytes are no text"
    ):
        open_corpus(write("a.txt", bytes([0xFF, 0xFE - 1, 0x20]) * 200))
    with pytest.raises(SadariError, match=r"a.txt is a damaged gzip file"):
        open_corpus(write("a.txt", gzip.compress(b"text" * 99, mtime=0)[:-9]))
    with pytest.raises(
        SadariError, match=r"a.txt holds no text \(0 rows without any\); give a source with text"
    ):
        open_corpus(write("a.txt", b""))
    with pytest.raises(SadariError, match=r"a.txt holds no text"):
        open_corpus(write("a.txt", b"\n \n\t\n"))
    with pytest.raises(SadariError, match=r"none.txt' is neither a file nor built-in data"):
        open_corpus("none.txt")


# Corpora.


def test_empty_lines_part_documents_and_else_lines_do() -> None:
    assert texts(write("a.txt", "one\nstill one\n\ntwo\n\n\nthree\n")) == ["one\nstill one", "two", "three"]
    assert texts(write("a.txt", "one\ntwo\nthree\n\n")) == ["one", "two", "three"]


def test_a_single_file_is_split_by_stretches() -> None:
    corpus = open_corpus(write("a.txt", "".join(f"line number {place}\n" for place in range(1000))))
    assert corpus.rows == 1000 and len(np.unique(corpus.groups)) == 100
    assert (np.diff(corpus.groups) >= 0).all()


def test_a_megabyte_without_a_line_is_cut_at_white_space() -> None:
    words = [f"word{place}" for place in range(120_000)]
    corpus = open_corpus(write("a.txt", " ".join(words)))
    documents = list(corpus.documents())
    assert corpus.rows > 100 and max(map(len, documents)) <= 20_000
    assert " ".join(documents).split() == words
    assert kinds(corpus.notes) == ["cut"] and corpus.notes[0].about["count"] == corpus.rows - 1
    unbroken = open_corpus(write("a.txt", "가" * 300_000))
    assert "".join(unbroken.documents()) == "가" * 300_000 and unbroken.rows > 30


def test_a_folder_is_split_by_file_and_follows_no_link() -> None:
    write("outside/secret.txt", "not to be read")
    write("in/a.txt", "one\ntwo")
    write("in/deep/b.md", "three")
    write("in/copy.txt", "one\ntwo")
    write("in/.hidden.txt", "hidden")
    write("in/picture.png", b"\x89PNG")
    write("in/binary.txt", b"\0\1")
    Path("in/link.txt").symlink_to(Path("outside/secret.txt").resolve())
    Path("in/folder").symlink_to(Path("outside").resolve())
    Path("in/circle").symlink_to(Path("in").resolve())
    corpus = open_corpus("in")
    assert list(corpus.documents()) == ["one", "two", "one", "two", "three"]
    assert corpus.groups[0] == corpus.groups[1] == corpus.groups[2] != corpus.groups[4], (
        "a copy stays with its file"
    )
    assert kinds(corpus.notes) == ["no text", "links", "others"]
    assert [note.about["count"] for note in corpus.notes] == [1, 3, 2]
    assert corpus.name == "in" and Path(corpus.source).is_absolute()
    with pytest.raises(
        SadariError, match=r"empty has no text files \(.txt .text .md\); name a folder that has"
    ):
        Path("empty").mkdir()
        open_corpus("empty")


def test_a_folder_of_more_than_a_million_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_MOST_FILES", 3)
    for place in range(4):
        write(f"in/{place}.txt", "text")
    with pytest.raises(SadariError, match="in holds more than 3 files; name a smaller folder"):
        open_corpus("in")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_closed_folder_is_named() -> None:
    write("in/closed/a.txt", "text").parent.chmod(0)
    with pytest.raises(SadariError, match="closed cannot be read"):
        open_corpus("in")


def test_rows_of_a_column_are_documents_and_repeats_stay_together() -> None:
    pl.DataFrame({"id": [1, 2, 3, 4], "text": ["one two", "", "one two", None]}).write_parquet("a.parquet")
    corpus = open_corpus("a.parquet")
    assert list(corpus.documents()) == ["one two", "one two"] and corpus.groups[0] == corpus.groups[1]
    assert kinds(corpus.notes) == ["no string", "no document"]
    grouped = open_corpus(pl.DataFrame({"text": ["a", "b", "c"], "group": ["x", "y", "x"]}))
    assert grouped.groups[0] == grouped.groups[2] != grouped.groups[1]
    with pytest.raises(SadariError, match=r"a.parquet has no column 'txt'; near it: text"):
        open_corpus("a.parquet", text="txt")
    with pytest.raises(SadariError, match=r"has no column of text \(x\); name one with --text"):
        open_corpus(pl.DataFrame({"x": [1, 2]}))


def test_a_jsonl_corpus_and_a_list_read_the_same() -> None:
    path = jsonl(
        "a.jsonl", {"body": "one", "n": 1}, {"body": "two \0three"}, {"body": 5}, {"n": 2}, {"body": ""}
    )
    corpus = open_corpus(path)
    assert list(corpus.documents()) == ["one", "two three"]
    assert kinds(corpus.notes) == ["no string", "no document"] and corpus.notes[0].about["count"] == 2
    assert corpus.fingerprint == open_corpus(["one", "two three"]).fingerprint
    folder = Path("shards")
    jsonl("shards/a.jsonl", {"text": "one"})
    jsonl("shards/b.jsonl", {"text": "two"}, {"text": "three"})
    assert texts(folder) == ["one", "two", "three"]


def test_a_corpus_is_streamed_when_it_is_large() -> None:
    path = write("a.txt", "text and more text\n" * 100)
    assert open_corpus(path, memory=1000).streamed and not open_corpus(path).streamed


# Labelled texts.


def test_a_folder_for_each_class() -> None:
    for label in ("긍정", "부정"):
        for place in range(3):
            write(f"data/{label}/{place}.txt", f"글 {label} {place}\n")
    write("data/부정/deep/more.txt", "더 깊은 글".encode("cp949"))
    write("data/README.txt", "about")
    write("data/부정/broken.txt", b"\0")
    table = open_texts("data")
    frame = table.frame.collect()
    assert frame.columns == ["text", "label"] and table.target == "label" and table.task == "classify"
    assert frame["label"].value_counts(sort=True).rows() == [("부정", 4), ("긍정", 3)]
    assert "글 긍정 0" in frame["text"] and "더 깊은 글" in frame["text"]
    assert kinds(table.notes) == ["cp949", "no text", "outside"]
    decomposed = Path(unicodedata.normalize("NFD", "nfd"))
    for label in ("긍정", "부정"):
        write(
            f"{decomposed}/{unicodedata.normalize('NFD', label)}/a.txt",
            unicodedata.normalize("NFD", f"글 {label}"),
        )
    assert open_texts("nfd").frame.collect().rows() == [("글 긍정", "긍정"), ("글 부정", "부정")]


def test_folders_that_are_no_classes_are_refused() -> None:
    write("one/only/a.txt", "text")
    with pytest.raises(
        SadariError, match=r"one has 1 folders of texts \(only\); put the .txt files of each class"
    ):
        open_texts("one")
    write("parts/train/pos/a.txt", "text")
    write("parts/test/pos/a.txt", "text")
    with pytest.raises(
        SadariError, match="has the folders test, train, which are parts of a data set, not classes"
    ):
        open_texts("parts")


def test_hostile_jsonl() -> None:
    path = write(
        "a.jsonl",
        '\ufeff{"text": "half \\ud83d pair", "label": 1}\n'
        '{"text": "whole \\ud83d\\ude00 pair", "label": true}\n'
        "\n"
        "[1, 2]\n"
        "not json\n"
        '{"text": ["a", "list"], "label": "x"}\n'
        '{"text": 5, "label": "x"}\n'
        '{"label": "x"}\n'
        '{"text": "no label"}\n'
        '{"text": "odd label", "label": {"a": 1}}\n'
        '{"text": "", "label": 2.0}\n'
        '{"text": "nul \\u0000 byte", "label": "2"}\n'
        '{"text": "last", "label": " 가 "}',
    )
    table = open_texts(path)
    rows = table.frame.collect().rows()
    assert rows == [
        ("half � pair", "1"),
        ("whole 😀 pair", "true"),
        ("no label", None),
        ("odd label", None),
        ("", "2"),
        ("nul  byte", "2"),
        ("last", "가"),
    ]
    assert kinds(table.notes) == ["no object", "no string", "no label", "empty"]
    assert [note.about["count"] for note in table.notes] == [2, 3, 1, 1]
    assert "line 4" in table.notes[0].english


def test_jsonl_that_is_none_is_refused() -> None:
    with pytest.raises(
        SadariError, match=r"2 of 3 lines are no JSON objects \(the first: line 1\); write one object"
    ):
        open_texts(write("a.jsonl", 'x\ny\n{"text": "a", "label": "b"}\n'))
    with pytest.raises(SadariError, match=r"a.jsonl is empty; write one JSON object a line"):
        open_texts(write("a.jsonl", ""))
    with pytest.raises(
        SadariError, match=r"a.jsonl has no key whose values are texts \(n\); name one with --text"
    ):
        open_texts(jsonl("a.jsonl", {"n": 1}))
    with pytest.raises(SadariError, match="2 of 3 rows have no text in text; name another with --text"):
        open_texts(
            jsonl("a.jsonl", {"text": "a", "label": 1}, {"text": 2, "label": 1}, {"text": 3, "label": 2})
        )
    with pytest.raises(
        SadariError, match=r"has texts \(text\) and no labels; add a column of them, or use --task"
    ):
        open_texts(jsonl("a.jsonl", {"text": "a"}))


def test_keys_are_found_and_named() -> None:
    path = jsonl("a.jsonl", {"id": "k", "review": "words and words", "stars": 3, "topic": "film"})
    assert open_texts(path).frame.collect().rows() == [("words and words", "film")]
    assert open_texts(path, target="stars").frame.collect().rows() == [("words and words", "3")]
    assert open_texts(path, text="id", target="stars").frame.collect().rows() == [("k", "3")]
    with pytest.raises(SadariError, match=r"a.jsonl has no column 'star'; near it: stars"):
        open_texts(path, target="star")
    with pytest.raises(SadariError, match="'topic' is both the text and the target"):
        open_texts(path, text="topic", target="topic")


def test_csv_and_parquet_give_the_same_table() -> None:
    frame = pl.DataFrame({"본문": ["첫 글, 쉼표", "둘째 글\n두 줄", "12345"], "라벨": [1, 2, 1]})
    frame.write_csv("a.csv")
    frame.write_parquet("a.parquet")
    one, other = open_texts("a.csv"), open_texts("a.parquet")
    assert one.fingerprint == other.fingerprint and one.target == "라벨"
    assert one.frame.collect().rows() == [("첫 글, 쉼표", "1"), ("둘째 글\n두 줄", "2"), ("12345", "1")]
    apart = frame.with_columns(
        pl.col("본문").map_elements(lambda t: unicodedata.normalize("NFD", t), pl.String)
    )
    assert open_texts(apart).fingerprint == one.fingerprint
    with pytest.raises(SadariError, match="column 라벨 is Int64, not text; name another with --text"):
        open_texts("a.parquet", text="라벨", target="본문")


def test_a_group_is_kept_and_said() -> None:
    table = open_texts(pl.DataFrame({"text": ["a b", "c d"], "label": ["x", "y"], "group": [7, 7]}))
    assert table.frame.collect().columns == ["text", "label", "group"] and kinds(table.notes) == ["group"]


def test_names_that_are_no_path_and_texts_without_labels_are_refused() -> None:
    for opened in (open_texts, open_corpus):
        for name in ("x" * 5000, "~nobody-here/a.txt", "http://example.org/a.txt"):
            with pytest.raises(
                SadariError, match=r"check the path|home folder that is not there|is an address"
            ):
                opened(name)
    with pytest.raises(
        SadariError, match=r"a.md holds text without labels; put the texts of each class in a folder"
    ):
        open_texts(write("a.md", "text"))
    with pytest.raises(SadariError, match=r"2 of 2 lines are no JSON objects .* write one object a line"):
        open_texts(write("a.json", '[{"text": "a", "label": "b"},\n {"text": "a", "label": "b"}]'))


def test_language_data_is_no_labelled_text() -> None:
    with pytest.raises(SadariError, match="toy-grammar has no labels to classify by; use --task language"):
        open_texts("toy-grammar")


# Which tables are texts.

PROSE = [f"this is a sentence of several words, number {place}" for place in range(30)]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"text": PROSE, "label": ["a", "b"] * 15}, "text"),
        ({"id": range(30), "text": PROSE, "label": ["a", "b"] * 15}, "text"),
        (
            {
                "key": [f"k{place}" for place in range(30)],
                "c": ["same"] * 30,
                "text": PROSE,
                "label": ["a", "b"] * 15,
            },
            "text",
        ),
        ({"text": PROSE, "group": [1, 2, 3] * 10, "label": ["a", "b"] * 15}, "text"),
        ({"title": [text[:24] for text in PROSE], "text": PROSE, "label": ["a", "b"] * 15}, "text"),
        ({"text": PROSE, "price": [1.5, 2.5, 3.5] * 10, "label": ["a", "b"] * 15}, None),
        ({"text": ["a sentence that is repeated again"] * 30, "label": ["a", "b"] * 15}, None),
        (
            {"text": [f"https://example.org/{place:030}" for place in range(30)], "label": ["a", "b"] * 15},
            None,
        ),
        ({"name": [f"n {place}" for place in range(30)], "label": ["a", "b"] * 15}, None),
        (
            {
                "본문": [f"띄어쓰기없이길게이어쓴글도글로알아본다정말로그렇다{place}" for place in range(30)],
                "label": ["a", "b"] * 15,
            },
            "본문",
        ),
        ({"x": range(30), "label": ["a", "b"] * 15}, None),
        ({"text": [None] * 30, "label": ["a", "b"] * 15}, None),
    ],
)
def test_free_text_makes_a_table_one_of_texts(columns: dict[str, list[object]], found: str | None) -> None:
    table = open_table(
        pl.DataFrame(columns, schema_overrides={"text": pl.String} if "text" in columns else None)
    )
    assert text_column(table, "label") == found
    assert text_column(table) == found or found is None
