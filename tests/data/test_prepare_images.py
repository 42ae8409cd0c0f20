"""Pictures become pixels and classes; no picture stands on both sides of the split; what is odd is said."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sadari.data import image_cache, near_images, prepare_images
from sadari.data.image_files import LOOKS
from sadari.data.near_images import near
from sadari.data.prepare import Prepared, prepare
from sadari.data.prepare_images import moments, resized
from sadari.data.spec_images import ImageSpec
from sadari.errors import SadariError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path / ".cache"))


def noise(seed: int, size: int | tuple[int, int] = 12, mode: str = "RGB") -> Image.Image:
    """A picture of blurred noise, another for each seed."""
    width, height = (size, size) if isinstance(size, int) else size
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(picture: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **how)
    return file.getvalue()


def frame(labels: Sequence[Any], pictures: Sequence[bytes] | None = None, **more: Any) -> pl.DataFrame:
    held = pictures or [encoded(noise(seed)) for seed in range(len(labels))]
    return pl.DataFrame({"image": held, "label": labels, **more})


def folder(place: Path, each: int = 10, classes: Sequence[str] = ("cat", "dog"), **how: Any) -> Path:
    for number, name in enumerate(classes):
        (place / name).mkdir(parents=True)
        for n in range(each):
            (place / name / f"{n}.png").write_bytes(encoded(noise(number * each + n, **how)))
    return place


def said(prepared: Prepared) -> dict[str, dict[str, Any]]:
    return {note.about["kind"]: note.about for note in prepared.notes}


def parts(prepared: Prepared) -> list[np.ndarray]:
    return [prepared.split.train, prepared.split.validation, prepared.split.test]


def in_one_part(prepared: Prepared, rows: Sequence[int]) -> bool:
    return sum(bool(np.isin(rows, part).any()) for part in parts(prepared)) == 1


# --------------------------------------------------------------------- the way through


def test_a_folder_becomes_pixels_classes_and_a_spec(tmp_path: Path) -> None:
    prepared = prepare(folder(tmp_path / "set", 20))
    assert (prepared.kind, prepared.task) == ("images", "classify")
    assert [len(part) for part in parts(prepared)] == [24, 8, 8]
    spec = prepared.spec
    assert isinstance(spec, ImageSpec)
    assert (spec.classes, spec.width, spec.fit) == (("cat", "dog"), (3, 12, 12), "crop")
    table = prepared.table.frame.collect()
    for part, rows in zip((prepared.train, prepared.validation, prepared.test), parts(prepared), strict=True):
        assert part.features.dtype == np.uint8 and part.features.flags.c_contiguous
        assert (part.features == spec.encode(table[rows])).all()  # from the cache as decoded anew
        assert (part.targets == spec.encode_target(table[rows])).all()
        assert np.bincount(part.targets).tolist() == [len(rows) / 2] * 2
    values = prepared.train.features.astype(np.float64) / 255
    assert np.allclose(spec.mean, values.mean((0, 1, 2)), atol=1e-12)
    assert np.allclose(spec.deviation, values.std((0, 1, 2)), atol=1e-12)
    assert ImageSpec.from_json(spec.to_json()) == spec


def test_a_run_opens_its_data_again_as_it_was(tmp_path: Path) -> None:
    place = folder(tmp_path / "set", size=(40, 30))
    first = resized(prepare(place, seed=3), size=24, fit="pad", mean=(0.1,) * 3, std=(0.2,) * 3)
    spec: Any = first.spec
    assert (spec.mean, spec.deviation) == ((0.1,) * 3, (0.2,) * 3)
    reading = {"size": spec.size, "fit": spec.fit, "channels": spec.channels, "image": spec.image}
    again = prepare(
        first.table.source, target=spec.target, task="classify", seed=3, kind="images", reading=reading
    )
    assert again.table.fingerprint == first.table.fingerprint
    assert again.split.fingerprint == first.split.fingerprint
    assert (again.test.features == first.test.features).all() and again.spec.classes == spec.classes


def test_the_split_is_the_same_at_every_size(tmp_path: Path) -> None:
    pictures = [
        encoded(noise(seed // 2, 40 + seed % 2)) for seed in range(60)
    ]  # alike, and the same in small
    source = frame(["a", "b", "c"] * 20, pictures)
    first = prepare(source, seed=1)
    for reading in ({"size": 1}, {"size": 3, "fit": "squash"}, {"channels": 1}, {"size": 64, "fit": "pad"}):
        assert prepare(source, seed=1, reading=reading).split.fingerprint == first.split.fingerprint
    assert prepare(source, seed=2).split.fingerprint != first.split.fingerprint


def test_resized_has_other_pixels_and_says_what_was_enlarged(tmp_path: Path) -> None:
    prepared = prepare(folder(tmp_path / "set"))
    large = resized(prepared, size=32, channels=1)
    assert large.split is prepared.split and large.table is prepared.table
    assert large.train.features.shape == (12, 32, 32, 1) and len(large.spec.mean) == 1
    assert (large.train.targets == prepared.train.targets).all()
    assert said(large)["enlarged"] == {"kind": "enlarged", "share": 1.0, "size": 32}
    back = resized(large, size=12, channels=3)
    assert (back.train.features == prepared.train.features).all() and back.spec == prepared.spec
    assert back.notes == prepared.notes
    with pytest.raises(SadariError, match="std has 3 values for 1 channels; give one for each"):
        resized(prepared, size=32, channels=1, std=(0.1, 0.2, 0.3))
    with pytest.raises(SadariError, match="--size 4000 is no size; give 1 to 1,024 pixels"):
        resized(prepared, size=4000)


def test_training_pictures_are_gone_through_only_for_what_is_not_given(tmp_path: Path) -> None:
    prepared, calls = prepare(folder(tmp_path / "set")), []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is moments.__code__:
            calls.append(frame.f_locals["pixels"].shape)

    half = (0.5,) * 3
    own = moments(resized(prepared, size=16).train.features)
    for mean, std, times in ((half, half, 0), (half, None, 1), (None, half, 1), (None, None, 1)):
        calls.clear()
        sys.setprofile(note)
        try:
            spec = resized(prepared, size=16, mean=mean, std=std).spec
        finally:
            sys.setprofile(None)
        assert calls == [(12, 16, 16, 3)] * times
        assert (spec.mean, spec.deviation) == (mean or own[0], std or own[1])


@pytest.mark.parametrize(("sides", "size"), [((12, 30), 12), ((200, 300), 64), ((1, 5), 1)])
def test_the_size_is_the_pictures_own_up_to_64(sides: tuple[int, int], size: int) -> None:
    pictures = [encoded(noise(seed, sides if seed % 3 else (20, 20))) for seed in range(12)]
    assert prepare(frame(["a", "b"] * 6, pictures)).spec.size == size


def test_grey_pictures_have_one_channel_however_they_are_written() -> None:
    grey = [encoded(noise(seed, mode="L").convert("RGB" if seed % 2 else "L")) for seed in range(12)]
    assert prepare(frame(["a", "b"] * 6, grey)).spec.width == (1, 12, 12)
    assert prepare(frame(["a", "b"] * 6, grey), reading={"channels": 3}).spec.width == (3, 12, 12)
    assert prepare(frame(["a", "b"] * 6, [*grey[:11], encoded(noise(99))])).spec.width == (3, 12, 12)


def test_what_is_too_large_for_memory_is_mapped_and_the_same() -> None:
    source = frame(["a", "b"] * 10)
    whole, mapped = prepare(source), prepare(source, memory=10_000)
    for one, other in (
        (whole.train, mapped.train),
        (whole.validation, mapped.validation),
        (whole.test, mapped.test),
    ):
        assert not isinstance(one.features, np.memmap) and isinstance(other.features, np.memmap)
        assert (one.features == other.features).all() and (one.targets == other.targets).all()
    assert whole.spec == mapped.spec


def test_in_blocks_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = frame(["a", "b"] * 10)
    whole = prepare(source)
    monkeypatch.setattr(prepare_images, "_BLOCK", 3)
    monkeypatch.setattr(image_cache, "_BLOCK", 2)
    parted = prepare(source, memory=10_000)
    assert parted.spec == whole.spec and (parted.train.features == whole.train.features).all()


@given(st.lists(st.integers(0, 255), min_size=1, max_size=60))
def test_moments_are_those_of_the_pixels(values: list[int]) -> None:
    pixels = np.array(values, np.uint8).reshape(-1, 1, 1, 1)
    mean, deviation = moments(pixels)
    assert mean[0] == pytest.approx(np.mean(pixels / 255), abs=1e-12)
    flat = len(set(values)) == 1
    assert deviation[0] == pytest.approx(1.0 if flat else np.std(pixels / 255), abs=1e-12)


# --------------------------------------------------------------------- what stays together


def test_pictures_of_the_same_pixels_stay_in_one_part() -> None:
    pictures = [encoded(noise(seed)) for seed in range(30)]
    for seed in range(10):  # in other formats, and with other metadata
        pictures += [encoded(noise(seed), "BMP"), encoded(noise(seed), "WEBP", lossless=True)]
        pictures += [encoded(noise(seed), dpi=(seed + 1, 1))]
    labels = [str(seed % 3) for seed in range(30)] + [str(seed % 3) for seed in range(10) for _ in range(3)]
    for seed in range(3):
        prepared = prepare(frame(labels, pictures), seed=seed)
        assert said(prepared)["repeated"] == {"kind": "repeated", "count": 30, "rows": 60}
        for number in range(10):
            assert in_one_part(prepared, [number, *range(30 + 3 * number, 33 + 3 * number)])


def test_a_group_stays_in_one_part_and_joins_with_what_is_the_same() -> None:
    pictures = [
        encoded(noise(seed if seed != 7 else 0)) for seed in range(40)
    ]  # the groups of 0 and 7 are one
    groups = [f"person {seed // 4}" for seed in range(40)]
    for seed in range(3):
        prepared = prepare(frame(["a", "b"] * 20, pictures, group=groups), seed=seed)
        assert "group" in said(prepared)
        assert in_one_part(prepared, range(8))
        for person in range(10):
            assert in_one_part(prepared, range(4 * person, 4 * person + 4))


def test_the_same_picture_with_two_labels_is_said() -> None:
    pictures = [encoded(noise(seed)) for seed in range(20)]
    pictures[5] = pictures[12]
    about = said(prepare(frame(["a", "b"] * 10, pictures)))
    assert about["contradiction"]["count"] == 2 and about["contradiction"]["first"] == "row 6, row 13"


def test_near_duplicates_across_parts_are_reported() -> None:
    pictures = [encoded(noise(seed, 64)) for seed in range(60)]
    assert "near" not in said(prepare(frame(["a", "b"] * 30, pictures)))
    alike = [encoded(noise(seed, 96), "JPEG", quality=70) for seed in range(60)]
    prepared = prepare(frame(["a", "b"] * 60, [*pictures, *alike]))
    scored = set(np.concatenate(parts(prepared)[1:]).tolist())
    trained = set(parts(prepared)[0].tolist())
    expected = sum((row + 60) % 120 in trained for row in scored)
    assert expected > 10 and abs(said(prepared)["near"]["count"] - expected) <= 0.1 * expected
    one, other = (int(said(prepared)["near"][name].split()[1]) - 1 for name in ("one", "other"))
    assert one in scored and other in trained and (one + 60) % 120 == other


def looks(small: np.ndarray, bits: np.ndarray | None = None) -> np.ndarray:
    records = np.zeros(len(small), LOOKS)
    records["small"] = small.reshape(len(small), -1)
    records["bits"] = np.arange(1, len(small) + 1) if bits is None else bits
    return records


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 30))
def test_near_finds_what_comparing_all_finds(seed: int, p: int, q: int) -> None:
    draw = np.random.default_rng(seed)
    centres = draw.integers(0, 256, (4, 256))
    hashes = draw.integers(1, 2**64, 4, dtype=np.uint64)

    def some(count: int) -> np.ndarray:
        kind = draw.integers(0, 4, count)
        flips = np.zeros(count, np.uint64)
        for _ in range(3):  # up to three bits are flipped
            flips ^= np.uint64(1) << draw.integers(0, 64, count).astype(np.uint64) * (
                draw.random(count) < 0.5
            )
        small = np.clip(
            centres[kind] + draw.integers(-30, 31, (count, 256)) * (draw.random((count, 1)) < 0.5), 0, 255
        )
        small[draw.random(count) < 0.1] = 7
        return looks(small.astype(np.uint8), hashes[kind] ^ flips)

    one, two = some(p), some(q)
    expected = []
    for a in range(p):
        for b in range(q):
            x, y = (record["small"].astype(np.float64) for record in (one[a], two[b]))
            apart = bin(int(one[a]["bits"]) ^ int(two[b]["bits"])).count("1")
            if apart <= 2 and min(x.std(), y.std()) > 1 and np.corrcoef(x, y)[0, 1] >= near_images.ALIKE:
                expected.append((a, b))
    rows, likes = near(one, two)
    assert rows.tolist() == sorted({a for a, _ in expected})
    assert set(zip(rows.tolist(), likes.tolist(), strict=True)) <= set(expected)


def test_flat_pictures_and_empty_parts_are_near_to_nothing() -> None:
    flat = looks(np.full((4, 256), 9, np.uint8))
    assert len(near(flat, flat)[0]) == len(near(flat[:0], flat)[0]) == 0


# --------------------------------------------------------------------- an official test


def official(place: Path) -> Path:
    for part, start in (("train", 0), ("test", 100)):
        for number, name in enumerate("ab"):
            (place / part / name).mkdir(parents=True)
            for n in range(10):
                seed = start + number * 10 + n
                (place / part / name / f"{n}.png").write_bytes(encoded(noise(seed)))
    return place


def test_an_official_test_is_kept_and_what_is_in_it_is_not_trained_on(tmp_path: Path) -> None:
    place = official(tmp_path / "set")
    prepared = prepare(place)
    assert [len(part) for part in parts(prepared)] == [16, 4, 20]
    assert parts(prepared)[2].tolist() == list(range(20, 40)) and "parts" in said(prepared)
    (place / "train/a/0.png").write_bytes((place / "test/a/3.png").read_bytes())
    (place / "train/b/x.png").write_bytes((place / "test/b/4.png").read_bytes())
    (place / "test/c").mkdir()
    (place / "test/c/0.png").write_bytes(encoded(noise(500)))
    prepared = prepare(place)
    assert said(prepared)["tested"]["count"] == 2 and said(prepared)["untrained"]["count"] == 1
    assert sum(map(len, parts(prepared)[:2])) == 19 and len(prepared.split.test) == 20
    assert prepared.spec.classes == ("a", "b")
    held = {prepared.table.names[row] for row in np.concatenate(parts(prepared)[:2])}
    assert not {"train/a/0.png", "train/b/x.png"} & held


# --------------------------------------------------------------------- classes


def test_five_thousand_classes_of_two(tmp_path: Path) -> None:
    bitmaps = [
        encoded(Image.frombytes("RGB", (2, 2), seed.to_bytes(3, "big") * 4), "BMP") for seed in range(10_000)
    ]
    prepared = prepare(frame([seed % 5000 for seed in range(10_000)], bitmaps), reading={"size": 1})
    assert len(prepared.spec.classes) == 5000 and prepared.spec.classes[:3] == ("0", "1", "2")
    assert len(np.unique(prepared.train.targets)) == 5000
    assert min(len(part) for part in parts(prepared)) > 1000


def test_one_picture_a_class_is_refused_and_a_class_of_one_is_trained_on() -> None:
    with pytest.raises(SadariError, match="12 pictures of 12 classes leave none to choose by or to score"):
        prepare(frame(list("abcdefghijkl")))
    with pytest.raises(
        SadariError, match="the target label has 30 classes in 30 pictures, too many to learn"
    ):
        prepare(frame(list(range(30))))
    for seed in range(5):
        prepared = prepare(frame(["a", "b"] * 10 + ["rare"]), seed=seed)
        assert 20 in prepared.split.train
        assert [note.about["label"] for note in prepared.notes if note.about["kind"] == "once"] == ["rare"]


def test_one_class_and_too_few_pictures_are_refused() -> None:
    with pytest.raises(SadariError, match=r"the target label is one class \('a' in all 12 pictures\)"):
        prepare(frame(["a"] * 12))
    with pytest.raises(SadariError, match="has 4 pictures with a label; 5 are the least, hundreds teach"):
        prepare(frame(["a", "b"] * 2))
    with pytest.raises(SadariError, match="2 groups cannot be divided into 3 parts"):
        prepare(frame(["a", "b"] * 5, [encoded(noise(seed % 2)) for seed in range(10)]))


def test_unequal_classes_are_said() -> None:
    about = said(prepare(frame(["a"] * 36 + ["b"] * 4)))
    assert about["imbalance"]["label"] == "a" and about["few"]["label"] == "b"


def test_pictures_without_a_label_are_left_out() -> None:
    prepared = prepare(frame([*["a", "b"] * 10, None, None]))
    assert said(prepared)["no target"] == {"kind": "no target", "count": 2, "rows": 22, "target": "label"}
    assert (
        sum(map(len, parts(prepared))) == 20 and not np.isin([20, 21], np.concatenate(parts(prepared))).any()
    )


def test_numbers_are_classes_by_value() -> None:
    assert prepare(frame([10.0, 9.0, 2.0] * 6)).spec.classes == ("2", "9", "10")


# --------------------------------------------------------------------- settings and the cache


def test_settings_that_are_none_are_refused(tmp_path: Path) -> None:
    source = folder(tmp_path / "set")
    for message, how in (
        (r"--drop image is for tables, and .*set is read as images; leave it out", {"drop": ["image"]}),
        ("--log-target is for tables", {"log_target": True}),
        ("'regress' is not a task of pictures; choose classify", {"task": "regress", "kind": "images"}),
        (
            "--length is for texts, and .*set is read as pictures",
            {"kind": "images", "reading": {"length": 9}},
        ),
        ("--size is for pictures, and --kind text reads none", {"kind": "text", "reading": {"size": 9}}),
        (
            "--hold-out is for pictures, and --kind table reads none",
            {"kind": "table", "reading": {"hold_out": "hand=lee"}},
        ),
        ("--fit 'round' is no way to make a square; choose one of: crop, pad", {"reading": {"fit": "round"}}),
        ("--size 5000 is no size; give 1 to 1,024 pixels", {"reading": {"size": 5000}}),
        (r"channels=2: pictures have 1 \(grey\) or 3", {"reading": {"channels": 2}}),
    ):
        with pytest.raises(SadariError, match=message):
            prepare(source, **how)  # type: ignore[arg-type]


def test_only_what_changed_makes_decoding_start_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder(tmp_path / "set")
    decodes: list[str] = []
    plain = image_cache.decode

    def counted(source: Any, **how: Any) -> np.ndarray:
        decodes.append(how["name"])
        return plain(source, **how)

    monkeypatch.setattr(image_cache, "decode", counted)
    first = prepare(place)
    prepare(place)
    prepare(place, seed=5)
    assert len(decodes) == 20
    (place / "cat" / "3.png").write_bytes(encoded(noise(300)))
    changed = prepare(place)
    assert len(decodes) == 40 and changed.table.fingerprint != first.table.fingerprint
    row = changed.table.names.index("cat/3.png")
    everything = np.concatenate([changed.train.features, changed.validation.features, changed.test.features])
    at = np.concatenate(parts(changed)).tolist().index(row)
    assert (everything[at] == np.asarray(noise(300))).all()


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    prepare_images.prepare_images(frame(["a", "b"] * 5), told=lambda done, total: told.append((done, total)))
    assert told == [(10, 10), (10, 10)]  # looking, then decoding


# --------------------------------------------------------------------- the spec


def test_the_spec_names_the_row_that_it_cannot_read(tmp_path: Path) -> None:
    spec = ImageSpec("label", "image", ("a", "b"), 8)
    source = frame(["a", "b"])
    assert spec.encode(source).shape == (2, 8, 8, 3) and spec.encode(source.head(0)).shape == (0, 8, 8, 3)
    with pytest.raises(SadariError, match="new rows row 12 is no picture that is read here"):
        spec.encode(frame(["a", "b"], [encoded(noise(0)), b"none"]), first_row=11, name="new rows")
    with pytest.raises(SadariError, match=r"none\.png is not there"):
        spec.encode(pl.DataFrame({"image": ["none.png"]}))
    with pytest.raises(SadariError, match="the rows row 2 has no image; leave the row out"):
        spec.encode(pl.DataFrame({"image": [encoded(noise(0)), None]}))
    with pytest.raises(SadariError, match="the rows row 1 has no image"):
        spec.encode(pl.DataFrame({"image": [None]}))
    with pytest.raises(SadariError, match=r"lacks column: image; .* \(columns here: other\)"):
        spec.encode(pl.DataFrame({"other": [1]}))
    with pytest.raises(SadariError, match="column image is Int64; give pictures as paths"):
        spec.encode(pl.DataFrame({"image": [1]}))
    held = [{"bytes": encoded(noise(0)), "path": "x.png"}]
    schema = {"image": pl.Struct({"bytes": pl.Binary, "path": pl.String})}
    assert (spec.encode(pl.DataFrame({"image": held}, schema=schema)) == spec.encode(source)[:1]).all()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "text"},
        {"size": 0},
        {"size": 10**9},
        {"fit": "round"},
        {"channels": 2},
        {"mean": [0.5]},
        {"deviation": [0.0, 1.0, 1.0]},
        {"deviation": [float("nan"), 1.0, 1.0]},
        {"mean": [float("inf"), 1.0, 1.0]},
        {"classes": None},
    ],
)
def test_another_content_is_no_spec(change: dict[str, Any]) -> None:
    spec = ImageSpec("label", "image", ("a", "b"), 8)
    assert ImageSpec.from_json(spec.to_json()) == spec
    with pytest.raises(SadariError, match=r"spec\.json is no spec of pictures .*; fit the run again"):
        ImageSpec.from_json(spec.to_json() | change)
