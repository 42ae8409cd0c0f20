"""A command line run in this process, and a stranger's table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from sadari.cli import run


@pytest.fixture
def sadari(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command here; returns its exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def shops(tmp_path: Path) -> Path:
    """A table as a stranger has it: Hangul, dates, categories, gaps, and a path with a space."""
    path = tmp_path / "가게 자료" / "매출 기록.csv"
    path.parent.mkdir()
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 7, 18), eager=True)
    frame = pl.DataFrame(
        {
            "날짜": days,
            "지점": [("서울", "부산", None)[day % 3] for day in range(len(days))],
            "기온": [None if day % 17 == 0 else 10.0 + day % 12 for day in range(len(days))],
            "매출": [100.5 + 3 * (day % 12) + (20 if day % 3 == 0 else 0) for day in range(len(days))],
        }
    )
    frame.write_csv(path)
    return path
