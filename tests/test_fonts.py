"""A picture with Hangul has its glyphs: no box, no gap; and where no font has them, it is said."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sadari import fonts
from sadari.errors import SadariError


def test_hangul_is_drawn_as_glyphs_and_not_as_boxes() -> None:
    family = fonts.hangul_family()
    assert family is not None, "no font with Hangul: pip install pylopdf-fonts-ko"
    empty, box = fonts.drawn(" ", family), fonts.drawn(fonts.UNASSIGNED, family)
    pictures = {syllable: fonts.drawn(syllable, family) for syllable in "한글똠힣뷁"}
    assert len({empty, box, *pictures.values()}) == 7  # each its own shape
    assert fonts.has("사다리 회귀 분류", family)


def test_every_sign_that_charts_use_has_a_glyph() -> None:
    family = fonts.hangul_family()
    assert family is not None
    assert fonts.has("−→·≥λ²%±×…~", family)


def test_a_missing_glyph_and_a_missing_font_are_noticed() -> None:
    family = fonts.hangul_family()
    assert family is not None
    assert not fonts.has(fonts.UNASSIGNED, family)
    assert not fonts.has("한", "No Such Font")
    assert not fonts.has("A", "No Such Font")


def test_without_a_font_korean_pictures_are_refused_and_english_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fonts, "FAMILIES", ("No Such Font",))
    fonts.hangul_family.cache_clear()
    try:
        fonts.check("scores by rung")
        assert "sans-serif" in fonts.family()
        with pytest.raises(
            SadariError, match=r"no font with Hangul .* pip install pylopdf-fonts-ko, or choose --lang en"
        ):
            fonts.check("점수")
    finally:
        fonts.hangul_family.cache_clear()


def test_packages_are_located_and_never_imported() -> None:
    code = (
        "import sys; from sadari import fonts; fonts.register();"
        "print({'matplotlib', 'koreanize_matplotlib', 'pylopdf_fonts_ko'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
