"""Forcing: both losses by their definition, equal up to the first error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sadari.charts import draw, png, save
from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.forcing import course_of
from sadari.inspection.pairs import pairs_of, sources_of, targets_of
from sadari.runs import Run
from tests.inspection.small_pairs import small

RUNGS = ("rnn", "lstm", "lstm-attention", "transformer")


def course(run: Run) -> Any:
    pairs = pairs_of(run, "test", 60)
    return course_of(run, sources_of(run, pairs.sources), targets_of(run, pairs.references))


@pytest.mark.parametrize("rung", RUNGS)
def test_losses_are_those_of_the_definition(rung: str) -> None:
    """One pair at a time, the free prefix written out: argmax after argmax through `forward`."""
    run = small(rung)
    pairs = pairs_of(run, "test", 60)
    seen = course(run)
    for row in (0, 7, 31):
        source = sources_of(run, pairs.sources[row : row + 1])
        target = targets_of(run, pairs.references[row : row + 1])
        T = target.shape[1] - 1
        with torch.no_grad():
            logs = run.model(source, target[:, :-1]).log_softmax(-1)[0]
            own = target[:, :1]
            for t in range(T):
                free = run.model(source, own).log_softmax(-1)[0, -1]
                assert seen.teacher[row, t] == pytest.approx(-logs[t, target[0, t + 1]].item(), abs=1e-4)
                assert seen.free[row, t] == pytest.approx(-free[target[0, t + 1]].item(), abs=1e-4)
                assert seen.right_free[row, t] == (free.argmax() == target[0, t + 1])
                own = torch.cat([own, free.argmax().reshape(1, 1)], 1)
        assert seen.real[row].sum() == T and not seen.free[row, T:].any()


@pytest.mark.proof("lstm", "inside")
def test_both_are_one_until_the_first_error() -> None:
    seen = course(small("lstm"))
    same = seen.whole
    np.testing.assert_allclose(seen.free[same], seen.teacher[same], atol=1e-4)
    assert same[:, 0].all() and (same.sum(0)[1:] <= same.sum(0)[:-1]).all()
    behind = seen.real & ~same
    assert behind.any() and seen.free[behind].mean() > seen.teacher[behind].mean()


def test_the_view_tells_what_an_error_costs() -> None:
    run = small("lstm")
    view = look(run, "forcing", most=100)
    facts, P = view.facts, len(view.arrays["position"])
    assert facts["free"][0] > facts["teacher"][0] > 0
    assert facts["free_after"][0] > facts["teacher_after"][0]
    assert 0 < facts["erred"][0] <= 1
    for name in ("teacher", "free", "right_teacher", "right_free", "whole", "teacher_error", "free_error"):
        assert view.arrays[name].shape == (1, P) and np.isfinite(view.arrays[name]).all()
    assert view.arrays["pairs"].min() >= 20 and view.arrays["pairs"][0] == 100
    assert (view.arrays["whole"] >= 0).all() and view.arrays["whole"][0, 0] == 1
    np.testing.assert_allclose(view.arrays["free"][0, 0], view.arrays["teacher"][0, 0], atol=1e-5)
    assert "true words alone" in view.see[0] and "참 낱말만" in view.see[1]


def test_what_scheduled_sampling_changes_stands_beside() -> None:
    """Two runs of one rung keep their names apart; what was taught otherwise is said to be."""
    run = small("lstm")
    other = small("lstm", 30, "sampled", forcing="linear")
    view = look(run, "forcing", beside=(str(other.path),), most=60)
    assert view.facts["forcing"] == ["always", "linear"] and view.arrays["free"].shape[0] == 2
    assert view.facts["rungs"] == [f"lstm ({run.path.name})", "lstm (sampled)"]
    assert "lstm (sampled) (linear decay): " in view.see[0] and "감소" in view.see[1]
    alone = look(other, "forcing").see[0]
    assert "words of its own too (linear decay)" in alone and "never taught" not in alone
    assert "never taught" in view.see[0]
    assert png(draw(view, "en", 680))[:4] == b"\x89PNG"


def test_a_run_without_an_error_says_so() -> None:
    run = small("lstm-attention")
    seen = course(run)
    perfect = np.flatnonzero((seen.right_free | ~seen.real).all(1))
    pairs = pairs_of(run, "test", 60).chosen(perfect[:25])
    data = run.data()
    columns = {run.spec.source: pairs.sources, run.spec.target: pairs.references}
    frame = pl.DataFrame(columns)
    split = replace(data.split, test=np.arange(frame.height))
    prepared = replace(data, table=replace(data.table, frame=frame.lazy()), split=split)

    class Whole(Run):
        def data(self) -> Any:
            return prepared

    view = look(Whole(**vars(run)), "forcing")
    assert view.facts["erred"] == [0.0] and view.facts["free_after"] == [None]
    assert "None of its texts leaves the reference." in view.see[0]


def test_a_run_beside_has_the_same_tokens() -> None:
    run = small("lstm")
    with pytest.raises(
        SadariError, match=r"cuts texts into other tokens, .* give a run with the same tokeniz"
    ):
        look(run, "forcing", beside=(str(small("lookup").path),))
    with pytest.raises(SadariError, match="--most 0 leaves no pair to look at; give 1 or more"):
        look(run, "forcing", most=0)


@pytest.mark.parametrize("width", [680, 340])
def test_draws_solid_and_dashed_lines(width: int, tmp_path: Path) -> None:
    view = look(small("lstm-attention"), "forcing", most=60)
    chart = draw(view, "ko", width)
    assert png(chart)[:4] == b"\x89PNG" and "[6, 5]" in str(chart.to_dict())
    assert all(path.is_file() for path in save(view, tmp_path / "looks", "en"))
