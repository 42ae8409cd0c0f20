"""Search, tested against looking at every target there is, with models that are tables or small networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.packed import Packed
from sadari.layers.shortlist import Shortlist
from sadari.models.translator import Translator as Transformer
from sadari.models.translator import TranslatorConfig as TransformerConfig
from sadari.search import Found, Searching, Step, beams, search
from sadari.search.rows import closed, top

START, END = 0, 1
PAD = -1


class Table(nn.Module):
    """Odds of the next token by the source and by the sum of all before: what a step forgets would show."""

    def __init__(self, size: int = 4, seed: int = 0, spread: float = 2.0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.logits = nn.Parameter(torch.randn(13, 11, size, generator=random) * spread)
        self.rows_seen: list[int] = []
        self.moves = 0

    def start(self, source: Tensor) -> tuple[Tensor, Tensor]:
        real = source >= 0
        weight = torch.arange(1, source.shape[1] + 1)
        return ((source + 3) * weight * real).sum(1) % 13, torch.zeros(len(source), dtype=torch.int64)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        self.rows_seen.append(len(tokens))
        what, sums = state
        for column in tokens.T:
            sums = 3 * sums + column + 1
        return self.logits[what, sums % 11], (what, sums)

    def reorder(self, state: Any, rows: Tensor) -> Any:
        self.moves += 1
        return state[0][rows], state[1][rows]

    def logps(self, source: Sequence[int], target: Sequence[int]) -> Tensor:
        """Log-probabilities (T, V) before each token of a target and behind it."""
        state, out = self.start(torch.tensor([list(source)])), []
        for token in [START, *target]:
            logits, state = self.step(torch.tensor([[token]]), state)
            out.append(logits[0].detach().double().log_softmax(-1))
        return torch.stack(out)


class Recurrent(nn.Module):
    """A GRU that attends to its source; the state shows where it looked."""

    def __init__(self, size: int = 12, width: int = 16, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding, self.cell = nn.Embedding(size, width), nn.GRUCell(2 * width, width)
        self.head, self.dropout = nn.Linear(width, size), nn.Dropout(0.5)
        with torch.no_grad():
            self.head.weight *= 6

    def start(self, source: Tensor) -> Any:
        real = source >= 0
        memory = self.embedding(source.clamp(min=0)) * real[..., None]
        return SimpleNamespace(memory=memory, real=real, h=memory.sum(1).tanh())

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        h = state.h
        for column in tokens.T:
            scores = (state.memory @ h[..., None])[..., 0].masked_fill(~state.real, -math.inf)
            attention = scores.softmax(1)
            context = (attention[:, None] @ state.memory)[:, 0]
            h = self.cell(torch.cat((self.embedding(column), context), 1), h)
        state = SimpleNamespace(memory=state.memory, real=state.real, h=h, attention=attention)
        return self.head(self.dropout(h)), state

    def reorder(self, state: Any, rows: Tensor) -> Any:
        return SimpleNamespace(**{name: value[rows] for name, value in vars(state).items()})


class Forced(Recurrent):
    """The same, whose alignment is asked for with the whole target."""

    def alignment(self, source: Tensor, target: Tensor) -> Tensor:
        state, looks = self.start(source), []
        for column in target.clamp(min=0).T:
            _, state = Recurrent.step(self, column[:, None], state)
            looks.append(state.attention)
        return torch.stack(looks, 1)


SOURCES = [[2, 3, END], [3, END], [5, 2, 4, 3, 2, END], [END], [2, 2, 2, END]]


def batch(sources: Sequence[Sequence[int]]) -> Tensor:
    longest = max(map(len, sources))
    return torch.tensor([[*source, *[PAD] * (longest - len(source))] for source in sources])


def run(model: Any, sources: Sequence[Sequence[int]], never: Any = (START,), **how: Any) -> list[list[Found]]:
    named = {name: how.pop(name) for name in ("prefixes", "trace", "align", "scores") if name in how}
    return search(model, batch(sources), Searching(**how), START, END, never, **named)


def everything(model: Table, source: Sequence[int], most: int, how: Searching) -> list[tuple[float, tuple]]:
    """Every target of at most so many tokens with its score, the best first."""
    size, found = model.logits.shape[-1], []
    words = [token for token in range(size) if token not in (START, END)]
    for length in range(most + 1):
        for target in itertools.product(words, repeat=length):
            logps = model.logps(source, target)
            logp = sum(float(logps[i, token]) for i, token in enumerate([*target, END]))
            found.append((logp / ((5 + length + 1) / 6) ** how.length_penalty, target))
    return sorted(found, reverse=True)


def same(ours: list[list[Found]], theirs: list[list[Found]]) -> None:
    assert [[one.tokens for one in answers] for answers in ours] == [
        [one.tokens for one in answers] for answers in theirs
    ]
    for answers, others in zip(ours, theirs, strict=True):
        for one, other in zip(answers, others, strict=True):
            assert one.logp == pytest.approx(other.logp, abs=1e-5, nan_ok=True)
            assert one.score == pytest.approx(other.score, abs=1e-5, nan_ok=True)
            assert (one.alignment is None) == (other.alignment is None)
            if one.alignment is not None and other.alignment is not None:
                torch.testing.assert_close(one.alignment, other.alignment, atol=1e-5, rtol=1e-5)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(3, 5), st.integers(1, 4), st.sampled_from([0.0, 0.6, 1.0, 2.0]))
def test_a_beam_wide_enough_finds_the_best_targets_there_are(
    seed: int, size: int, most: int, penalty: float
) -> None:
    if size == 5:
        most = min(most, 3)
    model = Table(size, seed)
    how = Searching(beam=size**most + 5, n_best=5, length_penalty=penalty, max_tokens=most)
    (found,) = search(model, torch.tensor([[3, END]]), how, START, END, (START,))
    best = everything(model, [3, END], most, how)[:5]
    assert [tuple(one.tokens) for one in found] == [target for _, target in best]
    np.testing.assert_allclose([one.score for one in found], [score for score, _ in best], atol=1e-5)


@given(st.integers(0, 10_000), st.integers(3, 9), st.integers(0, 3))
def test_a_beam_of_one_is_greedy_two_ways_and_by_hand(seed: int, size: int, no_repeat: int) -> None:
    model = Table(size, seed)
    found = run(model, SOURCES, no_repeat=no_repeat)
    same(found, run(model, SOURCES, no_repeat=no_repeat, trace=[]))  # the way of several beams
    if no_repeat:
        return
    for source, (one,) in zip(SOURCES, found, strict=True):
        target: list[int] = []
        while len(target) < 2 * len(source) + 10:
            logps = model.logps(source, target)[-1]
            logps[START] = -math.inf
            if int(logps.argmax()) == END:
                break
            target.append(int(logps.argmax()))
        assert one.tokens == target


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(0, 2), st.permutations(range(len(SOURCES))))
def test_each_sentence_comes_out_as_it_would_alone_in_any_order(
    seed: int, beam: int, no_repeat: int, order: list[int]
) -> None:
    model = Table(6, seed)
    how = {"beam": beam, "n_best": beam, "no_repeat": no_repeat}
    alone = [run(model, [source], **how)[0] for source in SOURCES]
    same(run(model, SOURCES, **how), alone)
    same(run(model, [SOURCES[i] for i in order], **how), [alone[i] for i in order])


@pytest.mark.parametrize("how", [{"beam": 4, "n_best": 3}, {"beam": 6, "groups": 3, "n_best": 3}, {}])
def test_a_network_too_padded_or_not_with_where_it_looked(how: dict[str, Any]) -> None:
    for model in (Recurrent(), Forced()):
        together = run(model, SOURCES, **how, align=True)
        same(together, [run(model, [source], **how, align=True)[0] for source in SOURCES])
        for source, answers in zip(SOURCES, together, strict=True):
            for one in answers:
                assert one.alignment is not None and one.alignment.shape == (len(one.tokens), len(source))
                torch.testing.assert_close(one.alignment.sum(1), torch.ones(len(one.tokens)))


def test_where_each_step_looked_is_what_one_pass_over_the_target_says() -> None:
    for how in ({}, {"beam": 4, "n_best": 4}, {"temperature": 1.0, "n_best": 3}):
        for prefixes in (None, [[3, 4, 5]] * len(SOURCES), [[], [2], [2, 3], [], [5]]):
            stepwise = run(Recurrent(), SOURCES, **how, align=True, prefixes=prefixes)
            same(stepwise, run(Forced(), SOURCES, **how, align=True, prefixes=prefixes))


def test_no_alignment_where_the_model_has_none_or_nobody_asked() -> None:
    assert all(one.alignment is None for (one,) in run(Table(), SOURCES, align=True))
    assert all(one.alignment is None for (one,) in run(Forced(), SOURCES))


@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(1, 3), st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_the_early_stop_changes_nothing_and_saves_steps(
    seed: int, beam: int, n_best: int, penalty: float
) -> None:
    how = {"beam": beam, "n_best": min(n_best, beam), "length_penalty": penalty, "max_tokens": 25}
    model, patient = Table(7, seed), Table(7, seed)
    stopped = run(model, SOURCES, **how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beams, "_hopeless", lambda most, worst: np.all(most == -math.inf, axis=1))
        same(stopped, run(patient, SOURCES, **how))
    assert len(patient.rows_seen) == 26  # to the bitter end
    assert sum(model.rows_seen) <= sum(patient.rows_seen)


def test_the_early_stop_does_stop() -> None:
    model = Table(7)
    run(model, SOURCES, beam=4, length_penalty=0, max_tokens=200)
    assert len(model.rows_seen) < 201


@given(st.integers(0, 10_000), st.integers(2, 7), st.sampled_from([0.0, 0.7, 1.3]))
def test_n_best_are_sorted_distinct_and_worth_what_they_say(seed: int, beam: int, penalty: float) -> None:
    model = Table(6, seed)
    how = Searching(beam=beam, n_best=beam, length_penalty=penalty)
    for source, answers in zip(
        SOURCES, search(model, batch(SOURCES), how, START, END, (START,)), strict=True
    ):
        assert 1 <= len(answers) <= beam
        assert [one.score for one in answers] == sorted((one.score for one in answers), reverse=True)
        assert len({tuple(one.tokens) for one in answers}) == len(answers)
        for one in answers:
            logps = model.logps(source, one.tokens)
            logp = sum(float(logps[i, token]) for i, token in enumerate([*one.tokens, END]))
            assert one.logp == pytest.approx(logp, abs=1e-4)
            assert one.score == pytest.approx(logp / ((5 + len(one.tokens) + 1) / 6) ** penalty, abs=1e-4)


def test_wide_beams_are_no_worse_than_greedy_and_narrow_ones_seldom() -> None:
    """A narrow beam may drop the greedy path; how often is counted, over 150 sentences."""
    worse = dict.fromkeys((2, 4, 16, 128), 0)
    for seed in range(30):
        model = Table(5, seed)
        greedy = run(model, SOURCES, max_tokens=4)
        for beam in worse:
            found = run(model, SOURCES, beam=beam, max_tokens=4)
            pairs = zip(found, greedy, strict=True)
            worse[beam] += sum(ours[0].score < theirs[0].score - 1e-6 for ours, theirs in pairs)
    assert worse[128] == worse[16] == 0 and worse[4] <= worse[2] <= 15


@given(st.integers(0, 10_000), st.integers(1, 5), st.lists(st.integers(2, 5), max_size=4))
def test_a_prefix_is_kept_and_the_rest_is_the_best_behind_it(seed: int, beam: int, prefix: list[int]) -> None:
    model = Table(6, seed)
    prefixes = [prefix, [], [3], prefix, [2, 5]]
    found = run(model, SOURCES, beam=beam, n_best=beam, prefixes=prefixes)
    for source, begun, answers in zip(SOURCES, prefixes, found, strict=True):
        same([answers], run(model, [source], beam=beam, n_best=beam, prefixes=[begun]))
        for one in answers:
            assert one.tokens[: len(begun)] == begun
            logps = model.logps(source, one.tokens)
            rest = list(enumerate([*one.tokens, END]))[len(begun) :]
            assert one.logp == pytest.approx(sum(float(logps[i, token]) for i, token in rest), abs=1e-4)


def test_a_greedy_targets_own_beginning_as_a_prefix_changes_nothing() -> None:
    model = Table(9, 5)
    for source, (whole,) in zip(SOURCES, run(model, SOURCES), strict=True):
        for cut in range(len(whole.tokens)):
            (one,) = run(model, [source], prefixes=[whole.tokens[:cut]], max_tokens=len(whole.tokens) - cut)[
                0
            ]
            assert one.tokens == whole.tokens


@given(st.integers(0, 10_000), st.sampled_from([{}, {"beam": 4, "n_best": 4}, {"temperature": 1.5}]))
def test_what_is_never_written_is_not_written_and_no_run_comes_twice(seed: int, how: dict[str, Any]) -> None:
    model = Table(8, seed)
    never = (START, 3, 6, END)  # END among them is no reason to write for ever
    for answers in run(model, SOURCES, never, **how, no_repeat=2):
        for one in answers:
            assert not {START, 3, 6, END} & set(one.tokens)
            pairs = list(itertools.pairwise(one.tokens))
            assert len(pairs) == len(set(pairs))


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 3), st.floats(0, 3))
def test_diverse_groups(seed: int, groups: int, each: int, diversity: float) -> None:
    """One group is the plain search; more without a price are the plain search each; all stay honest."""
    model = Table(7, seed)
    plain = run(model, SOURCES, beam=each, trace=[])
    same(plain, run(model, SOURCES, beam=each, groups=1, diversity=diversity, trace=[]))
    apart = run(model, SOURCES, beam=each * groups, groups=groups, diversity=diversity)
    if each > 1:  # a beam of one stops at its first END, one of several groups when nothing better can come
        free = run(model, SOURCES, beam=each * groups, groups=groups, diversity=0)
        same(plain, free)
        for (first,), (best,) in zip(plain, apart, strict=True):
            assert best.score >= first.score - 1e-9  # the first group is free


def test_groups_differ_where_a_plain_beam_does_not() -> None:
    def openings(found: list[list[Found]]) -> float:
        return float(np.mean([len({tuple(one.tokens[:1]) for one in answers}) for answers in found]))

    model = Table(12, 3)
    plain = run(model, SOURCES, beam=4, n_best=4)
    apart = run(model, SOURCES, beam=4, n_best=4, groups=4, diversity=20.0)
    assert openings(apart) > openings(plain)


@given(st.integers(0, 10_000), st.integers(0, 5), st.sampled_from([0.3, 0.8, 1.0]), st.integers(0, 3))
def test_drawn_targets_are_the_same_alone_and_in_company(seed: int, k: int, p: float, repeat: int) -> None:
    model = Table(8, seed)
    how = {"temperature": 1.2, "top_k": k, "top_p": p, "seed": seed, "n_best": 2, "no_repeat": repeat}
    alone = [run(model, [source], **how)[0] for source in SOURCES]
    same(run(model, SOURCES, **how), alone)
    same(run(model, SOURCES[::-1], **how), alone[::-1])


def test_drawing_goes_by_the_models_odds_and_a_low_temperature_is_greedy() -> None:
    model = Table(5, 1)
    same(run(model, SOURCES), run(model, SOURCES, temperature=1e-5))
    same(run(model, SOURCES), run(model, SOURCES, temperature=1.0, top_k=1))
    seeds = range(300)
    first = [run(model, [SOURCES[0]], temperature=1.0, seed=seed)[0][0].tokens[:1] for seed in seeds]
    odds = model.logps(SOURCES[0], [])[0].exp()
    odds[START] = 0
    odds /= odds.sum()
    for token in range(2, 5):
        share = sum(tokens == [token] for tokens in first) / len(first)
        assert abs(share - float(odds[token])) < 0.12


def test_the_most_tokens_come_from_the_source_or_as_told() -> None:
    model = Table(6)
    with torch.no_grad():
        model.logits[..., END] = -30.0
    ways: list[dict[str, Any]] = [{}, {"beam": 3}, {"temperature": 1.0}]
    for how in ways:
        assert [len(one.tokens) for (one, *_) in run(model, SOURCES, **how)] == [
            2 * len(source) + 10 for source in SOURCES
        ]
        found = run(model, SOURCES, **how, max_tokens=3)
        assert [len(one.tokens) for (one, *_) in found] == [3] * 5
        assert all(one.logp < -25 for (one, *_) in found)  # END at its price


def test_a_giant_limit_takes_no_room_and_a_long_target_gets_it() -> None:
    model = Table(6)
    with torch.no_grad():
        model.logits[..., END] = 30.0
    assert [one.tokens for (one,) in run(model, SOURCES, max_tokens=10**15)] == [[]] * 5
    with torch.no_grad():
        model.logits[..., END] = -30.0
    same(run(model, SOURCES, max_tokens=150), run(model, SOURCES, max_tokens=150, trace=[]))


def test_who_is_done_leaves_and_an_order_that_stays_is_not_moved() -> None:
    model = Table(6)
    with torch.no_grad():
        model.logits[:] = 0
        model.logits[..., 3] = 9.0
    run(model, [[2] * n + [END] for n in range(1, 9)])
    assert model.rows_seen[:15] == [8] * 15 and model.rows_seen[-1] == 1
    assert model.rows_seen == sorted(model.rows_seen, reverse=True) and model.moves == 7
    model = Table(6)
    with torch.no_grad():
        model.logits[:] = torch.tensor([0.0, -20.0, 3.0, 2.0, 1.0, 0.5])  # whatever was written before
    run(model, [[2, END]], beam=1, max_tokens=9, trace=[])
    assert model.moves == 0


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("size", [3, 4, 9])
def test_the_trace_tells_what_became_of_each_candidate(size: int, groups: int) -> None:
    trace: list[Step] = []
    model, beam = Table(size, 4), 2 * groups
    how = {"beam": beam, "groups": groups, "n_best": min(3, beam), "max_tokens": 5}
    plain = run(model, SOURCES[:2], **how)
    same(plain, run(model, SOURCES[:2], **how, trace=trace))
    for sentence, answers in enumerate(plain):
        beams: dict[int, tuple[list[int], float]] = {g: ([], 0.0) for g in range(groups)}
        finished = {}
        for i, step in enumerate(step for step in trace if step.sentence == sentence):
            assert step.step == i
            after = {}
            for one in step.candidates:
                tokens, logp = beams[one.parent]
                assert one.logp <= logp
                step_logp = float(model.logps(SOURCES[sentence], tokens)[-1, one.token])
                assert one.logp == pytest.approx(logp + step_logp, abs=1e-4)
                if one.fate == "finished":
                    assert one.token == END and (groups > 1 or tuple(tokens) not in finished)
                    finished[tuple(tokens)] = one.logp
                elif one.fate == "kept":
                    assert one.token not in (START, END)
                    after[one.beam] = ([*tokens, one.token], one.logp)
                else:
                    assert one.fate == "pruned" and one.beam == -1
            assert len(after) == sum(one.fate == "kept" for one in step.candidates) <= beam
            beams = after
        for target in answers:
            assert finished[tuple(target.tokens)] == pytest.approx(target.logp)


def test_the_trace_of_groups_numbers_beams_through() -> None:
    trace: list[Step] = []
    run(Table(7), SOURCES[:1], beam=4, groups=2, trace=trace)
    assert {one.beam for step in trace[1:3] for one in step.candidates if one.fate == "kept"} == {0, 1, 2, 3}


class Marian(nn.Module):
    """transformers' own translator, read anew at each step."""

    def __init__(self, size: int = 60) -> None:
        from transformers import MarianConfig, MarianMTModel

        super().__init__()
        torch.manual_seed(3)
        layers = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 32, "max_position_embeddings": 64}
        heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
        sizes = {"vocab_size": size, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
        ends = {"pad_token_id": START, "eos_token_id": END, "decoder_start_token_id": START}
        about: dict[str, Any] = {**layers, **heads, **sizes, **ends, "forced_eos_token_id": None}
        self.peer = MarianMTModel(MarianConfig(**about))
        with torch.no_grad():
            self.peer.model.shared.weight.mul_(12)
            self.peer.final_logits_bias[0, END] = 1.5

    def start(self, source: Tensor) -> Any:
        return source.clamp(min=START), source >= 0, source.new_empty(len(source), 0)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        source, real, target = state
        target = torch.cat((target, tokens), 1)
        read = {"input_ids": source, "attention_mask": real.long(), "decoder_input_ids": target}
        return self.peer(**read).logits[:, -1], (source, real, target)

    def reorder(self, state: Any, rows: Tensor) -> Any:
        return tuple(part[rows] for part in state)


@pytest.mark.parametrize("beam", [4, 7])
def test_transformers_finds_the_same_targets(beam: int) -> None:
    """Its length penalty is another; without one, and with its patient stop, the search is the same."""
    model = Marian().eval()
    random = np.random.default_rng(0)
    sources = [[*random.integers(2, 60, size).tolist(), END] for size in random.integers(2, 9, 12)]
    found = run(model, sources, beam=beam, n_best=4, length_penalty=0.0, max_tokens=40)
    assert all(max(len(one.tokens) for one in answers) > 2 for answers in found)
    for source, answers in zip(sources, found, strict=True):
        theirs = model.peer.generate(
            torch.tensor([source]), num_beams=beam, num_return_sequences=4, length_penalty=0.0,
            max_new_tokens=41, early_stopping="never", do_sample=False, bad_words_ids=[[START]],
            return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        targets = [
            [token for token in row[1:] if token not in (START, END)] for row in theirs.sequences.tolist()
        ]
        assert targets == [one.tokens for one in answers]
        np.testing.assert_allclose([one.score for one in answers], theirs.sequences_scores, atol=1e-4)


@given(st.integers(1, 700), st.integers(1, 12), st.integers(0, 100))
def test_the_likeliest_words_are_those_of_topk(size: int, count: int, seed: int) -> None:
    logits = torch.randn(3, size, generator=torch.Generator().manual_seed(seed))
    values, tokens = top(logits, min(count, size))
    expected, places = logits.topk(min(count, size))
    assert torch.equal(values, expected) and torch.equal(tokens, places)


def test_a_shortlist_writes_the_same_and_the_model_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Recurrent(size=9000, width=32).train()
    head, plain = model.head, run(model, SOURCES)
    used: list[Any] = []

    def noted(*about: Any) -> Shortlist:
        used.append(about)
        return Shortlist(*about)

    monkeypatch.setattr("sadari.search.Shortlist", noted)
    for least, times in ((0, len(SOURCES)), (head.weight.numel() + 1, 0)):
        monkeypatch.setattr("sadari.search.MANY", least)
        quick = [run(model, [source], scores=False)[0] for source in SOURCES]
        assert [one.tokens for (one,) in plain] == [one.tokens for (one,) in quick]
        assert all(math.isnan(one.logp) and math.isnan(one.score) for (one,) in quick)
        assert model.head is head and model.training and model.dropout.training
        assert len(used) == times
        used.clear()
    many = run(model, SOURCES, scores=False)
    assert [one.tokens for (one,) in many] == [one.tokens for (one,) in plain] and not used


@pytest.mark.parametrize("how", [{}, {"beam": 3, "n_best": 3}, {"beam": 4, "groups": 2}])
def test_weights_laid_out_write_the_same(how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(layers=1, width=64, dropout=0.0), 700, 700).train()
    sources = [[3 + i % 5] * (i + 1) + [END] for i in range(9)]
    found = run(model, sources, **how)
    assert model.training and type(model.head) is not Packed
    monkeypatch.setattr("sadari.search.packed", lambda model, instead: model)
    monkeypatch.setattr("sadari.models.translator.can_step", lambda *about: False)
    same(found, run(model, sources, **how))


@given(
    st.lists(st.integers(0, 4), min_size=5, max_size=5), st.lists(st.integers(0, 4), min_size=5, max_size=5)
)
def test_a_first_child_stays_in_its_parents_place(ones: list[int], others: list[int]) -> None:
    parents = np.array([*ones, *(5 + other for other in others)])
    places, sources, words = beams._places(parents, parents * 10, True)
    assert sorted(places) == list(range(10))
    assert (sources[places] == parents).all() and (words[places] == parents * 10).all()
    assert (sources // 5 == np.arange(10) // 5).all()  # a sentence's rows stay side by side
    assert all(sources[parent] == parent for parent in set(parents))


@given(st.sets(st.integers(0, 20)))
def test_those_that_are_left_keep_their_places_as_far_as_they_can(left: set[int]) -> None:
    found = closed(np.array(sorted(left), int)).tolist()
    assert set(found) == left and len(found) == len(left)
    assert all(found[i] == i for i in left if i < len(left))


def test_a_model_that_leaves_no_way_out_still_answers() -> None:
    model = Table(5)
    with torch.no_grad():
        model.logits[..., 1:] = -math.inf  # only START, which is never written
    ways: list[dict[str, Any]] = [{}, {"beam": 3, "n_best": 2}, {"trace": []}]
    for how in ways:
        assert [(one.tokens, one.logp) for (one,) in run(model, SOURCES, **how)] == [([], -math.inf)] * 5


def test_no_source_has_no_target_and_prefixes_are_one_each() -> None:
    assert search(Table(), torch.empty(0, 3, dtype=torch.int64), Searching(beam=2), START, END) == []
    with pytest.raises(SadariError, match="2 prefixes for 5 sources; give one each"):
        run(Table(), SOURCES, prefixes=[[], []])


@pytest.mark.parametrize("how", [{}, {"beam": 3}, {"temperature": 1.0}])
def test_logits_that_are_no_numbers_are_refused(how: dict[str, Any]) -> None:
    model = Table(5)
    with torch.no_grad():
        model.logits[:, :, 2] = math.nan
    with pytest.raises(SadariError, match="no finite numbers; its training broke down"):
        run(model, SOURCES, **how)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"beam": 0}, "beam 0 is below 1; use beam=1"),
        ({"n_best": 3}, "n_best 3 is above the beam of 1, which finds no more; use beam=3"),
        ({"beam": 4, "groups": 3}, "a beam of 4 has no 3 equal groups; use beam=6"),
        ({"beam": 4, "temperature": 1.0}, "a beam of 4 searches and temperature 1.0 draws; use one of them"),
        ({"length_penalty": -1.0}, "length_penalty -1.0: it is 0 or more; use length_penalty=1.0"),
        ({"diversity": math.nan}, "diversity nan: it is 0 or more; use diversity=0.5"),
        ({"max_tokens": -1}, "max_tokens -1: it is 0 or more; use max_tokens=0"),
        ({"top_p": 0.0}, r"top_p 0.0: the share lies in \(0, 1\]; use top_p=0.95, or 1 for all"),
    ],
)
def test_settings_out_of_range_name_the_remedy(how: dict[str, Any], said: str) -> None:
    with pytest.raises(SadariError, match=said):
        Searching(**how)
    assert replace(Searching(), beam=5).beam == 5
