"""RNN: equal to torch.nn.RNN on the same weights, and alive to the order that a bag of words loses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sadari.layers import recurrent
from sadari.models.one_hot import OneHot, OneHotConfig
from sadari.models.rnn import RNN, RNNCell, RNNConfig


def close(ours, theirs, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.proof("rnn", "parity")
@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (1, 2), (2, 1), (3, 2)])
def test_equals_torch_on_the_same_weights_gradients_too(layers: int, directions: int) -> None:
    """A model wired by hand round a torch.nn.RNN, whose weights go into ours and out again as they are."""
    torch.manual_seed(0)
    model = RNN(RNNConfig(width=12, layers=layers, directions=directions), 30, 3).eval()
    reference = nn.RNN(12, 12, layers, batch_first=True, bidirectional=directions == 2)
    model.rnn.load_state_dict(reference.state_dict())
    tokens = torch.randint(0, 30, (3, 9))
    states, ends = reference(model.embedding(tokens))
    expected = model.output(torch.cat(list(ends[-directions:]), -1))
    close(model(tokens), expected)
    theirs = torch.autograd.grad(expected.square().sum(), list(reference.parameters()))
    ours = torch.autograd.grad(model(tokens).square().sum(), list(model.rnn.parameters()))
    close(ours, theirs, 1e-5)
    again = nn.RNN(12, 12, layers, batch_first=True, bidirectional=directions == 2)
    again.load_state_dict(model.rnn.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), reference.parameters(), strict=True))
    read, _ = recurrent.read(model.rnn, model.embedding(tokens), torch.full((3,), 9))
    close(read, states)


def test_the_cell_is_the_formula() -> None:
    rnn = nn.RNN(4, 3)
    x, h = torch.randn(2, 4), torch.randn(2, 3)
    (after,) = RNNCell(rnn)(x, (h,))
    W, U, b, b_ = rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, rnn.bias_hh_l0
    close(after, torch.tanh(x @ W.T + b + h @ U.T + b_))


def test_step_by_step_names_what_the_cell_computes() -> None:
    model = RNN(RNNConfig(width=5, layers=2, directions=2, dropout=0.0), 30, 3)
    seen: dict[str, Tensor] = {}
    answer = model(torch.randint(0, 30, (4, 9)), lambda name, value: seen.setdefault(name, value), plain=True)
    inner = [f"{name}{end}" for end in ("0", "0_back", "1", "1_back") for name in ("pre", "hidden")]
    assert list(seen) == ["embedded", *inner, "states", "last", "output"]
    close(seen["hidden1_back"], seen["pre1_back"].tanh())
    close(seen["states"], torch.cat([seen["hidden1"], seen["hidden1_back"]], -1))
    close(seen["last"][0], torch.cat([seen["hidden1"][0, 8], seen["hidden1_back"][0, 0]]))
    assert torch.equal(seen["output"], answer)


def order(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Texts of ten words with words 0 and 1 once each; the class says which of them comes first."""
    tokens = torch.randint(2, 12, (count, 10), generator=generator)
    places = torch.rand(count, 10, generator=generator).argsort(1)[:, :2].sort(1).values
    targets = torch.arange(count) % 2
    tokens.scatter_(1, places, torch.stack([targets, 1 - targets], 1))
    return tokens, targets


def taught(model: nn.Module, tokens: Tensor, targets: Tensor, steps: int, rate: float = 0.01) -> nn.Module:
    """Adam on random batches of 64."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(tokens), (64,), generator=generator)
        loss = nn.functional.cross_entropy(model(tokens[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def accuracy(model: nn.Module, tokens: Tensor, targets: Tensor) -> float:
    with torch.no_grad():
        return (model(tokens).argmax(-1) == targets).float().mean().item()


@pytest.mark.proof("rnn", "claim")
def test_the_order_of_words_that_a_bag_loses_is_learnt() -> None:
    """Which of two words comes first: every bag holds both, so one-hot is at chance; the RNN reads it."""
    generator = torch.Generator().manual_seed(0)
    (tokens, targets), held_out = order(2000, generator), order(1000, generator)
    torch.manual_seed(0)
    bag = taught(OneHot(OneHotConfig(penalty=0.0, method="gradient"), 12, 2), tokens, targets, 300)
    rnn = taught(RNN(RNNConfig(width=16, dropout=0.0), 12, 2), tokens, targets, 300)
    assert abs(accuracy(bag, *held_out) - 0.5) < 0.06
    assert accuracy(rnn, *held_out) > 0.97
