"""Tuning: on validation rows only, pruned, and going on where it was interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

import sadari.tune as tuning
from sadari.data.prepare import Prepared, prepare
from sadari.data.toy import planted
from sadari.errors import SadariError
from sadari.fitting import Plan, plan_fit, tensors
from sadari.ladder import ladder_for
from sadari.tasks import TableTask
from sadari.tune import SPACES, TRAINING, tune


def _plan(rung: str, prepared: Prepared, budget: str = "80steps") -> Plan:
    return plan_fit(rung, "planted", prepared=prepared, budget=budget, train={"evaluate_every": 5})


def _study(database: Path, rung: str) -> optuna.Study:
    return optuna.load_study(study_name=rung, storage=f"sqlite:///{database.absolute()}")


@pytest.fixture(scope="module")
def linear() -> Prepared:
    return prepare(planted("linear", 200, seed=0, noise=3.0, features=12))


def test_every_setting_that_is_searched_is_a_setting_of_its_rung() -> None:
    for task in ("regress", "classify"):
        for rung in ladder_for(task).here[1:]:
            assert set(SPACES[rung.name]) <= set(rung.load().Config.__dataclass_fields__)
    assert set(TRAINING) <= set(tuning.TrainConfig.__dataclass_fields__)


def test_the_ground_has_nothing_to_set(linear: Prepared, tmp_path: Path) -> None:
    assert tune(_plan("mean", linear), 5, tmp_path / "mean.sqlite") is None
    assert tune(_plan("line", linear), 0, tmp_path / "line.sqlite") is None
    assert not list(tmp_path.iterdir())


def test_the_best_ridge_is_the_one_with_the_lowest_validation_loss(linear: Prepared, tmp_path: Path) -> None:
    plan = _plan("line", linear)
    found = tune(plan, 12, tmp_path / "line.sqlite")
    assert found is not None and found.trials == 12 and found.train == {}
    trials = _study(tmp_path / "line.sqlite", "line").trials
    assert len(trials) == 12
    assert found.loss == min(trial.value for trial in trials)
    model: Any = _with_ridge(plan, found.model["ridge"])
    assert plan.task.evaluate(model, tensors(linear.validation)).item() == pytest.approx(found.loss)
    plain = _with_ridge(plan, 0.0)
    assert found.loss <= plan.task.evaluate(plain, tensors(linear.validation)).item() + 1e-6


def _with_ridge(plan: Plan, ridge: float) -> Any:
    config = {**plan.config, "model": {**plan.config["model"], "ridge": ridge}}
    model: Any = replace(plan, config=config).networks()[0]
    arrays = tensors(plan.prepared.train)
    model.solve(arrays["features"], arrays["targets"], plan.loss)
    return model.eval()


def test_networks_of_one_architecture_are_tried_together(linear: Prepared, tmp_path: Path) -> None:
    database = tmp_path / "shallow.sqlite"
    found = tune(_plan("shallow", linear), 6, database)
    assert (
        found is not None and set(found.model) == set(SPACES["shallow"]) and set(found.train) == set(TRAINING)
    )
    trials = _study(database, "shallow").trials
    assert len(trials) == 6
    first, second = trials[:4], trials[4:]
    for stack in (first, second):
        assert (
            len({tuple(sorted((k, v) for k, v in t.params.items() if k != "learning_rate")) for t in stack})
            == 1
        )
    assert len({trial.params["learning_rate"] for trial in first}) == 4
    assert all(trial.intermediate_values for trial in trials)


def test_tuning_goes_on_where_it_was_killed(
    linear: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, plan, taken = tmp_path / "shallow.sqlite", _plan("shallow", linear), []

    def dies_in_its_second_stack(*arguments: Any, **settings: Any) -> Any:
        taken.append(len(settings["learning_rates"]))
        if len(taken) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **settings)

    train = tuning.train
    monkeypatch.setattr(tuning, "train", dies_in_its_second_stack)
    with pytest.raises(KeyboardInterrupt):
        tune(plan, 12, database)
    found = tune(plan, 12, database)
    assert found is not None and taken == [4, 4, 4, 4]
    trials = _study(database, "shallow").trials
    states = [trial.state.name for trial in trials]
    assert states.count("FAIL") == 4 and states.count("COMPLETE") + states.count("PRUNED") == 12
    again = tune(plan, 12, database)
    assert again == found and len(taken) == 4  # finished: nothing is tried again
    assert len({trial.params["learning_rate"] for trial in trials}) == len(trials)  # no proposal twice


def test_what_falls_behind_is_pruned(
    linear: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the third stack on, rates so small that nothing is learnt: every member is behind the median."""
    stacks = []
    ask = tuning._suggest

    def suggest(trial: Any, name: str, space: tuple) -> Any:
        if name != "learning_rate":
            return ask(trial, name, space)
        return trial.suggest_float(name, *((1e-3, 1e-2) if trial.number < 8 else (1e-9, 1e-8)), log=True)

    train = tuning.train
    monkeypatch.setattr(tuning, "_suggest", suggest)
    monkeypatch.setattr(tuning, "train", lambda *a, **k: stacks.append(1) or train(*a, **k))
    monkeypatch.setitem(SPACES, "shallow", {"width": (32,)})
    found = tune(_plan("shallow", linear, "800steps"), 12, tmp_path / "shallow.sqlite")
    assert found is not None and found.pruned == 4 and len(stacks) == 3
    pruned = [
        trial
        for trial in _study(tmp_path / "shallow.sqlite", "shallow").trials
        if trial.state.name == "PRUNED"
    ]
    assert {trial.number for trial in pruned} == {8, 9, 10, 11}
    assert max(pruned[0].intermediate_values) < 200  # stopped before its share of the budget was spent


def test_no_finite_trial_is_an_error(linear: Prepared, tmp_path: Path) -> None:
    class Hopeless(TableTask):
        def evaluate(self, model: Any, arrays: Any) -> torch.Tensor:
            return torch.tensor([float("inf")])

    plan = _plan("line", linear)
    hopeless = replace(plan, task=Hopeless(plan.task.name, plan.loss))
    message = "tuning line: no trial of 3 gave a finite loss; scale the columns or raise --tune"
    with pytest.raises(SadariError, match=message):
        tune(hopeless, 3, tmp_path / "line.sqlite")
