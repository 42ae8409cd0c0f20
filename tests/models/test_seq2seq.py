"""From one text to another: a whole target, single steps and readable cells foretell the same, padded or not.

What is asked here is asked of every recurrent encoder-decoder, those with attention too.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.inspection.record import Recorder
from sadari.layers import recurrent
from sadari.layers.tokens import PAD
from sadari.models.lstm_attention import LSTMAttention
from sadari.models.seq2seq import LSTMTranslator, RNNTranslator, Seq2SeqConfig

FIXED = (RNNTranslator, LSTMTranslator)
EVERY_FIXED = pytest.mark.parametrize("model_class", FIXED)
KINDS: list[tuple[Any, dict[str, Any]]] = [
    *((model_class, {}) for model_class in FIXED),
    *((model_class, {"layers": 2, "directions": 1, "reverse": True}) for model_class in FIXED),
    (RNNTranslator, {"layers": 2, "tied": False}),
    (LSTMTranslator, {"share": True}),
    (LSTMAttention, {}),
    (LSTMAttention, {"layers": 2, "score": "additive"}),
    (LSTMAttention, {"score": "dot", "directions": 1, "tied": False}),
    (LSTMAttention, {"score": "general", "feeding": False, "layers": 2}),
    (LSTMAttention, {"score": "additive", "feeding": False, "share": True}),
    (LSTMAttention, {"score": "additive", "coverage": True}),
    (LSTMAttention, {"score": "additive", "coverage": True, "feeding": False, "directions": 1}),
]
NAMES = [f"{kind.__name__}-{'-'.join(map(str, settings.values()))}" for kind, settings in KINDS]
EVERY_KIND = pytest.mark.parametrize(("model_class", "settings"), KINDS, ids=NAMES)
V = 20
LENGTHS = ((7, 4), (3, 8), (1, 1), (5, 6), (0, 3))  # of each source and its target


def made(model_class: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    model = model_class(model_class.Config(**{"width": 10, **settings}), V, V).eval()
    if settings.get("coverage"):
        nn.init.normal_(model.scores.past.weight)  # zero at birth
    return model


def pairs(lengths: Any = LENGTHS, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Padded sources and targets of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    sides = []
    for side in zip(*lengths, strict=True):
        tokens = torch.randint(0, V, (len(side), max(side)), generator=generator)
        for row, length in zip(tokens, side, strict=True):
            row[length:] = PAD
        sides.append(tokens)
    return sides[0], sides[1]


def close(ours: Any, theirs: Any, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@EVERY_KIND
def test_fused_and_plain_give_the_same_gradients_too(model_class: Any, settings: dict[str, Any]) -> None:
    model, (source, target) = made(model_class, **settings), pairs()
    real = (target >= 0).unsqueeze(-1)
    both = model(source, target), model(source, target, plain=True)
    close(*both)
    parameters = list(model.parameters())
    gradients = [torch.autograd.grad((y * real).square().sum(), parameters) for y in both]
    close(*gradients, tolerance=1e-5)


@EVERY_KIND
def test_padding_changes_nothing(model_class: Any, settings: dict[str, Any]) -> None:
    model, (source, target) = made(model_class, **settings), pairs()
    together = model(source, target)
    assert together.isfinite().all()
    for row, (S, T) in enumerate(LENGTHS):
        alone = model(source[row : row + 1, : max(S, 1)], target[row : row + 1, :T])
        close(alone[0], together[row, :T])
    wider = [nn.functional.pad(side, (0, 5), value=PAD).int() for side in (source, target)]
    close(model(*wider)[:, : target.shape[1]], together)
    state = model.start(wider[0])
    close(model.step(target[:, :1], state)[0], together[:, 0])


@EVERY_KIND
def test_every_parameter_gets_a_gradient(model_class: Any, settings: dict[str, Any]) -> None:
    model, (source, target) = made(model_class, dropout=0.3, **settings).train(), pairs()
    model(source, target)[:, 1:].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@EVERY_KIND
@given(data=st.data())
def test_steps_and_reorders_equal_the_whole_target(
    model_class: Any, settings: dict[str, Any], data: st.DataObject
) -> None:
    """Any cut of the target into steps, and rows that move, repeat and leave between them."""
    model = made(model_class, **settings)
    source, target = pairs(((6, 7), (4, 7), (2, 7)), data.draw(st.integers(0, 5)))
    rows = torch.arange(3)
    with torch.no_grad():
        whole, state, done = model(source, target), model.start(source), 0
        while done < 7:
            T = data.draw(st.integers(1, 7 - done))
            logits, state = model.step(target[rows, done : done + T], state)
            done += T
            close(logits, whole[rows, done - 1], 1e-5)
            moved = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=4))
            state, rows = model.reorder(state, torch.tensor(moved)), rows[moved]


@EVERY_KIND
def test_a_state_that_was_stepped_from_is_still_good(model_class: Any, settings: dict[str, Any]) -> None:
    model, (source, target) = made(model_class, **settings), pairs(((6, 4), (3, 4)))
    with torch.no_grad():
        state = model.start(source)
        first = model.step(target[:, :2], state)[0]
        assert torch.equal(model.step(target[:, :2], state)[0], first)


@EVERY_KIND
def test_single_steps_teach_what_the_whole_target_teaches(model_class: Any, settings: dict[str, Any]) -> None:
    """The gradient goes back through the states, as training on a model's own words needs it."""
    model, (source, target) = made(model_class, **settings), pairs(((6, 5), (3, 5)))
    state, logits = model.start(source), []
    for t in range(5):
        each, state = model.step(target[:, t : t + 1], state)
        logits.append(each)
    parameters = list(model.parameters())
    both = torch.stack(logits, 1), model(source, target)
    close(*both)
    close(*(torch.autograd.grad(y.square().sum(), parameters) for y in both), tolerance=1e-5)


@EVERY_KIND
def test_half_precision_learns_too(model_class: Any, settings: dict[str, Any]) -> None:
    model, (source, target) = made(model_class, **settings).train(), pairs()
    exact = model.eval()(source, target)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(source, target)
        model(source, target, plain=True)
    close(logits.float(), exact, 0.2)
    logits.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@given(
    kind=st.sampled_from(KINDS),
    width=st.integers(1, 9),
    inputs=st.integers(1, 30),
    outputs=st.integers(1, 30),
    length=st.integers(1, 9),
)
def test_is_counted_by_its_formulas(kind, width, inputs, outputs, length) -> None:
    model_class, settings = kind
    inputs = outputs if settings.get("share") else inputs
    config = model_class.Config(**{**settings, "width": width})
    model = model_class(config, inputs, outputs)
    assert sum(p.numel() for p in model.parameters()) == model_class.parameter_count(config, inputs, outputs)
    products = {name: p.numel() for name, p in model.named_parameters() if p.dim() == 2}
    once = products.pop("bridge.weight")
    products = {name: n for name, n in products.items() if "embedding" not in name and name != "head.weight"}
    steps = sum(
        n for name, n in products.items() if name not in ("scores.past.weight", "scores.energy.weight")
    )
    steps += outputs * width
    looks = length * length * width * (2 + config.coverage) if model_class is LSTMAttention else 0
    assert model_class.macs(config, inputs, outputs, length) == length * steps + once + looks


@EVERY_KIND
def test_first_weights_follow_the_table_of_laws(model_class: Any, settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    config = model_class.Config(**{**settings, "width": 128})
    model = model_class(config, 300, 300)
    table = recurrent.laws(model)
    assert table.keys() == dict(model.named_parameters()).keys()
    spread = 1 / 128**0.5 if config.tied else 1.0
    for name, parameter in model.named_parameters():
        law, number = table[name]
        if law == "normal":
            assert parameter.std().item() == pytest.approx(number, rel=0.25), name
            assert "embedding" not in name or number == spread
        elif law == "zero":
            assert not parameter.any() and ("bias" in name or name == "scores.past.weight"), name
    assert model.scale == (128**0.5 if config.tied else 1.0)
    torch.manual_seed(1)
    again = model_class(config, 300, 300)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


# ---------------------------------------------------------------------- one vector between two networks


def by_hand(model: Any, source: Tensor, target: Tensor) -> Tensor:
    """One pair: torch's own networks with our weights, and Cho's tanh(V vector) between them."""
    config, kind = model.config, nn.LSTM if isinstance(model, LSTMTranslator) else nn.RNN
    C, L, D = config.width, config.layers, config.directions
    encoder = kind(C, C, L, batch_first=True, bidirectional=D == 2)
    decoder = kind(C, C, L, batch_first=True)
    encoder.load_state_dict(model.encoder.state_dict())
    decoder.load_state_dict(model.decoder.state_dict())
    table = model.embedding if config.share else model.source_embedding
    source = source.flip(0) if config.reverse else source
    ends = encoder(table.weight[source].unsqueeze(0) * model.scale)[1]
    ends = ends[0] if kind is nn.LSTM else ends
    vector = torch.cat(list(ends[-D:]), -1)  # (1, D C)
    first = torch.tanh(vector @ model.bridge.weight.T + model.bridge.bias)
    h, *c = first.view(-1, L, 1, C)
    state = (h, c[0]) if c else h
    states, _ = decoder(model.embedding.weight[target].unsqueeze(0) * model.scale, state)
    weight = model.embedding.weight if config.tied else model.head.weight
    return (states @ weight.T + model.head.bias)[0]


@EVERY_FIXED
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "settings", [{}, {"layers": 2, "directions": 1}, {"layers": 2, "tied": False}, {"share": True}]
)
def test_is_torchs_networks_with_one_vector_between(
    model_class: Any, reverse: bool, settings: dict[str, Any]
) -> None:
    model, (source, target) = made(model_class, reverse=reverse, **settings), pairs(LENGTHS[:4])
    ours = model(source, target)
    for row, (S, T) in enumerate(LENGTHS[:4]):
        close(ours[row, :T], by_hand(model, source[row, :S], target[row, :T]))


@EVERY_FIXED
def test_reading_backwards_is_reading_the_reversed_text(model_class: Any) -> None:
    forwards = made(model_class, directions=1)
    backwards = made(model_class, directions=1, reverse=True)
    backwards.load_state_dict(forwards.state_dict())
    source, target = pairs()
    turned = source.clone()
    for row, (S, _) in zip(turned, LENGTHS, strict=True):
        row[:S] = row[:S].flip(0)
    close(backwards(source, target), forwards(turned, target))
    assert not torch.allclose(backwards(source, target), forwards(source, target), atol=1e-3)


@EVERY_FIXED
def test_nothing_but_the_vector_goes_between(model_class: Any) -> None:
    """The state before START has one size, whatever was read, and is all that the decoder knows of it."""
    model = made(model_class)
    short, long = model.start(torch.zeros(2, 3).long()), model.start(torch.zeros(2, 30).long())
    assert [part.shape for part in short] == [part.shape for part in long] == [(1, 2, 10)] * len(short)
    assert not hasattr(model, "alignment")


@EVERY_FIXED
def test_names_its_inner_values(model_class: Any) -> None:
    model, (source, target), seen = made(model_class), pairs(), Recorder()
    answer = model(source, target, seen, plain=True)
    gates = ("pre", "hidden")
    if model_class is LSTMTranslator:
        gates = ("input", "forget", "output", "write", "cell", "hidden")
    assert list(seen.values) == [
        "encoder.embedded",
        *(f"encoder.{gate}0" for gate in gates),
        *(f"encoder.{gate}0_back" for gate in gates),
        "encoder.states",
        "encoder.vector",
        "bridge",
        "decoder.embedded",
        *(f"decoder.{gate}0" for gate in gates),
        "states",
        "output",
    ]
    assert torch.equal(seen.values["output"], answer)
    close(seen.values["states"], seen.values["decoder.hidden0"])
    close(model.hidden(source, target), seen.values["states"])
    close(model.head(seen.values["states"]), answer)


@EVERY_KIND
def test_one_table_for_both_sides_is_saved_once(model_class: Any, settings: dict[str, Any]) -> None:
    model = made(model_class, **settings)
    names = model.state_dict().keys()
    assert ("source_embedding.weight" in names) != model.config.share
    assert ("head.weight" in names) != model.config.tied
    stores = [p.data_ptr() for p in model.state_dict().values()]
    assert len(stores) == len(set(stores))


def test_wrong_settings_are_refused_with_a_remedy() -> None:
    for settings, words in (
        ({"width": 0}, "width 0: a state needs at least 1 number; use width=64"),
        ({"layers": 0}, "layers 0: a network needs at least 1 layer; use layers=1"),
        ({"directions": 3}, r"directions 3: a text is read forwards \(1\) or both ways"),
        ({"dropout": 1.0}, r"dropout 1\.0: the share dropped lies in \[0, 1\)"),
    ):
        with pytest.raises(SadariError, match=words):
            Seq2SeqConfig(**settings)
    with pytest.raises(SadariError, match=r"share: 20 tokens read but 21 written, .*; use share=false"):
        RNNTranslator(Seq2SeqConfig(width=4, share=True), 20, 21)


def test_a_vector_holds_a_short_text() -> None:
    """Three digits read, three written from the end: one vector is enough for that."""
    generator = torch.Generator().manual_seed(0)
    digits = torch.randint(1, 6, (400, 3), generator=generator)
    start, end = torch.full((400, 1), 6), torch.full((400, 1), 7)
    source = torch.cat([digits, end], 1)
    target = torch.cat([start, digits.flip(1), end], 1)
    torch.manual_seed(0)
    model = LSTMTranslator(Seq2SeqConfig(width=32, dropout=0.0), 8, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(120):
        rows = torch.randint(350, (50,), generator=generator)
        optimizer.zero_grad()
        logits = model(source[rows], target[rows, :-1])
        nn.functional.cross_entropy(logits.flatten(0, 1), target[rows, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        tokens, state = start[350:], model.start(source[350:])
        written = []
        for _ in range(4):
            logits, state = model.step(tokens, state)
            tokens = logits.argmax(-1, keepdim=True)
            written.append(tokens)
    assert (torch.cat(written, 1) == target[350:, 1:]).all(1).float().mean() > 0.9
