"""What was mistyped, in one line: the value, the rule, the nearest right spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from sadari.cli.known import rungs_here, settings_of
from sadari.errors import SadariError
from sadari.ladder import find_rung

WANTS = {
    "climb": "a table, or the name of a bundled one; try: sadari climb diabetes",
    "fit": "a table, or the name of a bundled one; try: {verb} diabetes",
    "predict": "a run, and rows, a text or a photo; try: sadari predict runs/diabetes-line rows.csv",
    "look": "a run's folder; try: sadari look runs/diabetes-line",
    "export": "a run's folder; try: sadari export runs/diabetes-line",
    "data": "a name; `sadari data` lists them",
}
KINDS = {int: "a whole number", float: "a number"}


def explain(error: CycloptsError, verbs: Iterable[str]) -> str:
    """One line for a command line that could not be read; `verbs` are those there are."""
    chain = list(error.command_chain or [])
    verb = " ".join(["sadari", *chain])
    match error:
        case UnknownOptionError():
            return _unknown_option(error, chain, verb)
        case UnknownCommandError() | UnusedCliTokensError() if error.unused_tokens:
            word = error.unused_tokens[0]
            if not chain:
                return f"sadari has no verb {word!r}; {_near(word, verbs) or 'see sadari --help'}"
            if chain == ["fit"]:
                return _unknown_rung(word)
            return f"{verb} does not know what to do with {word!r}; see {verb} --help"
        case MissingArgumentError() if error.argument is not None:
            if chain and not error.argument.tokens and not error.argument.name.startswith("--"):
                return f"{verb} needs {WANTS[chain[0]].format(verb=verb)}"
            return f"{error.keyword or error.argument.name} needs a value; see {verb} --help"
        case CoercionError() if error.token is not None and error.argument is not None:
            return f"{_bad_value(error)}; see {verb} --help"
    return f"{str(error).rstrip('.')}; see {verb} --help"


def _unknown_option(error: UnknownOptionError, chain: list[str], verb: str) -> str:
    flag = (error.token.keyword or error.token.value).split("=")[0]
    owners = [
        name for name, rung in rungs_here().items() if flag in [field.flag for field in settings_of(rung)]
    ]
    if chain[:1] == ["fit"] and owners:
        return f"{verb} has no setting {flag}; it belongs to {_listed(owners)}; see {verb} --help"
    names = {name for argument in error.argument_collection for name in argument.names}
    return f"{verb} has no option {flag}; {_near(flag, sorted(names)) or f'see {verb} --help'}"


def _unknown_rung(word: str) -> str:
    try:
        find_rung(word, kind=None)
    except SadariError as error:
        return f"{error}; the order is: sadari fit RUNG DATA"
    raise AssertionError(f"`sadari fit` does not know its rung {word}")


def _bad_value(error: CoercionError) -> str:
    assert error.token is not None and error.argument is not None
    name = error.token.keyword or error.argument.name
    if error.argument.hint is bool:
        return f"{name} takes no value"
    if str(error.msg).startswith("is "):  # our converters end the sentence themselves
        return f"{name} {error.token.value!r} {error.msg}"
    hint = error.argument.hint
    types = [part for part in get_args(hint) or (hint,) if part is not NoneType]
    choices = _choices(hint)
    if choices:
        near = _near(error.token.value, choices)
        return f"{name} {error.token.value!r} is none of {', '.join(choices)}" + (f"; {near}" if near else "")
    return f"{name} {error.token.value!r} is not {KINDS[types[0]]}"


def _choices(hint: Any) -> list[str]:
    """The values of a Literal, also within a union."""
    if get_origin(hint) is Literal:
        return [str(value) for value in get_args(hint)]
    return [value for part in get_args(hint) for value in _choices(part)]


def _near(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(words), n=3, cutoff=0.7)
    return f"did you mean {_listed(near, 'or')}?" if near else ""


def _listed(names: Iterable[str], word: str = "and") -> str:
    """a, b and c."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last
