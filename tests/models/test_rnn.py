"""RNN: equal to torch.nn.RNN on the same weights, the same fused and step by step, and alive to order."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers import recurrent
from sadari.layers.tokens import PAD
from sadari.models.one_hot import OneHot, OneHotConfig
from sadari.models.rnn import RNN, RNNCell, RNNConfig, RNNLanguage, RNNLanguageConfig, RNNSeries

SIZES = [(1, 1), (1, 2), (2, 1), (3, 2)]  # layers, directions
EVERY_SIZE = pytest.mark.parametrize(("layers", "directions"), SIZES)
LENGTHS = (9, 4, 0, 1, 6)


def texts(vocabulary: int = 30, lengths: tuple[int, ...] = LENGTHS) -> Tensor:
    """Padded rows of random tokens."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, vocabulary, (len(lengths), max(lengths)), generator=generator)
    for row, length in zip(tokens, lengths, strict=True):
        row[length:] = PAD
    return tokens


def made(model_class: Any, config: Any, *sizes: int) -> Any:
    torch.manual_seed(0)
    return model_class(config, *sizes).eval()


def close(ours: Any, theirs: Any, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.proof("rnn", "parity")
@EVERY_SIZE
def test_equals_torch_on_the_same_weights_gradients_too(layers: int, directions: int) -> None:
    """A model wired by hand round a torch.nn.RNN that loads ours by its own names, and gives them back."""
    model = made(RNN, RNNConfig(width=12, layers=layers, directions=directions), 30, 3)
    reference = nn.RNN(12, 12, layers, batch_first=True, bidirectional=directions == 2)
    reference.load_state_dict(model.rnn.state_dict())
    tokens = texts(lengths=(9, 9, 9))
    states, ends = reference(model.embedding(tokens))
    expected = model.output(torch.cat(list(ends[-directions:]), -1))
    close(model(tokens), expected)
    theirs = torch.autograd.grad(expected.square().sum(), list(reference.parameters()))
    ours = torch.autograd.grad(model(tokens).square().sum(), list(model.rnn.parameters()))
    close(ours, theirs, 1e-5)
    model.rnn.load_state_dict(reference.state_dict())
    read, _ = recurrent.read(model.rnn, model.embedding(tokens), torch.full((3,), 9))
    close(read, states)


@EVERY_SIZE
def test_fused_and_step_by_step_give_the_same(layers: int, directions: int) -> None:
    model = made(RNN, RNNConfig(width=12, layers=layers, directions=directions), 30, 3)
    tokens = texts()
    fused, plain = model(tokens), model(tokens, plain=True)
    close(fused, plain)
    gradients = [torch.autograd.grad(y.square().sum(), list(model.parameters())) for y in (fused, plain)]
    close(*gradients)


@EVERY_SIZE
def test_padding_changes_no_answer_and_an_empty_text_has_one(layers: int, directions: int) -> None:
    model = made(RNN, RNNConfig(width=12, layers=layers, directions=directions), 30, 3)
    tokens = texts()
    together = model(tokens)
    for row, length in enumerate(LENGTHS):
        close(model(tokens[row : row + 1, : max(length, 1)])[0], together[row])
    wider = torch.cat([tokens, torch.full((len(tokens), 7), PAD)], 1)
    close(model(wider), together)
    close(together[2], model.output.bias)  # nothing was read
    close(model(tokens.int()), together)


def test_step_by_step_names_what_the_cell_computes() -> None:
    model = made(RNN, RNNConfig(width=5, layers=2, directions=2), 30, 3)
    seen: dict[str, Tensor] = {}
    answer = model(texts(), lambda name, value: seen.setdefault(name, value), plain=True)
    inner = [f"{name}{end}" for end in ("0", "0_back", "1", "1_back") for name in ("pre", "hidden")]
    assert list(seen) == ["embedded", *inner, "states", "last", "output"]
    close(seen["hidden1_back"], seen["pre1_back"].tanh())
    close(seen["states"], torch.cat([seen["hidden1"], seen["hidden1_back"]], -1))
    close(seen["last"][0], torch.cat([seen["hidden1"][0, 8], seen["hidden1_back"][0, 0]]))
    assert torch.equal(seen["output"], answer)


def test_the_cell_is_the_formula() -> None:
    rnn = nn.RNN(4, 3)
    x, h = torch.randn(2, 4), torch.randn(2, 3)
    (after,) = RNNCell(rnn)(x, (h,))
    W, U, b, b_ = rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, rnn.bias_hh_l0
    close(after, torch.tanh(x @ W.T + b + h @ U.T + b_))


@given(
    width=st.integers(1, 9),
    layers=st.integers(1, 3),
    directions=st.integers(1, 2),
    inputs=st.integers(1, 20),
    outputs=st.integers(1, 5),
)
def test_is_counted_by_its_formulas(width, layers, directions, inputs, outputs) -> None:
    config = RNNConfig(width=width, layers=layers, directions=directions)
    for model_class in (RNN, RNNSeries):
        shapes = {name: p.shape for name, p in model_class(config, inputs, outputs).named_parameters()}
        counted = model_class.parameter_count(config, inputs, outputs)
        assert counted == sum(shape.numel() for shape in shapes.values())
        step = sum(shape.numel() for name, shape in shapes.items() if name.startswith("rnn.weight"))
        answer = shapes["output.weight"].numel()
        if model_class is RNN:
            assert RNN.macs(config, inputs, outputs, 7) == 7 * step + answer
        else:
            assert RNNSeries.macs(config, inputs, outputs) == inputs * (step + width) + answer


@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_is_counted_by_its_formulas(tied: bool) -> None:
    config = RNNLanguageConfig(width=6, layers=2, tied=tied)
    model = RNNLanguage(config, 20, 20)
    assert sum(p.numel() for p in model.parameters()) == RNNLanguage.parameter_count(config, 20, 20)
    products = [p.numel() for name, p in model.named_parameters() if name.startswith("rnn.weight")]
    assert RNNLanguage.macs(config, 20, 20, length=100) == sum(products) + 6 * 20


@pytest.mark.parametrize("model", ["text", "series", "language"])
def test_first_weights_follow_the_table_of_laws(model: str) -> None:
    wide = RNNConfig(width=128, layers=2, directions=2)
    torch.manual_seed(0)
    network: nn.Module = {
        "text": lambda: RNN(wide, 400, 100),
        "series": lambda: RNNSeries(wide, 40, 100),
        "language": lambda: RNNLanguage(RNNLanguageConfig(width=128), 400, 400),
    }[model]()
    table = recurrent.laws(network)
    assert table.keys() == dict(network.named_parameters()).keys()
    for name, parameter in network.named_parameters():
        law, number = table[name]
        if law == "normal":
            assert parameter.std().item() == pytest.approx(number, rel=0.2), name
        elif law == "orthogonal":
            close(parameter @ parameter.T, torch.eye(len(parameter)), 1e-4)
        else:
            assert law == "zero" and not parameter.any(), name
    torch.manual_seed(0)
    again = copy.deepcopy(network)
    recurrent.initialise(again)
    torch.manual_seed(0)
    recurrent.initialise(network)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


# ---------------------------------------------------------------------- language


@pytest.mark.parametrize("layers", [1, 2])
def test_two_halves_with_the_state_carried_are_one_whole(layers: int) -> None:
    """Truncated backpropagation reads a stretch after another and forgets nothing between them."""
    model = made(RNNLanguage, RNNLanguageConfig(width=8, layers=layers), 20, 20)
    tokens = texts(20, (12, 12, 12))
    whole, state = model.hidden(tokens)
    first, middle = model.hidden(tokens[:, :5])
    second, after = model.hidden(tokens[:, 5:], tuple(part.detach() for part in middle))
    close(torch.cat([first, second], 1), whole)
    close(after, state)
    close(model(tokens, plain=True), model(tokens))


def test_steps_equal_one_reading_and_states_can_be_reordered() -> None:
    model = made(RNNLanguage, RNNLanguageConfig(width=8, layers=2), 20, 20)
    tokens = texts(20, (9, 9, 9))
    logits = model(tokens)
    answer, state = model.step(tokens[:, :4], model.start(3))
    close(answer, logits[:, 3])
    answer, _ = model.step(tokens[:, 4:5], state)
    close(answer, logits[:, 4])
    rows = torch.tensor([2, 0, 0, 1])
    again, _ = model.step(tokens[rows, 4:5], model.reorder(state, rows))
    close(again, logits[rows, 4])


def test_a_tied_head_is_the_embedding_under_one_name() -> None:
    model = made(RNNLanguage, RNNLanguageConfig(width=8), 20, 20)
    states = torch.randn(5, 8)
    close(model.head(states), states @ model.embedding.weight.T + model.head.bias)
    assert "head.weight" not in model.state_dict() and "head.bias" in model.state_dict()
    copied = copy.deepcopy(model)
    assert copied.head.weight is copied.embedding.weight is not model.embedding.weight
    free = RNNLanguage(RNNLanguageConfig(width=8, tied=False), 20, 20)
    assert "head.weight" in free.state_dict()


def test_a_language_has_one_vocabulary() -> None:
    with pytest.raises(SadariError, match="20 tokens read but 21 written: a language has one vocabulary"):
        RNNLanguage(RNNLanguageConfig(), 20, 21)


# ---------------------------------------------------------------------- series


@EVERY_SIZE
def test_a_series_is_read_number_by_number(layers: int, directions: int) -> None:
    model = made(RNNSeries, RNNConfig(width=8, layers=layers, directions=directions), 15, 2)
    features = torch.randn(6, 15)
    close(model(features), model(features, plain=True))
    _, ends = model.rnn(model.enter(features.unsqueeze(-1)))
    close(model(features), model.output(torch.cat(list(ends[-directions:]), -1)))


# ---------------------------------------------------------------------- why it is there


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


@pytest.mark.parametrize("config", [RNNConfig(), RNNLanguageConfig()])
def test_wrong_settings_are_refused_with_a_remedy(config: Any) -> None:
    for change, words in (
        ({"width": 0}, "width 0: a state needs at least 1 number; use width=128"),
        ({"layers": 0}, "layers 0: a network needs at least 1 layer; use layers=1"),
        ({"dropout": 1.0}, r"dropout 1\.0: the share dropped lies in \[0, 1\); use dropout=0\.2"),
    ):
        with pytest.raises(SadariError, match=words):
            replace(config, **change)
    with pytest.raises(SadariError, match=r"directions 3: a text is read forwards \(1\) or both ways \(2\)"):
        RNNConfig(directions=3)
