"""The run's folder: what it must hold, and what it is refused for before anything is built from it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sadari.errors import SadariError
from sadari.fitting import fit, plan_fit, tensors
from sadari.runs import Run
from sadari.train import train


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fit("shallow", "iris", out=tmp_path / "run", budget="20steps", model={"width": 4}).path


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_config_that_asks_for_a_giant_is_not_obeyed(run: Path) -> None:
    edit(run / "config.json", lambda config: config["model"].update(width=10**9))
    with pytest.raises(SadariError, match=r"does not fit the rung .*35 numbers for 8,000,000,003 parameters"):
        Run.load(run)


@pytest.mark.parametrize("version", [True, -1, 0, "1", None])
def test_a_format_that_is_no_format_is_refused(run: Path, version: Any) -> None:
    edit(run / "config.json", lambda config: config.update(format=version))
    with pytest.raises(SadariError, match=r"has no format number, so .* is not a run; fit it again"):
        Run.load(run)


@pytest.mark.parametrize("part", ["data", "loss", "model", "rung"])
def test_a_config_with_a_part_missing_is_refused(run: Path, part: str) -> None:
    edit(run / "config.json", lambda config: config.pop(part))
    with pytest.raises(SadariError, match=rf"does not describe a run \('{part}'\); fit it again"):
        Run.load(run)


def test_json_without_end_is_refused(run: Path) -> None:
    (run / "config.json").write_text('{"a":' * 100_000)
    with pytest.raises(SadariError, match="cannot be read as JSON"):
        Run.load(run)


def test_fitting_again_opens_the_finished_run_and_another_fit_is_refused(run: Path) -> None:
    before = (run / "result.json").read_bytes()
    again = fit("shallow", "iris", out=run, budget="20steps", model={"width": 4})
    assert again.path == run and (run / "result.json").read_bytes() == before
    with pytest.raises(
        SadariError, match=re.escape(f"{run} already holds something else; give another folder")
    ):
        fit("shallow", "iris", out=run, budget="21steps", model={"width": 4})


def test_data_that_changed_since_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = [f"{k},{k * 2.5}" for k in range(60)]
    path.write_text("\n".join(["x,y", *rows]) + "\n")
    run = fit("line", path, out=tmp_path / "run")
    assert run.data().table.rows == 60
    path.write_text("\n".join(["x,y", *rows[:-1], "59,0.5"]) + "\n")
    with pytest.raises(
        SadariError, match="has changed since this run was fitted; fit again to look at new data"
    ):
        run.data()


@pytest.mark.parametrize(("setting", "value"), [("seed", -1), ("seed", 2**40), ("starts", 0)])
def test_settings_out_of_range_are_refused_before_the_data_are_read(setting: str, value: int) -> None:
    with pytest.raises(SadariError, match=f"--{setting} {value} is"):
        fit("line", "no such file", **{setting: value})  # type: ignore[arg-type]


def test_a_misspelt_setting_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SadariError, match="rung 'shallow' has no setting 'widht'; its settings are: width,"):
        fit("shallow", "iris", out=tmp_path / "run", model={"widht": 4})
    assert not (tmp_path / "run").exists()


def test_a_start_that_diverged_is_written_as_null_and_another_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON has no infinity: the score of a network that died must not break the run of one that lives."""
    import sadari.fitting

    def diverged(*args: Any, **options: Any) -> Any:
        trained = train(*args, **options)
        trained.best_score[0] = float("inf")
        return trained

    train = sadari.fitting.train
    monkeypatch.setattr(sadari.fitting, "train", diverged)
    run = fit("shallow", "iris", out=tmp_path / "run", budget="20steps", starts=2)
    scores = json.loads((run.path / "result.json").read_text())["start_scores"]
    assert scores[0] is None and scores[1] > 0


def test_poisson_learns_counts_in_their_own_units(tmp_path: Path) -> None:
    """The log rate of planted counts is 1 + x / 2: the line must find both numbers, in a run opened again."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=3000)
    rows = pl.DataFrame({"x": x, "calls": draw.poisson(np.exp(1 + x / 2))})
    rows.write_csv(tmp_path / "calls.csv")
    asked = {"task": "regress", "loss": "poisson", "budget": "3000steps"}
    fit("line", tmp_path / "calls.csv", out=tmp_path / "run", **asked)
    run = Run.load(tmp_path / "run")
    predicted = run.predict(pl.DataFrame({"x": [0.0, 1.0]}))["prediction"].to_numpy()
    assert np.log(predicted) == pytest.approx([1.0, 1.5], abs=0.1)
    assert run.data().validation.targets.tolist() == run.data().validation.targets.round().tolist()


def test_poisson_refuses_what_is_no_count(tmp_path: Path) -> None:
    pl.DataFrame({"x": range(50), "y": [k - 10.5 for k in range(50)]}).write_csv(tmp_path / "rows.csv")
    with pytest.raises(SadariError, match="loss 'poisson' is for counts from 0 up; use loss 'squared'"):
        fit("line", tmp_path / "rows.csv", loss="poisson", out=tmp_path / "run")
    with pytest.raises(SadariError, match="--log-target does not go with loss 'poisson'"):
        fit("line", "diabetes", loss="poisson", log_target=True, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rung", "data", "model"),
    [
        ("line", "diabetes", {"ridge": 40.0}),
        ("line", "diabetes", {}),
        ("logistic", "wine", {"penalty": 5.0}),
        ("logistic", "breast-cancer", {"penalty": 5.0}),
    ],
)
def test_descent_lands_where_the_direct_solution_does(
    rung: str, data: str, model: dict[str, float], tmp_path: Path
) -> None:
    """Two ways, same answer, penalty included: all rows in a step, no early stop, the last weights."""
    exact = fit(rung, data, model=model, out=tmp_path / "exact")
    loop = {"batch_size": 10**6, "learning_rate": 0.05, "patience": 0, "monitor": "loss"}
    plan = plan_fit(rung, data, model={**model, "method": "gradient"}, train=loop, budget="4000steps")
    descended = plan.networks()[0]
    train(descended, plan.task, tensors(plan.prepared.train), {}, plan.training)
    rows = tensors(plan.prepared.train)["features"]
    answers = [network(rows).detach() for network in (exact.model, descended)]
    if plan.loss.outputs > 1:  # a number added to every class's score changes no probability
        answers = [answer - answer.mean(-1, keepdim=True) for answer in answers]
    torch.testing.assert_close(*answers, rtol=0, atol=2e-3)
