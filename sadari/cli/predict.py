"""`sadari predict RUN INPUT`: rows with predictions, one text's label, or a text that goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from sadari.cli import say
from sadari.cli.opening import open_run
from sadari.cli.options import REST, LangOption, QuietOption, RunArgument, split_names, switch
from sadari.cli.settings import option, with_options
from sadari.describe import fields_of
from sadari.errors import SadariError
from sadari.lang import default_lang

if TYPE_CHECKING:
    from collections.abc import Callable

    from sadari.runs import Run

WRITING = Group("The writing, of a language run", sort_key=2)
SHOWN = 3  # classes that are shown of one text


def predict_rows(
    run: RunArgument,
    rows: Annotated[
        str,
        Parameter(
            help="A file with the run's columns, or texts (.txt a line each, .jsonl); one text itself; for a "
            "language run the beginning that it continues, `-` to read it from standard input.",
            allow_leading_hyphen=True,
        ),
    ] = "",
    /,
    *,
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
    quiet: QuietOption = False,
    lang: LangOption = None,
    **sampling: Any,
) -> None:
    """Use a trained rung on new rows or texts, or let a language run write on."""
    from sadari.predict import predict_file

    if rows.startswith("-") and rows != "-":
        raise SadariError(f"{rows} is no option of predict; sadari predict --help shows them")
    opened = open_run(run, lang or default_lang(), quiet)
    asked = {name: value for name, value in sampling.items() if value is not None}
    if opened.config["task"] == "language":
        _write(opened, sys.stdin.read() if rows == "-" else rows, asked)
        return
    if asked:
        flag = next(iter(asked)).replace("_", "-")
        raise SadariError(
            f"--{flag} is for language runs, and this one predicts {opened.spec.target}; leave it out"
        )
    if not rows:
        raise SadariError(
            "no rows are given; name a file with the run's columns" + " or a text" * (opened.kind != "table")
        )
    if opened.kind == "text" and not _names_a_file(rows):
        _answer(opened, rows)
        return
    if opened.kind == "pairs" and not _names_a_file(rows):
        say.result(opened.translate([rows])[0])
        return
    with _counter(quiet) as told:
        say.result(predict_file(opened, rows, out, probabilities=probabilities, keep=keep, told=told))


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
def _counter(quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """Rows done so far, on a terminal only."""
    console = say.console()
    if quiet or not console.is_terminal:
        yield None
        return
    with console.status("") as status:
        yield lambda rows: status.update(f"{rows:,} rows")


predict = with_options(
    predict_rows, [option(field, WRITING) for field in fields_of("sadari.decode", "Sampling")]
)
