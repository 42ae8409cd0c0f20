"""What a training borrows from its process and puts back: random numbers, threads, answers to signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Signals:
    """Remembers Ctrl-C or a polite kill until the step is done; a second one interrupts at once."""

    caught = False

    def __call__(self, number: int, frame: Any) -> None:
        if self.caught:
            raise KeyboardInterrupt
        self.caught = True


@contextmanager
def borrowed(device: torch.device) -> Iterator[Signals]:
    """For the time of a training; whatever happens, the caller finds all as it was."""
    signals, threads = Signals(), torch.get_num_threads()
    handlers = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere Python does not allow it
        handlers = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
            yield signals
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        for number, handler in handlers.items():
            signal.signal(number, handler)
