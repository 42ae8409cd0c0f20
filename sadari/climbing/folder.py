"""A climb's folder: whose it is, who is at work in it, and what can be taken up again after a kill."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from sadari import files
from sadari.errors import SadariError
from sadari.metrics import Metric

CLIMB, SETTINGS, LOCK = "climb.json", "settings.json", "lock"
Kept = tuple[dict[str, np.ndarray], dict[str, Any]]
"""Arrays by name, and facts for JSON."""


def open_folder(settings: Mapping[str, Any], name: str, out: str | Path | None) -> Path:
    """The folder for a climb: `out`, or the first under runs/ that is free or holds the same climb.

    Raises SadariError that names the first setting that differs when `out` holds another climb, or anything
    else.
    """
    if out is None:
        stem, number = Path("runs") / f"{name}-climb", 1
        while _difference(
            folder := stem if number == 1 else stem.with_name(f"{stem.name}-{number}"), settings
        ):
            number += 1
        return folder
    if difference := _difference(Path(out), settings):
        raise SadariError(f"{out} holds {difference}; give another folder with --out, or remove it first")
    return Path(out)


def _difference(folder: Path, settings: Mapping[str, Any]) -> str:
    """What a folder holds instead of a climb with these settings; empty when it is free or holds that
    climb.
    """
    if not folder.exists():
        return ""
    if not folder.is_dir():
        return "a file, not a climb"
    if not (folder / SETTINGS).is_file():
        return "something that is no climb" if any(path.name != LOCK for path in folder.iterdir()) else ""
    held = files.read_json(folder / SETTINGS, "a climb")
    for key, value in settings.items():
        if held.get(key) != value:
            return f"a climb with another {key.replace('_', ' ')} ({held.get(key)!r}, not {value!r})"
    return ""


def command(settings: Mapping[str, Any], worth: float | None, metric: Metric) -> str:
    """The command line that makes this climb again."""
    words = [
        "sadari",
        "climb",
        settings["source"],
        *(["--target", settings["target"]] if settings["target"] else []),
        "--task",
        settings["task"],
    ]
    words += ["--kind", settings["kind"]] if settings.get("kind") in ("series", "images", "captions") else []
    for name, value in settings.get("reading", {}).items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    for name in settings["drop"]:
        words += ["--drop", name]
    words += ["--log-target"] if settings["log_target"] else []
    words += ["--from", settings["from"]] if "from" in settings else []
    words += [
        "--rungs",
        ",".join(settings["rungs"]),
        "--budget",
        settings["budget"],
        "--seed",
        str(settings["seed"]),
    ]
    words += ["--starts", str(settings["starts"]), "--metric", metric.name]
    words += ["--tune", str(settings["tune"])] if settings["tune"] else []
    words += ["--worth", str(worth)] if worth is not None else []
    return shlex.join(words)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder: two climbs that write the same runs would spoil both. Freed when the process ends,
    however.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK, "w")  # noqa: SIM115
    except OSError as error:
        raise SadariError(
            f"cannot write {folder} ({error.strerror}); choose another folder with --out"
        ) from error
    with lock:
        try:
            import fcntl  # not on Windows
        except ImportError:
            yield
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SadariError(
                f"another climb is at work in {folder}; wait for it, or choose another --out"
            ) from error
        yield


def kept(path: Path, make: Callable[[], Kept]) -> Kept:
    """What `path` holds, or what `make` returns, written there in one step. A damaged file is made again."""
    try:
        with safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, json.loads(file.metadata()["facts"])
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError):
        arrays, facts = make()
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    files.write_atomic(path, safetensors.numpy.save(plain, {"facts": json.dumps(facts)}))
    return plain, facts
