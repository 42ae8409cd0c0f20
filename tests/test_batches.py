"""Batches of texts and stretches of a stream: everything once, in an order that can be kept and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sadari.batches import Stretches, TextBatches
from sadari.errors import SadariError
from sadari.losses import make_loss
from sadari.models.gpt import GPT, GPTConfig
from sadari.models.lstm import LSTM, LSTMConfig, LSTMLanguage, LSTMLanguageConfig
from sadari.tasks import LanguageTask, TextTask
from sadari.train import SadariInterrupted, TrainConfig, train

V = 13


def texts(lengths: list[int]) -> dict[str, torch.Tensor]:
    """Texts whose tokens tell which text they are of; the target is its number."""
    tokens = torch.full((len(lengths), max([*lengths, 1])), -1)
    for row, length in enumerate(lengths):
        tokens[row, :length] = row
    return {"features": tokens, "targets": torch.arange(len(lengths))}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5))
def test_every_text_once_an_epoch_with_nothing_lost_but_padding(
    lengths: list[int], size: int, seed: int
) -> None:
    batches = TextBatches(texts(lengths), size, seed)
    for _ in range(2):
        epoch = list(batches.epoch())
        assert len(epoch) == batches.per_epoch
        assert sorted(torch.cat([batch["targets"] for batch in epoch]).tolist()) == list(range(len(lengths)))
        for batch in epoch:
            real = (batch["features"] >= 0).sum(-1)
            assert real.tolist() == [lengths[row] for row in batch["targets"].tolist()]
            assert batch["features"].shape[1] == max(int(real.max()), 1)


def test_texts_of_like_length_share_a_batch() -> None:
    lengths = torch.randint(1, 200, (3000,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = TextBatches(texts(lengths), 30, 0)
    cells = sum(batch["features"].numel() for batch in batches.epoch())
    assert cells < 1.1 * sum(lengths), "a tenth of padding is enough"
    orders = [torch.cat([batch["targets"] for batch in batches.epoch()]) for _ in range(2)]
    assert not torch.equal(*orders)


@pytest.mark.parametrize("start", [0, 1, 5])
def test_an_epoch_of_texts_can_be_gone_on_with(start: int) -> None:
    arrays = texts([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8])
    batches = TextBatches(arrays, 2, 3)
    whole = [batch["targets"].tolist() for batch in batches.epoch()]
    again = TextBatches(arrays, 2, 99)
    again.load(batches.state())
    assert [batch["targets"].tolist() for batch in again.epoch(start)] == whole[start:]
    assert again.first()["targets"].numel() == 2
    again.load(batches.state())
    assert [batch["targets"].tolist() for batch in again.epoch()] == whole, "first() leaves the order alone"


def test_no_texts_are_refused() -> None:
    with pytest.raises(SadariError, match="no texts to train on; give at least one"):
        TextBatches({"features": torch.zeros(0, 3), "targets": torch.zeros(0)}, 2, 0)


@given(st.integers(2, 400), st.integers(1, 6), st.integers(1, 40), st.integers(0, 3))
def test_stretches_hold_each_token_once_and_its_follower(N: int, size: int, length: int, seed: int) -> None:
    stretches = Stretches(torch.arange(N, dtype=torch.int32), size, length, seed)
    seen: list[int] = []
    for batch in stretches.epoch():
        assert torch.equal(batch["targets"], batch["tokens"] + 1)
        seen += batch["tokens"].flatten().tolist()
    assert len(seen) == len(set(seen)) and set(seen) <= set(range(N - 1))
    cut = stretches.size * stretches.length
    assert len(seen) > N - 1 - 2 * cut or len(seen) == cut


@given(st.integers(30, 400), st.integers(1, 6), st.integers(1, 9), st.integers(0, 3))
def test_lanes_go_on_where_they_stopped(N: int, size: int, length: int, seed: int) -> None:
    def start(batch: int) -> tuple[torch.Tensor, ...]:
        return (torch.zeros(1, batch, 2),)

    stretches = Stretches(torch.arange(N), size, length, seed, start)
    before = None
    for batch in stretches.epoch():
        assert batch["state.0"].shape == (1, stretches.size, 2)
        if before is not None:
            assert torch.equal(batch["tokens"][:, 0], before[:, -1] + 1)
        before = batch["tokens"]


def test_a_stream_of_one_token_is_refused() -> None:
    with pytest.raises(SadariError, match="a text of 1 tokens teaches nothing"):
        Stretches(torch.zeros(1), 4, 8, 0)


def test_a_state_that_is_carried_on_makes_two_stretches_one() -> None:
    """Truncated backpropagation reads on: losses of two halves are those of the whole, to the last token."""
    torch.manual_seed(0)
    model = LSTMLanguage(LSTMLanguageConfig(width=8), V, V).eval()
    task = LanguageTask(make_loss("cross-entropy", classes=V))
    stream = torch.randint(V, (41,))
    whole = Stretches(stream, 1, 40, 0, model.start)
    halves = Stretches(stream, 1, 20, 0, model.start)
    halves._places = lambda: torch.tensor([[0], [20]])  # type: ignore[method-assign]
    whole._places = lambda: torch.tensor([[0]])  # type: ignore[method-assign]
    (one,) = [task(model, batch)["loss"].item() for batch in whole.epoch()]
    two = [task(model, batch)["loss"].item() for batch in halves.epoch()]
    assert sum(two) / 2 == pytest.approx(one, abs=1e-6)
    halves.carried["state.0"].zero_()
    assert halves.state()["state.0"] is halves.carried["state.0"]


class StopAt:
    """Interrupts at a step, as Ctrl-C would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, record: dict[str, Any]) -> None:
        if record["step"] >= self.step:
            raise KeyboardInterrupt


def _case(kind: str) -> tuple[Any, Any, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(1)
    if kind == "texts":
        arrays = texts(torch.randint(0, 12, (40,), generator=random).tolist())
        arrays["features"] %= V
        arrays["targets"] %= 3
        return (
            LSTM(LSTMConfig(width=6), V, 3),
            TextTask("classify", make_loss("cross-entropy", classes=3)),
            arrays,
            arrays,
        )
    stream = {"features": torch.randint(V, (500,), generator=random)}
    model: Any = LSTMLanguage(LSTMLanguageConfig(width=6, dropout=0.1), V, V)
    if kind == "windows":
        model = GPT(GPTConfig(layers=1, width=8, heads=2, context=16, dropout=0.1), V, V)
    return (
        model,
        LanguageTask(make_loss("cross-entropy", classes=V)),
        stream,
        {"features": stream["features"][:80]},
    )


@pytest.mark.parametrize("kind", ["texts", "lanes", "windows"])
@pytest.mark.parametrize("stop", [3, 17])
def test_interrupted_is_uninterrupted(kind: str, stop: int, tmp_path: Path) -> None:
    """Weights, best score and steps, bit for bit, with the state that was carried and the order of texts."""
    config = TrainConfig(
        budget_steps=30,
        batch_size=4,
        span=8,
        evaluate_every=5,
        log_every=1,
        clip=1.0,
        threads=1,
        precision="fp32",
    )
    model, task, arrays, validation = _case(kind)
    whole = train(model, task, arrays, validation, config, folder=tmp_path / "whole")
    other, *_ = _case(kind)
    with pytest.raises(SadariInterrupted, match="saved in"):
        train(other, task, arrays, validation, config, folder=tmp_path / "cut", watchers=[StopAt(stop)])
    third, *_ = _case(kind)
    again = train(third, task, arrays, validation, config, folder=tmp_path / "cut")
    for (name, first), (_, second) in zip(model.named_parameters(), third.named_parameters(), strict=True):
        assert torch.equal(first, second), name
    assert torch.equal(whole.best_score, again.best_score) and whole.steps == again.steps
