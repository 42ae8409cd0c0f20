"""The report from a climb.json made by hand: complete in both languages, one file, and deaf to hostile
text.
"""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from sadari.ladder import ladder_for
from sadari.lang import Note
from sadari.metrics import METRICS
from sadari.price import TEXTS as PRICES
from sadari.report import page
from sadari.report.figures import HEIGHT, _apart
from sadari.report.words import TEXTS, Words, count, duration, micro, probability, size, ticks

EVIL = "<script>alert('x')</script>&\"${7*7}"
VOID = {"meta", "br", "path", "circle"}


def _pair(text: str) -> dict[str, str]:
    return {"en": text, "ko": text}


def content(task: str = "regress", metric: str = "rmse", **changed: Any) -> dict[str, Any]:
    """A climb.json as the climb writes it."""
    names = [rung.name for rung in ladder_for(task).here]
    rungs: list[dict[str, Any]] = []
    for number, name in enumerate([*names, "gradient boosting"]):
        score = 0.5 + 0.08 * number if METRICS[metric].higher else 70.0 - 4 * number
        width = 0.03 if METRICS[metric].higher else 6.0
        against = {"rung": "line", "gain": 1.5, "low": -0.5, "high": 3.5, "error": 1.0, "better": 0.93}
        rungs.append(
            {
                "name": name,
                "score": score,
                "low": score - width,
                "high": score + width,
                "validation": score,
                "beside": 0.4,
                "from_below": against if number else None,
                "from_best": against,
                "parameters": 10**number,
                "macs": 9**number,
                "train_seconds": 0.02 * number,
                "microseconds_per_example": 3.0 * 2**number,
                "microseconds_at_256": 0.03 * 2**number,
                "bytes": 4000 * 3**number,
                "peak_memory": None if number == 1 else 10**6,
                "outside": False,
                "run": name,
                "notes": [],
            }
        )
    rungs[-1] |= {"outside": True, "run": None, "trees": 25, "from_answer": against}
    return {
        "task": task,
        "kind": "table",
        "data": {
            "path": "/data/table.csv",
            "name": "table",
            "fingerprint": "ab" * 32,
            "licence": "",
            "rows": 500,
            "columns": 7,
            "features": 12,
            "target": "price",
            "classes": None if task == "regress" else ["no", "yes"],
            "split": {"train": 300, "validation": 100, "test": 100, "fingerprint": "cd"},
        },
        "metric": {
            "name": metric,
            "better": "lower",
            "definition": "d",
            "definitions": _pair("the metric defined"),
            "beside": "r2" if task == "regress" else "log-loss",
            "beside_definitions": _pair("the other defined"),
            "rule": _pair("the rule itself"),
        },
        "rungs": rungs,
        "verdict": {
            "rung": names[1],
            "action": "climb",
            "best": names[2],
            "reason": "",
            "more_rows": None,
            "headlines": _pair("Climb to there"),
            "reasons": _pair("Because it gains."),
        },
        "sizes": {
            "curves": [
                {
                    "rung": name,
                    "rows": [37, 75, 150, 300],
                    "score": [0.9, 0.8, 0.7, 0.6],
                    "low": [0.8] * 4,
                    "high": [1.0] * 4,
                }
                for name in names[1:3]
            ],
            "answer": {"answer": "data", "reasons": _pair("More data rather than a taller rung.")},
        },
        "notes": [
            Note("a constant column", "상수 열").to_json(),
            Note("it leaks", "정답이 샌다", "warning").to_json(),
        ],
        "settings": {"budget": "8s", "starts": 3, "seed": 0, "tune": 0},
        "command": "sadari climb table.csv --target price",
        "seconds": 12.3,
        "versions": {"python": "3.11", "sadari": "0.1"},
        **changed,
    }


class _Reader(HTMLParser):
    """Checks that tags nest, and keeps text, tags and attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


@pytest.mark.parametrize("lang", ["en", "ko"])
@pytest.mark.parametrize(
    "task, metric",
    [("regress", "rmse"), ("regress", "r2"), ("classify", "accuracy"), ("classify", "log-loss")],
)
def test_the_page_is_whole(lang: str, task: str, metric: str) -> None:
    made = content(task, metric)
    if metric == "r2":
        made["metric"]["beside"] = "rmse"
    read = _Reader(page(made, lang))  # type: ignore[arg-type]
    assert not read.open  # every tag is closed
    assert "{" not in read.text  # every place in a sentence is filled
    assert ("lang", lang) in read.attributes
    for said in (
        "Climb to there",
        "Because it gains.",
        "the rule itself",
        "the metric defined",
        "sadari climb table.csv",
    ):
        assert said in read.text
    for rung in ladder_for(task).here:
        assert read.text.count(rung.name) >= 5  # ladder, two tables, price picture, meaning of the rungs
        assert (rung.answers_ko if lang == "ko" else rung.answers) in read.text
    for english, korean in PRICES.values():
        assert (korean if lang == "ko" else english) in read.text


def test_it_opens_with_the_verdict_then_the_ladder_then_the_tables() -> None:
    source = page(content(), "en")
    order = [
        source.index(part)
        for part in ("<h1>", 'class="lead"', '<ol class="ladder">', "<table>", 'class="pictures"', "<pre>")
    ]
    assert order == sorted(order)
    assert re.search(r"<h1>Climb to there</h1>", source)


def test_one_file_without_script_or_network() -> None:
    read = _Reader(page(content(), "en"))
    assert not {"script", "link", "iframe", "object", "img", "form", "base"} & set(read.tags)
    assert not [
        name
        for name, _ in read.attributes
        if name.startswith("on") or name in ("src", "href", "srcset", "action")
    ]
    source = page(content(), "en")
    assert "url(" not in source and "@import" not in source
    assert "default-src &#x27;none&#x27;" in source


def _poisoned(value: Any, path: str = "") -> Any:
    """Every text that comes from a user's data, replaced by a hostile one."""
    data = copy.deepcopy(value)
    for key in ("path", "name", "target", "licence", "fingerprint"):
        data["data"][key] = EVIL + key
    data["data"]["classes"] = [EVIL + "class", "b"]
    data["notes"] = [Note(EVIL + "note", EVIL + "note", "warning", {"column": EVIL}).to_json()]
    data["rungs"][1]["notes"] = [Note(EVIL + "fit", EVIL + "fit").to_json()]
    data["command"] = EVIL + "command"
    data["verdict"]["headlines"] = _pair(EVIL + "headline")
    data["verdict"]["reasons"] = _pair(EVIL + "reason")
    data["sizes"]["answer"]["reasons"] = _pair(EVIL + "sizes")
    return data


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_hostile_text_is_text(lang: str) -> None:
    source = page(_poisoned(content("classify", "accuracy")), lang)  # type: ignore[arg-type]
    read = _Reader(source)
    assert "<script" not in source and "script" not in read.tags and not read.open
    for part in (
        "name",
        "target",
        "licence",
        "class",
        "note",
        "fit",
        "command",
        "headline",
        "reason",
        "sizes",
    ):
        assert EVIL + part in read.text  # shown as it was typed, to the letter


def test_pictures_say_their_numbers_in_words() -> None:
    read = _Reader(page(content(), "en"))
    spoken = [value or "" for name, value in read.attributes if name == "aria-label"]
    assert len(spoken) == 2
    assert "line: 6 µs, 66" in spoken[0] and "gradient boosting" in spoken[0]
    assert "37 0.9" in spoken[1] and "300 0.6" in spoken[1]
    assert read.attributes.count(("role", "img")) == 2


def test_warnings_come_first_and_nothing_is_said_of_nothing() -> None:
    assert page(content(), "en").index("it leaks") < page(content(), "en").index("a constant column")
    assert "Nothing stood out." in page(content(notes=[]), "en")


def test_a_climb_without_sizes_has_no_such_picture() -> None:
    source = page(content(sizes=None), "en")
    assert TEXTS["sizes chart"][0] not in source and not _Reader(source).open


@pytest.mark.parametrize(
    "better, said",
    [(0.99, "does better than line by"), (0.5, "cannot be told apart"), (0.01, "does worse than line by")],
)
def test_the_judge_is_weighed_in_a_sentence(better: float, said: str) -> None:
    made = content()
    made["rungs"][-1]["from_answer"]["better"] = better
    assert said in _Reader(page(made, "en")).text


def test_right_is_better_whichever_way_the_metric_counts() -> None:
    def places(metric: str) -> list[float]:
        made = content("regress", metric)
        made["metric"]["beside"] = "r2" if metric == "rmse" else "rmse"
        dots = re.findall(r'class="dot" style="left:([\d.]+)%', page(made, "en"))
        # top rung first; each rung of the fixture is better than the one below
        return [float(place) for place in dots[:5]]

    for metric in ("rmse", "r2"):
        assert places(metric) == sorted(places(metric), reverse=True)


def test_decimals_follow_the_narrowest_interval() -> None:
    made = content()
    assert Words.of(made, "en").score(57.41059) == "57.4"
    for rung in made["rungs"]:
        rung["low"], rung["high"] = rung["score"] - 0.004, rung["score"] + 0.004
    assert Words.of(made, "en").score(57.41059) == "57.4106"
    for rung in made["rungs"]:
        rung["low"], rung["high"] = rung["score"] - 4e4, rung["score"] + 4e4
    assert Words.of(made, "en").score(1234567.8) == "1,234,568"
    for rung in made["rungs"]:
        rung["low"] = rung["high"] = rung["score"]
    assert Words.of(made, "en").score(0.25) == "0.250"


def test_numbers_are_written_for_people() -> None:
    words = Words.of(content("classify", "accuracy"), "en")
    assert words.score(0.9737) == "97.4%" and words.gain(-0.0213, unit=True) == "−2.1 points"
    assert Words.of(content("classify", "accuracy"), "ko").gain(0.0213, unit=True) == "+2.1%p"
    assert Words.of(content(), "en").score(-0.0001) == "0.0"
    assert [probability(p) for p in (0.999, 0.5, 0.001)] == [">0.99", "0.50", "<0.01"]
    assert [count(n) for n in (11, 31511, 2_500_000, None)] == ["11", "31,511", "2.5 M", "–"]
    assert [size(n) for n in (4054, 2_500_000, None)] == ["4.1 kB", "2.5 MB", "–"]
    assert [duration(s) for s in (0.0113, 3.74)] == ["11.3 ms", "3.7 s"]
    assert [micro(t) for t in (0.0123, 0.324, 5.459, 153.5)] == ["12 ns", "324 ns", "5.46 µs", "154 µs"]


def test_ticks_are_round_and_inside() -> None:
    assert ticks(52.3, 71.8) == [55, 60, 65, 70]
    assert ticks(0.0, 1.0) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert all(0.0311 <= tick <= 0.0347 for tick in ticks(0.0311, 0.0347))


def test_labels_do_not_touch_nor_leave_the_picture() -> None:
    for heights in ([100.0, 101.0, 102.0, 103.0], [225.0, 226.0, 227.0], [10.0], []):
        placed = sorted(_apart(heights))
        assert all(b - a >= 14.99 for a, b in pairwise(placed))
        assert all(0 < y <= HEIGHT - 40 for y in placed)


def test_every_sentence_is_there_twice_with_the_same_places() -> None:
    for english, korean in TEXTS.values():
        assert english and korean
        assert set(re.findall(r"{(\w+)", english)) == set(re.findall(r"{(\w+)", korean))


def test_the_fixture_is_json() -> None:
    assert json.loads(json.dumps(content())) == content()
