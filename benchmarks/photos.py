"""`sadari predict` for photos: how long a cold answer takes, and how fast a folder of them streams.

Photos are crops of scikit-learn's two, as JPEG files of some 640 x 430 pixels; the run is a ResNet-18 for
224 pixels, hardly trained, which takes as long as one that is.

cold        seconds of `sadari predict RUN photo.jpg` in a process of its own, from the shell's point of view
torch       seconds of `python -c "import torch"` likewise: what no program with torch goes without
answered    photos a second that `Run.predict` answers when all are decoded already: the model's speed
decoded     photos a second that are decoded and made 224 x 224, by as many threads as there are cores
streamed    photos a second of `predict_files` from a folder to a CSV file, decoding included
ratio       streamed over what answering and decoding one after the other allow
of_model    streamed over answered: what decoding costs

    python benchmarks/photos.py [PHOTOS]       writes benchmarks/results/photos.csv
"""

from __future__ import annotations

import csv
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

import sadari
from sadari.data.image_files import side_by_side
from sadari.predict.pictures import predict_files

ROUNDS, COLD = 5, 2.5
RESULTS = Path(__file__).parent / "results" / "photos.csv"


def write_photos(folder: Path, count: int) -> None:
    """Two classes of photos: crops of nine tenths of either, half of them turned round."""
    draw = np.random.default_rng(0)
    for name, pixels in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(count // 2):
            top, left = draw.integers(0, 43), draw.integers(0, 64)
            crop = pixels[top : top + 384, left : left + 576]
            crop = crop[:, ::-1] if number % 2 else crop
            Image.fromarray(crop).resize((640, 427)).save(folder / name / f"{number:04}.jpg", quality=90)


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def called(*words: str) -> Callable[[], object]:
    """A command in a process of its own."""
    return lambda: subprocess.run(words, check=True, capture_output=True)


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_photos(folder / "photos", count)
        run = sadari.fit(
            "resnet", folder / "photos", budget="2steps", out=folder / "run", reading={"size": 224}
        )
        paths = sorted((folder / "photos").rglob("*.jpg"))
        program = Path(sys.executable).with_name("sadari")
        cold = called(str(program), "predict", str(folder / "run"), str(paths[0]))
        imported = called(sys.executable, "-c", "import torch")
        pixels = np.stack([run.spec.decode(path) for path in paths[:64]])
        names = ("cold", "torch", "answered", "decoded", "streamed")
        held: dict[str, list[float]] = {name: [] for name in names}
        some: Any = torch.from_numpy(pixels)
        blocks = [some[torch.arange(start, start + 64) % 64] for start in range(0, count, 64)]
        ways: dict[str, Callable[[], object]] = {
            "cold": cold,
            "torch": imported,
            "answered": lambda: [run.task.outputs(run.model.eval(), block) for block in blocks],
            "decoded": lambda: [*side_by_side(run.spec.decode, paths)],
            "streamed": lambda: predict_files(run, folder / "photos", folder / "out.csv"),
        }
        for turn in range(ROUNDS + 1):
            for name, way in ways.items():
                spent = seconds(way)
                if turn:  # the first warms up
                    held[name].append(spent if name in ("cold", "torch") else count / spent)
    row: dict[str, object] = {name: round(statistics.median(values), 2) for name, values in held.items()}
    both = [1 / (1 / a + 1 / d) for a, d in zip(held["answered"], held["decoded"], strict=True)]
    row["ratio"] = round(statistics.median(s / b for s, b in zip(held["streamed"], both, strict=True)), 3)
    shares = [s / a for s, a in zip(held["streamed"], held["answered"], strict=True)]
    row["of_model"] = round(statistics.median(shares), 3)
    row |= {"photos": count, "torch_version": torch.__version__}
    row["machine"] = f"{platform.machine()}, {len(os.sched_getaffinity(0))} core(s)"
    print(" ".join(f"{name}={value}" for name, value in row.items()))
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*row])
        writer.writeheader()
        writer.writerow(row)
    assert statistics.median(held["cold"]) < COLD, f"a cold answer takes {row['cold']} s, more than {COLD}"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
