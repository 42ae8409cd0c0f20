"""Interrupted equals uninterrupted, bit for bit: weights, best weights, log."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sadari import checkpoint
from sadari.errors import SadariError
from sadari.layers.stack import Stack
from sadari.losses import make_loss
from sadari.models.deep import Deep, DeepConfig
from sadari.tasks import TableTask
from sadari.train import SadariInterrupted, TrainConfig, Trained, train

TASK = TableTask("regress", make_loss("squared"))
CONFIG = TrainConfig(
    budget_steps=40,
    batch_size=32,
    learning_rate=0.01,
    patience=3,
    evaluate_every=5,
    log_every=1,
    log_gradients=True,
    clip=1.0,
    threads=1,
)


def table(rows: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 4, generator=generator)
    return {"features": features, "targets": features[:, 0] * features[:, 1]}


TRAIN, VALIDATION = table(205, 1), table(60, 2)


def model(kind: str) -> nn.Module:
    torch.manual_seed(0)
    networks = [Deep(DeepConfig(width=8, dropout=0.2), 4, 1) for _ in range(3)]
    return networks[0] if kind == "autograd" else Stack.of(networks if kind == "stack" else networks[:1])


def options(kind: str) -> dict[str, Any]:
    """A stack with rows and rates of its members' own."""
    if kind != "stack":
        return {}
    rows = [torch.arange(120), torch.arange(80, 205), torch.arange(60)]
    return {"rows": rows, "learning_rates": torch.tensor([0.01, 0.02, 0.005])}


def log_of(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_same(a: tuple[nn.Module, Trained, Path], b: tuple[nn.Module, Trained, Path]) -> None:
    for (name, first), (_, second) in zip(a[0].named_parameters(), b[0].named_parameters(), strict=True):
        assert torch.equal(first, second), name
    assert torch.equal(a[1].best_score, b[1].best_score)
    assert (a[1].steps, a[1].best_step, a[1].stopped) == (b[1].steps, b[1].best_step, b[1].stopped)
    assert log_of(a[2]) == log_of(b[2])
    assert len(a[1].history) == len(b[1].history) == len(log_of(a[2]))


class StopAt:
    """A watcher that presses Ctrl-C at one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, record: dict[str, Any]) -> None:
        if record["step"] == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["one", "stack", "autograd"])
@pytest.mark.parametrize("settings", [{}, {"optimizer": "sgd", "schedule": "one-cycle", "patience": 0}])
def test_stopped_at_any_step_it_ends_as_if_it_had_not(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    config = replace(CONFIG, **settings)
    whole = model(kind)
    straight = train(whole, TASK, TRAIN, VALIDATION, config, folder=tmp_path / "whole", **options(kind))
    reference = (whole, straight, tmp_path / "whole")
    for step in range(1, straight.steps + 1, 3):
        folder = tmp_path / str(step)
        with pytest.raises(
            SadariInterrupted, match=f"stopped at step {step} of 40, saved in .*{step}; give the same"
        ):
            train(
                model(kind),
                TASK,
                TRAIN,
                VALIDATION,
                config,
                folder=folder,
                watchers=[StopAt(step)],
                **options(kind),
            )
        resumed = model(kind)
        trained = train(resumed, TASK, TRAIN, VALIDATION, config, folder=folder, **options(kind))
        assert_same((resumed, trained, folder), reference)


def test_stopped_many_times_and_on_the_last_step(tmp_path: Path) -> None:
    whole = model("one")
    straight = train(whole, TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path / "whole")
    for step in [*range(1, straight.steps, 4), straight.steps]:
        with pytest.raises(SadariInterrupted):
            train(
                model("one"),
                TASK,
                TRAIN,
                VALIDATION,
                CONFIG,
                folder=tmp_path / "cut",
                watchers=[StopAt(step)],
            )
    resumed = model("one")
    trained = train(resumed, TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path / "cut")
    assert_same((resumed, trained, tmp_path / "cut"), (whole, straight, tmp_path / "whole"))


def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    def kill(record: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SadariInterrupted, match="stopped at step 1 of 40, saved in"):
        train(model("one"), TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path, watchers=[kill])
    assert (tmp_path / "checkpoint" / "state.safetensors").is_file()


def test_what_a_clock_decided_is_decided_once(tmp_path: Path) -> None:
    """A budget in seconds: the steps found by timing are saved before the first of them is taken."""
    config = replace(CONFIG, budget_steps=0, budget_seconds=0.4, patience=0, evaluate_every=0, log_every=0)

    class Killed(Exception): ...

    class Kill:
        def start(self, facts: dict[str, Any]) -> None:
            self.steps = facts["steps"]

        def __call__(self, record: dict[str, Any]) -> None:
            raise Killed

    killed = Kill()
    with pytest.raises(Killed):
        train(model("one"), TASK, TRAIN, VALIDATION, config, folder=tmp_path, watchers=[killed])
    _, facts = checkpoint.load(tmp_path)
    assert facts["step"] == 0 and facts["settled"]["steps"] == killed.steps
    later = Kill()
    with pytest.raises(Killed):
        train(model("one"), TASK, TRAIN, VALIDATION, config, folder=tmp_path, watchers=[later])
    assert later.steps == killed.steps


def test_a_budget_may_be_raised_no_other_setting(tmp_path: Path) -> None:
    with pytest.raises(SadariInterrupted):
        train(model("one"), TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path, watchers=[StopAt(5)])
    other = replace(CONFIG, learning_rate=0.02)
    with pytest.raises(
        SadariError, match=r"with --learning-rate 0.01, not 0.02; give the same settings to go on"
    ):
        train(model("one"), TASK, TRAIN, VALIDATION, other, folder=tmp_path)
    with pytest.raises(SadariError, match="holds a training of another model or of other data"):
        train(model("stack"), TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path)
    with pytest.raises(SadariError, match="holds a training of another model or of other data"):
        train(model("one"), TASK, table(100, 1), VALIDATION, CONFIG, folder=tmp_path)
    assert train(
        model("one"), TASK, TRAIN, VALIDATION, replace(CONFIG, checkpoint_seconds=1.0), folder=tmp_path
    )


@pytest.mark.parametrize("damage", ["cut", "empty", "headless"])
def test_a_damaged_state_is_said(damage: str, tmp_path: Path) -> None:
    with pytest.raises(SadariInterrupted):
        train(model("one"), TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path, watchers=[StopAt(5)])
    path = tmp_path / "checkpoint" / "state.safetensors"
    if damage == "headless":
        save_file(load_file(path), path)
    else:
        path.write_bytes(path.read_bytes()[: 500 if damage == "cut" else 0])
    with pytest.raises(SadariError, match=r"is damaged .*; remove .*checkpoint to begin this training again"):
        train(model("one"), TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path)


def test_half_a_line_and_later_lines_are_cut_away(tmp_path: Path) -> None:
    whole = model("one")
    straight = train(whole, TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path / "whole")
    with pytest.raises(SadariInterrupted):
        train(model("one"), TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path / "cut", watchers=[StopAt(9)])
    with open(tmp_path / "cut" / "log.jsonl", "a") as file:
        file.write('{"step": 10, "loss": 0.5}\n{"step": 11, "lo')
    resumed = model("one")
    trained = train(resumed, TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path / "cut")
    assert_same((resumed, trained, tmp_path / "cut"), (whole, straight, tmp_path / "whole"))


def test_a_full_disk_is_said_and_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SadariInterrupted):
        train(model("one"), TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path, watchers=[StopAt(5)])
    state = (tmp_path / "checkpoint" / "state.safetensors").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            SadariError, match=r"cannot write .* \(No space left on device\); free some space"
        ):
            train(
                model("one"),
                TASK,
                TRAIN,
                VALIDATION,
                replace(CONFIG, checkpoint_seconds=0.0),
                folder=tmp_path,
            )
    assert (tmp_path / "checkpoint" / "state.safetensors").read_bytes() == state
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["state.safetensors"]
    whole, resumed = model("one"), model("one")
    trained = train(resumed, TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path)
    straight = train(whole, TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path / "whole")
    assert_same((resumed, trained, tmp_path), (whole, straight, tmp_path / "whole"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for one state and not for two."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this system does not let us mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_really_is_full(small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(SadariInterrupted):
        train(model("one"), TASK, TRAIN, VALIDATION, CONFIG, folder=small_disk, watchers=[StopAt(5)])
    state = small_disk / "checkpoint" / "state.safetensors"
    before, left = state.read_bytes(), shutil.disk_usage(small_disk).free
    (small_disk / "filler").write_bytes(bytes(left))
    with pytest.raises(SadariError, match=r"cannot write .* \(No space left on device\); free some space"):
        train(
            model("one"), TASK, TRAIN, VALIDATION, replace(CONFIG, checkpoint_seconds=0.0), folder=small_disk
        )
    assert state.read_bytes() == before and list(state.parent.iterdir()) == [state]
    (small_disk / "filler").unlink()
    whole, resumed = model("one"), model("one")
    trained = train(resumed, TASK, TRAIN, VALIDATION, CONFIG, folder=small_disk)
    straight = train(whole, TASK, TRAIN, VALIDATION, CONFIG, folder=tmp_path / "whole")
    assert_same((resumed, trained, small_disk), (whole, straight, tmp_path / "whole"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_log_on_a_full_disk_is_said(tmp_path: Path) -> None:
    log = checkpoint.Log(tmp_path, 0)
    log.close()
    log.file = open("/dev/full", "a")  # noqa: SIM115
    with pytest.raises(SadariError, match=r"cannot write .*log.jsonl \(No space left on device\)"):
        log.append({"step": 1})
    log.close()


LONGER = replace(CONFIG, budget_steps=1500, patience=0, log_every=3)

# Children of one process that has imported torch train; each is killed at a random moment and replaced by
# the next, until one is through. They save after nearly every step, so that most kills fall into saving.
KILLER = """
import os, random, signal, sys, time
from dataclasses import replace
from pathlib import Path
import torch
from safetensors.torch import save_file
from sadari.train import train
from tests.test_resume import LONGER, TASK, TRAIN, VALIDATION, model, options

folder, moments, generator = Path(sys.argv[1]), int(sys.argv[2]), random.Random(1)
torch.set_num_threads(1)
config = replace(LONGER, checkpoint_seconds=0.001)


def child():
    stack = model("stack")
    train(stack, TASK, TRAIN, VALIDATION, config, folder=folder, **options("stack"))
    save_file({"flat": stack.flat.detach()}, folder / "done.safetensors")


kills = 0
while not (folder / "done.safetensors").exists():
    pid = os.fork()
    if pid == 0:
        child()
        os._exit(0)
    if kills < moments:
        time.sleep(generator.uniform(0.0, 0.06))  # all of them together take less than the training
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    kills += os.WIFSIGNALED(status)
    assert status in (0, signal.SIGKILL), status
print(kills)
"""


def kill_and_resume(folder: Path, moments: int) -> int:
    """Train in `folder` through that many kills; returns how many there were."""
    folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", KILLER, str(folder), str(moments)]
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("moments", [8, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_same_bits(moments: int, tmp_path: Path) -> None:
    assert kill_and_resume(tmp_path / "cut", moments) == moments
    whole = model("stack")
    train(whole, TASK, TRAIN, VALIDATION, LONGER, folder=tmp_path / "whole", **options("stack"))
    assert torch.equal(whole.flat, load_file(tmp_path / "cut" / "done.safetensors")["flat"])
    assert log_of(tmp_path / "whole") == log_of(tmp_path / "cut")
    assert not list((tmp_path / "cut").rglob(".*")), "something half-written was left"
