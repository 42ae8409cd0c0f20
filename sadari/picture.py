"""The picture of the ladders: hand-laid SVG, what can be climbed today solid, what is to come faint.

The picture carries its own paper, so it reads on light and on dark pages, and follows the reader's scheme
where the viewer knows it. Sizes are in SVG units; a README shows the picture at about 0.7 of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from sadari.errors import SadariError
from sadari.files import write_atomic
from sadari.lang import Lang, pick

if TYPE_CHECKING:
    from sadari.ladder import Ladder

WIDTH, HEIGHT = 1200, 676
STEP, THICK = 31, 25  # from one rung to the next; thickness of a rung
FOOT, LEAN = (
    86,
    0.028,
)  # half the width of a ladder at the ground, and how much of it each unit of height takes

# Where each ladder stands: the middle of its foot. The tall one takes the height of both rows. Those of a
# series have no place: they are a table's with two rungs more.
PLACES = {
    ("regress", "table"): (112, 411),
    ("classify", "table"): (307, 411),
    ("classify", "text"): (502, 411),
    ("translate", "pairs"): (697, 411),
    ("language", "text"): (892, 411),
    ("classify", "images"): (1087, 602),
    ("match", "captions"): (112, 602),
    ("converse", "dialogues"): (307, 602),
    ("edit", "edits"): (502, 602),
    ("magnify", "video"): (697, 602),
}
LEGEND = (892, 602)
FAMILY = "'Noto Sans KR',system-ui,'Segoe UI','Apple SD Gothic Neo','Malgun Gothic',sans-serif"

TEXTS = {
    "name": ("Sadari", "사다리"),
    "question": ("How far up do you need to climb?", "어디까지 올라가야 할까요?"),
    "here": ("there today", "지금 있는 단"),
    "to come": ("to come", "나올 단"),
    "rule": ("each rung answers a limit", "단마다 바로 아래 단의"),
    "rule 2": ("of the one below it", "한계에 답합니다"),
    "regress table": ("a number, from a table", "표에서 수 예측"),
    "classify table": ("a class, from a table", "표에서 범주 예측"),
    "classify text": ("a topic, from a text", "글에서 주제 예측"),
    "language": ("the word that comes next", "다음 낱말 예측"),
    "translate": ("one text into another", "글을 다른 글로"),
    "classify images": ("a class, from a picture", "그림에서 범주 예측"),
    "match": ("words that fit a picture", "그림과 말 잇기"),
    "converse": ("talk about a picture", "그림을 두고 대화"),
    "edit": ("change a picture by words", "말로 그림 고치기"),
    "magnify": ("motion too small to see", "작은 움직임 키우기"),
}

# What a rung can draw through the same points, in a box of 30 x 16 with y downwards.
GLYPHS = {
    "mean": "M1 9H29",
    "line": "M1 15L29 2",
    "shallow": "M1 14L14 5L29 12",
    "deep": "M1 13L7 4L13 10L18 3L23 11L29 5",
    "deep-skip": "M1 13C5 0 9 2 13 9S20 16 23 7S27 3 29 5",
    "prior": "M5 16V5M13 16V11M21 16V8M1 16H26",
    "logistic": "M1 14C12 14 14 2 29 2",
}

STYLE = """
.paper{fill:#fbf8f1}.ink{fill:#2b2620}.soft{fill:#756b5d}.faint{fill:#8d8476}
.rail{stroke:#b9812b;stroke-width:7;stroke-linecap:round}.plank{fill:#f3bd5b;stroke:#b9812b;stroke-width:1.5}
.word{fill:#33240a}.glyph{fill:none;stroke:#7a4a08;stroke-width:2.2;stroke-linecap:round;stroke-linejoin:round}
.ghost-rail{stroke:#d9d1c2;stroke-width:5;stroke-linecap:round}
.ghost{fill:#f4efe4;stroke:#cfc6b4;stroke-dasharray:3 3}
.ground,.ghost-ground{stroke:#8a9b6b;stroke-width:3;stroke-linecap:round}.ghost-ground{stroke:#d9d1c2}
@media(prefers-color-scheme:dark){.paper{fill:#191714}.ink{fill:#f1eadd}.soft{fill:#a99f8f}.faint{fill:#8d8475}
.rail{stroke:#a87424}.plank{fill:#dda447;stroke:#a87424}.word{fill:#2a1d06}.glyph{stroke:#6a3f04}
.ghost-rail{stroke:#37322b}.ghost{fill:#211e1a;stroke:#4a443a}.ground{stroke:#6d7d52}.ghost-ground{stroke:#37322b}}
"""


def draw(path: Path, ladders: Sequence[Ladder], lang: Lang = "en") -> Path:
    """Draw the ladders into an .svg or .png file; return its path. Raises SadariError for another suffix."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise SadariError(f"--picture {path} must end in .svg or .png")
    svg = picture(ladders, lang)
    if path.suffix.lower() == ".svg":
        write_atomic(path, svg)
    else:
        import vl_convert

        from sadari import fonts

        fonts.check(svg)
        fonts.register()
        write_atomic(path, vl_convert.svg_to_png(svg, scale=2))
    return path


def picture(ladders: Sequence[Ladder], lang: Lang = "en") -> str:
    """The ladders as one SVG document."""
    ladders = [ladder for ladder in ladders if ladder.kind != "series"]
    here = [f"{ladder.title}: {', '.join(r.name for r in ladder.here)}" for ladder in ladders if ladder.here]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-labelledby="t d" font-family="{FAMILY}" text-anchor="middle">',
        f'<title id="t">{_say("name", lang)}: {_say("question", lang)}</title>',
        f'<desc id="d">{_say("here", lang)}: {escape("; ".join(here))}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="18"/>',
        f'<g text-anchor="start">{_text(34, 66, 40, "ink", _say("name", lang), 700)}',
        f"{_text(34, 100, 21, 'soft', _say('question', lang))}</g>",
        *(_ladder(ladder, lang) for ladder in ladders),
        _legend(lang),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _ladder(ladder: Ladder, lang: Lang) -> str:
    """One ladder on its place: ground, rungs from the ground up, rails, and what it is asked for below."""
    x, ground = PLACES[ladder.task, ladder.kind]
    ghost, task, about = ("", "ink", "soft") if ladder.here else ("ghost-", "soft", "faint")
    tall = STEP * len(ladder.rungs) + 14
    parts = [f'<path class="{ghost}ground" d="M{x - FOOT} {ground + 4}H{x + FOOT}"/>']
    for number, rung in enumerate(ladder.rungs):
        middle = 10 + STEP * number + THICK / 2  # above the ground
        parts.append(_plank(x, ground - middle, FOOT - LEAN * middle, rung.name, rung.here))
    for side in (-FOOT, FOOT):
        top = x + side * (1 - LEAN * tall / FOOT)
        parts.append(f'<path class="{ghost}rail" d="M{x + side} {ground}L{top:.1f} {ground - tall}"/>')
    parts.append(_text(x, ground + 27, 17, task, ladder.task, 700))
    parts.append(_text(x, ground + 47, 14, about, _say(ladder.title, lang)))
    return "\n".join(parts)


def _plank(x: float, y: float, half: float, name: str, here: bool) -> str:
    """One rung with its name, round the middle (x, y); half is half its length."""
    box = f'x="{x - half:.1f}" y="{y - THICK / 2}" width="{2 * half:.1f}" height="{THICK}" rx="5"'
    if not here:
        return f'<rect class="ghost" {box}/>{_text(x, y + 5, 14.5, "faint", escape(name))}'
    if name not in GLYPHS:
        return f'<rect class="plank" {box}/>{_text(x, y + 5.5, 16, "word", escape(name), 600)}'
    curve = f'<path class="glyph" transform="translate({x - 66} {y - 8})" d="{GLYPHS[name]}"/>'
    return f'<rect class="plank" {box}/>{curve}{_text(x + 17, y + 5.5, 16, "word", escape(name), 600)}'


def _legend(lang: Lang) -> str:
    """What solid and faint mean, and the rule of the ladder."""
    x, ground = LEGEND
    parts = [
        _plank(x, ground - 22.5 - STEP, FOOT - 7, _say("here", lang), True),
        _plank(x, ground - 22.5, FOOT - 7, _say("to come", lang), False),
        _text(x, ground + 27, 14, "soft", _say("rule", lang)),
        _text(x, ground + 47, 14, "soft", _say("rule 2", lang)),
    ]
    return "\n".join(parts)


def _text(x: float, y: float, size: float, kind: str, words: str, weight: int = 400) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" class="{kind}">{words}</text>'


def _say(key: str, lang: Lang) -> str:
    return escape(pick(TEXTS, key, lang))
