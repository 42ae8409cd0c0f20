"""Who watches the trainings that a view starts: nobody, unless the caller says who."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from sadari.loop import Watcher

Watching = Callable[[str], Sequence[Watcher]]
"""Gives the watchers of a training by what is trained."""


def _nobody(name: str) -> Sequence[Watcher]:
    return ()


_WATCHING: ContextVar[Watching] = ContextVar("watching", default=_nobody)


def watchers(name: str) -> Sequence[Watcher]:
    """Those who watch the training of `name`, for `sadari.train.train`."""
    return _WATCHING.get()(name)


@contextmanager
def watched(by: Watching) -> Iterator[None]:
    """Have every training that a view starts within this block watched, the progress bar for instance."""
    before = _WATCHING.set(by)
    try:
        yield
    finally:
        _WATCHING.reset(before)
