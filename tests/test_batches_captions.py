"""The feed of captioned pictures: each once an epoch, each with one of its own captions, and gone on with."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sadari.batches_captions import (
    PAIRS,
    CaptionBatches,
    caption_arrays,
    caption_tensors,
    first_pictures,
)
from sadari.data.caption_arrays import CaptionArrays
from sadari.errors import SadariError

WIDTH = 6  # tokens of the longest caption


def made(captions: list[list[int]], subjects: list[int] | None = None) -> CaptionArrays:
    """Pictures that hold their own number, with captions in these languages; a caption's tokens are its own
    number, as many as its place allows."""
    N, K = len(captions), sum(map(len, captions))
    tokens = np.full((K, WIDTH), -1, np.int32)
    for row in range(K):
        tokens[row, : 1 + row % WIDTH] = row
    return CaptionArrays(
        np.arange(N, dtype=np.uint8).reshape(N, 1, 1, 1),
        tokens,
        np.cumsum([0, *map(len, captions)]),
        np.array([language for each in captions for language in sorted(each)], np.uint8),
        np.array(subjects or range(N), np.int64),
        np.arange(K, dtype=np.int64),
        pl.Series([str(row) for row in range(K)]),
    )


def feed(arrays: CaptionArrays, size: int = 0, seed: int = 0, rows: Tensor | None = None) -> CaptionBatches:
    return CaptionBatches(caption_tensors(arrays), size, seed, rows)


def shown(batches: CaptionBatches, start: int = 0) -> list[tuple[list[int], list[int], list[int]]]:
    """Pictures, captions and ids of each batch."""
    return [
        (batch["features"].flatten().tolist(), batch["tokens"][:, 0].tolist(), batch["ids"].tolist())
        for batch in batches.epoch(start)
    ]


CAPTIONS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=40)


@given(CAPTIONS, st.integers(0, 50), st.integers(0, 5))
@settings(max_examples=30)
def test_every_picture_once_an_epoch_with_a_caption_of_its_own(
    captions: list[list[int]], size: int, seed: int
) -> None:
    arrays = made(captions)
    batches = feed(arrays, size, seed)
    for _ in range(2):
        epoch = list(batches.epoch())
        assert len(epoch) == batches.per_epoch == -(-len(captions) // (size or PAIRS))
        sizes = [len(batch["tokens"]) for batch in epoch]
        assert max(sizes) - min(sizes) <= 1, "no tiny batch steers"
        pictures = torch.cat([batch["features"].flatten() for batch in epoch]).long()
        assert sorted(pictures.tolist()) == list(range(len(captions)))
        said = torch.cat([batch["tokens"][:, 0] for batch in epoch]).long()
        starts = torch.from_numpy(arrays.starts)
        assert bool(((starts[pictures] <= said) & (said < starts[pictures + 1])).all())
        for batch in epoch:
            lengths = batch["tokens"][:, 0] % WIDTH + 1
            assert batch["tokens"].shape[1] == lengths.max()
            assert ((batch["tokens"] >= 0).sum(-1) == lengths).all()


@given(CAPTIONS, st.integers(1, 9), st.integers(0, 12))
@settings(max_examples=30)
def test_an_epoch_can_be_gone_on_with(captions: list[list[int]], size: int, start: int) -> None:
    arrays = made(captions)
    batches = feed(arrays, size, 3)
    shown(batches)
    whole = shown(batches)
    again = feed(arrays, size, 99)
    kept = {name: value.clone() for name, value in batches.state().items()}
    again.load(kept)
    assert shown(again, start) == whole[start:]
    after = shown(batches)
    assert shown(again) == after, "the next epoch is the same one too"
    again.load(kept)
    assert len(again.first()["ids"]) and len(again.largest()["ids"])
    assert shown(again) == whole, "the order is left alone"


def test_order_and_captions_are_drawn_anew_each_epoch_and_by_the_seed() -> None:
    arrays = made([[0, 0, 0]] * 60)
    batches = feed(arrays, 20)
    one, other = shown(batches), shown(batches)
    assert [pictures for pictures, _, _ in one] != [pictures for pictures, _, _ in other]
    by_picture = [
        {picture: caption for batch in epoch for picture, caption in zip(*batch[:2], strict=True)}
        for epoch in (one, other)
    ]
    same = sum(by_picture[0][picture] == by_picture[1][picture] for picture in range(60))
    assert 5 < same < 40, "of three captions a third are the same again"
    assert shown(feed(arrays, 20)) == one != shown(feed(arrays, 20, seed=1))


def test_each_language_of_a_picture_is_as_likely_however_many_captions_it_has() -> None:
    arrays = made([[0] * 9 + [1]] * 200)
    said = [caption for _, captions, _ in shown(feed(arrays)) for caption in captions]
    assert 70 < sum(arrays.languages[caption] == 1 for caption in said) < 130


def test_pairs_that_are_true_of_each_other_have_one_number() -> None:
    arrays = made([[0]] * 6, [0, 1, 0, 2, 3, 1])
    arrays.wordings[4] = arrays.wordings[3]
    pictures, _, ids = shown(feed(arrays))[0]
    alike = dict(zip(pictures, ids, strict=True))
    assert alike[0] == alike[2] and alike[1] == alike[5] and alike[3] == alike[4]
    assert len(set(ids)) == 3


def test_only_the_pictures_that_may_be_seen() -> None:
    batches = feed(made([[0]] * 50), 7, rows=torch.arange(10, 30))
    seen = [picture for pictures, _, _ in shown(batches) for picture in pictures]
    assert sorted(seen) == list(range(10, 30)) and batches.per_epoch == 3
    with pytest.raises(SadariError, match="no pictures with captions to train on; give at least one"):
        feed(made([[0]] * 5), rows=torch.arange(0))


def test_the_largest_batch_has_the_longest_captions_and_is_known_from_shapes_alone() -> None:
    arrays = caption_tensors(made([[0]] * 13))
    batches = CaptionBatches(arrays, 5, 0)
    most = batches.largest()
    assert len(most["features"]) == len(most["ids"]) == len(most["tokens"]) == 5
    assert most["tokens"].shape[1] == max(batch["tokens"].shape[1] for batch in batches.epoch()) == WIDTH
    with torch.device("meta"):
        ghosts = CaptionBatches({name: value.to("meta") for name, value in arrays.items()}, 5, 0).largest()
    assert {name: value.shape for name, value in ghosts.items()} == {
        name: value.shape for name, value in most.items()
    }


def test_arrays_become_tensors_of_the_same_memory_and_come_back() -> None:
    arrays = made([[0], [0, 1, 1], [1], [0, 0]])
    named = caption_tensors(arrays)
    assert next(iter(named)) == "features", "the number of examples is that of the first"
    assert named["tokens"].data_ptr() == arrays.tokens.ctypes.data
    again = caption_arrays(named)
    for name in ("features", "tokens", "starts", "languages", "subjects", "wordings"):
        assert (getattr(again, name) == getattr(arrays, name)).all(), name
    few = caption_arrays(first_pictures(named, 2))
    assert len(few.features) == len(few.subjects) == 2 and few.starts.tolist() == [0, 1, 4]
    assert len(few.tokens) == len(few.languages) == len(few.wordings) == 4
    whole = caption_arrays(first_pictures(named, 99))
    assert whole.starts.tolist() == arrays.starts.tolist() and len(whole.tokens) == 7
