"""What a config dataclass or a function says of its settings, read from the source; nothing heavy is loaded.

The command line shows the settings of every rung and of the loop. Importing those files costs two seconds
of torch; parsing them costs a millisecond, and the string under each field stays the one place where a
setting is explained.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Union

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Field:
    """One field of a config dataclass."""

    name: str
    """The field's name, as in Python."""
    type: Any
    """Its type as `typing.get_type_hints` would give it: int, float | None, Literal["relu", "tanh"] ..."""
    default: Any
    """Its default value."""
    help: str
    """The string under the field, on one line; empty where there is none."""

    @property
    def flag(self) -> str:
        """The field as it is written on the command line."""
        return "--" + self.name.replace("_", "-")


@cache
def fields_of(module: str, name: str) -> tuple[Field, ...]:
    """The fields of dataclass `name` in `module` ("sadari.models.shallow"), inherited ones first, unimported.

    Raises LookupError when the module or the class is not there, ValueError when a default or a type is more
    than a literal, a constant of a sadari module, or a union, Literal or tuple of plain types.
    """
    source = _Source(module)
    definition = source.definitions.get(name)
    if not isinstance(definition, ast.ClassDef):
        raise LookupError(f"{module} has no class {name}")
    found: dict[str, Field] = {}
    for base in definition.bases:
        home, base_name = source.origin(ast.unparse(base))
        found |= {field.name: field for field in fields_of(home, base_name)}
    for statement, after in zip(definition.body, [*definition.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if statement.value is None:
                raise ValueError(
                    f"{module}.{name}.{statement.target.id} has no default; every setting needs one"
                )
            found[statement.target.id] = Field(
                statement.target.id,
                source.type(statement.annotation),
                source.value(statement.value),
                _text(after),
            )
    return tuple(found.values())


@cache
def options_of(module: str, name: str) -> tuple[Field, ...]:
    """The keyword-only parameters of function `name` in `module`, unimported; their help is left empty.

    A Sequence is given as a tuple, which is what a command line can make of it.
    Raises LookupError when there is no such module or function, ValueError as `fields_of` does.
    """
    source = _Source(module)
    definition = source.definitions.get(name)
    if not isinstance(definition, ast.FunctionDef):
        raise LookupError(f"{module} has no function {name}")
    return tuple(
        Field(argument.arg, source.type(argument.annotation), source.value(default), "")
        for argument, default in zip(definition.args.kwonlyargs, definition.args.kw_defaults, strict=True)
        if argument.annotation is not None and default is not None
    )


def _text(statement: ast.stmt | None) -> str:
    """The string that stands alone as a statement, its lines joined into one."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str(text))):
            return " ".join(inspect.cleandoc(text).split())
    return ""


class _Source:
    """One module's text: what it defines at the top, and where the names that it imports come from."""

    def __init__(self, module: str) -> None:
        path = _ROOT.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not path.is_file():
            raise LookupError(f"there is no module {module}")
        self.module = module
        self.definitions: dict[str, ast.AST] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        tree = ast.parse(path.read_text(encoding="utf-8"))
        self.docstring = ast.get_docstring(tree) or ""
        for statement in tree.body:
            match statement:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                    self.definitions[name] = statement
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.definitions[name] = value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self.definitions[name] = value
                case ast.ImportFrom(module=str(home), names=names, level=0):
                    self.imported |= {alias.asname or alias.name: (home, alias.name) for alias in names}

    def origin(self, name: str) -> tuple[str, str]:
        """The module that defines `name`, and its name there."""
        return self.imported.get(name, (self.module, name))

    def named(self, name: str) -> tuple[_Source, ast.AST]:
        """The expression that `name` stands for, with the module in which to read it."""
        home, name = self.origin(name)
        source = self if home == self.module else _Source(home)
        if name not in source.definitions:
            raise ValueError(f"{self.module}: {name} is neither a literal nor a constant of a sadari module")
        return source, source.definitions[name]

    def value(self, node: ast.AST) -> Any:
        """A default: a literal, or the name of a constant."""
        if isinstance(node, ast.Name):
            source, node = self.named(node.id)
            return source.value(node)
        return ast.literal_eval(node)  # type: ignore[arg-type]

    def type(self, node: ast.AST) -> Any:
        """A type: plain, or a union, Literal or tuple of plain ones, or the name of such a type."""
        match node:
            case ast.Constant(value=None):
                return NoneType
            case ast.Constant(value=str(text)):  # a type in quotes
                return self.type(ast.parse(text, mode="eval").body)
            case ast.Constant(value=value) if value is ...:
                return ...
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return Union[self.type(left), self.type(right)]  # noqa: UP007 -- built from values, not written
            case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
                values = ast.literal_eval(choices)
                return Literal[values]  # type: ignore[valid-type]
            case ast.Subscript(value=ast.Name(id="tuple"), slice=inner):
                parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                return tuple[tuple(self.type(part) for part in parts)]  # type: ignore[misc]
            case ast.Subscript(value=ast.Name(id="Sequence"), slice=part):
                return tuple[self.type(part), ...]  # type: ignore[misc]
            case ast.Name(id=("int" | "float" | "bool" | "str") as name):
                return getattr(builtins, name)
            case ast.Name(id=name):
                source, node = self.named(name)
                return source.type(node)
        raise ValueError(
            f"{self.module}: the type {ast.unparse(node)} is not one that a command line can read"
        )


def docstring_of(module: str) -> str:
    """The docstring that opens a module's file, unimported. Raises LookupError when there is none such."""
    return _Source(module).docstring
