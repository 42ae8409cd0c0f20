"""An index in object storage: what a folder holds and finds, an address does; mistakes are one line.

The storage is moto's server, which speaks S3's language on this machine: `pip install 'moto[server]'`, into
an environment of its own if need be, whose `moto_server` is then on PATH.
"""
# ruff: noqa: F811  fixtures of another file are asked for by their names

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sadari.errors import SadariError

pytest.importorskip("lancedb")

from sadari.index import Index
from sadari.index.address import is_address, name_of, options_of, place
from sadari.index.lance import said
from sadari.indexing import Searcher, index, making, search
from sadari.runs import Run
from tests.cli.conftest import sadari  # noqa: F401
from tests.test_indexing import album, alike, exactly, paint, photos, run  # noqa: F401

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Where an S3 with the bucket `photos` listens."""
    program = shutil.which("moto_server")
    if program is None:
        pytest.skip("no moto_server on PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(urllib.request.Request(f"{address}/photos", method="PUT")).close()
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own credentials are looked for, nor asked of a machine's metadata."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")


@pytest.fixture
def storage(server: str) -> dict[str, str]:
    return {
        "endpoint": server,
        "region": "us-east-1",
        "allow_http": "true",
        "access_key_id": "a",
        "secret_access_key": "b",
    }


def stored(opened: Index) -> dict[str, list[float]]:
    ids, vectors, _ = opened.load()
    return {name: vector.tolist() for name, vector in zip(ids, vectors, strict=True)}


def check_alike(run: Run, tmp_path: Path, address: str, options: dict[str, str] | None) -> None:
    """Whatever is done to an index at the address, it is as that of a folder."""
    folder, beside = photos(tmp_path / "photos", 60), tmp_path / "beside"
    for count in (60, 61, 59):
        if count == 61:
            paint(folder / "more.png", "blue", 61)
        elif count == 59:
            (folder / "more.png").unlink()
            (folder / "blue 2's.png").unlink()
        there = index(folder, run, address, prune=True, storage=options)
        here = index(folder, run, beside, prune=True)
        assert len(there.index) == count and there.folder == address
        assert (there.new, there.changed, there.same, there.gone) == (
            (here.new, here.changed, here.same, here.gone)
        )
        assert alike(stored(there.index), stored(here.index))
        for query in ("노란 우산", folder / "green 1's.png"):
            assert search(address, query, 7, "path LIKE '%.png'", storage=options) == search(
                beside, query, 7, "path LIKE '%.png'"
            )
    opened = Searcher.open(address, storage=options).index
    assert opened.duplicates(0.99999) == here.index.duplicates(0.99999)
    assert opened.remove(["green 1's.png"]) == 1 and len(opened) == 58
    assert index(folder, run, address, storage=options).new == 1


def test_an_address_holds_what_a_folder_does(run: Run, tmp_path: Path) -> None:
    check_alike(run, tmp_path, f"file://{tmp_path}/index", None)


def test_object_storage_holds_what_a_folder_does(run: Run, tmp_path: Path, storage: dict[str, str]) -> None:
    check_alike(run, tmp_path, "s3://photos/whole", storage)


def test_work_broken_off_goes_on_in_object_storage(
    run: Run, tmp_path: Path, storage: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(tmp_path / "photos", 60)
    monkeypatch.setattr("sadari.predict.pictures.TOGETHER", 4)
    monkeypatch.setattr(making, "TOGETHER", 8)

    def stop(done: int, total: int) -> None:
        if done >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index(folder, run, "s3://photos/broken", storage=storage, told=stop)
    kept = len(Index.open("s3://photos/broken", storage))
    assert 0 < kept < 60
    done = index(folder, run, "s3://photos/broken", storage=storage)
    assert (done.new, done.same) == (60 - kept, kept)
    assert alike(stored(done.index), stored(index(folder, run, tmp_path / "whole").index))


def test_the_command_line_takes_addresses_and_keys_of_the_environment(
    sadari: Call, run: Run, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "photos", 12)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    options = (
        "--storage",
        f"endpoint={server}",
        "--storage",
        "allow_http=true",
        "--storage",
        "region=us-east-1",
    )
    address = "s3://photos/spoken"
    code, out, err = sadari("index", "photos", "--run", run.path, "--out", address, *options)
    assert (code, out) == (0, f"{address}\n") and "12 pictures are new" in err
    assert f'next: sadari search {address} --storage ... "words"' in err
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("s3")], "no folder of that name"
    code, out, err = sadari("search", address, "노란 우산", "-k", "1", *options, "--sheet", "found.svg")
    assert code == 0 and "yellow" in out and "spoken" in Path("found.svg").read_text()
    code, out, err = sadari("search", "s3://photos/nothing", "words", *options)
    assert (code, out) == (2, "") and "s3://photos/nothing holds no index" in err


@pytest.mark.parametrize(
    ("address", "change", "message"),
    [
        ("s3://nowhere/x", {}, r"s3://nowhere/x .*: there is no bucket .* of that name; make it first"),
        (
            "s3://photos/x",
            {"access_key_id": "", "secret_access_key": ""},
            r"no credentials.*AWS_ACCESS_KEY_ID",
        ),
        ("s3://photos/x", {"allow_http": "false"}, r"its endpoint is http, .*--storage allow_http=true"),
        ("s3://photos/x", {"endpoint": "http://127.0.0.1:9"}, r"nothing answers there; check the connection"),
    ],
)
def test_what_is_wrong_with_a_storage_is_one_line(
    address: str, change: dict[str, str], message: str, run: Run, tmp_path: Path, storage: dict[str, str]
) -> None:
    options = {name: value for name, value in {**storage, **change}.items() if value}
    for what in (
        lambda: index(photos(tmp_path / "photos", 2), run, address, storage=options),
        lambda: search(address, "words", storage=options),
    ):
        with pytest.raises(SadariError, match=message) as error:
            what()
        assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize("address", ["ftp://host/x", "nope://x"])
def test_addresses_of_an_unknown_kind_are_one_line(address: str, run: Run, tmp_path: Path) -> None:
    message = r"no storage has addresses that begin so; give s3://, gs:// or az://"
    with pytest.raises(SadariError, match=message):
        index(photos(tmp_path / "photos", 2), run, address)
    with pytest.raises(SadariError, match=message):
        search(address, "words")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_azure_without_an_account_is_one_line() -> None:
    with pytest.raises(SadariError, match=r"no credentials are found; set AZURE_STORAGE_ACCOUNT_NAME"):
        Index.open("az://container/index")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ('store: "GCS", source: TokenRequest', "set GOOGLE_APPLICATION_CREDENTIALS .*, or give them with"),
        ('store: "S3", status: 403, body: Some("<Code>AccessDenied', "the credentials are not let in there"),
        ("a {brace} of its own", r"there: a \{brace\} of its own; try again"),
    ],
)
def test_what_lancedb_says_of_a_storage_is_said_in_words(error: str, message: str) -> None:
    with pytest.raises(SadariError, match=message), said("there", "try again"):
        raise ValueError(error)


def test_addresses_and_folders_are_told_apart() -> None:
    assert all(map(is_address, ("s3://a/b", "file:///tmp/x", "s3+ddb://a")))
    assert not any(map(is_address, ("a/b", "C:/x", "photos:index", "/s3://x", "")))
    assert place("s3://a/b") == "s3://a/b" and place("a/b") == Path("a/b")
    assert (name_of("s3://a/b/"), name_of("x/photos-index")) == ("b", "photos-index")


def test_options_are_keys_and_values() -> None:
    assert options_of(["region=x", "secret_access_key=a=b= "]) == {"region": "x", "secret_access_key": "a=b="}
    for given, message in (
        (["region"], r"--storage \.\.\.: an option is KEY=VALUE"),
        (["region="], "--storage region: an option is KEY=VALUE"),
        (["=x"], "an option is KEY=VALUE"),
        (["region=x", "region=y"], "--storage region is given twice"),
    ):
        with pytest.raises(SadariError, match=message):
            options_of(given)
    with pytest.raises(SadariError) as error:
        options_of(["my-secret"])
    assert "my-secret" not in str(error.value)
