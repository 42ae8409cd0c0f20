"""`report.html`: one self-contained page that a stranger understands in ten seconds and an engineer can check
in ten minutes.

It opens with the verdict (of pictures, with some of them), then the ladder as a picture, then scores, prices,
the question of more data, looks inside, what the data said, and how everything was measured. No script, no
network: a policy in the page forbids both. Every text that comes from outside, such as a column's name or a
path, is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sadari import files
from sadari.lang import Lang
from sadari.report.figures import price_picture, sizes_picture
from sadari.report.html import facts, figure, section, tag
from sadari.report.ladder import ladder
from sadari.report.method import method, notes
from sadari.report.pictures import mistakes, retrieval, strip, thumbnails
from sadari.report.style import CSS
from sadari.report.tables import prices, scores
from sadari.report.words import Words

if TYPE_CHECKING:
    from sadari.data.prepare import Prepared
    from sadari.runs import Run

REPORT = "report.html"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(
    folder: Path, content: Mapping[str, Any], runs: Sequence[Run], lang: Lang, prepared: Prepared
) -> Path:
    """Write a climb's report: `content` as climb.json holds it, `runs` bottom to top for the looks inside,
    `prepared` for the pictures that it shows."""
    from sadari.report.looks import looks  # draws charts: a second of imports

    path = folder / REPORT
    inside = looks(runs, content["verdict"]["rung"], lang)
    files.write_atomic(path, page(content, lang, inside, thumbnails(prepared, content)))
    return path


def page(
    content: Mapping[str, Any],
    lang: Lang,
    looks: Sequence[str] = (),
    drawn: Mapping[tuple[str, int], str] | None = None,
) -> str:
    """The report as HTML, given the looks inside as figures, and the pictures that `content` names."""
    words = Words.of(content, lang)
    body = (
        _opening(content, words),
        strip(content, words, drawn or {}),
        ladder(content, words),
        scores(content, words),
        prices(content, words),
        _pictures(content, words),
        _samples(content, words),
        retrieval(content, words, drawn or {}),
        mistakes(content, words, drawn or {}),
        section(words("looks"), tag("div", *looks, cls="pictures")) if looks else "",
        notes(content, words),
        method(content, words),
    )
    title = f"{words('title', name=content['data']['name'])}: {words.either(content['verdict']['headlines'])}"
    return (
        f'<!doctype html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n"
        f"<body>\n{tag('main', chr(10).join(filter(None, body)))}\n</body>\n</html>\n"
    )


def _opening(content: Mapping[str, Any], words: Words) -> str:
    """The verdict: what to do, in large letters, and why, in a sentence or two."""
    data, verdict = content["data"], content["verdict"]
    about = words("about", name=data["name"], target=data["target"], task=content["task"], rows=data["rows"])
    return tag(
        "header",
        tag("p", about, cls="kicker"),
        tag("h1", words.either(verdict["headlines"])),
        tag("p", words.either(verdict["reasons"]), cls="lead"),
    )


def _samples(content: Mapping[str, Any], words: Words) -> str:
    """What each rung writes where answers are texts; empty for other tasks."""
    samples = content.get("samples")
    if not samples:
        return ""
    if "sources" in samples:
        return _pairs(samples, words)
    beginning = tag("b", escape(samples["prompt"]))
    told = {words("truth"): beginning + escape(samples["truth"])}
    told |= {escape(rung): beginning + escape(text) for rung, text in samples["written"].items()}
    return section(words("samples"), tag("p", words("samples lead"), cls="under"), facts(told))


def _pairs(samples: Mapping[str, Any], words: Words) -> str:
    """A table a source: its target, and what each rung makes of it."""
    shown = []
    for i, source in enumerate(samples["sources"]):
        told = {words("reference"): escape(samples["targets"][i])}
        told |= {escape(rung): escape(texts[i]) for rung, texts in samples["written"].items()}
        shown.append(tag("h3", escape(source)) + facts(told))
    return section(words("pairs samples"), tag("p", words("pairs samples lead"), cls="under"), *shown)


def _pictures(content: Mapping[str, Any], words: Words) -> str:
    """Price against score, and score against data size with its answer."""
    drawn = [figure(words("price chart"), price_picture(content, words), words("price caption"))]
    sizes = content["sizes"]
    if sizes and len(sizes["curves"][0]["rows"]) > 1:
        lead = words.either(sizes["answer"]["reasons"]) if sizes["answer"] else ""
        caption = words("sizes caption", metric=words.metric.call(words.lang))
        drawn.append(figure(words("sizes chart"), sizes_picture(content, words), caption, lead))
    return tag("div", *drawn, cls="pictures")
