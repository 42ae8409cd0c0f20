"""Where an index lies: a folder of this machine, or an address in object storage, with its options.

    photos-index                 a folder
    s3://bucket/photos-index     Amazon S3 and what speaks its language: MinIO, R2, Ceph (with an endpoint)
    gs://bucket/photos-index     Google Cloud Storage
    az://container/photos-index  Azure Blob Storage

LanceDB takes options (region, endpoint, allow_http) and keys, these also from the environment as each
provider's own tools do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sadari.errors import SadariError


def is_address(where: str | Path) -> bool:
    """Whether it is an address, not a folder."""
    return re.match(r"[A-Za-z][\w+.-]*://", str(where)) is not None


def place(where: str | Path) -> str | Path:
    """A folder as a path, an address as it is."""
    return str(where) if is_address(where) else Path(where)


def name_of(where: str | Path) -> str:
    """What an index is called: the last part of where it lies."""
    if not is_address(where):
        return Path(where).resolve().name
    return str(where).rstrip("/").rpartition("/")[2]


def options_of(pairs: Sequence[str]) -> dict[str, str]:
    """Options of a storage, each as KEY=VALUE. Raises SadariError for what is not, or is given twice."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = (part.strip() for part in pair.partition("="))
        if not (sign and key and value):
            # what was given may be a key that is secret, and is not repeated
            raise SadariError(
                f"--storage {key if sign else '...'}: an option is KEY=VALUE; give such as region=us-east-1"
            )
        if key in found:
            raise SadariError(f"--storage {key} is given twice; leave one out")
        found[key] = value
    return found


def check_options(where: str | Path, storage: Mapping[str, str] | None) -> None:
    """Raise SadariError where a folder of this machine is given options of a storage."""
    if storage and not is_address(where):
        raise SadariError(
            f"{where} is a folder of this machine, and --storage is for an address such as "
            "s3://bucket/photos-index; leave it out"
        )
