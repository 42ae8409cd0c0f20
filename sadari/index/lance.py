"""LanceDB as the index uses it: loaded when asked for, its columns as arrays, its errors as one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from sadari.errors import SadariError

QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`")
"""Texts and names of a condition between quotes."""
KEYS = {
    "S3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "AWS": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "GCS": "set GOOGLE_APPLICATION_CREDENTIALS to the file of a service account",
    "Azure": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""Where credentials are looked for, by what LanceDB's error calls the storage."""
WRONG = (
    ("No object store provider", "no storage has addresses that begin so", "give s3://, gs:// or az://"),
    ("BadScheme", "its endpoint is http, unencrypted", "give https, or --storage allow_http=true"),
    (
        "NoSuchBucket|ContainerNotFound|bucket does not exist",
        "there is no bucket or container of that name",
        "make it first, or check the name, the endpoint and the region",
    ),
    (
        "Failed to get AWS credentials|TokenRequest|no storage account|no Azure account",
        "no credentials are found",
        "{keys}, or give them with --storage",
    ),
    (
        "InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|AuthenticationFailed|status: 40[13]",
        "the credentials are not let in there",
        "check the keys, and that they may read and write there",
    ),
    (
        "kind: Connect|ConnectError|dns error",
        "nothing answers there",
        "check the connection, the endpoint and the region",
    ),
)
"""What LanceDB's error of a storage holds, what that means and what mends it; the first that fits counts."""


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


def connected(where: str, storage: Mapping[str, str] | None = None) -> tuple[Any, list[str]]:
    """The database of a folder or an address, and its tables. Raises what LanceDB does."""
    database = libraries()[0].connect(where, storage_options=dict(storage or {}) or None)
    return database, list(database.list_tables().tables)


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


def check_condition(where: str) -> None:
    """Raise SadariError for a semicolon outside quotes, behind which LanceDB reads no further."""
    if ";" in QUOTED.sub("", where):
        raise SadariError(
            f"where {where!r}: what stands behind ';' would be left out without a word; join conditions with "
            "AND, and put texts between single quotes"
        )


@contextmanager
def said(what: str, remedy: str) -> Iterator[None]:
    """What LanceDB raises within, as a SadariError of one line: `what`, its own first words, the remedy.

    What people meet in object storage is said in plain words: LanceDB's are a page of its own insides.
    """
    try:
        yield
    except (ValueError, RuntimeError, OSError, TypeError, KeyError) as error:
        text = str(error)
        keys = next((keys for name, keys in KEYS.items() if name in text), "set its keys")
        known = (
            f"{means}; {mends.format(keys=keys)}" for sign, means, mends in WRONG if re.search(sign, text)
        )
        raise SadariError(f"{what}: " + next(known, f"{line(error)}; {remedy}")) from error


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
