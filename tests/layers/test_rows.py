"""Passes over rows: every row once, the same sums whatever the number of threads, repeatably."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from sadari.layers import rows
from sadari.layers.rows import over_rows, quiet_blas


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def visit(slices: Iterator[slice]) -> tuple[np.ndarray, ...]:
    """How many rows, and the sum of their numbers."""
    seen = [np.arange(part.start, part.stop) for part in slices]
    return np.array([sum(map(len, seen))]), np.array([sum(int(part.sum()) for part in seen)])


@pytest.mark.usefixtures("two_threads")
@given(count=st.integers(1, 5000), width=st.integers(1, 300), block=st.integers(1, 2000))
def test_every_row_is_visited_once(count: int, width: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "BLOCK", block)
        patch.setattr(rows, "SHARED", 1)
        size, total = over_rows(visit, count, width)
    assert size == count and total == count * (count - 1) // 2


@pytest.mark.usefixtures("two_threads")
def test_threads_change_sums_by_rounding_alone_and_repeat_exactly() -> None:
    values = np.random.default_rng(0).standard_normal((200_000, 3))

    def add(slices: Iterator[slice]) -> tuple[np.ndarray, ...]:
        total = np.zeros((3, 3))
        for part in slices:
            total += values[part].T @ values[part]
        return (total,)

    (first,), (again,) = over_rows(add, len(values), 3), over_rows(add, len(values), 3)
    torch.set_num_threads(1)
    (alone,) = over_rows(add, len(values), 3)
    assert np.array_equal(first, again)
    np.testing.assert_allclose(first, alone, rtol=1e-12)


def test_quiet_blas_holds_numpy_to_one_thread_and_gives_it_back() -> None:
    def threads() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = threads()
    with quiet_blas(10_000, 100):
        assert set(threads()) == {1}
    assert threads() == before
