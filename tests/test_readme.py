"""The README is run: each command in its console blocks, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from sadari.data.table import open_table
from sadari.ladder import LADDERS
from sadari.picture import picture

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.ko.md")


def commands(readme: str) -> list[tuple[str, list[str]]]:
    """Each `$ sadari ...` or `$ cat ...` of the console blocks with the lines that follow it."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return [(command, shown) for command, shown in found if command.startswith("sadari")]


@pytest.mark.parametrize("readme", READMES)
def test_every_command_works_and_ends_as_shown(readme: str, tmp_path: Path) -> None:
    open_table("diabetes").frame.collect().head(3).drop("progression").write_csv(tmp_path / "rows.csv")
    for command, shown in commands(readme):
        words = [sys.executable, "-m", "sadari", *shlex.split(command)[1:]]
        done = subprocess.run(
            words, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
        )
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout.splitlines()[-1].strip() == shown[-1].strip(), command
    text = (ROOT / readme).read_text(encoding="utf-8")
    shown_rows = re.search(r"\$ cat rows-predicted.csv\n(.*?)```", text, flags=re.DOTALL)
    assert shown_rows
    promised = pl.read_csv(shown_rows[1].encode())["prediction"]
    made = pl.read_csv(tmp_path / "rows-predicted.csv")["prediction"]
    assert (promised - made).abs().max() < 0.01  # type: ignore[operator]


def test_both_readmes_show_the_same_commands_pictures_and_matrix() -> None:
    english, korean = ((ROOT / name).read_text(encoding="utf-8") for name in READMES)
    plain = [[command.replace(" --lang ko", "") for command, _ in commands(name)] for name in READMES]
    assert plain[0] == plain[1]
    assert english.count("\n## ") == korean.count("\n## ")
    rows = [re.findall(r"^\| `.*$", text, flags=re.MULTILINE) for text in (english, korean)]
    assert rows[0] == rows[1]
    for text in (english, korean):
        for shown in re.findall(r"\]\((docs/[^)]+)\)", text):
            assert (ROOT / shown).is_file(), shown


def test_the_pictures_of_the_ladders_are_the_ones_that_the_command_draws() -> None:
    assert picture(LADDERS, "en") == (ROOT / "docs" / "ladder.svg").read_text(encoding="utf-8")
    assert picture(LADDERS, "ko") == (ROOT / "docs" / "ladder.ko.svg").read_text(encoding="utf-8")
