"""The run that a path means: a run's own folder, or a climb's, which means the rung of its verdict."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sadari.cli import say
from sadari.lang import Lang, pick

if TYPE_CHECKING:
    from sadari.climbing import Climb
    from sadari.runs import Run

TEXTS = {
    "verdict": (
        "{path} is a climb; its verdict is {rung}, so that run is used",
        "{path}: 등반 결과이므로 판정이 고른 {rung} 단을 씁니다",
    ),
    "fits": (
        "{path} is a climb; {rung} is its highest rung that this fits, so that run is used",
        "{path}: 등반 결과이므로 여기에 맞는 가장 높은 단인 {rung} 단을 씁니다",
    ),
}


def anything(task: str, rung: str, kind: str) -> bool:
    """Every rung of every task will do."""
    return True


def holds_run(path: Path) -> bool:
    """Whether a run or a climb is at `path`, were it unfinished or broken."""
    return any((path / name).is_file() for name in ("config.json", "climb.json", "settings.json"))


def open_run(
    path: Path, lang: Lang, quiet: bool = False, fits: Callable[[str, str, str], bool] = anything
) -> Run:
    """The run at `path`. Of a climb, said aloud: the verdict's, else the highest that `fits` its task."""
    from sadari.runs import Run

    climb = _climb(path)
    if climb is None:
        return Run.load(path)
    run = climb.run()
    others = [name for name in _names(climb) if fits(climb.task, name, climb.kind)]
    key = "verdict"
    if others and run.rung not in others:
        run, key = climb.run(others[-1]), "fits"
    if not quiet:
        say.aside(pick(TEXTS, key, lang, path=path, rung=run.rung))
    return run


def open_runs(path: Path) -> list[Run]:
    """All runs of a climb from the ground up, or the one run at `path`."""
    from sadari.runs import Run

    climb = _climb(path)
    return [Run.load(path)] if climb is None else [climb.run(name) for name in _names(climb)]


def _climb(path: Path) -> Climb | None:
    """The climb at `path`, finished or not, or None where there is none."""
    if not any((path / name).is_file() for name in ("climb.json", "settings.json")):
        return None
    from sadari.climbing import Climb

    return Climb.load(path)


def _names(climb: Climb) -> list[str]:
    return [rung["name"] for rung in climb.rungs if rung["run"]]
