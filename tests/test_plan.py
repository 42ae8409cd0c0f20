from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sadari import plan as planning
from sadari.errors import SadariError
from sadari.layers.stack import Stack
from sadari.losses import make_loss
from sadari.models.deep import Deep, DeepConfig
from sadari.plan import available_memory, bytes_text, count_text, plan, seconds_text
from sadari.tasks import TableTask
from sadari.train import TrainConfig, train

TASK = TableTask("regress", make_loss("squared"))
CONFIG = TrainConfig(batch_size=32, threads=1, patience=0)


def table(rows: int = 300) -> dict[str, Tensor]:
    features = torch.randn(rows, 4, generator=torch.Generator().manual_seed(1))
    return {"features": features, "targets": features[:, 0] * features[:, 1]}


def deep(width: int = 16) -> Deep:
    torch.manual_seed(0)
    return Deep(DeepConfig(width=width), 4, 1)


@pytest.mark.parametrize("members", [0, 1, 3])
def test_a_plan_says_what_training_takes(members: int) -> None:
    model = Stack.of([deep() for _ in range(members)]) if members else deep()
    before = [value.clone() for value in model.parameters()]
    planned = plan(model, TASK, table(), table(100), CONFIG)
    assert planned.fits and planned.remedy == "" and planned.check() is None
    assert planned.parameters == max(members, 1) * Deep.parameter_count(DeepConfig(width=16), 4, 1)
    forward = Deep.macs(DeepConfig(width=16), 4, 1) * 30 * max(members, 1)
    assert planned.macs == 3 * forward
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    trained = train(model, TASK, table(), table(100), CONFIG)
    assert planned.steps == trained.steps == 2000
    assert planned.seconds > 0


def test_a_budget_bounds_the_plan() -> None:
    planned = plan(deep(), TASK, table(), table(100), replace(CONFIG, budget_steps=70))
    assert planned.steps == 70
    planned = plan(deep(), TASK, table(), table(100), replace(CONFIG, budget_seconds=0.5, epochs=10**6))
    assert planned.seconds < 0.6


def test_what_cannot_fit_is_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):  # shapes without bytes: such a network could not even be made here
        giant = Deep(DeepConfig(width=1_000_000, layers=3), 4, 1)
    planned = plan(giant, TASK, table(), table(100), CONFIG)
    assert not planned.fits and planned.steps == 0
    with pytest.raises(
        SadariError, match=r"training needs .* TB of memory and .* are free; give a smaller --width"
    ):
        planned.check()
    assert "need" in planned.say("en") and "필요" in planned.say("ko")

    monkeypatch.setattr(planning, "available_memory", lambda: 400_000)
    many = {name: value[:1].expand(30_000, *value.shape[1:]) for name, value in table().items()}
    planned = plan(deep(), TASK, many, table(100), replace(CONFIG, batch_size=30_000))
    with pytest.raises(SadariError, match="give a smaller --batch-size or --width"):
        planned.check()


def test_a_model_without_bytes_that_would_fit() -> None:
    with torch.device("meta"):
        ghost = deep()
    planned = plan(ghost, TASK, table(), table(100), CONFIG)
    assert planned.fits and planned.steps == 0
    real = plan(deep(), TASK, table(), table(100), CONFIG)
    assert planned.peak_bytes == real.peak_bytes


MEASURE = """
import gc, sys
from dataclasses import replace
from pathlib import Path
import torch
from sadari import plan
from sadari.layers.stack import Stack
from sadari.train import train
from tests.test_plan import CONFIG, TASK, deep, table

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024

stacked, folder = sys.argv[1] == "stack", Path(sys.argv[2])
def network(width):
    model = deep(width)
    return Stack.of([model]) if stacked else model

config = replace(CONFIG, budget_steps=2, batch_size=8192)
warm, data, checks = network(8), table(8192), table(8192)
train(warm, TASK, data, checks, config)
model = network(800)
gc.collect()
Path("/proc/self/clear_refs").write_text("5")  # peak := now
before = peak()
train(model, TASK, data, checks, replace(config, checkpoint_seconds=0.0), folder=folder)
plan.SLACK = 1.0
print(peak() - before, plan.peak_memory(network(800), TASK, data, checks, config))
"""


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="this system keeps no peak to clear"
)
@pytest.mark.parametrize("kind", ["stack", "autograd"])
def test_planned_memory_is_what_training_takes(kind: str, tmp_path: Path) -> None:
    """Every larger array mapped by itself, so that the peak is what lives: no heap's luck, and no `SLACK`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    environment["MALLOC_MMAP_THRESHOLD_"] = "65536"
    command = [sys.executable, "-c", MEASURE, kind, str(tmp_path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    measured, planned = map(int, result.stdout.split())
    assert measured > 50e6
    assert 0.9 < planned / measured < 1.5


def test_memory_is_the_least_of_machine_and_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:     500 kB\n")
    (tmp_path / "self").write_text("4:memory:/inner\n0::/outer/inner\n")
    monkeypatch.setattr(planning, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(planning, "MEMBERSHIP", tmp_path / "self")
    monkeypatch.setattr(planning, "CGROUPS", tmp_path / "groups")
    assert available_memory() == 500 * 1024

    def group(path: str, limit: str, used: str, text: str, cached: str) -> None:
        folder = tmp_path / "groups" / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit).write_text(text)
        (folder / used).write_text("100000\n")
        (folder / "memory.stat").write_text(f"anon 5\n{cached} 2000\n")

    group("outer/inner", "memory.max", "memory.current", "max\n", "inactive_file")
    assert available_memory() == 500 * 1024
    group("outer", "memory.max", "memory.current", "400000\n", "inactive_file")
    assert available_memory() == 302_000
    group("memory/inner", "memory.limit_in_bytes", "memory.usage_in_bytes", "150000\n", "total_inactive_file")
    assert available_memory() == 52_000


def test_without_any_of_these_files_the_system_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MEMINFO", "MEMBERSHIP", "CGROUPS"):
        monkeypatch.setattr(planning, name, Path("/nowhere"))
    assert available_memory() > 1 << 20


def test_numbers_as_people_read_them() -> None:
    assert [bytes_text(n) for n in (12, 1536, 3 << 20, 5 << 30)] == ["12 bytes", "1.5 kB", "3 MB", "5 GB"]
    assert [count_text(n) for n in (12, 1234, 5.6e6, 7e9, 8e12)] == ["12", "1.23 k", "5.6 M", "7 G", "8 T"]
    assert [seconds_text(n) for n in (0.5, 42, 75, 7500)] == ["0.5 s", "42 s", "1 min 15 s", "2 h 5 min"]
