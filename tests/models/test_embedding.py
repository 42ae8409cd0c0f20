"""Averaged embedding: equal to torch.nn.EmbeddingBag, and near where words mean the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sadari.errors import SadariError
from sadari.layers.recurrent import laws
from sadari.layers.tokens import PAD
from sadari.models.embedding import Embedding, EmbeddingConfig


def padded(lengths: tuple[int, ...] = (6, 3, 0, 1), vocabulary: int = 20) -> Tensor:
    tokens = torch.randint(0, vocabulary, (len(lengths), max(lengths)))
    for row, length in zip(tokens, lengths, strict=True):
        row[length:] = PAD
    return tokens


@pytest.mark.proof("embedding", "parity")
def test_equals_torchs_embedding_bag_and_a_line_gradients_too() -> None:
    torch.manual_seed(0)
    model = Embedding(EmbeddingConfig(width=8), 20, 3).eval()
    bag = nn.EmbeddingBag.from_pretrained(model.embedding.weight.detach().clone(), freeze=False, mode="mean")
    tokens = padded()
    texts = [row[row >= 0] for row in tokens]
    offsets = torch.tensor([0, *(len(text) for text in texts[:-1])]).cumsum(0)
    expected = model.output(bag(torch.cat(texts), offsets))
    torch.testing.assert_close(model(tokens), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(model(tokens)[2], model.output.bias)  # an empty text
    (theirs,) = torch.autograd.grad(expected.square().sum(), [bag.weight])
    (ours,) = torch.autograd.grad(model(tokens).square().sum(), [model.embedding.weight])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.proof("embedding", "claim")
def test_words_that_mean_the_same_come_to_lie_near_each_other() -> None:
    """Forty words of two meanings, drawn at random: after learning, a word's nearest mean what it means."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(600) % 2
    tokens = 2 * torch.randint(0, 20, (600, 6), generator=generator) + targets.unsqueeze(1)
    noise = torch.rand(tokens.shape, generator=generator) < 0.2
    tokens = torch.where(noise, torch.randint(0, 40, tokens.shape, generator=generator), tokens)
    torch.manual_seed(0)
    model = Embedding(EmbeddingConfig(width=8, dropout=0.0), 40, 2)

    def kindred() -> float:
        vectors = nn.functional.normalize(model.embedding.weight.detach(), dim=1)
        nearest = (vectors @ vectors.T - 2 * torch.eye(40)).topk(5).indices  # (40, 5)
        return (nearest % 2 == torch.arange(40).unsqueeze(1) % 2).float().mean().item()

    assert kindred() < 0.7
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(tokens), targets).backward()
        optimizer.step()
    assert kindred() > 0.95
    assert (model(tokens).argmax(-1) == targets).float().mean() > 0.95


@given(st.permutations(range(6)))
def test_the_order_of_words_is_lost(order: list[int]) -> None:
    model = Embedding(EmbeddingConfig(width=8), 20, 3).eval()
    tokens = torch.tensor([[3, 1, 4, 1, 5, 9]])
    torch.testing.assert_close(model(tokens), model(tokens[:, order]), rtol=0, atol=1e-6)


def test_padding_changes_no_answer() -> None:
    model = Embedding(EmbeddingConfig(width=8), 20, 3).eval()
    tokens = padded()
    for row, length in enumerate((6, 3, 0, 1)):
        alone = model(tokens[row : row + 1, : max(length, 1)].int())
        torch.testing.assert_close(alone[0], model(tokens)[row], rtol=0, atol=1e-6)


def test_takes_over_the_vectors_that_a_file_has() -> None:
    model = Embedding(EmbeddingConfig(width=3), 4, 2)
    before = model.embedding.weight.detach().clone()
    matrix, found = torch.randn(4, 3, dtype=torch.double), torch.tensor([True, False, True, False])
    model.start_from(matrix, found)
    after = model.embedding.weight.detach()
    torch.testing.assert_close(after[found], matrix[found].float())
    assert torch.equal(after[~found], before[~found])
    with pytest.raises(SadariError, match="the vectors are 5 long, the embedding 3; use width=5"):
        model.start_from(torch.randn(4, 5), found)


@given(
    width=st.integers(1, 9), inputs=st.integers(1, 20), outputs=st.integers(1, 5), length=st.integers(0, 9)
)
def test_is_counted_by_its_formulas(width: int, inputs: int, outputs: int, length: int) -> None:
    config = EmbeddingConfig(width=width)
    model = Embedding(config, inputs, outputs)
    assert sum(p.numel() for p in model.parameters()) == Embedding.parameter_count(config, inputs, outputs)
    assert Embedding.macs(config, inputs, outputs, length) == length * width + model.output.weight.numel()


def test_names_its_inner_values_and_is_born_by_its_laws() -> None:
    torch.manual_seed(0)
    model, seen = Embedding(EmbeddingConfig(width=64), 200, 100).eval(), {}
    answer = model(padded(), lambda name, value: seen.setdefault(name, value))
    assert list(seen) == ["embedded", "mean", "output"] and torch.equal(seen["output"], answer)
    assert not seen["embedded"][2].any() and not seen["mean"][2].any()
    for name, (law, number) in laws(model).items():
        parameter = model.get_parameter(name)
        if law == "normal":
            assert parameter.std().item() == pytest.approx(number, rel=0.1), name
        else:
            assert law == "zero" and not parameter.any()


def test_wrong_settings_are_refused_with_a_remedy() -> None:
    with pytest.raises(SadariError, match="width 0: a word needs at least 1 number; use width=128"):
        EmbeddingConfig(width=0)
    with pytest.raises(SadariError, match=r"dropout 1\.0: the share dropped lies in \[0, 1\)"):
        EmbeddingConfig(dropout=1.0)
