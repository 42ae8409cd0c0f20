"""Captioned pictures are opened as what they are: the same pictures and words from every kind of source."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sadari.data.caption_columns import caption_columns, captions_in, language_of
from sadari.data.caption_sources import holds_captions, is_shards, pairs_of
from sadari.data.captions import LONGEST, CaptionTable, captions_of, open_captions
from sadari.data.kinds import recognise
from sadari.data.shards import Sample, Shards
from sadari.errors import SadariError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path / ".cache"))


def png(seed: int, size: int = 8) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pictures(folder: Path, count: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        (folder / f"{n}.png").write_bytes(png(n))
    return [f"{n}.png" for n in range(count)]


def rows(table: CaptionTable) -> list[tuple[Any, ...]]:
    return table.frame.select(table.captions).collect().rows()


def said(table: CaptionTable) -> dict[str, dict[str, Any]]:
    return {note.about["kind"]: note.about for note in table.notes}


ENGLISH = [["red apple"], ["a dog", "a brown dog"], ["the sea"]]
KOREAN = [["빨간 사과"], ["개"], []]


# --------------------------------------------------------------------- columns and values


def test_columns_are_told_by_their_names() -> None:
    for name, language in (
        ("caption", ""), ("Text", ""), ("caption.ko", "ko"), ("text_en", "en"), ("TITLE-ja", "ja"),
        ("ko", "ko"), ("설명", ""), ("category", None), ("texture", None), ("caption.", None),
        ("caption.korean", None), ("id", None),
    ):  # fmt: skip
        assert language_of(name) == language, name
    assert caption_columns(["image", "en", "ko", "id"]) == {"en": "en", "ko": "ko"}
    assert caption_columns(["text", "no", "id", "fi"]) == {"text": ""}


def test_values_are_captions_however_they_are_nested() -> None:
    assert captions_in(" a\n dog ") == {"": ["a dog"]}
    assert captions_in(["a", None, "b", "a", "", 7, True]) == {"": ["a", "b", "7"]}
    assert captions_in({"en": "apple", "ko": ["사과", "빨간 사과"], "id": 3}) == {
        "en": ["apple"], "ko": ["사과", "빨간 사과"],
    }  # fmt: skip
    assert captions_in([{"raw": "a", "tokens": ["a"]}, {"raw": "b"}], "en") == {"en": ["a", "b"]}
    for nothing in (None, True, b"x", "", "  ", [], {}, {"x": "y"}, [[[[["deep"]]]]]):
        assert captions_in(nothing) == {}, nothing


# --------------------------------------------------------------------- sources


def sources(tmp_path: Path) -> dict[str, Any]:
    """The same three pictures with the same captions in every layout; relative to files where they can be."""
    folder = tmp_path / "set"
    names = pictures(folder, 3)
    held = [png(n) for n in range(3)]
    lines = [
        {"image": name, "caption": {"en": english, "ko": korean}}
        for name, english, korean in zip(names, ENGLISH, KOREAN, strict=True)
    ]
    (folder / "a.jsonl").write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    flat = [(names[n], one, (KOREAN[n] or [""])[0]) for n in range(3) for one in ENGLISH[n]]
    frame = pl.DataFrame(flat, schema=["file_name", "caption_en", "caption_ko"], orient="row")
    frame.write_csv(folder / "a.csv")
    hub = pl.DataFrame(
        {
            "image": [{"bytes": content, "path": name} for content, name in zip(held, names, strict=True)],
            "caption.en": ENGLISH,
            "caption.ko": KOREAN,
        }
    )
    (tmp_path / "hub" / "data").mkdir(parents=True)
    hub[:2].write_parquet(tmp_path / "hub" / "data" / "train-00000-of-00002.parquet")
    hub[2:].write_parquet(tmp_path / "hub" / "data" / "train-00001-of-00002.parquet")
    hub.write_parquet(tmp_path / "one.parquet")
    beside = tmp_path / "beside"
    pictures(beside, 3)
    with tarfile.open(tmp_path / "a.tar", "w") as tape:
        for n in range(3):
            texts = {"en.txt": "\n".join(ENGLISH[n]), "ko.txt": "\n".join(KOREAN[n])}
            for ending, text in texts.items():
                (beside / f"{n}.{ending}").write_text(text)
            for ending, content in (("png", held[n]), *((e, t.encode()) for e, t in texts.items())):
                info = tarfile.TarInfo(f"{n}.{ending}")
                info.size = len(content)
                tape.addfile(info, io.BytesIO(content))
    return {
        "jsonl": folder / "a.jsonl",
        "csv": folder / "a.csv",
        "parquet": tmp_path / "one.parquet",
        "hub": tmp_path / "hub",
        "folder": beside,
        "tar": tmp_path / "a.tar",
        "frame": hub,
    }


def test_every_source_says_the_same(tmp_path: Path) -> None:
    first: list[bytes] = []
    for kind, source in sources(tmp_path).items():
        table = open_captions(source)
        assert table.captions == ("caption.en", "caption.ko"), kind
        assert rows(table) == list(zip(ENGLISH, KOREAN, strict=True)), kind
        assert (table.rows, table.task, table.target, table.official_test) == (3, "match", "caption.en", 0), (
            kind
        )
        content = [bytes(look["content"]) for look in table.looks]
        assert len(set(content)) == 3
        first = first or content
        assert content == first, kind
        assert ("folded" in said(table)) == (kind == "csv")
        assert table.frame.collect()["image"].dtype == (
            pl.String if kind in ("jsonl", "csv", "folder") else pl.Binary
        )


def test_the_fingerprint_is_of_content_not_of_place(tmp_path: Path) -> None:
    one, other = (sources(tmp_path / name)["jsonl"] for name in ("one", "other"))
    assert open_captions(one).fingerprint == open_captions(other).fingerprint
    other.write_text(other.read_text().replace("the sea", "a sea"))
    assert open_captions(one).fingerprint != open_captions(other).fingerprint


def test_named_columns_and_others_that_stay(tmp_path: Path) -> None:
    names = pictures(tmp_path, 4)
    frame = pl.DataFrame(
        {
            "photo": names, "thumb": names[::-1], "label": ["007", "8", "9", "x"],
            "artist": ["a", "a", "b", None],
            "group": [1, 1, 2, 2], "likes": [0.5, 1, 2, 3], "caption": ["w", "x", "y", "z"],
        }
    )  # fmt: skip
    frame.write_csv(tmp_path / "a.csv")
    table = open_captions(tmp_path / "a.csv", image="thumb", caption="label")
    kept = table.frame.collect()
    assert kept.columns == ["image", "caption", "group", "photo", "artist", "likes"]
    assert kept["caption"].to_list() == [["007"], ["8"], ["9"], ["x"]]
    assert table.names[0] == "3.png" and "group" in said(table)
    both = open_captions(tmp_path / "a.csv", caption=["caption", "label"])
    assert both.frame.collect()["caption"].to_list() == [["w", "007"], ["x", "8"], ["y", "9"], ["z", "x"]]
    frame.head(3).write_csv(tmp_path / "numbers.csv")
    numbers = open_captions(tmp_path / "numbers.csv", caption="label").frame.collect()
    assert numbers["caption"].to_list() == [["007"], ["8"], ["9"]]  # as they are written


def test_a_folder_is_told_apart_and_its_oddities_said(tmp_path: Path) -> None:
    place = tmp_path / "set"
    for part, count in (("train", 3), ("test", 2)):
        pictures(place / part, count)
        for n in range(count):
            (place / part / f"{n}.txt").write_text(f"{part} {n}\n\nagain {n}\n")
    (place / "test" / "1.txt").write_bytes("사과".encode("cp949"))
    (place / "train" / "7.txt").write_text("no picture")
    (place / "train" / "notes.md").write_text("x")
    (place / "train" / "0.ko.txt").write_text("셋")
    (place / "train" / "1.json").write_text(json.dumps({"title": "json", "id": 4}))
    (place / "train" / "link.png").symlink_to(place / "train" / "0.png")
    assert holds_captions(place)
    table = open_captions(place)
    assert table.names == ("train/0.png", "train/1.png", "train/2.png", "test/0.png", "test/1.png")
    assert table.official_test == 2
    assert rows(table) == [
        (["train 0", "again 0"], ["셋"]),
        (["json", "train 1", "again 1"], []),
        (["train 2", "again 2"], []),
        (["test 0", "again 0"], []),
        (["사과"], []),
    ]
    notes = said(table)
    assert notes["alone"]["first"] == "train/7.txt" and notes["others"]["first"] == "train/notes.md"
    assert notes["links"]["count"] == 1 and notes["parts"]["rows"] == 2 and notes["cp949"]["count"] == 1
    pictures(tmp_path / "bare", 2)
    assert not holds_captions(tmp_path / "bare")
    with pytest.raises(
        SadariError, match=r"has 2 pictures and no captions; put a text beside each, such as 0.txt"
    ):
        open_captions(tmp_path / "bare")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SadariError, match=r"holds no pictures .* and no shards; name the folder that does"):
        open_captions(tmp_path / "empty")


def test_hub_folders(tmp_path: Path) -> None:
    place = tmp_path / "imagefolder"
    names = pictures(place, 2)
    lines = [json.dumps({"file_name": name, "text": f"picture {name}"}) for name in names]
    (place / "metadata.jsonl").write_text("\n".join(lines))
    assert rows(open_captions(place)) == [(["picture 0.png"],), (["picture 1.png"],)]
    parts = tmp_path / "parts"
    parts.mkdir()
    for part, seeds in (("test", [8, 9]), ("train", [0, 1, 2]), ("validation", [5])):
        pl.DataFrame(
            {"image": [png(n) for n in seeds], "text": [f"{part} {n}" for n in seeds]}
        ).write_parquet(parts / f"{part}-00000-of-00001.parquet")
    table = open_captions(parts)
    assert [row[0][0] for row in rows(table)][-2:] == ["test 8", "test 9"] and table.rows == 6
    assert table.official_test == 2 and said(table)["parts"]["rows"] == 2
    pl.DataFrame({"image": [png(0)], "title": ["x"]}).write_parquet(parts / "dev-00000-of-00001.parquet")
    with pytest.raises(SadariError, match=r"its Parquet files have not the same columns; name one of them"):
        open_captions(parts)


# --------------------------------------------------------------------- what is odd


def test_missing_captions_are_left_out_and_named(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"image": [png(n) for n in range(5)], "caption": ["a", "", None, "b", "c"], "n": range(5)}
    )
    table = open_captions(frame)
    assert rows(table) == [(["a"],), (["b"],), (["c"],)] and table.frame.collect()["n"].to_list() == [0, 3, 4]
    assert said(table)["no caption"]["first"] == "row 2, row 3"
    few = frame.with_columns(caption=pl.Series(["a", "b", "", " ", None]))
    with pytest.raises(
        SadariError, match=r"3 of 5 pictures have no caption \(the first: row 3\); write them"
    ):
        open_captions(few)


def test_a_book_for_a_caption_is_cut_and_said(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"image": [png(n) for n in range(3)], "caption": ["word " * 20_000, "한" * 100_000, "short"]}
    )
    table = open_captions(frame)
    lengths = [len(row[0][0]) for row in rows(table)]
    assert lengths == [LONGEST - 1, LONGEST, 5]
    assert rows(table)[0][0][0].endswith("word")
    assert said(table)["cut"] == {"kind": "cut", "count": 2, "most": LONGEST, "first": "row 1"}


def test_broken_pictures_are_left_out_or_refused(tmp_path: Path) -> None:
    held = [png(n) for n in range(40)]
    held[7] = held[7][:60]
    frame = pl.DataFrame({"image": held, "caption": [f"c{n}" for n in range(40)]})
    table = open_captions(frame)
    assert table.rows == 39 and said(table)["broken"]["first"] == "row 8"
    assert ["c7"] not in [row[0] for row in rows(table)]
    with pytest.raises(
        SadariError, match=r"1 of 10 pictures cannot be read, and more than 5% are too many; the"
    ):
        open_captions(frame[:10])


def test_what_holds_no_captions_is_said(tmp_path: Path) -> None:
    names = pictures(tmp_path, 2)
    frame = pl.DataFrame({"image": [png(0), png(1)], "label": ["a", "b"]})
    for source, how, message in (
        (frame, {}, r"has no column of captions \(image, label\); call it caption, or caption.ko and"),
        (frame, {"caption": "labl"}, r"has no column 'labl'; near it: label"),
        (frame, {"image": "img", "caption": "label"}, r"has no column 'img'; near it: image"),
        (
            pl.DataFrame({"id": ["x"], "caption": ["a"]}),
            {},
            r"has no column of pictures \(id, caption\): paths of",
        ),
    ):
        with pytest.raises(SadariError, match=message):
            open_captions(source, **how)
    path = tmp_path / "a.jsonl"
    for line, message in (
        ({"image": names[0], "label": "a"}, r"a.jsonl has no column of captions"),
        ({"x": names, "caption": "a"}, r"a.jsonl has no column of pictures \(x, caption\)"),
        (
            {"image": "https://x.org/1.png", "caption": "a"},
            r"names addresses \(https://x.org/1.png\); download",
        ),
    ):
        path.write_text(json.dumps(line))
        with pytest.raises(SadariError, match=message):
            open_captions(path)


def test_captions_of_gives_all_with_their_columns() -> None:
    frame = pl.DataFrame(
        {"image": [b"", b""], "caption.en": [["a", "b"], None], "caption.ko": [["가"], ["나"]]}
    )
    assert captions_of(frame) == [[(0, "a"), (0, "b"), (1, "가")], [(1, "나")]]
    assert captions_of(frame, ["caption.ko"]) == [[(0, "가")], [(0, "나")]]


# --------------------------------------------------------------------- shards


def tar(path: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tape:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tape.addfile(info, io.BytesIO(content))
    return path


def test_samples_become_pairs_or_are_counted(tmp_path: Path) -> None:
    about = {"caption": "from json", "text_ko": "제이슨", "width": 8, "nested": [1]}
    samples = [
        Sample(
            "0",
            {
                "mask.png": b"mask",
                "png": b"one",
                "txt": b"first\nsecond\n",
                "json": json.dumps(about).encode(),
            },
        ),
        Sample("1", {"txt": b"alone"}),
        Sample("2", {"jpg": b"mute"}),
        Sample("3", {"jpg": b"two", "ko.txt": "사과".encode("cp949"), "seg.txt": b"no language"}),
        Sample("4", {"jpg": b"three", "txt": b" \n", "json": b"{broken"}),
    ]
    left: Counter[str] = Counter()
    pairs = list(pairs_of(samples, left))
    assert [(pair.key, pair.picture, pair.captions, pair.about) for pair in pairs] == [
        ("0", b"one", {"": ["first", "second", "from json"], "ko": ["제이슨"]}, {"width": 8}),
        ("3", b"two", {"ko": ["사과"]}, {}),
    ]
    assert left == {"no picture": 1, "no caption": 2}


def test_shards_open_as_a_table_while_memory_holds_them(tmp_path: Path) -> None:
    place = tmp_path / "shards"
    place.mkdir()
    for n in range(3):
        tar(
            place / f"{n}.tar",
            [
                (f"{n}{k}.{ending}", content)
                for k in range(4)
                for ending, content in (
                    ("png", png(10 * n + k)),
                    ("txt", f"picture {n}{k}".encode()),
                    ("json", json.dumps({"group": n}).encode()),
                )
            ]
            + [(f"{n}x.txt", b"no picture")],
        )
    assert holds_captions(place) and is_shards(str(place / "{0..2}.tar")) and not is_shards("emoji")
    tables = [open_captions(source) for source in (place, str(place / "{0..2}.tar"), sorted(place.iterdir()))]
    for table in tables:
        assert table.rows == 12 and table.fingerprint == tables[0].fingerprint
        assert table.names[:2] == ("00", "01") and said(table)["no picture"]["count"] == 3
        assert table.frame.collect()["group"].to_list() == [n for n in range(3) for _ in range(4)]
    streamed = {pair.key: pair.picture for pair in pairs_of(Shards(place, seed=1, shuffle=5))}
    held = tables[0].frame.collect()["image"].to_list()
    assert [streamed[name] for name in tables[0].names] == held
    first = open_captions(place, memory=2000)
    assert first.streamed and 0 < first.rows < 12 and first.names == tables[0].names[: first.rows]
    assert len(first.shards) == 3 and not tables[0].shards and said(first)["streamed"]["count"] == first.rows


def test_captions_are_recognised_and_labels_are_not(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"{name}.png")
    rows = [{"image": "one.png", "caption": "a thing"}, {"image": "two.png", "caption": "another one"}]
    (tmp_path / "said.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pl.DataFrame(rows).write_csv(tmp_path / "said.csv")
    labelled = [{**row, "label": str(number)} for number, row in enumerate(rows)]
    (tmp_path / "told.jsonl").write_text("\n".join(map(json.dumps, labelled)))
    pl.DataFrame(labelled).write_csv(tmp_path / "told.csv")
    for name in ("said.jsonl", "said.csv"):
        assert recognise(str(tmp_path / name))[1:] == ("captions", "match")
        assert recognise(str(tmp_path / name), target="caption")[1] == "images"
        assert recognise(str(tmp_path / name), reading={"size": 8})[1:] == ("captions", "match")
    for name in ("told.jsonl", "told.csv"):
        assert recognise(str(tmp_path / name))[1] == "images"
        assert recognise(str(tmp_path / name), reading={"size": 8})[1] == "images"
    beside = tmp_path / "beside"
    beside.mkdir()
    Image.new("RGB", (8, 8), "red").save(beside / "one.png")
    (beside / "one.txt").write_text("a thing")
    assert recognise(beside)[1:] == ("captions", "match")
    assert recognise("shards/{000..004}.tar")[1:] == ("captions", "match")
