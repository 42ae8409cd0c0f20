"""Scores by length: groups that have enough pairs, corpus scores of each, runs side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sadari.bleu import bleu, chrf, statistics
from sadari.charts import draw, png, save
from sadari.data.toy_pairs import reverse
from sadari.errors import SadariError
from sadari.fitting import fit
from sadari.inspection import look
from sadari.inspection.bottleneck import ENOUGH, grouped, lengths_of
from sadari.inspection.pairs import names_of, pairs_of, translated
from sadari.report.looks import looks
from sadari.search import Searching
from tests.inspection.small_pairs import Mirror, small


@given(st.lists(st.integers(0, 400), min_size=2 * ENOUGH, max_size=300), st.integers(2, 9))
def test_groups_cover_all_lengths_in_order_and_have_enough(lengths: list[int], bins: int) -> None:
    seen = np.array(lengths)
    try:
        group, names = grouped(seen, bins)
    except SadariError as error:
        assert "all about equally long" in str(error)
        return
    counts = np.bincount(group)
    assert len(counts) == len(names) <= bins and (counts >= ENOUGH).all()
    order = np.argsort(seen, kind="stable")
    assert (np.diff(group[order]) >= 0).all()
    for k, name in enumerate(names):
        ends = [int(end) for end in name.split("–")]
        assert (ends[0], ends[-1]) == (seen[group == k].min(), seen[group == k].max())


def test_length_is_in_words_or_in_characters_where_there_are_none() -> None:
    assert lengths_of(["a b c", "a"])[0].tolist() == [3, 1]
    lengths, unit = lengths_of(["12+34", "5+6", "가나"])
    assert unit == "characters" and lengths.tolist() == [5, 3, 2]


@pytest.mark.proof("lookup", "inside")
@pytest.mark.proof("rnn", "inside")
@pytest.mark.proof("lstm", "inside")
def test_rungs_stand_side_by_side_with_their_corpus_scores() -> None:
    """BLEU and chrF of a group are those of the group's texts at once, and lie in their intervals."""
    runs = [small("lookup"), small("rnn"), small("lstm"), small("lstm-attention")]
    view = look(runs, "bottleneck", groups=2)
    assert view.facts["rungs"] == ["lookup", "rnn", "lstm", "lstm-attention"]
    pairs = pairs_of(runs[0], "test")
    group, names = grouped(lengths_of(pairs.sources)[0], 2)
    assert view.arrays["length"].tolist() == names and view.arrays["pairs"].sum() == len(pairs)
    for row, run in enumerate(runs[2:], start=2):
        found = [one[0].tokens for one in translated(run, pairs.sources, Searching())]
        counts = statistics([run.spec.decode(tokens) for tokens in found], pairs.references)
        for name, score in (("bleu", bleu), ("chrf", chrf)):
            expected = [float(score(counts[group == k].sum(0))) for k in range(len(names))]
            np.testing.assert_allclose(view.arrays[name][row], expected)
            assert (view.arrays[f"{name}_low"] <= view.arrays[name]).all()
            assert (view.arrays[f"{name}_high"] >= view.arrays[name]).all()
    assert np.isfinite(view.arrays["bleu"]).all() and view.facts["metric"] == "bleu"
    assert (view.arrays["bleu"][3] > view.arrays["bleu"][:3]).all()
    assert "one vector of 64 numbers" in view.see[0] and "rnn, lstm" in view.see[0]
    assert "700" in view.see[0] and "700쪽" in view.see[1]
    assert "lstm-attention" in view.title[0]


def test_where_references_are_too_short_for_bleu_chrf_speaks() -> None:
    view = look(small("lstm"), "bottleneck", groups=4)
    assert np.isnan(view.arrays["bleu"][0, 0]) and np.isfinite(view.arrays["bleu"][0, -1])
    assert view.facts["metric"] == "chrf" and "chrF" in view.title[0] and "BLEU" not in view.see[0]
    assert np.isfinite(view.arrays["chrf"]).all() and png(draw(view, "en", 680))[:4] == b"\x89PNG"


def test_a_run_that_loses_nothing_is_told_alone() -> None:
    run = small("lstm-attention")
    mirror = replace(run, model=Mirror(run.spec.outputs, run.spec.end))
    view = look(mirror, "bottleneck", groups=2)
    assert view.arrays["bleu"].min() == pytest.approx(100) and view.facts["loss"] == pytest.approx([0])
    assert "Nothing here has to pass through one vector." in view.see[0]


def test_few_pairs_of_each_group_are_translated() -> None:
    view = look(small("lookup"), "bottleneck", groups=2, most=50)
    assert view.arrays["pairs"].tolist() == [25, 25]


def test_runs_beside_are_of_the_same_pairs_and_split(tmp_path: Path) -> None:
    run, other = small("lookup"), small("lstm")
    view = look(run, "bottleneck", beside=(str(other.path),))
    assert view.facts["rungs"] == ["lookup", "lstm"]
    again = replace(other, path=Path("elsewhere"))
    assert names_of([other, again, run]) == [f"lstm ({other.path.name})", "lstm (elsewhere)", "lookup"]
    with pytest.raises(SadariError, match="no run at nowhere"):
        look(run, "bottleneck", beside=("nowhere",))
    sums = fit("lookup", reverse(300, seed=5), out=tmp_path / "other", task="translate", kind="pairs")
    with pytest.raises(
        SadariError, match=r"was fitted to other pairs or another split .* same data and seed"
    ):
        look(run, "bottleneck", beside=(str(sums.path),))
    with pytest.raises(SadariError, match="were fitted to different pairs; give runs of one climb"):
        look([run, sums], "bottleneck")
    line = fit("line", "diabetes", out=tmp_path / "line")
    with pytest.raises(SadariError, match="is a line of task regress; give a run of translate"):
        look(run, "bottleneck", beside=(str(line.path),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 1}, "--groups 1 makes no curve; give 2 or more"),
        ({"part": "none"}, "part 'none' is no part of the split"),
    ],
)
def test_what_cannot_be_shown_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        look(small("lookup"), "bottleneck", **options)
    with pytest.raises(SadariError, match="10 pairs make no two groups of 20, so no curve"):
        grouped(np.arange(10), 2)


def test_a_report_shows_all_rungs_by_length_and_one_from_inside() -> None:
    """Where the answer does not attend, the highest rung that does is opened."""
    figures = looks([small("lookup"), small("lstm"), small("lstm-attention")], "lstm", "ko")
    assert len(figures) == 4
    assert "lookup" in figures[0] and "lstm-attention" in figures[0]
    assert "lstm-attention" in figures[1] and "뒤에서 앞으로" in figures[1]
    assert all("lstm-attention" not in figure for figure in figures[2:])


@pytest.mark.parametrize("width", [680, 340])
def test_draws_a_line_a_run(width: int, tmp_path: Path) -> None:
    view = look([small("lstm"), small("lstm-attention")], "bottleneck")
    chart = draw(view, "ko", width)
    assert png(chart)[:4] == b"\x89PNG"
    shown = str(chart.to_dict())
    assert all(f"'{name}'" in shown for name in view.facts["rungs"])
    assert all(path.is_file() for path in save(view, tmp_path / "looks", "en"))
