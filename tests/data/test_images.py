"""Folders, tables and lines of pictures are opened as what they are, and remembered until a file changes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sadari.data import image_cache, image_files
from sadari.data.image_cache import decoded, kept, sweep
from sadari.data.image_files import LOOKS, survey, walk
from sadari.data.images import ImageTable, image_column, open_images
from sadari.data.kinds import recognise
from sadari.data.table import open_table
from sadari.errors import SadariError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path / ".cache"))


def png(seed: int, size: int = 12) -> bytes:
    """A picture of noise, another for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def put(place: Path, names: Iterable[str], start: int = 0) -> None:
    """Different pictures under these names."""
    for number, name in enumerate(names, start):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))


def animals(place: Path, each: int = 4) -> Path:
    put(place, [f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(each)])
    return place


def said(table: ImageTable) -> dict[str, dict[str, Any]]:
    return {note.about["kind"]: note.about for note in table.notes}


def rows(table: ImageTable) -> list[tuple[str, str]]:
    labels = table.frame.collect().to_series(1)
    return list(zip(table.names, labels, strict=True))


# --------------------------------------------------------------------- folders


def test_a_folder_of_folders_has_its_first_level_as_classes(tmp_path: Path) -> None:
    put(tmp_path / "set", ["b/1.png", "b/deep/er/2.PNG", "a/3.png", "a/x.y/4.png"])
    table = open_images(tmp_path / "set")
    assert rows(table) == [("a/3.png", "a"), ("a/x.y/4.png", "a"), ("b/1.png", "b"), ("b/deep/er/2.PNG", "b")]
    assert list(table.schema) == ["image", "label"] and table.target == "label" and table.task == "classify"
    assert table.source == str(tmp_path / "set") and not table.notes
    assert table.looks["width"].tolist() == [12] * 4 and table.looks["channels"].tolist() == [3] * 4
    frame = table.frame.collect()
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in frame["image"])


def test_names_may_be_hangul_have_spaces_or_be_emoji(tmp_path: Path) -> None:
    classes = ["고양이", "강아지 두 마리", "🐈‍⬛", "a\tb", "quo\"te'", "%s{x}"]
    put(tmp_path / "set", [f"{name}/사진 {number}.png" for name in classes for number in range(2)])
    table = open_images(tmp_path / "set")
    assert {label for _, label in rows(table)} == set(classes)
    apart = tmp_path / "apart"  # as macOS writes names
    for path in (tmp_path / "set").rglob("*.png"):
        other = apart / unicodedata.normalize("NFD", path.relative_to(tmp_path / "set").as_posix())
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(path.read_bytes())
    assert open_images(apart).fingerprint == table.fingerprint


def test_hidden_and_linked_and_other_files_are_passed_over(tmp_path: Path) -> None:
    place = animals(tmp_path / "set")
    put(place, [".git/1.png", "cat/.2.png", "alone.png"], 100)
    (place / "dog" / "round").symlink_to(place, target_is_directory=True)
    (place / "dog" / "link.png").symlink_to(place / "cat" / "0.png")
    (place / "dog" / "lost.png").symlink_to(place / "nowhere.png")
    for name in ("notes.txt", "cat/film.mp4", "cat/Thumbs.db", "dog/labels.csv"):
        (place / name).write_text("not a picture")
    (place / "cat" / "noending").write_bytes(png(7))
    (place / "cat" / "README").write_text("not a picture")
    os.mkfifo(place / "cat" / "pipe.png")
    table = open_images(place)
    assert len(rows(table)) == 9 and ("cat/noending", "cat") in rows(table)
    about = said(table)
    assert about["links"]["count"] == 3 and about["outside"]["first"] == "alone.png"
    assert about["others"]["count"] == 6 and "notes.txt" in about["others"]["first"]


def test_a_name_that_is_no_utf8_is_left_out(tmp_path: Path) -> None:
    place = animals(tmp_path / "set")
    with open(os.fsencode(place / "cat") + b"/\xff.png", "wb") as file:
        file.write(png(50))
    table = open_images(place)
    assert table.rows == 8 and said(table)["others"]["count"] == 1


@pytest.mark.parametrize("held", ["test", "Test", "val"])
def test_a_part_that_is_held_out_is_the_official_test(tmp_path: Path, held: str) -> None:
    put(
        tmp_path / "set",
        [f"{part}/{kind}/{n}.png" for part in ("train", held) for kind in "ab" for n in range(3)],
    )
    table = open_images(tmp_path / "set")
    assert table.official_test == 6 and table.rows == 12
    assert all(name.startswith(f"{held}/") for name, _ in rows(table)[-6:])
    assert said(table)["parts"] == {"kind": "parts", "rows": 6, "folder": held, "others": "train"}


def test_with_three_parts_validation_is_trained_on(tmp_path: Path) -> None:
    parts = ("train", "valid", "test")
    put(tmp_path / "set", [f"{part}/{kind}/{n}.png" for part in parts for kind in "ab" for n in range(2)])
    put(tmp_path / "set", ["train/loose.png", "more/1.png"], 100)
    table = open_images(tmp_path / "set")
    assert table.official_test == 4 and said(table)["parts"]["others"] == "train, valid"
    assert said(table)["outside"]["count"] == 2


def test_a_train_among_vehicles_is_a_class(tmp_path: Path) -> None:
    put(tmp_path / "set", [f"{kind}/{n}.png" for kind in ("bus", "train", "car") for n in range(2)])
    assert {label for _, label in rows(open_images(tmp_path / "set"))} == {"bus", "train", "car"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["pets/cat/1.png", "pets/dog/2.png"],
            r"one folder only \(pets\), which has 2 folders; name .*/set/pets",
        ),
        (["cat/1.png", "cat/2.png"], r"has 1 folders of pictures \(cat\); put the pictures of each class"),
        (["1.png", "2.png"], r"has 0 folders of pictures \(none\)"),
        (["train/1.png", "test/2.png"], r"has 0 folders of pictures"),
        (["test/1.png", "val/2.png"], r"has the folders test, val, which are parts of a data set"),
    ],
)
def test_a_folder_without_two_classes_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    put(tmp_path / "set", names)
    with pytest.raises(SadariError, match=message):
        open_images(tmp_path / "set")


def test_a_flat_folder_with_a_table_names_the_table(tmp_path: Path) -> None:
    put(tmp_path, ["1.png", "2.png"])
    (tmp_path / "labels.csv").write_text("image,label\n1.png,a\n2.png,b\n")
    with pytest.raises(SadariError, match=r"or name the table of their labels: .*/labels\.csv"):
        open_images(tmp_path)


def test_an_empty_folder_and_columns_of_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(SadariError, match=r"holds no pictures \(JPEG, PNG"):
        open_images(tmp_path / "set")
    animals(tmp_path / "set")
    with pytest.raises(SadariError, match="is a folder, whose column is label, not 'kind'; leave kind out"):
        open_images(tmp_path / "set", target="kind")
    assert open_images(tmp_path / "set", image="image", target="label").rows == 8


def test_what_may_not_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = animals(tmp_path / "set", 20)

    def closed(path: str, *how: str) -> Any:
        if str(path).endswith(("cat/1.png", "cat")):
            raise PermissionError(13, "Permission denied", path)
        return (os.scandir if Path(path).is_dir() else open)(path, *how)

    with monkeypatch.context() as patch:
        patch.setattr(image_files, "open", closed, raising=False)  # root may read everything
        assert said(open_images(place))["broken"]["first"] == "cat/1.png"
    scandir = os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda path: scandir(path) if path.name != "cat" else closed(str(path))
    )
    with pytest.raises(SadariError, match=r"cat cannot be read \(Permission denied\); change its rights"):
        open_images(place)


# --------------------------------------------------------------------- broken pictures


def test_a_few_broken_pictures_are_named_and_left_out(tmp_path: Path) -> None:
    place = animals(tmp_path / "set", 40)
    whole = png(1, 40)
    for number, broken in enumerate((b"", b"<html>", whole[: len(whole) // 2], whole[:40])):
        (place / "dog" / f"{number}.png").write_bytes(broken)
    table = open_images(place)
    assert table.rows == 76 and not {"dog/0.png", "dog/3.png"} & set(table.names)
    assert said(table)["broken"] == {
        "kind": "broken",
        "count": 4,
        "rows": 80,
        "first": "dog/0.png, dog/1.png, dog/2.png",
    }
    assert (table.looks["width"] == 12).all() and len(table.looks) == 76
    (place / "dog" / "4.png").write_bytes(b"")
    with pytest.raises(
        SadariError,
        match=r"5 of 80 pictures cannot be read, and more than 5% are too many; the "
        r"first: dog/0\.png is no picture",
    ):
        open_images(place)


def test_broken_pictures_of_a_test_make_it_smaller(tmp_path: Path) -> None:
    put(
        tmp_path / "set",
        [f"{part}/{kind}/{n}.png" for part in ("train", "test") for kind in "ab" for n in range(20)],
    )
    (tmp_path / "set/test/a/3.png").write_bytes(b"")
    (tmp_path / "set/train/a/3.png").write_bytes(b"")
    table = open_images(tmp_path / "set")
    assert table.rows == 78 and table.official_test == 39
    assert [name.split("/")[0] for name in table.names] == ["train"] * 39 + ["test"] * 39


# --------------------------------------------------------------------- tables


def listed(place: Path, each: int = 4) -> pl.DataFrame:
    """A table of the animals' paths, and the animals."""
    animals(place / "pictures", each)
    names = [f"pictures/{kind}/{n}.png" for kind in ("cat", "dog") for n in range(each)]
    return pl.DataFrame({"image": names, "label": [name.split("/")[1] for name in names]})


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_paths_in_a_table_start_at_its_folder(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = listed(tmp_path / "far away")
    path = tmp_path / "far away" / f"labels.{form}"
    if form in ("csv", "tsv"):
        frame.write_csv(path, separator="," if form == "csv" else "\t")
    else:
        frame.write_ndjson(path) if form == "jsonl" else frame.write_parquet(path)
    source, kind, task = recognise(str(path))
    assert (kind, task) == ("images", "classify")
    table = open_images(source)
    assert rows(table) == list(frame.iter_rows())
    assert said(table)["column"]["column"] == "image"
    assert table.fingerprint == open_images(path).fingerprint
    monkeypatch.chdir("/")
    assert open_images(path).fingerprint == table.fingerprint


def test_a_frame_of_paths_or_of_bytes(tmp_path: Path) -> None:
    frame = listed(tmp_path)
    table = open_images(frame)  # paths from where the program runs
    assert table.rows == 8 and table.source == ""
    held = frame.with_columns(pl.Series("image", [(tmp_path / path).read_bytes() for path in frame["image"]]))
    assert (open_images(held).looks["content"] == table.looks["content"]).all()
    assert open_images(held).names[2] == "row 3"


def test_the_columns_are_found_or_named(tmp_path: Path) -> None:
    frame = listed(tmp_path).rename({"image": "scan", "label": "kind"})
    wide = frame.with_columns(
        pl.Series("id", range(8)), pl.lit("x").alias("thumb.png"), pl.Series("group", list("aabbccdd"))
    )
    assert list(open_images(wide, target="kind").schema) == ["scan", "kind", "group"]
    assert "group" in said(open_images(wide, target="kind"))
    assert open_images(wide, image="scan", target="id").target == "id"
    with pytest.raises(SadariError, match="has no column 'scam'; near it: scan"):
        open_images(wide, image="scam")
    with pytest.raises(SadariError, match="'kind' is both the picture and the target"):
        open_images(wide, image="kind", target="kind")
    with pytest.raises(SadariError, match=r"the frame has pictures \(scan\) and no labels"):
        open_images(wide.select("scan", "group"))
    with pytest.raises(
        SadariError, match=r"no column of pictures \(kind, id\): paths that end as pictures do"
    ):
        open_images(wide.select("kind", "id"))
    with pytest.raises(SadariError, match="column id is Int64, neither paths nor pictures; name another"):
        open_images(wide, image="id", target="kind")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_rows_of_a_value_are_held_out_as_the_test(tmp_path: Path, form: str) -> None:
    hands = ["kim", "lee", "kim", "lee", "park", "park", "kim", "lee"]
    frame = listed(tmp_path).with_columns(pl.Series("hand", hands))
    path = tmp_path / f"table.{form}"
    frame.write_csv(path) if form == "csv" else frame.write_ndjson(path)
    table = open_images(path, target="label", hold_out=" hand = lee ")
    assert table.official_test == 3 and list(table.schema) == ["image", "label"]
    order = [row for row, hand in enumerate(hands) if hand != "lee"] + [1, 3, 7]
    assert rows(table) == [frame.row(row)[:2] for row in order]
    whole = open_images(path, target="label")
    assert (table.looks["content"] == whole.looks["content"][order]).all()
    assert table.fingerprint != whole.fingerprint
    assert said(table)["held out"]["count"] == 3
    assert open_images(path, hold_out="hand=lee").target == "label"  # the last column that is another
    other = open_images(path, target="label", hold_out="hand=kim")
    assert other.fingerprint != table.fingerprint


@pytest.mark.parametrize(
    ("hold_out", "message"),
    [
        ("hand", "--hold-out 'hand': say a column and a value, such as artist=noto"),
        ("=lee", "say a column and a value"),
        ("hands=lee", "has no column 'hands'; near it: hand"),
        ("hand=yi", r"--hold-out hand=yi: no pictures have that value; there are lee \(8\)"),
        ("hand=lee", "--hold-out hand=lee: all pictures have that value"),
    ],
)
def test_what_cannot_be_held_out_is_refused(tmp_path: Path, hold_out: str, message: str) -> None:
    frame = listed(tmp_path).with_columns(hand=pl.lit("lee"))
    with pytest.raises(SadariError, match=message):
        open_images(frame, target="label", hold_out=hold_out)
    with pytest.raises(SadariError, match="pictures in folders have no columns; put those to hold out into"):
        open_images(tmp_path / "pictures", hold_out="hand=lee")


def test_rows_without_a_picture_or_with_another_than_a_file_are_broken(tmp_path: Path) -> None:
    frame = listed(tmp_path, 60)
    paths = frame["image"].to_list()
    os.mkfifo(tmp_path / "pipe.png")
    paths[:5] = [None, "pictures/none.png", "pipe.png", "pictures/cat", "nul\0.png"]
    table = open_images(frame.with_columns(pl.Series("image", paths)))
    assert table.rows == 115 and said(table)["broken"]["first"] == "row 1, pictures/none.png, pipe.png"
    windows = frame.with_columns(pl.col("image").str.replace_all("/", "\\", literal=True))
    assert open_images(windows).rows == 120


def test_addresses_are_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"image": ["https://example.org/a.png"] * 8, "label": ["a", "b"] * 4})
    with pytest.raises(
        SadariError, match=r"names addresses \(https://example.org/a.png\); download the pictures"
    ):
        open_images(frame)


def hugging_face(place: Path, seeds: Iterable[int], nested: bool = True) -> Path:
    """A Parquet file of pictures as Hugging Face's `datasets` writes it."""
    from sadari.data.image_columns import class_names

    held = [{"bytes": png(seed), "path": f"{seed}.png"} for seed in seeds]
    labels = [seed % 3 - (seed == 11) * 3 for seed in seeds]
    frame = pl.DataFrame(
        {"image": held, "label": labels},
        schema={"image": pl.Struct({"bytes": pl.Binary, "path": pl.String}), "label": pl.Int64},
    )
    about = {
        "label": {"names": ["zebra", "ant", "고양이"], "_type": "ClassLabel"},
        "image": {"_type": "Image"},
    }
    place.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(place, metadata={"huggingface": json.dumps({"info": {"features": about}})})
    assert class_names(place) == {"label": ["zebra", "ant", "고양이"]}
    return place


def test_the_layout_of_hugging_face(tmp_path: Path) -> None:
    path = hugging_face(tmp_path / "train-00000-of-00001.parquet", range(12))
    source, kind, task = recognise(path)
    assert (kind, task) == ("images", "classify")
    table = open_images(source)
    frame = table.frame.collect()
    assert frame.schema == {"image": pl.Binary, "label": pl.String}
    assert frame["label"].to_list() == ["zebra", "ant", "고양이"] * 3 + ["zebra", "ant", None]
    assert frame["image"][5] == png(5)


def test_what_else_a_column_of_pictures_may_be_kept_in(tmp_path: Path) -> None:
    frame = listed(tmp_path)
    expected = open_images(frame)
    for dtype in (pl.Categorical, pl.Enum(frame["image"].unique())):
        assert open_images(frame.cast({"image": dtype})).fingerprint == expected.fingerprint
    nothing = pl.lit(None, pl.Binary).alias("bytes")
    by_path = frame.with_columns(pl.struct(nothing, pl.col("image").alias("path")).alias("image"))
    by_path.write_parquet(tmp_path / "paths.parquet")
    assert recognise(str(tmp_path / "paths.parquet"))[1] == "images"
    assert open_images(tmp_path / "paths.parquet").fingerprint == expected.fingerprint
    with pytest.raises(
        SadariError, match=r"column label is List.*, which is no label; choose another --target"
    ):
        open_images(frame.with_columns(pl.concat_list("label")))


def test_a_folder_of_shards_has_its_test_last(tmp_path: Path) -> None:
    for name, seeds in (
        ("test-00000-of-00001", range(20, 26)),
        ("train-00000-of-00002", range(6)),
        ("train-00001-of-00002", range(12, 18)),
    ):
        hugging_face(tmp_path / "set" / "data" / f"{name}-abc.parquet", seeds)
    assert recognise(str(tmp_path / "set"))[1] == "images"
    table = open_images(tmp_path / "set")
    assert table.rows == 18 and table.official_test == 6
    assert table.frame.collect()["image"].to_list() == [
        png(s) for s in (*range(6), *range(12, 18), *range(20, 26))
    ]
    pl.DataFrame({"other": [1]}).write_parquet(tmp_path / "set/data/validation-00000-of-00001.parquet")
    with pytest.raises(SadariError, match="its Parquet files have not the same columns"):
        open_images(tmp_path / "set")


# --------------------------------------------------------------------- which kind


def test_what_is_one_of_pictures_and_what_is_not(tmp_path: Path) -> None:
    frame = listed(tmp_path)
    measured = frame.with_columns(pl.Series("weight", range(8)) * 1.5)
    absent = measured.with_columns(pl.col("image") + ".png")

    def column(frame: pl.DataFrame, target: str | None = None) -> str | None:
        return image_column(open_table(frame), target)

    assert column(frame) == column(measured) == "image"
    assert column(absent) is None and column(absent.select("image", "label")) == "image"
    assert column(frame.with_columns(pl.col("image").str.replace(".png", ".txt"))) is None
    assert column(frame, "image") is None
    assert column(pl.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]})) is None
    assert column(pl.DataFrame({"x": [b"\x89PNG\r\n\x1a\n....", None], "y": ["a", "b"]})) == "x"
    assert column(pl.DataFrame({"x": [b"plain bytes here"], "y": ["a"]})) is None


def test_recognised_and_told_otherwise(tmp_path: Path) -> None:
    place = animals(tmp_path / "set")
    assert recognise(str(place))[1:] == ("images", "classify")
    assert recognise(str(place), reading={"size": 32})[1] == "images"
    (place / "cat" / "README.txt").write_text("what these are")
    assert recognise(str(place))[1] == "images"
    for number in range(20):
        (place / "cat" / f"{number}.txt").write_text("a text")
    assert recognise(str(place))[1] == "text"
    assert recognise(str(place), kind="images")[1] == "images"
    frame = listed(tmp_path).with_columns(pl.Series("price", range(8)) * 1.5)
    assert recognise(frame)[1] == "images"
    assert recognise(frame, task="regress", target="price")[1] == "table"
    assert recognise(frame, kind="table")[1] == "table"
    assert recognise(frame, reading={"image": "image"})[1] == "images"


# --------------------------------------------------------------------- fingerprint and memo


def test_the_fingerprint_is_of_contents_not_of_the_place(tmp_path: Path) -> None:
    one = animals(tmp_path / "one")
    table = open_images(one)
    shutil.copytree(one, tmp_path / "two")
    assert open_images(tmp_path / "two").fingerprint == table.fingerprint
    shutil.rmtree(tmp_path / ".cache")
    assert open_images(one).fingerprint == table.fingerprint
    (one / "dog" / "3.png").rename(one / "cat" / "x.png")
    assert open_images(one).fingerprint != table.fingerprint
    (tmp_path / "two" / "dog" / "3.png").write_bytes(png(99))
    assert open_images(tmp_path / "two").fingerprint != table.fingerprint
    frame = listed(tmp_path / "three")
    full = frame.with_columns(pl.format("{}/{}", pl.lit(str(tmp_path / "three")), "image"))
    for number, content in enumerate((frame, full)):
        content.write_csv(tmp_path / "three" / f"{number}.csv")
    tables = [open_images(tmp_path / "three" / f"{number}.csv") for number in range(2)]
    assert tables[0].fingerprint == tables[1].fingerprint


def test_a_second_opening_looks_at_changed_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_files, "_SETTLED", -1)  # files are younger than the clock's grain
    place = animals(tmp_path / "set", 20)
    seen: list[str] = []
    look_at = image_files._look_at

    def counted(picture: str | bytes, name: str) -> Any:
        seen.append(name)
        return look_at(picture, name)

    monkeypatch.setattr(image_files, "_look_at", counted)
    first = open_images(place)
    assert len(seen) == 40
    again = open_images(place)
    assert len(seen) == 40 and (again.looks == first.looks).all()
    (place / "cat" / "2.png").write_bytes(png(2) + b" ")  # same pixels, another content
    (place / "cat" / "new.png").write_bytes(png(77))
    changed = open_images(place)
    assert seen[40:] == ["cat/2.png", "cat/new.png"]
    old, new = (table.looks[table.names.index("cat/2.png")] for table in (first, changed))
    assert old["pixels"].tolist() == new["pixels"].tolist()
    assert old["content"].tolist() != new["content"].tolist()
    about = os.stat(place / "dog" / "5.png")
    (place / "dog" / "5.png").write_bytes(png(78))  # as large, and dated back
    os.utime(place / "dog" / "5.png", ns=(about.st_atime_ns, about.st_mtime_ns))
    open_images(place)
    assert seen[42:] == ["dog/5.png"]
    open_images(tmp_path / "set")
    assert len(seen) == 43


def test_files_that_have_just_changed_are_looked_at_again(tmp_path: Path) -> None:
    place = animals(tmp_path / "set")
    open_images(place)
    (memo,) = (tmp_path / ".cache/decoded/looks").iterdir()
    assert pl.read_parquet(memo).height == 0


def test_a_broken_memo_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "_SETTLED", -1)
    place = animals(tmp_path / "set")
    first = open_images(place)
    (memo,) = (tmp_path / ".cache/decoded/looks").iterdir()
    whole = pl.read_parquet(memo)
    assert whole.height == 8
    for broken in (whole.head(4), whole.drop("size"), whole.with_columns(look=pl.lit(b"short"))):
        broken.write_parquet(memo)
        assert (open_images(place).looks == first.looks).all()
    memo.write_bytes(b"no parquet")
    assert (open_images(place).looks == first.looks).all()
    monkeypatch.setenv("SADARI_CACHE", "/proc/nowhere")  # nothing can be kept, and nothing is lost
    assert (open_images(place).looks == first.looks).all()


def test_looking_on_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "_BLOCK", 3)
    told: list[tuple[int, int]] = []
    open_images(animals(tmp_path / "set"), told=lambda done, total: told.append((done, total)))
    assert told == [(3, 8), (6, 8), (8, 8)]


def test_walking_goes_by_name(tmp_path: Path) -> None:
    place = animals(tmp_path / "set")
    assert [path.relative_to(place).as_posix() for path in walk(place).files] == sorted(
        f"{kind}/{n}.png" for kind in ("cat", "dog") for n in range(4)
    )
    (tmp_path / "empty").mkdir()
    assert walk(tmp_path / "empty").files == []
    with pytest.raises(SadariError, match="cannot be read"):
        walk(tmp_path / "nowhere")


# --------------------------------------------------------------------- decoded pixels


def whole(pictures: list[bytes], cache: Path, **how: Any) -> tuple[np.ndarray, dict[int, str]]:
    seen = survey(pictures, [f"picture {n}" for n in range(len(pictures))], cache=cache)
    settings: dict[str, Any] = {"size": 8, "fit": "crop", "channels": 3, **how}
    return decoded(pictures, seen.looks["content"], cache=cache, **settings)


def test_what_was_decoded_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [png(seed) for seed in range(5)]
    first, failures = whole(pictures, tmp_path)
    assert first.shape == (5, 8, 8, 3) and not failures
    monkeypatch.setattr(image_cache, "decode", None)  # nothing is decoded from here on
    assert (whole(pictures, tmp_path)[0] == first).all()
    for other in ({"size": 9}, {"fit": "pad"}, {"channels": 1}):
        with pytest.raises(TypeError):
            whole(pictures, tmp_path, **other)
    with pytest.raises(TypeError):
        whole(pictures[::-1], tmp_path)
    assert not [path for path in (tmp_path / "decoded").iterdir() if path.name.startswith(".")]


def test_a_picture_that_cannot_be_decoded_is_recorded(tmp_path: Path) -> None:
    pictures = [png(0), b"none", png(1)]
    contents = np.stack([np.frombuffer(hashlib.sha256(p).digest(), np.uint8) for p in pictures])
    for _ in range(2):
        pixels, failures = decoded(pictures, contents, size=8, fit="crop", channels=3, cache=tmp_path)
        assert list(failures) == [1] and "picture 2 is no picture" in failures[1]
        assert not pixels[1].any() and pixels[2].any()


def test_a_file_that_changes_under_our_hands_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(0))
    contents = survey([str(path)], ["a.png"], cache=tmp_path).looks["content"]
    path.write_bytes(png(1))
    with pytest.raises(SadariError, match=r"a\.png changed while the pictures were read; start again"):
        decoded([str(path)], contents, size=8, fit="crop", channels=3, names=["a.png"], cache=tmp_path)
    assert not any(path.name != "looks" for path in (tmp_path / "decoded").iterdir())


def test_a_folder_that_is_not_whole_is_written_again(tmp_path: Path) -> None:
    pictures = [png(seed) for seed in range(5)]
    first = np.array(whole(pictures, tmp_path)[0])
    (folder,) = [path for path in (tmp_path / "decoded").iterdir() if path.name != "looks"]
    (folder / "pixels").write_bytes(b"short")
    assert (whole(pictures, tmp_path)[0] == first).all()
    (folder / "index.json").unlink()
    assert (whole(pictures, tmp_path)[0] == first).all()
    assert json.loads((folder / "index.json").read_text())["rows"] == 5


def test_a_full_or_closed_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(10, 10, 1000)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(
        SadariError, match=r"decoded pictures take 1 MB in .*, which has 0 MB free; free some"
    ):
        kept(b"key", 1_000_000, lambda folder: None, tmp_path)
    monkeypatch.undo()

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(
        SadariError, match=r"cannot write decoded pictures below .* \(No space left on device\)"
    ):
        kept(b"key", 10, full, tmp_path)
    with pytest.raises(SadariError, match="cannot write decoded pictures below"):
        kept(b"key", 10, full, Path("/proc/nowhere"))
    assert not [path for path in (tmp_path / "decoded").iterdir()]


def test_what_nobody_used_for_a_month_goes(tmp_path: Path) -> None:
    pictures = [png(seed) for seed in range(5)]
    whole(pictures, tmp_path)
    place = tmp_path / "decoded"
    (folder,) = [path for path in place.iterdir() if path.name != "looks"]
    (memo,) = (place / "looks").iterdir()
    died = place / ".writing-died"
    died.mkdir()
    sweep(place)
    assert folder.exists() and memo.exists() and died.exists()
    for path in (folder, memo, died):
        os.utime(path, (0, 0))
    whole(pictures, tmp_path)  # used: it stays
    sweep(place)
    assert folder.exists() and memo.exists() and not died.exists()
    os.utime(folder, (0, 0))
    os.utime(memo, (0, 0))
    sweep(place)
    assert not folder.exists() and not memo.exists() and (place / "looks").exists()


def test_records_hold_what_looks_do() -> None:
    assert LOOKS.itemsize == 32 + 32 + 8 + 4 + 4 + 1 + 256
