"""Attention over an LSTM's states: Bahdanau's sum written out, weights that sum to one and find the word."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.recurrent import laws
from sadari.layers.tokens import PAD
from sadari.models.attention import Attention, AttentionConfig
from sadari.models.lstm import LSTM, LSTMConfig

LENGTHS = (7, 3, 0, 1)


def padded(vocabulary: int = 20) -> Tensor:
    tokens = torch.randint(0, vocabulary, (len(LENGTHS), max(LENGTHS)))
    for row, length in zip(tokens, LENGTHS, strict=True):
        row[length:] = PAD
    return tokens


def made(**settings: int) -> Attention:
    torch.manual_seed(0)
    return Attention(AttentionConfig(**{"width": 6, **settings}), 20, 3).eval()


def recorded(model: Attention, tokens: Tensor, plain: bool = False) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    with torch.no_grad():
        model(tokens, lambda name, value: seen.setdefault(name, value), plain)
    return seen


@pytest.mark.proof("attention", "parity")
@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (1, 2), (2, 2)])
def test_is_the_additive_sum_over_torchs_states_gradients_too(layers: int, directions: int) -> None:
    """A torch.nn.LSTM with our weights, then e = v tanh(W h + b) and a softmax, one text at a time."""
    model = made(layers=layers, directions=directions)
    reference = nn.LSTM(6, 6, layers, batch_first=True, bidirectional=directions == 2)
    reference.load_state_dict(model.lstm.state_dict())
    W, b, v = model.key.weight, model.key.bias, model.query.weight
    tokens, answers = padded(), []
    for text in (row[row >= 0] for row in tokens):
        if len(text) == 0:
            answers.append(model.output.bias)
            continue
        h = reference(model.embedding(text.unsqueeze(0)))[0][0]  # (T, W)
        e = torch.tanh(h @ W.T + b) @ v[0]
        a = e.exp() / e.exp().sum()
        answers.append(model.output(a @ h))
    expected = torch.stack(answers)
    torch.testing.assert_close(model(tokens), expected, rtol=0, atol=1e-6)
    theirs = torch.autograd.grad(expected.square().sum(), [*reference.parameters(), W, b, v])
    ours = torch.autograd.grad(model(tokens).square().sum(), [*model.lstm.parameters(), W, b, v])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("directions", [1, 2])
def test_weights_sum_to_one_and_are_zero_on_padding(directions: int) -> None:
    tokens = padded()
    weights = recorded(made(directions=directions), tokens)["attention"]
    assert weights.shape == tokens.shape and (weights >= 0).all()
    assert not weights[tokens == PAD].any()
    torch.testing.assert_close(weights.sum(1), torch.tensor([1.0, 1, 0, 1]))  # an empty text has none
    assert made(directions=directions)(tokens).isfinite().all()


@pytest.mark.parametrize("directions", [1, 2])
def test_padding_changes_no_answer_and_step_by_step_gives_the_same(directions: int) -> None:
    model, tokens = made(directions=directions, layers=2), padded()
    together = model(tokens)
    torch.testing.assert_close(model(tokens, plain=True), together, rtol=0, atol=1e-6)
    for row, length in enumerate(LENGTHS):
        alone = model(tokens[row : row + 1, : max(length, 1)].int())
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-6)
    model.train()(tokens).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_names_its_inner_values() -> None:
    seen = recorded(made(directions=1), padded(), plain=True)
    gates = [f"{name}0" for name in ("input", "forget", "output", "write", "cell", "hidden")]
    assert list(seen) == ["embedded", *gates, "states", "attention", "pooled", "output"]
    pooled = (seen["attention"].unsqueeze(-1) * seen["states"]).sum(1)
    torch.testing.assert_close(seen["pooled"], pooled)


def telling(count: int, length: int, kinds: int) -> tuple[Tensor, Tensor, Tensor]:
    """Texts of noise with one word somewhere that tells the class: tokens, where it stands, classes."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(kinds, 60, (count, length), generator=generator)
    where, targets = torch.randint(0, length, (count,), generator=generator), torch.arange(count) % kinds
    tokens[torch.arange(count), where] = targets
    return tokens, where, targets


def taught(model: nn.Module, tokens: Tensor, targets: Tensor, steps: int) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(tokens), (64,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(tokens[rows]), targets[rows]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@pytest.mark.proof("attention", "claim")
def test_finds_the_telling_word_of_two_hundred_which_the_last_state_does_not_hold() -> None:
    tokens, _, targets = telling(2200, 200, 4)
    right = {}
    for model_class, settings in ((LSTM, LSTMConfig), (Attention, AttentionConfig)):
        torch.manual_seed(0)
        model = model_class(settings(width=16, directions=1, dropout=0.0), 60, 4)
        taught(model, tokens[:2000], targets[:2000], 150)
        with torch.no_grad():
            right[model_class] = (model(tokens[2000:]).argmax(1) == targets[2000:]).float().mean().item()
    assert right[LSTM] < 0.4 < 0.95 < right[Attention]  # four classes: chance is a quarter


@pytest.mark.proof("attention", "claim")
def test_its_weight_falls_on_the_word_that_tells_and_on_what_has_read_it() -> None:
    """States after the word carry it, so weight may fall there; before it there is nothing to see."""
    tokens, where, targets = telling(2200, 30, 12)
    torch.manual_seed(0)
    model = Attention(AttentionConfig(width=16, directions=1, dropout=0.0), 60, 12)
    taught(model, tokens[:2000], targets[:2000], 300)
    weights, where = recorded(model, tokens[2000:])["attention"], where[2000:]
    before = (weights * (torch.arange(30) < where[:, None])).sum(1)
    assert before.mean() < 0.1 < 0.4 < where.float().mean() / 30  # the last: if all had equal weight
    assert weights.gather(1, where[:, None]).mean() > 5 / 30


@given(
    width=st.integers(1, 7), layers=st.integers(1, 2), directions=st.integers(1, 2), outputs=st.integers(1, 5)
)
def test_is_counted_by_its_formulas(width: int, layers: int, directions: int, outputs: int) -> None:
    config = AttentionConfig(width=width, layers=layers, directions=directions)
    model = Attention(config, 15, outputs)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    assert sum(sizes.values()) == Attention.parameter_count(config, 15, outputs)
    step = sum(n for name, n in sizes.items() if ".weight_" in name or name in ("key.weight", "query.weight"))
    pooling = directions * width
    answer = sizes["output.weight"]
    assert Attention.macs(config, 15, outputs, length=9) == 9 * (step + pooling) + answer


def test_first_weights_follow_the_table_of_laws() -> None:
    torch.manual_seed(0)
    model = Attention(AttentionConfig(width=128), 200, 100)
    for name, (law, number) in laws(model).items():
        if law == "normal":
            assert model.get_parameter(name).std().item() == pytest.approx(number, rel=0.2), name
    assert (model.lstm.bias_ih_l0.chunk(4)[1] == 1).all() and not model.key.bias.any()


def test_wrong_settings_are_refused_with_a_remedy() -> None:
    with pytest.raises(SadariError, match=r"directions 0: a text is read forwards \(1\) or both ways \(2\)"):
        AttentionConfig(directions=0)
    with pytest.raises(SadariError, match="width 0: a state needs at least 1 number"):
        AttentionConfig(width=0)
