"""Sums over texts: every token is counted once, in the text that it stands in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sadari.scoring import document_scores


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=8), before=st.integers(0, 3))
def test_each_text_gets_its_own_tokens(lengths: list[int], before: int) -> None:
    """Also where texts are empty, or the first does not begin at the stream's beginning."""
    starts = before + np.concatenate([[0], np.cumsum(lengths)])
    nats = np.random.default_rng(0).random(starts[-1] + 2)
    scores = document_scores(nats, starts)
    expected = [nats[a:b].sum() for a, b in pairwise(starts)]
    np.testing.assert_allclose(scores[:, 0], expected, atol=1e-12)
    np.testing.assert_array_equal(scores[:, 1], lengths)
