"""How a training is going, on standard error: a live bar in a terminal, a plain line now and then elsewhere.

    deep ━━━━━━━━━━━╺━━━━━━━━━━━━  45 % 4,500/10,000  3,210 steps/s  loss 0.4120  best 0.3980  2 s left

A watcher of the loop. Without a terminal it says nothing for trainings of a few seconds, and never more than
a line every five.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from sadari.lang import Lang, pick
from sadari.plan import seconds_text

TEXTS = {
    "steps": ("{step:,}/{steps:,}", "{step:,}/{steps:,}걸음"),
    "pace": ("{pace:,.0f} steps/s", "초당 {pace:,.0f}걸음"),
    "loss": ("loss {loss}", "손실 {loss}"),
    "best": ("best {best}", "최고 {best}"),
    "left": ("{left} left", "{left} 남음"),
}
LIVE_SECONDS = 0.1  # between two pictures of the bar
PLAIN_SECONDS = 5.0  # between two lines where no bar can be drawn
BAR = 24  # cells of the bar


class Progress:
    """Shows one training after another; `name` is what is trained."""

    def __init__(
        self, name: str = "", *, quiet: bool = False, lang: Lang = "en", stream: TextIO | None = None
    ) -> None:
        self.name, self.quiet, self.lang = name, quiet, lang
        self.stream = stream or sys.stderr
        self.bar: Any = None
        self.best = math.inf

    def start(self, facts: Mapping[str, Any]) -> None:
        """Begin to show a training of `facts["steps"]` steps, of which `facts["step"]` are done."""
        self.steps, self.first, self.best = facts["steps"], facts["step"], math.inf
        self.began = self.said = time.monotonic()
        if not self.quiet and self.stream.isatty():
            self.bar, self.task = _bar(self.stream, self.name, self.steps, self.first)

    def planned(self, steps: int) -> None:
        """Show the way to another number of steps."""
        self.steps = steps
        if self.bar is not None:
            self.bar.update(self.task, total=steps)

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Take in a record of the log."""
        self.best = min(self.best, _least(record.get("best_score")))
        self.live(record)

    def live(self, record: Mapping[str, Any]) -> None:
        """Show the state that `record` tells, if there is a place and it is time."""
        now, last = time.monotonic(), record["step"] == self.steps
        wait = PLAIN_SECONDS if self.bar is None else LIVE_SECONDS
        if self.quiet or (now < self.said + wait and not (last and self.bar)):
            return
        self.said = now
        words = self._words(record)
        if self.bar is not None:
            self.bar.update(self.task, completed=record["step"], words=self._fitting(words), refresh=True)
        else:
            said = [self.name, f"{100 * record['step'] // self.steps} %", *words.values()]
            print("  ".join(word for word in said if word), file=self.stream, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _words(self, record: Mapping[str, Any]) -> dict[str, str]:
        step = record["step"]
        pace = (step - self.first) / max(time.monotonic() - self.began, 1e-9)
        values: dict[str, dict[str, Any]] = {
            "steps": {"step": step, "steps": self.steps},
            "pace": {"pace": pace},
            "loss": {"loss": f"{_least(record['loss']):#.4g}"},
        }
        best = min(self.best, _least(record.get("best_score")))
        if math.isfinite(best):
            values["best"] = {"best": f"{best:#.4g}"}
        if pace > 0:
            values["left"] = {"left": seconds_text(math.ceil((self.steps - step) / pace))}
        return {key: pick(TEXTS, key, self.lang, **value) for key, value in values.items()}

    def _fitting(self, words: dict[str, str]) -> str:
        """As many words as the terminal's line has room for; the least needed go first."""
        from rich.cells import cell_len  # a Hangul syllable takes two cells

        width = os.get_terminal_size(self.stream.fileno()).columns or 80  # some terminals claim to have none
        self.bar.console.width = width
        room = width - cell_len(self.name) - BAR - 9
        for dispensable in ("pace", "steps", "best", "left"):
            if cell_len("  ".join(words.values())) <= room:
                break
            words.pop(dispensable, None)
        return "  ".join(words.values())


def _bar(stream: TextIO, name: str, steps: int, done: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Rich

    bar = Rich(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=BAR),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("[cyan]{task.fields[words]}"),
        console=Console(file=stream),
        auto_refresh=False,  # no thread beside the training; `live` draws
        transient=True,
    )
    bar.start()
    return bar, bar.add_task(name, total=steps, completed=done, words="")


def _least(value: Any) -> float:
    """The lowest of a stack's values, or the one of a network; infinite where there is none."""
    values = value if isinstance(value, list) else [value]
    return min((v for v in values if v is not None and math.isfinite(v)), default=math.inf)
