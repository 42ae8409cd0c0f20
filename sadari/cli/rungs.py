"""`sadari rungs`: the ladders, what each rung is for, and one rung in full. Nothing here needs torch."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from sadari.cli import say
from sadari.cli.known import settings_of
from sadari.cli.options import LangOption, switch
from sadari.describe import Field, docstring_of
from sadari.errors import SadariError
from sadari.ladder import LADDERS, Ladder, Rung
from sadari.lang import Lang, default_lang, pick

if TYPE_CHECKING:
    from rich.table import Table

TEXTS = {
    "legend": (
        "● there   ○ to come   From the ground up: each rung answers a limit of the one listed before it.",
        "● 있음   ○ 나올 것   바닥에서 위로: 단마다 바로 앞줄에 있는 단의 한계에 답합니다.",
    ),
    "judge": ("judged from outside by {judge}", "바깥에서 견주는 모델: {judge}"),
    "more": (
        "sadari rungs NAME shows one in full; sadari climb DATA climbs.",
        "sadari rungs NAME은 단 하나를 자세히 보여 주고, sadari climb DATA는 사다리를 오릅니다.",
    ),
    "paper": ("paper", "논문"),
    "settings": ("settings", "설정"),
    "no settings": ("no settings", "설정 없음"),
    "to come": ("not there yet", "아직 없음"),
    "try": ("try: sadari fit {name} {data}", "해 보기: sadari fit {name} {data}"),
}
_TRY = {  # data that is there at once; of captions, what `sadari data get` brings
    ("regress", "table"): "diabetes",
    ("classify", "table"): "breast-cancer",
    ("classify", "series"): "mnist1d --kind series",
    ("regress", "series"): "mnist1d --kind series --task regress",
    ("classify", "text"): "toy-order",
    ("language", "text"): "toy-grammar",
    ("translate", "pairs"): "toy-reverse",
    ("classify", "images"): "digits-images",
    ("match", "captions"): "emoji-captions",
}


def rungs(
    name: Annotated[str | None, Parameter(help="One rung, to see it in full with its settings.")] = None,
    /,
    *,
    as_json: Annotated[bool, switch("--json", help="Print JSON, for programs.")] = False,
    picture: Annotated[
        Path | None, Parameter(help="Draw the ladders into this file, .svg or .png, instead.")
    ] = None,
    lang: LangOption = None,
) -> None:
    """Show every ladder, and why each rung was invented."""
    lang = lang or default_lang()
    found = _find(name) if name else [(ladder, rung) for ladder in LADDERS for rung in ladder.rungs]
    if picture is not None:
        from sadari.picture import draw

        say.result(draw(picture, LADDERS, lang))
    elif as_json:
        print(_as_json(found))
    elif name:
        _show_one(found, lang)
    else:
        _show_all(lang)


def _find(name: str) -> list[tuple[Ladder, Rung]]:
    """Every ladder on which a rung of that name stands."""
    found = [(ladder, rung) for ladder in LADDERS for rung in ladder.rungs if rung.name == name]
    if not found:
        names = sorted({rung.name for ladder in LADDERS for rung in ladder.rungs})
        near = difflib.get_close_matches(name, names, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"rungs: {', '.join(names)}"
        raise SadariError(f"no rung {name!r}; {hint}")
    return found


def _show_all(lang: Lang) -> None:
    out = say.console(stderr=False)
    for ladder in LADDERS:
        judge = f"  [dim]{pick(TEXTS, 'judge', lang, judge=ladder.judge)}[/]" if ladder.judge else ""
        out.print(f"[bold]{ladder.title}[/]{judge}")
        out.print(_ladder_table(ladder, lang))
    out.print(pick(TEXTS, "legend", lang), style="dim")
    out.print(pick(TEXTS, "more", lang), style="dim")


def _ladder_table(ladder: Ladder, lang: Lang) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1), pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, min_width=18)
    table.add_column()
    for rung in ladder.rungs:
        words = Text(_answer(rung, lang))
        if rung.paper:
            words.append(f" [{rung.paper}]", "dim")
        mark = Text("●", "green") if rung.here else Text("○", "dim")
        table.add_row(mark, Text(rung.name, "bold" if rung.here else ""), words)
    table.add_row()
    return table


def _show_one(found: list[tuple[Ladder, Rung]], lang: Lang) -> None:
    from rich.text import Text

    out = say.console(stderr=False)
    titles: dict[Rung, list[str]] = {}
    for ladder, rung in found:
        titles.setdefault(rung, []).append(ladder.title)
    for rung, ladders in titles.items():
        state = "" if rung.here else f" ({pick(TEXTS, 'to come', lang)})"
        out.print(Text.assemble((rung.name, "bold"), f": {', '.join(ladders)}{state}"))
        out.print(f"  {_answer(rung, lang)}", markup=False)
        if rung.paper:
            out.print(f"  {pick(TEXTS, 'paper', lang)}: {rung.paper}", markup=False, style="dim")
    here = next((rung for rung in titles if rung.here), None)
    if here is None:
        return
    out.print()
    out.print(docstring_of(here.module), markup=False)
    out.print()
    settings = settings_of(here)
    out.print(pick(TEXTS, "settings" if settings else "no settings", lang), style="bold")
    if settings:
        out.print(_settings_table(settings))
    data = next(_TRY[ladder.task, ladder.kind] for ladder, rung in found if rung.here)
    out.print(pick(TEXTS, "try", lang, name=here.name, data=data), style="dim")


def _settings_table(settings: tuple[Field, ...]) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2), pad_edge=True)
    for setting in settings:
        table.add_row(f"  {setting.flag}", str(setting.default), setting.help)
    return table


def _answer(rung: Rung, lang: Lang) -> str:
    return rung.answers_ko if lang == "ko" else rung.answers


def _as_json(found: list[tuple[Ladder, Rung]]) -> str:
    """The ladders as a list of objects, rungs bottom to top."""
    ladders: dict[tuple[str, str], dict[str, Any]] = {}
    for ladder, rung in found:
        entry = ladders.setdefault(
            (ladder.task, ladder.kind),
            {"task": ladder.task, "kind": ladder.kind, "judge": ladder.judge, "rungs": []},
        )
        settings = settings_of(rung) if rung.here else ()
        entry["rungs"].append(
            {
                "name": rung.name,
                "here": rung.here,
                "answers": rung.answers,
                "answers_ko": rung.answers_ko,
                "paper": rung.paper,
                "settings": [
                    {"name": field.name, "default": field.default, "help": field.help} for field in settings
                ],
            }
        )
    return json.dumps(list(ladders.values()), ensure_ascii=False, indent=2)
