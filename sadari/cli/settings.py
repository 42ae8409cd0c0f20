"""Options made from the fields of config dataclasses: a setting added to a rung appears here by itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from types import NoneType
from typing import Annotated, Any, get_args

from cyclopts import Group, Parameter

from sadari.cli.options import several_whole, split_names, whole
from sadari.describe import Field

AUTO = "auto"
_ALIASES = {"learning_rate": ("--lr",), "towers": ("--from",), "weights": ("--from",)}


def with_options(command: Callable[..., None], options: Iterable[inspect.Parameter]) -> Callable[..., None]:
    """`command` with one keyword option after another in place of its `**settings`.

    An option is None until it is given, so that a run's config says what was asked for and no more.
    """
    signature = inspect.signature(command, eval_str=True)
    fixed = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]

    @wraps(command)
    def call(*values: Any, **named: Any) -> None:
        command(*values, **named)

    call.__signature__ = signature.replace(parameters=[*fixed, *options])  # type: ignore[attr-defined]
    call.__annotations__ = {}  # they would be read instead of the signature
    return call


def option(field: Field, group: Group) -> inspect.Parameter:
    """One field as an option of the command line."""
    automatic = field.name == "learning_rate"
    about = Parameter(
        name=(field.flag, *_ALIASES.get(field.name, ())),
        help=field.help + (f" `{AUTO}` means 0." if automatic else ""),
        group=group,
        show_default=AUTO if automatic and not field.default else _say(field.default),
        converter=_converter(field),
        negative=None if field.default is True else (),
    )
    annotation = Annotated[field.type | None, about]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _converter(field: Field) -> Callable[..., Any] | None:
    """What turns words of a command line into a field's value, where the library's way is not ours."""
    if field.name == "learning_rate":
        return _rate
    plain = [part for part in get_args(field.type) or (field.type,) if part is not NoneType]
    return _CONVERTERS.get(field.type) or _CONVERTERS.get(plain[0])


_CONVERTERS: dict[Any, Callable[..., Any]] = {
    int: whole,
    tuple[int, ...]: several_whole,
    tuple[str, ...]: split_names,
}


def _say(default: Any) -> str | bool:
    """A default as help shows it; False hides it."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return False if default in (None, "", ()) else str(default)


def _rate(_: Any, tokens: list[Any]) -> float:
    """A learning rate: a number, or `auto`, which the config writes as 0."""
    return 0.0 if tokens[0].value == AUTO else float(tokens[0].value)
