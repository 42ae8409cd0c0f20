"""What every rung promises, whatever it is: one suite over the ladders' own table."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import polars.testing
import pytest
import torch

from sadari.data.prepare import prepare
from sadari.fitting import can_solve, fit, tensors
from sadari.ladder import LADDERS, Ladder, Rung
from sadari.losses import make_loss
from sadari.runs import Run
from sadari.tasks import TableTask, build

DATA = {"regress": "diabetes", "classify": "wine"}
TABLES = [(ladder, rung) for ladder in LADDERS if ladder.kind == "table" for rung in ladder.here]
EVERY_RUNG = pytest.mark.parametrize(
    ("ladder", "rung"), TABLES, ids=[f"{ladder.task}-{rung.name}" for ladder, rung in TABLES]
)
GROUND = ("mean", "prior")


def loss_of(ladder: Ladder) -> Any:
    return make_loss("squared") if ladder.task == "regress" else make_loss("cross-entropy", classes=3)


def tiny(ladder: Ladder, rung: Rung, inputs: int = 5) -> Any:
    settings = asdict(rung.load().TINY)
    return build(rung.name, ladder.task, settings, inputs, loss_of(ladder), seed=0)


def batch_of(ladder: Ladder, rows: int = 8, inputs: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randn(rows, generator=generator) if ladder.task == "regress" else torch.arange(rows) % 3
    return {"features": torch.randn(rows, inputs, generator=generator), "targets": targets}


@EVERY_RUNG
def test_builds_from_defaults_with_the_promised_parameters(ladder: Ladder, rung: Rung) -> None:
    model_class, loss = rung.load(), loss_of(ladder)
    config = model_class.Config()
    model = build(rung.name, ladder.task, {}, 7, loss, seed=0)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == model_class.parameter_count(config, 7, loss.outputs)
    assert model_class.macs(config, 7, loss.outputs) >= 0


@EVERY_RUNG
def test_output_has_one_row_an_example(ladder: Ladder, rung: Rung) -> None:
    model = tiny(ladder, rung).eval()
    features = batch_of(ladder)["features"]
    output = model(features)
    assert output.shape == (8, loss_of(ladder).outputs)
    singles = torch.cat([model(features[i : i + 1]) for i in range(8)])
    torch.testing.assert_close(output, singles, rtol=0, atol=1e-6)


@EVERY_RUNG
def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator_alone(
    ladder: Ladder, rung: Rung
) -> None:
    before = torch.random.get_rng_state()
    first, second = tiny(ladder, rung).state_dict(), tiny(ladder, rung).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(before, torch.random.get_rng_state())


@EVERY_RUNG
def test_every_parameter_gets_a_gradient(ladder: Ladder, rung: Rung) -> None:
    model = tiny(ladder, rung)
    TableTask(ladder.task, loss_of(ladder)).backward(model, batch_of(ladder))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@EVERY_RUNG
def test_recording_changes_nothing_and_names_the_output(ladder: Ladder, rung: Rung) -> None:
    model, seen = tiny(ladder, rung).eval(), {}
    features = batch_of(ladder)["features"]

    def record(name: str, value: torch.Tensor) -> torch.Tensor:
        seen[name] = value
        return value

    output = model(features, rec=record)
    assert torch.equal(output, model(features))
    assert torch.equal(seen["output"], output)


@EVERY_RUNG
def test_learns_eight_examples_by_heart(ladder: Ladder, rung: Rung) -> None:
    """A rung that weighs five features and an intercept can nearly fit eight rows; the ground must not."""
    loss, batch = loss_of(ladder), batch_of(ladder)
    model = build(rung.name, ladder.task, {}, 5, loss, seed=0)
    task = TableTask(ladder.task, loss)
    before = task.evaluate(model, batch).item()
    if can_solve(model, loss):
        model.solve(batch["features"], batch["targets"], loss)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        model.eval()
        for _ in range(300):
            task.backward(model, batch)
            optimizer.step()
    after = task.evaluate(model, batch).item()
    if rung.name in GROUND:
        assert after == pytest.approx(_ground_loss(ladder, batch), abs=1e-5)
    else:
        assert after < (0.7 if can_solve(model, loss) else 0.02) * before


def _ground_loss(ladder: Ladder, batch: dict[str, torch.Tensor]) -> float:
    targets = batch["targets"]
    if ladder.task == "regress":
        return 0.5 * targets.var(correction=0).item()
    shares = torch.bincount(targets).double() / len(targets)
    return -(shares * shares.log()).sum().item()


@EVERY_RUNG
def test_configs_say_what_each_setting_is(ladder: Ladder, rung: Rung) -> None:
    config = rung.load().Config()
    assert type(config).__dataclass_params__.frozen
    for field in fields(config):
        assert replace(config, **{field.name: getattr(config, field.name)}) == config


@pytest.mark.parametrize(
    ("ladder", "rung"),
    [pytest.param(*pair, marks=pytest.mark.proof(pair[1].name, "trains")) for pair in TABLES],
    ids=[f"{ladder.task}-{rung.name}" for ladder, rung in TABLES],
)
def test_fits_real_data_and_answers_raw_rows_from_its_folder_alone(
    ladder: Ladder, rung: Rung, tmp_path: Path
) -> None:
    """Train on real data, save, open elsewhere: the same predictions, from raw rows, bit for bit."""
    data = DATA[ladder.task]
    run = fit(rung.name, data, out=tmp_path / "run", budget="300steps")
    prepared = prepare(data)
    moved = (tmp_path / "run").rename(tmp_path / "옮긴 곳")
    again = Run.load(moved)
    rows = prepared.table.frame.collect()
    pl.testing.assert_frame_equal(run.predict(rows), again.predict(rows))
    assert again.predict(rows).height == prepared.table.rows

    ground = fit(ladder.rungs[0].name, data, out=tmp_path / "ground", prepared=prepared)
    test = tensors(prepared.test)
    scores = [one.task.evaluate(one.model, test).item() for one in (ground, again)]
    if rung.name not in GROUND:
        assert scores[1] < 0.8 * scores[0], "it learnt nothing that the ground does not know"


@EVERY_RUNG
def test_a_run_explains_itself(ladder: Ladder, rung: Rung, tmp_path: Path) -> None:
    fit(rung.name, DATA[ladder.task], out=tmp_path / "run", budget="20steps")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.json", "spec.json", "weights.safetensors", "result.json"} <= names
    assert "checkpoint" not in names
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["rung"] == rung.name and config["task"] == ladder.task and config["data"]["fingerprint"]


@EVERY_RUNG
def test_fitting_twice_gives_the_same_weights(ladder: Ladder, rung: Rung, tmp_path: Path) -> None:
    runs = [fit(rung.name, DATA[ladder.task], out=tmp_path / name, budget="60steps") for name in ("a", "b")]
    for first, second in zip(*(run.model.state_dict().values() for run in runs), strict=True):
        assert torch.equal(first, second)
    assert np.array_equal(*(run.predictions(prepare(DATA[ladder.task]).test.features) for run in runs))
