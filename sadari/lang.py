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
