"""A font that has Hangul, for charts as pictures: vl-convert draws with what it finds, offline.

A page leaves the choice of font to the reader's browser; a PNG must bring its glyphs along. The pip package
`pylopdf-fonts-ko` (a dependency: Noto Sans KR, SIL Open Font License, no code to run) comes first, so that a
picture looks the same everywhere; where it is missing, fonts of the system serve.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from html import escape
from pathlib import Path

import vl_convert

from sadari.errors import SadariError

# package that carries font files -> folder of the files inside it; located, never imported
PACKAGES = {"pylopdf_fonts_ko": ".", "koreanize_matplotlib": "fonts"}
# in order of preference: the packages' own, then what Linux, macOS and Windows bring
FAMILIES = (
    "Noto Sans KR",
    "Noto Sans CJK KR",
    "Pretendard",
    "NanumGothic",
    "NanumBarunGothic",
    "Apple SD Gothic Neo",
    "Malgun Gothic",
)
UNASSIGNED = (
    "\u0378"  # a code point that Unicode gives to no character: a font can only draw its missing-glyph box
)


def register() -> None:
    """Make the fonts of the installed packages known to vl-convert."""
    for package, folder in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            files = Path(spec.origin).parent / folder
            if files.is_dir():
                vl_convert.register_font_directory(str(files))


def drawn(text: str, family: str) -> bytes:
    """A small picture of `text` in a family; vl-convert falls back where the family has no glyph."""
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="48" height="48">'
        f'<text x="4" y="36" font-size="32" font-family="{escape(family)}">{escape(text)}</text></svg>'
    )
    return vl_convert.svg_to_png(svg)


def has(text: str, family: str) -> bool:
    """Whether each character of `text` comes out as a glyph: neither empty nor the missing-glyph box."""
    empty, box = drawn(" ", family), drawn(UNASSIGNED, family)
    return all(drawn(character, family) not in (empty, box) for character in text if not character.isspace())


@cache
def hangul_family() -> str | None:
    """The first family that draws Hangul, or None where no font has it."""
    register()
    return next((family for family in FAMILIES if has("한글", family)), None)


def family() -> str:
    """The CSS font list for charts: the family that pictures use, then what browsers have."""
    found = hangul_family()
    names = [f"'{found}'"] if found else []
    return ", ".join([*names, "system-ui", "'Apple SD Gothic Neo'", "'Malgun Gothic'", "sans-serif"])


def check(text: str) -> None:
    """Raise SadariError when `text` has Hangul and no font here can draw it."""
    if any("\uac00" <= character <= "\ud7a3" for character in text) and hangul_family() is None:
        raise SadariError(
            "no font with Hangul on this machine, so a PNG would show boxes; give: pip install "
            "pylopdf-fonts-ko, or choose --lang en"
        )
