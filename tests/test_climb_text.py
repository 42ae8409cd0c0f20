"""Whole climbs of texts, of a language and of a series: scores, prices, the judge, the report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sadari import pretrained
from sadari.climbing import Climb, climb
from sadari.errors import SadariError
from sadari.ladder import ladder_for
from sadari.runs import Run
from tests.models.hub import tiny_encoder

CLIMBS: dict[str, dict[str, Any]] = {
    "texts": {"data": "toy-topics", "budget": "20steps", "rungs": ladder_for("classify", "text").names},
    "language": {"data": "toy-grammar", "budget": "5steps"},
    "series": {"data": "iris", "kind": "series", "budget": "40steps", "rungs": ["rnn", "lstm"]},
}
LADDERS = {"texts": ("classify", "text"), "language": ("language", "text"), "series": ("classify", "series")}


@pytest.fixture(scope="module")
def climbs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Climb]]:
    """Each of the three, with a small random encoder where the fetched one would stand."""
    folder = tiny_encoder(tmp_path_factory.mktemp("encoder"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained, "cached", lambda name: folder)
        out = tmp_path_factory.mktemp("climbs")
        yield {name: climb(**wanted, starts=1, lang="ko", out=out / name) for name, wanted in CLIMBS.items()}


def _each_rung() -> list[Any]:
    found = []
    for name, ladder in LADDERS.items():
        names = ["prior", "rnn", "lstm"] if name == "series" else ladder_for(*ladder).names
        found += [
            pytest.param(name, rung, marks=pytest.mark.proof(rung, "climbed"), id=f"{name}-{rung}")
            for rung in names
        ]
    return found


@pytest.mark.parametrize(("name", "rung"), _each_rung())
def test_every_rung_is_climbed_with_score_interval_price_and_verdict(
    climbs: dict[str, Climb], name: str, rung: str
) -> None:
    made = climbs[name]
    entry = next(entry for entry in made.rungs if entry["name"] == rung)
    assert entry["low"] <= entry["score"] <= entry["high"] and entry["low"] < entry["high"]
    run = Run.load(made.path / entry["run"])
    prepared = run.data()
    assert prepared.table.fingerprint == made.content["data"]["fingerprint"]
    from sadari.climbing.scores import own_targets
    from sadari.metrics import METRICS

    metric = METRICS[made.content["metric"]["name"]]
    score = metric.score(run.answers(prepared.test), own_targets(prepared, prepared.test))
    assert entry["score"] == pytest.approx(score)
    assert entry["bytes"] > 1000 and entry["train_seconds"] > 0 and entry["microseconds_per_example"] > 0
    assert entry["parameters"] > 0 and entry["macs"] >= 0
    assert rung in made.report.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CLIMBS)
def test_the_judge_stands_outside_and_answers_the_same(climbs: dict[str, Climb], name: str) -> None:
    made = climbs[name]
    *rungs, judge = made.rungs
    assert judge["outside"] and judge["name"] == ladder_for(*LADDERS[name]).judge
    assert judge["low"] <= judge["score"] <= judge["high"]
    assert made.verdict["rung"] in [rung["name"] for rung in rungs]


def test_reports_speak_of_what_they_count(climbs: dict[str, Climb]) -> None:
    """A reader of texts is told of texts, in Korean too; one of a language of documents and tokens."""
    pages = {name: made.report.read_text(encoding="utf-8") for name, made in climbs.items()}
    for name in ("texts", "language"):
        assert "글" in pages[name] and "시험 행" not in pages[name] and "행당" not in pages[name]
    assert "토큰당" in pages["language"] and "크네저-나이" in pages["language"]
    assert "tf-idf" in pages["texts"] and "시험" in pages["series"]
    assert climbs["language"].content["metric"]["name"] == "bits-per-byte"
    assert "documents" in json.dumps(climbs["language"].content["metric"])


def test_the_same_climb_again_takes_up_what_is_there(climbs: dict[str, Climb]) -> None:
    made = climbs["language"]
    before = {path: path.stat().st_mtime_ns for path in made.path.rglob("weights.safetensors")}
    again = climb(**CLIMBS["language"], starts=1, lang="en", out=made.path)
    assert before == {path: path.stat().st_mtime_ns for path in made.path.rglob("weights.safetensors")}
    scores = [[rung["score"] for rung in one.rungs] for one in (made, again)]
    assert scores[0] == scores[1]
    with pytest.raises(SadariError, match=r"a climb with another reading .* another folder with --out"):
        climb(**CLIMBS["language"], starts=1, reading={"tokenizer": "words"}, out=made.path)


def test_rungs_of_weights_that_are_not_here_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path / "empty"))
    made = climb("toy-order", rungs=None, budget="2steps", starts=1, out=tmp_path / "climb")
    names = [rung["name"] for rung in made.rungs]
    assert "transformer" in names and "probe" not in names and "fine-tune" not in names
