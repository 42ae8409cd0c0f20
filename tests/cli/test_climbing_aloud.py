"""`sadari climb`: the table, the verdict, the path, and a climb in place of a run."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from sadari.cli.ascent import Ascent
from sadari.climbing.ascent import Named
from sadari.lang import Lang

QUICK = ["--budget", "20steps", "--starts", "1"]


@pytest.fixture(scope="module")
def climbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small climb made by the command line, and what it printed."""
    folder = tmp_path_factory.mktemp("climb") / "wave"
    words = ["climb", "toy-wave", "--rungs", "line,shallow", *QUICK, "--out", str(folder)]
    code = f"import sys; from sadari.cli import run; sys.exit(run({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment())
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "COLUMNS": "80"}


def test_climb_prints_table_verdict_report_and_path(climbed: tuple[Path, str]) -> None:
    folder, out = climbed
    lines = out.splitlines()
    assert lines[-1] == str(folder) and lines[-2] == f"report: {folder / 'report.html'}"
    rows = [line[2:].split("  ")[0] for line in lines[1:5]]
    assert rows == ["mean", "line", "shallow", "gradient boosting"]
    content = json.loads((folder / "climb.json").read_text())
    chosen = content["verdict"]["rung"]
    assert next(line for line in lines if line.startswith("→ ")).split()[1] == chosen
    assert content["verdict"]["headlines"]["en"] in out
    for rung, line in zip(content["rungs"], lines[1:5], strict=True):
        assert f"{rung['parameters']:,}" in line.split()
    assert max(map(len, lines[:5])) <= 80


def test_climb_in_korean_of_what_is_done_already(
    climbed: tuple[Path, str], sadari: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = climbed
    words = ["climb", "toy-wave", "--rungs", "line,shallow", *QUICK, "--out", folder, "--lang", "ko"]
    code, out, err = sadari(*words)
    assert code == 0, err
    assert "가중치" in out and "보고서: " in out
    assert json.loads((folder / "climb.json").read_text())["verdict"]["headlines"]["ko"] in out


def test_a_climb_stands_for_the_run_of_its_verdict(climbed: tuple[Path, str], sadari: Callable) -> None:
    folder, _ = climbed
    chosen = json.loads((folder / "climb.json").read_text())["verdict"]["rung"]
    code, out, err = sadari("look", folder)
    assert code == 0 and out.startswith(f"{chosen} fitted on toy-wave (300 rows)")
    assert f"{folder} is a climb; its verdict is {chosen}, so that run is used" in err


def test_scores_of_a_table_share_their_digits() -> None:
    from sadari.cli.climb import Scores

    rmse = Scores([703.4, 46.53, 51.0], False)
    assert [rmse.show(score) for score in (703.4, 46.53)] == ["703.4", "46.5"]
    assert Scores([0.0512, 0.04], False).show(0.04) == "0.0400"
    assert Scores([2500.0], False).show(2500.4) == "2,500"
    assert Scores([0.5], True).show(0.9444, "+") == "+94.4"
    assert Scores([0.0], False).show(0.0) == "0.00"


def test_a_view_of_a_climb_opens_a_rung_that_it_fits(climbed: tuple[Path, str], sadari: Callable) -> None:
    folder, _ = climbed
    code, out, err = sadari("look", folder, "regions")
    assert code == 0, err
    assert "shallow" in out.splitlines()[0] and out.splitlines()[-1] == str(folder / "looks" / "regions.png")
    code, _, err = sadari("look", folder, "gradients")
    assert code == 2 and "view 'gradients' does not fit" in err


def test_a_curve_of_a_climb_draws_all_its_rungs(
    climbed: tuple[Path, str], sadari: Callable, tmp_path: Path
) -> None:
    code, _, err = sadari("look", climbed[0], "curve", "--out", tmp_path / "looks")
    assert code == 0, err
    assert json.loads((tmp_path / "looks" / "curve.json").read_text())["facts"]["rungs"] == [
        "mean",
        "line",
        "shallow",
    ]


def test_an_unfinished_climb_says_how_it_goes_on(
    climbed: tuple[Path, str], sadari: Callable, tmp_path: Path
) -> None:
    import shutil

    copy = shutil.copytree(climbed[0], tmp_path / "copy")
    (copy / "climb.json").unlink()
    code, _, err = sadari("look", copy)
    assert code == 2 and "is unfinished; give its `sadari climb` command again and it goes on" in err


@pytest.mark.parametrize(
    ("lang", "first", "second"),
    [
        ("en", "2/8 line, about 12 s left in all", "6/8 the judge from outside"),
        ("ko", "2/8 line, 모두 약 12 s 남음", "6/8 바깥에서 견주는 모델"),
    ],
)
def test_a_terminal_shows_the_stage_and_the_bar(
    lang: Lang, first: str, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = os.openpty()
    terminal = os.fdopen(theirs, "w", encoding="utf-8")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    watcher = Ascent(lang=lang)
    with closing(watcher):
        watcher.stage({"stage": "line", "number": 2, "of": 8, "seconds_left": 11.2})
        watcher.start({"rung": "line", "steps": 100, "step": 0})
        watcher({"rung": "line", "step": 100, "loss": 0.5})
        watcher.stage({"stage": "judge", "number": 6, "of": 8, "seconds_left": 3.0})
    terminal.close()
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", everything(ours))
    assert first in shown and "100 %" in shown and second in shown
    assert shown.index(first) < shown.index("100 %") < shown.index(second)


def everything(terminal: int) -> str:
    """What was written to a terminal whose other end is closed by now."""
    read = b""
    with suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as file:  # Linux ends it with an error
        while part := file.read(1 << 16):
            read += part
    return read.decode("utf-8", "replace")


def test_a_log_file_is_spared_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    Ascent().stage({"stage": "line", "number": 2, "of": 8, "seconds_left": 11.2})
    assert not stream.getvalue()


def test_another_number_of_steps_reaches_the_bar_of_a_climb(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("sadari.progress.PLAIN_SECONDS", 0.0)
    watcher = Named(Ascent(), "deep")
    watcher.start({"steps": 100, "step": 0})
    watcher.planned(400)
    watcher({"step": 200, "loss": 0.5})
    assert "50 %" in stream.getvalue() and "200/400" in stream.getvalue()
