"""Every format and oddity of a picture file gives the pixels that a viewer would show, or one clear line."""

from __future__ import annotations

import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from sadari.data import decode_image
from sadari.data.decode_image import FORMATS, SUFFIXES, begins_as_one, decode, look, probe, without_warnings
from sadari.errors import SadariError

RED, BLUE = (255, 0, 0), (0, 0, 255)
UPRIGHT = {  # how a picture is stored for each rotation of the EXIF standard
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
WRITTEN: dict[str, dict[str, Any]] = {  # how each format is written without or with hardly any loss
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
    "JPEG": {"quality": 100, "subsampling": 0},
}


def blocks(width: int, height: int, seed: int = 0, block: int = 8) -> Image.Image:
    """A picture of blocks of random colours, the same in all directions only by chance."""
    draw = np.random.default_rng(seed)
    small = draw.integers(0, 256, (-(-height // block), -(-width // block), 3))
    return Image.fromarray(np.kron(small, np.ones((block, block, 1)))[:height, :width].astype(np.uint8))


def written(picture: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **how)
    return file.getvalue()


def pixels(source: bytes | Path, size: int = 24, **how: Any) -> np.ndarray:
    return decode(source, size=size, **how).astype(int)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has next to nothing in it."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


# --------------------------------------------------------------------- formats


@pytest.mark.parametrize("form", [form for form in FORMATS if form not in ("JPEG", "GIF")])
def test_a_lossless_format_gives_the_pixels_back(form: str) -> None:
    picture = blocks(24, 24)
    encoded = written(picture, form, **WRITTEN.get(form, {}))
    assert (decode(encoded, size=24) == np.asarray(picture)).all()
    assert probe(encoded) == (24, 24, 3)
    assert begins_as_one(encoded[:16])
    assert look(encoded) == look(written(picture, "BMP"))


def test_jpeg_and_mpo_give_nearly_the_pixels_back(tmp_path: Path) -> None:
    picture = blocks(32, 32)
    assert (
        abs(pixels(written(picture, "JPEG", quality=100, subsampling=0), 32) - np.asarray(picture)).max() < 4
    )
    two = tmp_path / "two lenses.jpg"
    picture.save(two, "MPO", save_all=True, append_images=[blocks(32, 32, 1)], quality=100, subsampling=0)
    assert abs(pixels(two, 32) - np.asarray(picture)).max() < 4


def test_of_an_animated_gif_the_first_frame_is_read() -> None:
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)
    encoded = written(first, "GIF", save_all=True, append_images=[second])
    assert (decode(encoded, size=8) == RED).all()


def test_an_animated_webp_too() -> None:
    first, second = Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)
    encoded = written(first, "WEBP", save_all=True, append_images=[second], lossless=True)
    assert (decode(encoded, size=8) == RED).all()


@pytest.mark.parametrize("form", ["PPM", "ICO", "EPS", "PDF", "TGA", "SGI"])
def test_other_formats_are_not_opened(form: str) -> None:
    with pytest.raises(SadariError, match="is no picture that is read here; give JPEG, PNG, WebP, GIF, BMP"):
        decode(written(Image.new("RGB", (16, 16), RED), form), size=8)


def test_suffixes_are_lower_case_and_name_all_formats() -> None:
    known = Image.registered_extensions()
    assert {known[suffix] for suffix in SUFFIXES} == set(FORMATS)


# --------------------------------------------------------------------- depth, colours, alpha


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_by_its_depth(form: str) -> None:
    shades = np.arange(256, dtype=np.uint16).reshape(16, 16)
    encoded = written(Image.fromarray(shades * 257), form)
    assert (decode(encoded, size=16, channels=1)[..., 0] == shades).all()
    assert probe(encoded) == (16, 16, 1) and look(encoded).channels == 1
    medical = written(Image.fromarray(shades * 16 + 15), form)  # twelve bits in sixteen
    assert abs(pixels(medical, 16, channels=1)[..., 0] - shades).max() <= 1


def test_32_bit_and_floating_grey_are_seen(tmp_path: Path) -> None:
    ramp = np.linspace(-3, 5, 64).reshape(8, 8)
    expected = ((ramp + 3) * 255 / 8).round()
    for values in (ramp.astype(np.float32), (ramp * 1e6).astype(np.int32)):
        found = pixels(written(Image.fromarray(values), "TIFF"), 8, channels=1)[..., 0]
        assert abs(found - expected).max() <= 1
    holed = ramp.astype(np.float32)
    holed[0, 0], holed[7, 7] = np.nan, np.inf
    found = pixels(written(Image.fromarray(holed), "TIFF"), 8, channels=1)[..., 0]
    assert found[0, 0] == found[7, 7] == 0 and found[7, 6] == 255
    nothing = np.full((8, 8), np.nan, np.float32)
    assert not pixels(written(Image.fromarray(nothing), "TIFF"), 8).any()


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB"])
def test_every_mode_becomes_colours(mode: str) -> None:
    picture = blocks(24, 24)
    if mode == "LAB":
        from PIL import ImageCms

        one, other = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
        changed = ImageCms.profileToProfile(picture, one, other, outputMode="LAB")
        assert changed is not None
    else:
        changed = picture.convert(mode)
    found = pixels(written(changed, "TIFF"))
    expected = picture if mode == "LAB" else changed.convert("RGB")
    assert abs(found - np.asarray(expected)).max() < (16 if mode == "LAB" else 4)


def test_a_jpeg_in_cmyk_has_its_colours() -> None:
    for colour in (RED, BLUE, (255, 255, 255), (0, 0, 0)):
        encoded = written(Image.new("RGB", (16, 16), colour).convert("CMYK"), "JPEG", quality=100)
        assert abs(pixels(encoded, 16) - colour).max() < 8


def test_what_is_transparent_is_white() -> None:
    alpha = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    alpha.paste((255, 0, 0, 255), (0, 0, 4, 8))
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.paste(1, (0, 0, 4, 8))
    grey = Image.new("LA", (8, 8), (0, 0))
    grey.paste((0, 255), (0, 0, 4, 8))
    keyed = Image.new("RGB", (8, 8), BLUE)
    keyed.paste(RED, (0, 0, 4, 8))
    for encoded, left in (
        (written(alpha), RED),
        (written(alpha, "WEBP", lossless=True), RED),
        (written(alpha, "TIFF"), RED),
        (written(palette, transparency=0), RED),
        (written(palette, transparency=bytes([0, 255])), RED),
        (written(palette, "GIF", transparency=0), RED),
        (written(grey), (0, 0, 0)),
        (written(keyed, transparency=BLUE), RED),
    ):
        found = decode(encoded, size=8)
        assert (found[:, :4] == left).all() and (found[:, 4:] == 255).all()
    half = written(Image.new("RGBA", (4, 4), (0, 0, 0, 128)))
    assert abs(pixels(half, 4) - 127).max() <= 1


def test_one_channel_is_the_grey_of_three() -> None:
    encoded = written(blocks(24, 24))
    grey = pixels(encoded, channels=1)
    assert grey.shape == (24, 24, 1)
    assert abs(grey[..., 0] - decode(encoded, size=24) @ [0.299, 0.587, 0.114]).max() <= 1


# --------------------------------------------------------------------- rotation


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("rotation", UPRIGHT)
def test_every_rotation_is_turned_upright(form: str, rotation: int) -> None:
    upright = blocks(48, 32)
    turned = upright if UPRIGHT[rotation] is None else upright.transpose(UPRIGHT[rotation])
    exif = Image.Exif()
    exif[0x0112] = rotation
    encoded = written(turned, form, exif=exif, **WRITTEN[form])
    assert probe(encoded)[:2] == (48, 32)
    for fit in ("crop", "pad", "squash"):
        expected = pixels(written(upright), fit=fit)
        assert abs(pixels(encoded, fit=fit) - expected).max() <= (4 if form == "JPEG" else 0)
    seen, plain = look(encoded), look(written(upright))
    assert (seen.width, seen.height, seen.bits) == (48, 32, plain.bits)
    assert (seen.pixels == plain.pixels) == (form != "JPEG")


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"", b"Exif\0\0"])
def test_a_broken_exif_costs_nothing(exif: bytes) -> None:
    picture = blocks(16, 16)
    plain = written(picture, "JPEG")
    assert (decode(written(picture, "JPEG", exif=exif), size=16) == decode(plain, size=16)).all()
    assert probe(written(picture, exif=exif)) == (16, 16, 3)


# --------------------------------------------------------------------- squares


def test_crop_keeps_the_middle_pad_all_squash_both_sides() -> None:
    wide = Image.new("RGB", (48, 16), RED)
    wide.paste(BLUE, (16, 0, 32, 16))
    encoded = written(wide)
    assert (decode(encoded, size=16, fit="crop") == BLUE).all()
    padded = decode(encoded, size=48, fit="pad")
    assert (padded[:16] == 255).all() and (padded[32:] == 255).all()
    assert (padded[16:32] == np.asarray(wide)).all()
    squashed = decode(encoded, size=48, fit="squash")
    assert (squashed[:, 4:12] == RED).all() and (squashed[:, 20:28] == BLUE).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_a_picture_of_the_size_asked_for_is_left_as_it_is(fit: str) -> None:
    picture = blocks(17, 17, block=1)
    assert (decode(written(picture), size=17, fit=fit) == np.asarray(picture)).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3)])
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_the_smallest_pictures_have_pixels(size: tuple[int, int], fit: str) -> None:
    found = decode(written(Image.new("RGB", size, RED)), size=8, fit=fit)
    assert found.shape == (8, 8, 3) and (found == RED).all(2).any()


def test_a_giant_is_decoded(tmp_path: Path) -> None:
    giant = Image.new("L", (6000, 5000), 40)
    giant.paste(200, (3000, 0, 6000, 5000))
    encoded = written(giant, compress_level=1)
    found = decode(encoded, size=8, channels=1)
    assert abs(found[:, :3].astype(int) - 40).max() < 5 and abs(found[:, 5:].astype(int) - 200).max() < 5
    assert (look(encoded).width, look(encoded).channels) == (6000, 1)


def test_shrinking_is_antialiased() -> None:
    checks = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    assert abs(pixels(written(Image.fromarray(checks)), 16, channels=1) - 127.5).max() < 3


def test_a_large_jpeg_decoded_in_small_is_the_same_picture() -> None:
    draw = np.random.default_rng(1)
    smooth = Image.fromarray(draw.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((1200, 900))
    fast, whole = written(smooth, "JPEG", quality=95), written(smooth, "PNG")
    for fit in ("crop", "pad", "squash"):
        assert abs(pixels(fast, 32, fit=fit) - pixels(whole, 32, fit=fit)).mean() < 3


# --------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_cut_off_is_refused(form: str, tmp_path: Path) -> None:
    encoded = written(blocks(64, 64, block=1), form)
    path = tmp_path / "cut.jpg"
    path.write_bytes(encoded[: len(encoded) // 2])
    for read in (lambda source: decode(source, size=8), look):
        with pytest.raises(SadariError, match=r"cut\.jpg .*(cannot be read|is damaged|no picture).*"):
            read(path)


def test_a_bomb_is_refused_by_its_header() -> None:
    for bomb in (png_header(20_000, 20_000), png_header(10_001, 10_000), png_header(2**31 - 1, 1)):
        for read in (lambda source: decode(source, size=8), probe, look):
            with pytest.raises(SadariError, match="has more than 100,000,000 pixels; make it smaller first"):
                read(bomb)
    tiff = TiffImagePlugin.ImageFileDirectory_v2()
    tiff[256], tiff[257] = 60_000, 60_000
    with pytest.raises(SadariError):
        probe(written(Image.new("L", (4, 4)), "TIFF", tiffinfo=tiff)[:-4])


def test_what_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SadariError, match=r"none\.png is not there; check the path"):
        probe(tmp_path / "none.png")
    with pytest.raises(SadariError, match="is a folder or a device; name a picture's file"):
        probe(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(SadariError, match=r"pipe\.png is a folder or a device"):
        decode(tmp_path / "pipe.png", size=8)
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    with pytest.raises(SadariError, match=r"page\.jpg is no picture that is read here"):
        probe(tmp_path / "page.jpg")
    with pytest.raises(SadariError, match="the picture of 0 bytes is no picture"):
        probe(b"")
    with pytest.raises(SadariError, match="row 3 is no picture"):
        decode(b"nothing", size=8, name="row 3")


SOUND = {form: written(blocks(24, 24, block=3), form) for form in FORMATS}


@given(st.sampled_from(FORMATS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=20))
@settings(max_examples=300)
def test_a_file_with_wrong_bytes_gives_pixels_or_one_line(
    form: str, changes: list[tuple[float, int]]
) -> None:
    broken = bytearray(SOUND[form])
    for place, value in changes:
        broken[int(place * (len(broken) - 1))] = value
    for read in (probe, look, lambda source: decode(source, size=8)):
        try:
            read(bytes(broken))
        except SadariError as error:
            assert "\n" not in str(error).strip()


# --------------------------------------------------------------------- looks and warnings


def test_looks_tell_grey_by_its_pixels_and_the_same_by_theirs() -> None:
    grey = blocks(24, 24).convert("L")
    assert {look(written(grey.convert(mode))).channels for mode in ("L", "RGB", "P", "RGBA")} == {1}
    assert look(written(grey)).pixels == look(written(grey.convert("RGB"), "BMP")).pixels
    assert look(written(blocks(24, 24))).channels == 3
    other = blocks(24, 24)
    other.putpixel((3, 3), (1, 2, 3))
    assert look(written(other)).pixels != look(written(blocks(24, 24))).pixels
    one, two = Image.new("L", (8, 32)), Image.new("L", (32, 8))  # the same bytes in another shape
    assert look(written(one)).pixels != look(written(two)).pixels


def test_the_difference_hash_is_that_of_its_definition() -> None:
    ramp = np.tile(np.arange(72, dtype=np.uint8)[::-1] * 3, (64, 1))
    assert look(written(Image.fromarray(ramp))).bits == 2**64 - 1
    assert look(written(Image.fromarray(ramp[:, ::-1].copy()))).bits == 0


def test_warnings_come_back_whichever_thread_leaves_last() -> None:
    before = list(warnings.filters)
    inside, leave = threading.Barrier(3), [threading.Event() for _ in range(2)]

    def stay(number: int) -> None:
        with without_warnings():
            inside.wait()
            warnings.warn("odd metadata", stacklevel=1)
            leave[number].wait()

    threads = [threading.Thread(target=stay, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    inside.wait()
    for number in (0, 1):  # the first to come is not always the last to go
        leave[number].set()
        threads[number].join()
    assert warnings.filters == before and not decode_image._silent


def test_decoding_warns_of_nothing() -> None:
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    decode(written(palette, transparency=bytes([0, 255])), size=8)  # Pillow warns of such palettes
