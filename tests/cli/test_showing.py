"""`sadari rungs` and `sadari data`: everything there is, in words, JSON and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sadari.cli.known import rungs_here
from sadari.ladder import LADDERS


def test_rungs_shows_every_ladder_with_limit_paper_and_state(
    sadari: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    _, out, _ = sadari("rungs")
    lines = iter(out.splitlines())
    for ladder in LADDERS:
        assert next(line for line in lines if line.startswith(ladder.title))
        for rung in ladder.rungs:
            line = next(lines)
            assert line.split()[0] == ("●" if rung.here else "○")
            assert rung.name in line and rung.answers in line and rung.paper in line


def test_rungs_in_korean_and_as_json(sadari: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert LADDERS[0].rungs[1].answers_ko in sadari("rungs", "--lang", "ko")[1]
    ladders = json.loads(sadari("rungs", "--json")[1])
    assert [(entry["task"], entry["kind"]) for entry in ladders] == [(x.task, x.kind) for x in LADDERS]
    shallow = ladders[0]["rungs"][2]
    assert shallow["here"] and [setting["name"] for setting in shallow["settings"]] == [
        "width",
        "activation",
        "dropout",
    ]


def test_one_rung_in_full(sadari: Callable) -> None:
    _, out, _ = sadari("rungs", "shallow")
    assert out.startswith("shallow: regress table, classify table, classify series, regress series\n")
    assert (
        "exactly one hidden layer" in out and "--width" in out and "try: sadari fit shallow diabetes" in out
    )
    assert "\nshallow: classify images\n" in out
    assert "edit (not there yet)" in sadari("rungs", "pix2pix")[1]
    assert "try:" not in sadari("rungs", "pix2pix")[1]


@pytest.mark.parametrize("name", rungs_here())
def test_every_rung_says_how_to_try_it(sadari: Callable, name: str) -> None:
    code, out, _ = sadari("rungs", name)
    assert code == 0 and f"try: sadari fit {name} " in out


def test_rungs_draws_the_picture(sadari: Callable, tmp_path: Path) -> None:
    code, out, _ = sadari("rungs", "--picture", tmp_path / "ladder.svg", "--lang", "ko")
    assert code == 0 and out.strip() == str(tmp_path / "ladder.svg")
    assert "사다리" in (tmp_path / "ladder.svg").read_text()


def test_data_lists_every_set_with_licence_and_how_to_get_it(
    sadari: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sadari.data.builtin import BUILTIN

    monkeypatch.setenv("COLUMNS", "300")
    lines = sadari("data")[1].splitlines()
    for entry in BUILTIN.values():
        line = next(line for line in lines if line.startswith(f"  {entry.name} "))
        assert entry.licence in line and entry.how in line and entry.summary[0] in line


def test_data_looks_into_a_table(sadari: Callable, shops: Path) -> None:
    code, out, _ = sadari("data", shops, "--rows", "2")
    assert (
        code == 0 and out.startswith(f"{shops.name}: 200 rows, 4 columns")
    ) or "200 rows, 4 columns" in out
    lines = out.splitlines()
    gaps = next(line for line in lines if line.startswith("기온"))
    assert "Float64" in gaps and " 12 " in gaps
    assert lines[-1].split()[:1] == ["2024-01-02"]
    assert "progression (regress)" in sadari("data", "diabetes")[1]
