"""One-hot: scikit-learn's optimum on the same sparse matrix, blind to order, every two words equally far."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from sadari.errors import SadariError
from sadari.layers.tokens import PAD
from sadari.losses import Loss, make_loss
from sadari.models.one_hot import OneHot, OneHotConfig


def planted(rows: int = 400, vocabulary: int = 300, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Texts of 0 to 20 tokens; a quarter of a text's words are its class's own."""
    rng = np.random.default_rng(seed)
    targets = np.arange(rows) % classes
    tokens = rng.zipf(1.5, (rows, 20)) % vocabulary
    own = rng.integers(0, 20, tokens.shape) * classes + targets[:, None]
    tokens = np.where(rng.random(tokens.shape) < 0.25, own, tokens)
    tokens[np.arange(20) >= rng.integers(0, 21, rows)[:, None]] = PAD
    return torch.from_numpy(tokens), torch.from_numpy(targets)


def loss_for(classes: int, smoothing: float = 0.0) -> Loss:
    return make_loss("binary" if classes == 2 else "cross-entropy", classes=classes, smoothing=smoothing)


def objective(model: OneHot, tokens: Tensor, targets: Tensor, loss: Loss) -> float:
    """scikit-learn's: the sum of losses plus half the penalised squares."""
    return (loss(model.double()(tokens), targets).sum() + model.penalty()).item()


@pytest.mark.proof("one-hot", "parity")
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_equals_scikit_learn_on_the_same_matrix(classes: int, counts: bool, penalty: float) -> None:
    tokens, targets = planted(classes=classes)
    loss = loss_for(classes)
    model = OneHot(OneHotConfig(counts=counts, penalty=penalty), 300, loss.outputs).double()
    facts = model.solve(tokens, targets, loss)
    bags = model.bags(tokens.numpy())
    theirs = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=10_000).fit(bags, targets)
    np.testing.assert_allclose(model.linear.weight.detach(), theirs.coef_, rtol=0, atol=1e-3)
    np.testing.assert_allclose(model.linear.bias.detach(), theirs.intercept_, rtol=0, atol=1e-3)
    ours = objective(model, tokens, targets, loss)
    model.linear.weight.data.copy_(torch.from_numpy(theirs.coef_))
    model.linear.bias.data.copy_(torch.from_numpy(theirs.intercept_))
    assert ours <= objective(model, tokens, targets, loss) * (1 + 1e-7)
    assert facts["objective"] == pytest.approx(ours) and facts["converged"] and not facts["notes"]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_descent_by_the_loops_own_gradient_would_stay_at_the_solution(smoothing: float) -> None:
    tokens, targets = planted()
    loss = loss_for(3, smoothing)
    model = OneHot(OneHotConfig(), 300, 3).double()
    model.solve(tokens, targets, loss)
    (loss(model(tokens), targets).sum() + model.penalty()).backward()
    assert model.linear.weight.grad is not None and model.linear.weight.grad.abs().max() < 2e-3


@given(counts=st.booleans(), seed=st.integers(0, 100))
def test_is_the_sum_of_the_weights_of_the_words_that_occur(counts: bool, seed: int) -> None:
    tokens, _ = planted(20, seed=seed)
    torch.manual_seed(seed)
    model = OneHot(OneHotConfig(counts=counts), 300, 3)
    torch.nn.init.normal_(model.linear.weight)
    x = torch.from_numpy(model.bags(tokens.numpy()).toarray()).float()
    torch.testing.assert_close(model(tokens), model.linear(x), rtol=0, atol=1e-5)
    assert x.max() <= 1 or counts
    for row in range(20):
        text = tokens[row : row + 1, : max(int((tokens[row] >= 0).sum()), 1)]
        torch.testing.assert_close(model(text.int())[0], model(tokens)[row], rtol=0, atol=1e-6)


@pytest.mark.proof("one-hot", "claim")
def test_forgets_the_order_and_finds_every_two_words_equally_far_apart() -> None:
    """Shuffled words get the same answer, bit for bit; what one word taught says nothing about another."""
    tokens, targets = planted()
    model = OneHot(OneHotConfig(), 300, 3)
    model.solve(tokens, targets, loss_for(3))
    long = tokens[(tokens >= 0).sum(1) == 20]
    shuffled = torch.stack([row[torch.randperm(20)] for row in long])
    assert torch.equal(model(long), model(shuffled))
    words = torch.from_numpy(model.bags(np.arange(300)[:, None]).toarray())
    distances = torch.cdist(words, words) + 2**0.5 * torch.eye(300, dtype=torch.double)
    torch.testing.assert_close(distances, torch.full_like(distances, 2**0.5))
    never = sorted(set(range(300)) - set(tokens.flatten().tolist()))
    assert never and not model.linear.weight[:, never].any()


def test_words_that_separate_stop_gracefully_with_a_note() -> None:
    tokens, targets = torch.tensor([[0, 1], [2, 1]]).repeat(30, 1), torch.tensor([0, 1]).repeat(30)
    model = OneHot(OneHotConfig(penalty=0.0), 3, 1)
    facts = model.solve(tokens, targets, loss_for(2))
    assert facts["objective"] < 0.5 and facts["converged"] and model.linear.weight.isfinite().all()
    (note,) = facts["notes"]
    assert note.level == "warning" and "without a penalty their weights" in note.say("en")
    assert "penalty를 정하라" in note.say("ko")


def test_a_search_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sadari.models.one_hot.MOST", 2)
    facts = OneHot(OneHotConfig(), 300, 3).solve(*planted(), loss_for(3))
    (note,) = facts["notes"]
    assert not facts["converged"] and note.say("en").startswith("The search stopped after 2 steps")
    assert "2걸음" in note.say("ko")


def test_texts_without_a_word_have_the_answer_of_the_intercepts() -> None:
    tokens, targets = torch.full((6, 1), PAD), torch.tensor([0, 0, 0, 1, 1, 2])
    model = OneHot(OneHotConfig(), 5, 3)
    model.solve(tokens, targets, loss_for(3))
    shares = loss_for(3).predict(model(tokens))
    torch.testing.assert_close(shares[0], torch.tensor([3, 2, 1]) / 6, rtol=0, atol=1e-4)


def test_solves_class_losses_exactly_and_nothing_else() -> None:
    model = OneHot(OneHotConfig(), 3, 1)
    assert model.can_solve(loss_for(2)) and model.can_solve(loss_for(3, 0.1))
    assert not model.can_solve(make_loss("squared"))
    assert not OneHot(OneHotConfig(method="gradient"), 3, 1).can_solve(loss_for(2))


@given(inputs=st.integers(1, 20), outputs=st.integers(1, 9), length=st.integers(0, 30))
def test_is_counted_by_its_formulas(inputs: int, outputs: int, length: int) -> None:
    config = OneHotConfig()
    model = OneHot(config, inputs, outputs)
    assert sum(p.numel() for p in model.parameters()) == OneHot.parameter_count(config, inputs, outputs)
    assert OneHot.macs(config, inputs, outputs, length) == length * outputs
    assert not any(p.any() for p in model.parameters())  # a word that was never read says nothing


def test_wrong_settings_are_refused_with_a_remedy() -> None:
    with pytest.raises(SadariError, match=r"penalty -1\.0: a penalty is 0 or more; use penalty=1\.0"):
        OneHotConfig(penalty=-1.0)
    with pytest.raises(SadariError, match="method 'magic' is neither 'exact' nor 'gradient'"):
        OneHotConfig(method="magic")
