"""Memory: gradients by lag as autograd gives them for one text, and the adding problem as controlled case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sadari.charts import draw
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.inspection import look
from sadari.inspection.memory import FRESH, TRIVIAL, Adder, _born, adding_course, draw_sums, reach
from sadari.inspection.rows import sample
from sadari.layers.tokens import embed
from sadari.tasks import build

SMALL = {"rnn": 12, "lstm": 12, "attention": 12, "transformer": 24}


def small_run(folder: Path, rung: str, data: str = "toy-order", steps: int = 30, **settings: Any) -> Any:
    settings = {"model": {"width": SMALL[rung]}, **settings}
    return fit(rung, data, out=folder / rung, budget=f"{steps}steps", **settings)


@pytest.mark.parametrize(
    "rung",
    [pytest.param(rung, marks=pytest.mark.proof(rung, "inside")) for rung in SMALL],
)
def test_shows_how_much_gradient_reaches_each_earlier_token(rung: str, tmp_path: Path) -> None:
    run = small_run(tmp_path, rung)
    view = look(run, "memory")
    lag, curve = view.arrays["lag"], view.arrays["run"]
    assert lag[0] == 0 and len(lag) == len(curve) == len(view.arrays["rnn"]) == len(view.arrays["small"]) > 5
    assert curve[0] == pytest.approx(1) and (curve > 0).all()
    assert view.facts["rung"] == rung and curve[view.facts["lowest"]] == curve[1:].min()
    for lang in ("en", "ko"):
        assert draw(view, lang) is not None and rung in view.say("title", lang)
    assert "Before learning, that of an RNN with small weights" in view.see[0]
    assert "배우기 전에는 가중치가 작은 RNN" in view.see[1]


def test_equals_autograd_on_one_text_alone(tmp_path: Path) -> None:
    run = small_run(tmp_path, "lstm")
    tokens, targets = (torch.from_numpy(a[:1]) for a in (run.data().train.features, run.data().train.targets))
    tokens = tokens[:, : int((tokens >= 0).sum())].long()
    found = reach(run.model, run, tokens, targets)
    model = run.model.double()
    x = embed(model.embedding, tokens).detach().requires_grad_()
    states, _ = model.lstm(x)
    C = model.config.width
    last = torch.cat([states[:, -1, :C], states[:, 0, C:]], -1)
    run.loss(model.output(last), targets).sum().backward()
    norms = x.grad[0].norm(dim=-1).flip(0)
    np.testing.assert_allclose(found, norms / norms[0], rtol=1e-9)


@pytest.mark.proof("rnn", "claim")
def test_small_weights_lose_the_gradient_in_a_few_dozen_steps(tmp_path: Path) -> None:
    """An RNN as torch draws it; one born orthogonal and an LSTM still have some after a hundred."""
    run = small_run(tmp_path, "lstm")
    tokens, targets = torch.randint(3, run.spec.width, (8, 120)), torch.arange(8) % 2
    curves = {kind: reach(_born(run, kind, 32), run, tokens, targets) for kind in FRESH}
    assert (curves["small"] < 1e-6).argmax() in range(5, 60) and curves["small"][100] < 1e-12
    assert min(curves["rnn"][100], curves["lstm"][100]) > 1e-6


def test_a_series_is_measured_in_its_numbers(tmp_path: Path) -> None:
    run = small_run(tmp_path, "rnn", "wine", kind="series")
    view = look(run, "memory", lags=8)
    assert len(view.arrays["lag"]) == 9
    assert "series" in view.caption[0] and "수열" in view.caption[1]
    features = torch.from_numpy(sample(run, "validation").features[:32, -9:])
    targets = torch.from_numpy(sample(run, "validation").targets[:32])
    np.testing.assert_allclose(view.arrays["run"], reach(run.model, run, features, targets))


@pytest.mark.parametrize("rung", ["lstm", "transformer"])
def test_a_language_model_is_measured_at_the_next_token(rung: str, tmp_path: Path) -> None:
    run = small_run(tmp_path, rung, "toy-grammar", task="language", steps=5)
    view = look(run, "memory", lags=30)
    assert len(view.arrays["lag"]) == 31 and view.arrays["run"][0] == pytest.approx(1)
    assert "stretches of text" in view.caption[0]


@pytest.mark.proof("lstm", "claim")
def test_on_the_adding_problem_the_lstm_succeeds_where_the_rnn_is_stuck() -> None:
    """The plain RNN of small weights, that is; one whose weights only turn its state gets some of the way."""
    steps, lstm = adding_course(30, "lstm", 300, width=32, rate=0.01)
    _, small = adding_course(30, "small", 300, width=32, rate=0.001)
    assert steps[-1] == 300 and len(steps) == len(lstm) == len(small)
    assert lstm[-1] < 0.05 < 0.12 < small.min() and small[-1] < 1.3 * TRIVIAL


@pytest.mark.slow
@pytest.mark.proof("lstm", "claim")
def test_on_a_hundred_steps_too() -> None:
    assert adding_course(100, "lstm", 500)[1][-1] < 0.02
    assert adding_course(100, "small", 500)[1][-1] > 0.14


def test_the_adding_problem_is_two_marked_numbers_and_their_sum() -> None:
    x, y = draw_sums(500, 21, torch.Generator().manual_seed(0))
    values, marks = x.unbind(-1)
    assert (marks.sum(1) == 2).all() and (marks[:, :10].sum(1) == 1).all()
    torch.testing.assert_close((values * marks).sum(1), y)
    assert (y - 1).square().mean().item() == pytest.approx(TRIVIAL, rel=0.15)
    assert Adder("small", 4)(x).shape == (500,)
    before = torch.random.get_rng_state()
    again = [adding_course(6, "rnn", 3, width=4)[1] for _ in range(2)]
    assert np.array_equal(*again) and torch.equal(before, torch.random.get_rng_state())


def test_the_adding_problem_can_stand_beside_the_curve(tmp_path: Path) -> None:
    run = small_run(tmp_path, "lstm")
    view = look(run, "memory", adding=6, adding_steps=40)
    assert view.arrays["adding_steps"][-1] == 40 and len(view.arrays["adding_rnn"]) == 20
    assert "adding problem over 6 steps" in view.see[0] and "6단계 덧셈 문제" in view.see[1]
    assert draw(view, "ko") is not None


def test_settings_out_of_range_are_said(tmp_path: Path) -> None:
    run = small_run(tmp_path, "rnn")
    with pytest.raises(SadariError, match=r"--lags 0 --adding 0 .* give lags and steps from 1 up"):
        look(run, "memory", lags=0)
    with pytest.raises(SadariError, match="a length of the adding problem from 2 up, or 0 for none"):
        look(run, "memory", adding=1)


def test_texts_of_one_token_have_nothing_before_the_last(tmp_path: Path) -> None:
    words = [f"{word}{k}" for k in range(30) for word in ("yes", "no")]
    lines = [f'{{"text": "{word}", "label": "{word.strip("0123456789")}"}}' for word in words]
    (tmp_path / "short.jsonl").write_text("\n".join(lines))
    reading = {"tokenizer": "words", "length": 1}
    run = small_run(tmp_path, "rnn", str(tmp_path / "short.jsonl"), 3, target="label", reading=reading)
    with pytest.raises(SadariError, match="no validation text has two tokens, so nothing was read before"):
        look(run, "memory")


def test_fresh_networks_are_built_like_any_other(tmp_path: Path) -> None:
    run = small_run(tmp_path, "attention")
    view = look(run, "memory", part="train")
    settings = {"width": 12, "directions": 1}
    fresh = build("rnn", "classify", settings, run.spec.width, run.loss, 0, "text")
    rows = sample(run, "train")
    tokens = torch.from_numpy(rows.features).long()
    lengths = (tokens >= 0).sum(1)
    longest = lengths.argsort(descending=True, stable=True)[:32]
    expected = reach(
        fresh, run, tokens[longest, : int(lengths.max())], torch.from_numpy(rows.targets)[longest]
    )
    np.testing.assert_allclose(view.arrays["rnn"], expected)
