"""The picture that the report opens with: the ladder itself, a plank a rung, each with its score and interval
beside it.

Laid out as HTML in per cent of the page, so that it is as readable at 360 pixels as on paper. Right is
better, whichever way the metric counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from sadari.budget import Budget
from sadari.report.html import section, tag
from sadari.report.words import Words, probability
from sadari.verdict import PROBABILITY

EDGE = 0.03  # of the track's width, left free at both ends


@dataclass(frozen=True)
class Track:
    """Scores as per cent of the track's width."""

    low: float
    high: float
    higher: bool

    def __call__(self, score: float) -> float:
        share = (score - self.low) / ((self.high - self.low) or 1.0)
        return 100 * (EDGE + (1 - 2 * EDGE) * (share if self.higher else 1 - share))


def ladder(content: Mapping[str, Any], words: Words) -> str:
    """Rungs from the top down to the ground, the judge under it, and what to make of the judge."""
    rungs, split = content["rungs"], content["data"]["split"]
    ends = [rung[key] for rung in rungs for key in ("low", "high")]
    track = Track(min(ends), max(ends), words.metric.higher)
    answer = next(rung for rung in rungs if rung["name"] == content["verdict"]["rung"])
    steps = {rung["name"]: _step(rung, answer, track, words) for rung in rungs}
    inside = [steps[rung["name"]] for rung in reversed(rungs) if not rung["outside"]]
    outside = [steps[rung["name"]] for rung in rungs if rung["outside"]]
    ends_said = tag("span", f"← {words('worse')}") + tag("span", f"{words('better')} →")
    lead = words(
        "ladder lead",
        train=split["train"],
        test=split["test"],
        budget=budget(content, words),
        metric=words.metric.call(words.lang),
    )
    return section(
        words("ladder"),
        tag("p", lead, cls="under"),
        tag("ol", *inside, cls="ladder"),
        tag("div", cls="earth"),
        tag("ul", *outside, cls="ladder below") if outside else "",
        tag(
            "div",
            tag("span"),
            tag("span", ends_said),
            tag("span", words.metric.call(words.lang)),
            cls="axis",
        ),
        _judge(content, words) if outside else "",
    )


def _step(rung: Mapping[str, Any], answer: Mapping[str, Any], track: Track, words: Words) -> str:
    left, right = sorted((track(rung["low"]), track(rung["high"])))
    marks = (
        tag("i", cls="guide", style=f"left:{track(answer['score']):.2f}%"),
        tag("i", cls="bar", style=f"left:{left:.2f}%;width:{right - left:.2f}%"),
        tag("i", cls="dot", style=f"left:{track(rung['score']):.2f}%"),
    )
    return tag(
        "li",
        tag("div", tag("b", escape(rung["name"]), pill(rung, answer["name"], words)), cls="plank"),
        tag("div", *marks, cls="track", aria_hidden="true"),  # the score beside it says the same in text
        tag("div", words.score(rung["score"]), tag("small", words.span(rung)), cls="score"),
        cls="step chosen" if rung is answer else "step outside" if rung["outside"] else "step",
    )


def pill(rung: Mapping[str, Any], answer: str, words: Words) -> str:
    """The mark of the rung that the verdict names."""
    return f" {tag('span', words('answer'), cls='pill')}" if rung["name"] == answer else ""


def budget(content: Mapping[str, Any], words: Words) -> str:
    """What each rung could spend, in words."""
    limit = Budget.parse(content["settings"]["budget"])
    if limit.steps:
        return words("steps budget", count=limit.steps)
    return words("seconds budget", count=limit.seconds)


def _judge(content: Mapping[str, Any], words: Words) -> str:
    """One sentence on what stands outside the ladder."""
    judge = next(rung for rung in content["rungs"] if rung["outside"])
    paired = judge["from_answer"]
    if paired["better"] >= PROBABILITY:
        key, gain = "judge better", words.gain(paired["gain"], unit=True).lstrip("+")
    elif paired["better"] <= 1 - PROBABILITY:
        key, gain = "judge worse", words.gain(-paired["gain"], unit=True).lstrip("+")
    else:
        key, gain = "judge equal", words.gain(paired["gain"], unit=True)
    said = words(
        key,
        judge=words("judge name"),
        rung=content["verdict"]["rung"],
        gain=gain,
        low=words.gain(paired["low"]),
        high=words.gain(paired["high"]),
        better=probability(paired["better"]),
    )
    return tag("p", said)
