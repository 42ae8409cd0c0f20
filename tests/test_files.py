"""Files are whole or untouched."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sadari.errors import SadariError
from sadari.files import make_folder, read_json, sha256, write_atomic, write_json


def test_writes_whole_content_and_makes_the_folder(tmp_path: Path) -> None:
    write_atomic(tmp_path / "새 폴더" / "a.txt", "안녕")
    assert (tmp_path / "새 폴더" / "a.txt").read_text(encoding="utf-8") == "안녕"


def test_a_full_disk_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        SadariError, match=r"cannot write .*a.json \(No space left on device\); free some space"
    ):
        write_json(path, {"new": 2})
    assert read_json(path, "a run") == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_json_that_is_no_number_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "holds list, not an object; make a run again"),
        ("\xff\xfe", "cannot be read as JSON"),
    ],
)
def test_broken_json_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(SadariError, match=message):
        read_json(tmp_path / "a.json", "a run")


def test_missing_json_says_what_the_folder_is_not(tmp_path: Path) -> None:
    with pytest.raises(SadariError, match=f"{tmp_path} is not a run: it has no config.json"):
        read_json(tmp_path / "config.json", "a run")


def test_checksum_is_the_known_one(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert sha256(tmp_path / "empty").startswith("e3b0c44298fc1c149afbf4c8996fb924")


def test_a_folder_is_there_whole_or_not_at_all_and_is_made_once(tmp_path: Path) -> None:
    place, calls = tmp_path / "cache" / "a", []

    def fill(fresh: Path) -> None:
        calls.append(fresh)
        (fresh / "one").write_text(str(len(calls)))
        assert not place.exists()
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left on device"):
        make_folder(place, fill)
    assert list(place.parent.iterdir()) == []
    make_folder(place, fill)
    make_folder(place, fill)
    assert len(calls) == 2 and [path.name for path in place.parent.iterdir()] == ["a"]
    assert (place / "one").read_text() == "2"


def test_a_folder_that_another_was_faster_with_stays(tmp_path: Path) -> None:
    def fill(fresh: Path) -> None:
        (fresh / "mine").touch()
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "theirs").touch()

    make_folder(tmp_path / "a", fill)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
