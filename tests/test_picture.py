"""The picture shows every rung where it belongs, reads in both languages, and spills over nowhere."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from sadari import fonts
from sadari.errors import SadariError
from sadari.ladder import LADDERS
from sadari.picture import FOOT, GLYPHS, HEIGHT, PLACES, STEP, TEXTS, WIDTH, draw, picture

SVG = "{http://www.w3.org/2000/svg}"


def words(svg: str, kind: str) -> list[str]:
    return re.findall(rf'class="{kind}">([^<]*)</text>', svg)


def test_rungs_that_are_there_are_solid_and_the_others_faint() -> None:
    svg = picture(LADDERS)
    shown = [ladder for ladder in LADDERS if ladder.kind != "series"]
    here = [rung.name for ladder in shown for rung in ladder.here]
    to_come = [rung.name for ladder in shown for rung in ladder.rungs if not rung.here]
    assert words(svg, "word") == [*here, "there today"]
    assert [name for name in words(svg, "faint") if name in {*to_come, "to come"}] == [*to_come, "to come"]
    assert svg.count('class="glyph"') == sum(name in GLYPHS for name in here)


def test_a_rung_that_is_built_turns_solid() -> None:
    pairs = next(ladder for ladder in LADDERS if ladder.title == "translate")
    to_come = replace(pairs, rungs=(replace(pairs.rungs[0], module=""), *pairs.rungs[1:]))
    assert "lookup" in words(picture([to_come]), "faint")
    assert "lookup" in words(picture([pairs]), "word")


def test_every_ladder_has_a_place_a_phrase_and_room() -> None:
    shown = [ladder for ladder in LADDERS if ladder.kind != "series"]
    assert set(PLACES) == {(ladder.task, ladder.kind) for ladder in shown}
    spots = []
    for ladder in shown:
        assert ladder.title in TEXTS
        x, ground = PLACES[ladder.task, ladder.kind]
        top = ground - STEP * len(ladder.rungs) - 14
        assert x - FOOT >= 0 and x + FOOT <= WIDTH and ground + 47 < HEIGHT and top > 110
        spots.append((x - FOOT, x + FOOT, top, ground + 47))
    for number, (left, right, top, bottom) in enumerate(spots):
        for other_left, other_right, other_top, other_bottom in spots[:number]:
            assert right < other_left or other_right < left or bottom < other_top or other_bottom < top


def test_both_languages_say_the_same_rungs() -> None:
    english, korean = picture(LADDERS, "en"), picture(LADDERS, "ko")
    assert "사다리" in korean and "사다리" not in english
    assert words(english, "word")[:-1] == words(korean, "word")[:-1]


def test_it_is_well_formed_and_says_in_words_what_it_shows() -> None:
    root = ElementTree.fromstring(picture(LADDERS))
    assert root.find(f"{SVG}title") is not None
    assert "regress table: mean, line, shallow, deep, deep-skip" in (root.findtext(f"{SVG}desc") or "")


def test_it_follows_a_dark_page_with_a_paper_of_its_own() -> None:
    svg = picture(LADDERS)
    light, dark = svg.split("@media(prefers-color-scheme:dark)")
    assert ".paper{fill:#fbf8f1}" in light and ".paper{fill:#191714}" in dark


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_png_is_a_picture_of_twice_the_size(tmp_path: Path, lang: str) -> None:
    if lang == "ko" and fonts.hangul_family() is None:
        pytest.skip("no font with Hangul here")
    path = draw(tmp_path / "ladder.png", LADDERS, lang)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == (2 * WIDTH, 2 * HEIGHT)


def test_svg_is_written_as_it_is(tmp_path: Path) -> None:
    assert draw(tmp_path / "ladder.SVG", LADDERS).read_text() == picture(LADDERS)


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SadariError, match=r"--picture .*ladder.gif must end in .svg or .png"):
        draw(tmp_path / "ladder.gif", LADDERS)
