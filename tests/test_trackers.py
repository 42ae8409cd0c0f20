from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sadari.errors import SadariError
from sadari.trackers import TRACKERS, Tracker, flat, tracker
from sadari.train import train
from tests.test_resume import StopAt
from tests.test_train import QUICK, TASK, TRAIN, VALIDATION, stack


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_what_the_log_says(tmp_path: Path) -> None:
    watcher = tracker("tensorboard", tmp_path, {"learning_rate": 0.01})
    config = replace(QUICK, log_gradients=True)
    trained = train(stack(2), TASK, TRAIN, VALIDATION, config, watchers=[watcher])
    seen = curves(tmp_path)
    names = ("loss", "validation_loss", "best_score", "gradients/hidden.0", "gradients/output")
    assert set(seen) == {"epoch", "learning_rate", *(f"{name}/{k}" for name in names for k in range(2))}
    assert [step for step, _ in seen["loss/1"]] == [record["step"] for record in trained.history]
    assert [value for _, value in seen["loss/1"]] == pytest.approx([r["loss"][1] for r in trained.history])


def test_tensorboard_shows_no_step_twice_after_an_interruption(tmp_path: Path) -> None:
    for stop in (60, None):
        watchers: list[Any] = [tracker("tensorboard", tmp_path)]
        try:
            watchers += [StopAt(stop)] if stop else []
            train(stack(), TASK, TRAIN, VALIDATION, QUICK, folder=tmp_path, watchers=watchers)
        except KeyboardInterrupt:
            assert stop
    assert [step for step, _ in curves(tmp_path)["loss"]] == [20, 40, 60, 80, 100, 120]


class Fake(ModuleType):
    """A tracker's package as far as it is used here; it notes every call."""

    def __init__(self, name: str, calls: list[Any]) -> None:
        super().__init__(name)
        self.calls = calls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*values: Any, **named: Any) -> Fake:
            self.calls.append((name, values, named))
            return self

        return call


@pytest.mark.parametrize(
    ("name", "opening", "logging", "closing"),
    [
        ("wandb", ["init"], "log", "finish"),
        ("trackio", ["init"], "log", "finish"),
        ("mlflow", ["set_experiment", "start_run", "log_params"], "log_metrics", "end_run"),
    ],
)
def test_other_trackers_are_called_in_their_own_words(
    name: str, opening: list[str], logging: str, closing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setitem(sys.modules, name, Fake(name, calls))
    watcher = tracker(name, tmp_path / "diabetes-deep", {"learning_rate": 0.01})
    trained = train(stack(), TASK, TRAIN, VALIDATION, QUICK, watchers=[watcher])
    assert [call[0] for call in calls] == [*opening, *[logging] * len(trained.history), closing]
    shown = {key: value for _, values, named in calls[: len(opening)] for key, value in named.items()}
    assert "diabetes-deep" in shown.values()
    _, (numbers,), named = calls[len(opening)]
    assert named == {"step": 20} and numbers["loss"] == trained.history[0]["loss"]
    assert "seconds" not in numbers and "step" not in numbers


def test_unknown_and_missing_trackers_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SadariError, match="--tracker 'visdom' is unknown; choose one of: tensorboard, wandb, trackio"
    ):
        tracker("visdom", tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SadariError, match=r"--tracker wandb needs a package .*; run: pip install wandb"):
        tracker("wandb", tmp_path)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(SadariError, match=r"run: pip install 'sadari\[trackers\]'"):
        tracker("tensorboard", tmp_path)


def test_a_tracker_is_closed_once_and_only_if_it_was_opened(tmp_path: Path) -> None:
    calls: list[Any] = []
    watcher = TRACKERS["wandb"](Fake("wandb", calls), tmp_path, {})
    watcher.close()
    assert calls == []
    watcher.start({"step": 0})
    watcher.close()
    watcher.close()
    assert [call[0] for call in calls] == ["init", "finish"]


def test_a_tracker_must_say_how_it_logs(tmp_path: Path) -> None:
    bare = Tracker(None, tmp_path, {})
    with pytest.raises(NotImplementedError):
        bare.start({"step": 0})
    with pytest.raises(NotImplementedError):
        bare({"step": 1, "loss": 2.0})


def test_records_become_flat_finite_numbers() -> None:
    record = {"loss": [1.0, None, float("nan")], "gradients": {"output": [2.0, 3]}, "epoch": 4}
    expected = {"loss/0": 1.0, "gradients/output/0": 2.0, "gradients/output/1": 3.0, "epoch": 4.0}
    assert dict(flat(record)) == expected
