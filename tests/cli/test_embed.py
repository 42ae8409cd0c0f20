"""`sadari embed` as a stranger uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import sadari
from sadari.data.toy_words import sentences
from sadari.describe import fields_of
from sadari.embedding import neighbours
from sadari.errors import SadariError
from sadari.vectors import WordVectors

QUICK = ["--epochs", "2", "--width", "16", "--threads", "1"]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("글") / "나라 이야기.txt"
    path.write_text("\n".join(sentences(1500, fillers=300)), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_says_what_it_read_shows_neighbours_and_prints_the_path_last(
    sadari: Callable, told: Path, tmp_path: Path
) -> None:
    code, out, err = sadari("embed", told, *QUICK)
    assert code == 0, err
    assert "나라 이야기.txt: 21,000 words, " in err and "epoch 2: mean loss " in err
    assert err.splitlines()[-1].endswith("next: sadari look 'runs/나라 이야기-word2vec' words")
    *shown, path = out.splitlines()
    assert path == "runs/나라 이야기-word2vec" and len(shown) == 5
    assert all(len(line.split(": ")[1].split(", ")) == 5 for line in shown)
    vectors = WordVectors.load(path)
    assert vectors.matrix.shape[1] == 16 and vectors.about["model"]["epochs"] == 2
    assert [epoch["epoch"] for epoch in vectors.about["epochs"]] == [1, 2]
    assert vectors.about["words"]["read"] + vectors.about["words"]["rare"] == 21_000
    assert vectors.about["data"]["source"] == str(told)
    code, out, err = sadari("embed", told, *QUICK, "--lang", "ko")
    assert code == 0 and "낱말 21,000개" in err and "1에폭: 평균 손실" in err
    assert out.splitlines()[-1] == "runs/나라 이야기-word2vec-2"  # never over what is there


def test_quiet_says_nothing_but_the_path_and_text_is_text(sadari: Callable, told: Path) -> None:
    code, out, err = sadari("embed", told, *QUICK, "--to", "text", "--lower", "--out", "here", "--quiet")
    assert (code, out, err) == (0, "here\n", "")
    assert sorted(file.name for file in Path("here").iterdir()) == ["embed.json", "vectors.txt"]
    vectors = WordVectors.load("here")
    assert "france" in vectors and "France" not in vectors
    assert np.isfinite(vectors.matrix).all()


def test_every_setting_is_an_option(sadari: Callable) -> None:
    code, out, _ = sadari("embed", "--help")
    words = " ".join(out.replace("│", " ").split())
    assert code == 0
    for field in fields_of("sadari.models.word2vec", "Word2VecConfig"):
        assert f"{field.flag} " in words and field.help.split(";")[0][:40] in words


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "glove"], "method 'glove' is neither 'skip-gram' nor 'cbow'"),
        (["--min-count", "999999"], "no word occurs 999999 times"),
        (["--window", "0"], "window 0 is out of range"),
        (["--out", "full"], "full already holds something else; give another folder with --out"),
    ],
)
def test_mistakes_are_one_line(more: list[str], message: str, sadari: Callable, told: Path) -> None:
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    code, out, err = sadari("embed", told, *QUICK, *more)
    assert (code, out) == (2, "") and message in err.splitlines()[-1]
    assert [file.name for file in Path("full").iterdir()] == ["notes.txt"]


def test_a_missing_file_is_one_line(sadari: Callable) -> None:
    code, _, err = sadari("embed", "gone.txt")
    assert code == 2 and len(err.splitlines()) == 1 and "gone.txt" in err


def test_from_python_with_texts_at_hand(tmp_path: Path) -> None:
    seen: list[dict] = []
    settings = {"epochs": 1, "width": 8, "threads": 1}
    texts = sentences(300, fillers=50)
    vectors = sadari.embed(texts, out=tmp_path / "a", model=settings, watch=seen.append)
    again = sadari.embed(texts, out=tmp_path / "b", model=settings)
    np.testing.assert_array_equal(vectors.matrix, again.matrix)  # one thread repeats itself
    assert seen[-1]["epoch"] == 1 and vectors.path == tmp_path / "a"
    other = sadari.embed(texts, out=tmp_path / "c", model=settings, seed=1)
    assert (other.matrix != vectors.matrix).any()
    with pytest.raises(SadariError, match="has one word that occurs 5 times; give more text or a smaller"):
        sadari.embed(["a a a a a"], out=tmp_path / "d")
    facts = json.loads((tmp_path / "a" / "embed.json").read_text(encoding="utf-8"))
    assert facts["seed"] == 0 and facts["versions"]["numba"]


def test_neighbours_are_of_words_that_tell_something() -> None:
    names = [*(f"{letter}" for letter in "abcdefgh"), "2024", *(f"word{k}" for k in range(100))]
    vectors = WordVectors(names, np.random.default_rng(0).normal(size=(len(names), 4)).astype(np.float32))
    assert [word for word, _ in neighbours(vectors, words=2, k=3)] == ["word0", "word1"]
    assert all(len(near) == 3 for _, near in neighbours(vectors, words=2, k=3))
