"""Counted n-grams as ARPA text, the table that speech and translation programs have read for thirty years.

    \\data\\                     how many n-grams of each order
    ngram 1=4096
    \\1-grams:                  log10 of the probability, the tokens, log10 of falling back from them
    -2.1314<tab>17<tab>-0.3021
    \\end\\

Tokens are written as their numbers, since pieces of words hold spaces and half letters: a text is to be
tokenised by the run's tokenizer.json, its numbers put between spaces. Programs that want the words <s>, </s>
and <unk> find them, at the probability that stands for none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sadari.errors import SadariError
from sadari.models.n_gram import NGram

if TYPE_CHECKING:
    from sadari.runs import Run

MARKS = ("<unk>", "<s>", "</s>")
NONE = -99.0  # what the format writes for the logarithm of nothing


def arpa(run: Run) -> bytes:
    """The table of a run of counted n-grams. Raises SadariError for a run of any other rung."""
    model = run.model
    if not isinstance(model, NGram):
        raise SadariError(f"--to arpa is for counted n-grams, and this run is {run.rung}; use --to onnx")
    order, V = model.config.order, model.vocabulary
    histories = np.zeros((1, 0), np.int64)  # the tokens of each n-gram of the order below
    counts, parts = [], []
    for n in range(1, order + 1):
        keys = np.arange(V) if n == 1 else model.get_buffer(f"keys{n}").numpy()
        grams = np.column_stack([histories[keys // V], keys % V])  # (U, n)
        logs = model.get_buffer(f"logs{n}").double().numpy() / np.log(10)
        falls = model.get_buffer(f"falls{n}").double().numpy() / np.log(10) if n < order else None
        lines = [
            f"{log:.7g}\t{' '.join(map(str, gram))}" for log, gram in zip(logs, grams.tolist(), strict=True)
        ]
        if falls is not None:
            lines = [f"{line}\t{fall:.7g}" for line, fall in zip(lines, falls, strict=True)]
        if n == 1:
            lines += [f"{NONE:g}\t{mark}" for mark in MARKS]
        counts.append(f"ngram {n}={len(lines)}")
        parts.append("\n".join([f"\\{n}-grams:", *lines, ""]))
        histories = grams
    return "\n".join(["\\data\\", *counts, "", *parts, "\\end\\", ""]).encode()
