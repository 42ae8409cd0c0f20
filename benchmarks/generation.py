"""Writing on at batch 1 with a cache, greedily: tokens a second against transformers' `generate`.

6 layers, width 384, 6 heads, GPT-2's vocabulary, fp32, a prompt of 16 tokens, 128 written; ours is
`sadari.decode.Writing`, the peer's its own loop in its best mode (its cache as it comes, or static). Each on
one thread or all, whichever is faster for it; both write the same tokens.

ratio   tokens a second of ours over the best of the peer's, the median of the rounds' own ratios

    python benchmarks/generation.py       writes benchmarks/results/generation.csv
"""

from __future__ import annotations

import csv
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from sadari.decode import Sampling, Writing
from sadari.models.gpt import GPT

PROMPT, WRITTEN, ROUNDS, GOAL = 16, 128, 7, 2.0
CORES = len(os.sched_getaffinity(0))
RESULTS = Path(__file__).parent / "results" / "generation.csv"


def models() -> tuple[GPT, transformers.GPT2LMHeadModel]:
    """Ours and the peer's with the same weights, large enough that the likeliest token is no tie."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_layer=6, n_embd=384, n_head=6, n_positions=256, bos_token_id=0, eos_token_id=None,
    )  # fmt: skip
    peer = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.mul_(3)
    return GPT.from_reference(peer.state_dict(), settings=config.to_dict()).eval(), peer


def main() -> None:
    transformers.logging.set_verbosity_error()
    own, peer = models()
    prompt = torch.randint(50_257, (1, PROMPT))

    def ours() -> list[int]:
        with Writing(own, prompt.tolist(), Sampling(temperature=0, max_tokens=WRITTEN)) as writing:
            tokens: list[int] = []
            while writing.rows:
                tokens += [token for _, token in writing.step() if token is not None]
        return tokens

    def theirs(cache: str | None) -> Callable[[], list[int]]:
        def write() -> list[int]:
            with torch.inference_mode():
                found = peer.generate(
                    prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=WRITTEN,
                    min_new_tokens=WRITTEN, pad_token_id=0, cache_implementation=cache,
                )  # fmt: skip
            return found[0, PROMPT:].tolist()

        return write

    ways = {"sadari": ours, "peer": theirs(None), "peer_static": theirs("static")}
    expected = ours()
    modes = [(name, threads) for name in ways for threads in sorted({1, CORES})]
    found: dict[tuple[str, int], list[float]] = {mode: [] for mode in modes}
    for i in range(ROUNDS + 1):
        for name, threads in modes:
            torch.set_num_threads(threads)
            began = time.perf_counter()
            assert ways[name]() == expected, f"{name} writes something else"
            if i:  # the first round warms up
                found[name, threads].append(WRITTEN / (time.perf_counter() - began))
    middle = {mode: statistics.median(rates) for mode, rates in found.items()}
    best = max((mode for mode in modes if mode[0] == "sadari"), key=middle.__getitem__)
    its = max((mode for mode in modes if mode[0] != "sadari"), key=middle.__getitem__)
    ratio = statistics.median(a / b for a, b in zip(found[best], found[its], strict=True))
    row = {f"{name}_{threads}_thread{'s' * (threads > 1)}": round(middle[name, threads], 1)
           for name, threads in modes}  # fmt: skip
    row |= {
        "ratio": round(ratio, 3), "rounds": ROUNDS, "torch": torch.__version__,
        "transformers": transformers.__version__, "machine": f"{platform.machine()}, {CORES} core(s)",
    }  # fmt: skip
    print(" ".join(f"{name}={value}" for name, value in row.items()))
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    assert ratio >= GOAL, f"slower than the goal: {row}"


if __name__ == "__main__":
    main()
