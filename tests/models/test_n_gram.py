"""N-gram: equal to a plain reference and to sums by hand, probabilities after any history, what it knows."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from sadari.errors import SadariError
from sadari.losses import make_loss
from sadari.models import n_gram
from sadari.models.n_gram import SMOOTHINGS, NGram, NGramConfig, discount

SMOOTHED = pytest.mark.parametrize("smoothing", SMOOTHINGS)


def solved(tokens: list[int] | np.ndarray, V: int, order: int = 2, smoothing: str = "interpolated") -> NGram:
    model = NGram(NGramConfig(order, smoothing), V, V)
    model.solve_stream(np.asarray(tokens))
    return model


def text(length: int, V: int, seed: int = 0) -> np.ndarray:
    """Tokens in which the two before decide most of the next one."""
    draw = np.random.default_rng(seed)
    tokens = list(draw.integers(0, V, 2))
    for _ in range(length - 2):
        habit = (3 * tokens[-1] + tokens[-2] + draw.geometric(0.5)) % V
        tokens.append(int(habit if draw.random() < 0.7 else draw.geometric(0.3) % V))
    return np.array(tokens)


class Reference:
    """Chen & Goodman's formulas word for word: tuples in dictionaries, one recursion, no array."""

    def __init__(self, tokens: list[int], V: int, order: int, smoothing: str) -> None:
        self.V, self.order = V, order
        self.counts: dict[int, Counter] = {}
        for n in range(1, order + 1):
            occurrences = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
            if smoothing == "kneser-ney" and n < order:
                longer = {tuple(tokens[i : i + n + 1]) for i in range(len(tokens) - n)}
                fronts = Counter(gram[1:] for gram in longer)
                occurrences = Counter({gram: fronts[gram] or 1 for gram in occurrences})
            self.counts[n] = occurrences
        self.discounts = {n: self.discount(counts, smoothing) for n, counts in self.counts.items()}
        self.probability = cache(self.probability)  # type: ignore[method-assign]

    @staticmethod
    def discount(counts: Counter, smoothing: str) -> list[float]:
        n = [sum(count == j for count in counts.values()) for j in range(5)]
        Y = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else 0.5
        if smoothing == "interpolated":
            return [0, Y, Y, Y]
        D = [0.0]
        for j in (1, 2, 3):
            usable = n[j] and 0 < j - (j + 1) * Y * n[j + 1] / n[j] < j
            D.append(j - (j + 1) * Y * n[j + 1] / n[j] if usable else j / 2)
        return D

    def probability(self, token: int, history: tuple[int, ...]) -> float:
        n = len(history) + 1
        shorter = self.probability(token, history[1:]) if history else 1 / self.V
        followers = {gram[-1]: c for gram, c in self.counts[n].items() if gram[:-1] == history}
        if not followers:
            return shorter
        D, total = self.discounts[n], sum(followers.values())
        count = followers.get(token, 0)
        saved = sum(D[min(c, 3)] for c in followers.values())
        return (count - D[min(count, 3)]) / total + saved / total * shorter

    def logs(self, stream: list[int]) -> list[float]:
        reach = self.order - 1
        return [
            np.log(self.probability(token, tuple(stream[max(i - reach, 0) : i])))
            for i, token in enumerate(stream)
        ]


@pytest.mark.proof("n-gram", "parity")
@SMOOTHED
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_equals_the_reference(order: int, smoothing: str) -> None:
    """On what it was counted on and on what it was not, token by token, to float32's seven digits."""
    seen, new = text(600, 12, seed=1), text(200, 13, seed=2)
    model, reference = solved(seen, 13, order, smoothing), Reference(seen.tolist(), 13, order, smoothing)
    for stream in (seen, new):
        np.testing.assert_allclose(
            model.log_probabilities(stream), reference.logs(stream.tolist()), atol=2e-6
        )


@given(
    tokens=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    stream=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    order=st.integers(1, 4),
    smoothing=st.sampled_from(SMOOTHINGS),
)
@example(tokens=[0], stream=[5, 0, 0], order=3, smoothing="kneser-ney")
def test_equals_the_reference_on_any_text(
    tokens: list[int], stream: list[int], order: int, smoothing: str
) -> None:
    model, reference = solved(tokens, 6, order, smoothing), Reference(tokens, 6, order, smoothing)
    np.testing.assert_allclose(model.log_probabilities(np.array(stream)), reference.logs(stream), atol=2e-6)


@pytest.mark.proof("n-gram", "parity")
def test_equals_sums_by_hand() -> None:
    """a b a b c. One discount: of 3 bigrams 2 are seen once and 1 twice, D = 2 / (2 + 2 * 1) = 1/2.

    Single tokens: counts 2 2 1, D = 1 / (1 + 2 * 2) = 1/5, so p(a) = 1.8 / 5 + 0.6 / 5 / 3 = 0.4.
    """
    a, b, c = range(3)
    model = solved([a, b, a, b, c], 3)
    p = model(torch.tensor([[a, b]])).exp()[0]
    torch.testing.assert_close(p[0], torch.tensor([0.25 * 0.4, 1.5 / 2 + 0.25 * 0.4, 0.25 * 0.2]))
    torch.testing.assert_close(p[1], torch.tensor([0.5 / 2 + 0.5 * 0.4, 0.5 * 0.4, 0.5 / 2 + 0.5 * 0.2]))
    # by contexts every token has one, so each is 1/3; D1 = 1 - 2 Y n2 / n1 = 1/2, and D2 = 1 for want of n3
    model = solved([a, b, a, b, c], 3, smoothing="kneser-ney")
    p = model(torch.tensor([[a, b]])).exp()[0]
    torch.testing.assert_close(p[0], torch.tensor([0.5 / 3, (2 - 1) / 2 + 0.5 / 3, 0.5 / 3]))
    torch.testing.assert_close(p[1], torch.tensor([0.5 / 2 + 0.5 / 3, 0.5 / 3, 0.5 / 2 + 0.5 / 3]))


def test_discounts_are_chen_and_goodmans() -> None:
    """n1 = 8, n2 = 4, n3 = 2, n4 = 1: Y = 8 / 16, D1 = 1 - 2 Y 4/8, D2 = 2 - 3 Y 2/4, D3+ = 3 - 4 Y 1/2."""
    counts = np.repeat([0, 1, 2, 3, 4, 9], [5, 8, 4, 2, 1, 3])
    np.testing.assert_allclose(discount(counts, several=True), [0, 0.5, 1.25, 2])
    np.testing.assert_allclose(discount(counts, several=False), [0, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(discount(np.array([1, 1]), several=True), [0, 0.5, 1, 1.5])


@given(
    tokens=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    history=st.lists(st.integers(0, 6), min_size=1, max_size=6),
    order=st.integers(1, 5),
    smoothing=st.sampled_from(SMOOTHINGS),
)
def test_probabilities_sum_to_one_after_any_history(
    tokens: list[int], history: list[int], order: int, smoothing: str
) -> None:
    model = solved(tokens, 7, order, smoothing)
    logs = model(torch.tensor([history])).double()
    assert logs.isfinite().all()
    torch.testing.assert_close(logs.exp().sum(-1), torch.ones_like(logs[..., 0]), rtol=0, atol=1e-6)


@SMOOTHED
@pytest.mark.parametrize("order", [1, 3])
def test_all_ways_of_asking_agree(order: int, smoothing: str) -> None:
    """A stream, a batch, and steps one after another, in stretches, and from reordered rows."""
    model, stream = solved(text(400, 9), 9, order, smoothing), text(40, 9, seed=5)
    tokens = torch.from_numpy(stream).view(2, 20)
    logits = model(tokens)
    of_stream = np.stack([model.log_probabilities(row) for row in tokens.numpy()])
    given = logits[:, :-1].gather(-1, tokens[:, 1:, None])[..., 0]
    np.testing.assert_allclose(given.numpy(), of_stream[:, 1:], atol=1e-5)

    state = model.start(2)
    for t in range(20):
        said, state = model.step(tokens[:, t : t + 1], state)
        assert torch.equal(said, logits[:, t])
    whole, _ = model.step(tokens, model.start(2))
    assert torch.equal(whole, logits[:, -1])
    half, state = model.step(tokens[:, :10], model.start(2))
    turned, _ = model.step(tokens[[1, 0, 1], 10:], model.reorder(state, torch.tensor([1, 0, 1])))
    assert torch.equal(turned, logits[[1, 0, 1], -1])
    assert half.shape == (2, 9)


@SMOOTHED
def test_a_stream_counted_in_chunks_gives_the_same_tables(
    smoothing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, new = text(500, 8).astype(np.uint16), text(100, 8, seed=3)
    whole = solved(seen, 8, 4, smoothing)
    logs = whole.log_probabilities(new)
    monkeypatch.setattr(n_gram, "CHUNK", 37)
    parts = solved(seen, 8, 4, smoothing)
    assert all(torch.equal(parts.get_buffer(name), buffer) for name, buffer in whole.named_buffers())
    np.testing.assert_array_equal(parts.log_probabilities(new), logs)


def test_the_memory_is_that_of_the_text_at_any_order() -> None:
    """A vocabulary of 50,000 has 3e23 fivegrams; a text of 2,000 tokens has at most 2,000."""
    draw = np.random.default_rng(0)
    model = NGram(NGramConfig(order=5), 50_000, 50_000)
    facts = model.solve_stream(draw.integers(0, 50_000, 2000))
    assert facts["n_grams"][0] == 50_000 and max(facts["n_grams"][1:]) <= 2000
    assert max(len(model.get_buffer(f"keys{n}")) for n in range(2, 6)) <= 2000


@pytest.mark.proof("n-gram", "claim")
def test_the_two_tokens_before_tell_what_one_does_not_and_nothing_tells_more() -> None:
    """A planted chain, each token chosen by the two before it: counts of three reach its entropy, counts of
    two do not, and counts of five gain nothing, for they have only what they have seen."""
    draw, V = np.random.default_rng(3), 6
    law = draw.dirichlet(np.full(V, 0.3), (V, V))
    tokens = [0, 1]
    for lot in draw.random(40_000):
        tokens.append(min(int(np.searchsorted(law[tokens[-2], tokens[-1]].cumsum(), lot)), V - 1))
    stream = np.array(tokens)
    seen, new = stream[:30_000], stream[30_000:]
    truth = -np.log(law[new[:-2], new[1:-1], new[2:]]).mean()
    nats = {n: -solved(seen, V, n).log_probabilities(new).mean() for n in (1, 2, 3, 5)}
    assert nats[1] > nats[2] + 0.1 > nats[3] + 0.4
    assert nats[3] == pytest.approx(truth, rel=0.02)
    assert nats[5] > nats[3]


@pytest.mark.proof("n-gram", "claim")
def test_a_token_that_ends_one_history_alone_is_not_foreseen_after_others() -> None:
    """Kneser and Ney's "San Francisco": frequent, but in one context; "here" is rarer, and in many."""
    san, francisco, here, after = 0, 1, 2, 3
    tokens = [san, francisco] * 40 + [word for other in range(4, 24) for word in (other, here)]
    p = {
        smoothing: solved(tokens, 24, 2, smoothing)(torch.tensor([[after]]))[0, 0].exp()
        for smoothing in SMOOTHINGS
    }
    assert p["interpolated"][francisco] > p["interpolated"][here]
    assert p["kneser-ney"][francisco] < p["kneser-ney"][here] / 5


@SMOOTHED
def test_weights_of_any_length_load_again(smoothing: str, tmp_path: Path) -> None:
    model, stream = solved(text(300, 7), 7, 3, smoothing), text(50, 7, seed=4)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors")
    again = NGram(model.config, 7, 7)
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    np.testing.assert_array_equal(again.log_probabilities(stream), model.log_probabilities(stream))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("keys2", lambda keys: keys.flip(0), "keys2 are not the sorted keys of 2-grams"),
        ("keys3", lambda keys: keys + 10_000, "keys3 are not the sorted keys of 3-grams"),
        ("logs2", lambda logs: logs[1:], "of 2-grams differ in number"),
        ("falls1", lambda falls: falls[:3], "of 1-grams differ in number"),
    ],
)
def test_weights_that_do_not_fit_together_are_refused(name: str, change, message: str) -> None:
    weights = solved(text(300, 7), 7, 3).state_dict()
    weights[name] = change(weights[name])
    with pytest.raises(RuntimeError, match=message):
        NGram(NGramConfig(3), 7, 7).load_state_dict(weights)


def test_before_it_has_read_every_token_is_as_likely() -> None:
    model = NGram(NGramConfig(3), 5, 5)
    torch.testing.assert_close(model(torch.tensor([[0, 4, 1]])).exp(), torch.full((1, 3, 5), 0.2))
    np.testing.assert_allclose(model.log_probabilities(np.arange(5)), -np.log(5), rtol=1e-6)


def test_it_can_solve_and_costs_no_product() -> None:
    assert NGram(NGramConfig(), 5, 5).can_solve(make_loss("cross-entropy", classes=5))
    assert NGram.macs(NGramConfig(), 5, 5) == 0 and NGram.parameter_count(NGramConfig(), 5, 5) is None
    assert NGram(NGramConfig(), 5, 5).context is None


def test_the_recorder_sees_the_output() -> None:
    model, seen = solved(text(100, 5), 5), {}
    output = model(torch.tensor([[1, 2]]), rec=lambda name, value: seen.setdefault(name, value))
    assert torch.equal(seen["output"], output)


def test_settings_and_tokens_that_cannot_be_used() -> None:
    with pytest.raises(SadariError, match="order 0: an n-gram has 1 to 12 tokens; use order=3"):
        NGramConfig(order=0)
    with pytest.raises(SadariError, match=r"'laplace' is neither .* use backoff='interpolated'"):
        NGramConfig(backoff="laplace")
    model = NGram(NGramConfig(), 5, 5)
    with pytest.raises(SadariError, match="no token to count; give a text that is not empty"):
        model.solve_stream(np.zeros(0, np.int64))
    with pytest.raises(SadariError, match=r"token -1 is padding, .* give its tokens alone"):
        model.solve_stream(np.array([0, -1]))
    with pytest.raises(SadariError, match="token 5 lies outside the vocabulary of 5; encode with the run's"):
        model.log_probabilities(np.array([0, 5]))
