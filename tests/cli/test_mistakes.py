"""What was mistyped, what broke, and what was interrupted: one line, and the exit code that says which."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("clim diabetes", "sadari has no verb 'clim'; did you mean climb?"),
        ("nothing", "sadari has no verb 'nothing'; see sadari --help"),
        ("fit shalow x.csv", "no rung 'shalow'; did you mean 'shallow'?"),
        ("fit x.csv", "the order is: sadari fit RUNG DATA"),
        (
            "fit shallow",
            "sadari fit shallow needs a table, or the name of a bundled one; try: sadari fit shallow",
        ),
        ("climb", "sadari climb needs a table"),
        ("predict", "sadari predict needs a run, and rows, a text or a photo"),
        ("look", "sadari look needs a run's folder"),
        ("data get", "sadari data get needs a name"),
        ("fit shallow d --widht 3", "sadari fit shallow has no option --widht; did you mean --width?"),
        (
            "fit line d --width 3",
            "sadari fit line has no setting --width; it belongs to shallow, deep, deep-skip, rnn, lstm,",
        ),
        ("fit line d --width=3", "sadari fit line has no setting --width;"),
        ("climb d --rung line", "sadari climb has no option --rung; did you mean --rungs?"),
        ("climb d e", "sadari climb does not know what to do with 'e'"),
        ("fit shallow d --seed abc", "--seed 'abc' is not a whole number; see sadari fit shallow --help"),
        ("fit shallow d --width 1.5", "--width '1.5' is not a whole number"),
        ("fit shallow d --width inf", "--width 'inf' is not a whole number"),
        ("fit shallow d --dropout half", "--dropout 'half' is not a number"),
        ("fit shallow d --lr fast", "--lr 'fast' is not a number"),
        ("fit shallow d --optimizer adam", "--optimizer 'adam' is none of adamw, sgd; did you mean adamw?"),
        ("climb d --lang fr", "--lang 'fr' is none of en, ko"),
        ("climb d --task sort", "--task 'sort' is none of regress, classify"),
        ("fit shallow d --width", "--width needs a value"),
        ("climb d --quiet=maybe", "--quiet takes no value"),
        ("rungs shalow", "no rung 'shalow'; did you mean shallow?"),
        ("rungs qqq", "no rung 'qqq'; rungs: "),
        ("rungs --picture ladder.gif", "--picture ladder.gif must end in .svg or .png"),
        ("export run --to pickle", "--to 'pickle' is none of onnx, safetensors"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_with_two(
    words: str, message: str, sadari: Callable, tmp_path: Path
) -> None:
    code, out, err = sadari(*words.split())
    assert code == 2 and not out
    assert err.count("\n") == 1 and err.startswith("error: ") and message in err
    assert not list(tmp_path.iterdir())


def test_a_mistake_is_told_in_korean_too(sadari: Callable) -> None:
    assert sadari("rungs", "shalow", "--lang=ko")[2].startswith("오류: ")
    assert sadari("rungs", "shalow", "--lang", "en")[2].startswith("error: ")


def test_an_unexpected_exception_is_one_line_with_a_hint(
    sadari: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(_: object) -> None:
        raise RuntimeError("first\n  second")

    monkeypatch.setattr("sadari.cli.data._list_all", break_down)
    code, _, err = sadari("data")
    assert code == 1
    assert (
        err == "error: RuntimeError: first second -- this is a fault of Sadari; "
        "SADARI_TRACE=1 shows where it happened\n"
    )
    monkeypatch.setenv("SADARI_TRACE", "1")
    with pytest.raises(RuntimeError, match="first"):
        sadari("data")


def test_interruption_leaves_with_130_and_says_how_to_go_on(
    sadari: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt("saved; give the same command again to go on")

    monkeypatch.setattr("sadari.cli.data._list_all", interrupted)
    assert sadari("data") == (130, "", "saved; give the same command again to go on\n")
    monkeypatch.setattr("sadari.cli.data._list_all", lambda _: exec("raise KeyboardInterrupt"))
    assert (
        sadari("data")[2]
        == "interrupted; nothing is half-written, and the same command again goes on from what is finished\n"
    )


@pytest.mark.parametrize("words", [["rungs"], ["--help"], ["rungs", "--json"]])
def test_a_reader_that_goes_away_ends_it_quietly(words: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from sadari.cli import main; main()", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 141
    process.stderr.close()


def test_no_color_is_respected(sadari: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[1;31m" in sadari("rungs", "shalow")[2]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "31m" not in sadari("rungs", "shalow")[2]
