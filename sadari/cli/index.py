"""`sadari index PICTURES --run RUN`: pictures put where words, or another picture, find them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from sadari.cli import say
from sadari.cli.opening import open_run
from sadari.cli.options import (
    DATA,
    REST,
    ImageOption,
    LangOption,
    QuietOption,
    natural,
    split_names,
    switch,
)
from sadari.cli.search import StorageOption, first_caption, is_korean
from sadari.errors import SadariError
from sadari.lang import Lang, default_lang, pick

if TYPE_CHECKING:
    from sadari.indexing import Searcher

SHOWN = Group("What is shown of it", sort_key=2)
SPEED = Group("Speed of the search", sort_key=3)
PROBES = (1, 5, 20, 80)
ASKED = 200  # captions or pictures by which it is measured what approximate search misses
TEXTS = {
    "duplicates": ("duplicates, from a cosine of {threshold:g}:", "중복(코사인 {threshold:g} 이상):"),
    "no duplicates": (
        "no two pictures have a cosine of {threshold:g}",
        "코사인이 {threshold:g} 이상인 두 그림은 없습니다",
    ),
    "outliers": (
        "outliers, the mean cosine with the ten nearest first:",
        "외톨이(가장 가까운 열 장과의 평균 코사인이 앞):",
    ),
    "captions recall": (
        "approximate search finds {recall:.1%} of the ten pictures nearest to {count} of the captions",
        "근사 검색은 캡션 {count}개에 가장 가까운 열 장씩 가운데 {recall:.1%}를 찾습니다",
    ),
    "recall": (
        "approximate search finds {recall:.1%} of the ten pictures nearest to {count} of the pictures",
        "근사 검색은 그림 {count}장에 가장 가까운 열 장씩 가운데 {recall:.1%}를 찾습니다",
    ),
    "table": (
        "of the ten pictures nearest to each of up to {count} queries, approximate search finds:",
        "근사 검색이 찾는 몫(질문 {count}개까지, 각각 가장 가까운 그림 열 장 가운데):",
    ),
    "others": ("captions", "캡션"),
    "korean": ("Korean captions", "한국어 캡션"),
    "pictures": ("pictures", "그림"),
    "next": (
        '{count:,} pictures are indexed; next: sadari search {path} "words"',
        '그림 {count:,}장을 색인했습니다. 다음: sadari search {path} "낱말"',
    ),
}


def index(
    pictures: Annotated[
        str,
        Parameter(
            help="A folder of pictures and those below it; a table with a column of paths or bytes; or a "
            "bundled set such as emoji-captions."
        ),
    ],
    /,
    *,
    run: Annotated[
        Path,
        Parameter(
            help="The run that embeds them: of pictures and captions, or of pictures alone with an eye.",
            group=DATA,
        ),
    ],
    out: Annotated[
        str | None,
        Parameter(
            help="The folder of the index, or an address such as s3://bucket/photos-index, gs:// or az://; "
            "else PICTURES-index beside the pictures.",
            group=REST,
        ),
    ] = None,
    storage: StorageOption = (),
    image: ImageOption = None,
    caption: Annotated[
        tuple[str, ...],
        Parameter(
            help="Columns of captions, with commas between; else those that are called so.",
            group=DATA,
            converter=split_names,
            negative=(),
            show_default=False,
        ),
    ] = (),
    prune: Annotated[
        bool, switch(help="Take out of the index what is no longer among the pictures.", group=DATA)
    ] = False,
    duplicates: Annotated[
        float | None,
        Parameter(help="Show groups of pictures with a cosine of at least this, such as 0.97.", group=SHOWN),
    ] = None,
    outliers: Annotated[
        int | None,
        Parameter(
            help="Show so many pictures that are like no others, such as 10.", group=SHOWN, converter=natural
        ),
    ] = None,
    approximate: Annotated[
        bool,
        switch(
            help="Learn cells, so that `sadari search --approximate` need not look at every picture; and "
            "measure what that misses. Worth it from some hundred thousand pictures.",
            group=SPEED,
        ),
    ] = False,
    cells: Annotated[
        int,
        Parameter(
            help="How many cells; 0 is the square root of the number of pictures.",
            group=SPEED,
            converter=natural,
        ),
    ] = 0,
    recall: Annotated[
        bool,
        switch(
            help="Show how much of the truly nearest `sadari search --approximate` finds, by --probes.",
            group=SPEED,
        ),
    ] = False,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Parameter(
            help="Numbers of the encoder: bf16 is faster where the processor has it, and auto takes it where "
            "vectors hardly change.",
            group=SPEED,
        ),
    ] = "auto",
    quiet: QuietOption = False,
    lang: LangOption = None,
) -> None:
    """Embed pictures with a run, so that words or another picture find them."""
    from sadari import indexing
    from sadari.index.address import options_of
    from sadari.index.lance import libraries
    from sadari.indexing import Searcher

    libraries()
    lang = lang or default_lang()
    if duplicates is not None and not 0 < duplicates <= 1:
        raise SadariError(f"--duplicates {duplicates:g}: a cosine above 0 and at most 1 is wanted; give 0.97")
    if cells and not approximate:
        raise SadariError(f"--cells {cells} are for approximate search; add --approximate, or leave it out")
    options = options_of(storage)
    opened = open_run(run, lang, quiet, lambda task, rung, kind: task == "match")
    with _bar(quiet, lang) as told:
        done = indexing.index(
            pictures,
            opened,
            out,
            image=image,
            caption=caption,
            prune=prune,
            precision=precision,
            storage=options,
            told=told,
        )
    say.notes([] if quiet else done.notes, lang)
    said = done.index.values("captions")
    if approximate:
        done.index.build(cells)
        if not quiet and not recall:
            say.aside(_recall(Searcher(done.index, opened), said, lang))
    if recall:
        if not done.index.has_cells:
            raise SadariError(
                "--recall: no cells are learnt, so that every search is exact and misses nothing; add "
                "--approximate"
            )
        _show_recall(Searcher(done.index, opened), said, lang)

    def called(name: str) -> str:
        """A row tells nothing: its caption beside it."""
        text = first_caption(said[name] or (), lang) if name.startswith("row ") else ""
        return f"{name} ({text})" if text else name

    if duplicates is not None:
        groups = done.index.duplicates(duplicates)
        key = "duplicates" if groups else "no duplicates"
        say.aside(pick(TEXTS, key, lang, threshold=duplicates))
        for group in groups:
            print("  ".join(map(called, group)))
    if outliers:
        say.aside(pick(TEXTS, "outliers", lang))
        for name, likeness in done.index.outliers(outliers):
            print(f"{likeness:.3f}  {called(name)}")
    if not quiet:
        path = f"{done.folder} --storage ..." if storage else done.folder
        say.aside(pick(TEXTS, "next", lang, count=len(done.index), path=path))
    say.result(str(done.folder))


def _recall(searcher: Searcher, said: dict[str, list[str]], lang: Lang) -> str:
    """What approximate search finds as it is asked usually; with words where there are any, which lie apart
    from pictures."""
    texts = [captions[0] for captions in said.values() if captions]
    if searcher.run.kind != "captions" or not texts:
        count = min(ASKED, len(said))
        return pick(TEXTS, "recall", lang, recall=searcher.index.recall(queries=count), count=count)
    some = _spread(texts)
    recall = searcher.index.recall(queries=searcher.vectors(some))
    return pick(TEXTS, "captions recall", lang, recall=recall, count=len(some))


def _show_recall(searcher: Searcher, said: dict[str, list[str]], lang: Lang) -> None:
    """A line for each number of cells: what is found of the ten nearest to words of each language, and to
    pictures."""
    asked: dict[str, Any] = {}
    if searcher.run.kind == "captions":
        for name, korean in (("others", False), ("korean", True)):
            every = [text for captions in said.values() for text in captions if is_korean(text) == korean]
            if every:
                asked[name] = searcher.vectors(_spread(every))
    asked["pictures"] = min(ASKED, len(said))
    count = max(one if isinstance(one, int) else len(one) for one in asked.values())
    say.aside(pick(TEXTS, "table", lang, count=count))
    for probes in PROBES:
        found = [
            f"{pick(TEXTS, name, lang)} {searcher.index.recall(queries=one, probes=probes):6.1%}"
            for name, one in asked.items()
        ]
        print("  ".join([f"--probes {probes:<3}", *found]))


def _spread(texts: list[str]) -> list[str]:
    """Some of the texts, from all over."""
    count = min(ASKED, len(texts))
    return [texts[number * len(texts) // count] for number in range(count)]


@contextmanager
def _bar(quiet: bool, lang: Lang) -> Iterator[Callable[[int, int], None] | None]:
    """How many are embedded, on a terminal only."""
    console = say.console()
    if quiet or not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    with Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
