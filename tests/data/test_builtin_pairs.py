"""Built-in pairs: the toys keep their rule, and the readers read what was fetched."""

from __future__ import annotations

import json
import os
import re
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from sadari.data import builtin_pairs, fetch, toy_pairs
from sadari.data.builtin import BUILTIN, open_builtin
from sadari.data.pairs import open_pairs
from sadari.data.prepare_pairs import clean_pairs, prepare_pairs
from sadari.data.table import open_table
from sadari.errors import SadariError

TOYS = ["toy-reverse", "toy-sums", "toy-dates"]
FETCHED = ["homeassistant", "help-pairs", "help-questions", "wiki-summaries", "erpnext-ko"]


@pytest.mark.parametrize("name", TOYS)
def test_the_listing_of_toys_tells_the_truth(name: str) -> None:
    frame, entry = open_builtin(name)
    assert frame.height == entry.rows and (entry.kind, entry.task) == ("pairs", "translate")
    assert frame.columns[1] == entry.target and frame.width == 2 and entry.how == "made on the spot"
    assert frame.equals(open_builtin(name)[0]) and frame.is_unique().all()
    assert open_table(name).licence == entry.licence
    table = open_pairs(name)
    assert (table.target, table.source) == (entry.target, name)
    assert clean_pairs(table).rows > 0.99 * table.rows  # a palindrome is no pair


def test_toys_are_read_by_what_suits_them() -> None:
    for name in TOYS[1:]:
        spec = prepare_pairs(name).spec
        assert spec.tokenizer.kind == "characters"  # type: ignore[attr-defined]
        assert prepare_pairs(name, tokenizer="words").spec.tokenizer.kind == "words"  # type: ignore[attr-defined]


def test_reverse_is_the_reference_s_task() -> None:
    frame = toy_pairs.reverse(2000, seed=3)
    assert frame.height == 2000 and not frame.equals(toy_pairs.reverse(2000, seed=4))
    words = [text.split() for text in frame["digits"]]
    assert [" ".join(line[::-1]) for line in words] == frame["reversed"].to_list()
    assert {len(line) for line in words} == set(range(1, 26))
    assert {word for line in words for word in line} == {str(number) for number in range(50)}
    assert toy_pairs.reverse(500, longest=1, numbers=10).height == 10


def test_sums_are_right() -> None:
    frame = toy_pairs.sums()
    for written, result in frame.iter_rows():
        one, other = re.fullmatch(r"(\d{1,3})\+(\d{1,3})", written).groups()  # type: ignore[union-attr]
        assert int(one) + int(other) == int(result) and str(int(one)) == one


def test_dates_are_right_in_every_spelling() -> None:
    found: dict[str, int] = {}
    for written, iso in toy_pairs.dates(3000).iter_rows():
        day = date.fromisoformat(iso)
        assert 1900 <= day.year <= 2099
        key, expected = _read(written, day)
        assert expected == day, written
        found[key] = found.get(key, 0) + 1
    assert len(found) == 4 and min(found.values()) > 300


def _read(written: str, day: date) -> tuple[str, date]:
    """The kind of spelling, and the day that is read back from it."""
    if match := re.fullmatch(r"(\d{4})(?:년|\.) (\d+)(?:월|\.) (\d+)(?:일|\.)", written):
        return "Korean digits", date(*map(int, match.groups()))
    if match := re.fullmatch(r"(\w+)년 (\w+)월 (\w+)일", written):
        month = {"유": 6, "시": 10}.get(match[2]) or _number(match[2])
        return "Korean words", date(_number(match[1]), month, _number(match[3]))
    if match := re.fullmatch(r"([A-Z]\w+) (\d+)(?:st|nd|rd|th)?,? (\d{4})", written):
        return "month first", date(int(match[3]), _month(match[1]), int(match[2]))
    match = re.fullmatch(r"(?:the )?(\d+)(?:st|nd|rd|th)?(?: of)? ([A-Z]\w+) (\d{4})", written)
    assert match, written
    return "day first", date(int(match[3]), _month(match[2]), int(match[1]))


def _month(name: str) -> int:
    return ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"].index(
        name[:3].lower()
    ) + 1


def _number(text: str) -> int:
    total, digit = 0, 0
    for letter in text:
        if letter in "천백십":
            total, digit = total + max(1, digit) * {"천": 1000, "백": 100, "십": 10}[letter], 0
        else:
            digit = "영일이삼사오육칠팔구".index(letter)
    return total + digit


def test_ordinals_and_korean_numbers_as_people_write_them() -> None:
    assert [toy_pairs._ordinal(k) for k in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 30, 31)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "30th", "31st")
    ]
    assert [toy_pairs._in_words(k) for k in (1900, 2000, 2021, 10, 11, 31)] == [
        *("천구백", "이천", "이천이십일", "십", "십일", "삼십일")
    ]


# Readers, on files of their form.


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which every set counts as fetched."""
    monkeypatch.setattr(fetch, "cached", lambda name, cache: Path("cache", name))
    return Path("cache")


def write(path: str, content: str) -> None:
    file = Path("cache", path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")


def strings(component: str, language: str, content: object) -> None:
    write(f"homeassistant/components/{component}/translations/{language}.json", json.dumps(content))


def test_strings_are_pairs_by_their_keys(cache: Path) -> None:
    english = {
        "a": {"b": " Save the settings ", "c": "[%key:x%]", "d": "Only English", "a/b": "Port"},
        "e": "Log: {name} {version}",
        "f": "A long sentence that was never fully translated",
        "g": ["a list"],
    }
    korean = {
        "a": {"b": "설정을 저장합니다", "c": "[%key:x%]", "a/b": "포트"},
        "e": "Log: {name} 판 {version}",
        "f": "문장",
        "g": ["목록"],
    }
    strings("sun", "en", english)
    strings("sun", "ko", korean)
    strings("moon", "en", {"z": "Save the settings"})
    strings("moon", "ko", {"z": "설정을 저장합니다"})
    strings("lone", "ko", {"z": "영어가 없습니다"})
    frame = builtin_pairs.homeassistant(cache)
    assert frame.columns == ["en", "ko"]
    assert sorted(frame.rows()) == [("Port", "포트"), ("Save the settings", "설정을 저장합니다")]
    strings("moon", "en", {"z": "Save"})
    write("homeassistant/components/moon/translations/en.json", "{")
    with pytest.raises(SadariError, match=r"en.json cannot be read"):
        builtin_pairs.homeassistant(cache)


def test_business_strings_come_as_they_are_but_for_entities(cache: Path) -> None:
    write(
        "erpnext-ko/ko.csv",
        '"A ""quoted"" item",&quot;물건&quot; &amp; 값,\n' + "Opening,&#39;열기&#39;,\n" * 2 + "lone\n",
    )
    frame = builtin_pairs.erpnext_ko(cache)
    assert frame.rows() == [('A "quoted" item', '"물건" & 값'), ("Opening", "'열기'")]
    Path("cache/erpnext-ko/ko.csv").write_bytes(b"\xff")
    with pytest.raises(
        SadariError, match=r"ko.csv cannot be read .*; fetch it again: sadari data get erpnext-ko"
    ):
        builtin_pairs.erpnext_ko(cache)


def page(language: str, name: str, *elements: tuple[str, str]) -> None:
    html = "".join(f'<{tag} id="{tag}" class="x">{text}</{tag}>' for tag, text in elements)
    html = re.sub(r'id="(h\d|p)"', lambda m: f'id="{"par" if m[1] == "p" else "hd"}_id{m.start()}"', html)
    write(f"libreoffice-help/{language}/text/{name}", f"<html><p>no id</p>{html}</html>")


def test_help_pairs_are_elements_of_one_id(cache: Path) -> None:
    write(
        "libreoffice-help/en-US/text/a.html",
        '<h1 id="hd_id1">Title &amp; <b>name</b></h1><p id="par_id2">Two<br>lines</p>'
        '<p id="par_id2">The twin</p><p id="par_id3">Not translated</p><p id="par_id4">Gone</p>',
    )
    write(
        "libreoffice-help/ko/text/a.html",
        '<p id="par_id2">두\n줄</p><h1 id="hd_id1">제목과 <b>이름</b></h1>'
        '<p id="par_id2">쌍둥이</p><p id="par_id3">Not translated</p>',
    )
    write("libreoffice-help/ko/text/lone.html", '<p id="par_id2">짝이 없음</p>')
    frame = builtin_pairs.help_pairs(cache)
    assert frame.rows() == [
        ("Title & name", "제목과 이름", "a.html"),
        ("Two lines", "두 줄", "a.html"),
        ("The twin", "쌍둥이", "a.html"),
    ]


def test_help_questions_are_headings_with_what_stands_below(cache: Path) -> None:
    long = "A paragraph of more than five words"
    page(
        "en-US",
        "a.html",
        ("h1", "Wide"),
        ("h2", "Narrow"),
        ("p", long),
        ("p", "Another paragraph of six words"),
    )
    page("ko", "a.html", ("h1", "넓은"), ("h2", "좁은"), ("p", "다섯 낱말이 넘는 한국어 문단 하나"))
    page("en-US", "b.html", ("h2", "Short"), ("p", "too short"))
    page("ko", "b.html", ("h2", "그대로"), ("p", "A paragraph that nobody has translated yet"))
    for k in range(4):
        page("en-US", f"s{k}.html", ("h2", "Syntax"), ("p", f"Function number {k} of these five words"))
        page("ko", f"s{k}.html", ("p", ""))
    assert builtin_pairs.help_questions(cache).rows() == [
        ("Narrow", long, "a.html"),
        ("좁은", "다섯 낱말이 넘는 한국어 문단 하나", "a.html"),
    ]


def test_wiki_summaries_need_both_sides(cache: Path) -> None:
    articles = {
        "A": {"title": "A", "extract": "About a.", "topic": "Arts", "description": "Letter"},
        "B": {"title": "B", "extract": "About b.", "topic": "Arts", "description": " "},
        "C": {"title": "C", "extract": " ", "topic": "Arts", "description": "Letter"},
    }
    write("wiki/summaries_en-us.json", json.dumps(articles))
    assert builtin_pairs.wiki_summaries(cache).rows() == [("About a.", "Letter")]


@pytest.mark.parametrize("name", FETCHED)
def test_fetched_pairs_are_as_listed(name: str) -> None:
    entry = BUILTIN[name]
    try:
        fetch.cached(entry.source or name)
    except SadariError as error:
        if os.environ.get("CI") != "true":
            pytest.skip(str(error))
        fetch.get(entry.source or name)
    frame, _ = open_builtin(name)
    assert frame.height == entry.rows and frame.columns[1] == entry.target
    assert frame.null_count().sum_horizontal().item() == 0 and frame[:, :2].is_unique().all()
    prepared = prepare_pairs(name, tokenizer="words")
    frame = prepared.table.frame.collect()
    assert (prepared.table.target, prepared.table.licence) == (entry.target, entry.licence)
    assert frame.height > 0.98 * entry.rows
    for column in frame.columns[: 1 if name == "help-questions" else 2]:
        train, validation, test = (
            set(frame[column].gather(rows).str.to_lowercase())
            for rows in (prepared.split.train, prepared.split.validation, prepared.split.test)
        )
        assert not train & validation and not train & test and not validation & test
    assert 700 < len(prepared.split.validation) <= 2000 and 700 < len(prepared.split.test) <= 2000
    if entry.target == "ko":
        flipped = open_pairs(name, target="en")
        assert list(flipped.schema)[:2] == ["ko", "en"]
        letters = "".join(frame["ko"])
        assert len(re.findall("[가-힣]", letters)) > 0.5 * len(letters)


def test_a_cache_folder_can_be_named(tmp_path: Path) -> None:
    with pytest.raises(
        SadariError, match=r"wiki is not on this machine yet; fetch it .*: sadari data get wiki"
    ):
        open_pairs("wiki-summaries", cache=tmp_path)
    assert open_pairs("toy-sums", cache=tmp_path).licence == BUILTIN["toy-sums"].licence
    assert isinstance(open_pairs("toy-sums").frame.collect(), pl.DataFrame)
