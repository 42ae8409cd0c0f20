"""What a training will take, before a step of it is taken: parameters, memory, time; and whether it fits.

Memory is counted on torch's "meta" device, where every tensor has a shape and no bytes: what cannot fit is
then refused instead of tried. Time is measured on a few steps of a copy.
"""

from __future__ import annotations

import copy
import math
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sadari import probe
from sadari.batches import make_batches, rows_of
from sadari.best import Best
from sadari.errors import SadariError
from sadari.lang import Lang, pick
from sadari.optim import make_optimizer

if TYPE_CHECKING:
    from sadari.train import TrainConfig

TEXTS = {
    "plan": (
        "{parameters:,} parameters, {macs} multiply-adds a step; at most {steps:,} steps in about "
        "{seconds}; {peak} of memory at most, {available} are free",
        "매개변수 {parameters:,}개, 한 걸음에 곱셈-덧셈 {macs}번. 최대 {steps:,}걸음, 약 {seconds}. "
        "메모리는 최대 {peak}, 남은 메모리는 {available}",
    ),
    "refused": (
        "{parameters:,} parameters; training needs {peak} of memory and {available} are free",
        "매개변수 {parameters:,}개. 훈련에 메모리 {peak}가 필요하지만 {available}만 남아 있습니다",
    ),
}
SLACK = 2.0  # autograd takes and frees its values at every step: the heap was seen to keep twice what lives
MARGIN = 0.9  # of free memory may be planned for: others live here too
CGROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
MEMBERSHIP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Plan:
    """What training will take beyond what is in memory already."""

    parameters: int
    """Numbers to learn, all members of a stack together."""
    peak_bytes: int
    """Memory at its highest: gradients, optimizer, best weights, inner values, a saved state on its way to
    disk."""
    available_bytes: int
    """Memory that is free now."""
    fits: bool
    """Whether the one is below the other."""
    remedy: str
    """What to change when it is not; "" when it is."""
    macs: int = 0
    """Multiply-adds of one step, forward and backward; 0 when it does not fit, and so below."""
    steps: int = 0
    """Steps at most: patience may end it sooner."""
    seconds: float = 0.0
    """Wall clock of them with their evaluations."""

    def check(self) -> None:
        """Raise SadariError, with the remedy, when it does not fit."""
        if not self.fits:
            raise SadariError(
                f"training needs {bytes_text(self.peak_bytes)} of memory and "
                f"{bytes_text(self.available_bytes)} are free; {self.remedy}"
            )

    def say(self, lang: Lang) -> str:
        """The plan in a sentence."""
        return pick(
            TEXTS,
            "plan" if self.fits else "refused",
            lang,
            parameters=self.parameters,
            macs=count_text(self.macs),
            steps=self.steps,
            seconds=seconds_text(self.seconds),
            peak=bytes_text(self.peak_bytes),
            available=bytes_text(self.available_bytes),
        )


def plan(
    model: nn.Module,
    task: Any,
    train: Mapping[str, Tensor],
    validation: Mapping[str, Tensor],
    config: TrainConfig,
    *,
    rows: Sequence[Tensor] | None = None,
    learning_rates: Tensor | None = None,
) -> Plan:
    """Plan `train(model, task, train, validation, config, ...)`; the model stays as it is.

    A model made under `torch.device("meta")` can be asked whether it would fit; it is given no time.
    """
    if hasattr(task, "configure"):
        task.configure(config)
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    free = available_memory()
    weights = sum(value.nbytes for value in (*model.parameters(), *model.buffers()))
    peak = 3 * weights  # gradients, best weights and a copy for timing, at the very least
    if peak <= MARGIN * free:
        peak = peak_memory(model, task, train, validation, config, rows)
    device = next(model.parameters()).device
    if peak > MARGIN * free:
        remedy = "give a smaller --width or fewer --layers"
        if peak > 12 * weights:  # mostly inner values, not weights
            remedy = "give a smaller --batch-size or --width"
        return Plan(parameters, peak, free, False, remedy)
    if device.type == "meta":
        return Plan(parameters, peak, free, True, "")
    threads = torch.get_num_threads()
    try:
        settled = probe.settle(model, task, train, validation, config, rows, learning_rates)
        batches = make_batches(model, task, train, config, rows)
        backward = probe.in_precision(settled["precision"], task.backward, device)
        pace = probe.step_seconds(model, backward, batches, config, seconds=0.2)
        look = probe.look_seconds(model, task, validation, settled["precision"])
        macs = probe.macs_a_step(model, task, batches.first())
    finally:
        torch.set_num_threads(threads)
    steps = settled["steps"]
    looks = steps / probe.evaluations_every(config, batches.per_epoch, steps)
    return Plan(parameters, peak, free, True, "", macs, steps, steps * pace + looks * look)


def peak_memory(
    model: nn.Module,
    task: Any,
    train: Mapping[str, Tensor],
    validation: Mapping[str, Tensor],
    config: TrainConfig,
    rows: Sequence[Tensor] | None = None,
) -> int:
    """Bytes that training adds at its highest, counted on shapes alone.

    A model whose steps depend on the values that it reads (where a text ends) is counted in a real step.
    """
    try:
        return _count(copy.deepcopy(model).to("meta"), task, train, validation, config, rows)
    except (NotImplementedError, RuntimeError):
        if next(model.parameters()).device.type == "meta":
            return 4 * sum(value.nbytes for value in model.parameters())
        return _count(copy.deepcopy(model), task, train, validation, config, rows)


def _count(
    ghost: nn.Module,
    task: Any,
    train: Mapping[str, Tensor],
    validation: Mapping[str, Tensor],
    config: TrainConfig,
    rows: Sequence[Tensor] | None,
) -> int:
    device = next(ghost.parameters()).device
    ghost.train()
    shapes = {name: value.to(device) for name, value in train.items()}
    checks = {name: value.to(device) for name, value in validation.items()}
    with torch.random.fork_rng(devices=[]), torch.device(device), _Bytes() as counted:
        batches = make_batches(ghost, task, shapes, config, rows)
        kept = (Best(ghost, getattr(ghost, "members", 1), 1), make_optimizer(ghost, config, 1.0, per_epoch=1))
        task.backward(ghost, batches.largest())
        if rows_of(checks) and task.batching == "rows":  # blocks of texts are no larger than a batch
            task.score(ghost, checks)
        saved = sum(tensor.nbytes for part in kept for tensor in part.state().values())
    saved += sum(value.nbytes for value in ghost.parameters())
    slack = 1.0 if hasattr(ghost, "gradients") else SLACK
    return int(slack * counted.peak) + 2 * saved  # a state is written from a copy and from its bytes


class _Bytes(TorchDispatchMode):
    """Counts the bytes of the tensors made under it, and lets go of those that are gone."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor) and id(tensor.untyped_storage()) not in given | self.seen:
                self._keep(tensor.untyped_storage())
        return results

    def _keep(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()
        self.seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)

        def gone() -> None:
            self.seen.discard(key)
            self.now -= size

        weakref.finalize(storage, gone)


def available_memory() -> int:
    """Bytes that this process may still take: the least that the machine and its control groups have left."""
    return int(min([_machine(), *map(_left, _groups())]))


def _machine() -> float:
    try:
        lines = MEMINFO.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups() -> list[Path]:
    """Folders of the control groups that hold this process, in version 2 and in version 1, inner and
    outer."""
    try:
        entries = [line.split(":", 2) for line in MEMBERSHIP.read_text().splitlines()]
    except OSError:
        entries = []
    tops = {"": CGROUPS, "memory": CGROUPS / "memory"}
    folders = list(tops.values())
    for _, controllers, path in entries:
        for name in set(controllers.split(",")) & set(tops):
            inner = tops[name] / path.strip("/")
            folders += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(CGROUPS)]
    return folders


def _left(group: Path) -> float:
    """What a control group has left; files that the kernel only caches can be dropped at once."""
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            most, taken = float((group / limit).read_text()), float((group / used).read_text())
            lines = [line.split() for line in (group / "memory.stat").read_text().splitlines()]
        except (OSError, ValueError):  # no such group, or "max"
            continue
        return most - taken + sum(float(size) for name, size in lines if name == cached)
    return math.inf


def bytes_text(size: float) -> str:
    """1536 -> "1.5 kB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TB"


def count_text(count: float) -> str:
    """1234567 -> "1.23 M"."""
    for unit in ("", " k", " M", " G"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g} T"


def seconds_text(seconds: float) -> str:
    """75 -> "1 min 15 s"."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{minutes // 60} h {minutes % 60} min"
