"""Learn word vectors from text: `sadari.embed`. Named otherwise, or Python would hide the function.

1. read and count the words  2. train word2vec  3. write the folder
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sadari.data.text import Corpus, open_corpus
from sadari.data.words import Words, read_words
from sadari.errors import SadariError
from sadari.models.word2vec import Record, Word2Vec, Word2VecConfig, prepare
from sadari.vectors import WordVectors, write_folder

VERSIONS = ("sadari", "numpy", "numba")


def embed(
    source: Any,
    *,
    text: str | None = None,
    out: str | Path | None = None,
    lower: bool = False,
    seed: int = 0,
    model: Mapping[str, Any] | None = None,
    text_format: bool = False,
    watch: Record | None = None,
    compiling: Callable[[], None] = lambda: None,
    read: Callable[[Corpus, Words], None] = lambda corpus, words: None,
) -> WordVectors:
    """Learn word vectors from a corpus and write them to a folder.

    source       a text file, a folder of them, a table's column, a built-in's name, or a list of texts
    text         the column of a table that holds the texts
    out          the folder; else a new one under runs/
    lower        make all letters small first
    model        settings of `Word2VecConfig`, by name
    text_format  write word2vec's text format instead of its binary one
    watch        gets the records of `Word2Vec.train`
    compiling    called when the kernel has to be compiled, which happens once an install
    read         called with the corpus and its words before training

    Raises SadariError for a source without text, settings out of range, or a folder that holds something.
    """
    config = Word2VecConfig(**(model or {}))
    corpus = source if isinstance(source, Corpus) else open_corpus(source, text=text)
    folder = _folder(corpus.name, out)
    began = time.perf_counter()
    words = read_words(corpus.documents(), config.min_count, lower)
    if len(words.names) < 2:
        raise SadariError(
            f"{corpus.name} has one word that occurs {config.min_count} times; give more text or a smaller "
            f"--min-count"
        )
    read(corpus, words)
    prepare(compiling)
    network = Word2Vec(config, words.counts, seed)
    history = network.train(words.stream, watch)
    about = {
        "data": {
            "source": corpus.source,
            "name": corpus.name,
            "fingerprint": corpus.fingerprint,
            "text": text,
            "licence": corpus.licence,
        },
        "model": asdict(config),
        "lower": lower,
        "seed": seed,
        "words": {"vocabulary": len(words.names), "read": words.total, "rare": words.rare},
        "epochs": [{key: record[key] for key in ("epoch", "loss", "pairs", "seconds")} for record in history],
        "seconds": time.perf_counter() - began,
        "versions": {name: version(name) for name in VERSIONS},
    }
    vectors = WordVectors(words.names, network.into, json.loads(json.dumps(about)), folder)
    write_folder(vectors, folder, about, text_format)
    return vectors


def neighbours(
    vectors: WordVectors, words: int = 5, k: int = 5, skip: float = 0.01
) -> list[tuple[str, list[str]]]:
    """A few frequent words with their k nearest, to see at a glance whether the vectors mean something.

    The most frequent `skip` of the vocabulary (particles, articles) and words of one letter are passed over.
    """
    first = min(int(skip * len(vectors.words)), max(len(vectors.words) - words, 0))
    telling = [word for word in vectors.words[first:] if len(word) > 1 and not word.isdigit()][:words]
    return [(word, [near for near, _ in vectors.near(word, k)]) for word in telling]


def _folder(name: str, out: str | Path | None) -> Path:
    """The folder to write: `out`, or the first free one under runs/."""
    if out is not None:
        folder = Path(out)
        if not _free(folder):
            raise SadariError(
                f"{folder} already holds something else; give another folder with --out, or remove it first"
            )
        return folder
    stem, number = Path("runs") / f"{Path(name).stem}-word2vec", 1
    while not _free(folder := stem if number == 1 else stem.with_name(f"{stem.name}-{number}")):
        number += 1
    return folder


def _free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
