"""The end of the report: what was said of the data and the fits, and how everything was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sadari.ladder import find_rung
from sadari.lang import Note, in_unit, unit_of
from sadari.price import TEXTS as PRICES
from sadari.report.html import facts, section, tag
from sadari.report.ladder import budget
from sadari.report.pictures import reading
from sadari.report.words import Words

ENCODED = {"text": "tokens", "images": "pictures", "captions": "pictures"}  # what data was made of


def notes(content: Mapping[str, Any], words: Words) -> str:
    """Warnings first, then where the data came from."""
    data = content["data"]
    said = _listed(content["notes"], words) or tag("p", words("no notes"))
    fits = [
        tag("h3", escape(rung["name"])) + _listed(rung["notes"], words)
        for rung in content["rungs"]
        if rung.get("notes")
    ]
    about = {
        words("source"): escape(data["path"]),
        words("licence"): escape(data["licence"]),
        words(ENCODED.get(words.kind, "columns")): _columns(data, words),
        words("classes"): escape(", ".join(data["classes"] or [])),
        words("fingerprint"): tag("code", escape(data["fingerprint"][:16])),
    }
    return section(words("data"), said, *fits, facts(about))


def _listed(said: Sequence[Mapping[str, Any]], words: Words) -> str:
    ordered = sorted(map(Note.from_json, said), key=lambda note: note.level != "warning")
    return (
        tag("ul", *(tag("li", escape(note.say(words.lang)), cls=note.level) for note in ordered), cls="notes")
        if said
        else ""
    )


def method(content: Mapping[str, Any], words: Words) -> str:
    """The rule, the metric, the intervals, the split, the prices, the rungs, and the command that repeats
    it.
    """
    metric, settings = content["metric"], content["settings"]
    split, versions = content["data"]["split"], content["versions"]
    judge = next((rung for rung in content["rungs"] if rung["outside"]), None)
    rows = {part: split[part] for part in ("train", "validation", "test")}
    tuned = words("tuned", count=settings["tune"]) if settings["tune"] else words("untuned")
    korean = words.lang == "ko"
    said = {
        words("rule"): words.either(metric["rule"]),
        words("score"): words.either(metric["definitions"]),
        words("shown beside"): words.either(metric["beside_definitions"]),
        words("signatures"): escape(
            "; ".join(f"{name} {said}" for name, said in metric.get("signatures", {}).items())
        ),
        words("intervals"): words("intervals said"),
        words("split"): words("split said", **rows, seed=settings["seed"]),
        words("training"): words(
            "training said", budget=budget(content, words), starts=settings["starts"], tuned=tuned
        ),
        **(
            {
                words("judge"): words(
                    "judge said", judge=words("judge name"), trees=judge["trees"], **judge.get("judged", {})
                )
            }
            if judge
            else {}
        ),
        words("prices said"): "<br>".join(
            f"{words(key)}: {escape(in_unit(pair[korean], unit_of(words.kind, words.task, price=True)))}"
            for key, pair in PRICES.items()
        ),
        words("rungs"): "<br>".join(
            _rung(rung["name"], content, korean) for rung in content["rungs"] if rung["run"]
        ),
        words("versions"): escape(", ".join(f"{name} {number}" for name, number in versions.items())),
    }
    again = tag("h3", words("again")) + tag("pre", escape(content["command"]))
    made = words("made by", version=versions["sadari"], seconds=content["seconds"])
    return section(words("method"), facts(said), again, tag("p", made, cls="soft"))


def _columns(data: Mapping[str, Any], words: Words) -> str:
    """How the data was encoded."""
    if words.kind == "images":
        return reading(data, words)
    if words.kind == "captions":
        about = {name: data[name] for name in ("tokenizer", "vocabulary", "length")}
        about |= {"pictures": reading(data, words), "columns": ", ".join(data["captions"])}
        return words("tokens said", **about)
    if words.kind != "text":
        return words("columns said", columns=data["columns"], features=data["features"])
    parts = data.get("tokens", {})
    return words(
        "tokens said",
        tokenizer=data["tokenizer"],
        vocabulary=data["vocabulary"],
        length=data.get("length", 0),
        **parts,
    )


def _rung(name: str, content: Mapping[str, Any], korean: bool) -> str:
    rung = find_rung(name, content["task"], content["kind"])
    paper = f" {tag('span', f'({escape(rung.paper)})', cls='soft')}" if rung.paper else ""
    return f"{tag('b', escape(name))}: {escape(rung.answers_ko if korean else rung.answers)}{paper}"
