from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import termios
import threading
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len

from sadari import progress
from sadari.progress import Progress
from sadari.train import train
from tests.test_train import QUICK, TASK, TRAIN, VALIDATION, stack


class Clock:
    """A time that passes only when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def record(step: int, loss: Any = 0.5, best: Any = 0.4) -> dict[str, Any]:
    return {"step": step, "loss": loss, "best_score": best}


FACTS = {"steps": 1000, "step": 0, "members": 1, "seconds": 0.0}


def test_without_a_terminal_one_plain_line_every_five_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    shown = Progress("deep", stream=stream)
    shown.start(FACTS)
    for step in range(1, 1001):
        clock.now += 0.012
        shown.live(record(step))
    shown.close()
    lines = stream.getvalue().splitlines()
    assert lines == [
        "deep  41 %  417/1,000  83 steps/s  loss 0.5000  best 0.4000  7 s left",
        "deep  83 %  834/1,000  83 steps/s  loss 0.5000  best 0.4000  2 s left",
    ]


def test_short_trainings_and_quiet_ones_say_nothing(clock: Clock) -> None:
    for quiet, seconds in ((False, 0.004), (True, 1.0)):
        stream = io.StringIO()
        shown = Progress(quiet=quiet, stream=stream)
        shown.start(FACTS)
        for step in range(1, 1001):
            clock.now += seconds
            shown(record(step))
        shown.close()
        assert stream.getvalue() == ""


def test_a_stack_shows_its_best_member_and_the_best_is_kept(clock: Clock) -> None:
    stream = io.StringIO()
    shown = Progress(stream=stream, lang="ko")
    shown.start(FACTS)
    shown(record(1, [0.9, None, 0.7], [0.6, float("inf"), 0.3]))
    clock.now += 6
    shown.live({"step": 500, "loss": [0.8, float("nan"), 0.6]})
    assert stream.getvalue() == "50 %  500/1,000걸음  초당 83걸음  손실 0.6000  최고 0.3000  6 s 남음\n"


def test_a_resumed_training_counts_its_pace_from_where_it_began(clock: Clock) -> None:
    stream = io.StringIO()
    shown = Progress(stream=stream)
    shown.start({**FACTS, "step": 900})
    clock.now += 6
    shown.live({"step": 930, "loss": 0.5})
    assert stream.getvalue() == "93 %  930/1,000  5 steps/s  loss 0.5000  14 s left\n"


def pictures(width: int, lang: Any, name: str = "deep", steps: int = 6000) -> list[str]:
    """What a terminal of that width is told while a stack trains, a picture of the bar a line."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 20, width, 0, 0))
    heard: list[bytes] = []

    def listen() -> None:
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other side was closed
                return
            if not piece:
                return
            heard.append(piece)

    listener = threading.Thread(target=listen)
    listener.start()
    with os.fdopen(slave, "w") as stream:
        shown = Progress(name, lang=lang, stream=stream)
        train(stack(3), TASK, TRAIN, VALIDATION, replace(QUICK, budget_steps=steps), watchers=[shown])
    listener.join()
    os.close(master)
    text = b"".join(heard).decode()
    assert text.endswith("\x1b[2K"), "the bar is taken away at the end"
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]


@pytest.mark.parametrize(("width", "lang"), [(120, "en"), (100, "ko"), (60, "en"), (44, "ko")])
def test_a_terminal_shows_a_bar_that_fits(width: int, lang: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    seen = pictures(width, lang)
    assert all(cell_len(line) <= width for line in seen)
    assert not any("…" in line for line in seen), "words are left out whole"
    last = seen[-1]
    assert "deep" in last and "━" in last and "100 %" in last
    assert ("손실" if lang == "ko" else "loss") in last
    assert ("6,000/6,000" in last) == (width >= 100)
    assert len(seen) <= 150  # ten a second, not one for each of 300 records
