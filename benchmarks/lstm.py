"""Training an LSTM language model against one of torch.nn alone: tokens a second, and the first losses.

Same weights, batches and optimizer (AdamW at a constant rate, no decay, fused on both sides, gradients
clipped at 1), 2 layers of 512, batch 16, length 64, 8,000 words, the state carried from batch to batch, no
dropout. A step is what the training loop does: gradients of `LanguageTask`, the clip, the optimizer's step.
The peer's is what its users write: nn.Embedding, nn.LSTM, nn.Linear, cross_entropy, clip_grad_norm_,
torch.optim.AdamW(fused=True); in fp32 and under bf16 autocast. `kept` is with freed memory kept at hand
(sadari/heap.py), which is the loop's way and would help the peer as well.

ratio       tokens a second of ours in bf16, kept, over the peer's best mode without `kept`
equal_ratio both with `kept`
loss_gap    largest difference of the losses of the first steps, in nats

Rounds are interleaved. A rate is the median over rounds, a ratio the median of the rounds' own ratios.

    python benchmarks/lstm.py            writes benchmarks/results/lstm.csv, in about a minute
    python benchmarks/lstm.py --quick    three rounds, and writes nothing
"""

from __future__ import annotations

import contextlib
import csv
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadari.heap import kept_memory
from sadari.losses import make_loss
from sadari.models.lstm import LSTMLanguage, LSTMLanguageConfig
from sadari.optim import AdamW, clip_gradients, groups_of
from sadari.tasks import LanguageTask

WIDTH, LAYERS, BATCH, LENGTH, WORDS = 512, 2, 16, 64, 8_000
COMPARED, STEPS, ROUNDS, RATE = 30, 4, 7, 2e-3  # losses compared, steps timed at once, rounds, rate
GOAL = 1.0
RESULTS = Path(__file__).parent / "results" / "lstm.csv"

Step = Callable[[Tensor], float]


class Peer(nn.Module):
    """The usual LSTM language model."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.lstm = nn.LSTM(WIDTH, WIDTH, LAYERS, batch_first=True)
        self.head = nn.Linear(WIDTH, WORDS)

    def forward(self, tokens: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, state = self.lstm(self.embedding(tokens), state)
        return self.head(output), state


def ours() -> LSTMLanguage:
    torch.manual_seed(0)
    config = LSTMLanguageConfig(width=WIDTH, layers=LAYERS, tied=False, dropout=0.0)
    return LSTMLanguage(config, WORDS, WORDS)


def batches(count: int) -> Tensor:
    """Tokens (count, B, T + 1) by a law that can be learnt: each word has two followers; the rest by Zipf."""
    random = torch.Generator().manual_seed(0)
    follower = torch.randint(WORDS, (WORDS, 2), generator=random)
    lanes = torch.empty(BATCH, count * LENGTH + 1, dtype=torch.int64)
    lanes[:, 0] = 0
    for t in range(count * LENGTH):
        fresh = (WORDS ** torch.rand(BATCH, generator=random, dtype=torch.float64) - 1).long()
        old = follower[lanes[:, t], torch.randint(2, (BATCH,), generator=random)]
        lanes[:, t + 1] = torch.where(torch.rand(BATCH, generator=random) < 0.3, fresh, old)
    return torch.stack([lanes[:, i * LENGTH : (i + 1) * LENGTH + 1] for i in range(count)])


def low(on: bool) -> contextlib.AbstractContextManager:
    return torch.autocast("cpu", torch.bfloat16, enabled=on)


def our_step(bf16: bool) -> Step:
    model = ours()
    task, parameters = LanguageTask(make_loss("cross-entropy", classes=2)), list(model.parameters())
    optimizer = AdamW(groups_of(model, 0.0), RATE)
    carried = {f"state.{i}": part for i, part in enumerate(part.clone() for part in model.start(BATCH))}

    def step(tokens: Tensor) -> float:
        with low(bf16):
            losses = task.backward(model, {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], **carried})
        clip_gradients(parameters, 1.0)
        optimizer.step(1.0)
        return losses["loss"].item()

    return step


def peer_step(bf16: bool) -> Step:
    model = Peer()
    model.load_state_dict(ours().state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    zero = torch.zeros(LAYERS, BATCH, WIDTH)
    state = (zero, zero)

    def step(tokens: Tensor) -> float:
        nonlocal state
        optimizer.zero_grad(set_to_none=True)
        with low(bf16):
            logits, (h, c) = model(tokens[:, :-1], state)
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        state = (h.detach().float(), c.detach().float())
        return loss.item()

    return step


def rate(step: Step, tokens: Tensor, kept: bool) -> float:
    """Tokens a second over a few steps, after one that is not counted."""
    with kept_memory() if kept else contextlib.nullcontext():
        step(tokens[0])
        began = time.perf_counter()
        for batch in tokens[1 : STEPS + 1]:
            step(batch)
        return STEPS * BATCH * LENGTH / (time.perf_counter() - began)


def main() -> None:
    quick = "--quick" in sys.argv
    tokens = batches(10 if quick else COMPARED)
    gap = {}
    for bf16 in (False, True):
        own, its = our_step(bf16), peer_step(bf16)
        pairs = [(own(batch), its(batch)) for batch in tokens]
        gap[bf16] = max(abs(a - b) for a, b in pairs)
        assert pairs[-1][0] < pairs[0][0] - 0.2, "nothing was learnt"
    steps = {
        f"{who}_{name}": make(bf16)
        for bf16, name in ((False, "fp32"), (True, "bf16"))
        for who, make in (("sadari", our_step), ("peer", peer_step))
    }
    modes = [(name, kept) for name in steps for kept in (False, True)]
    found: dict[tuple[str, bool], list[float]] = {mode: [] for mode in modes}
    for _ in range(3 if quick else ROUNDS):
        for name, kept in modes:
            found[name, kept].append(rate(steps[name], tokens, kept))
    middle = {mode: statistics.median(rates) for mode, rates in found.items()}

    def ratio(kept: bool, its_kept: bool, precision: str = "bf16") -> float:
        peers = [mode for mode in modes if mode[0].startswith("peer") and mode[1] == its_kept]
        best = ("peer_fp32", its_kept) if precision == "fp32" else max(peers, key=middle.__getitem__)
        pairs = zip(found[f"sadari_{precision}", kept], found[best], strict=True)
        return round(statistics.median(a / b for a, b in pairs), 3)

    row: dict[str, object] = {
        "layers": LAYERS, "width": WIDTH, "batch": BATCH, "length": LENGTH, "vocabulary": WORDS,
        **{f"{name}{'_kept' * kept}": round(middle[name, kept]) for name, kept in modes},
        "ratio": ratio(True, False), "unkept_ratio": ratio(False, False), "equal_ratio": ratio(True, True),
        "fp32_ratio": ratio(True, False, "fp32"),
        "loss_gap_fp32": f"{gap[False]:.1e}", "loss_gap_bf16": f"{gap[True]:.1e}",
        "rounds": ROUNDS, "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s)",
    }  # fmt: skip
    print(" ".join(f"{name}={value}" for name, value in row.items()))
    if quick:
        return
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    assert gap[False] < 1e-3, f"another loss curve: {gap}"
    assert float(str(row["ratio"])) >= GOAL, f"slower than the goal: {row}"


if __name__ == "__main__":
    main()
