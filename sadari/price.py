"""What a rung costs: weights, arithmetic, time to learn, time to answer, bytes on disk, memory while
learning.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from sadari.layers.tokens import is_real, trimmed
from sadari.models.nearest import Nearest
from sadari.runs import CONFIG, RESULT, SOURCE_TOKENIZER, SPEC, TOKENIZER, WEIGHTS, Run
from sadari.search import Searching, search
from sadari.tasks import macs_of

BATCHES = (1, 256)
SECONDS = 0.1  # spent on timing one batch size
LONG = 1.0  # seconds after which no further call is made only to be sure of the median
READ = 16  # tokens read before the one that is timed
KEPT = (CONFIG, SPEC, TOKENIZER, SOURCE_TOKENIZER, WEIGHTS, RESULT)  # the files that predicting needs

TEXTS = {
    "parameters": ("numbers learnt", "배운 숫자의 개수"),
    "macs": ("multiply-adds for one row", "한 행에 드는 곱셈-덧셈 횟수"),
    "train_seconds": ("seconds of training", "학습에 걸린 초"),
    "microseconds_per_example": (
        "microseconds a row, answered one at a time, from encoded row to prediction, on one thread; median "
        "of many, the caller's own Python included",
        "한 행씩 답할 때 행당 마이크로초. 부호화된 행에서 예측까지, 스레드 하나, 여러 번의 중앙값, 부르는 "
        "파이썬 코드 포함",
    ),
    "microseconds_at_256": (
        "microseconds a row when 256 are answered together",
        "256행을 한꺼번에 답할 때 행당 마이크로초",
    ),
    "bytes": (
        "bytes on disk of what predicting needs: settings, encoding and weights",
        "예측에 필요한 파일의 크기: 설정, 부호화 규칙, 가중치",
    ),
    "peak_memory": (
        "bytes by which resident memory grew at its highest while the rung learnt, code that it was the "
        "first to load included",
        "학습하는 동안 상주 메모리가 가장 크게 늘었을 때의 증가량(바이트). 처음 불러온 코드도 포함",
    ),
}


@dataclass(frozen=True)
class Price:
    """One rung's costs. `TEXTS` defines each in two languages; None: it could not be measured here."""

    parameters: int
    macs: int
    train_seconds: float
    microseconds_per_example: float
    microseconds_at_256: float
    bytes: int
    peak_memory: int | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def price(run: Run, part: Any, peak_memory: int | None = None) -> Price:
    """The costs of a run, timed on a part of prepared data. `peak_memory` was taken while it learnt.

    Of 256 pictures, only so many are timed as are answered together: all the others take as long.
    """
    model_class: Any = type(run.model)
    inputs, outputs = run.spec.width, run.loss.outputs
    config = model_class.Config(**run.config["model"])
    rows: Any = torch.from_numpy(part.features)
    length, together = 1, BATCHES[1]
    if run.task.name == "language":
        length = getattr(run.model, "context", None) or 1
        answer: Callable[[Any], Any] = _Continuing(run.model)
    elif run.task.name == "translate":
        length = round(is_real(rows).sum(-1).float().mean().item())

        def answer(batch: torch.Tensor) -> Any:
            model: Any = run.model
            limits = run.spec.limits(is_real(batch).sum(-1).numpy())
            return search(model, trimmed(batch), Searching(), run.spec.start, run.spec.end, limits=limits)
    elif run.kind == "captions":
        together, rows = min(together, run.task.together), _Captioned(part)
        length = rows.length

        def answer(batch: Any) -> torch.Tensor:
            image, text = run.model(run.task.tensors(batch[0]), batch[1])
            return (image * text).sum(-1)
    elif run.kind == "images":
        together = min(together, run.task.together)

        def answer(batch: torch.Tensor) -> torch.Tensor:
            return run.loss.predict(run.model(run.task.tensors(batch)))
    else:
        if run.kind == "text":
            length = round(is_real(rows).sum(-1).float().mean().item())
            rows = trimmed(rows)

        def answer(batch: torch.Tensor) -> torch.Tensor:
            return run.loss.predict(run.model(trimmed(batch) if run.kind == "text" else batch))

    with torch.inference_mode():
        one, many = microseconds(answer, rows, together=together)
    counted = model_class.parameter_count(config, inputs, outputs)
    macs = macs_of(model_class, config, inputs, outputs, length)
    memory = getattr(run.model, "memory", run.model)
    if isinstance(memory, Nearest):
        macs += memory.pictures.numel()  # a product with every stored one, which no setting tells
    return Price(
        parameters=sum(value.numel() for value in run.model.state_dict().values())
        if counted is None
        else counted,
        macs=macs,
        train_seconds=run.result["seconds"],
        microseconds_per_example=one,
        microseconds_at_256=many,
        bytes=size(run.path),
        peak_memory=peak_memory,
    )


class _Captioned:
    """Pictures and the first caption of each, taken together by number."""

    def __init__(self, part: Any) -> None:
        self.features = torch.from_numpy(part.features)
        self.tokens = torch.from_numpy(part.tokens[part.starts[:-1]])
        self.length = round(is_real(self.tokens).sum(-1).float().mean().item())

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return self.features[rows], trimmed(self.tokens[rows])


class _Continuing:
    """Answers a token by the next one: for each batch size, one step from a state that has read a few."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.states: dict[int, Any] = {}

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        batch = tokens.to(torch.int64).unsqueeze(-1)  # (B, 1)
        if len(batch) not in self.states:
            begin = batch.expand(-1, READ)
            self.states[len(batch)] = self.model.step(begin, self.model.start(len(batch)))[1]
        return self.model.step(batch, self.states[len(batch)])[0]


def size(folder: Path) -> int:
    """Bytes of the files in a run's folder that predicting needs; logs and checkpoints are left out."""
    return sum((folder / name).stat().st_size for name in KEPT if (folder / name).is_file())


def microseconds(
    answer: Callable[[Any], Any], rows: Any, seconds: float = SECONDS, together: int = BATCHES[1]
) -> tuple[float, float]:
    """Microseconds a row at a batch of 1 and of `together` (fewer rows are repeated): the median of many
    calls, one thread."""
    batches = [rows[np.arange(count) % len(rows)] for count in (BATCHES[0], together)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # one thread on every side: a server answers many callers at once
    try:
        with threadpool_limits(1):
            one, many = (_median(answer, batch, seconds) for batch in batches)
    finally:
        torch.set_num_threads(threads)
    return one * 1e6 / BATCHES[0], many * 1e6 / together


def _median(answer: Callable[[Any], Any], batch: Any, seconds: float) -> float:
    """Seconds of one call, after three that warm caches; fewer of both where a call takes long."""

    def timed(least: int, seconds: float) -> list[float]:
        times: list[float] = []
        while (len(times) < least and sum(times) < LONG) or sum(times) < seconds:
            began = time.perf_counter()
            answer(batch)
            times.append(time.perf_counter() - began)
        return times

    timed(3, 0.0)
    return statistics.median(timed(7, seconds))


@dataclass
class Peak:
    """Filled when its `with` block ends."""

    bytes: int | None = None


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """By how much the process's resident memory grew, at its highest, inside the `with` block.

    Linux keeps a high-water mark that can be reset (`man 5 proc`, clear_refs 5), so a peak between two looks
    is not missed. Elsewhere the mark of the whole process's life is read, and a block below an earlier peak
    shows 0. Memory that the process already held free and uses again is not counted: it is handed back first
    where the C library can.
    """
    gc.collect()
    _trim()
    fresh = _reset()
    before = _status("VmRSS") if fresh else _highest()
    peak = Peak()
    yield peak
    after = _status("VmHWM") if fresh else _highest()
    if before is not None and after is not None:
        peak.bytes = max(after - before, 0)


def _reset() -> bool:
    """Whether the high-water mark could be set back to what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return _status("VmHWM") is not None


def _status(key: str) -> int | None:
    """A memory line of /proc/self/status in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found[0]) * 1024 if found else None


def _highest() -> int | None:
    """The most that was ever resident, in bytes, where the system says so."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes, others kibibytes


def _trim() -> None:
    """Hand free memory back to the system (glibc only), so that a later block's growth is seen."""
    if sys.platform == "linux":
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
