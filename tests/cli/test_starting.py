"""The first words: help, version, the start, and that none of them waits for anything heavy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest

from sadari.cli import VERBS, make_app

HEAVY = {"torch", "sklearn", "altair", "optuna", "polars"}


def test_help_and_rungs_import_nothing_heavy() -> None:
    code = f"""
import sys
from sadari.cli import run
for words in ([], ["--help"], ["--version"], ["rungs"], ["rungs", "shallow"], ["rungs", "--json"],
              ["fit", "--help"], ["fit", "shallow", "--help"], ["climb", "--help"], ["look", "--help"],
              ["fit", "shalow"], ["clim"]):
    run(words)
    print(words, sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    lines = [line for line in said.splitlines() if line.startswith("[")]
    assert len(lines) == 12 and all(line.endswith("] []") for line in lines), said


def test_sadari_alone_shows_three_commands_that_exist(sadari: Callable) -> None:
    code, out, err = sadari()
    assert code == 0 and not err
    commands = [line.split()[:2] for line in out.splitlines() if line.startswith("  sadari")]
    assert len(commands) == 3 and all(verb in VERBS for _, verb in commands)


def test_help_lists_every_verb_and_each_explains_itself(sadari: Callable) -> None:
    _, out, _ = sadari("--help")
    assert all(f"│ {verb} " in out for verb in VERBS)
    for verb in VERBS:
        code, out, err = sadari(verb, "--help")
        assert code == 0 and not err and f"Usage: sadari {verb}" in out


def test_version(sadari: Callable) -> None:
    code, out, _ = sadari("--version")
    assert code == 0 and out == f"sadari {version('sadari')}\n"


def test_korean_start_by_locale(sadari: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "ko_KR.UTF-8")
    assert "어디까지 올라가야" in sadari()[1]


def test_the_app_knows_no_verb_without_a_file() -> None:
    app = make_app()
    assert [name for name in app if not name.startswith("-")] == list(VERBS)
    for verb in VERBS:
        assert app[verb].help
