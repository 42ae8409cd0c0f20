"""Word vectors: neighbours as gensim finds them, its files read and written, hostile files refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors

from sadari.errors import SadariError
from sadari.vectors import ABOUT, WordVectors, is_vectors, write_folder

WORDS = ["은행", "금융", "don’t", "the", "😀", "naïve", "x" * 300, "1984"]


@pytest.fixture
def vectors() -> WordVectors:
    matrix = np.random.default_rng(0).normal(size=(len(WORDS), 6)).astype(np.float32)
    matrix[3] *= 1e-7  # digits with an exponent
    return WordVectors(WORDS, matrix)


def gensims(vectors: WordVectors) -> KeyedVectors:
    theirs = KeyedVectors(vectors.matrix.shape[1])
    theirs.add_vectors(vectors.words, vectors.matrix)
    return theirs


@pytest.mark.proof("embedding", "parity")
@pytest.mark.parametrize("binary", [True, False])
def test_gensim_reads_our_files_and_we_read_gensims(
    vectors: WordVectors, binary: bool, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    vectors.save(ours, binary=binary)
    read = KeyedVectors.load_word2vec_format(str(ours), binary=binary)
    assert read.index_to_key == WORDS
    np.testing.assert_array_equal(read.vectors, vectors.matrix)
    gensims(vectors).save_word2vec_format(str(theirs), binary=binary)
    back = WordVectors.load(theirs)  # the format is told by the content
    assert back.words == WORDS and back.path == theirs
    np.testing.assert_array_equal(back.matrix, vectors.matrix)
    if binary:
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_line_end_behind_each_vector_is_read_as_word2vec_writes_it(
    vectors: WordVectors, tmp_path: Path
) -> None:
    lines = [word.encode() + b" " + row.tobytes() for word, row in zip(WORDS, vectors.matrix, strict=True)]
    (tmp_path / "original.bin").write_bytes(b"8 6\n" + b"\n".join(lines) + b"\n")
    read = WordVectors.load(tmp_path / "original.bin")
    assert read.words == WORDS
    np.testing.assert_array_equal(read.matrix, vectors.matrix)


def test_the_name_chooses_the_format(vectors: WordVectors, tmp_path: Path) -> None:
    assert vectors.save(tmp_path / "a.bin").read_bytes().startswith(b"8 6\n" + "은행 ".encode())
    text = vectors.save(tmp_path / "a.txt").read_text(encoding="utf-8").splitlines()
    assert text[0] == "8 6" and len(text) == 9 and text[1].startswith("은행 ")


@pytest.mark.proof("embedding", "parity")
def test_neighbours_and_analogies_are_gensims(vectors: WordVectors) -> None:
    theirs = gensims(vectors)
    for word in WORDS:
        near = vectors.near(word, 7)
        expected = theirs.most_similar(word, topn=7)
        assert [name for name, _ in near] == [name for name, _ in expected]
        np.testing.assert_allclose([c for _, c in near], [c for _, c in expected], atol=1e-6)
    assert vectors.similarity("은행", "금융") == pytest.approx(theirs.similarity("은행", "금융"), abs=1e-6)
    found = vectors.analogy("은행", "금융", "the", 4)
    expected = theirs.most_similar(positive=["금융", "the"], negative=["은행"], topn=4)
    assert [name for name, _ in found] == [name for name, _ in expected]
    np.testing.assert_allclose([c for _, c in found], [c for _, c in expected], atol=1e-6)
    assert len(vectors.near("the", 100)) == 7 and vectors.near("the", 0) == []


def test_a_word_of_zeros_is_near_nothing() -> None:
    vectors = WordVectors(["a", "b", "c"], np.array([[0, 0], [1, 0], [0, 1]], np.float32))
    assert vectors.near("b") == [("a", 0.0), ("c", 0.0)]
    assert vectors.similarity("a", "a") == 0


def test_first_weights_for_other_tokens(vectors: WordVectors) -> None:
    matrix, found = vectors.matrix_for(["The", "<|end|>", "은행", "the"], 6)
    assert found.tolist() == [True, False, True, True] and matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix[[0, 2, 3]], vectors.matrix[[3, 0, 3]])
    assert not matrix[1].any()
    with pytest.raises(SadariError, match="these vectors have 6 numbers a word, the embedding 64; use"):
        vectors.matrix_for(["the"], 64)


def test_a_folder_keeps_what_made_the_vectors(vectors: WordVectors, tmp_path: Path) -> None:
    for text in (False, True):
        folder = tmp_path / str(text)
        assert not is_vectors(folder)
        write_folder(vectors, folder, {"seed": 3}, text)
        read = WordVectors.load(folder)
        assert read.about["seed"] == 3 and read.words == WORDS and is_vectors(folder)
        assert is_vectors(folder / read.about["vectors"])
    assert json.loads((tmp_path / "True" / ABOUT).read_text())["vectors"] == "vectors.txt"
    with pytest.raises(SadariError, match=r"is not a folder of word vectors: it has no embed.json"):
        WordVectors.load(tmp_path)


def test_a_word_without_vector_is_met_with_those_spelt_nearly_so(vectors: WordVectors) -> None:
    with pytest.raises(SadariError, match="no vector for 'naive' among 8 words; did you mean naïve"):
        vectors.near("naive")
    with pytest.raises(SadariError, match="no vector for 'zebra' among 8 words; words met too rarely"):
        vectors.similarity("the", "zebra")


@pytest.mark.parametrize("word", ["two words", "", "tab\tbed", "line\n"])
def test_words_that_the_formats_cannot_hold_are_not_written(word: str, tmp_path: Path) -> None:
    vectors = WordVectors(["a", word], np.ones((2, 3), np.float32))
    with pytest.raises(SadariError, match="is empty or holds white space, by which word2vec's formats end"):
        vectors.save(tmp_path / "file.bin")
    assert not list(tmp_path.iterdir())


ROW = np.ones(2, "<f4").tobytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its first line is not two numbers, words and width"),
        (b"\x89PNG\r\n", "its first line is not two numbers"),
        (b"2 x\na 1 2\n", "its first line is not two numbers"),
        (b"0 2\n", "its first line is not two numbers"),
        (b"-1 2\n", "its first line is not two numbers"),
        (b"9" * 200, "its first line is not two numbers"),
        (b"999999999999 300\na " + ROW, "promises 999,999,999,999 words of 300 numbers but is too short"),
        (b"1 99999999999\na 1 1\n", "promises 1 words of 99,999,999,999 numbers but is too short"),
        (b"2 2\na 1 2\nbbbb 1\n", "line 3 has 1 numbers behind its word, not 2"),
        (b"2 2\na 1 2\nb 1 2 3 4\nc", "line 3 has 4 numbers behind its word, not 2"),
        (b"2 2\na 1 2\nb 1 zwei\n", "line 3 holds something that is no number"),
        (b"2 2\naaaaaaaaaa 1 2\n", "ends after 1 of 2 words; get the whole file"),
        (b"2 2\na 1 2\na 3 4\n", "has the word 'a' twice; keep one of its vectors"),
        (b"2 2\na 1 2\nb nan 4\n", r"the vector of 'b' \(word 2\) has a number that is not finite"),
        (b"2 2\na 1 2\nb 1e99 4\n", "has a number that is not finite"),
        (b"2 2\na 1 2\n\xff\xfe 1 2\n", "word 2 is not UTF-8"),
        (b"2 2\na " + ROW + b"\xff " + ROW, "word 2 is not UTF-8"),
        (b"2 2\na " + ROW + b"bbbbbbbbb " + ROW[:4], "is cut off or broken at word 2 of 2"),
        (b"2 2\na " + ROW + b"b" * 20_000, "is cut off or broken at word 2 of 2"),
        (b"1 2\na " + np.array([np.inf, 0], "<f4").tobytes(), "has a number that is not finite"),
    ],
)  # fmt: skip
def test_hostile_files_are_refused_with_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(content)
    with pytest.raises(SadariError, match=message) as caught:
        WordVectors.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SadariError, match=r"cannot read word vectors from .*No such file"):
        WordVectors.load(tmp_path / "gone.bin")
    assert not is_vectors(tmp_path / "gone.bin")


def test_as_many_rows_as_words() -> None:
    with pytest.raises(SadariError, match=r"2 words with a matrix of shape \(3, 2\)"):
        WordVectors(["a", "b"], np.zeros((3, 2), np.float32))
