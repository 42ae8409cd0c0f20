"""`sadari predict RUN INPUT`: rows with predictions, a text's or a photo's class, a text that goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from sadari.cli import say
from sadari.cli.opening import open_run
from sadari.cli.options import REST, LangOption, QuietOption, RunArgument, split_names, switch
from sadari.cli.settings import option, with_options
from sadari.describe import fields_of
from sadari.errors import SadariError
from sadari.lang import Note, default_lang

if TYPE_CHECKING:
    from collections.abc import Callable

    from sadari.lang import Lang
    from sadari.runs import Run

WRITING = Group("The writing, of a language run", sort_key=2)
PLAIN = {"engine": "sadari", "precision": "fp32"}
SHOWN = 3  # classes that are shown of one text or picture
TABLES = (".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson")  # ends of what names pictures


def predict_rows(
    run: RunArgument,
    /,
    *rows: Annotated[
        str,
        Parameter(
            help="A file with the run's columns, or texts (.txt a line each, .jsonl); one text itself; "
            "photos, or a folder of them; for a language run the beginning that it continues, `-` to read "
            "it from standard input.",
            allow_leading_hyphen=True,
        ),
    ],
    out: Annotated[
        Path | None,
        Parameter(
            help="The file to write, .csv, .tsv or .parquet; else ROWS-predicted beside the rows.", group=REST
        ),
    ] = None,
    probabilities: Annotated[bool, switch(help="Also write the probability of each class.")] = False,
    keep: Annotated[
        tuple[str, ...] | None,
        Parameter(
            help="Columns to carry over, with commas between; else all of them.",
            group=REST,
            converter=split_names,
            negative=(),
        ),
    ] = None,
    engine: Annotated[
        Literal["sadari", "openvino"],
        Parameter(
            help="Whose products answer pictures: openvino (pip install 'sadari[openvino]') takes a "
            "second or two to begin with, and is then faster for many networks, most of all in bf16.",
            group=REST,
        ),
    ] = "sadari",
    precision: Annotated[
        Literal["fp32", "bf16"],
        Parameter(
            help="Of a network for pictures: bf16 is faster where the processor multiplies such numbers, and "
            "may give another class where two are nearly as likely.",
            group=REST,
        ),
    ] = "fp32",
    quiet: QuietOption = False,
    lang: LangOption = None,
    **sampling: Any,
) -> None:
    """Use a trained rung on new rows, texts or photos, or let a language run write on."""
    from sadari.predict import predict_file

    lang = lang or default_lang()
    for word in rows:
        if word.startswith("-") and word != "-":
            raise SadariError(f"{word} is no option of predict; sadari predict --help shows them")
    opened = open_run(run, lang, quiet)
    asked = {name: value for name, value in sampling.items() if value is not None}
    if asked and opened.config["task"] != "language":
        flag = next(iter(asked)).replace("_", "-")
        raise SadariError(
            f"--{flag} is for language runs, and this one predicts {opened.spec.target}; leave it out"
        )
    with_engine = {"engine": engine, "precision": precision}
    if opened.kind == "images" and rows:
        _pictures(opened, rows, out, probabilities, keep, quiet, lang, with_engine)
        return
    if with_engine != PLAIN:
        from sadari.engines_pictures import check_engine

        check_engine(opened, engine, precision)
    if len(rows) > 1:
        raise SadariError(
            f"{len(rows)} inputs are given where one is wanted ({rows[0]}, {rows[1]} ...); put a text with "
            f"spaces between quotation marks"
        )
    given = rows[0] if rows else ""
    if opened.config["task"] == "language":
        _write(opened, sys.stdin.read() if given == "-" else given, asked)
        return
    if not given:
        what = {"table": "", "series": "", "images": ", a photo, or a folder of photos"}
        raise SadariError(
            "no rows are given; name a file with the run's columns" + what.get(opened.kind, " or a text")
        )
    if opened.kind == "text" and not _names_a_file(given):
        _answer(opened, given)
        return
    if opened.kind == "pairs" and not _names_a_file(given):
        say.result(opened.translate([given])[0])
        return
    with _counter(quiet) as told:
        say.result(predict_file(opened, given, out, probabilities=probabilities, keep=keep, told=told))


def _pictures(
    run: Run,
    given: tuple[str, ...],
    out: Path | None,
    probabilities: bool,
    keep: tuple[str, ...] | None,
    quiet: bool,
    lang: Lang,
    with_engine: Any,
) -> None:
    """A table of pictures, a folder of them, or photos one by one."""
    from sadari.predict import predict_file, predict_files

    first, notes = given[0], list[Note]()
    folder = len(given) == 1 and Path(first).is_dir()
    table = len(given) == 1 and not folder and _names_a_table(first)
    if keep is not None and not table:
        raise SadariError("--keep names columns of a table, and no table is given; leave it out")
    if not (table or folder or out):
        _answer_pictures(run, given, probabilities, notes, with_engine)
        say.notes([] if quiet else notes, lang)
        return
    with _counter(quiet, "pictures") as told:
        how: dict[str, Any] = {"probabilities": probabilities, "told": told, "notes": notes, **with_engine}
        if table:
            written = predict_file(run, first, out, keep=keep, **how)
        else:
            written = predict_files(run, first if folder else given, out, **how)
    say.notes([] if quiet else notes, lang)
    say.result(written)


def _names_a_table(first: str) -> bool:
    """Whether a word is the name of a table of pictures, in a file or built in."""
    if first.lower().removesuffix(".gz").endswith(TABLES):
        return True
    if Path(first).exists():
        return False
    from sadari.data.builtin import BUILTIN

    return first in BUILTIN


def _answer_pictures(
    run: Run, given: tuple[str, ...], every: bool, notes: list[Note], with_engine: Any
) -> None:
    """The likeliest classes of one photo, the best first; of several, the class of each."""
    from sadari.predict import predict_pictures

    if len(given) > 1 and every:
        raise SadariError("--probabilities of several pictures make a table; name its file with --out")
    found = predict_pictures(run, given, probabilities=True, notes=notes, **with_engine)
    shares = found.drop("prediction").to_numpy()
    if len(given) == 1:
        for place in (-shares[0]).argsort(kind="stable")[: None if every else SHOWN]:
            print(f"{shares[0, place]:.3f}  {run.spec.classes[place]}")
        return
    for path, said, row in zip(given, found["prediction"], shares, strict=True):
        if said is not None:
            print(f"{row.max():.3f}  {said}  {path}")


def _names_a_file(rows: str) -> bool:
    """Whether the words on the command line are a file's or a bundled set's name rather than a text."""
    from sadari.data.builtin import BUILTIN

    path = Path(rows)
    try:
        there = path.exists()
    except OSError:  # too long for a name
        return False
    return there or rows in BUILTIN or (" " not in rows and bool(path.suffix))


def _answer(run: Run, text: str) -> None:
    """The likeliest classes of one text, the best first."""
    import polars as pl

    shares = run.predictions(run.spec.encode(pl.DataFrame({run.spec.text: [text]})))[0]
    for place in (-shares).argsort()[:SHOWN]:
        print(f"{shares[place]:.3f}  {run.spec.classes[place]}")


def _write(run: Run, prompt: str, asked: dict[str, Any]) -> None:
    """The prompt and what follows it, piece by piece as it is written; never half a character."""
    from sadari.decode import Sampling, stream

    if "stop" in asked:
        asked["stop"] = tuple(asked["stop"])
    sampling = Sampling(**asked)
    model: Any = run.model
    print(prompt, end="", flush=True)
    try:
        for piece in stream(model, run.spec.tokenizer, prompt, sampling):
            print(piece, end="", flush=True)
    finally:
        print(flush=True)


@contextmanager
def _counter(quiet: bool, what: str = "rows") -> Iterator[Callable[[int], None] | None]:
    """How many are done so far, on a terminal only."""
    console = say.console()
    if quiet or not console.is_terminal:
        yield None
        return
    with console.status("") as status:
        yield lambda rows: status.update(f"{rows:,} {what}")


predict = with_options(
    predict_rows, [option(field, WRITING) for field in fields_of("sadari.decode", "Sampling")]
)
