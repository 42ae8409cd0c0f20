"""Readers of built-in pairs: from the files of a fetched set to source, target, and what belongs together.

A pair that a set has many times is one here; what it leaves untranslated is none.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import polars as pl

from sadari.data import fetch
from sadari.data.builtin_text import TAG, articles, read_json
from sadari.data.tokenizers import clean_text
from sadari.errors import SadariError

_HANGUL = re.compile("[가-힣]")
_LEAST_HANGUL = 0.35  # of the signs of a Korean text; below that it is a name, a formula or not translated
_RATIO = 0.15, 1.5  # Korean characters for an English one
_FEWEST_WORDS = 5  # of a paragraph that says what its heading asks
_SECTIONS = 3  # a heading over more sections than that (Syntax, Example) asks nothing


def homeassistant(cache: Path | None) -> pl.DataFrame:
    """Strings of each component in English and Korean; references to other strings are left out."""
    pairs = []
    for path in sorted(fetch.cached("homeassistant", cache).rglob("ko.json")):
        english = path.with_name("en.json")
        if english.is_file():
            korean = dict(_strings(read_json(path)))
            pairs += [(text, korean.get(key, "")) for key, text in _strings(read_json(english))]
    translated = dict.fromkeys(pair for pair in _translated(pairs) if "[%key" not in "".join(pair))
    return pl.DataFrame(list(translated), schema=["en", "ko"], orient="row")


def help_pairs(cache: Path | None) -> pl.DataFrame:
    """Paragraphs and headings of help pages in English and Korean; the page is their group."""
    found: dict[tuple[str, str], str] = {}
    for page, english, korean in _pages(cache):
        there = {key: text for key, _, text in korean}
        pairs = [(text, there.get(key, "")) for key, _, text in english]
        for pair in _translated(pairs):
            found.setdefault(pair, page)
    rows = [(*pair, page) for pair, page in found.items()]
    return pl.DataFrame(rows, schema=["en", "ko", "group"], orient="row")


def help_questions(cache: Path | None) -> pl.DataFrame:
    """Headings of help pages and the first paragraph below each, English and Korean; the page is their group.

    Left out are headings that stand over more than three sections in a language, for they ask nothing of
    their own, paragraphs of less than five words, and Korean ones that are not translated.
    """
    sections: dict[tuple[str, str], str] = {}
    for page, *languages in _pages(cache):
        for korean, elements in enumerate(languages):
            for heading, paragraph in _sections(elements):
                if len(paragraph.split()) >= _FEWEST_WORDS and (not korean or _is_korean(paragraph)):
                    sections.setdefault((heading, paragraph), page)
    over = Counter(heading for heading, _ in sections)
    rows = [(*pair, page) for pair, page in sections.items() if over[pair[0]] <= _SECTIONS]
    return pl.DataFrame(rows, schema=["heading", "paragraph", "group"], orient="row")


def erpnext_ko(cache: Path | None) -> pl.DataFrame:
    """Strings of a business program in English and Korean as they are, entities unescaped: for cleaning."""
    path = fetch.cached("erpnext-ko", cache) / "ko.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            fields = [[unescape(field).strip() for field in line[:2]] for line in csv.reader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SadariError(
            f"{path} cannot be read ({error}); fetch it again: sadari data get erpnext-ko"
        ) from error
    rows = dict.fromkeys((clean_text(en), clean_text(ko)) for en, ko in (f for f in fields if len(f) == 2))
    return pl.DataFrame(list(rows), schema=["en", "ko"], orient="row")


def wiki_summaries(cache: Path | None) -> pl.DataFrame:
    """The summary of each article and its description in a line."""
    rows = [
        (clean_text(article["extract"]), clean_text(article["description"]))
        for article in articles(cache)
        if article["description"].strip()
    ]
    return pl.DataFrame(rows, schema=["text", "summary"], orient="row")


def _translated(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """English and Korean without white space around them, where the Korean is one and of likely length."""
    for one, other in pairs:
        english, korean = clean_text(one).strip(), clean_text(other).strip()
        if english and _is_korean(korean) and _RATIO[0] <= len(korean) / len(english) <= _RATIO[1]:
            yield english, korean


def _is_korean(text: str) -> bool:
    signs = len("".join(text.split()))
    return signs > 0 and len(_HANGUL.findall(text)) >= _LEAST_HANGUL * signs


def _strings(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Each string of nested objects, with the keys that lead to it."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _strings(value, f"{key}/{json.dumps(name)}")
    elif isinstance(content, str):
        yield key, content


_Element = tuple[str, bool, str]  # what it is called in all languages, whether it is a heading, its text


def _pages(cache: Path | None) -> Iterator[tuple[str, list[_Element], list[_Element]]]:
    """The elements of each help page that is there in both languages: its place, English, Korean."""
    folder = fetch.cached("libreoffice-help", cache)
    for path in sorted((folder / "ko" / "text").rglob("*.html")):
        page = path.relative_to(folder / "ko" / "text")
        if (english := folder / "en-US" / "text" / page).is_file():
            yield page.as_posix(), _elements(english), _elements(path)


def _elements(path: Path) -> list[_Element]:
    """Headings and paragraphs in their order; an id that a page has twice is numbered, as its twin's is."""
    times: dict[str, int] = defaultdict(int)
    found = []
    for tag, key, inside in _ELEMENT.findall(path.read_text(encoding="utf-8")):
        text = " ".join(unescape(TAG.sub("", inside.replace("<br>", " "))).split())
        times[key] += 1
        found.append((f"{key} {times[key]}", tag.startswith("h"), clean_text(text)))
    return found


_ELEMENT = re.compile(r'<(p|h\d|pre)\b[^>]*\bid="((?:par|hd)_id[^"]*)"[^>]*>(.*?)</\1>', re.DOTALL)


def _sections(elements: Iterable[_Element]) -> Iterator[tuple[str, str]]:
    """Each heading with the first text below it; a heading right below another takes its place."""
    heading = ""
    for _, is_heading, text in elements:
        if is_heading:
            heading = text
        elif heading and text:
            yield heading, text
            heading = ""
