"""The options that several verbs share, each explained once."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter, Token

DATA = Group("The data", sort_key=1)
RUNG = Group("The rung", sort_key=2)
LOOP = Group("The loop", sort_key=3)
TEACHER = Group("The teacher", sort_key=4)
REST = Group("The rest", sort_key=5)


def split_names(_: object, tokens: list[Token]) -> tuple[str, ...]:
    """Names with commas between, in one option or several; a name with a comma stands in double quotes."""
    rows = csv.reader([token.value for token in tokens], skipinitialspace=True)
    return tuple(name for row in rows for name in row if name)


def whole(_: object, tokens: list[Token]) -> int:
    """A whole number, 1e4 included; the library underneath would round 1.5 in silence."""
    number = float(tokens[0].value)
    if not number.is_integer():
        raise ValueError("is not a whole number")
    return int(number)


def natural(type_: object, tokens: list[Token]) -> int:
    """A whole number from 0 up."""
    number = whole(type_, tokens)
    if number < 0:
        raise ValueError("is below 0")
    return number


def several_whole(_: object, tokens: list[Token]) -> tuple[int, ...]:
    """Whole numbers with commas between."""
    return tuple(int(part) for token in tokens for part in token.value.split(","))


def switch(*names: str, help: str, group: Group = REST) -> Parameter:
    """An option that is either there or not."""
    return Parameter(names or None, help=help, group=group, negative=(), show_default=False)


DataArgument = Annotated[
    str,
    Parameter(
        help="A table (.csv .tsv .parquet), texts (.jsonl .txt, a folder), pictures (a folder a class, "
        "or a table of paths), or a bundled set: `sadari data`."
    ),
]
RunArgument = Annotated[Path, Parameter(help="The run's folder, whose path `sadari fit` printed.")]
LangOption = Annotated[
    Literal["en", "ko"] | None,
    Parameter(help="Language of what is said; else the locale's.", group=REST, show_default=False),
]
TargetOption = Annotated[
    str | None, Parameter(help="The column to predict; else the last one, which is said aloud.", group=DATA)
]
TaskOption = Annotated[
    Literal["regress", "classify", "language", "translate", "match"] | None,
    Parameter(help="What to ask of the data; else what its values suggest, said aloud.", group=DATA),
]
KindOption = Annotated[
    Literal["table", "series", "text", "pairs", "images", "captions"] | None,
    Parameter(
        help="How to read it: series takes a table's columns in their order, pairs two columns of text, "
        "images a column of paths, captions paths and what is said of them; else as it looks.",
        group=DATA,
    ),
]
TextOption = Annotated[
    str | None, Parameter(help="The column that holds the texts; of pairs, the sources.", group=DATA)
]
SeparateOption = Annotated[
    bool, switch(help="Give sources and targets of pairs a vocabulary each, not one for both.", group=DATA)
]
TokenizerOption = Annotated[
    str | None,
    Parameter(
        help="How texts are cut: bpe, words, unigram, characters, or a tokenizer.json; else bpe.", group=DATA
    ),
]
VocabularyOption = Annotated[
    int | None,
    Parameter(
        help="Tokens that the tokenizer knows; else by the amount of text.", group=DATA, converter=natural
    ),
]
LengthOption = Annotated[
    int | None,
    Parameter(help="Most tokens that are read of a text; else up to 256.", group=DATA, converter=natural),
]
ImageOption = Annotated[
    str | None,
    Parameter(help="The column of the pictures' paths; else the one that holds paths.", group=DATA),
]
SizeOption = Annotated[
    int | None,
    Parameter(help="Pixels of a picture's side; else its own up to 64.", group=DATA, converter=natural),
]
FitOption = Annotated[
    Literal["crop", "pad", "squash"] | None,
    Parameter(
        help="How a picture becomes a square: crop (its middle; the default), pad, or squash.", group=DATA
    ),
]


HoldOutOption = Annotated[
    str | None,
    Parameter(
        help="Pictures to test on, COLUMN=VALUE: those of an artist, a camera or a place; else a fifth.",
        group=DATA,
    ),
]


def reading_of(**said: str | int | None) -> dict[str, str | int]:
    """What was said of how texts or pictures are read, by the names of `prepare`."""
    return {name: value for name, value in said.items() if value}


DropOption = Annotated[
    tuple[str, ...],
    Parameter(
        help="Columns to leave out: names with commas between, or repeat the option.",
        group=DATA,
        converter=split_names,
        negative=(),
        show_default=False,
    ),
]
LogTargetOption = Annotated[
    bool, switch(help="Learn log(1 + target), for a target that spans orders of magnitude.", group=DATA)
]
LossOption = Annotated[
    str | None,
    Parameter(
        help="Of numbers: squared, gaussian, absolute, huber, poisson; of classes: cross-entropy, binary.",
        group=LOOP,
    ),
]
BudgetOption = Annotated[
    str | None,
    Parameter(
        help="What each rung may spend: 90s, 2m or 2000steps; else till it stops improving.", group=LOOP
    ),
]
OutOption = Annotated[
    Path | None, Parameter(help="The folder to write; else a new one under runs/.", group=REST)
]
SeedOption = Annotated[
    int,
    Parameter(help="Seed of the split, the weights and the order of rows.", group=REST, converter=natural),
]
PlanOption = Annotated[
    bool, switch(help="Show parameters, memory and time to expect, and stop before the first step.")
]
TrackerOption = Annotated[
    str | None,
    Parameter(help="Log to tensorboard, wandb, trackio or mlflow too, if it is installed.", group=REST),
]
QuietOption = Annotated[bool, switch("--quiet", "-q", help="Say nothing but errors and the path.")]
