"""How many labels until the next rung pays: emoji by category, from none at all to every one.

Zero-shot reads no label: locked towers that learnt from the captions of the training emoji are asked by the
names of the categories. The others learn from a part of the labelled training pictures, the same for all, as
many of each category as there are by nature; the test pictures are all the climb's, and hold none of the same
emoji.

accuracy   of the test pictures, per cent

    sadari data get emoji-artists; sadari data get efficientnet-lite0; sadari data get minilm
    python benchmarks/labels.py [TOWERS [BUDGET]]   writes benchmarks/results/labels.csv; TOWERS: the run of
                                                    `sadari fit locked emoji-captions`, else fitted in 150 s
"""

from __future__ import annotations

import csv
import platform
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sadari.data.prepare import Prepared, prepare
from sadari.fitting import fit

COUNTS = (45, 180, 720, 0)  # labels; 0: all
RUNGS = ("shallow", "resnet", "retrieval", "probe", "fine-tune")
RESULTS = Path(__file__).parent / "results" / "labels.csv"


def some(prepared: Prepared, count: int) -> Prepared:
    """The same data with so many of its training rows, drawn once."""
    train: Any = prepared.train
    total = len(train.targets)
    rows = np.sort(np.random.default_rng(0).permutation(total)[: count or total])
    part = replace(train, features=train.features[rows], targets=train.targets[rows])
    return replace(prepared, train=part, split=replace(prepared.split, train=prepared.split.train[rows]))


def accuracy(rung: str, prepared: Prepared, budget: str, **model: Any) -> float:
    with tempfile.TemporaryDirectory() as folder:
        run = fit(
            rung, prepared.table, prepared=prepared, budget=budget, model=model, out=Path(folder) / "run"
        )
        own = prepared
        if hasattr(type(run.model), "pictures"):
            from sadari.data.prepare_images import resized

            spec: Any = prepared.spec
            own = resized(prepared, **type(run.model).pictures(run.model.config, spec.size))
        test: Any = own.test
        return 100 * float((run.answers(test).argmax(1) == test.targets).mean())


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    budget = sys.argv[2] if len(sys.argv) > 2 else "30s"
    whole = prepare("emoji")
    table: list[dict[str, object]] = []

    def tell(rung: str, labels: int, value: float) -> None:
        table.append({"rung": rung, "labels": labels, "accuracy": round(value, 1), "budget": budget})
        print(" ".join(f"{name}={each}" for name, each in table[-1].items()), flush=True)

    test: Any = whole.test
    tell("prior", 0, 100 * float(np.bincount(test.targets).max() / len(test.targets)))
    with tempfile.TemporaryDirectory() as folder:
        towers = sys.argv[1] if len(sys.argv) > 1 else f"{folder}/towers"
        if len(sys.argv) < 2:
            fit("locked", "emoji-captions", budget="150s", out=towers)
        tell("zero-shot", 0, accuracy("zero-shot", whole, budget, towers=towers, calibrate=False))
    for count in COUNTS:
        part = some(whole, count)
        for rung in RUNGS:
            tell(rung, len(part.split.train), accuracy(rung, part, budget))
    about = {"torch": torch.__version__, "machine": f"{platform.machine()}, 1 thread"}
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*table[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in table)


if __name__ == "__main__":
    main()
