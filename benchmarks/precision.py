"""What `--precision bf16` and `int8` cost and gain when a trained run of pairs translates.

The run is `transformer` on `homeassistant`, English to Korean, or the one that is named; its held-out
sentences are translated by `sadari.translate`, text to text, on one thread. The three precisions take turns
in one process, by processor time, which another program's load changes little.

beam        1 (greedy) or 5
at_once     sentences searched together: all, sorted by length in batches of 4,096 tokens, as a file is; or 1,
            as a person types them, for the first `ALONE` of them
sentences   how many they are
weights     megabytes of the weights that products read, in that precision, and of each row's step for int8
own         megabytes of all the run's weights in fp32, which stay beside them: words are looked up there
bleu, chrf  of all held-out sentences against their references, by sacrebleu with the `signatures`
equal       share of sentences that became the same text as with fp32
rate        sentences a second, the median of the rounds
ratio       over fp32's, the median of the rounds' own ratios

A run of a few megabytes stays in the processor's caches, where fp32 is as fast, and one line at a time is
written by compiled fp32 steps (`layers.steps`). So larger models of drawn weights, whose weights do not stay
there, write 20 tokens greedily as well: precision_sizes.csv, with the model's sizes in place of the scores.

    sadari fit transformer homeassistant --budget 2000steps --out RUN
    python benchmarks/precision.py [RUN]    writes benchmarks/results/precision{,_sizes}.csv
                                            (without RUN one is fitted)
"""

from __future__ import annotations

import csv
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from sacrebleu.metrics import BLEU, CHRF

from sadari.fitting import fit
from sadari.layers.packed import Packed, packed
from sadari.layers.rounded import KINDS, can_round
from sadari.layers.steps import LOADS, Done, compiled
from sadari.models.translator import Translator, TranslatorConfig
from sadari.runs import Run
from sadari.search import Searching, search
from sadari.translate import Precision, translate_lines

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}  # of a number in a weight
SCORERS = {"bleu": BLEU(), "chrf": CHRF()}
OF_A_ROW = 12  # further bytes of a row of int8: its step, its zero and its sum
ROUNDS, ALONE, BEAMS, BUDGET = 5, 64, (1, 5), "2000steps"
LOST = 1.0  # goal: points of BLEU and chrF that a smaller number costs at most
FASTER = 1.5  # goal: times the sentences of fp32, at width 1,024
SIZES = ((3, 256, 8_000), (6, 512, 16_000), (6, 1024, 32_000))  # layers, width, vocabulary
TOGETHER, TOKENS, START, END = 32, 20, 1, 2
RESULTS = Path(__file__).parent / "results"


def named_or_fitted(folder: Path) -> Run:
    if len(sys.argv) > 1:
        return Run.load(sys.argv[1])
    return fit("transformer", "homeassistant", budget=BUDGET, out=folder / "run")


def weights(run: Run, precision: str) -> tuple[float, float]:
    """Megabytes of the weights that products read, and of all that the run keeps in fp32."""
    kind: Any = Packed if precision == "fp32" else KINDS[precision]
    read = 0
    for part in packed(run.model, kind=kind).modules():
        if isinstance(part, kind):
            rows, inputs = part.weight.shape
            read += rows * (inputs * BYTES[precision] + OF_A_ROW * (precision == "int8"))
    return read / 1e6, sum(4 * one.numel() for one in run.model.parameters()) / 1e6


def translated(run: Run, lines: Sequence[str], precision: Precision, beam: int, alone: bool) -> list[str]:
    """The lines' translations; a None behind a line asks for its answer before the next is read."""
    asked = (one for line in lines for one in (line, None)) if alone else lines
    return [one.text for one in translate_lines(run, asked, Searching(beam=beam), precision=precision)]


def measure(run: Run, beam: int, alone: bool) -> list[dict[str, Any]]:
    """A row of the table for each precision."""
    part: Any = run.data().test
    count = ALONE if alone else len(part.sources)
    lines, references = part.sources[:count], part.references[:count]
    rates: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    texts: dict[str, list[str]] = {}
    for i in range(ROUNDS + 1):
        for precision in PRECISIONS:
            began = time.process_time()
            texts[precision] = translated(run, lines, precision, beam, alone)
            if i:  # the first round warms up
                rates[precision].append(count / (time.process_time() - began))
    rows = []
    for precision in PRECISIONS:
        read, own = weights(run, precision)
        scores = {name: one.corpus_score(texts[precision], [references]) for name, one in SCORERS.items()}
        same = sum(a == b for a, b in zip(texts[precision], texts["fp32"], strict=True))
        ratios = (a / b for a, b in zip(rates[precision], rates["fp32"], strict=True))
        rows.append(
            {
                "beam": beam,
                "at_once": 1 if alone else "all",
                "sentences": count,
                "precision": precision,
                "weights": round(read, 2),
                "own": round(own, 2),
                **{name: round(one.score, 2) for name, one in scores.items()},
                "equal": round(same / count, 3),
                "rate": round(statistics.median(rates[precision]), 1),
                "ratio": round(statistics.median(ratios), 3),
            }
        )
        print(" ".join(f"{name}={value}" for name, value in rows[-1].items()), flush=True)
    return rows


@torch.no_grad()
def measure_size(layers: int, width: int, words: int) -> list[dict[str, Any]]:
    """Rows for one sentence at a time and for many together, of a model that never ends a text."""
    torch.manual_seed(0)
    config = TranslatorConfig(layers=layers, width=width, norm_first=False, share=True, dropout=0.0)
    model = Translator(config, words, words).eval()
    model.head.bias[END] = -1e4
    how, sources = Searching(length_penalty=0.0, max_tokens=TOKENS), torch.randint(3, words, (TOGETHER, 20))
    rows = []
    for batch in (1, TOGETHER):
        some = sources if batch > 1 else sources[:4]
        rates: dict[str, list[float]] = {name: [] for name in PRECISIONS}
        for i in range(ROUNDS + 1):
            for precision in PRECISIONS:
                began = time.process_time()
                for block in some.split(batch):
                    search(model, block, how, START, END, scores=False, precision=precision)
                if i:
                    rates[precision].append(len(some) / (time.process_time() - began))
        row: dict[str, Any] = {"layers": layers, "width": width, "words": words, "batch": batch}
        row["megabytes"] = round(sum(4 * one.numel() for one in model.parameters()) / 1e6, 1)
        row["fp32"] = round(statistics.median(rates["fp32"]), 1)
        for precision in PRECISIONS[1:]:
            ratios = (a / b for a, b in zip(rates[precision], rates["fp32"], strict=True))
            row[f"ratio_{precision}"] = round(statistics.median(ratios), 3)
        rows.append(row)
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
    return rows


def write(name: str, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in rows)


def main() -> None:
    torch.set_num_threads(1)
    lacking = [name for name in PRECISIONS[1:] if not can_round(name)]
    if lacking:
        print(f"torch has no products in {' and '.join(lacking)} here. Nothing was measured")
        return
    with tempfile.TemporaryDirectory() as scratch:
        run = named_or_fitted(Path(scratch))
        compiled()  # once an install: a process compiles a decoder's step after some ten minutes of lines
        Done.steps = max(Done.steps, LOADS)
        rows = [row for alone in (False, True) for beam in BEAMS for row in measure(run, beam, alone)]
    about = {
        "rounds": ROUNDS,
        "run": f"{run.rung} on {run.config['data']['source']}, {run.result['steps']} steps",
        "signatures": " ".join(f"{name} {one.get_signature()}" for name, one in SCORERS.items()),
        "versions": f"torch {torch.__version__}",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} core(s)",
    }
    write("precision.csv", rows, about)
    sizes = [row for size in SIZES for row in measure_size(*size)]
    write("precision_sizes.csv", sizes, {name: about[name] for name in ("rounds", "versions", "machine")})
    missed = [
        f"{name} at width {row['width']}: {row[name]} of {FASTER}"
        for row in sizes
        for name in ("ratio_bf16", "ratio_int8")
        if row["width"] == 1024 and row[name] < FASTER
    ]
    whole = {(row["beam"], row["precision"]): row for row in rows if row["at_once"] == "all"}
    for (beam, precision), row in whole.items():
        plain = whole[beam, "fp32"]
        missed += [
            f"{precision}, beam {beam}: {metric} {row[metric]} of {plain[metric]}"
            for metric in ("bleu", "chrf")
            if plain[metric] - row[metric] > LOST
        ]
    assert not missed, "goals missed: " + "; ".join(missed)


if __name__ == "__main__":
    main()
