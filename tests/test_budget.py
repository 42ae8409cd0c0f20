"""Budgets as people write them."""

from __future__ import annotations

import pytest

from sadari.budget import Budget
from sadari.errors import SadariError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("90s", Budget(seconds=90)),
        ("2m", Budget(seconds=120)),
        ("1.5h", Budget(seconds=5400)),
        ("2000steps", Budget(steps=2000)),
        (" 1 step ", Budget(steps=1)),
    ],
)
def test_reads(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget
    assert Budget.parse(str(budget)) == budget


@pytest.mark.parametrize(
    "text", ["", "90", "s", "-5s", "0s", "0steps", "1.5steps", "ninety seconds", "90 s s", "nan s"]
)
def test_refuses(text: str) -> None:
    with pytest.raises(
        SadariError, match="is not a budget; write seconds, minutes or steps: 90s, 2m, 2000steps"
    ):
        Budget.parse(text)
