"""Beam: the tree holds what the search looked at, no line crosses another, widths as measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sadari.bleu import bleu, statistics
from sadari.charts import draw, png, save
from sadari.charts.tree import places
from sadari.errors import SadariError
from sadari.inspection import look
from sadari.inspection.beam import PRUNED, STEPS, grown
from sadari.inspection.pairs import pairs_of, translated
from sadari.search import Searching, Step
from tests.inspection.small_pairs import Mirror, small


@pytest.mark.proof("lstm", "inside")
@pytest.mark.parametrize("beam", [1, 2, 4])
def test_the_tree_is_the_search(beam: int) -> None:
    """Each node's log-probability is the model's own for the path to it; the answer is the search's."""
    run = small("lstm")
    text = pairs_of(run, "test").sources[0]
    steps: list[Step] = []
    answer = translated(run, [text], Searching(beam=beam), steps)[0][0]
    tree = grown(steps, run.spec.start)
    path = tree.path([*answer.tokens, run.spec.end])
    assert [tree.token[node] for node in path[1:]] == [*answer.tokens, run.spec.end]
    assert tree.logp[path[-1]] == pytest.approx(answer.logp) and tree.fate[path[-1]] == "finished"
    source = torch.from_numpy(run.spec.encode_sources([text])[0].astype(np.int64))[None]
    for node in range(1, len(tree.parent)):
        way, at = [], node
        while at:
            way.append(tree.token[at])
            at = tree.parent[at]
        way = way[::-1]
        with torch.no_grad():
            logs = run.model(source, torch.tensor([[run.spec.start, *way[:-1]]])).log_softmax(-1)[0]
        total = sum(logs[t, token].item() for t, token in enumerate(way))
        assert tree.logp[node] == pytest.approx(total, abs=1e-3) and tree.step[node] == len(way)
    for step in range(1, max(tree.step) + 1):
        fates = [fate for fate, at in zip(tree.fate, tree.step, strict=True) if at == step]
        assert fates.count("kept") <= beam and fates.count("pruned") <= PRUNED
    assert tree.looked >= len(tree.parent) - 1


@pytest.mark.proof("lstm-attention", "inside")
def test_the_view_marks_answer_and_greedy_path() -> None:
    run = small("lstm")
    view = look(run, "beam", beam=3, widths=(1, 3), most=40)
    arrays, facts = view.arrays, view.facts
    for way, said in (("answer", facts["answer"]), ("greedy", facts["greedy"])):
        nodes = np.flatnonzero(arrays[way])
        assert nodes[0] == 0 and (np.diff(arrays["step"][nodes]) == 1).all()
        assert (arrays["parent"][nodes[1:]] == nodes[:-1]).all()
        written = arrays["token"][nodes[1:]].tolist()
        assert [*said.split(), "END"][: len(written)] == written
    ended = np.isfinite(arrays["score"])
    assert (ended == (arrays["fate"] == "finished")).all()
    best = arrays["score"][ended].max()
    assert best == pytest.approx(facts["score"]) and arrays["answer"][np.nanargmax(arrays["score"])]
    penalty = (5 + arrays["step"][ended]) / 6
    np.testing.assert_allclose(arrays["score"][ended], arrays["logp"][ended] / penalty)
    if facts["chosen"] == "differs":
        assert facts["answer"] != facts["greedy"] and "at token" in view.see[0]


def test_widths_are_searches_of_their_own() -> None:
    run = small("lstm")
    view = look(run, "beam", widths=(1, 4), most=30)
    pairs = pairs_of(run, "test", 30)
    for k, width in enumerate((1, 4)):
        found = [one[0] for one in translated(run, pairs.sources, Searching(beam=width))]
        counts = statistics([run.spec.decode(one.tokens) for one in found], pairs.references)
        assert view.arrays["bleu"][k] == pytest.approx(float(bleu(counts.sum(0))))
        assert view.arrays["mean_score"][k] == pytest.approx(np.mean([one.score for one in found]))
    assert view.arrays["mean_score"][1] >= view.arrays["mean_score"][0]
    assert (view.arrays["bleu_low"] <= view.arrays["bleu"]).all()


class Hasty(Mirror):
    """Would rather stop at once: END's odds are half at every step, so that wide beams find empty texts."""

    def step(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        logits, state = super().step(tokens, state)
        source, done = state
        for row, length in enumerate((source >= 0).sum(1).tolist()):
            if (
                0 < done < length
            ):  # the right token is a little likelier, but three of five times it is unsure
                logits[row, self.end] = -0.3
        return logits, state


def test_a_decline_at_large_widths_is_said_where_it_shows() -> None:
    """Without a length penalty a model that ends too easily writes less with more beams."""
    run = small("lstm")
    hasty = replace(run, model=Hasty(run.spec.outputs, run.spec.end))
    view = look(hasty, "beam", widths=(1, 2, 8), most=60, length_penalty=0.0)
    assert view.facts["declines"] and view.facts["best_width"] == 1 and view.facts["fall_low"] > 0
    assert (np.diff(view.arrays["length"]) <= 0).all() and view.arrays["length"][-1] < 0.8
    assert "what is likelier is not better" in view.see[0] and "떨어집니다" in view.see[1]
    assert "((5 + length) / 6)^0" in view.caption[0]
    calm = replace(run, model=Mirror(run.spec.outputs, run.spec.end))
    view = look(calm, "beam", widths=(1, 4), most=30)
    assert not view.facts["declines"] and "does not stand out from chance" in view.see[0]
    assert "On no pair of 4 to 12 tokens do greedy" in view.caption[0]
    assert "A beam of one is greedy search" in look(calm, "beam", beam=1, widths=(1, 2), most=9).caption[0]
    assert view.facts["chosen"] == "usual" and "the greedy text is the best" in view.title[0]


@given(st.data())
def test_no_two_lines_cross_and_no_two_nodes_touch(data: st.DataObject) -> None:
    step, parent, logp, row = [0], [-1], [0.0], [0]
    for t in range(1, data.draw(st.integers(1, 8))):
        count = data.draw(st.integers(1, 7))
        parents = data.draw(st.lists(st.sampled_from(row), min_size=count, max_size=count))
        row = list(range(len(step), len(step) + count))
        step += [t] * count
        parent += parents
        logp += data.draw(st.lists(st.floats(-9, 0), min_size=count, max_size=count))
    seen, up = np.array(step), np.array(parent)
    across = places(seen, up, np.array(logp))
    slots = np.bincount(seen).max()
    assert (across >= -1e-9).all() and (across <= slots - 1 + 1e-9).all()
    for t in range(1, seen.max() + 1):
        nodes = np.flatnonzero(seen == t)
        nodes = nodes[np.argsort(across[nodes])]
        assert (np.diff(across[nodes]) >= 1 - 1e-9).all()
        assert (np.diff(across[up[nodes]]) >= -1e-9).all()


def test_long_trees_are_cut_and_it_is_said() -> None:
    run = small("lstm")
    mirror = replace(run, model=Mirror(run.spec.outputs, run.spec.end))
    view = look(mirror, "beam", text=" ".join("1234567" * 5), widths=(1, 2), most=20)
    assert view.arrays["step"].max() == STEPS and "Steps that are not drawn: 12;" in view.caption[0]
    assert "As given." in view.caption[0]
    assert png(draw(view, "en", 340))[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 5}, "--beam 5: a tree of 1 to 4 beams can be read; give one of these"),
        ({"widths": (4,)}, "--widths 4: give two or more, each 1 or larger"),
        ({"widths": (0, 4)}, "--widths 0,4: give two or more, each 1 or larger"),
        ({"text": ""}, "the text has no words to translate; give some with --text"),
        ({"most": 0}, "--most 0 leaves no pair to look at; give 1 or more"),
    ],
)
def test_what_cannot_be_shown_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SadariError, match=message):
        look(small("lstm"), "beam", **options)


@pytest.mark.parametrize("width", [680, 340])
@pytest.mark.parametrize("beam", [1, 4])
def test_draws_every_width(beam: int, width: int, tmp_path: Path) -> None:
    view = look(small("lstm"), "beam", beam=beam, widths=(1, 2), most=20)
    chart = draw(view, "ko", width)
    assert png(chart)[:4] == b"\x89PNG"
    assert all(path.is_file() for path in save(view, tmp_path / "looks", "en"))
