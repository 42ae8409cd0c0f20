"""From pictures to pixels: open, split so that no picture stands on both sides, decode all to one size.

Which part a picture is in depends on the pictures, their labels and the seed alone: at another size the split
is the same, so that a pretrained backbone at 224 pixels and a line at 32 are scored on the same pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sadari.data.classes import check_labels, class_notes, in_order, known_classes
from sadari.data.decode_image import CHANNELS, FITS, LARGEST
from sadari.data.image_cache import bar, decoded, parts_of
from sadari.data.image_files import Told
from sadari.data.images import ImageTable, open_images
from sadari.data.near_images import near
from sadari.data.prepare import Prepared
from sadari.data.spec import target_values
from sadari.data.spec_images import ImageSpec
from sadari.data.split import Split, joined, split_rows
from sadari.data.table import Table
from sadari.errors import SadariError
from sadari.lang import Note

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt8

TEXTS = {
    "no target": (
        "{count:,} of {rows:,} pictures have no `{target}` and are left out",
        "그림 {rows:,}장 가운데 `{target}` 값이 없는 {count:,}장은 뺐습니다",
    ),
    "repeated": (
        "{count:,} of {rows:,} pictures repeat another; those of the same pixels stay in one part of the "
        "split",
        "그림 {rows:,}장 가운데 {count:,}장은 다른 그림과 같습니다. 같은 그림은 나눌 때 한쪽에 함께 둡니다",
    ),
    "contradiction": (
        "{count:,} pictures have the same pixels as one of another class ({first}); no rung can tell them "
        "from each other",
        "그림 {count:,}장은 범주가 다른 그림과 픽셀이 같아({first}) 어느 단도 구별하지 못합니다",
    ),
    "tested": (
        "{count:,} pictures to train on have the same pixels as one of the test and are left out",
        "훈련할 그림 {count:,}장은 테스트 그림과 픽셀이 같아 뺐습니다",
    ),
    "untrained": (
        "{count:,} pictures of the test are of a class that is in no training picture and are left out",
        "테스트 그림 {count:,}장은 훈련 그림에 없는 범주라 뺐습니다",
    ),
    "once": (
        "class `{label}` has one picture; it is trained on, and no score tells how well it is known",
        "범주 `{label}`의 그림은 한 장뿐이어서 훈련에만 쓰고, 얼마나 맞히는지는 점수로 알 수 없습니다",
    ),
    "few": (
        "class `{label}` has {count} training pictures; what is said of it will be a guess",
        "범주 `{label}`의 훈련 그림이 {count}장뿐이라 그 예측은 짐작에 가깝습니다",
    ),
    "imbalance": (
        "classes are unequal: `{label}` is {share:.1%} of the pictures, so always answering it is right that "
        "often; judge by balanced accuracy",
        "범주가 고르지 않습니다: `{label}`의 비율이 {share:.1%}여서 늘 그렇게만 답해도 그만큼 맞습니다. "
        "균형 정확도로 판단하십시오",
    ),
    "moved": (
        "{count:,} pictures whose class was in no training picture were moved to training",
        "훈련 부분에 없던 범주의 그림 {count:,}장을 훈련 부분으로 옮겼습니다",
    ),
    "near": (
        "validation and test pictures that look nearly like one that is trained on: {count:,} (such as {one} "
        "and {other}); put what belongs together into a column `group`, or the scores flatter",
        "검증과 테스트의 그림 {count:,}장은 훈련 그림과 거의 같습니다(예: {one}, {other}). 함께 두어야 할 "
        "그림을 `group` 열로 묶지 않으면 점수가 실제보다 좋게 나옵니다",
    ),
    "enlarged": (
        "{share:.0%} of the pictures are smaller than {size} pixels and are enlarged",
        "그림의 {share:.0%}는 {size}픽셀보다 작아 늘렸습니다",
    ),
}

SIZE = 64
"""Pixels of a side, at most, unless said otherwise: what a CPU trains on in minutes."""
_BLOCK = 1 << 12
_MANY = 0.1
_FLATTERS = 0.01  # of the scored pictures: fewer move no score by a point


@dataclass(frozen=True)
class ImageArrays:
    """Pictures of one part, in the table's order."""

    features: UInt8[np.ndarray, "N H W C"]
    """Pixels, 0 to 255; mapped from a file when they are many."""
    targets: Int64[np.ndarray, " N"]
    """Class numbers."""


def prepare_images(
    source: str | Path | pl.DataFrame | Table,
    *,
    target: str | None = None,
    image: str | None = None,
    size: int = 0,
    fit: str = "crop",
    channels: int = 0,
    hold_out: str = "",
    seed: int = 0,
    memory: int = 2 << 30,
    cache: Path | None = None,
    told: Told | None = None,
) -> Prepared:
    """Open labelled pictures, split them 60/20/20 with each class in its share, and decode them.

    Pictures of the same pixels, and those of one `group`, stay in one part. An official test stays as it is;
    what is in it as well is not trained on. `hold_out`, COLUMN=VALUE, makes one of the rows with that value.
    Pixels are (N, size, size, channels): by default the middle one of the shorter sides, 64 at most, and grey
    if all of them are. They come from the cache once they were decoded, and are mapped from it where they
    would take more than half of `memory`.
    Raises SadariError when there are too few pictures or classes, or a setting is none.
    """
    _check_settings(size, fit, channels)
    table = open_images(
        source, image=image, target=target, memory=memory, cache=cache, told=told, hold_out=hold_out
    )
    image, target = list(table.schema)[:2]
    frame = table.frame.select(pl.exclude(image)).collect()
    labels = target_values(frame, target, "classify", name=table.name)
    kept = np.flatnonzero(labels.is_not_null().to_numpy())
    notes = list(table.notes)
    if lost := table.rows - len(kept):
        notes.append(Note.of(TEXTS, "no target", "warning", count=lost, rows=table.rows, target=target))
    known = labels.drop_nulls()
    check_labels(table.name, target, known, "pictures")
    split, said = _split(table, frame, known, kept, seed)
    counts = labels[split.train].value_counts(sort=True)
    spec = ImageSpec(
        target=target,
        image=image,
        classes=tuple(sorted(counts[target], key=in_order)),
        size=size or int(np.clip(np.median(_short_sides(table)), 1, SIZE)),
        fit=fit,
        channels=channels or int(table.looks["channels"].max()),
        notes=tuple(class_notes(TEXTS, counts, len(split.train), known.value_counts())),
    )
    spec, (train, validation, test) = _encode(table, split, spec, memory, told)
    notes += [*said, *_near_notes(table, split), *spec.notes]
    # the spec and the arrays are of another kind: the same names mean the same
    return Prepared(table, "classify", spec, split, train, validation, test, tuple(notes), "images")  # type: ignore[arg-type]


def resized(
    prepared: Prepared,
    *,
    size: int,
    fit: str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    channels: int | None = None,
    memory: int = 2 << 30,
    told: Told | None = None,
) -> Prepared:
    """The same pictures in the same split with other pixels: those that a pretrained model was trained on.

    `mean` and `std` of each channel, pixels from 0 to 1, are the training pictures' own unless given.
    Raises SadariError for a setting that is none.
    """
    before = prepared.spec
    assert isinstance(before, ImageSpec)
    fit, channels = fit or before.fit, channels or before.channels
    _check_settings(size, fit, channels)
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != channels:
            raise SadariError(f"{name} has {len(values)} values for {channels} channels; give one for each")
    table = prepared.table
    assert isinstance(table, ImageTable)
    said = tuple(note for note in before.notes if note.about.get("kind") != "enlarged")
    spec = replace(before, size=size, fit=fit, channels=channels, notes=said)
    spec, (train, validation, test) = _encode(table, prepared.split, spec, memory, told, mean, std)
    others = tuple(note for note in prepared.notes if note not in before.notes)
    return replace(
        prepared,
        spec=spec,  # type: ignore[arg-type]
        train=train,  # type: ignore[arg-type]
        validation=validation,  # type: ignore[arg-type]
        test=test,  # type: ignore[arg-type]
        notes=(*others, *spec.notes),
    )


def _check_settings(size: int, fit: str, channels: int) -> None:
    if not 0 <= size <= LARGEST:
        raise SadariError(f"--size {size} is no size; give 1 to {LARGEST:,} pixels, or 0 to choose for you")
    if fit not in FITS:
        raise SadariError(f"--fit {fit!r} is no way to make a square; choose one of: {', '.join(FITS)}")
    if channels not in (0, *CHANNELS):
        raise SadariError(f"channels={channels}: pictures have 1 (grey) or 3 (colours); 0 chooses for you")


# --------------------------------------------------------------------- splitting


def _split(
    table: ImageTable, frame: pl.DataFrame, labels: pl.Series, kept: np.ndarray, seed: int
) -> tuple[Split, list[Note]]:
    """A split of the labelled rows `kept`, in the table's row numbers, no pixels of one part in another."""
    codes = labels.rank("dense").to_numpy().astype(np.int64) - 1
    same = _codes(table.looks["pixels"][kept])
    test = kept >= table.rows - table.official_test
    notes = _repeats(table, kept, same, codes)
    use = np.ones(len(kept), bool)
    if test.any():
        use = test | ~np.isin(same, same[test])
        if count := int((~use).sum()):
            notes.append(Note.of(TEXTS, "tested", "warning", count=count))
        strange = test & ~np.isin(codes, codes[use & ~test])
        if count := int(strange.sum()):
            notes.append(Note.of(TEXTS, "untrained", "warning", count=count))
        use &= ~strange
    kept, codes, same, test = kept[use], codes[use], same[use], test[use]
    groups = same
    if "group" in frame.columns[1:]:
        named = frame["group"][kept].fill_null("").rank("dense").to_numpy().astype(np.int64) - 1
        groups = joined(same, named)
    split = split_rows(len(kept), seed, strata=codes, groups=groups, official_test=int(test.sum()))
    free = np.flatnonzero(~test)
    if test.any():  # classes of the test are all among the others
        alone = Split(split.train, split.validation, np.empty(0, np.int64))
        alone, moved = known_classes(alone, codes[free], groups[free])
        split = replace(alone, test=split.test)
    else:
        split, moved = known_classes(split, codes, groups)
    if moved:
        notes.append(Note.of(TEXTS, "moved", "warning", count=moved))
    if not (len(split.validation) and len(split.test)):
        raise SadariError(
            f"{table.name}: {len(kept):,} pictures of {len(np.unique(codes)):,} classes leave none to choose "
            f"by or to score, for each class must be trained on; give two pictures of a class or more"
        )
    return split.of(kept), notes


def _repeats(table: ImageTable, kept: np.ndarray, same: np.ndarray, codes: np.ndarray) -> list[Note]:
    """What is said of pictures with the same pixels."""
    notes = []
    if repeated := len(same) - len(np.unique(same)):
        notes.append(Note.of(TEXTS, "repeated", count=repeated, rows=len(same)))
    both = np.unique(np.stack([same, codes], 1), axis=0)[:, 0]
    torn = np.flatnonzero(np.bincount(both)[same] > 1)
    if len(torn):
        first = ", ".join(table.names[kept[row]] for row in torn[same[torn] == same[torn[0]]][:2])
        notes.append(Note.of(TEXTS, "contradiction", "warning", count=len(torn), first=first))
    return notes


def _codes(digests: UInt8[np.ndarray, "N 32"]) -> Int64[np.ndarray, " N"]:
    """A number for each row, the same for the same digest."""
    whole = np.ascontiguousarray(digests).view("V32").ravel()
    return np.unique(whole, return_inverse=True)[1].astype(np.int64)


def _near_notes(table: ImageTable, split: Split) -> list[Note]:
    """What is said of pictures to choose by or to score that look like one that is trained on."""
    scored = np.concatenate([split.validation, split.test])
    rows, likes = near(table.looks[scored], table.looks[split.train])
    if not len(rows):
        return []
    one, other = table.names[scored[rows[0]]], table.names[split.train[likes[0]]]
    level = "warning" if len(rows) > _FLATTERS * len(scored) else "info"
    return [Note.of(TEXTS, "near", level, count=len(rows), one=one, other=other)]  # type: ignore[arg-type]


# --------------------------------------------------------------------- pixels


def _encode(
    table: ImageTable,
    split: Split,
    spec: ImageSpec,
    memory: int,
    told: Told | None,
    mean: tuple[float, ...] | None = None,
    deviation: tuple[float, ...] | None = None,
) -> tuple[ImageSpec, list[ImageArrays]]:
    """The parts as arrays; and the spec with a note on what was enlarged, and with mean and deviation: those
    of the training pictures, which are gone through only for what is not given."""
    frame = table.frame.collect()
    parts = decoded_parts(frame, table, split, spec, memory, told)
    if not (mean and deviation):
        own = moments(parts[0])
        mean, deviation = mean or own[0], deviation or own[1]
    said = list(spec.notes)
    smaller = float((_short_sides(table) < spec.size).mean())
    if smaller > _MANY:
        said.append(Note.of(TEXTS, "enlarged", share=smaller, size=spec.size))
    arrays = [
        ImageArrays(features, spec.encode_target(frame[rows]))
        for features, rows in zip(parts, (split.train, split.validation, split.test), strict=True)
    ]
    return replace(spec, mean=mean, deviation=deviation, notes=tuple(said)), arrays


def decoded_parts(
    frame: pl.DataFrame, table: ImageTable, split: Split, spec: ImageSpec, memory: int, told: Told | None
) -> list[UInt8[np.ndarray, "P H W C"]]:
    """The pixels of each part. Raises SadariError for the first picture that cannot be decoded."""
    with bar("decode", told) as show:
        pixels, failures = decoded(
            frame[spec.image].to_list(),
            table.looks["content"],
            size=spec.size,
            fit=spec.fit,
            channels=spec.channels,
            names=table.names,
            source=table.source,
            memory=memory,
            cache=table.cache,
            told=show,
        )
    if failures:
        raise SadariError(next(iter(failures.values())))
    return parts_of(pixels, split, memory, table.cache)


def moments(pixels: UInt8[np.ndarray, "N H W C"]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, pixels from 0 to 1: exact, whatever the order.

    A channel that is the same everywhere has deviation 1, so that it can be divided by.
    """
    counts = np.zeros((pixels.shape[-1], 256), np.int64)
    for start in range(0, len(pixels), _BLOCK):
        block = pixels[start : start + _BLOCK]
        for channel in range(pixels.shape[-1]):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    share = counts / counts.sum(1, keepdims=True)
    mean = share @ levels
    deviation = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(1))
    deviation = np.where((counts > 0).sum(1) > 1, deviation, 1.0)
    return tuple(mean.tolist()), tuple(deviation.tolist())


def _short_sides(table: ImageTable) -> np.ndarray:
    return np.minimum(table.looks["width"], table.looks["height"])
