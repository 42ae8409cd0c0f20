"""`sadari index` and `sadari search`: lines for people and for programs, sheets that open, mistakes."""
# ruff: noqa: F811  fixtures of another file are asked for by their names

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadari.cli import EPILOGUES, VERBS
from sadari.cli.search import first_caption

pytest.importorskip("lancedb")

from sadari.charts.found import Found, draw_found
from sadari.charts.page import svg
from sadari.runs import Run
from tests.test_indexing import album, made, make_album, paint, photos, run  # noqa: F401

Call = Callable[..., tuple[int, str, str]]


def test_a_folder_is_indexed_and_searched(sadari: Call, run: Run, tmp_path: Path) -> None:
    photos(tmp_path / "photos")
    code, out, err = sadari("index", "photos", "--run", run.path)
    assert (code, out) == (0, "photos-index\n")
    assert "12 pictures are new, 0 have changed" in err and 'next: sadari search photos-index "words"' in err
    code, out, err = sadari("search", "photos-index", "노란 우산", "-k", "2")
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 2)
    rank, cosine, path = lines[0].split(maxsplit=2)
    assert rank == "1" and -1 <= float(cosine) <= 1 and Path(path).is_file() and "yellow" in path
    code, out, _ = sadari("search", "photos-index", "노란 우산", path, "-k", "1")
    said = out.splitlines()
    assert said[::2] == ["노란 우산", path] and said[3] == f"  1   1.000  {path}"


def test_json_is_a_line_a_query(sadari: Call, made: Path) -> None:
    code, out, _ = sadari(
        "search", made, "빨간 우산", "a blue umbrella", "--json", "-k", "3", "--where", "year < 2002"
    )
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [answer["query"] for answer in answers] == ["빨간 우산", "a blue umbrella"]
    first = answers[0]["found"][0]
    assert first["rank"] == 1 and first["id"].startswith("pictures/red/") and Path(first["path"]).is_file()
    assert first["captions"] == ["a red umbrella", "빨간 우산"]
    assert first["columns"].keys() == {"year", "화가"} and first["columns"]["year"] < 2002
    assert "빨간" in out, "Hangul stays Hangul"


def test_the_first_caption_is_in_the_readers_language(sadari: Call, made: Path) -> None:
    english = sadari("search", made, "노란 우산", "-k", "1", "--lang", "en")[1]
    korean = sadari("search", made, "노란 우산", "-k", "1", "--lang", "ko")[1]
    assert english.endswith("  a yellow umbrella\n") and korean.endswith("  노란 우산\n")
    assert first_caption(("nur deutsch",), "ko") == "nur deutsch"
    assert first_caption((), "en") == ""


def test_a_sheet_opens_as_a_picture(sadari: Call, made: Path, album: Path) -> None:
    green = album.parent / "pictures" / "green" / "1.png"
    asked = ("search", made, "노란 우산", green, "-k", "10")
    code, out, _ = sadari(*asked, "--lang", "ko", "--sheet", "found.png")
    assert code == 0 and out.splitlines()[-1] == "found.png"
    with Image.open("found.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > 1900
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    for colour in ((240, 220, 20), (30, 180, 40)):
        near = (abs(pixels - colour).max(-1) < 30).mean()
        assert near > 0.02, "pictures of both queries are drawn"
    code, out, err = sadari(*asked, "--lang", "en", "--sheet", "found.svg", "--json")
    drawing = Path("found.svg").read_text()
    assert drawing.startswith("<svg") and "노란 우산" in drawing and "1.png" in drawing
    assert "a yellow" in drawing and "빨간" not in drawing and drawing.count("<image") == 21
    assert len([json.loads(line) for line in out.splitlines()]) == 2 and err == "found.svg\n"


def test_a_sheet_shows_where_a_picture_is_no_longer_there() -> None:
    blank = Found("바다", [None, np.zeros((9, 9, 3), np.uint8)], [0.5, 0.25], ["a " * 60, ""])
    drawing = svg(draw_found([blank, Found("nothing", [], [], [])], "Found in x", "of 2"))
    assert drawing.count("<image") == 2 and "0.250" in drawing and "…" in drawing and "nothing" in drawing


def test_duplicates_and_outliers_are_shown(sadari: Call, run: Run, tmp_path: Path) -> None:
    photos(tmp_path / "photos", 6)
    for name in ("copy.png", "더 깊이/again.png"):
        paint(tmp_path / "photos" / name, "green", 1)
    code, out, err = sadari(
        "index", "photos", "--run", run.path, "--duplicates", "0.99999", "--outliers", "2"
    )
    group, *others, path = out.splitlines()
    assert code == 0 and path == "photos-index" and "duplicates, from a cosine of 0.99999" in err
    assert set(group.split("  ")) == {"copy.png", "green 1's.png", "더 깊이/again.png"}
    assert len(others) == 2 and float(others[0].split()[0]) <= float(others[1].split()[0])
    code, _, err = sadari("index", "photos", "--run", run.path, "--approximate")
    assert code == 2 and "8 items: cells are learnt from at least 256" in err


def test_recall_is_shown_by_cells(sadari: Call, run: Run, tmp_path: Path) -> None:
    source = make_album(tmp_path / "album", each=44)
    asked = ("index", source, "--run", run.path)
    code, out, err = sadari(*asked, "--recall")
    assert code == 2 and "--recall: no cells are learnt" in err and "--approximate" in err
    code, out, err = sadari(*asked, "--approximate", "--cells", "3", "--recall")
    *lines, path = out.splitlines()
    assert code == 0 and Path(path).is_dir() and "each of up to 200 queries" in err
    assert [line.split()[:2] for line in lines] == [["--probes", str(count)] for count in (1, 5, 20, 80)]
    assert all(line.count("100.0%") == 3 and "Korean captions" in line for line in lines[1:])
    code, out, err = sadari(*asked, "--recall", "--lang", "ko")
    assert code == 0 and "한국어 캡션" in out and "근사 검색이 찾는 몫" in err


def test_unknown_words_are_said_once(sadari: Call, run: Run, made: Path) -> None:
    code, _, err = sadari("search", made, "ጤና ይስጥልኝ", "노란 우산", "--lang", "en")
    assert code == 0 and len(err.splitlines()) == 1 and "'ጤና ይስጥልኝ'" in err and "노란" not in err
    assert sadari("search", made, "ጤና ይስጥልኝ", "--quiet")[2] == ""


def test_approximate_search_without_cells_says_so(sadari: Call, made: Path) -> None:
    asked = ("search", made, "노란 우산", "--approximate")
    code, out, err = sadari(*asked, "--lang", "en")
    assert code == 0 and "no cells are learnt, so the search was exact" in err
    assert out == sadari("search", made, "노란 우산", "--lang", "en")[1]
    assert "배운 칸이 없어" in sadari(*asked, "--lang", "ko")[2] and sadari(*asked, "--quiet")[2] == ""


@pytest.mark.parametrize("table", [True, False])
def test_cells_are_learnt_and_what_they_miss_is_said(
    sadari: Call, run: Run, tmp_path: Path, table: bool
) -> None:
    source = make_album(tmp_path / "album", each=44) if table else photos(tmp_path / "photos", 264)
    code, out, err = sadari("index", source, "--run", run.path, "--approximate", "--cells", "3")
    asked = "nearest to 200 of the captions" if table else "nearest to 200 of the pictures"
    assert code == 0 and "approximate search finds 100.0%" in err and asked in err
    exact, near = (sadari("search", out.strip(), "노란", *how)[1] for how in ((), ("--approximate",)))
    assert near.splitlines()[0].split()[:2] == exact.splitlines()[0].split()[:2]


def test_a_bar_is_drawn_on_a_terminal_alone(
    sadari: Call,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    photos(tmp_path / "photos", 4)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    assert sadari("index", "photos", "--run", run.path)[0] == 0
    assert "4/4" in stream.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index", "photos"], "--run"),
        (["index", "photos", "--run", "gone"], "no run at gone"),
        (["index", "gone", "--run", "RUN"], "no pictures at gone"),
        (["index", "photos", "--run", "RUN", "--duplicates", "1.5"], "--duplicates 1.5: a cosine above 0"),
        (["index", "photos", "--run", "RUN", "--cells", "5"], "--cells 5 are for approximate search"),
        (["search", "gone", "words"], "gone holds no index"),
        (["search", "MADE"], "nothing to look for is given"),
        (["search", "MADE", " "], "the query is empty"),
        (["search", "MADE", "gone.png"], "no picture gone.png"),
        (["search", "MADE", "words", "-k", "0"], "-k 0: at least 1 picture"),
        (["search", "MADE", "words", "--probes", "0", "--approximate"], "--probes 0"),
        (["search", "MADE", "words", "--where", "((", "--sheet", "s.png"], "where '((' fails"),
        (["search", "MADE", "words", "--where", "year > 2 ; drop"], "behind ';' would be left out"),
        (["search", "MADE", "words", "--storage", "region=x"], "is a folder of this machine"),
        (["search", "MADE", "words", "--storage", "region"], "an option is KEY=VALUE"),
        (["search", "ftp://host/x", "words"], "no storage has addresses that begin so"),
        (["index", "photos", "--run", "RUN", "--out", "nope://x"], "give s3://, gs:// or az://"),
        (["index", "photos", "--run", "RUN", "--precision", "fp8"], "--precision"),
        (["search", "MADE", "words", "--sheet", "s.gif"], "--sheet s.gif: a sheet is a picture"),
        (["search", "MADE", "words", "--run", "gone"], "no run at gone"),
        (["search", "MADE", "words", "--color"], "--color"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    sadari: Call,
    run: Run,
    made: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    photos(tmp_path / "photos", 3)
    before = sorted(tmp_path.rglob("*"))
    named = {"RUN": str(run.path), "MADE": str(made)}
    code, out, err = sadari(*(named.get(word, word) for word in arguments))
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and message in err
    assert sorted(tmp_path.rglob("*")) == before


def test_ctrl_c_says_that_it_goes_on(
    sadari: Call,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sadari.indexing import making

    photos(tmp_path / "photos", 8)
    monkeypatch.setattr("sadari.predict.pictures.TOGETHER", 2)
    whole = making._Writer.take

    def stop(self: making._Writer, frame: object) -> None:
        if self.waiting:
            raise KeyboardInterrupt
        whole(self, frame)  # type: ignore[arg-type]

    monkeypatch.setattr(making._Writer, "take", stop)
    code, out, err = sadari("index", "photos", "--run", run.path)
    assert (code, out) == (130, "") and "the same command again goes on" in err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    code, out, err = sadari("index", "photos", "--run", run.path)
    assert code == 0 and "6 pictures are new, 0 have changed, 2 are as they were" in err


def test_help_teaches_by_examples(sadari: Call) -> None:
    for verb in ("index", "search"):
        out = sadari(verb, "--help")[1]
        assert VERBS[verb] in " ".join(out.split()) and "Examples:" in out
        lines = [line for line in EPILOGUES[verb].splitlines() if line.startswith("  sadari")]
        assert len(lines) >= 4 and max(map(len, lines)) <= 110
