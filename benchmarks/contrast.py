"""The losses of pictures and words: forward and backward, ours in tiles against open_clip's own, fp32.

B pairs of random embeddings of width 512 and length 1. Ours are `sadari.layers.contrast.softmax_loss` and
`sigmoid_loss`; theirs are open_clip's `ClipLoss` and `SigLipLoss` as its users call them, in one process.
Each gets the same embeddings, scale and bias, and is asked for the gradients of all of these.

ours_ms, theirs_ms   wall time of a loss and its gradients, the median of interleaved rounds
ratio                ours over theirs, the median of the rounds' own ratios
cpu_ratio            the same of the processor time that all threads took, which other programs disturb less:
                     it is what `met` looks at, and with one thread it is the time on a machine of one's own
cpu_floor_ratio      processor time of ours over that of the floor
floor_ms             the three products that any way needs, B x 512 by 512 x B and twice back, as torch's mm
ours_mib, theirs_mib the most memory that one call held beyond what the process held before, in a process of
                     its own each, read by the kernel (VmHWM); the gradients are in it, 4 MiB a side at 1,024
gap                  largest difference of an element of any gradient to theirs, over the largest element of
                     theirs; gap64 and their_gap64: the same of ours and of theirs to theirs in float64
loss_gap             difference of the losses over theirs
met                  gradients equal to 1e-4; at most 1.0 of the time at 1,024 to 4,096 and 0.75 from 8,192
                     up; at most a tenth of the memory at 16,384

scale 14.3 is where CLIP starts, 100 where it is held; SigLIP starts at 10 with bias -10.

    pip install --no-deps open_clip_torch
    python benchmarks/contrast.py              writes benchmarks/results/contrast.csv
    python benchmarks/contrast.py --quick      up to 4,096 pairs, one round; writes nothing
"""

from __future__ import annotations

import csv
import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sadari.layers.contrast import sigmoid_loss, softmax_loss

WIDTH, ROUNDS = 512, {1024: 9, 2048: 7, 4096: 3, 8192: 1, 16384: 1}
CASES = (("softmax", 14.3, 0.0), ("sigmoid", 10.0, -10.0), ("softmax", 100.0, 0.0))
HELD = 8192  # pairs up to which scale 100 is measured too
TIMES, MEMORY, EQUAL = {1024: 1.0, 8192: 0.75, 16384: 0.75}, {16384: 0.1}, 1e-4
SMALL = 256  # pairs of the call that warms up
EXACT = 4096  # pairs up to which float64 is asked, which takes twice the memory again
QUICK = "--quick" in sys.argv
CORES = int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
RESULTS = Path(__file__).parent / "results" / "contrast.csv"

Way = Callable[[list[Tensor]], list[Tensor]]
"""The loss and its gradients towards image, text, scale and, for sigmoid, bias."""


def leaves(B: int, scale: float, bias: float) -> list[Tensor]:
    """Pairs a little alike, as early in training: of similarity 0.16 or so, so that no loss is near 0."""
    random = torch.Generator().manual_seed(0)
    image, noise = (F.normalize(torch.randn(B, WIDTH, generator=random)) for _ in range(2))
    text = F.normalize(image + 6 * noise)
    return [image, text, torch.tensor(scale), torch.tensor(bias)]


def graded(kind: str, loss: Callable[..., Tensor]) -> Way:
    def way(given: list[Tensor]) -> list[Tensor]:
        given = [each.detach().requires_grad_() for each in given[: 3 if kind == "softmax" else 4]]
        value = loss(*given)
        value.backward()
        return [value.detach(), *(each.grad for each in given if each.grad is not None)]

    return way


def ours(kind: str) -> Way:
    return graded(kind, softmax_loss if kind == "softmax" else sigmoid_loss)


def theirs(kind: str) -> Way:
    """open_clip's file of losses alone: the package around it wants torchvision, which the losses do not."""
    found = importlib.util.find_spec("open_clip")
    assert found is not None and found.submodule_search_locations, "pip install --no-deps open_clip_torch"
    file = Path(found.submodule_search_locations[0]) / "loss.py"
    spec = importlib.util.spec_from_file_location("open_clip_loss", file)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return graded(kind, module.ClipLoss() if kind == "softmax" else module.SigLipLoss())


def timed(way: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor milliseconds."""
    wall, processor = time.perf_counter(), time.process_time()
    way()
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - processor) * 1e3


def floor(given: list[Tensor]) -> None:
    image, text = given[:2]
    logits = image @ text.t()
    logits @ text
    logits.t() @ image


def peak(who: str, kind: str, B: int, scale: float, bias: float) -> float:
    """MiB that one call adds to a fresh process, warmed up by a small one."""
    given, way = leaves(B, scale, bias), ours(kind) if who == "ours" else theirs(kind)
    way(leaves(SMALL, scale, bias))
    ctypes.CDLL(None).malloc_trim(0)  # memory freed by now would be used again, and not be counted
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    way(given)
    return (resident("VmHWM") - before) / 1024


def resident(name: str) -> int:
    """KiB that the kernel says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def peaks(who: str, *given: Any) -> float:
    call = [sys.executable, __file__, "--peak", who, *map(str, given)]
    return float(subprocess.run(call, capture_output=True, text=True, check=True).stdout)


def gap(mine: list[Tensor], other: list[Tensor]) -> float:
    """Of gradients, element by element."""
    pairs = zip(mine[1:], other[1:], strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def measured(kind: str, scale: float, bias: float, B: int) -> dict[str, Any]:
    given, mine, other = leaves(B, scale, bias), ours(kind), theirs(kind)
    small = leaves(SMALL, scale, bias)
    ways: list[Callable[[], Any]] = [lambda: mine(given), lambda: other(given), lambda: floor(given)]
    for way in (mine, other, floor):
        way(small)
    rounds = [[timed(way) for way in ways] for _ in range(1 if QUICK else ROUNDS[B])]
    row: dict[str, Any] = {"loss": kind, "scale": scale, "pairs": B, "width": WIDTH}
    wall, processor = ([[time[k] for time in each] for each in rounds] for k in range(2))
    names = ("ours_ms", "theirs_ms", "floor_ms")
    row |= {name: statistics.median(each[k] for each in wall) for k, name in enumerate(names)}
    row["ratio"] = statistics.median(each[0] / each[1] for each in wall)
    row["cpu_ratio"] = statistics.median(each[0] / each[1] for each in processor)
    row["cpu_floor_ratio"] = statistics.median(each[0] / each[2] for each in processor)
    row |= {f"{who}_mib": peaks(who, kind, B, scale, bias) for who in ("ours", "theirs")}
    row["memory_ratio"] = row["ours_mib"] / row["theirs_mib"]
    a, b = mine(given), other(given)
    row |= {"gap": gap(a, b), "loss_gap": abs(float(a[0] / b[0] - 1)), "gap64": "", "their_gap64": ""}
    if B <= EXACT:
        exact = other([each.double() for each in given])
        row |= {"gap64": gap(a, exact), "their_gap64": gap(b, exact)}
    met = [
        row["gap"] <= EQUAL,
        row["cpu_ratio"] <= TIMES.get(B, 1.0),
        row["memory_ratio"] <= MEMORY.get(B, 2.0),
    ]
    return {**row, "met": "yes" if all(met) else "no"}


def main() -> None:
    if "--peak" in sys.argv:
        who, loss, pairs, *numbers = sys.argv[sys.argv.index("--peak") + 1 :]
        sys.stdout.write(f"{peak(who, loss, int(pairs), *map(float, numbers))}\n")
        return
    torch.set_num_threads(CORES)
    table = []
    for B in ROUNDS:
        for kind, scale, bias in CASES:
            if (QUICK and B > EXACT) or (scale == 100 and B > HELD):
                continue
            row = measured(kind, scale, bias, B)
            for name, value in row.items():
                if isinstance(value, float):
                    digits = ".1e" if "gap" in name else ".3f" if "ratio" in name else ".1f"
                    row[name] = format(value, digits)
            print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
            row |= {"rounds": ROUNDS[B], "torch": torch.__version__}
            row["open_clip"] = importlib.metadata.version("open_clip_torch")
            table.append({**row, "machine": f"{platform.machine()}, {CORES} thread(s)"})
            if not QUICK:
                write(table)


def write(table: list[dict[str, Any]]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
