"""Archives: each kind gives its files; no hostile one writes outside its folder or beyond its size."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sadari.data.unpack import unpack
from sadari.errors import SadariError

FILES = {"pack/data/a.csv": b"x,y\n1,2\n", "pack/data/deep/b.csv": b"z\n3\n", "pack/readme": b"hello"}


def make_zip(files: dict[str, bytes], **options: int) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, content in files.items():
            pack.writestr(name, content)
    return raw.getvalue()


def make_tar(files: dict[str, bytes], mode: str = "w:gz", members: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=mode) as pack:  # type: ignore[call-overload]
        for member in members:
            pack.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            pack.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def make_deb(files: dict[str, bytes]) -> bytes:
    data = make_tar({f"./{name}": content for name, content in files.items()}, "w:xz")
    raw = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", data)):
        raw += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode() + content
        raw += b"\n" * (len(content) % 2)
    return raw


MAKERS = {"zip": make_zip, "tar.gz": make_tar, "deb": make_deb}


@pytest.mark.parametrize("kind", MAKERS)
def test_each_kind_gives_the_files_that_are_asked_for(kind: str, tmp_path: Path) -> None:
    archive = tmp_path / f"some.{kind}"
    archive.write_bytes(MAKERS[kind](FILES))
    unpack(archive, tmp_path / "out", ("pack/data/*.csv",), strip="pack/data/")
    found = {
        str(f.relative_to(tmp_path / "out")): f.read_bytes()
        for f in (tmp_path / "out").rglob("*")
        if f.is_file()
    }
    assert found == {"a.csv": FILES["pack/data/a.csv"], "deep/b.csv": FILES["pack/data/deep/b.csv"]}


def _link(name: str, kind: bytes, to: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, to
    return member


def _zip_link() -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as pack:
        info = zipfile.ZipInfo("a.csv")
        info.external_attr = 0o120777 << 16
        pack.writestr(info, "/etc/passwd")
    return raw.getvalue()


def _encrypted() -> bytes:
    raw = bytearray(make_zip({"a.csv": b"1"}))
    raw[6] |= 1  # the flag that says so, in the local header
    raw[raw.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    return bytes(raw)


OUTSIDE, LINK = "could land outside its folder; nothing was kept", "is a link or a device; only plain files"
HOSTILE = {
    "zip climbs out": (make_zip({"../a.csv": b"1"}), OUTSIDE),
    "zip climbs out in the middle": (make_zip({"x/../../a.csv": b"1"}), OUTSIDE),
    "zip from the root": (make_zip({"/tmp/a.csv": b"1"}), OUTSIDE),
    "zip with a drive": (make_zip({"C:a.csv": b"1"}), OUTSIDE),
    "zip with a backslash": (make_zip({"..\\a.csv": b"1"}), OUTSIDE),
    "zip with a link": (_zip_link(), LINK),
    "zip with a password": (_encrypted(), "is a broken archive"),
    "zip that unpacks to more": (make_zip({"a.csv": b"0" * 5000}), "unpacks to more than its 1000 bytes"),
    "tar climbs out": (make_tar({"../a.csv": b"1"}), OUTSIDE),
    "tar from the root": (make_tar({"/tmp/a.csv": b"1"}), OUTSIDE),
    "tar with a soft link": (make_tar({}, members=(_link("a.csv", tarfile.SYMTYPE, "/etc/passwd"),)), LINK),
    "tar with a hard link": (make_tar({}, members=(_link("a.csv", tarfile.LNKTYPE, "b"),)), LINK),
    "tar with a device": (make_tar({}, members=(_link("a.csv", tarfile.CHRTYPE, ""),)), LINK),
    "tar that unpacks to more": (make_tar({"a.csv": b"0" * 5000}), "unpacks to more than its 1000 bytes"),
    "tar with a name twice": (make_tar({"a.csv": b"1", "./a.csv": b"2"}), "'a.csv', which is there twice"),
    "tar cut short": (make_tar({"a.csv": bytes(range(256)) * 3})[:150], "is a broken archive"),
    "deb without data": (b"!<arch>\n" + b"x" * 200, "is not a Debian package that can be read"),
    "deb cut short": (make_deb({"a.csv": b"1"})[:180], "is not a Debian package that can be read"),
    "no archive": (b"<html>502 Bad Gateway</html>", "is a broken archive"),
    "empty file": (b"", "is a broken archive"),
    "nothing of that name": (
        make_tar({"b.txt": b"1"}),
        r"holds nothing that is called '\*.csv'; is it another version",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_refused(case: str, tmp_path: Path) -> None:
    content, message = HOSTILE[case]
    archive, out = tmp_path / "some.pack", tmp_path / "way" / "down" / "out"
    archive.write_bytes(content)
    with pytest.raises(SadariError, match=message):
        unpack(archive, out, ("*.csv",), limit=1000)
    beside = [f for f in tmp_path.rglob("*") if f.is_file() and f != archive and out not in f.parents]
    assert beside == [] and not Path("/tmp/a.csv").exists()
    assert all(not f.is_symlink() for f in out.rglob("*"))


def test_a_tar_that_decompresses_without_end_is_dropped_before_it_is_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("huge")
    member.size = 1 << 40  # stated in the header; the bytes need not follow for the harm to be tried
    archive = tmp_path / "bomb.tar.gz"
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as pack:
        pack.fileobj.write(member.tobuf())  # type: ignore[union-attr]
    archive.write_bytes(raw.getvalue())
    with pytest.raises(SadariError, match="decompresses to more than 2 GiB; it was dropped"):
        unpack(archive, tmp_path / "out", ("*.csv",))


@pytest.mark.parametrize("kind", MAKERS)
def test_a_damaged_archive_unpacks_or_says_so(kind: str, tmp_path: Path) -> None:
    """Some bytes changed, or the tail lost, 1,500 times: nothing but SadariError comes out."""
    draw, whole, archive = np.random.default_rng(0), MAKERS[kind](FILES), tmp_path / "some.pack"
    refused = 0
    for number in range(1500):
        raw = bytearray(whole)
        for place in draw.integers(len(raw), size=draw.integers(1, 4)):
            raw[place] = draw.integers(256)
        archive.write_bytes(raw[: draw.integers(len(raw))] if number % 5 == 0 else raw)
        try:
            unpack(archive, tmp_path / f"out{number}", ("pack/data/*.csv",), strip="pack/data/", limit=1000)
        except SadariError:
            refused += 1
    assert 300 < refused < 1500
