"""LanceDB as the index uses it: loaded when asked for, its columns as arrays, its errors as one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from sadari.errors import SadariError


def libraries() -> tuple[Any, Any]:
    """lancedb and pyarrow, which it brings."""
    try:
        import lancedb
        import lancedb.index
        import pyarrow
    except ImportError as error:
        raise SadariError(
            "lancedb is not installed: an index lies in its tables; pip install 'sadari[index]'"
        ) from error
    return lancedb, pyarrow


def table_names(database: Any) -> list[str]:
    """The tables of a database."""
    return list(database.list_tables().tables)


def lists(captions: Sequence[str | Sequence[str] | None] | None) -> list[list[str]] | None:
    """Captions, one or several of each item, as several."""
    if captions is None:
        return None
    return [[given] if isinstance(given, str) else list(given or ()) for given in captions]


def matrix(found: Any, width: int) -> np.ndarray:
    """The vectors of a table (N, D), without copying where they lie in one piece."""
    if not len(found):
        return np.zeros((0, width), np.float32)
    column = found["vector"]
    chunk = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return chunk.flatten().to_numpy().reshape(-1, width)


def line(error: Exception) -> str:
    """What an error says first."""
    return str(error).strip().partition("\n")[0][:300]


@contextmanager
def said(what: str, remedy: str) -> Iterator[None]:
    """What LanceDB raises within, as a SadariError of one line: `what`, its own first words, the remedy."""
    try:
        yield
    except (ValueError, RuntimeError, OSError, TypeError, KeyError) as error:
        raise SadariError(f"{what}: {line(error)}; {remedy}") from error


def array_of(schema: Any, name: str, values: list[Any]) -> Any:
    """A column as an array, of the type that it has or as its values say. SadariError if one does not fit."""
    _, pa = libraries()
    kind = schema.field(name).type if name in schema.names else None
    try:
        array = pa.array(values, kind)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise SadariError(
            f"column {name!r} holds what is no {kind or 'single kind of value'} ({line(error)}); give values "
            f"of one kind, as in the items before"
        ) from error
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array
