"""What the command line knows of rungs and settings before anything heavy is imported."""

from __future__ import annotations

from sadari.describe import Field, fields_of
from sadari.ladder import LADDERS, Rung

# Fields of the loop's config that have options of their own.
ELSEWHERE = ("seed", "budget_seconds", "budget_steps")


def rungs_here() -> dict[str, Rung]:
    """Every rung that can be fitted today, by name, the ground first."""
    rungs: dict[str, Rung] = {}
    for ladder in LADDERS:
        for rung in ladder.here:
            rungs.setdefault(rung.name, rung)
    return rungs


def settings_of(rung: Rung) -> tuple[Field, ...]:
    """The settings of a rung that is there, read from its file."""
    return fields_of(rung.module, rung.config_name)


def settings_named(name: str) -> tuple[Field, ...]:
    """The settings of all rungs of that name: an RNN that classifies has others than one that writes."""
    rungs = dict.fromkeys(rung for ladder in LADDERS for rung in ladder.here if rung.name == name)
    fields = {field.name: field for rung in reversed(rungs) for field in settings_of(rung)}
    return tuple(fields.values())


def loop_settings() -> tuple[Field, ...]:
    """The settings of the one loop that are options under their own names."""
    return tuple(field for field in fields_of("sadari.train", "TrainConfig") if field.name not in ELSEWHERE)


def teacher_settings() -> tuple[Field, ...]:
    """The settings of a teacher, for a rung that is given one."""
    return fields_of("sadari.methods.distill", "DistillConfig")
