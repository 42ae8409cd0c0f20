"""How a climb is going: which of its stages runs, about how long is left, and the bar of what is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sadari.cli import say
from sadari.lang import Lang, pick
from sadari.plan import seconds_text
from sadari.progress import Progress

TEXTS = {
    "stage": ("{number}/{of} {stage}", "{number}/{of} {stage}"),
    "left": (", about {left} left in all", ", 모두 약 {left} 남음"),
    "judge": ("the judge from outside", "바깥에서 견주는 모델"),
    "sizes": ("less data, to see what more would bring", "데이터를 줄여 보며 늘릴 값어치 재기"),
    "report": ("the report", "보고서"),
}


class Ascent(Progress):
    """A watcher of the climb: a line a stage in a terminal, with the bar of a training in its place."""

    def __init__(self, *, quiet: bool = False, lang: Lang = "en") -> None:
        super().__init__(quiet=quiet, lang=lang)
        self.line: Any = None

    def stage(self, facts: Mapping[str, Any]) -> None:
        """Say what begins: `stage`, its `number` of how many, and the seconds that are left."""
        self.close()
        stage = facts["stage"]
        name = pick(TEXTS, stage, self.lang) if stage in TEXTS else stage
        self.name = pick(TEXTS, "stage", self.lang, number=facts["number"], of=facts["of"], stage=name)
        if not self.quiet and self.stream.isatty():
            left = pick(TEXTS, "left", self.lang, left=seconds_text(math.ceil(facts["seconds_left"])))
            self.line = say.console().status(self.name + left)
            self.line.start()

    def start(self, facts: Mapping[str, Any]) -> None:
        """A training begins: its bar takes the place of the line."""
        self._end_line()
        super().start(facts)

    def close(self) -> None:
        """Take the bar and the line away."""
        self._end_line()
        super().close()

    def _end_line(self) -> None:
        if self.line is not None:
            self.line.stop()
            self.line = None
