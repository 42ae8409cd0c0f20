"""A picture file as a square of pixels, whatever its format, depth, colours or rotation.

JPEG, PNG, WebP, GIF (its first frame), BMP and TIFF are read, nothing else: fewer decoders, fewer holes. What
is odd in a file and what is done with it:

rotated by its EXIF     turned upright, as every viewer shows it
palette, CMYK           as red, green and blue
alpha                   composed on white
16-bit grey             by the depth that holds its largest value: 8, 10, 12, 14 or 16 bits
32-bit, floating grey   whole numbers up to 65,535 likewise; all else stretched from least to largest
16-bit colours          the upper 8 bits
more than 100 M pixels  refused by the header, before a pixel is decoded
cut off, damaged        refused, with the decoder's reason
"""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from sadari.errors import SadariError

if TYPE_CHECKING:
    from jaxtyping import UInt8

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""Those that are opened; to Pillow a JPEG of two lenses (MPO) is one of JPEG."""
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""How the names of their files end."""
MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")
"""How their contents begin; WebP's beginning is that of every RIFF file, so it is told by `begins_as_one`."""
FITS = ("crop", "pad", "squash")
CHANNELS = (1, 3)
LARGEST = 1024
"""Pixels of a side, at most, that a picture is made."""
MOST_PIXELS = 100_000_000
LOOK = 16
"""Pixels of a side of the small picture by which likeness is told."""
_GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_DEPTHS = (8, 10, 12, 14, 16)
_WHITE = 255
_WIDTH, _HEIGHT, _ROTATION = 0x0100, 0x0101, 0x0112  # tags of TIFF and of EXIF
_ON_SIDE = (5, 6, 7, 8)
_ROTATED_IN = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
_GIANT = 20_000_000  # pixels
_BASE = 64  # pixels of a side, at least, of what looks are taken from
_giants = threading.Lock()
_silence = threading.Lock()
_silent: list[warnings.catch_warnings[None]] = []


@dataclass(frozen=True)
class Look:
    """What is known of a picture without regard to the size it will have."""

    width: int
    """Of the upright picture, in pixels."""
    height: int
    channels: int
    """1 where red, green and blue are the same in every pixel, else 3."""
    pixels: bytes
    """SHA-256 of size and pixels: the same in another lossless format, and with other metadata."""
    bits: int
    """64 bits of a difference hash: whether each of 8 x 8 places is brighter than the one to its right."""
    small: bytes
    """16 x 16 grey pixels."""


def begins_as_one(start: bytes) -> bool:
    """Whether the first bytes of a file, twelve at least, are those of a format that is read here."""
    return start.startswith(MAGIC) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def probe(source: Path | bytes, *, name: str = "") -> tuple[int, int, int]:
    """(width, height, channels) by the header, upright; 1 channel for grey pictures, else 3.

    Raises SadariError when it is no picture, or one too large.
    """
    with _opened(source, name) as picture:
        return *_size(picture), 1 if picture.mode in _GREY else 3


def decode(
    source: Path | bytes, *, size: int, fit: str = "crop", channels: int = 3, name: str = ""
) -> UInt8[np.ndarray, "H W C"]:
    """Pixels (size, size, channels), 0 to 255.

    crop     the shorter side becomes `size`, the middle of the longer one is kept
    pad      the longer side becomes `size`, white is put around the shorter one
    squash   both sides become `size`

    `name` is what errors call it, else the path. Raises SadariError when it is no picture, is damaged, or has
    too many pixels.
    """
    with _opened(source, name) as picture, _turn(picture):
        flat = _upright(picture, "L" if channels == 1 else "RGB", 2 * size)
        return np.asarray(_square(flat, size, fit), np.uint8).reshape(size, size, channels)


def look(source: Path | bytes, *, name: str = "") -> Look:
    """What a picture is. It is decoded to its end for that (a JPEG in small), so it is known to be sound.

    Raises SadariError as `decode` does.
    """
    with _opened(source, name) as picture, _turn(picture):
        width, height = _size(picture)
        flat = _upright(picture, "RGB", _BASE)
        pixels = np.asarray(flat)
        digest = hashlib.sha256(b"%d %d " % (width, height))
        digest.update(np.ascontiguousarray(pixels).data)
        grey = all(np.array_equal(pixels[..., 0], pixels[..., other]) for other in (1, 2))
        shades = flat.convert("L")
        steps = np.asarray(_resized(shades, (9, 8)))
        bits = np.packbits(steps[:, :-1] > steps[:, 1:]).tobytes()
        return Look(
            width=width,
            height=height,
            channels=1 if grey else 3,
            pixels=digest.digest(),
            bits=int.from_bytes(bits, "big"),
            small=np.asarray(_resized(shades, (LOOK, LOOK))).tobytes(),
        )


@contextmanager
def without_warnings() -> Iterator[None]:
    """Without what Pillow warns of in odd metadata. Many threads may be in it at once.

    `warnings.catch_warnings` alone would leave the filters as whichever thread comes out last had found them.
    """
    with _silence:
        if not _silent:
            caught = warnings.catch_warnings()
            caught.__enter__()
            warnings.simplefilter("ignore")
        _silent.append(_silent[0] if _silent else caught)
    try:
        yield
    finally:
        with _silence:
            last = _silent.pop()
            if not _silent:
                last.__exit__(None, None, None)


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[Image.Image]:
    """The picture by its header; whatever Pillow raises here or while it is used is said in our words."""
    name = name or (str(source) if isinstance(source, Path) else f"the picture of {len(source):,} bytes")
    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise SadariError(f"{name} is a folder or a device; name a picture's file")
    try:
        with without_warnings():
            opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
            with opened as picture:
                width, height = picture.size
                if width * height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                yield picture
    except Image.DecompressionBombError as error:
        raise SadariError(f"{name} has more than {MOST_PIXELS:,} pixels; make it smaller first") from error
    except FileNotFoundError as error:
        raise SadariError(f"{name} is not there; check the path") from error
    except UnidentifiedImageError as error:
        raise SadariError(
            f"{name} is no picture that is read here; give JPEG, PNG, WebP, GIF, BMP or TIFF"
        ) from error
    except OSError as error:
        raise SadariError(f"{name} cannot be read ({error.strerror or error}); mend or remove it") from error
    except Exception as error:  # a file made to be wrong can bring anything out of a decoder
        raise SadariError(
            f"{name} is damaged ({str(error) or type(error).__name__}); mend or remove it"
        ) from error


@contextmanager
def _turn(picture: Image.Image) -> Iterator[None]:
    """Giants one at a time: a hundred million pixels take a gigabyte while they are decoded."""
    with _giants if picture.width * picture.height > _GIANT else nullcontext():
        yield


def _size(picture: Image.Image) -> tuple[int, int]:
    """Upright width and height of a picture that is opened and not yet decoded."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile):  # whose size is upright in some versions of Pillow
        width, height = picture.tag_v2[_WIDTH], picture.tag_v2[_HEIGHT]
    else:
        width, height = picture.size
    if picture.format == "PNG" and not any(place in picture.info for place in _ROTATED_IN):
        return width, height  # asked for an EXIF that it has not, a PNG would be decoded whole
    with suppress(Exception):  # an EXIF that cannot be read says nothing
        if picture.getexif().get(_ROTATION, 1) in _ON_SIDE:
            return height, width
    return width, height


def _upright(picture: Image.Image, mode: str, least: int) -> Image.Image:
    """Decoded, in `mode` L or RGB; a JPEG as small as an eighth, where that has `least` pixels a side."""
    picture.draft(mode, (least, least))
    picture.load()
    with suppress(Exception):  # a broken EXIF does not make the pixels worse
        ImageOps.exif_transpose(picture, in_place=True)
    return _flat(picture, mode)


def _flat(picture: Image.Image, mode: str) -> Image.Image:
    """Without alpha, palette or depth, in grey or in colours."""
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray(_shallow(np.asarray(picture).astype(np.float64)))
    elif picture.mode in ("I", "F"):
        picture = Image.fromarray(_shallow(np.asarray(picture, np.float64)))
    elif picture.mode in _ALPHA or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (_WHITE,) * 4), picture)
    return picture.convert(mode)  # a copy at least, that outlives the file


def _shallow(values: np.ndarray) -> np.ndarray:
    """Deep grey values (H, W) as bytes."""
    known = np.isfinite(values)
    if not known.all():
        values = np.where(known, values, values[known].min(initial=np.inf))
        values = np.where(np.isfinite(values), values, 0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 0xFFFF and (values == np.floor(values)).all():
        low, high = 0.0, next(2.0**bits - 1 for bits in _DEPTHS if high < 2**bits)
    span = high - low
    if not span or not np.isfinite(span):
        return np.zeros(values.shape, np.uint8)
    return ((values - low) * (_WHITE / span)).round().astype(np.uint8)


def _square(picture: Image.Image, size: int, fit: str) -> Image.Image:
    width, height = picture.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return _resized(picture, (size, size), (left, top, left + side, top + side))
    if fit == "squash":
        return _resized(picture, (size, size))
    longer = max(width, height)
    inner = max(round(width * size / longer), 1), max(round(height * size / longer), 1)
    if inner == (size, size):
        return _resized(picture, inner)
    ground = Image.new(picture.mode, (size, size), "white")
    ground.paste(_resized(picture, inner), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    return ground


def _resized(
    picture: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    if picture.size == size and box in (None, (0, 0, *size)):
        return picture  # pixel for pixel
    return picture.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
