"""`sadari predict RUN ROWS`: the same rows, in the same order, with predictions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from sadari.cli import say
from sadari.cli.opening import open_run
from sadari.cli.options import REST, LangOption, QuietOption, RunArgument, split_names, switch
from sadari.lang import default_lang

if TYPE_CHECKING:
    from collections.abc import Callable


def predict(
    run: RunArgument,
    rows: Annotated[
        str, Parameter(help="A table with the run's columns (.csv, .tsv, .parquet), or a bundled one's name.")
    ],
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
) -> None:
    """Use a trained rung on new rows."""
    from sadari.predict import predict_file

    opened = open_run(run, lang or default_lang(), quiet)
    with _counter(quiet) as told:
        say.result(predict_file(opened, rows, out, probabilities=probabilities, keep=keep, told=told))


@contextmanager
def _counter(quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """Rows done so far, on a terminal only."""
    console = say.console()
    if quiet or not console.is_terminal:
        yield None
        return
    with console.status("") as status:
        yield lambda rows: status.update(f"{rows:,} rows")
