"""What the command line knows of rungs and settings before anything heavy is imported."""

from __future__ import annotations

from sadari.describe import Field, fields_of
from sadari.ladder import LADDERS, Rung

# Fields of the loop's config that have options of their own.
ELSEWHERE = ("seed", "budget_seconds", "budget_steps")


def rungs_here() -> dict[str, Rung]:
    """Every rung that can be fitted today, by name, the ground first."""
    return {rung.name: rung for ladder in LADDERS for rung in ladder.here}


def settings_of(rung: Rung) -> tuple[Field, ...]:
    """The settings of a rung that is there, read from its file."""
    return fields_of(rung.module, f"{rung.model}Config")


def loop_settings() -> tuple[Field, ...]:
    """The settings of the one loop that are options under their own names."""
    return tuple(field for field in fields_of("sadari.train", "TrainConfig") if field.name not in ELSEWHERE)
