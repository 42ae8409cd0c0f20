"""Softmax against sigmoid by batch size: does a sigmoid suffer less where batches are small?

SigLIP (2303.15343, fig. 2) says so of training from nothing at scale. Here rung `locked` learns from emoji
and what they are called, by either loss, at each batch size for the same seconds; its towers are the same and
have answered once, so that nearly all the time goes into what is compared. Settings are the rung's own.

softmax, sigmoid   recall@1 in per cent of the test part, both ways, both languages; mean and 95 % of three
sigmoid_gain       sigmoid's minus softmax's, of the same seed and batch

    sadari data get emoji-artists; sadari data get efficientnet-lite0; sadari data get minilm
    python benchmarks/match_batches.py [SECONDS]      writes benchmarks/results/match_batches.csv
"""

from __future__ import annotations

import csv
import platform
import statistics
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from sadari.batches_captions import caption_tensors
from sadari.data.prepare import prepare
from sadari.fitting import plan_fit
from sadari.metrics.match import summary
from sadari.models.locked import Lines
from sadari.scoring import found_ranks
from sadari.tasks import build, make_task
from sadari.tasks_images import Pictures
from sadari.train import train

BATCHES, SEEDS, LOSSES = (64, 256, 1024, 2048), (0, 1, 2), ("softmax", "sigmoid")
T95 = 4.303  # Student's t for two degrees of freedom
RESULTS = Path(__file__).parent / "results" / "match_batches.csv"


def spread(values: list[float]) -> str:
    half = T95 * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.2f} ({-half:+.2f} to {half:+.2f})"


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    prepared = prepare("emoji-captions")
    plan = plan_fit("locked", prepared.table, prepared=prepared)
    spec: Any = plan.prepared.spec
    parts: list[Any] = [plan.prepared.train, plan.prepared.validation, plan.prepared.test]

    def made(seed: int, contrast: str) -> Any:
        model = {**plan.config["model"], "contrast": contrast}
        return build("locked", "match", model, spec.width, plan.task.loss, seed, "captions")

    first = made(0, "softmax")
    first.fill()
    named = [caption_tensors(part) for part in parts]
    pictures = [Pictures(part["features"], spec.pictures) for part in named]
    kept = first.kept(pictures, [part["tokens"] for part in named])
    assert kept is not None
    held, features, rows = kept
    for part, seen, said in zip(named, features, rows, strict=True):
        part |= {"features": seen, "tokens": said}
    task = make_task("captions", "match", plan.task.loss, spec)

    def recall(seed: int, contrast: str, batch: int) -> tuple[float, int]:
        lines = Lines(made(seed, contrast), held.vectors)
        config = replace(plan.training, batch_size=batch, budget_seconds=seconds, seed=seed, patience=0)
        steps = train(lines, task, named[0], named[1], config).steps
        with torch.inference_mode():
            image = F.normalize(lines.eval().encode_image(features[2]), dim=-1).numpy()
            text = F.normalize(lines.encode_text(rows[2]), dim=-1).numpy()
        return 100 * summary(found_ranks(image, text, parts[2]))["recall@1"], steps

    table = []
    for batch in BATCHES:
        found: dict[str, list[float]] = {name: [] for name in LOSSES}
        taken: dict[str, list[int]] = {name: [] for name in LOSSES}
        for seed in SEEDS:
            for name in LOSSES:
                score, steps = recall(seed, name, batch)
                found[name].append(score)
                taken[name].append(steps)
        row: dict[str, object] = {"batch": batch, "seconds": seconds}
        for name in LOSSES:
            row |= {name: spread(found[name]), f"{name}_steps": round(statistics.mean(taken[name]))}
        row["sigmoid_gain"] = spread([b - a for a, b in zip(*found.values(), strict=True)])
        table.append(row)
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
    about = {"torch": torch.__version__, "machine": f"{platform.machine()}, 1 thread"}
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*table[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in table)


if __name__ == "__main__":
    main()
