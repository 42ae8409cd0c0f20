"""Word vectors against gensim: words a second in the loop and from file to file, and what the vectors know.

Real text (Wikipedia summaries, LibreOffice help in English and Korean) as one file of lines of words; both
read it, count, train 5 epochs of skip-gram (100 numbers, window 5, 5 negatives, two threads) and write the
vectors. gensim in both its modes, an iterator of lines and `corpus_file`; ratios are to the faster of the two
in the same round. The kernel is compiled beforehand, as it is after the first use of an install. Rounds are
interleaved, medians kept; the processor's time too, for on a busy machine only that compares.

Quality: 5 seeds each, interleaved, on a text with planted analogies (small, so that not all are found) and on
the Wikipedia summaries: of a word's 10 nearest, the share whose main topic is its own; how often related
pairs are nearer than random ones.

    python benchmarks/word2vec.py            writes benchmarks/results/word2vec.csv
"""

from __future__ import annotations

import csv
import platform
import re
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import gensim
import numba
import numpy as np
from gensim.models import Word2Vec as Theirs
from gensim.models.word2vec import LineSentence

from sadari.data.text import open_corpus, open_texts
from sadari.data.toy_words import analogies, sentences
from sadari.data.words import read_words
from sadari.inspection.words import words_of
from sadari.models.word2vec import Word2Vec, Word2VecConfig, prepare
from sadari.vectors import WordVectors

SIZES = {"vector_size": 100, "window": 5, "negative": 5, "min_count": 5, "sample": 1e-3, "alpha": 0.025}
ROUNDS, SEEDS, THREADS, EPOCHS = 3, 5, 2, 5
LOOP_GOAL, WHOLE_GOAL = 4.0, 2.5
PLANTED = 2500  # sentences: few enough that some analogies are missed
RESULTS = Path(__file__).parent / "results" / "word2vec.csv"


Times = dict[str, np.ndarray]
"""Seconds by the clock and of the processor."""


def now() -> np.ndarray:
    """The clock and the processor's time."""
    return np.array([time.perf_counter(), time.process_time()])


def write_lines(path: Path, texts: Iterable[str]) -> Path:
    """A file that both read alike: words in small letters with spaces between."""
    word = re.compile(r"\w+")
    with open(path, "w", encoding="utf-8") as file:
        for text in texts:
            file.write(" ".join(word.findall(text.lower())) + "\n")
    return path


def theirs(
    path: Path, out: Path, seed: int = 1, sg: int = 1, by_file: bool = False
) -> tuple[Times, WordVectors]:
    text: dict[str, Any] = (
        {"corpus_file": str(path)} if by_file else {"corpus_iterable": LineSentence(str(path))}
    )
    began = now()
    model = Theirs(**SIZES, min_alpha=1e-4, sg=sg, workers=THREADS, seed=seed, epochs=EPOCHS)
    model.build_vocab(**text)
    counted = now()
    model.train(
        **text,
        total_examples=model.corpus_count,
        total_words=model.corpus_total_words,
        epochs=EPOCHS,
    )
    trained = now()
    model.wv.save_word2vec_format(str(out), binary=True)
    done = now()
    return {"loop": trained - counted, "whole": done - began}, WordVectors.load(out)


def ours(path: Path, out: Path, seed: int = 1, **settings: Any) -> tuple[Times, WordVectors]:
    began = now()
    words = read_words(open_corpus(path).documents())
    counted = now()
    model = Word2Vec(Word2VecConfig(threads=THREADS, epochs=EPOCHS, **settings), words.counts, seed)
    model.train(words.stream)
    trained = now()
    vectors = WordVectors(words.names, model.into)
    vectors.save(out, binary=True)
    done = now()
    words_read = np.array(words.total * EPOCHS)
    return {"loop": trained - counted, "whole": done - began, "words": words_read}, vectors


def planted_score(vectors: WordVectors) -> float:
    """Share of the planted analogies that are found; one with a word that has no vector is missed."""
    asked = analogies()
    there = [quad for quad in asked if all(word in vectors for word in quad)]
    rows = np.array([[vectors.index[word] for word in quad] for quad in there])
    unit = vectors.unit
    cosines = (unit[rows[:, 1]] - unit[rows[:, 0]] + unit[rows[:, 2]]) @ unit.T
    np.put_along_axis(cosines, rows[:, :3], -np.inf, axis=1)
    return float((cosines.argmax(1) == rows[:, 3]).sum()) / len(asked)


def topics() -> dict[str, str]:
    """The main topic of words that have one: three times as frequent in its articles as in all."""
    frame = open_texts("wiki").frame.collect()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text, topic in zip(frame["text"], frame["topic"], strict=True):
        for word in set(re.findall(r"\w+", text.lower())):
            counts[word][topic] += 1
    size = Counter(frame["topic"].to_list())
    main = {}
    for word, seen in counts.items():
        whole = sum(seen.values())
        topic = max(seen, key=lambda name: seen[name] / size[name])
        if whole >= 20 and seen[topic] / whole > 3 * size[topic] / frame.height:
            main[word] = topic
    return main


def coherence(vectors: WordVectors, main: dict[str, str]) -> float:
    """Of the 10 nearest words with a main topic, the share that has the word's own; mean over words."""
    known = [word for word in vectors.words if word in main]
    unit = vectors.unit[[vectors.index[word] for word in known]]
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    near = np.argpartition(-cosines, 10, axis=1)[:, :10]
    labels = np.array([main[word] for word in known])
    return float((labels[near] == labels[:, None]).mean())


def speed(path: Path, folder: Path) -> list[dict[str, Any]]:
    """Interleaved rounds; a row a way."""
    ways: dict[str, Callable[[], tuple[Times, WordVectors]]] = {
        "gensim": lambda: theirs(path, folder / "g.bin"),
        "gensim by file": lambda: theirs(path, folder / "g.bin", by_file=True),
        "sadari": lambda: ours(path, folder / "s.bin"),
        "sadari --exact": lambda: ours(path, folder / "s.bin", exact=True),
        "gensim cbow": lambda: theirs(path, folder / "g.bin", sg=0),
        "sadari cbow": lambda: ours(path, folder / "s.bin", method="cbow"),
    }
    times: dict[str, list[Times]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            times[name].append(way()[0])
    words = times["sadari"][0]["words"]
    rows = []
    for name, rounds in times.items():
        peers = ("gensim cbow",) if "cbow" in name else ("gensim", "gensim by file")
        row: dict[str, Any] = {"measure": "speed", "text": "real", "way": name}
        for part in ("loop", "whole"):
            mine = np.stack([one[part] for one in rounds])
            best = np.min([[one[part] for one in times[peer]] for peer in peers], axis=0)
            row[f"{part}_seconds"] = round(float(np.median(mine[:, 0])), 2)
            ratios = np.median(best / mine, axis=0).round(2).tolist()
            row[f"{part}_ratio"], row[f"{part}_cpu_ratio"] = ratios
        row["thousand_words_a_second"] = round(float(words) / row["loop_seconds"] / 1e3)
        rows.append(row)
        print("{way:15} loop {loop_seconds} s ({loop_ratio}x, processor {loop_cpu_ratio}x), whole "
              "{whole_seconds} s ({whole_ratio}x, {whole_cpu_ratio}x), {thousand_words_a_second} thousand "
              "words/s".format(**row), flush=True)  # fmt: skip
    return rows


def quality(
    name: str, path: Path, folder: Path, scores: dict[str, Callable[[WordVectors], float]]
) -> list[dict[str, Any]]:
    """Scores of SEEDS seeds a way, interleaved."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed in range(1, SEEDS + 1):
        for way, vectors in (
            ("gensim", theirs(path, folder / "g.bin", seed)[1]),
            ("sadari", ours(path, folder / "s.bin", seed)[1]),
            ("sadari --exact", ours(path, folder / "s.bin", seed, exact=True)[1]),
        ):
            for score, judge in scores.items():
                found[score, way].append(judge(vectors))
    rows = []
    for (score, way), values in found.items():
        rows.append({
            "measure": score, "text": name, "way": way, "mean": round(statistics.mean(values), 4),
            "lowest": round(min(values), 4), "highest": round(max(values), 4), "seeds": SEEDS,
        })  # fmt: skip
        print(f"{name:8} {score:10} {way:15} {rows[-1]['mean']} ({rows[-1]['lowest']} to "
              f"{rows[-1]['highest']})", flush=True)  # fmt: skip
    return rows


def main(parts: Sequence[str]) -> None:
    prepare(lambda: print("compiling", flush=True))
    table: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wiki = write_lines(folder / "wiki.txt", open_corpus("wiki-text").documents())
        if "speed" in parts:
            names = ("wiki-text", "help-en-text", "help-ko-text")
            documents = (text for name in names for text in open_corpus(name).documents())
            table += speed(write_lines(folder / "real.txt", documents), folder)
        if "quality" in parts:
            planted = write_lines(folder / "planted.txt", sentences(PLANTED))
            small = {word.lower() for quad in analogies() for word in quad}
            assert len(small) == 72
            table += quality("planted", planted, folder, {"analogies": lambda v: planted_score(raised(v))})
            main_topics = topics()
            table += quality("wiki", wiki, folder, {
                "topics": lambda v: coherence(v, main_topics),
                "related": lambda v: words_of(v).facts["better"],
            })  # fmt: skip
    about = {
        "threads": THREADS, "epochs": EPOCHS, "rounds": ROUNDS, "numpy": np.__version__,
        "numba": numba.__version__, "gensim": gensim.__version__, "machine": f"{platform.machine()}, 2 cores",
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    columns = list(dict.fromkeys(name for row in table for name in row)) + list(about)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(row | about for row in table)
    check(table)


def raised(vectors: WordVectors) -> WordVectors:
    """Names of the planted text written as `analogies` writes them: the file has small letters only."""
    names = {word.lower(): word for quad in analogies() for word in quad}
    return WordVectors([names.get(word, word) for word in vectors.words], vectors.matrix)


def check(table: Sequence[dict[str, Any]]) -> None:
    """The goals; quality within gensim's own spread or better."""
    for row in table:
        if row["measure"] == "speed" and row["way"] == "sadari":
            assert row["loop_ratio"] >= LOOP_GOAL, f"below {LOOP_GOAL} times gensim in the loop: {row}"
            assert row["whole_ratio"] >= WHOLE_GOAL, f"below {WHOLE_GOAL} times gensim in all: {row}"
        if row["measure"] != "speed" and row["way"] == "sadari":
            peer = next(r for r in table if r["way"] == "gensim" and r["measure"] == row["measure"])
            assert row["mean"] >= peer["lowest"], f"worse than gensim's worst seed: {row} against {peer}"


if __name__ == "__main__":
    main(sys.argv[1:] or ("speed", "quality"))
