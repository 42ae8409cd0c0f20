"""The two tables: what each rung scored, and what it costs. On a narrow screen each row becomes a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sadari.metrics import METRICS
from sadari.report.html import section, tag
from sadari.report.ladder import pill
from sadari.report.words import Words, count, duration, micro, probability, size

PRICES = {
    "parameters": count,
    "macs": count,
    "train_seconds": duration,
    "microseconds_per_example": micro,
    "microseconds_at_256": micro,
    "bytes": size,
    "peak_memory": size,
}


def scores(content: Mapping[str, Any], words: Words) -> str:
    """Score and interval, the number beside it, the paired gains over the rung below and the best."""
    metric, best = content["metric"], content["verdict"]["best"]
    decimals = 0 if metric["beside"] == "median-rank" else 3  # a place
    second = Words(words.lang, METRICS[metric["beside"]], decimals)
    heads = [
        words.metric.call(words.lang),
        second.metric.call(words.lang),
        words("gain below"),
        words("gain best", best=best),
    ]
    rows = {}
    for rung in reversed(content["rungs"]):
        rows[rung["name"]] = [
            words.score(rung["score"]) + tag("small", words.span(rung)),
            second.score(rung["beside"]),
            _paired(rung["from_below"], words),
            words("is best") if rung["name"] == best else _paired(rung["from_best"], words),
        ]
    return section(
        words("scores"), tag("p", words("scores lead"), cls="under"), table(heads, rows, content, words)
    )


def prices(content: Mapping[str, Any], words: Words) -> str:
    """One column a cost; `sadari.price.TEXTS` defines them, and the method section prints that."""
    heads = [words(key) for key in PRICES]
    rows = {
        rung["name"]: [show(rung[key]) for key, show in PRICES.items()] for rung in reversed(content["rungs"])
    }
    return section(
        words("price"), tag("p", words("price lead"), cls="under"), table(heads, rows, content, words)
    )


def _paired(against: Mapping[str, Any] | None, words: Words) -> str:
    if against is None:
        return ""
    span = words("interval", low=words.gain(against["low"]), high=words.gain(against["high"]))
    sure = words("probability", better=probability(against["better"]))
    return words.gain(against["gain"]) + tag("small", span) + tag("small", sure)


def table(
    heads: Sequence[str], rows: Mapping[str, Sequence[str]], content: Mapping[str, Any], words: Words
) -> str:
    """Rows by rung, top first. Each cell carries its column's name, for the cards of a narrow screen."""
    answer = content["verdict"]["rung"]
    head = tag("tr", *(tag("th", name, scope="col") for name in (words("rung"), *heads)))
    body = []
    for rung in reversed(content["rungs"]):
        cells = [
            tag("td", tag("span", cell), data_name=name, cls="" if cell else "none")
            for name, cell in zip(heads, rows[rung["name"]], strict=True)
        ]
        kind = "chosen" if rung["name"] == answer else "outside" if rung["outside"] else ""
        name = tag("th", escape(rung["name"]), pill(rung, answer, words), scope="row")
        body.append(tag("tr", name, *cells, cls=kind))
    return tag("table", tag("thead", head), tag("tbody", *body))
