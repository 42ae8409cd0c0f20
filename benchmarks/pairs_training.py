"""Training a Transformer of pairs against transformers' MarianMT: tokens a second, and what length costs.

Same weights in Marian's layout, 3 + 3 layers, width 256, 8,000 shared tokens, without dropout or smoothing;
real pairs (`homeassistant`, after `sadari data get homeassistant`) cut by one bpe tokenizer. A step is what a
training loop does: gradients, then AdamW's step, at a constant rate. Tokens are real ones of both sides,
padding not counted.

ours    the loop's own way: `PairBatches` of 4,096 tokens, kept memory, bf16 (and fp32, for what that gives)
eager   a loop over MarianMTModel in fp32: its own forward with labels, backward, torch.optim.AdamW. `same` on
        our batches; `usual` on what its users have, as many pairs a batch in drawn order, padded to the
        longest
ratio   tokens a second of ours in bf16 over eager's on the same batches, the median of the rounds' ratios
first   difference of the first losses on the same batch, in nats
gap     largest difference of those of 20 steps: what is rounded otherwise grows, since AdamW's first steps
        are as large for a small gradient as for a large one

The second table is a step of ours by the length n of both sides at 8,192 tokens a batch: seconds a 1,000
tokens are a + b n. What is a does not grow with the length (products with weights, the vocabulary); b n is
attention, whose work grows with the square of the length. `share` is b n of the whole at that length.

    python benchmarks/pairs_training.py    writes benchmarks/results/pairs_training.csv and pairs_lengths.csv
"""

from __future__ import annotations

import contextlib
import copy
import csv
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor

from sadari.batches_pairs import PairBatches
from sadari.data.prepare import prepare
from sadari.heap import kept_memory
from sadari.layers.tokens import is_real
from sadari.marian import to_marian
from sadari.models.translator import Translator, TranslatorConfig
from sadari.optim import AdamW, groups_of
from sadari.tasks_pairs import TokenLoss, TranslateTask

V, ROUNDS, STEPS, RATE, GOAL = 8000, 5, 4, 3e-4, 1.7
TOKENS = 4096  # of a batch
LENGTHS, ROOM = (32, 64, 128, 256, 512, 1024), 8192
CORES = len(os.sched_getaffinity(0))
RESULTS = Path(__file__).parent / "results"

# without a bias a word: Marian has one, and does not learn it
SIZES = TranslatorConfig(layers=3, width=256, norm_first=False, share=True, bias=False, dropout=0.0)
Batch = Mapping[str, Tensor]
Step = Callable[[Batch], float]


def low(on: bool) -> contextlib.AbstractContextManager:
    return torch.autocast("cpu", torch.bfloat16, enabled=on)


def ours(model: Translator, bf16: bool) -> Step:
    optimizer, task = AdamW(groups_of(model, 0.0), RATE), TranslateTask(TokenLoss(V))
    model.train()

    def step(batch: Batch) -> float:
        with low(bf16):
            losses = task.backward(model, batch)
        optimizer.step(1.0)
        return losses["loss"].item()

    return step


def eager(model: transformers.MarianMTModel) -> Step:
    """What its users write; START is its decoder's beginning, padding is masked and has no loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    model.train()
    pad, begin = model.config.pad_token_id, model.config.decoder_start_token_id

    def step(batch: Batch) -> float:
        source, target = batch["features"].long(), batch["targets"].long()
        read = target[:, :-1].masked_fill(~is_real(target[:, :-1]), pad)
        read[:, 0] = begin
        optimizer.zero_grad(set_to_none=True)
        loss = model(
            input_ids=source.masked_fill(~is_real(source), pad),
            attention_mask=is_real(source).long(),
            decoder_input_ids=read,
            labels=target[:, 1:].masked_fill(~is_real(target[:, 1:]), -100),
        ).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def usual_batches(arrays: Batch, pairs: int, count: int) -> list[Batch]:
    """So many pairs a batch in drawn order, each side padded to its longest."""
    order = torch.randperm(len(arrays["features"]), generator=torch.Generator().manual_seed(1))
    found = []
    for rows in order.split(pairs)[:count]:
        longest = {name: int(is_real(value[rows]).sum(1).max()) for name, value in arrays.items()}
        found.append({name: value[rows][:, : longest[name]] for name, value in arrays.items()})
    return found


def tokens_of(batch: Batch) -> int:
    return int(is_real(batch["features"]).sum() + is_real(batch["targets"][:, 1:]).sum())


def rate(step: Step, batches: Sequence[Batch], kept: bool) -> float:
    """Tokens a second over some batches."""
    with kept_memory() if kept else contextlib.nullcontext():
        began = time.perf_counter()
        for batch in batches:
            step(batch)
        return sum(map(tokens_of, batches)) / (time.perf_counter() - began)


def compare(arrays: Batch) -> dict[str, object]:
    torch.manual_seed(0)
    first = Translator(SIZES, V, V)
    with tempfile.TemporaryDirectory() as folder:
        to_marian(first, folder)
        reference = transformers.MarianMTModel.from_pretrained(folder)
    feed = PairBatches(arrays, TOKENS, 0)
    batches = list(feed.epoch())
    own, its = ours(copy.deepcopy(first), False), eager(copy.deepcopy(reference))
    losses = [(own(batch), its(batch)) for batch in batches[:20]]
    assert losses[-1][0] < losses[0][0] - 0.3, "nothing was learnt"
    start, gap = abs(losses[0][0] - losses[0][1]), max(abs(a - b) for a, b in losses)
    half = ours(copy.deepcopy(first), True)
    half_gap = max(abs(half(batch) - exact) for batch, (exact, _) in zip(batches, losses, strict=False))
    usual = usual_batches(arrays, len(arrays["features"]) // feed.per_epoch, (ROUNDS + 1) * STEPS)
    ways = {
        "bf16": (ours(copy.deepcopy(first), True), batches, True),
        "fp32": (ours(copy.deepcopy(first), False), batches, True),
        "eager_same": (eager(copy.deepcopy(reference)), batches, False),
        "eager_usual": (eager(copy.deepcopy(reference)), usual, False),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(ROUNDS + 1):
        for name, (step, some, kept) in ways.items():
            found = rate(step, some[i * STEPS : (i + 1) * STEPS], kept)
            if i:  # the first round warms up
                rates[name].append(found)

    def ratio(one: str, other: str) -> float:
        return round(statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True)), 3)

    row: dict[str, object] = {name: round(statistics.median(found)) for name, found in rates.items()}
    return row | {
        "ratio": ratio("bf16", "eager_same"), "ratio_usual": ratio("bf16", "eager_usual"),
        "ratio_fp32": ratio("fp32", "eager_same"), "first": f"{start:.1e}",
        "gap_fp32": f"{gap:.1e}", "gap_bf16": f"{half_gap:.1e}",
        "rounds": ROUNDS, "torch": torch.__version__, "transformers": transformers.__version__,
        "machine": f"{platform.machine()}, {CORES} core(s)",
    }  # fmt: skip


def lengths() -> list[dict[str, object]]:
    """Seconds a thousand tokens by length, fp32 and bf16, and the straight line through them."""
    torch.manual_seed(0)
    model = Translator(SIZES, V, V)
    found: dict[bool, dict[int, list[float]]] = {bf16: {n: [] for n in LENGTHS} for bf16 in (False, True)}
    steps = {bf16: ours(copy.deepcopy(model), bf16) for bf16 in found}
    with kept_memory():
        for i in range(4):
            for n in LENGTHS:
                pairs = ROOM // (2 * n)
                batch = {
                    "features": torch.randint(3, V, (pairs, n)),
                    "targets": torch.randint(3, V, (pairs, n + 1)),
                }
                for bf16, step in steps.items():
                    began = time.perf_counter()
                    step(batch)
                    if i:
                        found[bf16][n].append(1000 * (time.perf_counter() - began) / (2 * n * pairs))
    table: list[dict[str, object]] = []
    for bf16, by_length in found.items():
        seconds = np.array([statistics.median(times) for times in by_length.values()])
        b, a = np.polyfit(LENGTHS, seconds, 1, w=1 / seconds)
        for n, measured in zip(LENGTHS, seconds, strict=True):
            table.append(
                {
                    "precision": "bf16" if bf16 else "fp32", "length": n,
                    "ms_per_1000": round(1e3 * measured, 2), "line": round(1e3 * (a + b * n), 2),
                    "share": round(b * n / (a + b * n), 3),
                }
            )  # fmt: skip
            print(" ".join(f"{name}={value}" for name, value in table[-1].items()), flush=True)
    return table


def write(name: str, table: Sequence[Mapping[str, object]]) -> None:
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / name, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(CORES)
    prepared = prepare("homeassistant", reading={"tokenizer": "bpe", "vocabulary": V})
    train = prepared.train
    arrays = {"features": torch.from_numpy(train.features), "targets": torch.from_numpy(train.targets)}
    row = compare(arrays)
    print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
    write("pairs_training.csv", [row])
    write("pairs_lengths.csv", lengths())
    assert float(str(row["first"])) < 1e-4, f"another loss: {row}"
    assert float(str(row["gap_fp32"])) < 1e-2, f"another loss curve: {row}"
    assert float(str(row["ratio"])) >= GOAL, f"slower than the goal: {row}"


if __name__ == "__main__":
    main()
