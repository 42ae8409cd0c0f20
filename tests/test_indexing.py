"""An index of pictures: only what is new is embedded, and words find what sorting all cosines finds."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

import sadari
from sadari.data.listed import list_pictures
from sadari.errors import SadariError
from sadari.ladder import find_rung
from sadari.runs import Run

pytest.importorskip("lancedb")

from sadari.data.tokenizers import Tokenizer, train_tokenizer
from sadari.indexing import Searcher, encoder, index, index_folder, making, search
from sadari.indexing.words import word_notes

COLOURS = {
    "red": ("빨간", (220, 30, 30)),
    "green": ("초록", (30, 180, 40)),
    "blue": ("파란", (30, 50, 220)),
    "yellow": ("노란", (240, 220, 20)),
    "black": ("검은", (10, 10, 10)),
    "white": ("하얀", (250, 250, 250)),
}
EACH = 8


def paint(path: Path, colour: str, seed: int = 0) -> Path:
    """A picture of about one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-9, 10, (10, 12, 3))
    pixels = np.clip(np.array(COLOURS[colour][1]) + noise, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def make_album(folder: Path, each: int = EACH) -> Path:
    """A table of pictures with captions in two languages, a number and a text."""
    rows = [
        {
            "image": f"pictures/{colour}/{number}.png",
            "caption.en": f"a {colour} umbrella",
            "caption.ko": f"{COLOURS[colour][0]} 우산",
            "year": 2000 + number,
            "화가": "김씨" if number % 2 else "이씨",
        }
        for colour in COLOURS
        for number in range(each)
    ]
    for number, row in enumerate(rows):
        paint(folder / str(row["image"]), str(row["image"]).split("/")[1], number)
    pl.DataFrame(rows).write_csv(folder / "album.csv")
    return folder / "album.csv"


@pytest.fixture(autouse=True)
def exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """In single precision, as on a processor without bf16; what is told of bf16 asks for it."""
    monkeypatch.setattr(encoder, "has_bf16", bool)


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_album(tmp_path_factory.mktemp("album"))


@pytest.fixture(scope="module")
def run(album: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Learnt in a moment: colours have names in both languages."""
    out = tmp_path_factory.mktemp("runs") / "bow"
    train = {"learning_rate": 0.02, "batch_size": 12, "threads": 1}
    return sadari.fit("bag-of-words", album, out=out, budget="150steps", train=train, kind="captions")


@pytest.fixture(scope="module")
def made(album: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The album's index, which no test changes."""
    folder = tmp_path_factory.mktemp("made") / "index"
    index(album, run, folder, precision="fp32")
    return folder


def photos(folder: Path, count: int = 12) -> Path:
    """A folder of pictures without captions, some of them deeper."""
    for number in range(count):
        colour = list(COLOURS)[number % len(COLOURS)]
        paint(folder / ("" if number % 3 else "더 깊이") / f"{colour} {number}'s.png", colour, number)
    return folder


def content(folder: Path | str) -> dict[str, list[float]]:
    """Vectors by id, without the digits that hang on which pictures were embedded together."""
    ids, vectors, _ = Searcher.open(folder).index.load()
    return {name: vector.round(5).tolist() for name, vector in zip(ids, vectors + 0.0, strict=True)}


def alike(one: dict[str, list[float]], other: dict[str, list[float]]) -> bool:
    return one.keys() == other.keys() and all(np.allclose(one[name], other[name], atol=3e-5) for name in one)


# Searching


def test_words_find_what_sorting_all_cosines_finds(made: Path, album: Path, run: Run) -> None:
    listed = list_pictures(album)
    pixels = np.stack([run.spec.pictures.decode(Path(str(one))) for one in listed.pictures])
    images = run.task.images(run.model, torch.from_numpy(pixels)).numpy()
    for query in ("a yellow umbrella", "노란 우산", "blue", "something else"):
        words = run.task.captions(run.model, torch.from_numpy(run.spec.encode_captions([query]))).numpy()[0]
        cosines = images @ words
        best = np.argsort(-cosines, kind="stable")[:9]
        hits = search(made, query, 9)
        assert np.allclose([hit.score for hit in hits], cosines[best], atol=1e-5)
        assert {hit.id for hit in hits[:8]} <= {listed.ids[i] for i in np.argsort(-cosines)[:10]}
        assert all(hit.score == pytest.approx(cosines[listed.ids.index(hit.id)], abs=1e-5) for hit in hits)


@pytest.mark.parametrize(("query", "colour"), [("노란 우산", "yellow"), ("a blue umbrella", "blue")])
def test_words_of_either_language_find_their_colour(made: Path, query: str, colour: str) -> None:
    hits = search(made, query, 5)
    assert [hit.id.split("/")[1] for hit in hits] == [colour] * 5
    assert hits[0].captions == (f"a {colour} umbrella", f"{COLOURS[colour][0]} 우산")
    assert hits[0].path is not None and Path(hits[0].path).is_file()
    assert "stamp" not in hits[0].columns


def test_a_picture_finds_itself_and_its_like(made: Path, album: Path) -> None:
    picture = album.parent / "pictures" / "green" / "3.png"
    for query in (picture, str(picture), picture.read_bytes()):
        hits = search(made, query, 4)
        assert hits[0].id == "pictures/green/3.png" and hits[0].score == pytest.approx(1, abs=1e-5)
        assert {hit.id.split("/")[1] for hit in hits} == {"green"}


def test_a_condition_on_columns_of_the_table(made: Path) -> None:
    hits = search(made, "노란 우산", 30, "year >= 2004 and `화가` = '김씨'")
    assert len(hits) == 2 * len(COLOURS)
    assert {(hit.columns["year"], hit.columns["화가"]) for hit in hits} == {(2005, "김씨"), (2007, "김씨")}
    hits = search(
        made, "노란 우산", 50, "path LIKE 'pictures/red/%' AND array_contains(captions, '빨간 우산')"
    )
    assert len(hits) == EACH and all("/red/" in hit.id for hit in hits)


def test_approximate_search_says_what_exact_search_says_where_all_cells_are_read(
    run: Run, tmp_path: Path
) -> None:
    done = index(photos(tmp_path / "many", 260), run)
    done.index.build(4)
    exact, near = (search(done.folder, "노란", 7, exact=exact, probes=4) for exact in (True, False))
    assert [round(hit.score, 5) for hit in near] == [round(hit.score, 5) for hit in exact]


# Making


def test_only_what_is_new_or_changed_is_embedded(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen = photos(tmp_path / "photos"), list[int]()
    whole = making._embedded

    def counted(run: Any, encode: Any, listed: Any, rows: list[int], broken: Any) -> Any:
        seen.append(len(rows))
        return whole(run, encode, listed, rows, broken)

    monkeypatch.setattr(making, "_embedded", counted)
    done = index(folder, run)
    assert done.folder == tmp_path / "photos-index" and (done.new, done.changed, done.same) == (12, 0, 0)
    before = content(done.folder)
    assert index(folder, run).same == 12 and content(done.folder) == before, "not written again"
    paint(folder / "red 1000.png", "red", 1000)
    paint(folder / "green 1's.png", "blue", 5)
    os.utime(folder / "green 1's.png", ns=(0, 5))
    done = index(folder, run)
    assert (done.new, done.changed, done.same, seen) == (1, 1, 11, [12, 0, 2])
    after = content(done.folder)
    assert {name for name in after if before.get(name) != after[name]} == {"red 1000.png", "green 1's.png"}
    assert index(folder, run, tmp_path / "at once").new == 13
    assert alike(content(tmp_path / "at once"), after)


def test_what_a_table_says_anew_is_taken_over(run: Run, tmp_path: Path) -> None:
    table = make_album(tmp_path / "album")
    done = index(table, run)
    frame = pl.read_csv(table)
    frame.with_columns(year=pl.when(pl.col("year") == 2003).then(1900).otherwise("year")).write_csv(table)
    done = index(table, run)
    assert (done.new, done.changed) == (0, len(COLOURS))
    assert len(search(done.folder, "red", 50, "year = 1900")) == len(COLOURS)
    assert not search(done.folder, "red", 50, "year = 2003")


def test_stopped_and_gone_on_with_is_as_never_stopped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(tmp_path / "photos", 30)
    monkeypatch.setattr("sadari.predict.pictures.TOGETHER", 2)
    monkeypatch.setattr(making, "TOGETHER", 4)

    def stop(done: int, total: int) -> None:
        assert total == 30
        if done >= 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index(folder, run, tmp_path / "stopped", told=stop)
    kept = len(content(tmp_path / "stopped"))
    assert 0 < kept < 30
    done = index(folder, run, tmp_path / "stopped")
    assert (done.new, done.same) == (30 - kept, kept)
    index(folder, run, tmp_path / "whole")
    assert alike(content(tmp_path / "stopped"), content(tmp_path / "whole"))


def test_what_is_gone_is_said_and_taken_out_when_asked(run: Run, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos")
    index(folder, run)
    (folder / "green 1's.png").unlink()
    (folder / "blue 2's.png").write_bytes(b"no longer a picture")
    done = index(folder, run)
    assert set(done.gone) == {"green 1's.png", "blue 2's.png"} and len(done.index) == 12
    said = [note.say("en") for note in done.notes]
    assert any("1 of 12" not in line and "blue 2's.png" in line and "left out" in line for line in said)
    assert any("2 pictures of the index are no longer there" in line and "--prune" in line for line in said)
    assert any("--prune을 주면" in note.say("ko") for note in done.notes)
    done = index(folder, run, prune=True)
    assert len(done.index) == 10 and "green 1's.png" not in content(done.folder)
    assert not index(folder, run, prune=True).gone


def test_broken_pictures_are_named_and_the_rest_is_found(run: Run, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 6)
    (folder / "torn.png").write_bytes((folder / "green 1's.png").read_bytes()[:60])
    (folder / "notes.txt").write_text("not a picture")
    done = index(folder, run)
    assert done.new == 6
    warning, *others = sorted(done.notes, key=lambda note: note.level != "warning")
    assert "1 of 7 pictures cannot be read and are left out: torn.png" in warning.say("en")
    assert any("notes.txt" in note.say("en") for note in others)


def test_a_table_of_bytes_keeps_small_pictures(run: Run, tmp_path: Path) -> None:
    large = paint(tmp_path / "large.png", "red")
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    Image.fromarray(noise).save(large)
    held = [large.read_bytes(), paint(tmp_path / "small.png", "blue").read_bytes(), large.read_bytes()]
    pl.DataFrame({"image": held, "label": ["x", "y", "z"], "path": ["p", None, None]}).write_parquet(
        "t.parquet"
    )
    done = index("t.parquet", run)
    assert done.folder == Path("t-index") and done.new == 3
    searcher = Searcher.open("t-index")
    hits = {hit.id: hit for hit in searcher.search("blue", 3, "label != 'z'")}
    assert set(hits) == {"row 1", "row 2"} and hits["row 1"].columns["path_"] == "p"
    assert all(hit.path is None for hit in hits.values())
    assert hits["row 2"].columns["thumbnail"] == held[1] and len(held[0]) > len(
        hits["row 1"].columns["thumbnail"]
    )
    pixels = searcher.pixels(hits["row 2"], 20)
    assert pixels is not None and pixels.shape == (20, 20, 3) and pixels[10, 10, 2] > 150


def test_columns_that_begin_empty_have_the_type_of_what_follows(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sadari.predict.pictures.TOGETHER", 2)
    monkeypatch.setattr(making, "TOGETHER", 2)
    names = [paint(tmp_path / f"{number}.png", "red", number).name for number in range(6)]
    years = [None, None, None, 1999, None, 2001]
    pl.DataFrame({"image": names, "year": years, "id": years}).write_csv(tmp_path / "t.csv")
    done = index(tmp_path / "t.csv", run)
    assert {hit.id for hit in search(done.folder, "red", 9, "year > 1990 AND id_ < 2000")} == {"3.png"}
    pl.DataFrame({"image": names, "year": [None] * 6, "id": years}).write_csv(tmp_path / "t.csv")
    assert index(tmp_path / "t.csv", run).changed == 2
    assert not search(done.folder, "red", 9, "year > 1990"), "a value that was taken away is gone"


def test_sidecars_are_captions(run: Run, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 4)
    for picture in folder.rglob("*.png"):
        picture.with_suffix(".ko.txt").write_text("우산 하나\n우산\n")
    done = index(folder, run)
    assert done.new == 4 and search(done.folder, "우산", 1)[0].captions == ("우산 하나", "우산")


def test_rows_of_one_path_are_one_picture(run: Run, tmp_path: Path) -> None:
    paint(tmp_path / "a.png", "red")
    pl.DataFrame({"file": ["a.png", "a.png"], "caption": ["one", "two"]}).write_csv(tmp_path / "t.csv")
    assert index(tmp_path / "t.csv", run).new == 1
    assert search(tmp_path / "t-index", "red", 5)[0].captions == ("one", "two")


def test_a_moved_run_is_found_where_it_is_said_to_be(
    made: Path, run: Run, tmp_path: Path, album: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run.path, moved)
    assert search(made, "노란 우산", 3, run=moved) == search(made, "노란 우산", 3)
    folder = tmp_path / "index"
    index(album, moved, folder)
    shutil.rmtree(moved)
    with pytest.raises(SadariError, match=r"the run of .*index, .*moved, is not there; .* --run"):
        search(folder, "노란 우산")
    assert search(folder, "노란 우산", 3, run=run.path) == search(made, "노란 우산", 3)


# Bad input


def other(run: Run) -> Run:
    """A run like another, of other weights."""
    return Run(run.path, run.config, {**run.result, "weights": "0" * 64}, run.spec, run.model, run.task)


def table_run(folder: Path) -> Run:
    return sadari.fit("mean", "diabetes", out=folder / "mean")


CASES: dict[str, tuple[Callable[[Path, Run, Path], Any], str]] = {
    "no run": (lambda tmp, run, made: index(tmp, tmp / "gone"), r"no run at .*gone; give the folder"),
    "a run of tables": (
        lambda tmp, run, made: index(photos(tmp / "p"), table_run(tmp)),
        r"mean is a run of mean on table, which puts no pictures in a space",
    ),
    "no pictures": (lambda tmp, run, made: index(tmp, run), r"holds no pictures \(JPEG, PNG"),
    "no such source": (lambda tmp, run, made: index(tmp / "photo", run), r"no pictures at .*photo; check"),
    "a set of no pictures": (
        lambda tmp, run, made: index("diabetes", run),
        r"diabetes has no column of pictures .*--image",
    ),
    "another run": (
        lambda tmp, run, made: index(photos(tmp / "p"), other(run), made),
        r"was made by the run .*bow, and .* is another: .* another folder",
    ),
    "asked with another run": (
        lambda tmp, run, made: search(made, "red", run=other(run)),
        r"was made by the run .* is another",
    ),
    "other pictures": (
        lambda tmp, run, made: index(photos(tmp / "p"), run, made),
        r"is the index of .*album\.csv, not of .*p: .* --out",
    ),
    "something else there": (
        lambda tmp, run, made: index(photos(tmp / "p"), run, tmp / "p"),
        r"p is there and no index; choose another folder with --out",
    ),
    "all broken": (
        lambda tmp, run, made: (tmp / "a.png").write_bytes(b"x") and index(tmp, run, tmp / "index"),
        r"a\.png",
    ),
    "no index": (lambda tmp, run, made: search(tmp, "red"), r"holds no index"),
    "empty": (lambda tmp, run, made: search(made, " \t"), r"the query is empty"),
    "no such picture": (lambda tmp, run, made: search(made, "photo.JPG"), r"no picture photo\.JPG; check"),
    "k of 0": (lambda tmp, run, made: search(made, "red", 0), r"k 0: at least 1 item"),
    "a condition and more": (
        lambda tmp, run, made: search(made, "red", 3, "path = 'a;b' ; drop table items"),
        r"what stands behind ';' would be left out .* AND",
    ),
    "no such precision": (
        lambda tmp, run, made: index(photos(tmp / "p"), run, precision="fp8"),  # type: ignore[arg-type]
        r"--precision fp8: numbers of the encoder are fp32, bf16, or auto",
    ),
    "another precision": (
        lambda tmp, run, made: index(
            Searcher.open(made).index.about["pictures"], run, made, precision="bf16"
        ),
        r"--precision bf16: this index was made in fp32, and goes on so",
    ),
    "options of a folder": (
        lambda tmp, run, made: search(made, "red", storage={"region": "x"}),
        r"is a folder of this machine, and --storage is for an address",
    ),
    "bad where": (
        lambda tmp, run, made: search(made, "red", 3, "nonsense = 3"),
        r"where 'nonsense = 3' fails: .*; give a condition on id, path, captions",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_nothing_is_written(
    case: str, tmp_path: Path, run: Run, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    do, message = CASES[case]
    with pytest.raises(SadariError, match=message) as error:
        do(tmp_path, run, made)
    assert "\n" not in str(error.value)
    assert not [path for path in tmp_path.rglob("*.lance")] and not (tmp_path / "index").exists()


def test_a_broken_index_is_one_line(made: Path, tmp_path: Path, run: Run, album: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(made, broken)
    for path in (broken / "items.lance").rglob("*"):
        if path.is_file():
            path.write_bytes(b"nothing")
    with pytest.raises(SadariError, match=r"the index in .*broken cannot be read.*make it again"):
        search(broken, "red")
    with pytest.raises(SadariError, match=r"cannot be read.*make it again"):
        index(album, run, broken)


def test_without_lancedb_one_line_says_how_to_get_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(SadariError, match=r"lancedb is not installed.*pip install 'sadari\[index\]'"):
        index(photos(tmp_path / "p"), run)
    assert not (tmp_path / "p-index").exists()


def test_an_index_of_something_else_is_not_asked(tmp_path: Path, run: Run) -> None:
    from sadari.index import Index

    for name, about in (("own", {"mine": True}), ("odd", dict.fromkeys(encoder.SAID, 3))):
        Index.create(tmp_path / name, 4, about)
        with pytest.raises(SadariError, match=r"vectors that `sadari index` has not made"):
            search(tmp_path / name, "red")
        with pytest.raises(SadariError, match=r"vectors that `sadari index` has not made"):
            index(photos(tmp_path / "photos", 2), run, tmp_path / name)


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("photos", "photos-index"),
        ("photos/", "photos-index"),
        ("t.csv.gz", "t-index"),
        ("emoji", "emoji-index"),
    ],
)
def test_an_index_lies_beside_its_pictures(source: str, folder: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "t.csv.gz").touch()
    assert index_folder(source) == Path(folder)
    assert index_folder(tmp_path / "photos") == tmp_path / "photos-index"
    os.chdir(tmp_path / "photos")
    assert index_folder(".").resolve() == tmp_path / "photos-index"


# Eyes alone


def test_an_eye_alone_finds_pictures_by_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    for number in range(24):
        colour = ["red", "blue"][number % 2]
        paint(folder / colour / f"{number}.png", colour, number)
    eye = sadari.fit("shallow", folder, out=tmp_path / "eye", budget="5steps")
    probe = sadari.fit(
        "probe", folder, out=tmp_path / "probe", budget="5steps", model={"weights": str(eye.path)}
    )
    done = index(folder, probe)
    hits = search(done.folder, folder / "red" / "2.png", 6)
    assert hits[0].id == "red/2.png" and {hit.id.split("/")[0] for hit in hits} == {"red"}
    with pytest.raises(SadariError, match=r"'red things': the run of this index \(probe\) knows .* no words"):
        search(done.folder, "red things")


# Words that a run does not know


def test_words_that_a_run_does_not_know_are_said(run: Run) -> None:
    assert word_notes(run, ["a yellow umbrella", "노란 우산"]) == []
    spec = dataclasses.replace(
        run.spec, tokenizer=train_tokenizer(["a yellow umbrella", "노란 우산"], "words")
    )
    asked = dataclasses.replace(run, spec=spec)
    assert word_notes(asked, ["a yellow umbrella", "우산"]) == []
    unknown, spelt = word_notes(asked, ["zebra crossing", "umbrella zebra crossing", "우산"])
    assert "none of the words in 'zebra crossing'," in unknown.say("en") and "뜻이 거의" in unknown.say("ko")
    assert "most words in 'umbrella zebra crossing' are unknown" in spelt.say("en")
    assert "글자 하나하나로" in spelt.say("ko") and unknown.level == spelt.level == "warning"


def test_words_that_fall_into_letters_are_said(run: Run) -> None:
    english = train_tokenizer(["yellow umbrella crossing the sea " * 50], "bpe", 300)
    asked = dataclasses.replace(run, spec=dataclasses.replace(run.spec, tokenizer=english))
    assert word_notes(asked, ["yellow umbrella", "the sea", "3.5"]) == []
    (note,) = word_notes(asked, ["zqkjx vbpfj"])
    assert "most words in 'zqkjx vbpfj' are unknown to the run, which sees them letter by" in note.say("en")
    assert word_notes(asked, ["우산과 바다"])[0].about["kind"] == "spelt"


def test_a_reader_of_english_says_so_of_hangul(run: Run) -> None:
    from tokenizers import Tokenizer as Library
    from tokenizers import models, normalizers, pre_tokenizers

    letters = [f"{mark}{chr(code)}" for mark in ("", "##") for code in range(0x1100, 0x1200)]
    pieces = {piece: id for id, piece in enumerate(["[UNK]", "[CLS]", "[SEP]", "umbrella", *letters])}
    library = Library(models.WordPiece(pieces, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    spec = dataclasses.replace(run.spec, tokenizer=Tokenizer.from_json(library.to_str()))
    network = find_rung("locked", "match", "captions").load()
    model = network(network.TINY, run.spec.width, spec.vocabulary)
    model.config = dataclasses.replace(model.config, encoder=model.config.encoder)
    object.__setattr__(model.config, "texts", "minilm")
    asked = dataclasses.replace(run, spec=spec, model=model)
    assert word_notes(asked, ["umbrella"]) == []
    (note,) = word_notes(asked, ["노란 우산"])
    assert "This encoder was trained on English" in note.say("en") and "letters of Hangul" in note.say("en")


# Half the digits


def test_vectors_in_bf16_are_near_and_the_index_says_so(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(tmp_path / "photos", 60)
    plain = index(folder, run, tmp_path / "fp32")
    assert plain.index.about["precision"] == "fp32" and plain.index.about["cosine"] == 1
    assert not any("bf16" in note.say("en") for note in plain.notes)
    monkeypatch.setattr(encoder, "has_bf16", lambda: True)
    done = index(folder, run, tmp_path / "bf16")
    about = done.index.about
    assert about["precision"] == "bf16" and encoder.NEAR <= about["cosine"] < 1
    (said,) = (note for note in done.notes if "bf16" in note.say("en"))
    assert f"{about['cosine']:.5f}" in said.say("en") and "--precision fp32" in said.say("en")
    assert "bf16으로 했습니다" in said.say("ko")
    exact, near = content(tmp_path / "fp32"), content(tmp_path / "bf16")
    cosines = [np.dot(exact[name], near[name]) for name in exact]
    assert min(cosines) >= 0.999 and exact != near
    paint(folder / "red 99.png", "red", 99)
    monkeypatch.setattr(encoder, "has_bf16", bool)
    done = index(folder, run, tmp_path / "bf16")
    assert done.new == 1 and done.index.about["precision"] == "bf16", "goes on where there is no bf16"
    hits = search(tmp_path / "bf16", folder / "red 99.png", 1)
    assert hits[0].id == "red 99.png" and hits[0].score == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("rung", ["clip", "locked"])
def test_towers_in_bf16_point_where_those_in_fp32_do(rung: str, run: Run) -> None:
    network = find_rung(rung, "match", "captions").load()
    torch.manual_seed(0)
    model = network(network.TINY, run.spec.width, run.spec.vocabulary).eval()
    made = Run(run.path, {**run.config, "rung": rung}, run.result, run.spec, model, run.task)
    pixels = np.random.default_rng(0).integers(0, 256, (20, *np.roll(made.spec.width, -1)), np.uint8)
    assert 0.999 <= encoder.cosine_of(made, pixels) < 1
    exact = made.task.images(made.model, torch.from_numpy(pixels)).numpy()
    folded = encoder.encoder_of(made)(pixels)
    assert np.allclose(folded / np.linalg.norm(folded, axis=1, keepdims=True), exact, atol=1e-5)


def test_where_bf16_is_too_far_off_vectors_are_made_in_fp32(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "has_bf16", lambda: True)
    monkeypatch.setattr(encoder, "NEAR", 1.0)
    folder = photos(tmp_path / "photos")
    done = index(folder, run, tmp_path / "auto")
    assert done.index.about["precision"] == "fp32" and done.index.about["cosine"] < 1
    assert any("--precision bf16 is faster" in note.say("en") for note in done.notes)
    assert any("더 빠르게" in note.say("ko") for note in done.notes)
    done = index(folder, run, tmp_path / "asked", precision="bf16")
    assert done.index.about["precision"] == "bf16"
