"""Two languages: a module keeps its sentences as `{key: (English, Korean)}` and asks here for one of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Lang = Literal["en", "ko"]
Texts = Mapping[str, tuple[str, str]]


def default_lang() -> Lang:
    """Korean where the locale says Korean (LC_ALL, then LC_MESSAGES, then LANG), else English."""
    locale = next(
        (os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), ""
    )
    return "ko" if re.match(r"ko([_.@-]|$)", locale.lower()) else "en"


def pick(texts: Texts, key: str, lang: Lang, **values: Any) -> str:
    """The sentence `key` in `lang`, its `{places}` filled from `values`."""
    english, korean = texts[key]
    return (korean if lang == "ko" else english).format(**values)


UNITS = {  # English; Korean, and how Korean counts it
    "row": ("row", "행", "행"),
    "text": ("text", "글", "편"),
    "pair": ("pair", "쌍", "개"),
    "document": ("document", "글", "편"),
    "token": ("token", "토큰", "개"),
    "picture": ("picture", "그림", "장"),
}
_ROW = re.compile(r"(?<!\{)\brow(s?)\b(?![:}])")
_COUNTED = re.compile(r"(?<=[\d}])행|(?<=한 )행")
_HAENG = re.compile(r"(?<![가-힣])행(?=[으이을은과의끼당씩에들 .,]|$)")


def in_unit(text: str, unit: str) -> str:
    """A sentence or template about rows, said of what the data is made of: texts, documents or tokens.

    Only sentences of our own go through here: a name that says "row" must stay as it is.
    """
    english, korean, counter = UNITS[unit]
    if unit == "row":
        return text
    text = _ROW.sub(lambda match: english + match[1], text)
    text = _COUNTED.sub(counter, text)
    for wrong, right in (("개으로", "개로"), ("개을", "개를"), ("개이 ", "개가 "), ("개은", "개는")):
        text = text.replace(wrong, right)
    return _HAENG.sub(korean, text).replace("글으로", "글로")


def unit_of(kind: str, task: str, price: bool = False) -> str:
    """What one example is called: a language is scored by the document and paid for by the token."""
    if kind == "pairs":
        return "pair"
    if kind == "captions":
        return "pair" if price else "picture"
    if kind == "images":
        return "picture"
    if kind != "text":
        return "row"
    if task == "language":
        return "token" if price else "document"
    return "text"


@dataclass(frozen=True)
class Note:
    """Something worth saying about data or a fit, kept as data so that it can be said in either language."""

    english: str
    """The sentence in English."""
    korean: str
    """The same sentence in Korean."""
    level: Literal["info", "warning"] = "info"
    """`warning` for what may spoil a result, `info` for what was done."""
    about: dict[str, Any] = field(default_factory=dict)
    """What the sentence is about, for programs: for instance {"column": "id", "kind": "constant"}."""

    @classmethod
    def of(cls, texts: Texts, key: str, level: Literal["info", "warning"] = "info", **values: Any) -> Note:
        """A note from a table of sentences; the values that fill it are kept in `about`."""
        return cls(
            pick(texts, key, "en", **values), pick(texts, key, "ko", **values), level, {"kind": key, **values}
        )

    def say(self, lang: Lang) -> str:
        return self.korean if lang == "ko" else self.english

    def to_json(self) -> dict[str, Any]:
        return {"english": self.english, "korean": self.korean, "level": self.level, "about": self.about}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Note:
        return cls(content["english"], content["korean"], content["level"], dict(content["about"]))
