"""Recurrent networks: the same fused and step by step, blind to padding, counted, born by their laws."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers import recurrent
from sadari.layers.tokens import PAD
from sadari.models.lstm import LSTM, LSTMLanguage, LSTMSeries
from sadari.models.rnn import RNN, RNNLanguage, RNNSeries

TEXT, SERIES, LANGUAGE = (RNN, LSTM), (RNNSeries, LSTMSeries), (RNNLanguage, LSTMLanguage)
SIZES = [(1, 1), (1, 2), (2, 1), (3, 2)]  # layers, directions
EVERY_SIZE = pytest.mark.parametrize(("layers", "directions"), SIZES)
EVERY_TEXT = pytest.mark.parametrize("model_class", TEXT)
EVERY_SERIES = pytest.mark.parametrize("model_class", SERIES)
EVERY_LANGUAGE = pytest.mark.parametrize("model_class", LANGUAGE)
LENGTHS = (9, 4, 0, 1, 6)


def texts(vocabulary: int = 30, lengths: tuple[int, ...] = LENGTHS) -> Tensor:
    """Padded rows of random tokens."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, vocabulary, (len(lengths), max(lengths)), generator=generator)
    for row, length in zip(tokens, lengths, strict=True):
        row[length:] = PAD
    return tokens


def made(model_class: Any, *sizes: int, **settings: Any) -> Any:
    torch.manual_seed(0)
    return model_class(model_class.Config(**settings), *sizes).eval()


def core(model: nn.Module) -> nn.RNNBase:
    return next(part for part in model.children() if isinstance(part, nn.RNNBase))


def close(ours: Any, theirs: Any, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@EVERY_TEXT
@EVERY_SIZE
def test_fused_and_step_by_step_give_the_same(model_class: Any, layers: int, directions: int) -> None:
    model = made(model_class, 30, 3, width=12, layers=layers, directions=directions)
    tokens = texts()
    fused, plain = model(tokens), model(tokens, plain=True)
    close(fused, plain)
    gradients = [torch.autograd.grad(y.square().sum(), list(model.parameters())) for y in (fused, plain)]
    close(*gradients)


@EVERY_TEXT
@EVERY_SIZE
def test_padding_changes_no_answer_and_an_empty_text_has_one(
    model_class: Any, layers: int, directions: int
) -> None:
    model = made(model_class, 30, 3, width=12, layers=layers, directions=directions)
    tokens = texts()
    together = model(tokens)
    for row, length in enumerate(LENGTHS):
        close(model(tokens[row : row + 1, : max(length, 1)])[0], together[row])
    wider = torch.cat([tokens, torch.full((len(tokens), 7), PAD)], 1)
    close(model(wider), together)
    close(together[2], model.output.bias)  # nothing was read
    close(model(tokens.int()), together)


@EVERY_SIZE
@EVERY_TEXT
def test_half_precision_reads_too(model_class: Any, layers: int, directions: int) -> None:
    model = made(model_class, 30, 3, width=12, layers=layers, directions=directions).train()
    with torch.autocast("cpu", torch.bfloat16):
        answer = model(texts())
    answer.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@EVERY_TEXT
def test_dropout_silences_between_layers_and_in_training_only(model_class: Any) -> None:
    for directions in (1, 2):
        model = made(model_class, 30, 3, width=12, layers=2, directions=directions, dropout=0.5)
        tokens = texts()
        assert torch.equal(model(tokens), model(tokens))
        model.train()
        model.dropout.p = 0.0  # what is left is that between the layers
        assert not torch.equal(model(tokens), model(tokens))


@given(
    width=st.integers(1, 9),
    layers=st.integers(1, 3),
    directions=st.integers(1, 2),
    inputs=st.integers(1, 20),
    outputs=st.integers(1, 5),
)
def test_is_counted_by_its_formulas(width, layers, directions, inputs, outputs) -> None:
    for model_class in (*TEXT, *SERIES):
        config = model_class.Config(width=width, layers=layers, directions=directions)
        shapes = {name: p.shape for name, p in model_class(config, inputs, outputs).named_parameters()}
        counted = model_class.parameter_count(config, inputs, outputs)
        assert counted == sum(shape.numel() for shape in shapes.values())
        step = sum(shape.numel() for name, shape in shapes.items() if ".weight_" in name)
        answer = shapes["output.weight"].numel()
        if model_class in TEXT:
            assert model_class.macs(config, inputs, outputs, 7) == 7 * step + answer
        else:
            assert model_class.macs(config, inputs, outputs) == inputs * (step + width) + answer


@EVERY_LANGUAGE
@pytest.mark.parametrize("tied", [True, False])
def test_a_language_model_is_counted_by_its_formulas(model_class: Any, tied: bool) -> None:
    config = model_class.Config(width=6, layers=2, tied=tied)
    model = model_class(config, 20, 20)
    assert sum(p.numel() for p in model.parameters()) == model_class.parameter_count(config, 20, 20)
    products = [p.numel() for name, p in model.named_parameters() if ".weight_" in name]
    assert model_class.macs(config, 20, 20, length=100) == sum(products) + 6 * 20


@pytest.mark.parametrize("model_class", [*TEXT, *SERIES, *LANGUAGE])
def test_first_weights_follow_the_table_of_laws(model_class: Any) -> None:
    ways = {} if model_class in LANGUAGE else {"directions": 2}
    network = made(model_class, 400, 400, width=128, layers=2, **ways)
    table = recurrent.laws(network)
    assert table.keys() == dict(network.named_parameters()).keys()
    for name, parameter in network.named_parameters():
        law, number = table[name]
        if law == "normal":
            assert parameter.std().item() == pytest.approx(number, rel=0.2), name
        elif law == "orthogonal":
            for gate in parameter.split(128):
                close(gate @ gate.T, torch.eye(128), 1e-4)
        else:
            gates = parameter.split(128)
            assert not gates[0].any() and not gates[-1].any(), name
            if law == "forget":
                assert len(gates) == 4 and (gates[1] == 1).all() and not gates[2].any(), name
            else:
                assert law == "zero" and not parameter.any(), name
    again = copy.deepcopy(network)
    for each in (network, again):
        torch.manual_seed(1)
        recurrent.initialise(each)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


# ---------------------------------------------------------------------- language


@EVERY_LANGUAGE
@pytest.mark.parametrize("layers", [1, 2])
def test_two_halves_with_the_state_carried_are_one_whole(model_class: Any, layers: int) -> None:
    """Truncated backpropagation reads a stretch after another and forgets nothing between them."""
    model = made(model_class, 20, 20, width=8, layers=layers)
    tokens = texts(20, (12, 12, 12))
    whole, state = model.hidden(tokens)
    first, middle = model.hidden(tokens[:, :5])
    second, after = model.hidden(tokens[:, 5:], tuple(part.detach() for part in middle))
    close(torch.cat([first, second], 1), whole)
    close(after, state)
    close(model(tokens, plain=True), model(tokens))


@EVERY_LANGUAGE
def test_steps_equal_one_reading_and_states_can_be_reordered(model_class: Any) -> None:
    model = made(model_class, 20, 20, width=8, layers=2)
    tokens = texts(20, (9, 9, 9))
    logits = model(tokens)
    answer, state = model.step(tokens[:, :4], model.start(3))
    close(answer, logits[:, 3])
    answer, _ = model.step(tokens[:, 4:5], state)
    close(answer, logits[:, 4])
    rows = torch.tensor([2, 0, 0, 1])
    again, _ = model.step(tokens[rows, 4:5], model.reorder(state, rows))
    close(again, logits[rows, 4])


@EVERY_LANGUAGE
def test_a_tied_head_is_the_embedding_under_one_name(model_class: Any) -> None:
    model = made(model_class, 20, 20, width=8)
    states = torch.randn(5, 8)
    close(model.head(states), states @ model.embedding.weight.T + model.head.bias)
    assert "head.weight" not in model.state_dict() and "head.bias" in model.state_dict()
    copied = copy.deepcopy(model)
    assert copied.head.weight is copied.embedding.weight is not model.embedding.weight
    free = made(model_class, 20, 20, width=8, tied=False)
    assert "head.weight" in free.state_dict()


@EVERY_LANGUAGE
def test_a_language_has_one_vocabulary(model_class: Any) -> None:
    with pytest.raises(SadariError, match="20 tokens read but 21 written: a language has one vocabulary"):
        made(model_class, 20, 21)


# ---------------------------------------------------------------------- series


@EVERY_SERIES
@EVERY_SIZE
def test_a_series_is_read_number_by_number(model_class: Any, layers: int, directions: int) -> None:
    model = made(model_class, 15, 2, width=8, layers=layers, directions=directions)
    features = torch.randn(6, 15)
    close(model(features), model(features, plain=True))
    _, ends = core(model)(model.enter(features.unsqueeze(-1)))
    ends = ends[0] if isinstance(ends, tuple) else ends
    close(model(features), model.output(torch.cat(list(ends[-directions:]), -1)))


@pytest.mark.parametrize("model_class", [*TEXT, *LANGUAGE])
def test_wrong_settings_are_refused_with_a_remedy(model_class: Any) -> None:
    for settings, words in (
        ({"width": 0}, "width 0: a state needs at least 1 number; use width=64"),
        ({"layers": 0}, "layers 0: a network needs at least 1 layer; use layers=1"),
        ({"dropout": 1.0}, r"dropout 1\.0: the share dropped lies in \[0, 1\); use dropout=0\.2"),
    ):
        with pytest.raises(SadariError, match=words):
            model_class.Config(**settings)
    if model_class in TEXT:
        with pytest.raises(SadariError, match=r"directions 3: a text is read forwards \(1\) or both ways"):
            model_class.Config(directions=3)


@pytest.mark.parametrize("model_class", [RNNLanguage, LSTMLanguage])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_step_of_few_rows_equals_torchs_kernel(
    model_class: Any, layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = model_class(model_class.Config(width=8, layers=layers), 20, 20).eval()
    core = model.lstm if model_class is LSTMLanguage else model.rnn
    x, state = torch.randn(3, 1, 8), tuple(torch.randn_like(part) for part in model.start(3))
    with torch.inference_mode():
        output, after = recurrent.read(core, x, state=state)
        monkeypatch.setattr(recurrent, "FEW", 0)
        expected, its = recurrent.read(core, x, state=state)
    for ours, theirs in zip((output, *after), (expected, *its), strict=True):
        torch.testing.assert_close(ours, theirs)
