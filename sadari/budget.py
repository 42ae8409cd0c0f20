"""What a rung may spend: seconds of wall clock, or steps of the optimizer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sadari.errors import SadariError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Budget:
    """At most one of the two is given; with neither, the rung's own stopping rule decides."""

    seconds: float | None = None
    steps: int | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `90s`, `2m`, `1h` or `2000steps`. Raises SadariError on anything else, zero included."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|h)|(\d+)\s*steps?", text.strip())
        budget = cls()
        if match and match[1]:
            budget = cls(seconds=float(match[1]) * _UNITS[match[2]])
        elif match:
            budget = cls(steps=int(match[3]))
        if not (budget.seconds or budget.steps):
            raise SadariError(
                f"--budget {text!r} is not a budget; write seconds, minutes or steps: 90s, 2m, 2000steps"
            )
        return budget

    def __str__(self) -> str:
        if self.steps:
            return f"{self.steps}steps"
        return f"{self.seconds:g}s" if self.seconds else "until it stops improving"
