"""What is settled before the first step: precision, compiled steps, and how long that may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sadari import probe
from sadari.batches import make_batches
from sadari.errors import SadariError
from sadari.losses import make_loss
from sadari.models.gpt import GPT, GPTConfig
from sadari.models.lstm import LSTMLanguage
from sadari.models.transformer import Transformer
from sadari.tasks import SCORED_TEXTS, LanguageTask, TextTask
from sadari.train import TrainConfig, train

WORDS = 30
TASK = LanguageTask(make_loss("cross-entropy", classes=WORDS))
CONFIG = TrainConfig(budget_steps=6, learning_rate=0.01, threads=1, batch_size=4)


def gpt() -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(width=8, layers=1, heads=2, context=8), WORDS, WORDS)


def stream(seed: int, length: int = 600) -> dict[str, torch.Tensor]:
    return {"features": torch.randint(WORDS, (length,), generator=torch.Generator().manual_seed(seed))}


def same(asked: Callable[..., Any], **_: Any) -> Callable[..., Any]:
    """In the place of torch.compile, which takes its time."""

    def run(*args: Any, **kwargs: Any) -> Any:
        run.calls += 1  # type: ignore[attr-defined]
        return asked(*args, **kwargs)

    run.calls = 0  # type: ignore[attr-defined]
    same.made.append(run)  # type: ignore[attr-defined]
    return run


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(same, "made", found, raising=False)
    monkeypatch.setattr(torch, "compile", same)
    monkeypatch.setattr("sadari.probe.shutil.which", lambda name: "/bin/true")
    return found


def test_compiled_steps_learn_the_same_and_leave_no_trace(made: list[Any]) -> None:
    plain, model = gpt(), gpt()
    train(plain, TASK, stream(1), stream(2), CONFIG)
    trained = train(model, TASK, stream(1), stream(2), replace(CONFIG, compile="on"))
    assert trained.settled["compiled"] and made[-1].calls == 6  # evaluations do not go through it
    assert "hidden" not in vars(model)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("faster", "expected"), [(0.5, True), (1.5, False)])
def test_auto_compiles_where_it_pays_within_the_run(
    made: list[Any], monkeypatch: pytest.MonkeyPatch, faster: float, expected: bool
) -> None:
    monkeypatch.setattr("sadari.probe.COMPILING_PAYS", 0)
    monkeypatch.setattr("sadari.probe.step_seconds", lambda *a, keep=False: faster if keep else 1.0)
    config = replace(CONFIG, budget_steps=1000)
    settled = probe.settle(gpt(), TASK, stream(1), stream(2), config)
    assert settled["compiled"] is expected
    assert settled["gains"] == ({"compiled": 2.0} if expected else {}) and settled["timed"] is expected
    assert not probe.settle(gpt(), TASK, stream(1), stream(2), replace(config, budget_steps=100))["compiled"]
    assert not probe.settle(gpt(), TASK, stream(1), stream(2), replace(config, compile="off"))["compiled"]
    monkeypatch.setattr("sadari.probe.shutil.which", lambda name: None)
    assert not probe.settle(gpt(), TASK, stream(1), stream(2), config)["compiled"]


def test_compiling_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    on = replace(CONFIG, compile="on")
    lstm = LSTMLanguage(LSTMLanguage.TINY, WORDS, WORDS)
    with pytest.raises(
        SadariError, match="--compile on is for the transformer of a language; leave it out here"
    ):
        probe.settle(lstm, TASK, stream(1), stream(2), on)
    monkeypatch.setattr("sadari.probe.shutil.which", lambda name: None)
    with pytest.raises(
        SadariError, match=r"needs a C\+\+ compiler and finds no g\+\+; install one, or leave it"
    ):
        probe.settle(gpt(), TASK, stream(1), stream(2), on)
    with pytest.raises(SadariError, match="--compile 'maybe' is unknown; choose one of: auto, on, off"):
        TrainConfig(compile="maybe")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own, within torch.compile
def test_a_really_compiled_step_gives_the_same_gradients() -> None:
    plain, model = gpt(), gpt()
    batch = make_batches(plain, TASK, stream(1), CONFIG).first()
    TASK.backward(plain, batch)
    probe.with_compiled(TASK.backward, model)(model, batch)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_long_measurements_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Slow(LanguageTask):
        def score(self, model: nn.Module, arrays: Any) -> Any:
            calls.append("look")
            return {}

        def backward(self, model: nn.Module, batch: Any) -> Any:
            calls.append("step")
            return super().backward(model, batch)

    slow = Slow(make_loss("cross-entropy", classes=WORDS))
    batches = make_batches(gpt(), slow, stream(1), CONFIG)
    monkeypatch.setattr("sadari.probe.LONG", 1e9)
    probe.step_seconds(gpt(), slow.backward, batches, CONFIG, seconds=0.0)
    probe.look_seconds(gpt(), slow, stream(2))
    assert calls == ["step"] * 4 + ["look"] * 2
    calls.clear()
    monkeypatch.setattr("sadari.probe.LONG", 0.0)
    probe.step_seconds(gpt(), slow.backward, batches, CONFIG, seconds=1e9)
    monkeypatch.setattr("sadari.probe.LONG", 1e-12)
    probe.look_seconds(gpt(), slow, stream(2))
    assert calls == ["step"] * 2 + ["look"]


def test_a_costly_model_is_looked_at_on_some_of_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Transformer(Transformer.TINY, WORDS, 1)
    task = TextTask("classify", make_loss("binary", classes=2), monitor="loss")
    count = 3 * SCORED_TEXTS
    arrays = {"features": torch.randint(WORDS, (count, 5)), "targets": torch.randint(2, (count,))}
    whole = task.score(model, arrays)["loss"]
    torch.testing.assert_close(whole, task.evaluate(model, arrays))
    monkeypatch.setattr("sadari.tasks.SCORED_MACS", 1)
    some = {name: array[::3] for name, array in arrays.items()}
    torch.testing.assert_close(task.score(model, arrays)["loss"], task.evaluate(model, some))


def test_the_loop_looks_in_the_precision_that_it_trains_in() -> None:
    seen = []

    class Watching(LanguageTask):
        def score(self, model: nn.Module, arrays: Any) -> Any:
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().score(model, arrays)

    task = Watching(make_loss("cross-entropy", classes=WORDS))
    for precision in ("fp32", "bf16"):
        train(gpt(), task, stream(1), stream(2), replace(CONFIG, precision=precision))
    assert seen == [False] * seen.count(False) + [True] * seen.count(True) and len(set(seen)) == 2
