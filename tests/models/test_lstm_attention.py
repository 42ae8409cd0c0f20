"""LSTM with attention: the papers' steps written out, weights that sum to one, digits found from the end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.inspection.record import Recorder
from sadari.layers.tokens import PAD
from sadari.models.lstm_attention import LSTMAttention, LSTMAttentionConfig
from sadari.models.seq2seq import LSTMTranslator, Seq2SeqConfig

V, LENGTHS = 20, ((7, 4), (3, 8), (1, 1), (5, 6))
KINDS: list[dict[str, Any]] = [
    {"score": score, "feeding": feeding, "coverage": coverage, "directions": 1 if score == "dot" else 2}
    for score in ("additive", "dot", "general")
    for feeding in (True, False)
    for coverage in (True, False)
    if score == "additive" or not coverage
]
EVERY_KIND = pytest.mark.parametrize("settings", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))


def made(**settings: Any) -> LSTMAttention:
    torch.manual_seed(0)
    model = LSTMAttention(LSTMAttentionConfig(**{"width": 10, **settings}), V, V).eval()
    if settings.get("coverage"):
        nn.init.normal_(model.scores.past.weight)  # zero at birth
    return model


def pairs(lengths: Any = LENGTHS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sides = []
    for side in zip(*lengths, strict=True):
        tokens = torch.randint(0, V, (len(side), max(side)), generator=generator)
        for row, length in zip(tokens, side, strict=True):
            row[length:] = PAD
        sides.append(tokens)
    return sides[0], sides[1]


def close(ours: Any, theirs: Any, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


def by_hand(model: LSTMAttention, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One pair by torch's LSTM and LSTMCell with our weights, one number after another: logits, weights."""
    config, C = model.config, model.config.width
    encoder = nn.LSTM(C, C, batch_first=True, bidirectional=config.directions == 2)
    encoder.load_state_dict(model.encoder.state_dict())
    decoder = nn.LSTMCell(C * (2 if config.feeding else 1), C)
    decoder.load_state_dict({name.removesuffix("_l0"): p for name, p in model.decoder.state_dict().items()})
    states, (ends, _) = encoder(model.source_embedding.weight[source].unsqueeze(0) * model.scale)
    memory = states[0]  # (S, W)
    first = torch.tanh(model.bridge(torch.cat(list(ends), -1)[0]))
    state = first[:C].unsqueeze(0), first[C:].unsqueeze(0)
    fed, past, logits, weights = torch.zeros(C), torch.zeros(len(source)), [], []
    for token in target:
        x = model.embedding.weight[token] * model.scale
        x = torch.cat([x, fed]) if config.feeding else x
        state = decoder(x.unsqueeze(0), state)
        s = state[0][0]
        scores, e = model.scores, []
        for place, h in enumerate(memory):
            if config.score == "additive":
                inner = scores.query.weight @ s + scores.key.weight @ h + scores.key.bias
                if config.coverage:
                    inner = inner + scores.past.weight[:, 0] * past[place]
                e.append(scores.energy.weight[0] @ inner.tanh())
            else:
                e.append(s @ (scores.key.weight @ h if config.score == "general" else h))
        a = torch.stack(e).exp() / torch.stack(e).exp().sum()
        past, context = past + a, a @ memory
        fed = torch.tanh(model.mix.weight @ torch.cat([context, s]) + model.mix.bias)
        logits.append(model.embedding.weight @ fed + model.head.bias)
        weights.append(a)
    return torch.stack(logits), torch.stack(weights)


@pytest.mark.proof("lstm-attention", "parity")
@EVERY_KIND
def test_is_the_papers_steps_written_out(settings: dict[str, Any]) -> None:
    model, (source, target) = made(**settings), pairs()
    logits, weights = model(source, target), model.alignment(source, target)
    for row, (S, T) in enumerate(LENGTHS):
        expected, looked = by_hand(model, source[row, :S], target[row, :T])
        close(logits[row, :T], expected)
        close(weights[row, :T, :S], looked)


@EVERY_KIND
def test_weights_sum_to_one_and_are_zero_on_padding(settings: dict[str, Any]) -> None:
    model = made(**settings)
    source, target = pairs((*LENGTHS, (0, 3)))
    weights = model.alignment(source, target)
    assert weights.shape == (5, 8, 7) and (weights >= 0).all()
    assert not weights.masked_select((source == PAD).unsqueeze(1)).any()
    close(weights.sum(-1), (source >= 0).any(1, keepdim=True).float().expand(5, 8))  # an empty text has none
    assert model(source, target).isfinite().all()


@EVERY_KIND
def test_names_its_inner_values(settings: dict[str, Any]) -> None:
    model, (source, target), seen = made(**settings), pairs(), Recorder()
    answer = model(source, target, seen, plain=True)
    names, values = list(seen.values), seen.values
    gates = [f"decoder.{gate}0" for gate in ("input", "forget", "output", "write", "cell", "hidden")]
    looks = [f"decoder.{name}" for name in ("scores", "weights", "context", "looks")]
    assert names[-14:] == ["bridge", "decoder.embedded", *gates, *looks, "states", "output"]
    context = torch.einsum("bts,bsw->btw", values["decoder.weights"], values["encoder.states"])
    close(values["decoder.context"], context)
    both = torch.cat([context, values["decoder.hidden0"]], -1)
    close(values["decoder.looks"], model.mix(both).tanh())
    close(values["decoder.scores"].softmax(-1), values["decoder.weights"])
    assert torch.equal(values["output"], answer)
    close(model.alignment(source, target), values["decoder.weights"])
    fast = Recorder()
    model(source, target, fast)
    close(fast.values["decoder.weights"], values["decoder.weights"])


@EVERY_KIND
def test_every_route_goes_on_from_anothers_state(settings: dict[str, Any]) -> None:
    model, (source, target) = made(layers=2, **settings), pairs()
    whole, end = model.decode(target, model.first_state(source))
    for first, second in ((True, False), (False, True), (True, True)):
        before, state = model.decode(target[:, :3], model.first_state(source), plain=first)
        after, state = model.decode(target[:, 3:], state, plain=second)
        close(torch.cat([before, after], 1), whole)
        close((*state.own, state.fed, state.past), (*end.own, end.fed, end.past))


def test_feeding_tells_a_step_what_the_one_before_saw() -> None:
    """Without it the decoder's states do not depend on where it has looked."""
    for feeding in (True, False):
        model, (source, target), seen = made(feeding=feeding), pairs(), (Recorder(), Recorder())
        model(source, target, seen[0], plain=True)
        nn.init.normal_(model.scores.key.weight)  # looks elsewhere
        model(source, target, seen[1], plain=True)
        before, after = (record.values["decoder.hidden0"] for record in seen)
        close(before[:, 0], after[:, 0])
        assert torch.allclose(before, after) != feeding


def test_coverage_begins_as_attention_without_it() -> None:
    torch.manual_seed(0)
    covered = LSTMAttention(LSTMAttentionConfig(width=10, score="additive", coverage=True), V, V).eval()
    bare = made(score="additive")
    bare.load_state_dict({name: p for name, p in covered.state_dict().items() if "past" not in name})
    close(covered(*pairs()), bare(*pairs()))


def test_a_beam_within_a_sentence_copies_nothing_of_the_source() -> None:
    model, (source, target) = made(), pairs()
    with torch.no_grad():
        state = model.reorder(model.start(source), torch.tensor([0, 0, 1, 1]))
        _, state = model.step(target[[0, 0, 1, 1], :1], state)
        swapped = model.reorder(state, torch.tensor([1, 1, 3, 2]))
        shrunk = model.reorder(state, torch.tensor([2, 3]))
    for name in ("memory", "keys", "values", "blocked"):
        assert getattr(swapped, name) is getattr(state, name)
        assert torch.equal(getattr(shrunk, name), getattr(state, name)[2:])
    assert torch.equal(swapped.own[0], state.own[0][:, [1, 1, 3, 2]])


def test_its_networks_are_torchs_own() -> None:
    """Weights go to torch.nn.LSTM and come back."""
    model, (source, target) = made(layers=2), pairs()
    encoder = nn.LSTM(10, 10, 2, batch_first=True, bidirectional=True)
    decoder = nn.LSTM(20, 10, 2, batch_first=True)
    expected = model(source, target)
    for ours, theirs in ((model.encoder, encoder), (model.decoder, decoder)):
        theirs.load_state_dict(ours.state_dict())
        nn.init.zeros_(ours.weight_hh_l0)
        ours.load_state_dict(theirs.state_dict())
    close(model(source, target), expected)


def test_wrong_settings_are_refused_with_a_remedy() -> None:
    for settings, words in (
        ({"score": "cosine"}, "no score 'cosine'; choose one of additive, dot, general"),
        ({"score": "dot"}, r"score dot multiplies a state of 256 numbers by one of 512.* directions=1"),
        ({"coverage": True}, "score general has no place for coverage, .*; use score=additive"),
        ({"layers": 0}, "layers 0: a network needs at least 1 layer"),
    ):
        with pytest.raises(SadariError, match=words):
            LSTMAttentionConfig(**settings)
    with pytest.raises(SadariError, match=r"share: 20 tokens read but 21 written, .*; use share=false"):
        LSTMAttention(LSTMAttentionConfig(width=4, share=True), 20, 21)


# ---------------------------------------------------------------------- reversed digits

START, END = 10, 11


def reversed_digits(count: int, longest: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sources of 1 to `longest` digits and END, targets of START, the digits from the end, END; lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator)
    source, target = torch.full((count, longest + 1), PAD), torch.full((count, longest + 2), PAD)
    target[:, 0] = START
    for row, length in enumerate(lengths.tolist()):
        digits = torch.randint(1, 10, (length,), generator=generator)
        source[row, :length], source[row, length] = digits, END
        target[row, 1 : length + 1], target[row, length + 1] = digits.flip(0), END
    return source, target, lengths


def taught(model: nn.Module, source: Tensor, target: Tensor, steps: int) -> nn.Module:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(source), (64,), generator=generator)
        optimizer.zero_grad()
        logits = model(source[rows], target[rows, :-1]).flatten(0, 1)
        nn.functional.cross_entropy(logits, target[rows, 1:].flatten(), ignore_index=PAD).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@torch.no_grad()
def exact(model: Any, source: Tensor, target: Tensor) -> float:
    """Share of sources whose whole target is written."""
    tokens, state, written = target[:, :1], model.start(source), []
    for _ in range(target.shape[1] - 1):
        logits, state = model.step(tokens, state)
        tokens = logits.argmax(-1, keepdim=True)
        written.append(tokens)
    wanted = target[:, 1:]
    return ((torch.cat(written, 1) == wanted) | (wanted == PAD)).all(1).float().mean().item()


@pytest.mark.proof("lstm-attention", "claim")
@pytest.mark.slow
def test_finds_digits_from_the_end_where_one_vector_loses_them() -> None:
    """The argmax of its weights is the anti-diagonal, which nobody has told it."""
    source, target, _ = reversed_digits(10_000, 12, seed=1)
    unseen, wanted, lengths = reversed_digits(400, 12, seed=2)
    torch.manual_seed(0)
    model = taught(LSTMAttention(LSTMAttentionConfig(width=64), 12, 12), source, target, 400)
    torch.manual_seed(0)
    fixed = taught(LSTMTranslator(Seq2SeqConfig(width=64), 12, 12), source, target, 400)
    assert exact(model, unseen, wanted) > 0.9 > 0.7 > exact(fixed, unseen, wanted)
    with torch.no_grad():
        looked = model.alignment(unseen, wanted[:, :-1]).argmax(-1)  # (N, T)
    step = torch.arange(looked.shape[1])
    written = step < lengths.unsqueeze(1)  # the digits, not END
    anti = looked == lengths.unsqueeze(1) - 1 - step
    assert anti[written].float().mean() >= 0.95
