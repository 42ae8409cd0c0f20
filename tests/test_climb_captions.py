"""The climb of pictures with captions: recalls by way and language, what captions find, the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from sadari.climbing import Climb, climb
from sadari.climbing.retrieved import queries
from sadari.metrics.match import summary
from sadari.models.eye import SMALLEST
from sadari.models.locked import Locked, LockedConfig
from sadari.report import page
from sadari.runs import Run
from tests.drawings import WORDS, captioned
from tests.models.test_encoder import plant

RUNGS = ("bag-of-words", "clip", "siglip", "locked")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence encoder that knows the words of the captions."""
    draw = torch.Generator().manual_seed(0)
    vectors = {word: torch.randn(16, generator=draw) for word in WORDS}
    return plant(tmp_path_factory.mktemp("hub") / "reader", vectors)


@pytest.fixture(scope="module")
def climbed(reader: Path, tmp_path_factory: pytest.TempPathFactory) -> Climb:
    """All rungs, with an eye that has seen nothing and a reader from here in place of the fetched ones."""
    out = tmp_path_factory.mktemp("climb")
    data = captioned(out / "drawings")

    @dataclass(frozen=True)
    class Here(LockedConfig):
        weights: str = ""
        backbone: str = SMALLEST
        texts: str = str(reader)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Locked, "Config", Here)
        return climb(str(data), rungs=RUNGS, budget="120steps", out=out / "climb")


@pytest.mark.parametrize(
    "rung", [pytest.param(rung, marks=pytest.mark.proof(rung, "climbed")) for rung in RUNGS]
)
def test_every_rung_is_climbed_with_score_interval_price_and_verdict(climbed: Climb, rung: str) -> None:
    entry = next(entry for entry in climbed.rungs if entry["name"] == rung)
    assert entry["low"] <= entry["score"] <= entry["high"] and entry["low"] < entry["high"]
    assert entry["bytes"] > 1000 and entry["train_seconds"] > 0 and entry["microseconds_per_example"] > 0
    assert entry["parameters"] > 0 and entry["macs"] > 0
    assert climbed.content["verdict"]["rung"] in RUNGS


def test_recalls_are_those_of_the_runs(climbed: Climb) -> None:
    told = climbed.content["retrieval"]["rungs"]
    assert list(told) == list(RUNGS)
    for entry in climbed.content["rungs"]:
        run = Run.load(climbed.path / entry["run"])
        found = run.answers(run.data().test)
        assert told[run.rung][""] == pytest.approx(summary(found))
        assert entry["score"] == pytest.approx(told[run.rung][""]["recall@1"])
        assert set(told[run.rung]) == {"", "en", "ko"}
    assert max(each[""]["recall@10"] for each in told.values()) > 0.5, "somebody learnt something"


def test_queries_are_spread_over_pictures_and_languages(climbed: Climb) -> None:
    run = Run.load(climbed.path / "bag-of-words")
    part = run.data().test
    rows = queries(part)
    assert len(rows) == 10 and part.languages[rows].tolist() == [0, 1] * 5
    asked = climbed.content["retrieval"]["queries"]
    assert [query["text"] for query in asked] == part.texts[rows].to_list()
    best = Run.load(climbed.path / climbed.content["verdict"]["rung"])
    image, text = best.vectors(part)
    for query, row in zip(asked, rows, strict=True):
        nearest = np.argsort(-(image @ text[row]), kind="stable")[:6]
        assert [one["row"] for one in query["found"]] == nearest.tolist()
        for one in query["found"]:
            words = part.texts[part.starts[one["row"]] : part.starts[one["row"] + 1]].to_list()
            assert one["right"] == (query["text"] in words)


def test_the_report_shows_them_in_both_languages(climbed: Climb) -> None:
    shown = (climbed.path / "report.html").read_text(encoding="utf-8")
    assert 'class="pixels right"' in shown and "data:image/png;base64," in shown
    for lang, words in (("en", "Captions in Korean"), ("ko", "한국어 설명")):
        told = page(climbed.content, lang)  # type: ignore[arg-type]
        assert words in told and "None" not in told
        assert told.count("<h3>") >= 4
