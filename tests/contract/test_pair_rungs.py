"""What every rung that turns one text into another promises: one suite over the ladder's own table."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sadari.batches import make_batches
from sadari.data.toy_pairs import reverse
from sadari.fitting import fit, tensors
from sadari.ladder import Rung, ladder_for
from sadari.layers.tokens import PAD
from sadari.runs import Run
from sadari.search import Searching, search
from sadari.tasks import build, make_task
from sadari.tasks_pairs import TokenLoss
from sadari.train import TrainConfig

V, S, T = 11, 6, 5
START, END = 0, 1
LADDER = ladder_for("translate", "pairs")
RUNGS = list(LADDER.here)
NEURAL = [rung for rung in RUNGS if rung.name != "lookup"]
LOSS = TokenLoss(V)
EVERY = pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
EVERY_NEURAL = pytest.mark.parametrize("rung", NEURAL, ids=lambda rung: rung.name)


def tiny(rung: Rung, seed: int = 0) -> Any:
    return build(rung.name, "translate", asdict(rung.load().TINY), V, LOSS, seed, "pairs")


def pairs(count: int = 5) -> dict[str, torch.Tensor]:
    """Sources and targets of uneven length; one of each has nothing but its marks."""
    random = torch.Generator().manual_seed(1)
    source = torch.randint(2, V, (count, S), generator=random)
    target = torch.randint(2, V, (count, T + 2), generator=random)
    target[:, 0] = START
    for row in range(count):
        source_end, target_end = row % S, 1 + row % T
        source[row, source_end], source[row, source_end + 1 :] = END, PAD
        target[row, target_end], target[row, target_end + 1 :] = END, PAD
    return {"features": source, "targets": target}


@EVERY_NEURAL
def test_builds_with_the_promised_parameters_and_a_seed(rung: Rung) -> None:
    model, again = tiny(rung), tiny(rung)
    promised = rung.load().parameter_count(model.config, V, V)
    assert sum(parameter.numel() for parameter in model.parameters()) == promised
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert any(
        not torch.equal(a, b) for a, b in zip(model.parameters(), tiny(rung, 1).parameters(), strict=True)
    )


@EVERY_NEURAL
def test_every_parameter_gets_a_gradient_and_a_batch_is_learnt_by_heart(rung: Rung) -> None:
    model, task, batch = tiny(rung), make_task("pairs", "translate", LOSS), pairs()
    task.backward(model, batch)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool((parameter.grad != 0).any()), name
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(150):
        task.backward(model, batch)
        optimizer.step()
    model.eval()
    assert task.evaluate(model, batch).item() < 0.3


@EVERY_NEURAL
def test_padding_changes_nothing(rung: Rung) -> None:
    model, batch = tiny(rung).eval(), pairs()
    source, read = batch["features"], batch["targets"][:, :-1]
    together = model(source, read)
    assert torch.isfinite(together[read >= 0]).all()
    for row in range(len(source)):
        own, mine = (part[row][part[row] >= 0].unsqueeze(0) for part in (source, read))
        torch.testing.assert_close(model(own, mine)[0], together[row, : mine.shape[1]], atol=1e-5, rtol=1e-5)


@EVERY_NEURAL
def test_steps_equal_one_pass_and_rows_can_be_reordered(rung: Rung) -> None:
    model, batch = tiny(rung).eval(), pairs()
    source, read = batch["features"], torch.randint(2, V, (5, T))
    with torch.inference_mode():
        logits = model(source, read)
        answer, state = model.step(read[:, :2], model.start(source))
        torch.testing.assert_close(answer, logits[:, 1], atol=1e-5, rtol=1e-5)
        rows = torch.tensor([3, 0, 0, 4])
        state = model.reorder(state, rows)
        for t in range(2, T):
            answer, state = model.step(read[rows, t : t + 1], state)
            torch.testing.assert_close(answer, logits[rows, t], atol=1e-5, rtol=1e-5)


@EVERY_NEURAL
def test_the_open_way_equals_the_fast_one_and_can_be_recorded(rung: Rung) -> None:
    model, batch = tiny(rung).eval(), pairs()
    source, read = batch["features"], batch["targets"][:, :-1]
    seen: dict[str, torch.Tensor] = {}

    def rec(name: str, value: torch.Tensor) -> torch.Tensor:
        seen[name] = value
        return value

    real = read >= 0
    fast, plain = model(source, read), model(source, read, rec, plain=True)
    torch.testing.assert_close(plain[real], fast[real], atol=1e-5, rtol=1e-5)
    assert "output" in seen and len(seen) > 2


@EVERY_NEURAL
def test_alignments_are_shares_of_real_source_tokens(rung: Rung) -> None:
    model, batch = tiny(rung).eval(), pairs()
    if not hasattr(model, "alignment"):
        assert rung.name in ("rnn", "lstm")
        return
    source, read = batch["features"], batch["targets"][:, :-1]
    weights = model.alignment(source, read)
    assert weights.shape == (5, read.shape[1], S)
    real = read >= 0
    torch.testing.assert_close(weights.sum(-1)[real], torch.ones(int(real.sum())), atol=1e-5, rtol=1e-5)
    assert not weights[(source < 0).unsqueeze(1).expand_as(weights) & real.unsqueeze(-1)].any()


@EVERY
def test_configs_say_what_each_setting_is(rung: Rung) -> None:
    config = rung.load().Config()
    assert type(config).__dataclass_params__.frozen
    for field in fields(config):
        assert replace(config, **{field.name: getattr(config, field.name)}) == config


# Whole fits.

BUDGET = "60steps"
SMALL: dict[str, dict[str, Any]] = {
    "lookup": {},
    "rnn": {"width": 48},
    "lstm": {"width": 48},
    "lstm-attention": {"width": 48},
    "transformer": {"width": 32, "heads": 2, "inner": 64},
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fewer and shorter pairs than `toy-reverse` has."""
    path = tmp_path_factory.mktemp("pairs") / "digits.csv"
    frame = reverse(3000, seed=0)
    frame.filter(pl.col(frame.columns[0]).str.len_chars() < 20).write_csv(path)
    return path


def fitted(rung: Rung, digits: Path, out: Path) -> Run:
    return fit(
        rung.name, digits, out=out, budget=BUDGET, model=SMALL[rung.name], kind="pairs",
        reading={"tokenizer": "words"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "rung", [pytest.param(rung, marks=pytest.mark.proof(rung.name, "trains"), id=rung.name) for rung in RUNGS]
)
def test_fits_and_translates_from_its_folder_alone(rung: Rung, digits: Path, tmp_path: Path) -> None:
    run = fitted(rung, digits, tmp_path / "run")
    names = {path.name for path in run.path.iterdir()}
    assert {"config.json", "spec.json", "tokenizer.json", "weights.safetensors", "result.json"} <= names
    assert "checkpoint" not in names
    config = json.loads((run.path / "config.json").read_text())
    assert (config["rung"], config["task"], config["kind"]) == (rung.name, "translate", "pairs")
    texts = ["1 2 3", "", "9 8 7 6 5 4", "4", "안녕 3"]
    again = Run.load(run.path.rename(tmp_path / "옮긴 곳"))
    together = again.translate(texts)
    assert together == run.translate(texts) == [again.translate([text])[0] for text in texts]
    assert together[1] == ""
    if rung.name != "lookup":
        prepared = again.data()
        fresh = build(rung.name, "translate", run.config["model"], run.spec.width, run.loss, 0, "pairs")
        test = tensors(prepared.test)
        before, after = (run.task.evaluate(model, test).item() for model in (fresh, run.model))
        assert after < 0.9 * before


@EVERY
def test_fitting_twice_gives_the_same_weights(rung: Rung, digits: Path, tmp_path: Path) -> None:
    runs = [fitted(rung, digits, tmp_path / name) for name in ("a", "b")]
    for first, second in zip(*(run.model.state_dict().values() for run in runs), strict=True):
        assert torch.equal(first, second)


@EVERY_NEURAL
def test_a_beam_of_one_is_greedy_and_batches_are_their_rows(rung: Rung) -> None:
    model, source = tiny(rung).eval(), pairs()["features"]
    found = search(model, source, Searching(), START, END)
    for row in range(len(source)):
        own = source[row][source[row] >= 0].unsqueeze(0)
        assert search(model, own, Searching(), START, END)[0][0].tokens == found[row][0].tokens
    wide = search(model, source, Searching(beam=4, n_best=4), START, END)
    for several in wide:
        scores = [one.score for one in several]
        assert scores == sorted(scores, reverse=True) and np.isfinite(scores).all()


@EVERY_NEURAL
@pytest.mark.parametrize("course", ["linear", "inverse-sigmoid"])
def test_scheduled_sampling_trains_every_rung(rung: Rung, course: str) -> None:
    model, task = tiny(rung), make_task("pairs", "translate", LOSS)
    config = TrainConfig(batch_size=40, forcing=course, forcing_end=0.2)  # type: ignore[arg-type]
    batch = make_batches(model, task, pairs(12), config).first()
    task.force(course, 0.2)  # type: ignore[union-attr]
    task.at(9, 10)  # type: ignore[union-attr]
    losses = task.backward(model, batch)
    assert torch.isfinite(losses["loss"]).all()
