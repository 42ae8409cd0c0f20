"""Bag of words: a mean of vectors and a line on few pixels, which know neither order nor detail."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from sadari.errors import SadariError
from sadari.models.bag_of_words import BagOfWords, BagOfWordsConfig
from tests.models.test_clip import keeper

SHAPE, WORDS = (3, 12, 8), 30


@pytest.mark.proof("bag-of-words", "parity")
def test_a_caption_is_the_mean_of_its_words_in_any_order() -> None:
    model = BagOfWords(BagOfWordsConfig(dimension=6), SHAPE, WORDS)
    tokens = torch.tensor([[3, 8, 8, -1], [8, 3, 8, -1], [5, -1, -1, -1], [-1, -1, -1, -1]])
    found = model.encode_text(tokens)
    vectors = model.words.weight
    torch.testing.assert_close(found[0], (vectors[3] + 2 * vectors[8]) / 3)
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[2], vectors[5])
    assert torch.equal(found[3], torch.zeros(6))
    torch.testing.assert_close(model.encode_text(tokens[2:3, :1]), found[2:3])


@pytest.mark.proof("bag-of-words", "parity")
def test_a_picture_is_a_line_on_the_averages_of_its_squares() -> None:
    model = BagOfWords(BagOfWordsConfig(dimension=6, pixels=4), SHAPE, WORDS)
    x = torch.randn(2, *SHAPE)
    small = x.view(2, 3, 4, 3, 4, 2).mean((3, 5))  # 12 x 8 in 4 x 4 squares
    expected = small.flatten(1) @ model.picture.weight.T + model.picture.bias
    torch.testing.assert_close(model.encode_image(x), expected, rtol=0, atol=1e-5)
    detail = torch.zeros(1, *SHAPE)
    detail[:, :, 0, 0], detail[:, :, 0, 1] = 1.0, -1.0  # inside one square
    assert torch.equal(model.encode_image(detail), model.encode_image(torch.zeros(1, *SHAPE)))
    assert model.encode_image(torch.randn(2, 3, 50, 40)).shape == (2, 6)  # any size
    whole = BagOfWords(BagOfWordsConfig(dimension=6), SHAPE, WORDS)
    assert whole.size == (12, 8)  # smaller than 16: as they are
    torch.testing.assert_close(whole.encode_image(x), whole.picture(x.flatten(1)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_counts_are_those_of_its_tensors_and_its_products(loss: str) -> None:
    config = BagOfWordsConfig(contrast=loss, pixels=5)
    model = BagOfWords(config, SHAPE, WORDS)
    assert sum(p.numel() for p in model.parameters()) == BagOfWords.parameter_count(config, SHAPE, WORDS)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.randn(1, *SHAPE), torch.tensor([[1, 2, 3]]))
    assert counter.get_total_flops() == 2 * BagOfWords.macs(config, SHAPE, WORDS)
    assert (model.logit_bias is not None) == (loss == "sigmoid")


def test_it_learns_which_words_go_with_which_colour() -> None:
    """Red, green and blue pictures of any brightness, named in any order among other words."""
    torch.manual_seed(0)
    model = BagOfWords(BagOfWordsConfig(dimension=8, pixels=2), SHAPE, WORDS)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-2)
    eye = torch.eye(3).view(3, 3, 1, 1)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        x = eye * (1 + torch.rand(3, 1, 1, 1)) + 0.1 * torch.randn(3, *SHAPE)
        tokens = torch.stack([torch.arange(3), torch.randint(3, WORDS, (3,))], 1)
        return x, tokens if torch.rand(()) < 0.5 else tokens.flip(1)

    for _ in range(150):
        image, text = model(*batch())
        logits = model.scale() * image @ text.T
        loss = F.cross_entropy(logits, torch.arange(3)) + F.cross_entropy(logits.T, torch.arange(3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = 0
    for _ in range(20):
        image, text = model(*batch())
        right += int(((image @ text.T).argmax(1) == torch.arange(3)).sum())
    assert right >= 55


def test_it_is_drawn_from_the_seed_and_shown() -> None:
    torch.manual_seed(5)
    model = BagOfWords(BagOfWords.TINY, SHAPE, WORDS)
    torch.manual_seed(5)
    again = BagOfWords(BagOfWords.TINY, SHAPE, WORDS)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    kept: dict[str, torch.Tensor] = {}
    image, text = model(torch.randn(2, *SHAPE), torch.tensor([[1, 2], [3, -1]]), keeper(kept))
    assert kept["shrunk"].shape == (2, 3, 4, 4) and kept["words"].shape == (2, 2, 8)
    assert torch.equal(kept["image"], image) and torch.equal(kept["text"], text)
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(2))


def test_what_does_not_fit_is_named() -> None:
    model = BagOfWords(BagOfWords.TINY, SHAPE, WORDS)
    model.check_tokens(torch.tensor([[1, 29], [2, -1]]))
    with pytest.raises(SadariError, match="token 30 is beyond the model's vocabulary of 30, 0 to 29"):
        model.check_tokens(torch.tensor([[1, 30]]))
    with pytest.raises(SadariError, match="caption 1 has no token; leave such pairs out"):
        model.check_tokens(torch.tensor([[-1, -1]]))
    with pytest.raises(SadariError, match="dimension 0: at least 1 is needed; use dimension=192"):
        BagOfWordsConfig(dimension=0)
    with pytest.raises(SadariError, match="pixels 0: a picture has at least 1 a side; use pixels=16"):
        BagOfWordsConfig(pixels=0)
    with pytest.raises(
        SadariError, match="--contrast 'hinge' is no loss of pairs; choose one of softmax, sigmoid"
    ):
        BagOfWordsConfig(contrast="hinge")
