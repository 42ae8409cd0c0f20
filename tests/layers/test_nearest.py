"""Exact search finds what sorting all products in double precision finds, however the numbers lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sadari.errors import SadariError
from sadari.layers import nearest
from sadari.layers.nearest import has_exact_bytes, round_vectors, top


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def plain(queries: np.ndarray, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Everything multiplied and sorted."""
    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, 1), rows


@given(
    st.integers(1, 300),
    st.integers(1, 90),
    st.integers(1, 9),
    st.integers(1, 30),
    st.sampled_from([1e-12, 1.0, 1e12]),
    st.booleans(),
    st.integers(0, 99),
)
def test_the_same_as_sorting_everything(
    N: int, D: int, Q: int, k: int, size: float, bytes_: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = draw(N, D, seed=seed) * np.float32(size) * 10 ** rng.uniform(-3, 0, (N, 1)).astype(np.float32)
    vectors[rng.random(N) < 0.1] = 0
    queries = draw(Q, D, seed=seed + 1)
    queries[0] *= np.float32(1 / size)
    scores, rows = top(queries, vectors, k, round_vectors(vectors) if bytes_ else None)
    truth, _ = plain(queries, vectors, k)
    assert rows.shape == (Q, min(k, N)) and scores.dtype == np.float32 and rows.dtype == np.int64
    assert all(len(set(found)) == len(found) for found in rows)
    of_found = np.take_along_axis(queries.astype(np.float64) @ vectors.T.astype(np.float64), rows, 1)
    reach = np.linalg.norm(queries, axis=1, keepdims=True) * np.linalg.norm(vectors, axis=1).max()
    assert (np.abs(of_found - truth) <= 1e-13 * reach).all()
    assert (np.abs(scores - truth) <= 6e-8 * np.abs(truth) + 1e-13 * reach).all()


@pytest.mark.parametrize("rounded", [False, True])
def test_all_ways_give_one_answer(rounded: bool) -> None:
    """Alone, in a batch, over several blocks, in 8 bits: to the last digit and row."""
    vectors, queries = draw(5000, 70), draw(70, 70, seed=1)
    how = round_vectors(vectors) if rounded else None
    scores, rows = top(queries, vectors, 12, how)
    assert (rows == plain(queries, vectors, 12)[1]).all()
    for few in (slice(0, 1), slice(3, 7), slice(60, 70)):
        alone = top(queries[few], vectors, 12)
        assert (alone[0] == scores[few]).all() and (alone[1] == rows[few]).all()


@pytest.mark.parametrize("Q", [1, 20])
@pytest.mark.parametrize("rounded", [False, True])
def test_equals_come_in_order(Q: int, rounded: bool) -> None:
    """More equals than there is room for finds, so that room is made in between."""
    vectors = np.repeat(draw(3, 16), 2000, axis=0)[np.random.default_rng(0).permutation(6000)]
    queries = draw(Q, 16, seed=1)
    _, rows = top(queries, vectors, 40, round_vectors(vectors) if rounded else None)
    scores = queries @ np.unique(vectors, axis=0).T
    for query, found in zip(scores, rows, strict=True):
        best = np.unique(vectors, axis=0)[query.argmax()]
        assert (found == np.flatnonzero((vectors == best).all(1))[:40]).all()


@pytest.mark.parametrize("rounded", [False, True])
def test_a_rival_nearer_than_rounding_is_found(rounded: bool) -> None:
    """Products that float32 cannot tell apart: the bound, not luck, has to let the right one in."""
    queries = np.abs(draw(9, 64))
    vectors = np.repeat(queries, 50, axis=0)
    vectors[:, 0] += np.tile(np.arange(50), 9).astype(np.float32) * 2e-7
    how = round_vectors(vectors) if rounded else None
    assert (top(queries, vectors, 30, how)[1] == plain(queries, vectors, 30)[1]).all()


@pytest.mark.parametrize("rounded", [False, True])
def test_rising_scores_are_no_trouble(rounded: bool) -> None:
    """Each vector better than all before, so that every one gets in for a while."""
    direction = draw(1, 32)
    vectors = (np.linspace(0.1, 1, 7000, dtype=np.float32)[:, None] * direction).astype(np.float32)
    _, rows = top(np.repeat(direction, 6, 0), vectors, 5, round_vectors(vectors) if rounded else None)
    assert (rows == np.arange(6999, 6994, -1)).all()


@given(st.integers(2, 600), st.booleans(), st.integers(0, 99))
def test_the_bound_holds(D: int, bytes_: bool, seed: int) -> None:
    """No product in smaller numbers is further from the true one than is allowed for, outliers or not."""
    rng = np.random.default_rng(seed)
    vectors = draw(60, D, seed=seed) * 10 ** rng.uniform(-15, 15, (60, 1)).astype(np.float32)
    vectors[::2] *= 10 ** rng.uniform(-4, 0, (30, D)).astype(np.float32)
    units = draw(5, D, seed=seed + 1).astype(np.float64)
    units[1] = np.abs(units[1])
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    blocks, bounds = nearest._products(units, vectors, round_vectors(vectors) if bytes_ else None)
    scale, wide, narrow = (bound.astype(np.float64) for bound in bounds)
    for first, raw, known in blocks:
        step, length, lost = (part.astype(np.float64)[:, None] for part in known)
        truth = vectors[first : first + len(raw)].astype(np.float64) @ units.T
        assert (np.abs(raw * step * scale - truth) <= length * wide + lost * narrow).all()


@pytest.mark.parametrize("Q", [1, 9])
def test_vectors_in_a_file_that_may_not_be_written(Q: int, tmp_path: Path) -> None:
    vectors, queries = draw(3000, 40), draw(Q, 40, seed=1)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    for stored in (mapped, mapped[1000:], np.asfortranarray(vectors)):
        truth = plain(queries, np.asarray(stored), 10)[1]
        for rounded in (None, round_vectors(stored)):
            assert (top(queries, stored, 10, rounded)[1] == truth).all()
    assert (np.load(tmp_path / "vectors.npy") == vectors).all()


@pytest.mark.parametrize("Q", [1, 9])
@pytest.mark.parametrize("loose", ["medium", "no oneDNN"])
def test_products_elsewhere(Q: int, loose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch may multiply float32 in bf16, the bound would not hold: it is not asked."""
    if loose == "medium":
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    else:
        monkeypatch.setattr(nearest, "can_pack", lambda line: False)
    vectors, queries = draw(3000, 40), draw(Q, 40, seed=1)
    assert (top(queries, vectors, 10)[1] == plain(queries, vectors, 10)[1]).all()


def test_threads_share_the_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "SHARED", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    vectors, queries = draw(1000, 20), draw(2, 20, seed=1)
    assert (top(queries, vectors, 10)[1] == plain(queries, vectors, 10)[1]).all()
    vectors[700, 3] = np.nan
    with pytest.raises(SadariError, match=r"vector 700 holds NaN or infinity: .* leave that row out"):
        top(queries, vectors, 10)


@pytest.mark.parametrize("Q", [1, 9])
def test_lengths_beyond_float32(Q: int) -> None:
    """Squares and products overflow in float32, not in double precision."""
    vectors = draw(3000, 20) * np.float32(1e30)
    queries = draw(Q, 20, seed=1)
    assert round_vectors(vectors) is None
    assert (top(queries, vectors, 10)[1] == plain(queries, vectors, 10)[1]).all()


def test_more_than_there_are_and_none() -> None:
    vectors, queries = draw(5, 8), draw(2, 8, seed=1)
    assert (top(queries, vectors, 9)[1] == plain(queries, vectors, 9)[1]).all()
    assert top(queries[:0], vectors, 3)[1].shape == (0, 3)
    assert top(queries, vectors[:0], 3)[1].shape == (2, 0)
    assert top(np.zeros((1, 8), np.float32), vectors, 3)[1].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("Q", [1, 9])
def test_what_is_no_number_is_named(Q: int, value: float) -> None:
    vectors, queries = draw(3000, 8), draw(Q, 8, seed=1)
    vectors[2077, 5] = value
    with pytest.raises(SadariError, match="vector 2077 holds NaN or infinity"):
        top(queries, vectors, 3)
    with pytest.raises(SadariError, match="vector 2077 holds NaN or infinity"):
        round_vectors(vectors)
    queries[0, 0] = value
    with pytest.raises(SadariError, match="query 0 holds NaN or infinity"):
        top(queries, vectors[:2000], 3)


@pytest.mark.parametrize(
    ("queries", "vectors", "k", "said"),
    [
        ((2, 8), np.zeros((5, 8)), 3, r"vectors of shape \(5, 8\) in float64: give a matrix"),
        ((2, 8), np.zeros(5, np.float32), 3, r"vectors of shape \(5,\) in float32: give a matrix"),
        ((2, 7), np.zeros((5, 8), np.float32), 3, r"queries of shape \(2, 7\) for vectors 8 wide"),
        ((8,), np.zeros((5, 8), np.float32), 3, r"queries of shape \(8,\) for vectors 8 wide"),
        ((2, 8), np.zeros((5, 8), np.float32), 0, "k 0: at least 1 vector is found; give k=10"),
    ],
)
def test_what_does_not_fit(queries: tuple[int, ...], vectors: Any, k: int, said: str) -> None:
    with pytest.raises(SadariError, match=said):
        top(draw(*queries), vectors, k)


def test_other_vectors_in_8_bits() -> None:
    with pytest.raises(SadariError, match=r"\(6, 8\) vectors in 8 bits for \(5, 8\) in float32"):
        top(draw(2, 8), draw(5, 8), 3, round_vectors(draw(6, 8)))


def test_processor_whose_bytes_overflow_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: torch.full((32, 32), 32767, dtype=torch.int32))
    has_exact_bytes.cache_clear()
    try:
        assert round_vectors(draw(50, 8)) is None
    finally:
        has_exact_bytes.cache_clear()
