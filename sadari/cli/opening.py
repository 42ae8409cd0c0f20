"""The run that a path means: a run's own folder, or a climb's, which means the rung of its verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sadari.cli import say
from sadari.lang import Lang, pick

if TYPE_CHECKING:
    from sadari.runs import Run

CLIMB = "climb.json"
TEXTS = {
    "chosen": (
        "{path} is a climb; its verdict is {rung}, so that run is used",
        "{path}: 등반 결과이므로 판정이 고른 {rung} 단을 씁니다",
    ),
}


def open_run(path: Path, lang: Lang, quiet: bool = False) -> Run:
    """The run at `path`, or the one that a climb there recommends, which is said aloud."""
    from sadari.runs import Run

    if not (path / CLIMB).is_file():
        return Run.load(path)
    from sadari.climbing import Climb

    run = Climb.load(path).run()
    if not quiet:
        say.aside(pick(TEXTS, "chosen", lang, path=path, rung=run.rung))
    return run


def open_runs(path: Path) -> list[Run]:
    """All runs of a climb from the ground up, or the one run at `path`."""
    from sadari.runs import Run

    if not (path / CLIMB).is_file():
        return [Run.load(path)]
    from sadari.climbing import Climb

    climb = Climb.load(path)
    return [climb.run(rung["name"]) for rung in climb.rungs if rung["run"]]
