from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sadari.batches import Batches, usual_size
from sadari.best import Best
from sadari.errors import SadariError
from sadari.layers.stack import Stack
from sadari.losses import make_loss
from sadari.models.deep import Deep, DeepConfig
from sadari.models.line import Line, LineConfig
from sadari.models.shallow import Shallow, ShallowConfig
from sadari.probe import length, macs_a_step, settle
from sadari.rates import range_test
from sadari.tasks import TableTask
from sadari.train import SadariInterrupted, TrainConfig, train

TASK = TableTask("regress", make_loss("squared"))
QUICK = TrainConfig(
    budget_steps=120, batch_size=32, learning_rate=0.01, patience=0, evaluate_every=20, threads=1
)


def table(rows: int = 300, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 4, generator=generator)
    noise = 0.1 * torch.randn(rows, generator=generator)
    return {"features": features, "targets": features[:, 0] * features[:, 1] + noise}


TRAIN, VALIDATION = table(), table(100, seed=2)


def shallow(seed: int = 0, dropout: float = 0.0) -> Shallow:
    torch.manual_seed(seed)
    return Shallow(ShallowConfig(width=16, dropout=dropout), 4, 1)


def stack(members: int = 1, dropout: float = 0.0) -> Stack:
    return Stack.of([shallow(seed, dropout) for seed in range(members)])


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def same(a: nn.Module, b: nn.Module) -> bool:
    first, second = weights(a), weights(b)
    return all(torch.equal(first[name], second[name]) for name in first)


# ---------------------------------------------------------------------- what it learns, and what it says


def test_learns_a_product_and_ends_with_the_best_weights() -> None:
    model = stack()
    trained = train(model, TASK, TRAIN, VALIDATION, replace(QUICK, budget_steps=1500))
    assert trained.stopped == "budget" and trained.steps == 1500
    assert trained.best_score.item() < 0.1 < TASK.evaluate(stack(), VALIDATION).item()
    assert TASK.evaluate(model, VALIDATION).item() == pytest.approx(trained.best_score.item(), rel=1e-9)
    seen = {record["step"]: record["validation_loss"] for record in trained.history}
    assert trained.best_score.item() == min(seen.values()) == seen[trained.best_step]


def test_a_stack_of_one_is_the_network_itself() -> None:
    by_hand, by_autograd = stack(), shallow()
    first = train(by_hand, TASK, TRAIN, VALIDATION, QUICK)
    second = train(by_autograd, TASK, TRAIN, VALIDATION, QUICK)
    torch.testing.assert_close(first.best_score, second.best_score, rtol=1e-5, atol=0)
    for a, b in zip(by_hand.unstack()[0].parameters(), by_autograd.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_members_of_a_stack_train_as_they_do_alone(optimizer: str) -> None:
    """Each with its own rate, its own patience and its own best weights."""
    config = replace(QUICK, optimizer=optimizer, clip=0.5, patience=3, budget_steps=600)
    rates = torch.tensor([0.003, 0.03, 0.1])
    together = stack(3)
    trained = train(together, TASK, TRAIN, VALIDATION, config, learning_rates=rates)
    for k, model in enumerate(together.unstack()):
        alone = Stack.of([shallow(k)])
        one = train(alone, TASK, TRAIN, VALIDATION, replace(config, learning_rate=float(rates[k])))
        assert trained.best_score[k].item() == pytest.approx(one.best_score.item(), rel=1e-3)
        for a, b in zip(model.parameters(), alone.unstack()[0].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)


def test_the_same_seed_gives_the_same_bits_and_another_does_not() -> None:
    first, second, third = (stack(2, dropout=0.2) for _ in range(3))
    runs = [train(model, TASK, TRAIN, VALIDATION, QUICK) for model in (first, second)]
    train(third, TASK, TRAIN, VALIDATION, replace(QUICK, seed=1))
    assert same(first, second) and not same(first, third)
    assert strip(runs[0].history) == strip(runs[1].history)


def strip(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


def test_the_log_says_what_happened(tmp_path: Path) -> None:
    config = replace(QUICK, log_every=7, evaluate_every=30, log_gradients=True, budget_steps=100)
    trained = train(stack(2), TASK, TRAIN, VALIDATION, config, folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == trained.history
    steps = [line["step"] for line in lines]
    assert steps == sorted({*range(7, 101, 7), 30, 60, 90, 100})
    assert [line["step"] for line in lines if "validation_loss" in line] == [30, 60, 90, 100]
    last = lines[-1]
    assert last["epoch"] == 10.0  # 300 rows at 32 are ten batches
    assert len(last["loss"]) == len(last["best_score"]) == 2
    assert set(last["gradients"]) == {"hidden.0", "output"} and len(last["gradients"]["output"]) == 2
    assert last["learning_rate"] < lines[0]["learning_rate"]


def test_the_logged_loss_is_the_mean_since_the_line_before() -> None:
    every = train(stack(), TASK, TRAIN, VALIDATION, replace(QUICK, log_every=1)).history
    few = train(stack(), TASK, TRAIN, VALIDATION, replace(QUICK, log_every=20)).history
    means = [sum(r["loss"] for r in every[i : i + 20]) / 20 for i in range(0, 120, 20)]
    assert [record["loss"] for record in few] == pytest.approx(means, rel=1e-5)


def test_gradient_norms_are_those_of_autograd_before_clipping() -> None:
    config = replace(QUICK, budget_steps=1, log_gradients=True, clip=1e-3, batch_size=300, optimizer="sgd")
    norms = [train(m, TASK, TRAIN, VALIDATION, config).history[0]["gradients"] for m in (stack(), shallow())]
    model = shallow()
    TASK.backward(model, TRAIN)
    layer = torch.cat([model.output.weight.grad.flatten(), model.output.bias.grad]).norm().item()
    assert norms[0]["output"] == pytest.approx(layer, rel=1e-4)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_other_losses_of_a_task_are_logged_by_name() -> None:
    class Two(TableTask):
        def backward(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
            losses = super().backward(model, batch)
            return {**losses, "double": 2 * losses["loss"]}

    record = train(
        stack(), Two("regress", TASK.loss), TRAIN, VALIDATION, replace(QUICK, log_every=1)
    ).history[0]
    assert record["double"] == pytest.approx(2 * record["loss"])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("rate", [0.001, 0.01])
def test_decay_is_a_share_an_epoch_whatever_rate_and_batch(optimizer: str, rate: float) -> None:
    """Weights that get no gradient fade by a fiftieth in an epoch at the full rate; biases stay."""
    dead = {"features": torch.zeros(300, 4), "targets": torch.zeros(300)}

    class Still(TableTask):
        def backward(self, model: Any, batch: Any) -> dict[str, Tensor]:
            losses = super().backward(model, batch)
            for parameter in model.parameters():
                parameter.grad.zero_()
            return losses

    for size in (10, 30):
        config = TrainConfig(
            optimizer=optimizer, learning_rate=rate, schedule="constant", warmup=0.0, epochs=40,
            batch_size=size, weight_decay=0.02, patience=0,
        )  # fmt: skip
        nothing = {name: value[:0] for name, value in dead.items()}
        for model in (shallow(), stack(2)):
            before = weights(model.unstack()[0] if isinstance(model, Stack) else model)
            rates = torch.tensor([rate, 2 * rate]) if isinstance(model, Stack) else None
            train(model, Still("regress", TASK.loss), dead, nothing, config, learning_rates=rates)
            after = weights(model.unstack()[0] if isinstance(model, Stack) else model)
            left = (after["hidden.0.weight"] / before["hidden.0.weight"]).mean().item()
            assert left == pytest.approx(math.exp(-0.8), rel=0.03)
            assert torch.equal(after["hidden.0.bias"], before["hidden.0.bias"])


# ---------------------------------------------------------------------- when it ends


def test_patience_stops_and_keeps_what_was_best() -> None:
    config = replace(QUICK, patience=4, budget_steps=5000, learning_rate=0.05, schedule="constant")
    model = stack()
    trained = train(model, TASK, table(40), VALIDATION, config)
    assert trained.stopped == "patience"
    assert trained.steps == trained.best_step + 4 * config.evaluate_every < 5000
    assert TASK.evaluate(model, VALIDATION).item() == pytest.approx(trained.best_score.item(), rel=1e-9)


def test_epochs_end_it_exactly() -> None:
    trained = train(stack(), TASK, TRAIN, VALIDATION, replace(QUICK, budget_steps=0, epochs=3))
    assert trained.stopped == "epochs" and trained.steps == 30 and trained.history[-1]["epoch"] == 3.0


def test_without_a_word_the_length_follows_the_data() -> None:
    def steps(rows: int, **settings: Any) -> tuple[int, str]:
        config = TrainConfig(batch_size=64, **settings)
        return length(stack(), TASK, Batches(table(rows), config.batch_size, 0), VALIDATION, config)

    assert steps(300) == (2000, "epochs")
    assert steps(6400) == (10000, "epochs")
    assert steps(64000) == (20000, "epochs")
    assert steps(300, budget_steps=77) == (77, "budget")
    assert steps(300, budget_steps=77, epochs=2) == (10, "epochs")
    assert steps(300, epochs=5) == (25, "epochs")


class Clocked(TableTask):
    """A task whose steps take what a function of their number says, by a clock that nothing else moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, waits: Callable[[int], float]) -> None:
        super().__init__("regress", TASK.loss)
        self.waits, self.calls, self.now = waits, 0, 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def backward(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        self.calls += 1
        self.now += self.waits(self.calls)
        return super().backward(model, batch)


class Counted:
    """A watcher that keeps what it was told of the number of steps."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def start(self, facts: dict[str, Any]) -> None:
        self.told.append(facts["steps"])

    def planned(self, steps: int) -> None:
        self.told.append(steps)

    def __call__(self, record: dict[str, Any]) -> None: ...


BUDGET = replace(QUICK, budget_steps=0, budget_seconds=4.0, epochs=1_000_000, evaluate_every=0)


def test_a_budget_in_seconds_becomes_steps_and_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    trained = train(
        stack(), Clocked(monkeypatch, lambda _: 0.01), TRAIN, VALIDATION, BUDGET, watchers=[counted]
    )
    assert trained.stopped == "budget" and counted.told == [trained.steps]  # the first count was right
    assert 3.4 < trained.seconds < 3.7  # a tenth is left for a busier machine
    assert trained.settled["limit"] == "budget" and trained.settled["timed"]


@pytest.mark.parametrize(("spent", "steps"), [(2.0, 160), (9.0, 60)])
def test_what_a_beginning_took_counts_against_the_budget_but_for_a_quarter(
    monkeypatch: pytest.MonkeyPatch, spent: float, steps: int
) -> None:
    task = Clocked(monkeypatch, lambda _: 0.01)
    counted = Counted()
    trained = train(stack(), task, TRAIN, VALIDATION, BUDGET, watchers=[counted], spent=spent)
    assert trained.stopped == "budget" and counted.told[-1] == trained.steps
    assert 0.95 * steps <= trained.steps <= steps  # of 3.6 seconds that are planned for, 1.6 or 0.6 are left
    assert 3.4 < trained.seconds < 4.0


def test_an_overrun_budget_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Clocked(monkeypatch, lambda calls: 0.01 if calls < 345 else 0.7)  # behind the last count
    trained = train(stack(), task, TRAIN, VALIDATION, BUDGET)
    assert trained.stopped == "budget" and trained.steps < trained.settled["steps"]
    assert trained.history[-1]["step"] == trained.steps and "validation_loss" in trained.history[-1]
    assert 5.0 <= trained.seconds < 5.8


def test_steps_are_counted_anew_when_the_machine_slows_down(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    task = Clocked(monkeypatch, lambda calls: 0.01 if calls < 50 else 0.1)
    trained = train(stack(), task, TRAIN, VALIDATION, BUDGET, watchers=[counted])
    assert trained.stopped == "budget" and trained.steps == trained.settled["steps"] == counted.told[-1]
    assert counted.told[0] > 300 and trained.steps < 80 and trained.seconds < 4.2
    assert trained.history[-1]["learning_rate"] < 0.01 * QUICK.learning_rate  # the schedule came to its end


def test_steps_are_counted_anew_when_it_was_slow_at_first_but_never_beyond_the_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train_in(epochs: int) -> tuple[Any, list[int]]:
        counted = Counted()
        task = Clocked(monkeypatch, lambda calls: 0.1 if calls < 8 else 0.01)
        config = replace(BUDGET, epochs=epochs)
        return train(stack(), task, TRAIN, VALIDATION, config, watchers=[counted]), counted.told

    trained, told = train_in(1_000_000)
    assert trained.steps == told[-1] > 200 and told[0] < 40 and 3.4 < trained.seconds < 4.0
    trained, told = train_in(10)
    assert told[0] < 40 < trained.steps == told[-1] == trained.settled["steps"] == 100
    assert trained.stopped == "epochs"


def test_without_validation_rows_the_last_weights_are_the_best() -> None:
    nothing = {name: value[:0] for name, value in VALIDATION.items()}
    model = stack()
    trained = train(model, TASK, TRAIN, nothing, QUICK)
    assert trained.steps == trained.best_step == 120
    assert TASK.evaluate(model, TRAIN).item() < 0.5 * TASK.evaluate(stack(), TRAIN).item()


# ---------------------------------------------------------------------- what goes wrong


def test_a_loss_that_is_no_number_is_said_with_a_remedy() -> None:
    config = replace(QUICK, optimizer="sgd", learning_rate=1e4, schedule="constant")
    message = r"the loss became (nan|inf) by step 20 at learning rate 10000; give .* --learning-rate 1e\+03"
    with pytest.raises(SadariError, match=message):
        train(stack(), TASK, TRAIN, VALIDATION, config)


def test_only_the_member_that_diverges_dies() -> None:
    config = replace(QUICK, optimizer="sgd", schedule="constant")
    model, alone = stack(2), Stack.of([shallow(1)])
    trained = train(model, TASK, TRAIN, VALIDATION, config, learning_rates=torch.tensor([1e4, 0.01]))
    train(alone, TASK, TRAIN, VALIDATION, config)
    assert trained.died == {0: 20} and trained.best_score[0] == math.inf
    assert trained.best_score[1].isfinite()
    torch.testing.assert_close(model.flat[1], alone.flat[0], rtol=1e-3, atol=1e-4)
    assert model.flat.isfinite().all()  # the dead one holds the last weights that were scored
    assert trained.history[-1]["loss"][0] is None or not math.isfinite(trained.history[-1]["loss"][0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lion"}, "--optimizer 'lion' is unknown; choose one of: adamw, sgd"),
        (
            {"schedule": "up"},
            "--schedule 'up' is unknown; choose one of: constant, cosine, warmup, one-cycle",
        ),
        ({"precision": "fp8"}, "--precision 'fp8' is unknown; choose one of: auto, fp32, bf16"),
        ({"learning_rate": -1.0}, "--learning-rate -1 is out of range; it must be at least 0"),
        ({"learning_rate": math.nan}, "--learning-rate nan is out of range"),
        ({"momentum": 1.0}, "--momentum 1 is out of range; it must be at least 0 and below 1"),
        ({"batch_size": -1}, "--batch-size -1 is out of range; it must be at least 0"),
        ({"patience": -2}, "--patience -2 is out of range; it must be at least 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message.replace("(", r"\(")):
        TrainConfig(**settings)


def test_no_rows_and_uneven_arrays_are_refused() -> None:
    nothing = {name: value[:0] for name, value in TRAIN.items()}
    with pytest.raises(SadariError, match="no rows to train on; give at least one"):
        train(stack(), TASK, nothing, VALIDATION, QUICK)
    with pytest.raises(SadariError, match=r"different lengths .*'features': 300, 'targets': 299"):
        Batches({**TRAIN, "targets": TRAIN["targets"][:299]}, 32, 0)


# ---------------------------------------------------------------------- what it borrows, it puts back


def test_the_callers_random_numbers_threads_and_handlers_are_put_back() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    before = (torch.get_num_threads(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    model = stack(1, dropout=0.5).train()
    torch.manual_seed(5)
    train(model, TASK, TRAIN, VALIDATION, replace(QUICK, threads=2))
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert before == (
        torch.get_num_threads(),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
    )


def test_trains_outside_the_main_thread() -> None:
    done = []
    thread = threading.Thread(target=lambda: done.append(train(stack(), TASK, TRAIN, VALIDATION, QUICK)))
    thread.start()
    thread.join()
    assert done[0].steps == 120


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_without_a_folder_stops_and_says_so(number: int) -> None:
    def watch(record: dict[str, Any]) -> None:
        os.kill(os.getpid(), number)

    with pytest.raises(
        SadariInterrupted, match="stopped at step 20 of 120; nothing was saved, since this training"
    ):
        train(stack(), TASK, TRAIN, VALIDATION, QUICK, watchers=[watch])


def test_a_second_signal_does_not_wait() -> None:
    class Stuck(TableTask):
        def backward(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("still here")

    with pytest.raises(KeyboardInterrupt) as caught:
        train(stack(), Stuck("regress", TASK.loss), TRAIN, VALIDATION, QUICK)
    assert not isinstance(caught.value, SadariInterrupted)


def test_watchers_hear_records_starts_and_ends() -> None:
    heard: list[Any] = []

    class Watcher:
        def start(self, facts: dict[str, Any]) -> None:
            heard.append(facts)

        def __call__(self, record: dict[str, Any]) -> None:
            heard.append(record["step"])

        def live(self, record: dict[str, Any]) -> None:
            assert {"step", "loss", "best_score", "seconds"} <= set(record)

        def close(self) -> None:
            heard.append("closed")

    train(stack(), TASK, TRAIN, VALIDATION, QUICK, watchers=[Watcher()])
    assert heard[0] == {"steps": 120, "step": 0, "members": 1, "seconds": 0.0}
    assert heard[1:] == [20, 40, 60, 80, 100, 120, "closed"]


def test_live_calls_come_at_most_ten_times_a_second() -> None:
    moments: list[float] = []

    class Watcher:
        def __call__(self, record: dict[str, Any]) -> None: ...

        def live(self, record: dict[str, Any]) -> None:
            moments.append(time.perf_counter())

    train(stack(), TASK, TRAIN, VALIDATION, replace(QUICK, budget_steps=8000), watchers=[Watcher()])
    assert len(moments) >= 1
    assert all(later - sooner >= 0.09 for sooner, later in pairwise(moments))


# ---------------------------------------------------------------------- batches


@pytest.mark.parametrize(("rows", "size"), [(265, 64), (64, 64), (10, 64), (7, 1), (1000, 3)])
def test_an_epoch_shows_every_row_once_in_even_batches(rows: int, size: int) -> None:
    batches = Batches(
        {"features": torch.arange(float(rows)).unsqueeze(1), "targets": torch.arange(rows)}, size, 0
    )
    for _ in range(2):
        seen = [{name: value.clone() for name, value in batch.items()} for batch in batches.epoch()]
        sizes = [len(batch["targets"]) for batch in seen]
        assert len(seen) == batches.per_epoch and max(sizes) <= size and max(sizes) - min(sizes) <= 1
        order = torch.cat([batch["targets"] for batch in seen])
        assert torch.equal(order.sort().values, torch.arange(rows))
        assert all(torch.equal(batch["features"][:, 0].long(), batch["targets"]) for batch in seen)
    assert rows < 10 or not torch.equal(order, torch.arange(rows))


def test_batches_grow_with_the_rows() -> None:
    sizes = [usual_size(rows) for rows in (10, 63_999, 64_000, 300_000, 10_000_000)]
    assert sizes == [32, 32, 64, 256, 512]
    assert Batches(TRAIN, 0, 0).per_epoch == 10


def test_batches_beyond_one_window_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [batch["targets"].clone() for batch in Batches(TRAIN, 32, 0).epoch()]
    monkeypatch.setattr("sadari.batches.WINDOW", 1500)
    parts = Batches(TRAIN, 32, 0)
    assert len(parts.windows) > 3
    assert all(torch.equal(a, b["targets"]) for a, b in zip(whole, parts.epoch(), strict=True))


@pytest.mark.parametrize("window", [1 << 22, 1500])
def test_batches_go_on_from_any_place(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr("sadari.batches.WINDOW", window)
    straight = Batches(TRAIN, 32, 3)
    list(straight.epoch())
    second = [batch["targets"].clone() for batch in straight.epoch()]
    state = {name: value.clone() for name, value in straight.state().items()}
    third = [batch["targets"].clone() for batch in straight.epoch()]
    for place in range(straight.per_epoch + 1):
        again = Batches(TRAIN, 32, 99)
        again.load(state)
        rest = [batch["targets"].clone() for batch in again.epoch(place)]
        assert all(torch.equal(a, b) for a, b in zip(second[place:], rest, strict=True))
        assert all(torch.equal(a, b["targets"]) for a, b in zip(third, again.epoch(), strict=True))


def test_members_see_their_own_rows_only() -> None:
    rows = [torch.arange(0, 200), torch.arange(100, 300), torch.arange(50)]
    batches = Batches(
        {"targets": torch.arange(300), "features": torch.arange(300.0).unsqueeze(1)}, 32, 0, rows
    )
    seen = torch.cat([batch["targets"].clone() for batch in batches.epoch()], dim=1)  # (K, N)
    assert seen.shape == (3, 200)
    assert torch.equal(seen[0].sort().values, rows[0]) and torch.equal(seen[1].sort().values, rows[1])
    assert torch.equal(seen[2].sort().values, rows[2].repeat_interleave(4))
    assert next(batches.epoch())["features"].shape == (3, 28, 1)


def test_a_member_learns_its_own_rows_and_not_the_others() -> None:
    """Half the rows say one thing and the other half its opposite."""
    rows = [torch.arange(150), torch.arange(150, 300)]
    signs = torch.where(torch.arange(300) < 150, 1.0, -1.0)
    table = {**TRAIN, "targets": TRAIN["targets"] * signs}
    nothing = {name: value[:0] for name, value in VALIDATION.items()}
    model = stack(2)
    train(model, TASK, table, nothing, replace(QUICK, budget_steps=800), rows=rows)
    first, second = ({name: value[part] for name, value in table.items()} for part in rows)
    own = [TASK.evaluate(model, first)[0].item(), TASK.evaluate(model, second)[1].item()]
    others = [TASK.evaluate(model, second)[0].item(), TASK.evaluate(model, first)[1].item()]
    assert max(own) < min(others)


# ---------------------------------------------------------------------- settled beforehand


def test_settling_leaves_the_model_and_the_batches_alone() -> None:
    config = replace(QUICK, threads=0, learning_rate=0.0, budget_steps=0, budget_seconds=0.3)
    for model in (stack(2, dropout=0.2), shallow(dropout=0.2)):
        before, threads = weights(model), torch.get_num_threads()
        state = torch.get_rng_state()
        settled = settle(model, TASK, TRAIN, VALIDATION, config)
        torch.set_num_threads(threads)
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(before[name], value) for name, value in weights(model).items())
        assert settled["threads"] == 1 and settled["precision"] == "fp32" and settled["learning_rate"] > 0


def test_operations_are_counted_as_the_shapes_say() -> None:
    forward = 32 * ShallowConfig(width=16).width * 5  # 4 features and one output a unit
    for model in (stack(), shallow()):
        counted = macs_a_step(model, TASK, {name: value[:32] for name, value in TRAIN.items()})
        assert counted == 3 * forward
    assert macs_a_step(stack(3), TASK, {n: v[:32] for n, v in TRAIN.items()}) == 3 * macs_a_step(
        stack(), TASK, {n: v[:32] for n, v in TRAIN.items()}
    )


def test_large_steps_use_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert settle(stack(), TASK, TRAIN, VALIDATION, replace(QUICK, threads=0))["threads"] == 1
        torch.set_num_threads(2)
        monkeypatch.setattr("sadari.probe.THREADS_PAY", 1000)
        assert settle(stack(), TASK, TRAIN, VALIDATION, replace(QUICK, threads=0))["threads"] == 2
    finally:
        torch.set_num_threads(threads)


def test_bf16_learns_and_is_tried_only_where_it_may_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    model = shallow()
    trained = train(model, TASK, TRAIN, VALIDATION, replace(QUICK, precision="bf16", budget_steps=800))
    assert all(value.dtype == torch.float32 for value in model.parameters())
    assert trained.best_score.item() < 0.3 and trained.settled["precision"] == "bf16"

    monkeypatch.setattr("sadari.probe.BF16_PAYS", 0)
    monkeypatch.setattr("sadari.probe._has_bf16", lambda device: True)
    for faster, expected in ((1e9, "fp32"), (0.0, "bf16")):
        monkeypatch.setattr("sadari.probe.FASTER", faster)
        settled = settle(shallow(), TASK, TRAIN, VALIDATION, replace(QUICK, precision="auto"))
        assert settled["precision"] == expected
    assert settle(stack(), TASK, TRAIN, VALIDATION, QUICK)["precision"] == "fp32"


def test_range_test_meets_the_bound_of_the_line() -> None:
    """Plain gradient descent over all rows on squares lands below 2 / lambda_max and diverges above it."""
    config = TrainConfig(optimizer="sgd", momentum=0.0, weight_decay=0.0, batch_size=300)
    torch.manual_seed(0)
    model = Line(LineConfig(), 4, 1)
    with_ones = torch.cat([TRAIN["features"], torch.ones(300, 1)], dim=1).double()
    hessian = with_ones.T @ with_ones / 300
    bound = 2 / torch.linalg.eigvalsh(hessian)[-1].item()
    test = range_test(model, TASK, TRAIN, config, steps=100)
    assert bound == pytest.approx(Line.step_bound(TRAIN["features"]))
    assert bound < test.limit < 1.05 * bound
    assert 0 < test.chosen < bound
    assert len(test.rates) == len(test.losses) == 25 and test.losses.min() < test.start
    assert test.losses[-1] == math.inf


def test_range_test_is_the_same_stacked_and_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainConfig(optimizer="sgd", batch_size=50)
    stacked = range_test(shallow(), TASK, TRAIN, config)
    again = range_test(stack(), TASK, TRAIN, config)
    monkeypatch.setattr("sadari.rates.stackable", lambda model: False)
    single = range_test(shallow(), TASK, TRAIN, config)
    assert again.limit == stacked.limit == pytest.approx(single.limit, rel=0.2)
    assert stacked.chosen == pytest.approx(single.chosen)
    tried = single.losses.isfinite() & stacked.losses.isfinite()
    torch.testing.assert_close(stacked.losses[tried], single.losses[tried], rtol=1e-2, atol=1e-3)


def test_range_test_refuses_what_is_no_number() -> None:
    broken = {**TRAIN, "targets": torch.full_like(TRAIN["targets"], math.inf)}
    with pytest.raises(SadariError, match="the loss is inf before the first step; look for infinite values"):
        range_test(shallow(), TASK, broken, TrainConfig())


def test_a_rate_is_found_when_none_is_given() -> None:
    trained = train(stack(), TASK, TRAIN, VALIDATION, replace(QUICK, learning_rate=0.0, budget_steps=1000))
    fixed = train(stack(), TASK, TRAIN, VALIDATION, replace(QUICK, learning_rate=1e-4, budget_steps=1000))
    assert trained.best_score < fixed.best_score
    assert 1e-3 < trained.settled["learning_rate"] < 0.3


def test_best_keeps_each_members_own() -> None:
    model = stack(3)
    best = Best(model, 3, patience=2)
    with torch.no_grad():
        for step, losses in enumerate(
            [[3.0, 3.0, 3.0], [2.0, 4.0, math.nan], [1.0, 5.0, 2.0], [2.0, 1.0, 3.0]]
        ):
            model.flat.fill_(step)
            best.update(torch.tensor(losses), step)
    assert best.score.tolist() == [1.0, 3.0, 2.0]  # the second was out of patience when it came down to 1
    assert best.step.tolist() == [2, 0, 2]
    best.restore()
    assert model.flat[:, 0].tolist() == [2.0, 0.0, 2.0]
    assert not best.out({}) and best.out({0: 1, 2: 1})


def test_buffers_are_kept_with_the_best_weights() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    trained = train(model, TASK, TRAIN, VALIDATION, replace(QUICK, learning_rate=0.1, schedule="constant"))
    assert TASK.evaluate(model, VALIDATION).item() == pytest.approx(trained.best_score.item(), rel=1e-6)


def test_deep_learns_mean_of_two_stacks_with_one_cycle() -> None:
    torch.manual_seed(0)
    model = Stack.of([Deep(DeepConfig(width=16), 4, 1) for _ in range(2)])
    trained = train(model, TASK, TRAIN, VALIDATION, replace(QUICK, schedule="one-cycle", budget_steps=1000))
    assert (trained.best_score < 0.2).all()
