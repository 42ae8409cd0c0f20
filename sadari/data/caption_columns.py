"""Which columns, keys and parts hold captions, in which language, and what their values say.

caption  text  title  alt ...     captions of a language that is not said
caption.ko  text_en  en  ko       captions of that language
["a", "b"]  {"en": "a"}           several captions, captions by language
[{"raw": "a"}, {"raw": "b"}]      as the data sets of COCO and Flickr have them
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sadari.data.tokenizers import clean_text

CAPTION = "caption"
"""What the column of captions is called in a table: alone, or with a point and the language behind it."""
CAPTION_NAMES = (
    "caption", "captions", "text", "txt", "title", "alt", "alt_text", "description", "sentence", "sentences",
    "캡션", "설명", "제목", "글",
)  # fmt: skip
_LANGUAGES = (  # noqa: SIM905
    "ar bg bn cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv ms nb nl no pl pt ro ru sk sl sr "
    "sv ta te th tr uk ur vi zh"
).split()
_ALONE = [code for code in _LANGUAGES if code not in ("id", "no")]  # these have another meaning as names
_NAME = re.compile(
    rf"({'|'.join(map(re.escape, CAPTION_NAMES))})(?:[._-](?P<language>[a-z]{{2,3}}))?", re.IGNORECASE
)
_INSIDE = ("raw", "text", CAPTION)  # keys of an object that is one caption
_DEEPEST = 3  # lists and objects within each other

Captions = dict[str, list[str]]
"""Captions by language; "" where none is said."""


def language_of(name: str) -> str | None:
    """The language of a column of that name, "" where it says none; None when it is no column of captions."""
    if name.lower() in _ALONE:
        return name.lower()
    match = _NAME.fullmatch(name.strip())
    if match is None:
        return None
    return (match["language"] or "").lower()


def caption_columns(names: Iterable[str]) -> dict[str, str]:
    """The columns of captions among `names`, with their languages."""
    found = {name: language for name in names if (language := language_of(name)) is not None}
    bare = {name for name in found if name.lower() in _ALONE}
    return {name: language for name, language in found.items() if name not in bare} or found


def column_of(language: str) -> str:
    """What the column of a language is called in a table: caption, or caption.ko."""
    return f"{CAPTION}.{language}" if language else CAPTION


def captions_in(value: Any, language: str = "", depth: int = 0) -> Captions:
    """The captions that a value holds, clean, none empty, none twice in a language.

    Text and numbers are captions, lists are several; an object is captions by language, or one that has its
    text in `raw`, `text` or `caption`. All else, and what is nested deeper than that, says nothing.
    """
    if depth > _DEEPEST or value is None or isinstance(value, bool | bytes):
        return {}
    if isinstance(value, str):
        text = " ".join(clean_text(value).split())
        return {language: [text]} if text else {}
    if isinstance(value, int | float):
        return {language: [str(value)]}
    if isinstance(value, Mapping):
        own = next((key for key in _INSIDE if value.get(key) is not None), None)
        if own is not None:
            return captions_in(value[own], language, depth + 1)
        by_language = (
            captions_in(one, name.lower(), depth + 1)
            for name, one in value.items()
            if isinstance(name, str) and name.lower() in _ALONE
        )
        return merged(by_language)
    if isinstance(value, Iterable):
        return merged(captions_in(one, language, depth + 1) for one in value)
    return {}


def merged(found: Iterable[Captions]) -> Captions:
    """All captions, each once in its language, in the order they come."""
    ordered: dict[str, dict[str, None]] = {}
    for captions in found:
        for language, texts in captions.items():
            ordered.setdefault(language, {}).update(dict.fromkeys(texts))
    return {language: list(texts) for language, texts in ordered.items()}


def is_language(name: str) -> bool:
    """Whether a name is the code of a language."""
    return name.lower() in _LANGUAGES
