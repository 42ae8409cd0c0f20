"""Using runs of pictures: one, several, a folder, a table; whatever they come as, the same answer."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars.testing
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sadari.cli import run as command
from sadari.data.spec_images import ImageSpec
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.lang import Note
from sadari.predict import pictures as module
from sadari.predict import predict_file, predict_files, predict_pictures
from sadari.runs import Run

LABELS = ("빨강", "green", "blue, dark")
SIDE = 12


def photo(kind: int, seed: int, size: tuple[int, int] = (20, 15)) -> Image.Image:
    """A ramp of one colour under noise."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 80, (size[1], size[0], 3))
    pixels[..., kind] += np.linspace(20, 170, size[0]).astype(int)
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Run:
    files = [encoded(photo(number % 3, number)) for number in range(60)]
    frame = pl.DataFrame({"image": files, "colour": [LABELS[number % 3] for number in range(60)]})
    return fit(
        "logistic", frame, kind="images", target="colour", reading={"size": SIDE}, budget="60steps",
        train={"learning_rate": 0.02}, out=tmp_path_factory.mktemp("runs") / "colours",
    )  # fmt: skip


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Nine photos in folders, and what else lies about."""
    place = tmp_path / "앨범"
    for number in range(9):
        path = place / ("여름 🌊" if number % 2 else "winter") / "deep" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number % 3, 100 + number).save(path)
    (place / "notes.txt").write_text("no picture")
    (place / ".hidden.png").write_bytes(b"hidden")
    (place / "link.png").symlink_to(place / "winter" / "deep" / "0.png")
    return place


def truth(path: str) -> str:
    return LABELS[int(Path(path).stem) % 3]


# Whatever a picture comes as


def forms(tmp_path: Path) -> dict[str, Any]:
    picture = photo(1, 5)
    path = tmp_path / "사진 하나.png"
    picture.save(path)
    return {
        "a path": path,
        "words": str(path),
        "bytes": path.read_bytes(),
        "an image": picture,
        "an opened image": Image.open(io.BytesIO(path.read_bytes())),
        "an array": np.asarray(picture),
        "a list": [path],
        "a tuple of an array": (np.asarray(picture),),
        "an array of arrays": np.asarray(picture)[None],
        "a series": pl.Series([str(path)]),
    }


def test_it_is_the_same_picture_whatever_it_comes_as(colours: Run, tmp_path: Path) -> None:
    told = {name: colours.predict(form, probabilities=True) for name, form in forms(tmp_path).items()}
    first = told["a path"]
    assert first["prediction"].to_list() == ["green"]
    assert first.columns == ["prediction", *(f"probability of {name}" for name in sorted(LABELS))]
    for name, frame in told.items():
        pl.testing.assert_frame_equal(frame, first, abs_tol=0), name
    path = forms(tmp_path)["a path"]
    pl.testing.assert_frame_equal(colours.predict(pl.DataFrame({"image": [str(path)]}), True), first)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "HSV", "La"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_in_memory_is_read_as_its_file_is(mode: str, channels: int, tmp_path: Path) -> None:
    """Modes that have no file of their own stand for the colours that they hold."""
    spec = ImageSpec("colour", "image", LABELS, SIDE, "crop", channels)
    picture = photo(2, 8)
    if mode == "I;16":
        picture = Image.fromarray(np.arange(300, dtype=np.uint16).reshape(15, 20) * 200)
    elif mode == "F":
        picture = Image.fromarray(np.linspace(-1, 5, 300).reshape(15, 20).astype(np.float32))
    elif mode == "La":
        picture = picture.convert("LA").convert("La")
    else:
        picture = picture.convert(mode)
    path = tmp_path / ("x.tif" if mode in ("CMYK", "F") else "x.png")
    plain = {"HSV": "RGB", "La": "LA"}
    (picture.convert(plain[mode]) if mode in plain else picture).save(path)
    ours, theirs = (module._pixels(spec, form, "x").astype(int) for form in (picture, path))
    assert ours.shape == (SIDE, SIDE, channels) and ours.std() > 5
    assert np.abs(ours - theirs).max() <= (1 if mode in ("La", "HSV") else 0)


def test_a_turned_image_in_memory_stands_upright(colours: Run, tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 8
    photo(0, 3, (30, 14)).save(tmp_path / "t.png", exif=turned)
    held = Image.open(io.BytesIO((tmp_path / "t.png").read_bytes()))
    from_file, from_memory = (module._pixels(colours.spec, form, "x") for form in (tmp_path / "t.png", held))
    assert np.array_equal(from_file, from_memory)
    flat = module._pixels(colours.spec, photo(0, 3, (30, 14)), "x")
    assert not np.array_equal(from_file, flat)


@given(pixels=st.binary(min_size=SIDE * SIDE * 3, max_size=SIDE * SIDE * 3))
def test_pixels_of_the_right_size_are_taken_as_they_are(pixels: bytes) -> None:
    spec = ImageSpec("colour", "image", LABELS, SIDE, "crop", 3)
    array = np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE, 3)
    assert np.array_equal(module._pixels(spec, array, "x"), array)
    assert np.array_equal(module._pixels(spec, Image.fromarray(array), "x"), array)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 4, 3)), "picture 1 is an array of float64; give pixels as uint8, from 0 to 255"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\); give \(height, width\), or 1, 3 or 4"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"),
        (b"no picture", "picture 1 is no picture that is read here; give JPEG, PNG"),
        (7, "picture 1 is int, no picture; give a path, bytes, a PIL image or an array"),
        ("", "picture 1 has no image"),
        ([], "no picture is given; give at least one"),
        ("gone.jpg", "gone.jpg is not there; check the path"),
    ],
)
def test_what_is_no_picture_is_said(colours: Run, given: Any, message: str) -> None:
    with pytest.raises(SadariError, match=message):
        colours.predict(given)


def test_only_a_run_of_pictures_takes_them() -> None:
    run = fit("line", "diabetes", out="line")
    with pytest.raises(SadariError, match="this run predicts progression of table data; give it a frame"):
        predict_pictures(run, "x.jpg")


# Folders


def test_a_folder_is_answered_picture_by_picture(colours: Run, album: Path) -> None:
    frame = colours.predict(album, probabilities=True)
    assert frame["path"].to_list() == sorted(frame["path"].to_list()) and frame.height == 9
    assert frame["path"][0] == "winter/deep/0.png"
    assert frame["prediction"].to_list() == [truth(path) for path in frame["path"]]
    alone = pl.concat([colours.predict(album / path, probabilities=True) for path in frame["path"]])
    pl.testing.assert_frame_equal(frame.drop("path"), alone, abs_tol=1e-6)
    notes: list[Note] = []
    out = predict_files(colours, album, probabilities=True, notes=notes)
    assert out == album.parent / "앨범-predicted.csv"
    pl.testing.assert_frame_equal(pl.read_csv(out, schema=frame.schema), frame, abs_tol=1e-6)
    assert [note.english for note in notes] == [
        "1 files in 앨범 are no pictures and are left out: notes.txt",
        "1 links in 앨범 are not followed: link.png",
    ]


def test_what_cannot_be_read_is_named_and_has_no_prediction(colours: Run, album: Path) -> None:
    whole = encoded(photo(0, 1, (60, 60)))
    (album / "cut.png").write_bytes(whole[: len(whole) // 2])
    (album / "empty.jpg").touch()
    frame = colours.predict(album)
    broken = frame.filter(pl.col("prediction").is_null())["path"].to_list()
    assert broken == ["cut.png", "empty.jpg"] and frame.height == 11
    notes: list[Note] = []
    path = predict_files(colours, album, album.parent / "out.parquet", notes=notes)
    pl.testing.assert_frame_equal(pl.read_parquet(path), frame)
    assert notes[0].level == "warning" and notes[0].english == (
        "2 of 11 pictures cannot be read and have no prediction: cut.png, empty.jpg"
    )
    assert "그림 11장 가운데 2장은 읽을 수 없어" in notes[0].korean


def test_where_none_can_be_read_nothing_is_written(colours: Run, tmp_path: Path) -> None:
    place = tmp_path / "all"
    place.mkdir()
    for name in ("a.png", "b.png"):
        (place / name).write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(SadariError, match=r"no picture can be read; the first: .*a\.png"):
        predict_files(colours, place)
    with pytest.raises(SadariError, match=r"no picture can be read; the first: .*a\.png"):
        colours.predict(place)
    assert not list(tmp_path.glob("*predicted*"))


def test_blocks_of_any_size_give_the_same(colours: Run, album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (album / "broken.png").touch()
    at_once = colours.predict(album, probabilities=True)
    for size in (1, 2, 7):
        monkeypatch.setattr(module, "TOGETHER", size)
        pl.testing.assert_frame_equal(colours.predict(album, probabilities=True), at_once, abs_tol=1e-6)


def test_few_pictures_are_in_memory_however_many_there_are(
    colours: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding stops while nobody takes the answers: what is ahead is a block a core and one more."""
    place = tmp_path / "many"
    place.mkdir()
    for number in range(60):
        photo(number % 3, number).save(place / f"{number:02}.png")
    decoded, lock = 0, threading.Lock()
    real = module._pixels

    def counting(*given: Any) -> np.ndarray:
        nonlocal decoded
        with lock:
            decoded += 1
        return real(*given)

    monkeypatch.setattr(module, "TOGETHER", 2)
    monkeypatch.setattr(module, "_pixels", counting)
    names = [f"{number:02}.png" for number in range(60)]
    frames: Iterator[pl.DataFrame] = module._streamed(
        colours, [place / name for name in names], names, False, module.Broken()
    )
    first = next(frames)
    ahead = 2 * ((os.cpu_count() or 1) + 1)
    assert first["path"].to_list() == names[:2] and decoded <= ahead < 60
    told: list[int] = []
    predict_files(colours, place, told=told.append)
    assert told[-1] == 60 and told == sorted(told) and len(told) == 30
    assert sum(frame.height for frame in frames) == 58  # and the rest, once somebody takes them


# Tables


def tables(album: Path) -> dict[str, Path]:
    """The album's pictures by paths from the table's folder, and by their bytes."""
    paths = sorted(path.relative_to(album).as_posix() for path in album.glob("*/deep/*.png"))
    frame = pl.DataFrame({"id": [f"{n:03}" for n in range(9)], "image": paths})
    made = {name: album / f"t.{name}" for name in ("csv", "tsv", "parquet", "jsonl")}
    frame.write_csv(made["csv"])
    frame.write_csv(made["tsv"], separator="\t")
    frame.write_parquet(made["parquet"])
    frame.select("image").write_ndjson(made["jsonl"])
    held = [(album / path).read_bytes() for path in paths]
    made["bytes"] = album / "bytes.parquet"
    frame.with_columns(pl.Series("image", held)).write_parquet(made["bytes"])
    made["hub"] = album / "hub.parquet"
    both = [{"bytes": one, "path": path} for one, path in zip(held, paths, strict=True)]
    frame.with_columns(pl.Series("image", both)).write_parquet(made["hub"])
    return made


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet", "jsonl", "bytes", "hub"])
def test_rows_of_a_table_are_answered_where_they_stand(
    colours: Run, album: Path, form: str, tmp_path: Path
) -> None:
    """Paths start at the table's folder, wherever the program runs; bytes are not written as text."""
    source = tables(album)[form]
    out = predict_file(colours, source, tmp_path / "out.csv", probabilities=True)
    found = pl.read_csv(out, schema_overrides={"id": pl.String})
    expected = colours.predict(album, probabilities=True)
    pl.testing.assert_frame_equal(
        found.select(expected.columns[1:]), expected.drop("path"), abs_tol=1e-6, check_dtypes=False
    )
    carried = {"jsonl": ["image"], "bytes": ["id"], "hub": ["id"]}.get(form, ["id", "image"])
    assert found.columns[: len(carried)] == carried
    if "id" in carried:
        assert found["id"].to_list() == [f"{n:03}" for n in range(9)]
    if form in ("bytes", "hub"):
        typed = pl.read_parquet(predict_file(colours, source, tmp_path / "out.parquet"))
        assert typed["image"].to_list() == pl.read_parquet(source)["image"].to_list()


def test_a_row_without_a_picture_has_no_prediction(colours: Run, album: Path) -> None:
    (album / "t.csv").write_text("image\nwinter/deep/0.png\n\ngone.png\nnotes.txt\n")
    notes: list[Note] = []
    found = pl.read_csv(predict_file(colours, album / "t.csv", notes=notes))
    assert found["prediction"].to_list() == ["빨강", None, None, None]
    said = "3 of 4 pictures cannot be read and have no prediction: t.csv row 2, gone.png, notes.txt"
    assert said in notes[0].english
    with pytest.raises(SadariError, match=r"t\.csv lacks column: image; the run was trained on its pictures"):
        (album / "t.csv").write_text("file\nwinter/deep/0.png\n")
        predict_file(colours, album / "t.csv")
    (album / "t.jsonl").write_text('{"image": "winter/deep/0.png"}\n{"x": 1}\n')
    with pytest.raises(SadariError, match=r"t\.jsonl line 2 has no picture 'image'; mend it"):
        predict_file(colours, album / "t.jsonl")


# The command


def test_one_photo_is_told_with_its_likeliest_classes(
    colours: Run, album: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = album / "winter" / "deep" / "0.png"
    assert command(["predict", str(colours.path), str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    shares = colours.predict(path, probabilities=True).drop("prediction").row(0)
    ranked = sorted(zip(shares, sorted(LABELS), strict=True), reverse=True)
    assert lines == [f"{share:.3f}  {label}" for share, label in ranked]
    assert lines[0].endswith("빨강") and not list(album.parent.glob("*predicted*"))


def test_several_photos_are_told_a_line_each(
    colours: Run, album: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(path) for path in sorted(album.glob("*/deep/*.png"))[:4]]
    (album / "broken.png").touch()
    assert command(["predict", str(colours.path), *given, str(album / "broken.png")]) == 0
    told = capsys.readouterr()
    assert [line.split("  ")[-1] for line in told.out.splitlines()] == given
    assert [line.split("  ")[1] for line in told.out.splitlines()] == [truth(path) for path in given]
    assert "1 of 5 pictures cannot be read" in told.err and told.err.count("\n") == 1
    assert command(["predict", str(colours.path), *given, "--out", "few.csv", "--probabilities"]) == 0
    assert capsys.readouterr().out == "few.csv\n"
    frame = pl.read_csv("few.csv")
    assert frame["path"].to_list() == given and frame.width == 5


def test_a_folder_and_a_table_end_in_a_file(
    colours: Run, album: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["predict", str(colours.path), str(album)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{album}-predicted.csv\n" and "left out: notes.txt" in told.err
    source = tables(album)["csv"]
    assert command(["predict", str(colours.path), str(source), "--keep", "id", "--quiet"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{album / 't-predicted.csv'}\n" and not told.err
    assert pl.read_csv(album / "t-predicted.csv").columns == ["id", "prediction"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["notes.txt"], "notes.txt is no picture that is read here; give JPEG, PNG, WebP, GIF, BMP or TIFF"),
        (["broken.jpg"], "broken.jpg"),
        (["gone.jpg"], "gone.jpg is not there; check the path"),
        (["empty"], "empty holds no pictures (JPEG, PNG, WebP, GIF, BMP, TIFF); name the folder that does"),
        (["a.png", "gone.png", "--probabilities"], "--probabilities of several pictures make a table"),
        (["a.png", "--keep", "id"], "--keep names columns of a table, and no table is given"),
        ([], "no rows are given; name a file with the run's columns, a photo, or a folder of photos"),
        (["a.png", "--temperature", "1"], "--temperature is for language runs, and this one predicts colour"),
        (["a.png", "--out", "x.json"], "--out x.json: predictions are written as .csv, .tsv or .parquet"),
        (["gone.csv"], "gone.csv"),
        (["--fooo"], "--fooo is no option of predict"),
    ],
)
def test_a_mistake_is_one_line(
    colours: Run, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("notes.txt").write_text("no picture at all")
    Path("empty").mkdir()
    photo(0, 1).save("a.png")
    whole = encoded(photo(0, 1, (90, 90)), "JPEG")
    Path("broken.jpg").write_bytes(whole[:400])
    before = sorted(os.listdir())
    assert command(["predict", str(colours.path), *words]) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and not said.out.strip()
    assert sorted(os.listdir()) == before


def test_of_other_runs_one_input_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit("one-hot", "toy-topics", out=tmp_path / "topics")
    assert command(["predict", str(run.path), "rain", "and", "snow"]) == 2
    assert "3 inputs are given where one is wanted (rain, and ...); put a text" in capsys.readouterr().err
