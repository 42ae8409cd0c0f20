"""Streams of tokens: the same in memory and mapped, each document whole, and damage is seen."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from sadari.data import tokens as module
from sadari.data.corpus import Corpus, open_corpus
from sadari.data.tokenizers import Tokenizer, train_tokenizer
from sadari.data.tokens import Stream, tokenise
from sadari.errors import SadariError

DRAW = np.random.default_rng(0)
WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "고양이",
    "가",
    "앉았다",
    "그리고",
    "또",
    "잤다",
    "👍🏽",
    "naïve",
]
TEXTS = [" ".join(DRAW.choice(WORDS, int(DRAW.integers(1, 40)))) for _ in range(300)]
PART = DRAW.choice(3, len(TEXTS), p=[0.8, 0.1, 0.1]).astype(np.int8)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return open_corpus(TEXTS)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, "bpe", 400)


def check(streams: list[Stream], tokenizer: Tokenizer) -> None:
    """Each stream has just its own documents, whole and in order."""
    for number, stream in enumerate(streams):
        mine = [text for text, part in zip(TEXTS, PART, strict=True) if part == number]
        assert stream.documents == len(mine) and len(stream.starts) == len(mine) + 1
        assert stream.starts[0] == 0 and stream.starts[-1] == len(stream.tokens)
        assert stream.starts.dtype == stream.bytes.dtype == np.int64
        for place, text in enumerate(mine):
            document = stream.tokens[stream.starts[place] : stream.starts[place + 1]]
            assert document[-1] == tokenizer.end and (document[:-1] != tokenizer.end).all()
            assert tokenizer.decode(document) == text
            assert stream.bytes[place] == len(text.encode()) + 1


def test_each_document_is_whole_in_its_own_part(
    corpus: Corpus, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 500)  # many blocks, the last of them short
    streams = tokenise(corpus, tokenizer, PART, None, 1 << 30)
    check(streams, tokenizer)
    assert {stream.tokens.dtype for stream in streams} == {np.dtype(np.uint16)}
    assert streams[0].features is streams[0].tokens and streams[0].targets is streams[0].bytes


def test_mapped_equals_in_memory_and_is_found_again(
    corpus: Corpus, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 700)
    mapped = tokenise(corpus, tokenizer, PART, Path("cache"), 1 << 30)
    check(mapped, tokenizer)
    assert isinstance(mapped[0].tokens, np.memmap)
    for one, other in zip(mapped, tokenise(corpus, tokenizer, PART, None, 1 << 30), strict=True):
        for name in ("tokens", "starts", "bytes"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    monkeypatch.setattr(module, "_run", lambda *_: pytest.fail("tokenised again"))
    check(tokenise(corpus, tokenizer, PART, Path("cache"), 1 << 30), tokenizer)
    assert [path.name[0] for path in Path("cache").iterdir()] != ["."], "nothing half is left"
    with pytest.raises(pytest.fail.Exception, match="tokenised again"):
        tokenise(corpus, tokenizer, PART[::-1].copy(), Path("cache"), 1 << 30)  # another split
    with pytest.raises(pytest.fail.Exception, match="tokenised again"):
        tokenise(corpus, train_tokenizer(TEXTS, "words"), PART, Path("cache"), 1 << 30)


def test_a_large_vocabulary_takes_four_bytes(corpus: Corpus, tokenizer: Tokenizer) -> None:
    wide = Tokenizer.from_json(tokenizer.to_json())
    wide.size = 70_000
    for folder in (None, Path("cache")):
        streams = tokenise(corpus, wide, PART, folder, 1 << 30)
        assert streams[0].tokens.dtype == np.int32
        check(streams, tokenizer)


def test_a_part_without_documents_is_an_empty_stream(corpus: Corpus, tokenizer: Tokenizer) -> None:
    nothing = np.zeros(len(TEXTS), np.int8)
    for folder in (None, Path("cache")):
        streams = tokenise(corpus, tokenizer, nothing, folder, 1 << 30)
        assert [stream.documents for stream in streams] == [len(TEXTS), 0, 0]
        assert [len(stream.tokens) for stream in streams[1:]] == [0, 0] and streams[1].starts.tolist() == [0]


def test_a_failure_leaves_nothing_behind(
    corpus: Corpus, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, number: int, tokens: np.ndarray) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module._Files, "put", full)
    with pytest.raises(SadariError, match=r"cannot write the tokens of the texts to cache \(No space left"):
        tokenise(corpus, tokenizer, PART, Path("cache"), 1 << 30)
    assert not list(Path("cache").iterdir())


def test_a_file_that_changes_meanwhile_is_said(tokenizer: Tokenizer) -> None:
    Path("a.txt").write_text("one\ntwo\nthree\n")
    corpus = open_corpus("a.txt")
    Path("a.txt").write_text("one\ntwo\n")
    with pytest.raises(SadariError, match=r"a.txt has changed while it was read; run it again"):
        tokenise(corpus, tokenizer, np.zeros(3, np.int8), None, 1 << 30)


def test_damaged_files_are_not_read(corpus: Corpus, tokenizer: Tokenizer) -> None:
    tokenise(corpus, tokenizer, PART, Path("cache"), 1 << 30)
    folder = next(Path("cache").iterdir())
    (folder / "train.bytes").write_bytes(b"12345678")
    with pytest.raises(SadariError, match=r"is damaged \(train has 1 of [\d,]+ documents\); delete it"):
        tokenise(corpus, tokenizer, PART, Path("cache"), 1 << 30)
