"""Writing on, tested with a model that is a table of odds: which token follows which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from sadari.decode import (
    GREEDY,
    Sampling,
    Uncached,
    Watch,
    Writing,
    draw,
    generate,
    penalised,
    pieces,
    stream,
)
from sadari.errors import SadariError

END, HANGUL = 2, "한글과 English"


class Bytes:
    """Tokens are bytes, three higher; a syllable of Hangul is three of them."""

    unknown, start, end = 0, 1, END

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) + 3 for text in texts]

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(token - 3 for token in tokens).decode()

    def stream(self) -> Any:
        return ByteStream()


class ByteStream:
    """Gives out whole characters only."""

    def __init__(self) -> None:
        self.held = b""

    def add(self, token: int) -> str:
        if token < 3:
            return ""
        self.held += bytes([token - 3])
        try:
            text, self.held = self.held.decode(), b""
        except UnicodeDecodeError:
            return ""
        return text

    def end(self) -> str:
        text, self.held = self.held.decode(errors="replace"), b""
        return text


class Markov:
    """Odds of the next token by the sum of all before, so that what a step forgets would show."""

    def __init__(self, size: int = 7, seed: int = 0) -> None:
        self.logits = torch.randn(11, size, generator=torch.Generator().manual_seed(seed)) * 2
        self.rows_seen: list[int] = []

    def start(self, batch: int) -> Tensor:
        return torch.zeros(batch, dtype=torch.int64)

    def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        self.rows_seen.append(len(tokens))
        state = state + (tokens + 1).sum(1)
        return self.logits[state % 11], state

    def reorder(self, state: Tensor, rows: Tensor) -> Tensor:
        return state[rows]

    def __call__(self, tokens: Tensor) -> Tensor:
        return self.logits[(tokens + 1).cumsum(1) % 11]


class Recite:
    """Writes one text, whatever it is given: token i of it after i tokens."""

    def __init__(self, text: str, prompt: int = 1, size: int = 259) -> None:
        self.tokens, self.prompt, self.size = [*Bytes().encode([text])[0].tolist(), END], prompt, size

    def start(self, batch: int) -> Tensor:
        return torch.zeros(batch, dtype=torch.int64)

    def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = state + tokens.shape[1]
        logits = torch.full((len(tokens), self.size), -5.0)
        for row, read in enumerate(state.tolist()):
            logits[row, self.tokens[min(read - self.prompt, len(self.tokens) - 1)]] = 5.0
        return logits, state

    def reorder(self, state: Tensor, rows: Tensor) -> Tensor:
        return state[rows]


def tokens_of(
    model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling, end: int = -1
) -> list[list[int]]:
    """The tokens written on each prompt."""
    written: list[list[int]] = [[] for _ in prompts]
    with Writing(model, prompts, sampling, end) as writing:
        while writing.rows:
            for row, token in writing.step():
                if token is not None:
                    written[row].append(token)
    return written


def test_greedy_takes_the_likeliest_token_each_time() -> None:
    model = Markov()
    text = [3]
    for _ in range(12):
        text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    assert tokens_of(model, [[3]], Sampling(temperature=0, max_tokens=12)) == [text[1:]]


def test_a_temperature_near_zero_is_greedy() -> None:
    model = Markov()
    greedy = tokens_of(model, [[3], [4, 1]], Sampling(temperature=0, max_tokens=30))
    assert tokens_of(model, [[3], [4, 1]], Sampling(temperature=1e-4, max_tokens=30)) == greedy


def test_with_a_cache_as_without() -> None:
    sampling = Sampling(temperature=1.0, max_tokens=25, top_p=0.9, seed=5)
    prompts = [[1, 2, 3], [4], [5, 5]]
    assert tokens_of(Markov(), prompts, sampling) == tokens_of(Uncached(Markov()), prompts, sampling)


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    temperature=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 99),
    no_repeat=st.sampled_from([0, 2]),
)
def test_a_batch_writes_what_each_row_would_alone(lengths, temperature, seed, no_repeat) -> None:
    model = Markov(seed=seed)
    numbers = torch.Generator().manual_seed(seed)
    prompts = [torch.randint(7, (n,), generator=numbers).tolist() for n in lengths]
    sampling = Sampling(
        temperature=temperature, max_tokens=8, top_k=4, penalty=1.3, window=5, no_repeat=no_repeat, seed=seed
    )
    together = tokens_of(model, prompts, sampling, end=6)
    for i, prompt in enumerate(prompts):
        alone = Sampling(**{**sampling.__dict__, "seed": seed + i})
        assert tokens_of(model, [prompt], alone, end=6) == [together[i]]


def test_a_row_that_is_done_leaves_the_batch() -> None:
    seen = []

    class Counting(Recite):
        def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            seen.append(len(tokens))
            return super().step(tokens, state)

    prompts = [[END], [END] * 4]
    assert generate(Counting("abcdef"), Bytes(), prompts, Sampling(temperature=0, max_tokens=2)) == [
        "ab",
        "de",
    ]
    assert seen == [2, 2, 1, 1, 1]


def test_the_same_seed_writes_the_same_and_another_does_not() -> None:
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=40, seed=1)
    once, again = (tokens_of(Markov(), [[3]], sampling) for _ in range(2))
    assert once == again
    assert tokens_of(Markov(), [[3]], Sampling(temperature=1.0, top_p=1.0, max_tokens=40, seed=2)) != once


def frequencies(logits: Tensor, sampling: Sampling, count: int = 20_000) -> np.ndarray:
    random = torch.Generator().manual_seed(0)
    return np.bincount([draw(logits, sampling, random) for _ in range(count)], minlength=len(logits))


LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])


def test_everything_open_draws_by_the_models_own_odds() -> None:
    found = frequencies(LOGITS, Sampling(temperature=1.0, top_k=0, top_p=1.0))
    assert chisquare(found, LOGITS.softmax(0).double().numpy() * 20_000).pvalue > 1e-3


def test_temperature_divides_the_logits() -> None:
    found = frequencies(LOGITS, Sampling(temperature=2.0, top_p=1.0))
    expected = (LOGITS.double() / 2).softmax(0).numpy()
    assert chisquare(found, expected / expected.sum() * 20_000).pvalue > 1e-3


def test_top_k_and_top_p_leave_the_odds_of_those_that_stay() -> None:
    odds = LOGITS.double().softmax(0).numpy()
    found = frequencies(LOGITS, Sampling(temperature=1.0, top_k=3, top_p=1.0))
    assert not found[3:].any()
    assert chisquare(found[:3], odds[:3] / odds[:3].sum() * 20_000).pvalue > 1e-3
    share = float(odds[:2].sum())
    for top_p, stay in ((share - 0.01, 2), (share + 0.01, 3), (0.01, 1)):  # the fewest that reach the share
        found = frequencies(LOGITS, Sampling(temperature=1.0, top_p=top_p), 3_000)
        assert (found > 0).sum() == stay and found[:stay].all()
    both = frequencies(
        LOGITS, Sampling(temperature=1.0, top_k=3, top_p=0.7), 3_000
    )  # top_p of what top_k left
    assert (both > 0).sum() == 2


def test_a_nucleus_larger_than_the_first_look_is_found() -> None:
    flat = torch.zeros(2_000)
    found = frequencies(flat, Sampling(temperature=1.0, top_p=0.9), 9_000)
    assert 1_700 < (found > 0).sum() <= 1_800


def test_penalty_lowers_what_was_written_whatever_its_sign() -> None:
    lowered = penalised(torch.tensor([2.0, -2.0, 1.0]), [0, 1, 1], 2.0)
    assert lowered.tolist() == [1.0, -4.0, 1.0]
    loop = Markov(size=4)
    loop.logits = torch.tensor([[3.0, 2.9, 2.8, 0.0]]).expand(11, -1)
    plain = tokens_of(loop, [[3]], Sampling(temperature=0, max_tokens=6))
    assert plain == [[0] * 6]
    assert set(tokens_of(loop, [[3]], Sampling(temperature=0, max_tokens=6, penalty=1.2))[0]) == {0, 1, 2}
    # over a window of two tokens the one before them is free again
    windowed = tokens_of(loop, [[3]], Sampling(temperature=0, max_tokens=6, penalty=1.2, window=2))
    assert windowed == [[0, 1, 2, 0, 1, 2]]


def test_no_run_of_tokens_is_written_twice() -> None:
    written = tokens_of(Markov(), [[3, 3]], Sampling(temperature=0, max_tokens=30, no_repeat=2))[0]
    text = [3, 3, *written]
    runs = list(pairwise(text))
    assert len(set(runs)) == len(runs)


def test_a_vocabulary_that_is_used_up_may_repeat() -> None:
    written = tokens_of(Markov(size=2), [[0]], Sampling(temperature=0, max_tokens=9, no_repeat=1))
    assert len(written[0]) == 9


def test_end_ends_and_is_not_written() -> None:
    assert generate(Recite("안녕"), Bytes(), [[END]], GREEDY) == ["안녕"]
    assert generate(Recite("안녕"), Bytes(), [[END]], Sampling(temperature=0, max_tokens=3)) == ["안"]
    assert generate(Recite("안녕"), Bytes(), [[END]], Sampling(max_tokens=0)) == [""]
    assert generate(Recite("안녕"), Bytes(), []) == []


def test_a_text_begins_a_document_and_tokens_are_read_as_they_are() -> None:
    heard: list[list[int]] = []

    class Listening(Recite):
        def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            heard.append(tokens[0].tolist())
            return super().step(tokens, state)

    generate(Listening("x", prompt=3), Bytes(), ["ab"], GREEDY)
    assert heard[0] == [END, 100, 101]
    heard.clear()
    generate(Listening("x", prompt=2), Bytes(), [[100, 101]], GREEDY)
    assert heard[0] == [100, 101]


def test_the_unknown_and_the_start_token_are_never_written() -> None:
    model = Markov(size=259)
    model.logits = torch.full((11, 259), -9.0)
    model.logits[:, 0], model.logits[:, 1], model.logits[:, 100] = 9.0, 8.0, 7.0
    assert generate(model, Bytes(), [[END]], Sampling(temperature=0, max_tokens=3)) == ["aaa"]


def test_pieces_join_to_the_whole_and_never_hold_half_a_syllable() -> None:
    found = list(stream(Recite(HANGUL), Bytes(), [END], GREEDY))
    assert "".join(found) == HANGUL == generate(Recite(HANGUL), Bytes(), [[END]], GREEDY)[0]
    assert found[0] == "한" and not any("�" in piece for piece in found)


def test_a_syllable_that_the_prompt_began_is_ended() -> None:
    first, *rest = Bytes().encode(["한"])[0].tolist()
    model = Recite("x", prompt=1)
    model.tokens = [*rest, END]
    assert generate(model, Bytes(), [[first]], GREEDY) == ["한"]


@pytest.mark.parametrize(
    ("stop", "expected"), [("과 E", "한글"), (("nope", "글"), "한"), ("glish", "한글과 En"), ("zz", HANGUL)]
)
def test_a_stop_text_is_cut_off_wherever_tokens_end(stop, expected) -> None:
    sampling = Sampling(temperature=0, stop=stop)
    assert generate(Recite(HANGUL), Bytes(), [[END]], sampling) == [expected]
    assert "".join(stream(Recite(HANGUL), Bytes(), [END], sampling)) == expected


def test_texts_of_a_batch_stop_each_by_itself() -> None:
    answers = dict.fromkeys(range(2), "")
    for row, piece in pieces(
        Recite("abcdef", prompt=1), Bytes(), [[END], [END, END]], Sampling(temperature=0, stop="c")
    ):
        answers[row] += piece
    assert answers == {0: "ab", 1: "b"}


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.data())
def test_watching_is_cutting_the_whole_at_the_first_stop_text(text, stops, data) -> None:
    watch, out, left = Watch(stops), "", text
    while left:
        n = data.draw(st.integers(1, len(left)))
        out, left = out + watch.add(left[:n]), left[n:]
        # what is out is never taken back
        assert text.startswith(out)
    out += watch.end()
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    first = [stop for stop in stops if stop in text and text.find(stop) + len(stop) == min(ends)]
    if not ends:
        assert out == text and not watch.stopped
    else:
        # nothing of the text is given out behind the stop that was whole first, nor that stop itself
        assert watch.stopped and len(out) <= min(text.find(stop) for stop in first)


def test_training_goes_on_after_writing() -> None:
    class Trainee(torch.nn.Linear):
        def start(self, batch: int) -> Tensor:
            return torch.zeros(batch)

        def step(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            assert not self.training
            return self(torch.ones(len(tokens), 2)), state

        def reorder(self, state: Tensor, rows: Tensor) -> Tensor:
            return state[rows]

    model = Trainee(2, 5).train()
    tokens_of(model, [[1]], Sampling(max_tokens=2))
    assert model.training


def test_weights_are_laid_out_for_writing_and_put_back() -> None:
    from sadari.models.gpt import GPT, GPTConfig

    torch.manual_seed(0)
    model = GPT(GPTConfig(layers=1, width=64, heads=2, context=32), 1100, 1100).train()
    before = {name: (p.data_ptr(), p.stride(), p.detach().clone()) for name, p in model.named_parameters()}
    sampling = Sampling(temperature=0, max_tokens=48)
    written = tokens_of(Uncached(model), [[3]], Sampling(temperature=0, max_tokens=20))
    with Writing(model, [[3]], sampling) as writing:
        assert model.head.weight.stride() == (1, 1100)  # 70,400 numbers; the others are small
        assert torch.equal(model.head.weight, before["head.weight"][2])
        assert model.blocks[0].feed.up.weight.is_contiguous()
        found = [token for _ in range(20) for _, token in writing.step()]
        with Writing(model, [[3]], sampling):
            pass
        assert model.head.weight.stride() == (1, 1100)  # whoever laid them out puts them back
    assert [found] == written
    for name, parameter in model.named_parameters():
        pointer, stride, value = before[name]
        assert parameter.data_ptr() == pointer and parameter.stride() == stride
        assert torch.equal(parameter, value)
    tokens_of(model.eval(), [[3]], sampling)
    assert model.head.weight.stride() == (1, 1100)  # one that is not in training may well write again
    assert torch.equal(model.head.weight, before["head.weight"][2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": -1}, "max_tokens -1 is below 0; use max_tokens=100"),
        ({"top_k": -1}, "top_k -1 is below 0; use top_k=0"),
        ({"temperature": -0.1}, "temperature -0.1: it is 0 or more"),
        ({"temperature": math.nan}, "temperature nan"),
        ({"top_p": 0.0}, r"top_p 0.0: the share lies in \(0, 1\]"),
        ({"penalty": 0.0}, "penalty 0.0: it is above 0"),
        ({"stop": ("a", "")}, "stop '' stands everywhere"),
    ],
)
def test_settings_out_of_range_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        Sampling(**settings)


def test_a_prompt_without_a_token_is_told() -> None:
    with pytest.raises(SadariError, match="prompt 2 has no token to go on from"):
        generate(Recite("x"), Bytes(), [[END], []])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_told(temperature: float) -> None:
    model = Markov()
    model.logits = torch.full((11, 7), math.nan)
    with pytest.raises(SadariError, match="logits are no finite numbers"):
        tokens_of(model, [[1]], Sampling(temperature=temperature))


def language(rung: str, size: int = 11) -> Any:
    """A rung of the language ladder with fresh weights, or counts of a random text."""
    from sadari.ladder import find_rung

    torch.manual_seed(0)
    model_class = find_rung(rung, "language", "text").load()
    model = model_class(model_class.TINY, size, size)
    if rung == "n-gram":
        text = torch.randint(size, (500,), generator=torch.Generator().manual_seed(0))
        model.solve_stream(text.numpy())
    else:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


@pytest.mark.parametrize("rung", ["n-gram", "rnn", "lstm", "transformer"])
def test_every_rung_of_the_language_ladder_writes_alike_together_and_alone(rung: str) -> None:
    model = language(rung)
    prompts = [[1], [2, 3, 4, 5, 6], [7, 8]]
    sampling = Sampling(temperature=1.0, top_p=0.9, max_tokens=12, seed=3)
    together = tokens_of(model, prompts, sampling)
    for i, prompt in enumerate(prompts):
        alone = Sampling(temperature=1.0, top_p=0.9, max_tokens=12, seed=3 + i)
        assert tokens_of(model, [prompt], alone) == [together[i]]
    assert len({tuple(text) for text in together}) == 3


@pytest.mark.parametrize("rung", ["rnn", "lstm", "transformer"])
def test_networks_write_with_their_state_as_without(rung: str) -> None:
    model = language(rung)
    sampling = Sampling(temperature=1.0, max_tokens=20, seed=1)  # within the transformer's context of 32
    prompts = [[1, 2, 3], [4]]
    assert tokens_of(model, prompts, sampling) == tokens_of(Uncached(model), prompts, sampling)
