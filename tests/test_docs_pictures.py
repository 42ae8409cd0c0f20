"""docs/pictures: each picture is there in both languages, small, and its page says how it was drawn."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from sadari.inspection import VIEWS

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
PAGES = {"": "README.md", ".ko": "README.ko.md"}
NAMES = sorted({path.name.partition(".")[0] for path in FOLDER.glob("*.png")})


def _page(lang: str) -> str:
    return (FOLDER / PAGES[lang]).read_text(encoding="utf-8")


@pytest.mark.parametrize("lang", PAGES)
@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_there_in_both_languages_and_small(name: str, lang: str) -> None:
    file = FOLDER / f"{name}{lang}.png"
    assert file.stat().st_size < 150_000 and name in VIEWS
    with Image.open(file) as picture:
        assert picture.format == "PNG" and picture.width <= 1400


@pytest.mark.parametrize("lang", PAGES)
def test_what_a_page_shows_is_there_with_the_command_that_drew_it(lang: str) -> None:
    shown = re.findall(r"!\[([\w-]+)\]\(([^)]+)\)\n\n((?:    .*\n)+)", _page(lang))
    assert {name for name, _, _ in shown} >= {"depth", "transfer", "rate", "receptive-field", "mistakes"}
    for name, file, commands in shown:
        assert (FOLDER / file).is_file() and file == f"{name}{lang}.png"
        assert re.search(rf"^    sadari look RUN {name}\b", commands, flags=re.MULTILINE), name


def test_both_pages_show_the_same_commands() -> None:
    english, korean = (re.findall(r"^    (sadari .*)$", _page(lang), flags=re.MULTILINE) for lang in PAGES)
    assert english and english == [command.replace(" --lang ko", "") for command in korean]
