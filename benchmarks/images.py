"""Pictures: answering photos against the engines that do nothing else, and training a small ResNet.

Answering: AlexNet, VGG16 and ResNet-50 at 224 pixels, weights of chance, norms stirred, 1 and 16 photos at a
time. Ours is `ImageTask.outputs` from pixels on, as `run.predict` calls it; engine is what it calls with
engine="openvino" (`sadari.engines_pictures`), from pixels on too; each peer is given the pixels
scaled by the same function, in its own best form. All have the same weights, so give the same logits.

onnxruntime   its processor provider; fp32 only, as it has no bf16 here
openvino      from the same ONNX file, hint LATENCY, in fp32 or bf16
compiled      torch.compile with freezing (inductor), channels last; what torchvision's network becomes is the
              same, as its layers are
eager         torch as it is; channels last in bf16
ratio         our photos a second over those of the fastest peer, the median of the rounds' own ratios
ratio_engine  those of engine, likewise
gap           largest difference to the logits of eager fp32, over the largest logit: of bf16, what it costs;
              gap_engine is that of engine, gap_peers the largest of the peers
agree         share of photos whose likeliest class stays what it is in fp32

Training: ResNet-18 with a 3 x 3 stem and no pooling on 32 x 32, batches of 64, AdamW. Ours is the loop's own
step from pixels on, in the number format that it chooses by itself (`precision`), with freed memory kept, as
it has it; the peers' is what their users write, from pictures in float32: logits, torch's cross_entropy,
backward, torch.optim.AdamW(fused=True).

ours, cropped  pictures a second without and with the loop's usual random crops
eager ...      contiguous fp32; channels last in fp32, and in bf16 by autocast
ratio          ours over eager contiguous fp32, the median of the rounds' own ratios
loss_gap       largest difference of the losses of 20 steps to those of eager channels last in the same number
               format; loss_gap_layout is that of eager fp32's two layouts, which rounding alone sets apart
waiting        share of our step's time until its batch is there

A peer that is not installed is left out, and said to be. Rounds are interleaved.

    pip install onnxruntime 'sadari[openvino]'
    python benchmarks/images.py              writes benchmarks/results/images.csv and images_training.csv
    python benchmarks/images.py --quick      2 rounds, nothing compiled; writes nothing
"""

from __future__ import annotations

import contextlib
import copy
import csv
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sadari import probe
from sadari.batches import make_batches
from sadari.data.spec_images import ImageSpec
from sadari.engines_pictures import OpenVINO, package
from sadari.heap import kept_memory
from sadari.losses import make_loss
from sadari.models import alexnet, resnet, vgg
from sadari.optim import make_optimizer
from sadari.runs import Run
from sadari.tasks_images import ImageTask
from sadari.train import TrainConfig

SIZE, CLASSES, BATCHES, ROUNDS, SECONDS = 224, 1000, (1, 16), 5, 0.5
NETWORKS: dict[str, tuple[Any, Any]] = {
    "alexnet": (alexnet.AlexNet, alexnet.AlexNetConfig("alexnet")),
    "vgg16": (vgg.VGG, vgg.VGGConfig("vgg16")),
    "resnet50": (resnet.ResNet, resnet.ResNetConfig("resnet50")),
}
OURS = ("ours", "engine")
PEERS = ("onnxruntime", "openvino", "compiled", "eager")
GOAL, TRAINING_GOAL, WAITING_GOAL, EQUAL = 0.95, 2.1, 0.05, 1e-4
SMALL, BATCH, STEPS, WARM, TIMED, RATE = 32, 64, 20, 2, 6, 1e-3
LOSS_GAPS = {"fp32": 1e-2, "bf16": 0.2}  # in nats, of losses from 2.3 down
CORES = int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
RESULTS = Path(__file__).parent / "results"
QUICK = "--quick" in sys.argv

Way = Callable[[Tensor], np.ndarray]
"""Logits (B, O) of pixels (B, H, W, C)."""


def spec_of(size: int, classes: int) -> ImageSpec:
    """How pixels become numbers, as for ImageNet."""
    return ImageSpec(
        image="photo", target="thing", classes=tuple(f"class {i}" for i in range(classes)), size=size,
        fit="crop", channels=3, mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225),
    )  # fmt: skip


def stirred(network: Any, config: Any) -> nn.Module:
    """Weights of chance, and norms that do something, as after training."""
    torch.manual_seed(0)
    model = network(config, (3, SIZE, SIZE), CLASSES)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval().to(memory_format=torch.channels_last)


def ours(model: nn.Module, task: ImageTask, precision: str) -> Way:
    def answer(pixels: Tensor) -> np.ndarray:
        with torch.inference_mode():
            return task.outputs(model, pixels, precision).numpy()

    return answer


def engine_way(model: nn.Module, task: ImageTask, precision: Any, batch: int) -> Way:
    """As `run.predict(..., engine="openvino")` has it."""
    about = {"rung": "network", "kind": "images", "task": "classify"}
    run = Run(Path(), about, {}, task.spec, model, task)
    engine = OpenVINO(run, precision, batch)

    def answer(pixels: Tensor) -> np.ndarray:
        return engine.logits(pixels.numpy())

    return answer


def eager(model: nn.Module, task: ImageTask, precision: str) -> Way:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    form = torch.channels_last if precision == "bf16" else torch.contiguous_format
    copied = copy.deepcopy(model).to(dtype=dtype, memory_format=form)

    def answer(pixels: Tensor) -> np.ndarray:
        with torch.inference_mode():
            return copied(task.tensors(pixels).to(dtype=dtype, memory_format=form)).float().numpy()

    return answer


def compiled(model: nn.Module, task: ImageTask, precision: str) -> Way:
    import torch._inductor.config

    torch._inductor.config.freezing = True
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    fast = torch.compile(copy.deepcopy(model).to(dtype), dynamic=False)

    def answer(pixels: Tensor) -> np.ndarray:
        with torch.no_grad():
            return fast(task.tensors(pixels).to(dtype)).float().numpy()

    return answer


def written(model: nn.Module, folder: Path) -> str:
    """The network as an ONNX file, for any number of pictures."""
    file = str(folder / "model.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            copy.deepcopy(model).to(memory_format=torch.contiguous_format), (torch.randn(1, 3, SIZE, SIZE),),
            file, input_names=["x"], output_names=["y"], dynamo=False,
            dynamic_axes={"x": {0: "b"}, "y": {0: "b"}},
        )  # fmt: skip
    return file


def onnxruntime_way(file: str, task: ImageTask) -> Way:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def answer(pixels: Tensor) -> np.ndarray:
        return session.run(None, {"x": task.tensors(pixels).contiguous().numpy()})[0]

    return answer


def openvino_way(file: str, task: ImageTask, precision: str, batch: int) -> Way:
    openvino = package()
    model = openvino.Core().read_model(file)
    model.reshape([batch, 3, SIZE, SIZE])
    hints = {
        "INFERENCE_NUM_THREADS": CORES, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }  # fmt: skip
    request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()

    def answer(pixels: Tensor) -> np.ndarray:
        return request.infer({0: task.tensors(pixels).contiguous().numpy()})[0]

    return answer


def timed(way: Way, pixels: Tensor) -> float:
    """Pictures a second, over `SECONDS` or a few calls."""
    began, calls = time.perf_counter(), 0
    while not calls or (time.perf_counter() - began < SECONDS and calls < 16):
        way(pixels)
        calls += 1
    return calls * len(pixels) / (time.perf_counter() - began)


def answering(name: str, there: dict[str, bool], rounds: int) -> list[dict[str, Any]]:
    """The rows of one network."""
    spec = spec_of(SIZE, CLASSES)
    task = ImageTask("classify", make_loss("cross-entropy", classes=CLASSES), spec)
    model = stirred(*NETWORKS[name])
    random = torch.Generator().manual_seed(0)
    photos = torch.randint(256, (max(BATCHES), SIZE, SIZE, 3), dtype=torch.uint8, generator=random)
    truth = eager(model, task, "fp32")(photos)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = written(model, Path(folder)) if there["onnxruntime"] or there["openvino"] else ""
        for precision in ("fp32", "bf16"):
            for batch in BATCHES:
                pixels = photos[:batch]
                ways = {"ours": ours(model, task, precision)}
                if there["onnxruntime"] and precision == "fp32":
                    ways["onnxruntime"] = onnxruntime_way(file, task)
                if there["openvino"]:
                    ways["engine"] = engine_way(model, task, precision, batch)
                    ways["openvino"] = openvino_way(file, task, precision, batch)
                if there["compiled"]:
                    ways["compiled"] = compiled(model, task, precision)
                ways["eager"] = eager(model, task, precision)
                rows.append({"network": name, "batch": batch, "precision": precision})
                rows[-1] |= compared(ways, pixels, truth[:batch], rounds)
                print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
                torch.compiler.reset()
    return rows


def compared(ways: dict[str, Way], pixels: Tensor, truth: np.ndarray, rounds: int) -> dict[str, Any]:
    """Rates of all ways, ours over the fastest peer's, and how far each answer is from the truth."""
    gaps, same = {}, {}
    for name, way in ways.items():
        way(pixels)
        found = way(pixels)
        gaps[name] = float(np.abs(found - truth).max() / np.abs(truth).max())
        same[name] = float((found.argmax(1) == truth.argmax(1)).mean())
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(timed(way, pixels))
    middle = {name: statistics.median(found) for name, found in rates.items()}
    fastest = max((name for name in ways if name not in OURS), key=middle.__getitem__)
    row: dict[str, Any] = {name: round(middle[name], 2) if name in ways else "" for name in (*OURS, *PEERS)}
    row["fastest"] = fastest
    for name, end in zip(OURS, ("", "_engine"), strict=True):
        ratios = [a / b for a, b in zip(rates.get(name, ()), rates[fastest], strict=name in rates)]
        row[f"ratio{end}"] = round(statistics.median(ratios), 3) if ratios else ""
    for name, end in zip(OURS, ("", "_engine"), strict=True):
        row[f"gap{end}"] = f"{gaps.pop(name):.1e}" if name in gaps else ""
    return row | {"gap_peers": f"{max(gaps.values()):.1e}", "agree": round(same["ours"], 3)}


def small() -> nn.Module:
    """ResNet-18 as it is used for 32 x 32: 3 x 3 first, no pooling."""
    resnet.VARIANTS["resnet18-32"] = replace(resnet.VARIANTS["resnet18"], small=True)
    torch.manual_seed(0)
    model = resnet.ResNet(resnet.ResNetConfig("resnet18-32"), (3, SMALL, SMALL), 10)
    return model.to(memory_format=torch.channels_last)


def lessons(count: int) -> dict[str, Tensor]:
    """Pictures of ten classes that can be learnt: each has a tint of its own under noise."""
    random = torch.Generator().manual_seed(0)
    targets = torch.randint(10, (count,), generator=random)
    tints = torch.randint(64, 192, (10, 1, 1, 3), generator=random)
    noise = torch.randint(-60, 60, (count, SMALL, SMALL, 3), generator=random)
    return {"features": (tints[targets] + noise).clamp(0, 255).to(torch.uint8), "targets": targets}


class Ours:
    """The loop's step, with the share of its time in which it waits for a batch."""

    def __init__(self, task: ImageTask, arrays: dict[str, Tensor], precision: Any, augment: str) -> None:
        self.model, self.task = small().train(), task
        self.config = TrainConfig(
            augment=augment, batch_size=BATCH, learning_rate=RATE, weight_decay=0.0, precision=precision
        )
        self.batches = make_batches(self.model, task, arrays, self.config)
        task.configure(self.config)
        self.precision: str = precision
        if precision == "auto":
            self.precision = probe.choose_precision(self.model, task, self.batches, self.config, {})
        self.backward = probe.in_precision(self.precision, task.backward, torch.device("cpu"))
        self.optimizer = make_optimizer(self.model, self.config, RATE, per_epoch=self.batches.per_epoch)

    def run(self, steps: int) -> tuple[list[float], float, float]:
        """Losses, seconds, and seconds of them spent waiting."""
        self.task.configure(self.config)
        losses, waited, began = [], 0.0, time.perf_counter()
        coming = self.batches.epoch()
        for _ in range(steps):
            asked = time.perf_counter()
            batch = next(coming)
            waited += time.perf_counter() - asked
            losses.append(self.backward(self.model, batch)["loss"])
            self.optimizer.step(1.0)
        return [loss.item() for loss in losses], time.perf_counter() - began, waited


class Theirs:
    """What a user of torch writes."""

    def __init__(self, task: ImageTask, arrays: dict[str, Tensor], form: Any, bf16: bool) -> None:
        self.model, self.bf16 = small().to(memory_format=form).train(), bf16
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
        feed = make_batches(self.model, task, arrays, TrainConfig(batch_size=BATCH)).epoch()
        self.batches = [
            (task.tensors(batch["features"]).contiguous(memory_format=form), batch["targets"].clone())
            for batch in feed
        ]

    def run(self, steps: int) -> tuple[list[float], float, float]:
        """Losses and seconds."""
        losses, began = [], time.perf_counter()
        for pictures, targets in self.batches[:steps]:
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                loss = F.cross_entropy(self.model(pictures), targets)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.detach())
        return [loss.item() for loss in losses], time.perf_counter() - began, 0.0


def training(rounds: int) -> dict[str, Any]:
    """The row of the training table."""
    task = ImageTask("classify", make_loss("cross-entropy", classes=10), spec_of(SMALL, 10))
    arrays = lessons(STEPS * BATCH)
    plain, last = torch.contiguous_format, torch.channels_last
    eager = Theirs(task, arrays, plain, False).run(STEPS)[0]
    truth = {name: Theirs(task, arrays, last, name == "bf16").run(STEPS)[0] for name in LOSS_GAPS}
    curves = {name: Ours(task, arrays, name, "none").run(STEPS)[0] for name in LOSS_GAPS}
    assert eager[-1] < eager[0] - 0.3, "nothing was learnt"
    ways: dict[str, Any] = {
        "ours": Ours(task, arrays, "auto", "none"),
        "cropped": Ours(task, arrays, "auto", "auto"),
        "eager": Theirs(task, arrays, plain, False),
        "eager_channels_last": Theirs(task, arrays, last, False),
        "eager_channels_last_bf16": Theirs(task, arrays, last, True),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    waiting = []
    for i in range(rounds + 1):
        for name, way in ways.items():
            with kept_memory() if isinstance(way, Ours) else contextlib.nullcontext():
                way.run(WARM)
                _, seconds, waited = way.run(TIMED)
            if i:  # the first round warms up
                rates[name].append(TIMED * BATCH / seconds)
                waiting += [waited / seconds] if name == "ours" else []
    ratios = [a / b for a, b in zip(rates["ours"], rates["eager"], strict=True)]
    row: dict[str, Any] = {"network": "resnet18", "size": SMALL, "batch": BATCH}
    row |= {"precision": ways["ours"].precision}
    row |= {name: round(statistics.median(found), 1) for name, found in rates.items()}
    row |= {"ratio": round(statistics.median(ratios), 3), "waiting": round(statistics.median(waiting), 4)}
    pairs = {name: (curve, truth[name]) for name, curve in curves.items()} | {
        "layout": (truth["fp32"], eager)
    }
    for name, (one, other) in pairs.items():
        row[f"loss_gap_{name}"] = f"{max(abs(a - b) for a, b in zip(one, other, strict=True)):.1e}"
    return row


def write(path: Path, rows: list[dict[str, Any]], rounds: int) -> None:
    """A table with what it was measured on."""
    versions = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("torch", "onnxruntime", "openvino")
        if importlib.util.find_spec(name)
    ]
    about = {"rounds": rounds, "versions": " ".join(versions)}
    about["machine"] = f"{platform.machine()}, {CORES} core(s)"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *about])
        writer.writeheader()
        writer.writerows(row | about for row in rows)


def missed(rows: list[dict[str, Any]], learnt: dict[str, Any]) -> list[str]:
    """The goals that were not reached."""
    found = []
    for row in rows:
        case = f"{row['network']} {row['precision']}, {row['batch']} at a time"
        best = max(row["ratio"], row["ratio_engine"] or 0.0)
        if best < GOAL:
            found.append(f"{case}: {best} of {row['fastest']}, goal {GOAL}")
        if row["precision"] == "fp32" and float(row["gap"]) > EQUAL:
            found.append(f"{case}: logits differ by {row['gap']}")
    if learnt["ratio"] < TRAINING_GOAL:
        found.append(f"training: {learnt['ratio']} times eager, goal {TRAINING_GOAL}")
    if learnt["waiting"] > WAITING_GOAL:
        found.append(f"training waits for data {learnt['waiting']:.1%} of the time, goal {WAITING_GOAL:.0%}")
    for name, most in LOSS_GAPS.items():
        if float(learnt[f"loss_gap_{name}"]) > most:
            found.append(f"training in {name}: losses differ by {learnt[f'loss_gap_{name}']}, at most {most}")
    return found


def main() -> None:
    torch.set_num_threads(CORES)
    rounds = 2 if QUICK else ROUNDS
    there = {name: importlib.util.find_spec(name) is not None for name in ("onnx", *PEERS[:2])}
    for name in (name for name, found in there.items() if not found):
        print(f"{name} is not installed; what needs it stays empty (pip install {name})")
    there = {name: there[name] and there["onnx"] for name in PEERS[:2]}
    there["compiled"] = not QUICK and shutil.which(os.environ.get("CXX", "g++")) is not None
    learnt = training(rounds)
    print(" ".join(f"{key}={value}" for key, value in learnt.items()), flush=True)
    rows = [row for name in NETWORKS for row in answering(name, there, rounds)]
    if QUICK:
        return
    write(RESULTS / "images.csv", rows, rounds)
    write(RESULTS / "images_training.csv", [learnt], rounds)
    short = missed(rows, learnt)
    assert not short, "goals missed: " + "; ".join(short)


if __name__ == "__main__":
    main()
