"""`sadari search INDEX QUERY ...`: the pictures of an index that are nearest to words or to a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from sadari.cli import say
from sadari.cli.options import REST, LangOption, QuietOption, switch
from sadari.errors import SadariError
from sadari.lang import Lang, default_lang, pick

if TYPE_CHECKING:
    from sadari.index import Hit
    from sadari.indexing import Searcher

StorageOption = Annotated[
    tuple[str, ...],
    Parameter(
        help="An option of the storage that an address is in, KEY=VALUE, and again for each: endpoint, "
        "region, allow_http. Keys are better set in the environment, as AWS_ACCESS_KEY_ID.",
        group=REST,
        negative=(),
        show_default=False,
    ),
]
SEARCH = Group("The search", sort_key=1)
SHOWN = Group("What is shown", sort_key=2)
TEXTS = {
    "none": ("nothing in the index meets it", "색인에 그런 그림이 없습니다"),
    "no cells": (
        "no cells are learnt, so the search was exact; sadari index ... --approximate learns them",
        "배운 칸이 없어 정확히 찾았습니다. sadari index ... --approximate가 칸을 배웁니다",
    ),
    "title": ("Found in {name}", "{name}에서 찾은 그림"),
    "caption": (
        "The nearest of {count:,} pictures to each query; under each its cosine and first caption.",
        "그림 {count:,}장 가운데 묻는 말이나 그림에 가장 가까운 것들입니다. 아래는 코사인과 첫 캡션입니다.",
    ),
}


def search(
    index: Annotated[
        str, Parameter(help="The folder or the address of the index, as `sadari index` printed it.")
    ],
    /,
    *queries: Annotated[
        str,
        Parameter(
            help="What to look for: words between quotation marks, or a picture's file; each is answered.",
            allow_leading_hyphen=False,
        ),
    ],
    k: Annotated[int, Parameter(("-k", "--k"), help="How many pictures to find.", group=SEARCH)] = 10,
    where: Annotated[
        str,
        Parameter(
            help="Search only where this holds, in SQL: \"artist = 'noto'\", \"path LIKE 'sea/%'\", "
            "\"array_contains(captions, 'umbrella')\".",
            group=SEARCH,
            show_default=False,
        ),
    ] = "",
    approximate: Annotated[
        bool,
        switch(
            help="Look only at the nearest cells, which `sadari index --approximate` learns.", group=SEARCH
        ),
    ] = False,
    probes: Annotated[
        int, Parameter(help="Cells that approximate search looks at; more find more.", group=SEARCH)
    ] = 20,
    run: Annotated[
        Path | None,
        Parameter(help="Where the run of the index is now, if it was moved.", group=REST, show_default=False),
    ] = None,
    storage: StorageOption = (),
    sheet: Annotated[
        Path | None,
        Parameter(help="Also draw what is found, a row a query, as .png or .svg.", group=SHOWN),
    ] = None,
    as_json: Annotated[
        bool,
        switch("--json", help="A line of JSON a query, with all that the index knows.", group=SHOWN),
    ] = False,
    quiet: QuietOption = False,
    lang: LangOption = None,
) -> None:
    """Find pictures by words in any language the run has learnt, or by another picture.

    A line a picture: its rank, its cosine with the query, where it is, its first caption.
    """
    lang = lang or default_lang()
    if not queries:
        raise SadariError(
            'nothing to look for is given; say it in words: sadari search INDEX "yellow umbrella"'
        )
    if k < 1:
        raise SadariError(f"-k {k}: at least 1 picture is found; give -k 10")
    if probes < 1:
        raise SadariError(f"--probes {probes}: at least 1 cell is looked at; give 20")
    if sheet is not None:
        from sadari.charts.found import check_sheet

        check_sheet(sheet)
    from sadari.index.address import options_of
    from sadari.indexing import Searcher, is_photo
    from sadari.indexing.words import word_notes

    photos = [is_photo(query) for query in queries]
    searcher = Searcher.open(index, run, options_of(storage))
    found = [searcher.search(query, k, where, not approximate, probes) for query in queries]
    if not quiet:
        say.notes(
            word_notes(searcher.run, [q for q, photo in zip(queries, photos, strict=True) if not photo]), lang
        )
        if approximate and not searcher.index.has_cells:
            say.aside(pick(TEXTS, "no cells", lang))
    for query, hits in zip(queries, found, strict=True):
        if as_json:
            print(
                json.dumps(
                    {"query": query, "found": [_content(*one) for one in enumerate(hits, 1)]},
                    ensure_ascii=False,
                )
            )
        else:
            _show(query if len(queries) > 1 else "", hits, lang)
    if sheet is not None:
        _draw(sheet, searcher, index, list(zip(queries, photos, found, strict=True)), lang)
        (say.aside if as_json else say.result)(str(sheet))  # among lines of JSON a path would be none


def first_caption(captions: Sequence[str], lang: Lang) -> str:
    """The first caption in the language of the reader, else the first of all; "" where there is none."""
    korean = [text for text in captions if is_korean(text)]
    others = [text for text in captions if text not in korean]
    return next(iter(korean + others if lang == "ko" else others + korean), "")


def is_korean(text: str) -> bool:
    """Whether there is Hangul in it."""
    return any("가" <= sign <= "힣" for sign in text)


def _show(query: str, hits: list[Hit], lang: Lang) -> None:
    """What was found as lines; the query above where there are several."""
    from rich.cells import cell_len

    if query:
        print(query)
    if not hits:
        say.aside(pick(TEXTS, "none", lang))
    places = [_place(hit) for hit in hits]
    room = max(map(cell_len, places), default=0)
    for rank, (hit, place) in enumerate(zip(hits, places, strict=True), 1):
        text = first_caption(hit.captions, lang)
        print(
            f"{rank:>3}  {hit.score:6.3f}  {place}"
            + (" " * (room - cell_len(place) + 2) + text if text else "")
        )


def _place(hit: Hit) -> str:
    """Where a picture is, from here on where it is below here."""
    if hit.path is None:
        return hit.id
    here = f"{Path.cwd()}/"
    return hit.path.removeprefix(here)


def _content(rank: int, hit: Hit) -> dict[str, Any]:
    columns = {name: value for name, value in hit.columns.items() if not isinstance(value, bytes)}
    return {
        "rank": rank,
        "cosine": round(hit.score, 6),
        "id": hit.id,
        "path": hit.path,
        "captions": list(hit.captions),
        "columns": {name: value for name, value in columns.items() if name != "thumbnail"},
    }


def _draw(
    sheet: Path, searcher: Searcher, index: str, asked: list[tuple[str, bool, list[Hit]]], lang: Lang
) -> None:
    from sadari.charts.found import Found, save_found
    from sadari.data.decode_image import decode
    from sadari.index.address import name_of
    from sadari.indexing.making import SIDE

    found = [
        Found(
            Path(query).name if photo else query,
            [searcher.pixels(hit) for hit in hits],
            [hit.score for hit in hits],
            [first_caption(hit.captions, lang) or Path(hit.path or hit.id).name for hit in hits],
            decode(Path(query).expanduser(), size=SIDE, fit="pad") if photo else None,
        )
        for query, photo, hits in asked
    ]
    title = pick(TEXTS, "title", lang, name=name_of(index))
    save_found(sheet, found, title, pick(TEXTS, "caption", lang, count=len(searcher.index)))
