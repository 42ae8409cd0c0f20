"""Charts as pictures and pages: SVG with a text alternative, PNG with Hangul, a page that loads nothing."""

from __future__ import annotations

import hashlib
import re
from html import escape
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import vl_convert

from sadari import files, fonts
from sadari.charts.drawings import draw
from sadari.charts.numbers import tables
from sadari.charts.theme import NARROW, WIDE
from sadari.errors import SadariError
from sadari.inspection.view import View
from sadari.lang import Lang, pick

SHARP = 2  # pixels of a PNG for each of the chart

TEXTS = {
    "see": ("What to see", "무엇을 볼까"),
    "numbers": ("The numbers", "숫자로 보기"),
}

STYLE = """
.look { margin: 0 0 2.5rem; max-width: 760px; }
:lang(ko) .look { word-break: keep-all; }
.look h2 { font-size: 1.25rem; line-height: 1.4; font-weight: 600; margin: 0 0 .4rem; overflow-wrap: anywhere;
} .look figcaption, .look .see { margin: .4rem 0; color: #4b5563; line-height: 1.6; overflow-wrap: anywhere; }
.look .see { color: #1f2937; border-left: 3px solid #0070c0; padding-left: .8rem; }
.look .wide svg, .look .narrow svg { width: 100%; height: auto; display: block; }
.look .narrow { display: none; }
.look details { margin-top: .6rem; }
.look summary { cursor: pointer; color: #175a91; padding: .3rem 0; }
.look .scroll { overflow-x: auto; max-height: 24rem; overflow-y: auto; }
.look table { border-collapse: collapse; font-size: .85rem; margin: .5rem 0; font-variant-numeric:
tabular-nums; } .look th, .look td { padding: .25rem .7rem; border-bottom: 1px solid #e7e9ed; text-align:
right; white-space: nowrap; } .look th { position: sticky; top: 0; background: #fff; font-weight: 600; }
@media (max-width: 560px) { .look .wide { display: none; } .look .narrow { display: block; } }
"""


def svg(chart: alt.TopLevelMixin) -> str:
    """A chart as SVG for a page: role="img", <title> and <desc> from the chart's own title and description.

    Ids are made its own, since several drawings share one page; numbers are cut to what a screen can show.
    """
    spec = _spec(chart)
    drawing = vl_convert.vegalite_to_svg(spec, show_warnings=False)
    mark = "c" + hashlib.sha256(drawing.encode()).hexdigest()[:10]
    drawing = re.sub(r'\bid="([^"]+)"', rf'id="{mark}-\1"', drawing)
    drawing = re.sub(r"url\(#([^)]+)\)", rf"url(#{mark}-\1)", drawing)
    drawing = re.sub(r'\b(d|transform|x|y|x1|x2|y1|y2|width|height)="([^"]*)"', _rounded, drawing)
    words = spec.get("description") or _joined(spec.get("title")) or spec.get("name") or ""
    title = _joined(spec.get("title")) or words.split(". ")[0]
    head = f'<title id="{mark}-title">{escape(title)}</title><desc id="{mark}-desc">{escape(words)}</desc>'
    opening = drawing.index(">") + 1  # of <svg ...>, with which the drawing begins
    named = f'<svg role="img" aria-labelledby="{mark}-title {mark}-desc"'
    return drawing[:opening].replace("<svg", named, 1) + head + drawing[opening:]


def _rounded(attribute: re.Match[str]) -> str:
    """An attribute of geometry with its numbers at two decimals: half of the bytes, and no pixel moves."""
    numbers = re.sub(r"-?\d+\.\d{3,}(?:e-?\d+)?", lambda found: f"{float(found[0]):.2f}", attribute[2])
    return f'{attribute[1]}="{numbers}"'


def png(chart: alt.TopLevelMixin, scale: float = SHARP) -> bytes:
    """A chart as PNG. Raises SadariError when it has Hangul and no font here does."""
    spec = _spec(chart)
    fonts.check(str(spec))
    return vl_convert.vegalite_to_png(spec, scale=scale, show_warnings=False)


def _spec(chart: alt.TopLevelMixin) -> dict[str, Any]:
    fonts.hangul_family()  # vl-convert measures text with the fonts that it knows by now
    return chart.to_dict(
        validate=False
    )  # our own specs; the tests validate them, which costs a third of the time


def _joined(title: Any) -> str:
    if isinstance(title, dict):
        title = title.get("text", "")
    return title if isinstance(title, str) else " ".join(title or [])


def figure(view: View, lang: Lang) -> str:
    """A view as a piece of a page: heading, picture for wide and narrow screens, what to see, the numbers.

    A page that holds it needs STYLE once.
    """
    wide, narrow = (svg(draw(view, lang, width, titled=False)) for width in (WIDE, NARROW))
    return (
        f'<figure class="look" id="{escape(view.name)}">\n'
        f"<h2>{escape(view.say('title', lang))}</h2>\n"
        f'<div class="wide">{wide}</div>\n<div class="narrow">{narrow}</div>\n'
        f"<figcaption>{escape(view.say('caption', lang))}</figcaption>\n"
        f'<p class="see"><strong>{pick(TEXTS, "see", lang)}.</strong> {escape(view.say("see", lang))}</p>\n'
        f"<details><summary>{pick(TEXTS, 'numbers', lang)}</summary>{tables(view, lang)}</details>\n"
        "</figure>"
    )


def page(view: View, lang: Lang) -> str:
    """A view as a page of its own: one file, no script, nothing to load."""
    return (
        f'<!doctype html>\n<html lang="{lang}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(view.say('title', lang))}</title>\n"
        "<style>\n:root { color-scheme: light; }\nbody { margin: 1.5rem auto; padding: 0 16px; max-width: "
        "760px; background: #fff; color: #1f2937; "
        f"font-family: {fonts.family().replace(chr(39), '')}; "
        f"}}\n{STYLE}</style>\n</head>\n<body>\n{figure(view, lang)}\n</body>\n</html>\n"
    )


def save(view: View, folder: Path, lang: Lang) -> list[Path]:
    """Write NAME.png, NAME.html and NAME.json into `folder`; their paths.

    Raises SadariError when the folder cannot be written, or when the picture needs Hangul and no font has it.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise SadariError(f"{folder} is a file; give a folder for the pictures with --out")
    paths = [folder / f"{view.name}.{kind}" for kind in ("png", "html", "json")]
    files.write_atomic(paths[0], png(draw(view, lang)))
    files.write_atomic(paths[1], page(view, lang))
    files.write_json(paths[2], view.to_json())
    return paths


def save_table(view: View, path: Path) -> Path:
    """Write the columns of a view's longest list of arrays that belong together as CSV, by their own names.

    Raises SadariError when the view has no columns, or the file cannot be written.
    """
    lengths = [len(values) for values in view.arrays.values() if values.ndim == 1]
    if not lengths:
        raise SadariError(f"the numbers of {view.name} are no columns; give a folder with --out")
    rows = max(lengths, key=lambda length: (lengths.count(length), length))
    columns = {name: values for name, values in view.arrays.items() if values.shape == (rows,)}
    files.write_atomic(path, pl.DataFrame(columns).write_csv())
    return path
