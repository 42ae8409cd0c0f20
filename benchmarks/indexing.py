"""`sadari index` of a folder of photos: how near it comes to the encoder's own speed; and what approximate
search finds when it is asked with words.

Photos are crops of scikit-learn's two, each another, as JPEG files of 640 x 427 pixels; RUN is a run of
pictures and captions. Both sides are measured on one thread in seconds of the processor, so that others who
work on the machine do not count; decoder and encoder before and after the index, which is made between.

decoded     photos a second that are read, decoded and made the run's size
plain       photos a second that the network itself answers, in fp32, when all are decoded
encoded     photos a second that the indexing encoder answers likewise (norms folded, weights laid out once)
cosine      of its vectors with the network's own, the mean and the least
indexed     photos a second of `sadari.indexing.index`, from the folder to the table: all it does
of encoder  indexed over encoded: what decoding, writing and the rest cost
of both     indexed over 1 / (1 / encoded + 1 / decoded): what writing and the rest cost
again       seconds of the same call when nothing is new

With --words, of the bundled emoji-captions, its index with cells and 300 queries of each sort: the share of
the ten truly nearest that approximate search finds, by cells looked at. Captions come from a fifth of the
pictures, which are not in the index.

    python benchmarks/indexing.py [RUN [PHOTOS]]      writes benchmarks/results/indexing.csv
    python benchmarks/indexing.py [RUN] --words       writes benchmarks/results/indexing_words.csv
                                                      RUN: else rung locked is fitted to emoji for 150 s
"""

from __future__ import annotations

import csv
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from sadari.data.listed import list_pictures
from sadari.fitting import fit
from sadari.indexing import Searcher, index
from sadari.indexing.encoder import encoder_of, pictures_of
from sadari.models.seeing import has_bf16
from sadari.runs import Run

SOME, TOGETHER = 256, 64  # photos by which decoder and encoder are measured; how many at a time
QUERIES, PROBES = 300, (1, 5, 20)
RESULTS = Path(__file__).parent / "results"
Row = dict[str, object]


def write_photos(folder: Path, count: int) -> None:
    """Crops of two photos, of any place, size and side."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    whole = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for number in range(count):
        width = int(draw.integers(320, 641))
        height = width * 427 // 640
        left, top = int(draw.integers(641 - width)), int(draw.integers(428 - height))
        crop = whole[number % 2].resize((640, 427), box=(left, top, left + width, top + height))
        if draw.integers(2):
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop.save(folder / f"{number:06}.jpg", quality=90)


def seconds(action: Callable[[], object]) -> float:
    """Of the processor, by all threads."""
    began = time.process_time()
    action()
    return time.process_time() - began


def measured(run: Run, folder: Path) -> Iterator[Row]:
    """Decoder, encoder and index of a folder."""
    spec, names = pictures_of(run), sorted(folder.iterdir())
    some = names[:: max(len(names) // SOME, 1)][:SOME]
    pixels = np.stack([spec.decode(name) for name in some])
    plain = run.task.images(run.model, torch.from_numpy(pixels)).numpy()
    for precision in ("fp32", "bf16") if has_bf16() else ("fp32",):
        encode = encoder_of(run, precision)
        parts = np.split(pixels, range(TOGETHER, len(pixels), TOGETHER))
        vectors = np.concatenate([encode(part) for part in parts])
        cosines = (vectors * plain).sum(1) / np.linalg.norm(vectors, axis=1)
        spent: dict[str, list[float]] = {"decoded": [], "plain": [], "encoded": []}

        def both(
            spent: dict[str, list[float]] = spent, encode: Any = encode, parts: list[np.ndarray] = parts
        ) -> None:
            spent["decoded"].append(seconds(lambda: [spec.decode(name) for name in some]))
            spent["encoded"].append(seconds(lambda: [encode(part) for part in parts]))
            spent["plain"].append(
                seconds(lambda: [run.task.images(run.model, torch.from_numpy(part)) for part in parts[:1]])
                * len(some)
                / len(parts[0])
            )

        target = folder.parent / f"index-{precision}"
        shutil.rmtree(target, ignore_errors=True)
        both()
        wall = time.perf_counter()
        took = seconds(partial(index, folder, run, target, precision=precision))
        wall = time.perf_counter() - wall
        both()
        again = seconds(partial(index, folder, run, target))
        rates = {name: len(some) / (sum(each) / len(each)) for name, each in spent.items()}
        indexed = len(names) / took
        yield {
            "photos": len(names),
            "precision": precision,
            **{name: round(rate, 1) for name, rate in rates.items()},
            "cosine": round(float(cosines.mean()), 6),
            "least cosine": round(float(cosines.min()), 6),
            "indexed": round(indexed, 1),
            "of encoder": round(indexed / rates["encoded"], 3),
            "of both": round(indexed * (1 / rates["encoded"] + 1 / rates["decoded"]), 3),
            "again": round(again, 2),
            "wall": round(wall, 1),
        }


def asked(run: Run, scratch: Path) -> Iterator[Row]:
    """What approximate search finds, by sorts of queries."""
    listed = list_pictures("emoji-captions")
    held = np.zeros(len(listed.ids), bool)
    held[np.random.default_rng(0).permutation(len(held))[: len(held) // 5]] = True
    frame = pl.DataFrame(
        {
            "image": [one for one, out in zip(listed.pictures, held, strict=True) if not out],
            "caption": [
                one[0] if one else "" for one, out in zip(listed.captions, held, strict=True) if not out
            ],
        }
    )
    frame.write_parquet(scratch / "emoji.parquet")
    made = index(scratch / "emoji.parquet", run, scratch / "emoji-index").index
    made.build()
    searcher = Searcher(made, run)
    texts = [text for row in np.flatnonzero(held) for text in listed.captions[row]]
    korean = [text for text in dict.fromkeys(texts) if any("가" <= sign <= "힣" for sign in text)]
    english = [text for text in dict.fromkeys(texts) if text.isascii()]
    sorts: dict[str, Any] = {"pictures of the index": QUERIES}
    for name, every in (("held-out captions, English", english), ("held-out captions, Korean", korean)):
        sorts[name] = searcher.vectors([every[i * len(every) // QUERIES] for i in range(QUERIES)])
    for name, queries in sorts.items():
        for probes in PROBES:
            yield {
                "queries": name,
                "pictures": len(made),
                "cells": round(len(made) ** 0.5),
                "probes": probes,
                "recall@10": round(made.recall(10, queries, probes), 4),
            }


def main() -> None:
    torch.set_num_threads(1)
    given = [word for word in sys.argv[1:] if not word.startswith("--")]
    words, table = "--words" in sys.argv, list[Row]()
    with tempfile.TemporaryDirectory() as scratch:
        if given:
            run = Run.load(given[0])
        else:
            run = fit("locked", "emoji-captions", budget="150s", out=Path(scratch) / "towers")
        folder = Path(scratch) / "photos"
        if not words:
            write_photos(folder, int(given[1]) if len(given) > 1 else 10_000)
        for row in asked(run, Path(scratch)) if words else measured(run, folder):
            table.append({**row, "run": run.rung})
            print(table[-1], flush=True)
    machine = {"threads": 1, "torch": torch.__version__, "machine": platform.machine()}
    with open(RESULTS / ("indexing_words.csv" if words else "indexing.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, [*table[0], *machine])
        writer.writeheader()
        writer.writerows({**row, **machine} for row in table)


if __name__ == "__main__":
    main()
