"""LSTM: equal to torch.nn.LSTM on the same weights, both ways, and slower to forget than the LSTM."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sadari.layers import recurrent
from sadari.layers.recurrent import core_parameters
from sadari.models.lstm import LSTM, LSTMCell, LSTMConfig


def close(ours, theirs, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.proof("lstm", "parity")
@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (1, 2), (2, 1), (3, 2)])
def test_equals_torch_on_the_same_weights_gradients_too(layers: int, directions: int) -> None:
    """A model wired by hand round a torch.nn.LSTM, whose weights go into ours and out again as they are."""
    torch.manual_seed(0)
    model = LSTM(LSTMConfig(width=12, layers=layers, directions=directions), 30, 3).eval()
    reference = nn.LSTM(12, 12, layers, batch_first=True, bidirectional=directions == 2)
    model.lstm.load_state_dict(reference.state_dict())
    tokens = torch.randint(0, 30, (3, 9))
    states, (ends, _) = reference(model.embedding(tokens))
    expected = model.output(torch.cat(list(ends[-directions:]), -1))
    close(model(tokens), expected)
    theirs = torch.autograd.grad(expected.square().sum(), list(reference.parameters()))
    ours = torch.autograd.grad(model(tokens).square().sum(), list(model.lstm.parameters()))
    close(ours, theirs, 1e-5)
    again = nn.LSTM(12, 12, layers, batch_first=True, bidirectional=directions == 2)
    again.load_state_dict(model.lstm.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), reference.parameters(), strict=True))
    read, _ = recurrent.read(model.lstm, model.embedding(tokens), torch.full((3,), 9))
    close(read, states)


def test_the_cell_is_torchs_with_the_order_of_gates_i_f_g_o() -> None:
    lstm, reference = nn.LSTM(4, 3), nn.LSTMCell(4, 3)
    reference.load_state_dict({name.removesuffix("_l0"): value for name, value in lstm.state_dict().items()})
    x, h, c = torch.randn(2, 4), torch.randn(2, 3), torch.randn(2, 3)
    close(LSTMCell(lstm)(x, (h, c)), reference(x, (h, c)))


def test_four_gates_of_two_biases_are_counted() -> None:
    """4 h (i + h) + 8 h: 366,592 for an input of 100 and a state of 256, as torch's."""
    assert (
        sum(p.numel() for p in nn.LSTM(100, 256).parameters()) == 4 * 256 * (100 + 256) + 8 * 256 == 366_592
    )
    assert core_parameters(4, 128, 2) == sum(p.numel() for p in nn.LSTM(128, 128, 2).parameters())


def test_step_by_step_names_what_the_cell_computes() -> None:
    model = LSTM(LSTMConfig(width=5, layers=2, directions=2, dropout=0.0), 30, 3)
    seen: dict[str, Tensor] = {}
    answer = model(torch.randint(0, 30, (4, 9)), lambda name, value: seen.setdefault(name, value), plain=True)
    gates = ("input", "forget", "output", "write", "cell", "hidden")
    inner = [f"{name}{end}" for end in ("0", "0_back", "1", "1_back") for name in gates]
    assert list(seen) == ["embedded", *inner, "states", "last", "output"]
    kept = seen["forget0"][:, 1:] * seen["cell0"][:, :-1]
    close(seen["cell0"][:, 1:], kept + seen["input0"][:, 1:] * seen["write0"][:, 1:])
    turned = seen["cell0_back"]  # backwards, a step's past is to its right
    kept = seen["forget0_back"][:, :-1] * turned[:, 1:]
    close(turned[:, :-1], kept + seen["input0_back"][:, :-1] * seen["write0_back"][:, :-1])
    close(seen["hidden1"], seen["output1"] * seen["cell1"].tanh())
    close(seen["states"], torch.cat([seen["hidden1"], seen["hidden1_back"]], -1))
    close(seen["last"][0], torch.cat([seen["hidden1"][0, 8], seen["hidden1_back"][0, 0]]))
    assert torch.equal(seen["output"], answer)
