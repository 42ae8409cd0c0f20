"""fit, predict, look and export as a stranger uses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

QUICK = ["--budget", "20steps", "--starts", "1"]


def test_fit_says_aloud_what_it_understood_and_prints_the_path_last(sadari: Callable, shops: Path) -> None:
    code, out, err = sadari("fit", "line", shops)
    assert code == 0, err
    assert "200 rows, 3 columns; target `매출` is numeric, so the task is regress (the last column is" in err
    assert out.splitlines() == [out.strip()] and Path(out.strip(), "result.json").is_file()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["toy-circle"], "toy-circle: 600 rows, 2 columns; target `side`, task classify"),
        (["iris", "--target", "species", "--lang", "ko"], "iris: 150행, 4열; 목표 `species`, 과제 classify"),
    ],
)
def test_what_a_bundled_table_is_for_is_said(words: list[str], line: str, sadari: Callable) -> None:
    code, _, err = sadari("fit", "logistic", *words)
    assert code == 0 and line in err.splitlines()


def test_classes_are_counted_aloud(sadari: Callable, shops: Path) -> None:
    err = sadari("fit", "prior", shops, "--target", "지점")[2]
    assert "target `지점` has 2 classes, so the task is classify\n" in err
    assert "warning: 66 of 200 rows have no `지점`" in err


def test_quiet_says_nothing_but_the_path(sadari: Callable) -> None:
    code, out, err = sadari("fit", "line", "toy-linear", "--quiet")
    assert (code, err) == (0, "") and out == "runs/toy-linear-line\n"


def test_plan_tells_and_writes_nothing(sadari: Callable, tmp_path: Path) -> None:
    code, out, err = sadari("fit", "shallow", "toy-wave", "--plan")
    assert code == 0, err
    assert out.startswith("shallow: 301 parameters, ") and "of memory at most" in out
    assert "nothing was trained or written" in err
    code, out, err = sadari(
        "climb", "toy-wave", "--rungs", "line,deep", "--starts", "2", "--plan", *QUICK[:2]
    )
    assert code == 0, err
    assert [line.split(":")[0] for line in out.splitlines()] == ["mean", "line", "deep"]
    assert "line: solved directly, without a step of training; parameters: 2\n" in out
    assert "at most 20 steps" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [["--plan"], []])
def test_what_has_no_room_is_refused_before_anything_is_written(
    more: list[str], sadari: Callable, tmp_path: Path
) -> None:
    code, _, err = sadari("fit", "shallow", "toy-wave", "--width", "1e12", *more)
    assert code == 2 and "are free; give a smaller --width or fewer --layers" in err.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_predict_look_and_export_take_the_run_that_fit_printed(sadari: Callable, shops: Path) -> None:
    run_path = sadari("fit", "line", shops)[1].strip()
    code, out, err = sadari("predict", run_path, shops, "--keep", "날짜, 지점")
    assert code == 0, err
    predicted = pl.read_csv(out.strip())
    assert predicted.columns == ["날짜", "지점", "prediction"] and predicted.height == 200
    code, out, _ = sadari("look", run_path)
    assert code == 0 and "residuals" in out and "confusion" not in out and "`매출`" in out
    code, out, err = sadari(
        "export", run_path, "--to", "safetensors", "--out", shops.parent / "model.safetensors"
    )
    assert code == 0 and Path(out.strip()).is_file(), err


def test_a_view_is_drawn_and_told(sadari: Callable) -> None:
    run_path = sadari("fit", "line", "toy-linear")[1].strip()
    code, out, err = sadari("look", run_path, "weights", "--top", "2")
    assert code == 0, err
    assert Path(out.splitlines()[-1]).read_bytes().startswith(b"\x89PNG")
    assert len(out.splitlines()) >= 3 and "weights.json" in err


def test_fit_says_how_well_it_went_and_what_to_do_next(sadari: Callable) -> None:
    code, out, err = sadari("fit", "line", "diabetes", "--budget", "3s", "--epochs", "2")
    assert code == 0
    assert "line is solved directly, so --epochs, --budget had nothing to do\n" in err
    last = err.splitlines()[-1]
    assert last.startswith("line: RMSE ") and " on 89 validation rows, in " in last
    assert last.endswith(f"; next: sadari look {out.strip()}")


def test_notes_of_the_fit_are_said_after_those_of_the_data(sadari: Callable, tmp_path: Path) -> None:
    pl.DataFrame(
        {"a": range(40), "b": [2.0 * a + 1 for a in range(40)], "y": [a % 7 for a in range(40)]}
    ).write_csv("twins.csv")
    code, _, err = sadari("fit", "line", "twins.csv", "--task", "regress")
    assert code == 0 and err.count("note: ") + err.count("warning: ") >= 1
    assert len(err.splitlines()) == len(set(err.splitlines()))


def test_a_tracker_gets_the_curves_too(sadari: Callable, tmp_path: Path) -> None:
    code, _, err = sadari("fit", "shallow", "toy-wave", *QUICK, "--tracker", "tensorboard", "--out", "run")
    assert code == 0, err
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
    code, _, err = sadari("fit", "shallow", "toy-wave", *QUICK, "--tracker", "notebook", "--out", "other")
    assert code == 2 and "--tracker 'notebook' is unknown; choose one of: tensorboard" in err
    assert not (tmp_path / "other").exists()
