"""Changes of pictures: nothing changes that must not, each equals what its paper or Pillow makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from sadari import randaugment as ra
from sadari.augment import OPERATIONS, crop, cutmix, erase, flip, mixup, parse
from sadari.errors import SadariError

COUNT = 200


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def photos(count: int = 6, side: int = 24, channels: int = 3) -> Tensor:
    """Smooth pictures, each channel of them over another range of values."""
    x = torch.linspace(0, 3, side)
    waves = torch.stack(
        [torch.sin(x * (k + 1)) + torch.cos(x * (k % 4))[:, None] for k in range(count * channels)]
    )
    waves = waves.view(count, channels, side, side).permute(0, 2, 3, 1)
    return ((waves + 2) * 40 + torch.arange(channels) * 20).clamp(0, 255).to(torch.uint8)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# What every change keeps


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", [(5, 32, 32, 3), (3, 7, 7, 1), (2, 1, 1, 1), (1, 8, 12, 3)])
def test_a_change_gives_new_pictures_of_the_same_kind(name: str, shape: tuple[int, ...]) -> None:
    pictures = drawn(*shape)
    before = pictures.clone()
    changed = OPERATIONS[name](pictures)
    assert changed.dtype == torch.uint8 and changed.shape == pictures.shape
    assert torch.equal(pictures, before)  # a window of batches is not written to


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_same_generator_state_gives_the_same_bits(name: str) -> None:
    pictures, change = drawn(32, 16, 16, 3), OPERATIONS[name]
    state = torch.get_rng_state()
    first, second = change(pictures), change(pictures)
    torch.set_rng_state(state)
    assert torch.equal(change(pictures), first) and torch.equal(change(pictures), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ["crop", "flip"])
@given(value=st.integers(0, 255), side=st.integers(1, 40))
def test_moving_a_constant_picture_leaves_it(name: str, value: int, side: int) -> None:
    pictures = torch.full((4, side, side, 3), value, dtype=torch.uint8)
    assert torch.equal(OPERATIONS[name](pictures), pictures)


@pytest.mark.parametrize("change", ["autocontrast", "equalize", "contrast", "sharpness", "color", "identity"])
def test_a_flat_grey_picture_has_no_contrast_to_change(change: str) -> None:
    pictures = torch.full((2, 9, 9, 3), 77, dtype=torch.uint8)
    assert torch.equal(ra.COLOURS[change](pictures, torch.full((2, 1, 1, 1), 0.9)), pictures)


# crop, flip, colour, erase


def test_a_crop_is_a_window_of_the_mirrored_picture() -> None:
    pictures = drawn(COUNT, 16, 24, 2)
    cropped = crop(pictures)
    padded = np.pad(pictures.numpy(), ((0, 0), (2, 2), (3, 3), (0, 0)), mode="reflect")
    places = set()
    for whole, window in zip(padded, cropped.numpy(), strict=True):
        found = [
            (y, x)
            for y in range(5)
            for x in range(7)
            if np.array_equal(whole[y : y + 16, x : x + 24], window)
        ]
        assert len(found) == 1
        places |= set(found)
    assert len(places) > 30  # of 35


def test_a_flip_is_a_mirror_of_half_the_pictures_and_its_own_inverse() -> None:
    pictures = drawn(COUNT, 8, 8, 3)
    state = torch.get_rng_state()
    flipped = flip(pictures)
    mirrored = torch.tensor([torch.equal(a, b.flip(1)) for a, b in zip(flipped, pictures, strict=True)])
    same = torch.tensor([torch.equal(a, b) for a, b in zip(flipped, pictures, strict=True)])
    assert (mirrored ^ same).all() and 0.35 < mirrored.float().mean() < 0.65
    torch.set_rng_state(state)
    assert torch.equal(flip(flipped), pictures)


def test_colour_moves_every_picture_by_factors_of_its_own_and_keeps_grey_grey() -> None:
    pictures = torch.full((COUNT, 4, 4, 3), 100, dtype=torch.uint8)
    changed = OPERATIONS["colour"](pictures)
    assert (changed == changed[:, :1, :1, :1]).all()  # no contrast and no saturation to change
    levels = changed[:, 0, 0, 0]
    assert 58 <= levels.min() < 70 and 130 < levels.max() <= 142 and len(levels.unique()) > 40


def test_erasing_fills_one_rectangle_of_the_papers_size_in_half_of_the_pictures() -> None:
    pictures = torch.zeros(2000, 32, 32, 3, dtype=torch.uint8)
    changed = (erase(pictures) != 0).any(-1)  # (N, H, W); noise is 0 in all channels once in 16 million
    hit = changed.flatten(1).any(1)
    assert 0.45 < hit.float().mean() < 0.55
    shares, ratios = [], []
    for mask in changed[hit]:
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        tall, broad = (int(places.max() - places.min()) + 1 for places in (rows, columns))
        assert mask.sum() == tall * broad
        shares.append(tall * broad / 1024)
        ratios.append(tall / broad)
    assert min(shares) >= 0.015 and 0.3 < max(shares) <= 0.42
    assert min(ratios) < 0.5 and max(ratios) > 2 and 0.9 < float(np.median(ratios)) < 1.1


# RandAugment, against the library that the paper's code stands on


def pillow(change: Callable[[Image.Image], Image.Image], pictures: Tensor) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pictures.numpy()])


REFERENCES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "posterize": lambda picture: ImageOps.posterize(picture, 4),
    "solarize": lambda picture: ImageOps.solarize(picture, 26),
    "color": lambda picture: ImageEnhance.Color(picture).enhance(1.81),
    "contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(1.81),
    "brightness": lambda picture: ImageEnhance.Brightness(picture).enhance(1.81),
    "sharpness": lambda picture: ImageEnhance.Sharpness(picture).enhance(1.81),
    "identity": lambda picture: picture,
}


@pytest.mark.parametrize("name", ra.COLOURS)
def test_colours_equal_pillows(name: str) -> None:
    pictures = photos()
    ours = ra.COLOURS[name](pictures, torch.full((len(pictures), 1, 1, 1), 0.9)).numpy().astype(int)
    theirs = pillow(REFERENCES[name], pictures).astype(int)
    nearly = {
        "autocontrast": 1,
        "color": 2,
        "contrast": 2,
        "brightness": 1,
        "sharpness": 2,
    }  # Pillow cuts off
    assert np.abs(ours - theirs).max() <= nearly.get(name, 0)
    assert name == "identity" or (ours != pictures.numpy()).mean() > 0.1


def test_weakening_equals_pillows_too() -> None:
    pictures = photos()
    m = torch.full((len(pictures), 1, 1, 1), -0.9)
    theirs = pillow(lambda picture: ImageEnhance.Color(picture).enhance(0.19), pictures)
    assert np.abs(ra.color(pictures, m).numpy().astype(int) - theirs).max() <= 2
    smooth = pillow(lambda picture: picture.filter(ImageFilter.SMOOTH), pictures)
    flat = ra.sharpness(pictures, m / 0.81)  # a factor of 0
    assert np.abs(flat.numpy().astype(int) - smooth).max() <= 1


def test_a_shift_by_whole_pixels_moves_pixels_and_fills_with_grey() -> None:
    pictures = drawn(2, 20, 20, 3)
    right = ra.moved(pictures, ra.translate_x(torch.tensor([-4 / (20 * 0.45)] * 2)))
    assert torch.equal(right[:, :, 4:], pictures[:, :, :-4]) and (right[:, :, :4] == 128).all()
    up = ra.moved(pictures, ra.translate_y(torch.tensor([4 / (20 * 0.45)] * 2)))
    assert torch.equal(up[:, :-4], pictures[:, 4:]) and (up[:, -4:] == 128).all()


def test_a_quarter_turn_is_exact_and_about_the_middle() -> None:
    pictures = drawn(2, 12, 12, 1)
    turned = ra.moved(pictures, ra.rotate(torch.tensor([3.0, -3.0])))
    assert torch.equal(turned[0], pictures[0].rot90(1)) and torch.equal(turned[1], pictures[1].rot90(-1))


def test_turns_and_shears_read_where_pillow_does() -> None:
    pictures = photos(1)
    turned = ra.moved(pictures, ra.rotate(torch.tensor([0.5])))
    theirs = Image.fromarray(pictures[0].numpy()).rotate(15, Image.Resampling.BILINEAR, fillcolor=(128,) * 3)
    inside = (slice(0, 1), slice(6, 18), slice(6, 18))  # at the edges Pillow mixes nothing in
    assert (
        turned[inside].int() - torch.from_numpy(np.asarray(theirs).copy())[None][inside].int()
    ).abs().max() <= 1
    sheared = ra.moved(pictures, ra.shear_x(torch.tensor([0.5])))
    middle = 11.5
    map_ = (1, 0.15, -0.15 * (middle + 0.5), 0, 1, 0)
    theirs = Image.fromarray(pictures[0].numpy()).transform(
        (24, 24), Image.Transform.AFFINE, map_, Image.Resampling.BILINEAR
    )
    assert (
        sheared[inside].int() - torch.from_numpy(np.asarray(theirs).copy())[None][inside].int()
    ).abs().max() <= 1


def test_strength_zero_changes_nothing_but_the_histogram() -> None:
    pictures = photos(40)
    still = [name for name in ra.COLOURS if name not in ("autocontrast", "equalize")]
    for name in still:
        assert torch.equal(ra.COLOURS[name](pictures, torch.zeros(40, 1, 1, 1)), pictures), name
    for move in ra.MOVES.values():
        assert torch.equal(ra.moved(pictures, move(torch.zeros(40))), pictures)


def test_each_picture_gets_changes_of_its_own() -> None:
    same = photos(1).expand(400, -1, -1, -1)
    once = ra.randaugment(same, changes=1)
    different = len(once.flatten(1).unique(dim=0))
    # two directions each of color, contrast, brightness, sharpness and the five moves, and five without
    assert different == 2 * 9 + 5
    assert 0.03 < (once == same).flatten(1).all(1).float().mean() < 0.12  # identity, one in fourteen
    assert len(ra.randaugment(same).flatten(1).unique(dim=0)) > 150


# Blends


@given(alpha=st.floats(0.05, 5), seed=st.integers(0, 1000))
def test_mixup_is_the_sum_in_its_shares(alpha: float, seed: int) -> None:
    torch.manual_seed(seed)
    pictures, targets = drawn(9, 4, 4, 3), torch.arange(9)
    blended, mixed = mixup(pictures, targets, alpha)
    assert 0 <= mixed.share <= 1 and torch.equal(mixed.targets, targets)
    assert torch.equal(mixed.others.sort().values, targets)
    hand = mixed.share * pictures.double() + (1 - mixed.share) * pictures[mixed.others].double()
    torch.testing.assert_close(blended.double(), hand, rtol=0, atol=1e-3)


@given(alpha=st.floats(0.05, 5), seed=st.integers(0, 1000))
def test_cutmix_counts_the_pixels_that_it_took(alpha: float, seed: int) -> None:
    torch.manual_seed(seed)
    pictures = torch.arange(9, dtype=torch.uint8).view(9, 1, 1, 1).expand(-1, 16, 16, 3)
    cut, mixed = cutmix(pictures, torch.arange(9), alpha)
    own = (cut == pictures).all(-1)
    for picture, other, mine in zip(cut, mixed.others, own, strict=True):
        assert (picture[~mine] == int(other)).all()
    moved = mixed.others != mixed.targets
    torch.testing.assert_close(own[moved].float().mean((1, 2)), torch.full((int(moved.sum()),), mixed.share))
    taken = ~own[moved][0] if moved.any() else torch.zeros(16, 16, dtype=torch.bool)
    assert taken.sum() == taken.any(1).sum() * taken.any(0).sum()  # a rectangle


def test_shares_follow_their_law() -> None:
    shares = torch.tensor([mixup(drawn(1, 1, 1, 1), torch.zeros(1), 0.2)[1].share for _ in range(2000)])
    assert abs(float(shares.mean()) - 0.5) < 0.04
    assert abs(float(shares.var()) - 1 / (4 * (2 * 0.2 + 1))) < 0.02  # of Beta(a, a)


# Names


def test_names_give_changes_in_their_order() -> None:
    assert parse("none") == () and parse("auto") == (crop,)
    assert parse("flip, crop") == (flip, crop) and parse("crop,crop") == (crop,)


@pytest.mark.parametrize("names", ["sharpen", "crop,none", "", "crop,", "auto,flip"])
def test_a_name_that_is_none_says_which_there_are(names: str) -> None:
    with pytest.raises(
        SadariError,
        match=r"--augment '.*': there is no change '.*'; .* none, auto, .*: crop, flip, colour, rand",
    ):
        parse(names)
