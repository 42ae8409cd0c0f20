"""Readers of built-in texts: from the files of a fetched set to text, label, and what belongs together.

A label's frame is `text, label, group`, a corpus's is `text, group`; `group` is what the split keeps whole.
"""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import polars as pl

from sadari.data import fetch
from sadari.data.tokenizers import clean_text
from sadari.errors import SadariError


def wiki(cache: Path | None) -> pl.DataFrame:
    """Summaries with their topic; those without one ("Uncategorized") are left out."""
    rows = [article for article in articles(cache) if article["topic"] != "Uncategorized"]
    return pl.DataFrame(
        {key: [clean_text(article[source]) for article in rows] for key, source in _WIKI.items()}
    )


_WIKI = {"text": "extract", "topic": "topic", "group": "title"}


def wiki_text(cache: Path | None) -> pl.DataFrame:
    """Title and summary of each article."""
    rows = articles(cache)
    texts = [clean_text(f"{article['title']}\n{article['extract']}") for article in rows]
    return pl.DataFrame({"text": texts, "group": [clean_text(article["title"]) for article in rows]})


def articles(cache: Path | None) -> list[dict[str, str]]:
    """The articles that have a summary."""
    content = read_json(fetch.cached("wiki", cache) / "summaries_en-us.json")
    return [article for article in content.values() if article["extract"].strip()]


def reviews(cache: Path | None) -> pl.DataFrame:
    """Snippets of film and product reviews; the mean of twenty people's ratings is their sign.

    A product review's number stands before its snippets' (`12_3`) and is their group; a film's snippets are
    numbered one by one, so each is a group. A mean of exactly 0 is neither class and is left out.
    """
    texts, ratings, groups = [], [], []
    for part in ("movie", "amazon"):
        path = fetch.cached("reviews", cache) / f"{part}ReviewSnippets_GroundTruth.txt"
        for line in path.read_bytes().decode("utf-8", "replace").splitlines():
            number, mean, text = line.split("\t", 2)
            if float(mean):
                texts.append(clean_text(text).strip())
                ratings.append("positive" if float(mean) > 0 else "negative")
                groups.append(f"{part} {number.split('_')[0]}")
    return pl.DataFrame({"text": texts, "rating": ratings, "group": groups})


def help_ko(cache: Path | None) -> pl.DataFrame:
    """Korean help pages with the folder of their application."""
    return _help("ko", cache)


def help_en(cache: Path | None) -> pl.DataFrame:
    """English help pages with the folder of their application."""
    return _help("en-US", cache)


def help_ko_text(cache: Path | None) -> pl.DataFrame:
    """Korean help pages."""
    return _help("ko", cache).drop("application")


def help_en_text(cache: Path | None) -> pl.DataFrame:
    """English help pages."""
    return _help("en-US", cache).drop("application")


def _help(language: str, cache: Path | None) -> pl.DataFrame:
    """Each page's headings and paragraphs, one a line."""
    folder = fetch.cached("libreoffice-help", cache) / language / "text"
    rows = []
    for path in sorted(folder.rglob("*.html")):
        found = _PARAGRAPH.findall(path.read_text(encoding="utf-8"))
        plain = (unescape(TAG.sub("", inside.replace("<br>", " "))) for _, inside in found)
        if text := "\n".join(line for part in plain if (line := " ".join(part.split()))):
            place = path.relative_to(folder)
            rows.append((clean_text(text), place.parts[0], place.as_posix()))
    return pl.DataFrame(rows, schema=["text", "application", "group"], orient="row")


# Written by one program, whose paragraphs and headings never hold another of their own tag.
_PARAGRAPH = re.compile(r'<(p|h\d|pre)\b[^>]*\bid="(?:par|hd)_id[^>]*>(.*?)</\1>', re.DOTALL)
TAG = re.compile(r"<[^>]*>")


def homeassistant_ko(cache: Path | None) -> pl.DataFrame:
    """The Korean strings of each component, one a line; references to other strings are left out."""
    rows = []
    for path in sorted(fetch.cached("homeassistant", cache).rglob("ko.json")):
        lines = dict.fromkeys(text.strip() for text in _strings(read_json(path)) if "[%key" not in text)
        korean = [
            line for line in lines if len(re.findall("[가-힣]", line)) >= 0.35 * len(line.replace(" ", ""))
        ]
        if korean:
            rows.append((clean_text("\n".join(korean)), path.parent.parent.name))
    return pl.DataFrame(rows, schema=["text", "group"], orient="row")


def _strings(content: Any) -> list[str]:
    if isinstance(content, dict):
        return [text for value in content.values() for text in _strings(value)]
    return [content] if isinstance(content, str) else []


def korean_law(cache: Path | None) -> pl.DataFrame:
    """Articles (제1조 ...) of the constitution and of ten bills; the file is their group."""
    rows = [
        (clean_text(part).strip(), path.name)
        for path in sorted(fetch.cached("korean-law", cache).rglob("*.txt"))
        for part in re.split(r"\n\s*(?=제\s?\d+\s?조)", path.read_text(encoding="utf-8"))
        if part.strip()
    ]
    return pl.DataFrame(rows, schema=["text", "group"], orient="row")


def read_json(path: Path) -> dict[str, Any]:
    """The content of a fetched file. Raises SadariError when it is no JSON."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise SadariError(f"{path} cannot be read ({type(error).__name__}); fetch it again") from error
