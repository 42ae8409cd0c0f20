"""`sadari look RUN [VIEW]`: what a run is and which views fit it, or one of them drawn."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from sadari.cli import say
from sadari.cli.opening import anything, holds_run, open_run, open_runs
from sadari.cli.options import REST, LangOption, QuietOption, RunArgument, SizeOption, TargetOption
from sadari.cli.settings import option, with_options
from sadari.describe import Field, options_of
from sadari.errors import SadariError
from sadari.inspection import VIEWS, eye_of, views_for
from sadari.lang import Lang, default_lang, in_unit, pick, unit_of

if TYPE_CHECKING:
    from sadari.runs import Run

VIEW = Group("The view", sort_key=1)
# What the options of the views mean; which view takes which is read from the views themselves.
HELP = {
    "feature": "The column to go along",
    "features": "Two columns, one across and one up",
    "of": "The class whose probability is drawn, or what speaks for it",
    "part": "The rows to look at; leave test alone until you have chosen",
    "bins": "Groups of probabilities",
    "top": "How many features, words, filters, channels or pictures, the heaviest, nearest or surest first",
    "between": "Two rows, by number from 1, to draw a line through instead of along a feature",
    "depths": "Numbers of layers to compare, with commas between",
    "width": "Units of each hidden layer",
    "activation": "What bends each unit, as in `sadari fit`",
    "units": "Widths of hidden layer to compare, with commas between",
    "steps": "Steps of training to take",
    "lags": "How many steps back to look, at most",
    "adding": "Also teach an RNN and an LSTM the adding problem of so many steps; 0 = leave it out",
    "adding_steps": "Updates of that teaching",
    "unit": "The unit whose gates are shown, from 1; else the one whose cell moves most",
    "text": "The text to look at, instead of one of the data",
    "layer": "A layer, from 1: of attention, to show one head large, or of an LSTM, whose gates are shown",
    "head": "A head of that layer, from 1",
    "lengths": "Lengths of text to time, in tokens, with commas between",
    "word": "The word whose neighbours are shown",
    "analogy": "Three words a:b:c, to ask what is to c as b is to a",
    "pairs": "Related words a:b to show instead of those known, with commas between",
    "beside": "The folder of a run on the same data to draw along; give it again for each",
    "groups": "Groups of lengths",
    "most": "Pairs, or pictures of each part, to look at, at most",
    "beam": "Beams of the tree that is drawn",
    "widths": "Numbers of beams to measure, with commas between",
    "length_penalty": "How far long texts are favoured in the search: 0 = not at all",
    "image": "The file of a picture to look at, instead of one of the data",
    "rungs": "Rungs to compare, with commas between",
    "sizes": "Numbers of labelled pictures to learn from, with commas between",
    "weights": "What probe and fine-tune begin from: a run of pictures, a folder, or a name",
    "count": "How many learning rates to try, or pictures to show",
    "values": "What a cell shows: cosine, or probability",
    "caption": "The words that are looked for in each picture, instead of its own caption",
    "language": "Of the captions, as en or ko in caption.ko; else the first that a picture has",
    "templates": "Sentences with {} where the caption stands, with commas between",
    "stage": "A stage of a network for pictures by its name, as conv3 or layer2.1",
}
TEXTS = {
    "run": (
        "{rung} fitted on {data} ({rows:,} rows) to {task} `{target}`: {parameters:,} weights",
        "{rung}: {data}({rows:,}행), 목표 `{target}`, 과제 {task}, 가중치 {parameters:,}개",
    ),
    "language": (
        "{rung} that learnt the language of {data} ({rows:,} documents): {parameters:,} weights",
        "{rung}: {data}(문서 {rows:,}편)의 언어를 배움, 가중치 {parameters:,}개",
    ),
    "views": ("views that fit it: sadari look {path} VIEW", "볼 수 있는 것: sadari look {path} VIEW"),
    "written": ("written: {files}", "쓴 파일: {files}"),
}


def look_into(
    run: RunArgument,
    view: Annotated[
        str | None,
        Parameter(help=f"One of: {', '.join(VIEWS)}; without it, those that fit the run are listed."),
    ] = None,
    /,
    *,
    target: TargetOption = None,
    size: SizeOption = None,
    out: Annotated[
        Path | None,
        Parameter(
            help="The folder for the picture, page and numbers, or a .csv for the numbers alone; else "
            "RUN/looks.",
            group=REST,
        ),
    ] = None,
    quiet: QuietOption = False,
    lang: LangOption = None,
    **options: Any,
) -> None:
    """Open a trained rung up: curves, regions, weights, calibration and more."""
    lang = lang or default_lang()
    from sadari.vectors import WordVectors, is_vectors

    if is_vectors(run):
        seen = _words(WordVectors.load(run), view or "words", options)
        _show(seen, out or (run if run.is_dir() else run.parent) / "looks", quiet, lang)
        return
    if view is None:
        _list_views(open_run(run, lang, quiet), run, lang)
        return
    info = VIEWS.get(view)
    if info and info.data and not holds_run(run):
        _show_data(run, view, out, quiet, lang, {"target": target, "size": size}, options)
        return
    if target is not None or size is not None:
        flag = "--target" if target is not None else "--size"
        raise SadariError(
            f"{flag} is for data, and {run} is looked at as a run, which has its own; leave it out"
        )
    from sadari.inspection import look as look_inside
    from sadari.inspection.watching import watched
    from sadari.progress import Progress

    runs: Any = (
        open_runs(run) if info and info.many else open_run(run, lang, quiet, info.fits if info else anything)
    )
    with watched(lambda name: [Progress(name, quiet=quiet, lang=lang)]):
        seen = look_inside(runs, view, **options)
    _show(seen, out or run / "looks", quiet, lang)


def _show_data(
    source: Path,
    view: str,
    out: Path | None,
    quiet: bool,
    lang: Lang,
    reading: dict[str, Any],
    options: dict[str, Any],
) -> None:
    """Look at data that no rung was fitted to: a built-in's name, a file or a folder."""
    from sadari.data.prepare import prepare
    from sadari.inspection import look_at_data

    said = {"size": reading["size"]} if reading["size"] else None
    prepared = prepare(str(source), target=reading["target"], reading=said)
    seen = look_at_data(prepared, view, **options)
    _show(seen, out or Path("runs") / f"{prepared.table.name}-looks", quiet, lang)


def _words(vectors: Any, view: str, options: dict[str, Any]) -> Any:
    """The one view of what `sadari embed` wrote."""
    from sadari.inspection.words import words_of

    if view != "words":
        raise SadariError(f"view {view!r} does not fit word vectors; the one that does: words")
    return words_of(vectors, **options)


def _show(seen: Any, folder: Path, quiet: bool, lang: Lang) -> None:
    """Draw a view, and say what to see in it."""
    from sadari.charts import save, save_table  # half a second, which a mistyped view need not wait for

    files = [save_table(seen, folder)] if folder.suffix == ".csv" else save(seen, folder, lang)
    if not quiet:
        for part in ("title", "see", "caption"):
            print(seen.say(part, lang))
        say.aside(pick(TEXTS, "written", lang, files=" ".join(map(str, files))))
    say.result(files[0])


def _list_views(run: Run, path: Path, lang: Lang) -> None:
    from rich.table import Table
    from rich.text import Text

    out = say.console(stderr=False)
    about = run.config["data"]
    template = TEXTS["language" if run.config["task"] == "language" else "run"][lang == "ko"]
    line = in_unit(template, unit_of(run.kind, run.config["task"])).format(
        rung=run.rung,
        data=about["name"],
        rows=about["rows"],
        task=run.config["task"],
        target=about["target"],
        parameters=sum(weight.numel() for weight in run.model.parameters()),
    )
    out.print(line, markup=False)
    say.notes(run.notes, lang)
    out.print(pick(TEXTS, "views", lang, path=shlex.quote(str(path))), markup=False)
    grid = Table.grid(padding=(0, 2))
    for name in views_for(run.config["task"], run.rung, run.kind, eye_of(run.config)):
        info = VIEWS[name]
        grid.add_row(Text(f"  {name}", "bold"), info.summary_ko if lang == "ko" else info.summary_en)
    out.print(grid)


def view_options() -> list[Field]:
    """Every option of every view once, its help naming the views that take it."""
    takers: dict[str, list[str]] = {}
    fields: dict[str, Field] = {}
    for name, info in VIEWS.items():
        for field in options_of(info.module, info.function):
            takers.setdefault(field.name, []).append(name)
            fields[field.name] = field
    return [
        Field(name, field.type, None, f"{HELP[name]} ({', '.join(takers[name])}).")
        for name, field in fields.items()
    ]


look = with_options(look_into, [option(field, VIEW) for field in view_options()])
