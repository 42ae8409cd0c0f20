"""word2vec equal to a plain reference number for number, to gensim in its counts, and to its own claims."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import pytest
import torch

from sadari.data import toy_words
from sadari.data.words import END, Words, read_words
from sadari.errors import SadariError
from sadari.layers import skipgram
from sadari.layers.skipgram import alias_table, aligned, bag_step, skip_step, sweep, threshold
from sadari.models import word2vec
from sadari.models.word2vec import Word2Vec, Word2VecConfig
from sadari.vectors import WordVectors

Matrices = tuple[np.ndarray, np.ndarray]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def reference_pair(
    x: np.ndarray, out: np.ndarray, outputs: list[int], rate: float
) -> tuple[np.ndarray, float]:
    """What x is to be moved by, and the loss before the move; `out` is moved."""
    margins = [float(x @ out[o]) * (1 if k == 0 else -1) for k, o in enumerate(outputs)]
    error = np.zeros_like(x)
    for k, o in enumerate(outputs):
        gain = rate * sigmoid(-margins[k]) * (1 if k == 0 else -1)
        error += gain * out[o]
        out[o] += gain * x
    return error, -sum(math.log(sigmoid(margin)) for margin in margins)


def reference_sweep(
    stream: list[int], keep: Any, share: Any, other: Any, into: np.ndarray, out: np.ndarray, window: int,
    negative: int, bag: bool, shared: bool, rates: tuple[float, float], seed: int,
) -> tuple[float, int]:  # fmt: skip
    """`sweep` with nothing but the sums of the papers, in float64, and the same random numbers."""
    state = seed

    def draw() -> int:
        nonlocal state
        for shift in (13, -7, 17):
            state ^= (state << shift if shift > 0 else state >> -shift) & (2**64 - 1)
        return state >> 32

    def noise() -> int:
        word = draw() * len(share) >> 32
        return word if draw() < int(share[word]) else int(other[word])

    loss, pairs, i = 0.0, 0, 0
    while i < len(stream):
        rate = rates[0] + (rates[1] - rates[0]) * i / len(stream)
        words = []
        while i < len(stream) and stream[i] >= 0:
            if draw() < int(keep[stream[i]]):
                words.append(stream[i])
            i += 1
        i += 1
        drawn = [[noise() for _ in range(negative)] for _ in words]
        for t, centre in enumerate(words):
            reach = 1 + (draw() * window >> 32)
            beside = words[max(0, t - reach) : t] + words[t + 1 : t + 1 + reach]
            if not beside:
                continue
            common = [centre, *(o for o in drawn[t] if o != centre)]
            if bag:
                error, its = reference_pair(into[beside].mean(0), out, common, rate)
                for word in beside:
                    into[word] += error
                loss, pairs = loss + its, pairs + 1
                continue
            for word in beside:
                fresh = (
                    common if shared else [centre, *(o for _ in range(negative) if (o := noise()) != centre)]
                )
                error, its = reference_pair(into[word], out, fresh, rate)
                into[word] += error
                loss, pairs = loss + its, pairs + 1
    return loss, pairs


def matrices(words: int, width: int, seed: int = 0) -> Matrices:
    draw = np.random.default_rng(seed)
    into, out = aligned(words, width), aligned(words, width)
    into[:, :width] = draw.normal(0, 0.5, (words, width))
    out[:, :width] = draw.normal(0, 0.5, (words, width))
    return into, out


def scratch(into: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.empty(into.shape[1], np.float32), np.empty(count, np.float32)


@pytest.mark.proof("embedding", "parity")
@pytest.mark.parametrize("mode", ["shared", "exact", "cbow"])
def test_a_stretch_equals_the_plain_reference(mode: str) -> None:
    draw = np.random.default_rng(3)
    stream = draw.choice(12, 300, p=np.arange(12, 0, -1) / 78).astype(np.int32)
    stream[[40, 41, 150, 299]] = END  # sentences of 40, 0, 108 and 148 words
    counts = np.bincount(stream[stream >= 0], minlength=12)
    share, other = alias_table(counts**0.75)
    keep = threshold(np.linspace(0.5, 1, 12))
    into, out = matrices(12, 20)
    expected_into, expected_out = into.astype(np.float64), out.astype(np.float64)
    bag, shared = mode == "cbow", mode != "exact"
    settings = (3, 4, bag, shared)
    loss, pairs = sweep(
        stream, keep, share, other, into, out, *settings, np.array([0.05, 0.01]), np.uint64(99)
    )
    expected = reference_sweep(
        stream.tolist(), keep, share, other, expected_into, expected_out, *settings, (0.05, 0.01), 99
    )
    assert pairs == expected[1] > 200
    assert loss == pytest.approx(expected[0], rel=1e-6)
    np.testing.assert_allclose(into, expected_into, atol=2e-5)
    np.testing.assert_allclose(out, expected_out, atol=2e-5)
    assert not into[:, 20:].any() and not out[:, 20:].any()  # the padding stays out of it


@pytest.mark.proof("embedding", "parity")
def test_a_step_is_the_gradient_of_the_papers_loss() -> None:
    into, out = matrices(8, 10)
    x = torch.tensor(into[2], requires_grad=True)
    y = torch.tensor(out, requires_grad=True)
    scores = y[[5, 1, 7, 3]] @ x
    loss = -torch.nn.functional.logsigmoid(scores * torch.tensor([1.0, -1, -1, -1])).sum()
    loss.backward()
    outputs = np.array([5, 1, 7, 3], np.int32)
    told = skip_step(into, out, np.array([2], np.int32), 1, outputs, 4, np.float32(0.1), *scratch(into, 4))
    assert told == pytest.approx(loss.item(), rel=1e-6)
    np.testing.assert_allclose(into[2], (x - 0.1 * x.grad).detach(), atol=1e-6)
    np.testing.assert_allclose(out, (y - 0.1 * y.grad).detach(), atol=1e-6)


def test_cbow_gives_each_word_of_the_window_the_whole_error() -> None:
    into, out = matrices(8, 10)
    before, mean = into.copy(), into[[1, 4, 4]].mean(0)
    error, loss = reference_pair(mean.astype(np.float64), out.astype(np.float64), [0, 6], 0.1)
    told = bag_step(
        into, out, np.array([1, 4, 4], np.int32), 3, np.array([0, 6], np.int32), 2, np.float32(0.1),
        *scratch(into, 2), np.empty(into.shape[1], np.float32),
    )  # fmt: skip
    assert told == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(into[1] - before[1], error, atol=1e-6)
    np.testing.assert_allclose(into[4] - before[4], 2 * error, atol=1e-6)  # it stands there twice


def test_the_loss_of_a_hopeless_pair_is_told_in_full() -> None:
    into, out = aligned(2, 4), aligned(2, 4)
    into[0, 0], out[1, 0] = 50.0, -4.0  # a score of -200, where it should be high
    told = skip_step(
        into, out, np.zeros(1, np.int32), 1, np.ones(1, np.int32), 1, np.float32(0.01), *scratch(into, 1)
    )
    assert told == pytest.approx(200, rel=1e-6)
    assert out[1, 0] == pytest.approx(-3.5)  # moved by rate times x, as far as a sigmoid of 0 moves it


def test_the_noise_is_count_to_the_power_of_three_quarters() -> None:
    counts = np.array([1000, 300, 300, 40, 9, 5])
    share, other = alias_table(counts**0.75)
    filled = share / 2.0**32
    drawn = filled + np.bincount(other, 1 - filled, minlength=6)
    np.testing.assert_allclose(drawn / 6, counts**0.75 / (counts**0.75).sum(), atol=1e-9)
    np.testing.assert_allclose(Word2Vec(Word2VecConfig(), counts).noise(), drawn / 6, atol=1e-9)


@pytest.mark.proof("embedding", "parity")
def test_words_stay_as_often_as_in_gensim() -> None:
    from gensim.models import Word2Vec as Theirs

    draw = np.random.default_rng(0)
    texts = [[f"w{min(k, 49)}" for k in draw.geometric(0.08, 50)] for _ in range(200)]
    theirs = Theirs(vector_size=4, min_count=5, sample=1e-3, epochs=1)
    theirs.build_vocab(texts)
    words = read_words([" ".join(text) for text in texts])
    assert sorted(words.names) == sorted(theirs.wv.index_to_key)
    ours = dict(zip(words.names, Word2Vec(Word2VecConfig(), words.counts).stays(), strict=True))
    for word, count in zip(words.names, words.counts, strict=True):
        assert theirs.wv.get_vecattr(word, "count") == count
        assert theirs.wv.get_vecattr(word, "sample_int") / 2**32 == pytest.approx(ours[word], rel=1e-6)
    assert min(ours.values()) < 0.3


def test_everything_stays_without_thinning() -> None:
    assert (Word2Vec(Word2VecConfig(sample=0), np.array([90, 10])).stays() == 1).all()


def test_vectors_begin_as_in_the_original() -> None:
    fresh = Word2Vec(Word2VecConfig(width=50), np.full(2000, 7), seed=1)
    assert not fresh.out.any() and fresh.into.shape == (2000, 50)
    assert abs(fresh.into).max() <= 0.5 / 50
    assert fresh.into.std() == pytest.approx(1 / 50 / math.sqrt(12), rel=0.01)
    assert (Word2Vec(Word2VecConfig(width=50), np.full(2000, 7), seed=2).into != fresh.into).mean() > 0.99


@pytest.fixture(scope="module")
def capitals() -> Words:
    return read_words(toy_words.sentences(9000, fillers=1500))


def trained(words: Words, **settings: Any) -> tuple[WordVectors, list[dict[str, Any]]]:
    model = Word2Vec(Word2VecConfig(**{"threads": 1, **settings}), words.counts)
    history = model.train(words.stream)
    return WordVectors(words.names, model.into), history


def solved(vectors: WordVectors) -> float:
    """Share of the planted analogies whose answer is the planted one."""
    asked = toy_words.analogies()[::7]
    return float(np.mean([vectors.analogy(a, b, c)[0][0] == d for a, b, c, d in asked]))


@pytest.mark.proof("embedding", "claim")
@pytest.mark.parametrize("settings", [{}, {"exact": True}, {"method": "cbow", "learning_rate": 0.05}])
def test_planted_analogies_are_found(capitals: Words, settings: dict[str, Any]) -> None:
    vectors, history = trained(capitals, **settings)
    assert solved(vectors) >= 0.9
    assert solved(WordVectors(capitals.names, np.eye(len(capitals.names), dtype=np.float32))) == 0  # one-hot
    losses = [record["loss"] for record in history]
    assert all(later < earlier for earlier, later in pairwise(losses))
    same = [vectors.similarity(a, b) for a, b, _ in toy_words.NAMES]
    apart = [vectors.similarity(a[0], b[1]) for a, b in pairwise(toy_words.NAMES)]
    assert np.median(same) > np.median(apart) + 0.2


def test_the_reported_loss_begins_at_chance_and_is_a_mean(capitals: Words) -> None:
    _, history = trained(capitals, learning_rate=0.0, least_rate=0.0, epochs=1)
    assert history[0]["loss"] == pytest.approx(6 * math.log(2), rel=0.01)  # less where noise hit the centre
    assert history[0]["loss"] < 6 * math.log(2)


def test_one_thread_repeats_itself_and_two_come_close(capitals: Words) -> None:
    first, one = trained(capitals, epochs=2)
    second, _ = trained(capitals, epochs=2)
    np.testing.assert_array_equal(first.matrix, second.matrix)
    _, two = trained(capitals, epochs=2, threads=2)
    assert two[-1]["loss"] == pytest.approx(one[-1]["loss"], rel=0.05)
    assert two[-1]["pairs"] == one[-1]["pairs"]  # draws depend on the place in the text, not on the thread


def test_what_watches_is_told_of_progress_and_can_stop(capitals: Words) -> None:
    seen: list[dict[str, Any]] = []
    model = Word2Vec(Word2VecConfig(epochs=2, threads=1), capitals.counts)
    history = model.train(capitals.stream, seen.append)
    assert [record for record in seen if "epoch" in record] == history
    steps = [record["step"] for record in seen]
    assert steps == sorted(steps) and steps[-1] == seen[-1]["steps"] == 2 * len(capitals.stream)

    def stop(record: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Word2Vec(Word2VecConfig(), capitals.counts).train(capitals.stream, stop)


def test_a_stretch_ends_behind_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word2vec, "STRETCH", 10)
    stream = np.zeros(100, np.int32)
    stream[[12, 40, 99]] = END
    cuts = word2vec._stretches(stream)
    assert cuts[0] == 0 and cuts[-1] == 100 and 13 in cuts
    assert all(0 < b - a <= 20 for a, b in pairwise(cuts))  # a line longer than a stretch is cut
    assert word2vec._stretches(np.zeros(0, np.int32)) == [0, 0]


def test_a_line_without_end_is_read_in_pieces() -> None:
    words = read_words([" ".join(f"w{k % 7}" for k in range(5000))])
    _, history = trained(words, sample=0.0, epochs=1, window=1)
    assert history[0]["pairs"] == 2 * 5000 - 2 * math.ceil(5000 / skipgram.SENTENCE)


def test_a_loss_that_is_not_finite_stops_the_training(
    capitals: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word2vec, "sweep", lambda *_: (math.nan, 1))
    with pytest.raises(SadariError, match="the loss of epoch 1 is not finite; use a smaller --learning-rate"):
        trained(capitals)


def test_compiling_is_said_only_when_it_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    word2vec.prepare(lambda: said.append("compiling"))
    assert not said  # the kernel is there by now

    def slow(*_: Any) -> None:
        import time

        time.sleep(2)

    monkeypatch.setattr(skipgram, "sweep", slow)
    word2vec.prepare(lambda: said.append("compiling"))
    assert said == ["compiling"]


def test_where_nothing_can_be_written_the_kernel_is_compiled_without(monkeypatch: pytest.MonkeyPatch) -> None:
    real = numba.njit

    def closed(**options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(numba, "njit", closed)
    assert skipgram._compiled(lambda x: x + 1)(2) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "glove"}, "method 'glove' is neither 'skip-gram' nor 'cbow'; use method='skip-gram'"),
        ({"width": 0}, "width 0 is out of range; width is 1 to 10,000, usually 100"),
        ({"window": 1000}, "window 1000 is out of range; window is 1 to 100, usually 5"),
        ({"negative": 0}, "negative 0 is out of range"),
        ({"min_count": 0}, "min_count 0 is out of range"),
        ({"epochs": 0}, "epochs 0 with threads 0: there is at least one epoch"),
        ({"threads": -1}, "epochs 5 with threads -1"),
        ({"sample": 1.5}, "sample 1.5 is no share of a text; use 0.001, or 0 to keep every word"),
        ({"learning_rate": 0.0}, "learning_rate 0.0 must fall to least_rate 0.0001"),
    ],
)
def test_settings_out_of_range_are_said(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        Word2VecConfig(**settings)
