"""What the loop costs: microseconds a step above the bare forward, backward and step.

Both do the same work on equally large batches: `task.backward`, then the optimizer. The loop also settles
what the config leaves open, shuffles, schedules the rate, sums losses, minds the clock, evaluates (one row),
keeps the best weights and logs to a folder: all from call to return is counted. Rounds are interleaved,
medians are kept; processor time of one thread, so that a busy machine counts less.

    python benchmarks/loop.py            writes benchmarks/results/loop.csv
"""

from __future__ import annotations

import csv
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from sadari.layers.stack import Stack
from sadari.losses import make_loss
from sadari.models.deep import Deep, DeepConfig
from sadari.models.line import Line, LineConfig
from sadari.models.shallow import Shallow, ShallowConfig
from sadari.optim import make_optimizer
from sadari.tasks import TableTask
from sadari.train import TrainConfig, train

ROWS, FEATURES, BATCH, STEPS, ROUNDS = 20_000, 50, 64, 3_000, 11
LIMIT = 10.0  # microseconds
RESULTS = Path(__file__).parent / "results" / "loop.csv"


def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "line, autograd": Line(LineConfig(), FEATURES, 1),
        "shallow 100, autograd": Shallow(ShallowConfig(), FEATURES, 1),
        "shallow 100, stack of 1": Stack.of([Shallow(ShallowConfig(), FEATURES, 1)]),
        "deep 2 x 100, stack of 1": Stack.of([Deep(DeepConfig(), FEATURES, 1)]),
        "deep 2 x 100, stack of 10": Stack.of([Deep(DeepConfig(), FEATURES, 1) for _ in range(10)]),
    }


def bare(
    model: nn.Module, task: TableTask, batches: list[dict[str, Tensor]], step: Callable[[], object]
) -> float:
    """Seconds of STEPS steps with nothing around them."""
    backward = task.backward
    model.train()
    began = time.process_time()
    for batch in batches:
        backward(model, batch)
        step()
    return time.process_time() - began


def ours(model: nn.Module, config: TrainConfig) -> Callable[[], object]:
    """A step of the loop's own optimizer."""
    optimizer = make_optimizer(model, config, config.learning_rate, per_epoch=ROWS // BATCH)
    return lambda: optimizer.step(1.0)


def torchs(model: nn.Module, config: TrainConfig) -> Callable[[], object]:
    """A step of torch's, in its fastest form."""
    return torch.optim.AdamW(model.parameters(), lr=config.learning_rate, fused=True).step


def looped(model, task, table, validation, config, folder) -> float:
    """Seconds that `train` takes for the same steps, from call to return."""
    began = time.process_time()
    train(model, task, table, validation, config, folder=folder)
    return time.process_time() - began


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, FEATURES, generator=generator)
    table = {"features": features, "targets": features[:, 0] * features[:, 1]}
    validation = {name: value[:1] for name, value in table.items()}
    order = torch.randperm(ROWS, generator=generator)
    epoch = [{n: v[order[i : i + BATCH]] for n, v in table.items()} for i in range(0, ROWS - BATCH, BATCH)]
    batches = [epoch[i % len(epoch)] for i in range(STEPS)]
    config = TrainConfig(batch_size=BATCH, budget_steps=STEPS, learning_rate=1e-4, patience=0, threads=1)
    task = TableTask("regress", make_loss("squared"))
    names = list(models())
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            fresh = [models()[name] for _ in range(3)]
            with tempfile.TemporaryDirectory() as folder:
                row = (
                    bare(fresh[0], task, batches, torchs(fresh[0], config)),
                    bare(fresh[1], task, batches, ours(fresh[1], config)),
                    looped(fresh[2], task, table, validation, config, Path(folder)),
                )
            times[name].append(tuple(seconds / STEPS * 1e6 for seconds in row))
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "model",
                "bare_torch_adamw_us",
                "bare_us",
                "loop_us",
                "overhead_us",
                "steps",
                "rounds",
                "torch",
                "machine",
            ]
        )
        for name, rows in times.items():
            usual, plain, whole = (statistics.median(column) for column in zip(*rows, strict=True))
            above = whole - plain
            row = [f"{value:.1f}" for value in (usual, plain, whole, above)]
            writer.writerow([name, *row, STEPS, ROUNDS, torch.__version__, f"{platform.machine()}, 1 thread"])
            print(
                f"{name:26} bare {plain:6.1f} (with torch's AdamW {usual:6.1f})  loop {whole:6.1f}  "
                f"overhead {above:4.1f} microseconds a step"
            )
            assert above < LIMIT, f"{name}: {above:.1f} microseconds a step; the limit is {LIMIT}"


if __name__ == "__main__":
    main()
