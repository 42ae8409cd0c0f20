"""The task of pairs: its loss, smoothed or not, what the loop watches, whose words are read in training."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sadari import tasks_pairs
from sadari.data.spec_pairs import PairSpec
from sadari.data.tokenizers import train_tokenizer
from sadari.errors import SadariError
from sadari.layers.vocabulary import vocabulary_loss
from sadari.losses import CrossEntropy, make_loss
from sadari.models.lookup import Lookup
from sadari.models.seq2seq import LSTMTranslator, Seq2SeqConfig
from sadari.models.translator import Translator
from sadari.optim import SCHEDULES
from sadari.tasks import loss_for, make_task
from sadari.tasks_pairs import COURSES, TokenLoss, TranslateTask, chosen, forcing_share
from sadari.train import SadariInterrupted, TrainConfig, train

V, START, END, PAD = 11, 1, 2, -1
SOURCES = 9


def pairs(count: int, seed: int = 0, longest: int = 7) -> dict[str, Tensor]:
    """Sources of any tokens; the target is the source read backwards, two further on."""
    draw = torch.Generator().manual_seed(seed)
    features = torch.full((count, longest + 1), PAD, dtype=torch.int32)
    targets = torch.full((count, longest + 2), PAD, dtype=torch.int32)
    for row, length in enumerate(torch.randint(0, longest + 1, (count,), generator=draw).tolist()):
        words = torch.randint(3, SOURCES, (length,), generator=draw, dtype=torch.int32)
        features[row, :length], features[row, length] = words, END
        targets[row, 0], targets[row, 1 : length + 1], targets[row, length + 1] = (
            START,
            words.flip(0) + 2,
            END,
        )
    return {"features": features, "targets": targets}


def lstm(**settings: Any) -> Any:
    torch.manual_seed(0)
    return LSTMTranslator(Seq2SeqConfig(**{"width": 8, "dropout": 0.0, **settings}), SOURCES, V)


def transformer(parallel: bool = True) -> Any:
    torch.manual_seed(0)
    model: Any = Translator(Translator.TINY, SOURCES, V)
    model.parallel = parallel
    return model


MODELS = pytest.mark.parametrize("make", [lstm, transformer])


def whole_loss(model: Any, batch: Mapping[str, Tensor], smoothing: float = 0.0) -> Tensor:
    """The loss as torch has it, over all logits at once."""
    logits = model(batch["features"], batch["targets"][:, :-1])
    wanted = batch["targets"][:, 1:].long()
    return F.cross_entropy(
        logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD, label_smoothing=smoothing
    )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_near(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------- losses


@given(
    N=st.integers(1, 40),
    size=st.integers(1, 50),
    C=st.integers(1, 9),
    bias=st.booleans(),
    block=st.integers(0, 45),
    smoothing=st.floats(0, 0.9),
    seed=st.integers(0, 9),
)
@settings(deadline=None)
def test_the_smoothed_vocabulary_loss_is_torchs(N, size, C, bias, block, smoothing, seed) -> None:
    draw = torch.Generator().manual_seed(seed)
    leaves = [
        torch.randn(shape, generator=draw).requires_grad_() for shape in [(N, C), (size, C), (size,)[:bias]]
    ]
    hidden, weight, shift = leaves[0], leaves[1], leaves[2] if bias else None
    targets = torch.randint(size, (N,), generator=draw)
    ours = vocabulary_loss(hidden, weight, shift, targets, block, smoothing)
    theirs = F.cross_entropy(F.linear(hidden, weight, shift), targets, label_smoothing=smoothing)
    assert_near(ours, theirs)
    asked = leaves[: 2 + bias]
    for a, b in zip(torch.autograd.grad(ours, asked), torch.autograd.grad(theirs, asked), strict=True):
        assert_near(a, b)


@given(st.sampled_from([0.0, 0.1, 0.5]), st.integers(2, 9), st.integers(0, 5))
@settings(deadline=None)
def test_the_loss_over_tokens_is_cross_entropy_without_its_table(smoothing, size, seed) -> None:
    draw = torch.Generator().manual_seed(seed)
    output, target = torch.randn(6, size, generator=draw), torch.randint(size, (6,), generator=draw)
    ours, theirs = TokenLoss(size, smoothing), CrossEntropy(size, smoothing)
    assert_near(ours(output, target), theirs(output, target))
    assert_near(ours.gradient(output, target), theirs.gradient(output, target))
    for a, b in zip(
        ours.value_and_gradient(output, target), theirs.value_and_gradient(output, target), strict=True
    ):
        assert_near(a, b)
    assert ours.name == "cross-entropy" and ours.outputs == size


@MODELS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_all_logits_with_padding_left_out(make: Any, smoothing: float) -> None:
    batch, model = pairs(12), make()
    losses = TranslateTask(TokenLoss(V, smoothing)).backward(model, batch)
    assert losses["loss"].shape == (1,)
    ours = gradients(model)
    model.zero_grad(set_to_none=True)
    theirs = whole_loss(model, batch, smoothing)
    theirs.backward()
    assert_near(losses["loss"][0], theirs.detach())
    for name, gradient in gradients(model).items():
        assert_near(ours[name], gradient)


# ---------------------------------------------------------------------- what is watched


@MODELS
@pytest.mark.parametrize("block", [1, 60, 1 << 13])
def test_nats_are_those_of_each_pair_by_itself(make: Any, block: int, monkeypatch) -> None:
    monkeypatch.setattr(tasks_pairs, "BLOCK", block)
    monkeypatch.setattr(tasks_pairs, "LOGITS", 5 * V)
    arrays, model, task = pairs(30), make(), TranslateTask(TokenLoss(V, 0.1))
    model.train()
    nats, tokens = task.nats(model, arrays)
    assert model.training and nats.dtype == torch.float64
    for row in range(30):
        alone = {name: array[row : row + 1] for name, array in arrays.items()}
        count = int((alone["targets"][:, 1:] >= 0).sum())
        with torch.no_grad():
            expected = whole_loss(model, alone) * count
        assert tokens[row] == count
        assert nats[row].item() == pytest.approx(expected.item(), rel=1e-5)
    assert task.evaluate(model, arrays).item() == pytest.approx(float(nats.sum() / tokens.sum()))
    assert task.evaluate(model, arrays).item() == pytest.approx(whole_loss(model, arrays).item(), rel=1e-5)


def test_what_the_loop_watches_is_bounded_and_spread_evenly(monkeypatch) -> None:
    arrays, model, task = pairs(200), lstm(), TranslateTask(TokenLoss(V))
    whole = task.score(model, arrays)
    assert torch.equal(whole["score"], whole["loss"]) and whole["loss"].shape == (1,)
    assert torch.equal(whole["loss"], task.evaluate(model, arrays))
    monkeypatch.setattr(tasks_pairs, "SCORED", 250)
    seen: list[Tensor] = []
    nats = task.nats

    def watched(model: nn.Module, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        seen.append(arrays["targets"])
        return nats(model, arrays)

    monkeypatch.setattr(task, "nats", watched)
    task.score(model, arrays)
    assert 150 < int((seen[0][:, 1:] >= 0).sum()) < 350
    step = len(arrays["targets"]) / len(seen[0])
    assert torch.equal(seen[0][-1], arrays["targets"][int((len(seen[0]) - 1) * step)])


def test_what_has_no_head_is_watched_too() -> None:
    arrays = pairs(20)
    model = Lookup(Lookup.TINY, SOURCES, V)
    model.solve(arrays["features"], arrays["targets"], TokenLoss(V))
    nats, tokens = TranslateTask(TokenLoss(V)).nats(model, arrays)
    assert nats.sum() == 0 and tokens.sum() == (arrays["targets"][:, 1:] >= 0).sum()


# ---------------------------------------------------------------------- whose words are read


@given(st.sampled_from(sorted(COURSES.keys() - {"always"})), st.floats(0, 0.99), st.integers(2, 500))
@settings(deadline=None)
def test_the_share_of_true_words_falls_from_all_to_the_end(course: str, end: float, steps: int) -> None:
    shares = [forcing_share(course, end, step, steps) for step in range(steps)]
    assert shares[0] == 1.0
    assert shares[-1] == pytest.approx(end)
    assert all(a >= b - 1e-12 for a, b in pairwise(shares))


def test_the_courses_have_the_shapes_of_their_names() -> None:
    quarter, half, three = ([COURSES[c](x) for c in COURSES] for x in (0.25, 0.5, 0.75))
    assert half[:2] == [1.0, 0.5] and half[3] == pytest.approx(0.5)
    assert quarter[2] < quarter[1] < quarter[3], "exponential falls early, inverse-sigmoid late"
    assert three[2] < three[1] and three[3] < three[1]
    assert forcing_share("linear", 0.5, 0, 1) == 1.0, "a training of one step"


@MODELS
def test_a_share_of_one_is_teacher_forcing_to_the_bit(make: Any) -> None:
    batch = pairs(8)
    found = []
    for forced in (False, True):
        model = make() if make is transformer else make(dropout=0.3)
        task = TranslateTask(TokenLoss(V, 0.1))
        if forced:
            task.force("linear", 0.2)
            task.at(0, 10)
        torch.manual_seed(5)
        found.append((task.backward(model.train(), batch)["loss"], gradients(model), torch.rand(1)))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][2], found[1][2])
    assert all(torch.equal(a, b) for a, b in zip(found[0][1].values(), found[1][1].values(), strict=True))


def stepped(model: Any, batch: Mapping[str, Tensor], share: float) -> tuple[Tensor, Tensor]:
    """Bengio's algorithm word for word, one step after another with gradients: loss, and what was read."""
    source, read = batch["features"], batch["targets"][:, :-1]
    keep = torch.rand(read.shape) < share
    words, state, logits, seen = read[:, 0], model.start(source), [], [read[:, 0]]
    for t in range(read.shape[1]):
        output, state = model.step(words.unsqueeze(-1), state)
        logits.append(output)
        if t + 1 < read.shape[1]:
            true = read[:, t + 1]
            words = torch.where(keep[:, t + 1] | (true < 0), true, output.argmax(-1).to(true))
            seen.append(words)
    wanted = batch["targets"][:, 1:].long().flatten()
    return F.cross_entropy(torch.stack(logits, 1).flatten(0, 1), wanted, ignore_index=PAD), torch.stack(
        seen, 1
    )


@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("make", [lstm, lambda: transformer(parallel=False)])
def test_chosen_first_and_learnt_at_once_equals_step_by_step(make: Any, share: float) -> None:
    batch, model = pairs(10), make()
    task = TranslateTask(TokenLoss(V))
    task.force("linear", share)
    torch.manual_seed(3)
    ours = task.backward(model, batch)["loss"][0]
    gradient = gradients(model)
    if isinstance(model, Translator):  # its steps write into their state, which autograd does not survive
        torch.manual_seed(3)
        with torch.no_grad():
            assert_near(ours, stepped(model, batch, share)[0])
        return
    model.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    theirs, read = stepped(model, batch, share)
    theirs.backward()
    torch.manual_seed(3)
    assert torch.equal(chosen(model, batch["features"], batch["targets"][:, :-1], share), read)
    assert_near(ours, theirs.detach())
    for name, each in gradients(model).items():
        assert_near(gradient[name], each)


def test_a_parallel_model_reads_what_its_first_pass_would_write() -> None:
    batch, model = pairs(10), transformer()
    source, read = batch["features"], batch["targets"][:, :-1]
    torch.manual_seed(4)
    found = chosen(model, source, read, 0.3)
    torch.manual_seed(4)
    keep = torch.rand(read.shape) < 0.3
    with torch.no_grad():
        own = model(source, read).argmax(-1).roll(1, 1).to(read)  # the word at t is foretold at t - 1
    keep[:, 0] = True
    assert torch.equal(found, torch.where(keep | (read < 0), read, own))
    assert found.dtype == read.dtype


@pytest.mark.parametrize("make", [lstm, transformer])
def test_start_and_padding_stay_and_the_share_holds(make: Any) -> None:
    batch, model = pairs(400), make()
    with torch.no_grad():
        model.head.bias[0] += 100.0  # its own word is always 0, which no target has
    read = batch["targets"][:, :-1]
    torch.manual_seed(0)
    found = chosen(model, batch["features"], read, 0.7)
    assert (found[:, 0] == START).all() and torch.equal(found < 0, read < 0)
    words = (read >= 0)[:, 1:]
    kept = (found[:, 1:] == read[:, 1:])[words].float().mean().item()
    assert kept == pytest.approx(0.7, abs=0.03)


# ---------------------------------------------------------------------- in the loop

TRAIN, VALIDATION = pairs(60, 1), pairs(20, 2)
CONFIG = TrainConfig(
    budget_steps=24,
    batch_size=120,
    learning_rate=0.01,
    evaluate_every=6,
    log_every=1,
    forcing="linear",
    forcing_end=0.2,
    threads=1,
)


@pytest.mark.parametrize("make", [lambda: lstm(dropout=0.2), transformer])
def test_interrupted_equals_uninterrupted(make: Any, tmp_path: Path) -> None:
    whole, task = make(), TranslateTask(TokenLoss(V, 0.1))
    straight = train(whole, task, TRAIN, VALIDATION, CONFIG, folder=tmp_path / "whole")
    for stop in (1, 7, 13):

        def press(record: dict[str, Any], stop: int = stop) -> None:
            if record["step"] == stop:
                raise KeyboardInterrupt

        folder = tmp_path / str(stop)
        with pytest.raises(SadariInterrupted):
            train(make(), task, TRAIN, VALIDATION, CONFIG, folder=folder, watchers=[press])
        again = make()
        resumed = train(again, task, TRAIN, VALIDATION, CONFIG, folder=folder)
        for (name, a), (_, b) in zip(whole.named_parameters(), again.named_parameters(), strict=True):
            assert torch.equal(a, b), name
        assert torch.equal(straight.best_score, resumed.best_score)


class Told(TranslateTask):
    """Writes down what the loop says."""

    def __init__(self) -> None:
        super().__init__(TokenLoss(V))
        self.heard: list[tuple[int, int]] = []
        self.shares: list[float] = []

    def at(self, step: int, steps: int) -> None:
        self.heard.append((step, steps))
        super().at(step, steps)

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.shares.append(self.share)
        return super().__call__(model, batch)


def test_the_loop_tells_the_task_how_far_it_is_only_where_that_matters() -> None:
    task = Told()
    train(lstm(), task, TRAIN, VALIDATION, CONFIG)
    assert task.heard == [(step, 24) for step in range(24)]
    assert task.shares[0] == 1.0 and task.shares[-1] == pytest.approx(0.2)
    told = Told()
    told.force("linear", 0.1)
    train(lstm(), told, TRAIN, VALIDATION, replace(CONFIG, forcing="always"))
    assert told.heard == [] and set(told.shares) == {1.0}, "a training's settings hold for that training"


def test_a_budget_in_seconds_is_planned_with_the_dearer_step() -> None:
    task = TranslateTask(TokenLoss(V))
    task.force("exponential", 0.3)
    assert task.share == 0.3
    task.force("always", 0.3)
    assert task.share == 1.0


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(
        SadariError, match="--forcing 'never' is unknown; choose one of: always, linear, exponential, inverse"
    ):
        TrainConfig(forcing="never")  # type: ignore[arg-type]
    with pytest.raises(SadariError, match="--forcing-end 1 is out of range; it must be at least 0 and below"):
        TrainConfig(forcing_end=1.0)


def test_the_inverse_square_root_climbs_straight_and_falls_with_the_root() -> None:
    at = SCHEDULES["inverse-sqrt"]
    assert [at(step, 1000, 99) for step in (0, 49, 99, 399, 899)] == pytest.approx([0.01, 0.5, 1, 0.5, 1 / 3])
    assert at(0, 10, 0) == 1.0 and at(3, 10, 0) == 0.5
    factors = [at(step, 100_000, 3999) for step in range(0, 100_000, 997)]
    paper = [min((step + 1) ** -0.5, (step + 1) * 4000**-1.5) for step in range(0, 100_000, 997)]
    assert factors == pytest.approx([rate * math.sqrt(4000) for rate in paper])


@MODELS
def test_it_learns_to_write_a_few_pairs(make: Any) -> None:
    few, model = pairs(8, 3), make() if make is transformer else make(width=32)
    config = TrainConfig(
        learning_rate=0.02,
        budget_steps=200,
        weight_decay=0.0,
        patience=0,
        schedule="inverse-sqrt",
        threads=1,
    )
    task = TranslateTask(TokenLoss(V))
    before = task.evaluate(model, few).item()
    train(model, task, few, few, config)
    assert before > 1.5 and task.evaluate(model, few).item() < 0.1


# ---------------------------------------------------------------------- how it comes about


def test_pairs_are_asked_for_by_their_spec() -> None:
    tokenizer = train_tokenizer(["a b c", "가 나 다"], "characters")
    spec = PairSpec("source", "target", tokenizer, tokenizer, 16)
    loss = loss_for(spec, "cross-entropy", smoothing=0.1)
    assert isinstance(loss, TokenLoss) and loss.outputs == tokenizer.size and loss.smoothing == 0.1
    task = make_task("pairs", "translate", loss_for(spec))
    assert isinstance(task, TranslateTask) and task.loss.smoothing == 0 and task.batching == "pairs"
    with pytest.raises(SadariError, match=r"smoothing 1.5: the share of a label spread lies in \[0, 1\)"):
        loss_for(spec, smoothing=1.5)


def test_a_task_can_be_copied_with_its_course() -> None:
    task = TranslateTask(make_loss("cross-entropy", classes=V))
    task.force("linear", 0.5)
    assert copy.deepcopy(task).share == 0.5
