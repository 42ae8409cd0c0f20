"""Readers of built-in pictures with captions: emoji, and what they are called in English and in Korean.

A frame is `image` (the bytes of a PNG of 64 x 64), `caption.en` and `caption.ko` (lists: the name first), and
`group`, the emoji without its skin tone, so that no part of a split has an emoji of another in another tone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from sadari.data import builtin_images, fetch
from sadari.errors import SadariError

_VARIATION = "FE0F"  # asks for a coloured picture; some sets write it into an emoji's code, some do not
_TONES = ("1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF")
_COMPONENT = 1  # the package's status of skin tones and hair alone, which are parts of emoji
_QUALIFIED = 2  # its status of an emoji in full; others leave fe0f out, and may have older names
_JOINER = "200D"
_SPELT_OUT = {  # people of two tones are written as two people; of none, as one emoji
    "1F9D1 2764 1F9D1": "1F491",
    "1F9D1 2764 1F48B 1F9D1": "1F48F",
    "1F469 1F91D 1F468": "1F46B",
    "1F468 1F91D 1F468": "1F46C",
    "1F469 1F91D 1F469": "1F46D",
    "1FAF1 1FAF2": "1F91D",
    "1F9D1 1F430 1F9D1": "1F46F",
    "1F468 1F430 1F468": "1F46F-200D-2642",
    "1F469 1F430 1F469": "1F46F-200D-2640",
    "1F9D1 1FAEF 1F9D1": "1F93C",
    "1F468 1FAEF 1F468": "1F93C-200D-2642",
    "1F469 1FAEF 1F469": "1F93C-200D-2640",
}
_SCHEMA: dict[str, Any] = {
    "image": pl.Binary,
    "caption.en": pl.List(pl.String),
    "caption.ko": pl.List(pl.String),
    "group": pl.String,
}


def openmoji(cache: Path | None) -> pl.DataFrame:
    """One artist's emoji in all skin tones, each with its name; about half of them are tones of another."""
    folder = fetch.cached("openmoji", cache)
    return builtin_images.kept(folder, lambda: _openmoji(folder))


def _openmoji(folder: Path) -> pl.DataFrame:
    english = builtin_images.read(folder / "emoji.json")
    korean = builtin_images.read(folder / "emoji_ko.json")
    drawings = {_code(path.stem): path for path in sorted((folder / "svg").glob("*.svg"))}
    draw = builtin_images.renderer()
    rows = {}
    for emoji, about in sorted(english.items(), key=lambda item: item[1]["status"] != _QUALIFIED):
        code = _code_of(emoji)
        if code in rows or code not in drawings or about["status"] == _COMPONENT or emoji not in korean:
            continue
        try:
            picture = draw(drawings[code].read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SadariError(
                f"the drawing {drawings[code].name} is no SVG ({error}); fetch openmoji again"
            ) from error
        rows[code] = (picture, [_words(about["en"])], [_words(korean[emoji])], _base(code))
    return pl.DataFrame([rows[code] for code in sorted(rows)], schema=_SCHEMA, orient="row")


def emoji_captions(cache: Path | None) -> pl.DataFrame:
    """The pictures of the built-in `emoji` with names and keywords: five artists, no skin tones.

    Beside `group` stand `category` and `artist`, by which one may be held out.
    """
    pictures = builtin_images.emoji(cache)
    names = fetch.cached("emoji-artists", cache) / "names"
    said = {language: dict(_described(names / language / "data.json")) for language in ("en", "ko")}
    columns = {
        f"caption.{language}": pl.Series(
            [found.get(code, []) for code in pictures["group"]], dtype=pl.List(pl.String)
        )
        for language, found in said.items()
    }
    return pictures.select(
        "image", *(column.alias(name) for name, column in columns.items()), "group", "category", "artist"
    )


def _described(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Name and keywords of each emoji, by its code as the drawings have it."""
    for emoji in builtin_images.read(path):
        about: Mapping[str, Any] = emoji
        keywords = (str(tag).strip('"') for tag in about.get("tags", ()))  # some are in quotes, twice
        texts = [str(about["label"]), *keywords]
        yield _code(about["hexcode"]).lower(), list(dict.fromkeys(texts))


def _code(written: str) -> str:
    """An emoji's code points, as both packages can be asked for them."""
    return "-".join(point for point in written.upper().split("-") if point != _VARIATION)


def _code_of(emoji: str) -> str:
    return _code("-".join(f"{ord(letter):04X}" for letter in emoji))


def _base(code: str) -> str:
    """The code of the emoji without skin tones."""
    points = [point for point in code.split("-") if point not in _TONES]
    spelt_out = " ".join(point for point in points if point != _JOINER)
    return _SPELT_OUT.get(spelt_out, "-".join(points))


def _words(name: str) -> str:
    """`:red_apple:` as words."""
    return " ".join(name.strip(":").replace("_", " ").split())
