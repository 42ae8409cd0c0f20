"""Training GPT against transformers' GPT-2: tokens a second, and the losses of the first steps.

Same weights, batches and optimizer (AdamW at a constant rate, no decay, fused on both sides), 6 layers, width
384, 6 heads, context 256, batch 4, without dropout. A step is what the training loop does: gradients of
`LanguageTask`, then the optimizer's step. The peer's is what its users write: logits, torch's cross_entropy,
backward, torch.optim.AdamW(fused=True); as it is and compiled, in fp32 and under bf16 autocast. `kept` is
with freed memory kept at hand (sadari/heap.py), which is the loop's way and would help the peer as well.

ratio       tokens a second of ours over those of the peer's best mode without `kept`, median over rounds
equal_ratio both with `kept`
loss_gap    largest difference of the losses of 20 steps, in nats

Rounds are interleaved. A rate is the median over rounds, a ratio the median of the rounds' own ratios.

    python benchmarks/gpt.py              writes benchmarks/results/gpt.csv, in some minutes
    python benchmarks/gpt.py --eager      without compiling the peer, and writes nothing
"""

from __future__ import annotations

import contextlib
import copy
import csv
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from sadari.heap import kept_memory
from sadari.losses import make_loss
from sadari.models.gpt import GPT
from sadari.optim import AdamW, groups_of
from sadari.tasks import LanguageTask

BATCH, CONTEXT, STEPS, ROUNDS, RATE = 4, 256, 2, 5, 3e-4
VOCABULARIES = (50_257, 8_000)
GOAL = 1.15
CORES = len(os.sched_getaffinity(0))
RESULTS = Path(__file__).parent / "results" / "gpt.csv"

Step = Callable[[Tensor], float]


def peer(size: int) -> transformers.GPT2LMHeadModel:
    """transformers' GPT-2 with its own first weights."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=6, n_embd=384, n_head=6, n_positions=CONTEXT, vocab_size=size,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def batches(size: int, count: int) -> Tensor:
    """Tokens (count, B, T + 1) that can be learnt: each has two likely followers; Zipf's law."""
    random = torch.Generator().manual_seed(0)
    follower = torch.randint(size, (size, 2), generator=random)
    tokens = torch.empty(count * BATCH, CONTEXT + 1, dtype=torch.int64)
    tokens[:, 0] = (size ** torch.rand(count * BATCH, generator=random, dtype=torch.float64) - 1).long()
    for t in range(CONTEXT):
        fresh = (size ** torch.rand(count * BATCH, generator=random, dtype=torch.float64) - 1).long()
        old = follower[tokens[:, t], torch.randint(2, (count * BATCH,), generator=random)]
        tokens[:, t + 1] = torch.where(torch.rand(count * BATCH, generator=random) < 0.3, fresh, old)
    return tokens.view(count, BATCH, CONTEXT + 1)


def low(on: bool) -> contextlib.AbstractContextManager:
    return torch.autocast("cpu", torch.bfloat16, enabled=on)


def ours(model: GPT, bf16: bool) -> Step:
    optimizer, task = AdamW(groups_of(model, 0.0), RATE), LanguageTask(make_loss("cross-entropy", classes=2))

    def step(tokens: Tensor) -> float:
        with low(bf16):
            losses = task.backward(model, {"tokens": tokens[:, :-1], "targets": tokens[:, 1:]})
        optimizer.step(1.0)
        return losses["loss"].item()

    return step


def theirs(model: torch.nn.Module, bf16: bool, compiled: bool) -> Step:
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    forward = torch.compile(model) if compiled else model

    def step(tokens: Tensor) -> float:
        optimizer.zero_grad(set_to_none=True)
        with low(bf16):
            logits = forward(input_ids=tokens[:, :-1]).logits
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def rate(step: Step, tokens: Tensor, kept: bool) -> float:
    """Tokens a second over a few steps, after one that is not counted."""
    with kept_memory() if kept else contextlib.nullcontext():
        step(tokens[0])
        began = time.perf_counter()
        for batch in tokens[1 : STEPS + 1]:
            step(batch)
        return STEPS * BATCH * CONTEXT / (time.perf_counter() - began)


def compare(size: int, eager: bool) -> dict[str, object]:
    """All rounds at one size of the vocabulary, as a row of the table."""
    reference, tokens = peer(size), batches(size, 20)
    settings = reference.config.to_dict()
    gap = {}
    for bf16 in (False, True):
        own = ours(GPT.from_reference(reference.state_dict(), settings=settings), bf16)
        its = theirs(copy.deepcopy(reference), bf16, False)
        pairs = [(own(batch), its(batch)) for batch in tokens]
        gap[bf16] = max(abs(a - b) for a, b in pairs)
        assert pairs[-1][0] < pairs[0][0] - 0.1, "nothing was learnt"
    steps: dict[str, Step] = {}
    for bf16, name in ((False, "fp32"), (True, "bf16")):
        steps[f"sadari_{name}"] = ours(GPT.from_reference(reference.state_dict(), settings=settings), bf16)
        steps[f"peer_{name}"] = theirs(copy.deepcopy(reference), bf16, False)
        if not eager:
            steps[f"peer_{name}_compiled"] = theirs(copy.deepcopy(reference), bf16, True)
    compiling = {}
    for name, step in steps.items():
        began = time.perf_counter()
        step(tokens[0])
        compiling[name] = time.perf_counter() - began
    modes = [(name, kept) for name in steps for kept in (False, True)]
    found: dict[tuple[str, bool], list[float]] = {mode: [] for mode in modes}
    for _ in range(ROUNDS):
        for name, kept in modes:
            found[name, kept].append(rate(steps[name], tokens, kept))
    middle = {mode: statistics.median(rates) for mode, rates in found.items()}

    def ratio(kept: bool, its_kept: bool) -> float:
        best = max(
            (mode for mode in modes if "peer" in mode[0] and mode[1] == its_kept), key=middle.__getitem__
        )
        pairs = zip(found["sadari_bf16", kept], found[best], strict=True)
        return round(statistics.median(a / b for a, b in pairs), 3)

    row: dict[str, object] = {"vocabulary": size}
    row |= {f"{name}{'_kept' * kept}": round(middle[name, kept]) for name, kept in modes}
    row |= {
        "ratio": ratio(True, False), "unkept_ratio": ratio(False, False), "equal_ratio": ratio(True, True),
        "loss_gap_fp32": f"{gap[False]:.1e}", "loss_gap_bf16": f"{gap[True]:.1e}",
    }  # fmt: skip
    if not eager:
        row["compile_seconds"] = round(compiling["peer_bf16_compiled"], 1)
    return row | {
        "rounds": ROUNDS, "torch": torch.__version__, "transformers": transformers.__version__,
        "machine": f"{platform.machine()}, {CORES} core(s)",
    }  # fmt: skip


def main() -> None:
    eager = "--eager" in sys.argv
    torch.set_num_threads(CORES)
    transformers.logging.set_verbosity_error()
    table = []
    for size in VOCABULARIES:
        row = compare(size, eager)
        table.append(row)
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
    if eager:
        return
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    for row in table:
        assert float(str(row["loss_gap_fp32"])) < 1e-3, f"another loss curve: {row}"
        assert float(str(row["ratio"])) >= GOAL, f"slower than the goal: {row}"


if __name__ == "__main__":
    main()
