"""Text to a mapped row of integers: against the bare tokenizers library, which keeps nothing.

The text is Wikipedia summaries, Korean help pages and interface strings, over and over, every twentieth word
another so that no block is like another. Ours opens the file, looks through its encoding, cuts it into
documents, splits them, tokenises and writes them. The library gets the same documents in blocks of the same
size, and only its own calls are timed: `encode_batch`, its usual call, and its fast one without offsets. Each
run is a process of its own, taken in turn. Seconds on a busy machine say little, so the processor's seconds
stand beside them; peak memory is what the kernel counted as resident.

    python benchmarks/tokenise.py [GIGABYTES] [RUNS]    writes benchmarks/results/tokenise.csv
"""

from __future__ import annotations

import csv
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LIMIT_RATIO, LIMIT_MIB = 1.3, 1024
WAYS = ("sadari", "encode_batch", "encode_batch_fast")
RESULTS = Path(__file__).parent / "results" / "tokenise.csv"
_SIZE = 4096


def make(path: Path, size: int) -> None:
    """Write at least `size` bytes of documents, parted by empty lines, and a tokenizer learnt from some."""
    from sadari.data.builtin import open_builtin
    from sadari.data.tokenizers import train_tokenizer

    names = ("wiki-text", "help-ko-text", "homeassistant-ko")
    texts = [text for name in names for text in open_builtin(name)[0]["text"].to_list()]
    texts = [" ".join(text.split()) for text in texts]
    words = list({word for text in texts[::7] for word in text.split()})
    draw = np.random.default_rng(0)
    with open(path, "wb") as file:
        while file.tell() < size:
            for place in draw.permutation(len(texts)):
                cut = texts[place].split(" ")
                for at in draw.integers(0, len(cut), 1 + len(cut) // 20):  # every twentieth word another
                    cut[at] = words[draw.integers(len(words))]
                file.write((" ".join(cut) + "\n\n").encode())
                if file.tell() >= size:
                    break
    tokenizer = train_tokenizer(texts[::3], "bpe", _SIZE)
    path.with_suffix(".json").write_text(tokenizer.to_json(), encoding="utf-8")


def run(way: str, path: Path) -> None:
    """One way in this process: prints tokens, seconds and the peak in MiB."""
    from sadari.data.tokenizers import Tokenizer

    tokenizer = Tokenizer.load(path.with_suffix(".json"))
    cache = Path(tempfile.mkdtemp(dir=path.parent))
    began, worked = time.perf_counter(), time.process_time()
    if way == "sadari":
        from sadari.data.prepare_text import prepare_language

        prepared = prepare_language(path, tokenizer=tokenizer, cache=cache)
        tokens = sum(len(part.tokens) for part in (prepared.train, prepared.validation, prepared.test))
        seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    else:
        tokens, seconds, cpu = bare(way, path, tokenizer._library)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    shutil.rmtree(cache)
    print(tokens, round(seconds, 2), round(cpu, 2), peak)


def bare(way: str, path: Path, library: object) -> tuple[int, float, float]:
    """The library alone: documents, its seconds and the processor's, without the reading of the file."""
    encode = getattr(library, way)
    documents, seconds, cpu, rest = 0, 0.0, 0.0, ""
    with open(path, encoding="utf-8") as file:
        while block := file.read(1 << 21):
            *texts, rest = (rest + block).split("\n\n")
            began, worked = time.perf_counter(), time.process_time()
            encode(texts, add_special_tokens=False)
            seconds += time.perf_counter() - began
            cpu += time.process_time() - worked
            documents += len(texts)
    return documents, seconds, cpu


def main(size: int, runs: int) -> None:
    os.environ.pop("OMP_NUM_THREADS", None)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "corpus.txt")
        start = [sys.executable, __file__]
        subprocess.run([*start, "make", str(path), str(size)], check=True)
        seen: dict[str, list[list[float]]] = {way: [] for way in WAYS}  # seconds, processor's seconds, MiB
        for _ in range(runs):
            for way in WAYS:
                done = subprocess.run([*start, way, str(path)], check=True, stdout=subprocess.PIPE, text=True)
                seen[way].append([float(word) for word in done.stdout.split()[1:]])
                print(way, *seen[way][-1], flush=True)
        written = path.stat().st_size
    took = {way: np.median(np.array(seen[way])[:, :2], axis=0) for way in WAYS}
    records = []
    for way in WAYS:
        ratio, cpu = took["sadari"] / took[way]
        peak = int(max(record[2] for record in seen[way]))
        records.append([way, written, runs, *took[way].round(1), round(ratio, 3), round(cpu, 3), peak])
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="") as file:
        header = [
            "way",
            "bytes",
            "runs",
            "seconds",
            "cpu_seconds",
            "sadari_over_it",
            "cpu_over_it",
            "peak_mib",
        ]
        csv.writer(file).writerows([header, *records])
    for record in records:
        print(*record)
    if records[1][5] > LIMIT_RATIO or records[0][-1] > LIMIT_MIB:
        sys.exit(f"above {LIMIT_RATIO} of encode_batch's time or above {LIMIT_MIB} MiB")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", path, size]:
            make(Path(path), int(size))
        case [("sadari" | "encode_batch" | "encode_batch_fast") as way, path]:
            run(way, Path(path))
        case [size, runs]:
            main(int(float(size) * 1e9), int(runs))
        case [size]:
            main(int(float(size) * 1e9), 3)
        case _:
            main(1_000_000_000, 3)
