"""Small networks against scikit-learn's MLPRegressor and MLPClassifier: milliseconds an epoch, and the score.

Same rows, architecture, batch size, epochs and optimizer (Adam at a constant rate of 1e-3, no decay). One fit
is one call of `sadari.train.train` with a run folder, as a user's is, against one call of `fit` in
scikit-learn's best mode: float32 or float64 input, one thread or all, whichever a pilot finds fastest.

ratio            one network, without validation rows on either side, so that both do the same steps
validated_ratio  the same, with further rows (2,000; of the digits 200) evaluated every epoch by ours alone
ten_ratio        ten networks (seeds, each with batches of its own) in one stack against ten of its fits
score            R^2 or accuracy on held-out rows, the mean over all fits

Rounds are interleaved. A time is the median over rounds, a ratio the median of the rounds' own ratios.

    python benchmarks/networks.py                 writes benchmarks/results/networks.csv
    taskset -c 0 python benchmarks/networks.py    on one core, steadier on a busy machine
"""

from __future__ import annotations

import csv
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from threadpoolctl import threadpool_limits
from torch import nn

from sadari.layers.stack import Stack
from sadari.losses import Loss, make_loss
from sadari.models.deep import Deep, DeepConfig
from sadari.models.shallow import Shallow, ShallowConfig
from sadari.tasks import TableTask
from sadari.train import TrainConfig, train

ROUNDS, MEMBERS = 5, 10
PAUSE = 0.2  # seconds before either fit, until the threads that the last one left waiting are asleep
GOAL_ONE, GOAL_TEN = 1.0, 0.35
SCORE_NOISE = 0.004  # two of the 497 held-out digits
RESULTS = Path(__file__).parent / "results" / "networks.csv"
CORES = len(os.sched_getaffinity(0))

Rows = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """One architecture on one table."""

    name: str
    layers: tuple[int, ...]
    batch: int
    epochs: int
    data: Callable[[], tuple[Rows, Rows, Rows]]
    """Training, validation and held-out rows."""
    task: str = "regress"

    @property
    def loss(self) -> Loss:
        return make_loss("squared") if self.task == "regress" else make_loss("cross-entropy", classes=10)

    def network(self, inputs: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        width, outputs = self.layers[0], self.loss.outputs
        if len(self.layers) == 1:
            return Shallow(ShallowConfig(width=width), inputs, outputs)
        return Deep(DeepConfig(width=width, layers=len(self.layers)), inputs, outputs)


def waves() -> tuple[Rows, Rows, Rows]:
    """20,000 rows of 50 features; the target bends along four directions, a tenth of it is noise."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((27_000, 50)).astype(np.float32)
    along = features @ (rng.standard_normal((50, 4)) / 50**0.5).astype(np.float32)
    target = np.sin(2 * along[:, 0]) + along[:, 1] * along[:, 2] + np.abs(along[:, 3])
    target = (target - target.mean()) / target.std() + 0.33 * rng.standard_normal(27_000)
    return cut(features, target.astype(np.float32), 20_000, 2_000)


def digits() -> tuple[Rows, Rows, Rows]:
    """1,797 handwritten digits of 8 x 8 pixels, real data that scikit-learn brings along."""
    features, target = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(target))
    features = ((features - features.mean(0)) / (features.std(0) + 1e-9)).astype(np.float32)
    return cut(features[order], target[order].astype(np.int64), 1_100, 200)


def cut(features: np.ndarray, target: np.ndarray, *sizes: int) -> tuple[Rows, Rows, Rows]:
    bounds = [0, *np.cumsum(sizes), len(target)]
    parts = [slice(a, b) for a, b in pairwise(bounds)]
    x, y = torch.from_numpy(features), torch.from_numpy(target)
    first, second, third = ({"features": x[p].contiguous(), "targets": y[p].contiguous()} for p in parts)
    return first, second, third


CASES = (
    Case("50-100-1", (100,), 200, 20, waves),
    Case("50-100-1", (100,), 32, 10, waves),
    Case("50-128-128-1", (128, 128), 200, 10, waves),
    Case("digits 64-100-10", (100,), 200, 50, digits, "classify"),
    Case("digits 64-100-10", (100,), 32, 50, digits, "classify"),
)


def sadari_fit(
    case: Case, rows: Rows, validation: Rows, held_out: Rows, seeds: list[int]
) -> tuple[float, float, int]:
    """Train one network a seed, together: seconds, mean held-out score, the threads that the loop chose."""
    inputs, count = rows["features"].shape[1], len(rows["targets"])
    torch.set_num_threads(CORES)  # the loop takes fewer where more would not pay
    time.sleep(PAUSE)
    began = time.perf_counter()
    model = Stack.of([case.network(inputs, seed) for seed in seeds])
    config = TrainConfig(
        batch_size=case.batch, epochs=case.epochs, schedule="constant", warmup=0.0, weight_decay=0.0,
        patience=0, precision="fp32", seed=seeds[0],
    )  # fmt: skip
    own = None if len(seeds) == 1 else [torch.arange(count)] * len(seeds)
    with tempfile.TemporaryDirectory() as folder:
        task = TableTask(case.task, case.loss)
        trained = train(model, task, rows, validation, config, folder=Path(folder), rows=own)
    seconds = time.perf_counter() - began
    model.eval()
    answers, truth = model(held_out["features"]), held_out["targets"]
    if case.task == "classify":
        score = (answers.argmax(-1) == truth).double().mean().item()
    else:
        score = 1 - ((answers[..., 0] - truth).square().mean() / truth.var(correction=0)).item()
    return seconds, score, trained.settled["threads"]


def sklearn_fit(
    case: Case, rows: Rows, held_out: Rows, seed: int, mode: tuple[str, int], epochs: int
) -> tuple[float, float]:
    """Seconds of one fit and its score; mode is the type of the input and the threads it may use."""
    dtype, threads = mode
    features, target = rows["features"].numpy().astype(dtype), rows["targets"].numpy()
    target = target if case.task == "classify" else target.astype(dtype)
    kind = MLPClassifier if case.task == "classify" else MLPRegressor
    network = kind(
        hidden_layer_sizes=case.layers, batch_size=case.batch, max_iter=epochs, tol=0,
        n_iter_no_change=epochs + 1, random_state=seed,
    )  # fmt: skip
    time.sleep(PAUSE)
    with threadpool_limits(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is what is asked for
        began = time.perf_counter()
        network.fit(features, target)
        seconds = time.perf_counter() - began
    assert network.n_iter_ == epochs
    return seconds, network.score(held_out["features"].numpy().astype(dtype), held_out["targets"].numpy())


def compare(case: Case) -> dict[str, object]:
    """All rounds of one case, as a row of the table."""
    rows, validation, held_out = case.data()
    modes = [(dtype, threads) for dtype in ("float32", "float64") for threads in sorted({1, CORES})]
    pilot = {mode: min(sklearn_fit(case, rows, held_out, 0, mode, 2)[0] for _ in range(3)) for mode in modes}
    best = min(pilot, key=lambda mode: pilot[mode])
    sadari_fit(case, rows, {}, held_out, [0])  # warm up
    ones, checked, tens, theirs = [], [], [], []
    for seed in range(ROUNDS):
        theirs.append(sklearn_fit(case, rows, held_out, seed, best, case.epochs))
        ones.append(sadari_fit(case, rows, {}, held_out, [seed]))
        seeds = [100 + seed * MEMBERS + k for k in range(MEMBERS)]
        tens.append(sadari_fit(case, rows, {}, held_out, seeds))
        checked.append(sadari_fit(case, rows, validation, held_out, [seed]))

    def epoch_ms(fits: list) -> float:
        return round(statistics.median(fit[0] for fit in fits) / case.epochs * 1e3, 3)

    def ratio(fits: list, times: int = 1) -> float:
        return round(statistics.median(a[0] / (times * b[0]) for a, b in zip(fits, theirs, strict=True)), 3)

    return {
        "network": case.name, "rows": len(rows["targets"]), "batch": case.batch, "epochs": case.epochs,
        "sadari_epoch_ms": epoch_ms(ones), "sklearn_epoch_ms": epoch_ms(theirs), "ratio": ratio(ones),
        "validated_ratio": ratio(checked), "ten_epoch_ms": epoch_ms(tens), "ten_ratio": ratio(tens, MEMBERS),
        "sadari_score": round(statistics.mean(fit[1] for fit in ones), 4),
        "ten_score": round(statistics.mean(fit[1] for fit in tens), 4),
        "sklearn_score": round(statistics.mean(fit[1] for fit in theirs), 4),
        "metric": "R2" if case.task == "regress" else "accuracy",
        "sadari_dtype": "float32", "sadari_threads": ones[0][2], "ten_threads": tens[0][2],
        "sklearn_dtype": best[0], "sklearn_threads": best[1], "rounds": ROUNDS,
        "torch": torch.__version__, "sklearn": sklearn.__version__,
        "machine": f"{platform.machine()}, {CORES} core(s)",
    }  # fmt: skip


def main() -> None:
    table = []
    for case in CASES:
        row = compare(case)
        table.append(row)
        print(
            "{network:18} batch {batch:3} {sadari_epoch_ms:6.2f} ms an epoch, its {sklearn_epoch_ms:6.2f}; "
            "one {ratio:.2f} (validated {validated_ratio:.2f}), ten {ten_ratio:.2f}; "
            "{metric} {sadari_score:.4f} (ten {ten_score:.4f}) against {sklearn_score:.4f}".format(**row),
            flush=True,
        )
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    for row in table:
        assert row["ratio"] <= GOAL_ONE, f"slower than the goal: {row}"
        # on one core 50-128-128-1 cannot: its products alone, at 100 GFLOP/s, take 0.38 of the other's time
        assert CORES == 1 or row["ten_ratio"] <= GOAL_TEN, f"ten together are slower than the goal: {row}"
        assert row["ten_score"] >= row["sklearn_score"] - SCORE_NOISE, f"a worse score than its: {row}"


if __name__ == "__main__":
    main()
