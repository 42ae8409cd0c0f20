"""Shards give each sample once, in the order of a seed, to one worker, and go on where they stopped."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import random
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sadari.data import shards as module
from sadari.data.shards import Sample, Shards, found_shards
from sadari.data.tar_stream import members
from sadari.errors import SadariError


def write(path: Path, samples: Sequence[tuple[str, dict[str, bytes]]], **how: Any) -> Path:
    files = [(f"{key}.{ending}", content) for key, parts in samples for ending, content in parts.items()]
    path.write_bytes(archive(files, **how))
    return path


def archive(files: Sequence[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=format) as tape:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tape.addfile(info, io.BytesIO(content))
    return held.getvalue()


def shards(folder: Path, sizes: Sequence[int], packed: bool = False) -> list[Path]:
    """Shards of that many samples, each of two parts whose lengths differ."""
    folder.mkdir(parents=True, exist_ok=True)
    made, number = [], itertools.count()
    for place, size in enumerate(sizes):
        samples = [
            (f"{n:05d}", {"jpg": bytes([n % 256]) * (n % 700), "txt": f"picture {n}".encode()})
            for n in itertools.islice(number, size)
        ]
        path = write(folder / f"part-{place:03d}.tar", samples)
        if packed:
            path.write_bytes(gzip.compress(path.read_bytes()))
        made.append(path)
    return made


def keys(stream: Iterator[Sample] | Shards) -> list[str]:
    return [sample.key for sample in stream]


# --------------------------------------------------------------------- the archive


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300),
            st.binary(max_size=1500),
        ),
        max_size=8,
    ),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.booleans(),
)
def test_an_archive_reads_as_the_standard_library_reads_it(
    files: list[tuple[str, bytes]], format: int, packed: bool
) -> None:
    files = [(name.strip("/") or "x", content) for name, content in files]
    content = archive(files, format)
    expected = []
    with tarfile.open(fileobj=io.BytesIO(content)) as tape:
        for info in tape:
            reader = tape.extractfile(info)
            assert reader is not None
            expected.append((info.name, reader.read()))
    held = gzip.compress(content) if packed else content
    found = list(members(io.BytesIO(held), "a.tar"))
    assert [(member.name, member.content) for member in found] == expected
    for place, member in enumerate(found):  # reading may begin at each of them
        rest = members(io.BytesIO(held), "a.tar", start=member.begins)
        assert [(m.name, m.begins) for m in rest] == [(m.name, m.begins) for m in found[place:]]


def test_only_plain_files_come_out_whatever_their_names() -> None:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tape:
        for kind, name in (
            (tarfile.SYMTYPE, "link.txt"),
            (tarfile.LNKTYPE, "hard.txt"),
            (tarfile.CHRTYPE, "device.txt"),
            (tarfile.FIFOTYPE, "pipe.txt"),
            (tarfile.DIRTYPE, "folder.d"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tape.addfile(info)
        for name in ("../../up.txt", "/etc/passwd.txt", "C:\\x.txt"):
            info = tarfile.TarInfo(name)
            info.size = 2
            tape.addfile(info, io.BytesIO(b"hi"))
    found = [(m.name, m.content) for m in members(io.BytesIO(held.getvalue()), "a.tar")]
    assert found == [(name, b"hi") for name in ("../../up.txt", "/etc/passwd.txt", "C:\\x.txt")]


def test_what_is_no_archive_is_refused_in_a_line() -> None:
    good = archive([("a.txt", b"x" * 3000), ("b.txt", b"y")])

    def read(content: bytes, **how: Any) -> list[Any]:
        return list(members(io.BytesIO(content), "a.tar", **how))

    for content, said in (
        (b"", r"a.tar is cut off after 0 bytes; copy it again"),
        (b"\x89PNG" + bytes(600), r"a.tar is no tar archive; give shards as .tar or .tar.gz"),
        (b"PK\x03\x04" + bytes(600), r"a.tar is packed by zip; give shards"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), r"a.tar is packed by Zstandard"),
        (good[:1000], r"a.tar is cut off: of 3,000 bytes from byte 512 on, 488 are there; copy it again"),
        (good[: 512 + 3072 + 100], r"a.tar is cut off after 3,684 bytes"),
        (
            good[:3700] + b"!" + good[3701:],
            r"a.tar is broken at byte 3,584 .*checksum is wrong.*make it again",
        ),
        (gzip.compress(good)[:-20], r"a.tar is cut off: its gzip has no end; copy it again"),
        (gzip.compress(good)[:30] + bytes(20), r"a.tar is a damaged gzip|a.tar is cut off"),
    ):
        with pytest.raises(SadariError, match=said) as caught:
            read(content)
        assert "\n" not in str(caught.value)
    with pytest.raises(
        SadariError, match=r"holds 'a.txt' of 3,000 bytes, and 2,999 are the most; leave it out"
    ):
        read(good, most=2999)
    assert len(read(good, most=3000)) == 2


def header(name: bytes, size: bytes, kind: bytes) -> bytes:
    block = bytearray(512)
    block[: len(name)], block[124 : 124 + len(size)], block[156:157] = name, size, kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_no_header_makes_it_ask_for_memory() -> None:
    class Measured(io.BytesIO):
        most = 0

        def read(self, size: int | None = -1) -> bytes:
            assert size is not None and size >= 0
            self.most = max(self.most, size)
            return super().read(size)

    huge = b"\x80" + (1 << 60).to_bytes(11, "big")
    for kind, said in (
        (b"0", r"holds 'a' of 1,152,\S+ bytes, and 268,435,456 are the most; leave it out"),
        (b"x", r"has a name of 1,152,\S+ bytes at byte 512; it was not made by tar"),
        (b"L", r"has a name of 1,152,\S+ bytes"),
        (b"Z", r"states 1,152,\S+ bytes at byte 512; it is no archive of samples"),
    ):
        file = Measured(header(b"a", huge, kind))
        with pytest.raises(SadariError, match=said):
            list(members(file, "a.tar"))
    file = Measured(header(b"a", b"1777777777", b"0"))  # 256 MiB that are not there
    with pytest.raises(SadariError, match=r"cut off: of 268,435,455 bytes from byte 512 on, 0 are there"):
        list(members(file, "a.tar"))
    assert file.most <= 1 << 24
    with pytest.raises(SadariError, match=r"broken at byte 0|no tar archive"):
        list(members(io.BytesIO(header(b"a", b"\xff" * 12, b"0")), "a.tar"))
    loop = header(b"x", b"00000000012\0", b"x") + b"0 path=a\n" + bytes(503)
    with pytest.raises(SadariError, match=r"broken at byte 512 \(a pax header is none\)"):
        list(members(io.BytesIO(loop), "a.tar"))
    large = archive([("a.txt", b"")])  # a size of its own, as of a file of 9 GB
    record = b"19 size=9000000000\n"
    large = header(b"x", b"%011o\0" % len(record), b"x") + record + bytes(512 - len(record)) + large
    with pytest.raises(SadariError, match=r"has a member of over 8 GiB, or with holes, at byte 512"):
        list(members(io.BytesIO(large), "a.tar"))


def test_a_bomb_is_left_before_it_is_unpacked() -> None:
    piece = header(b"zeros.bin", b"%011o\0" % (1 << 20), b"0") + bytes(1 << 20)
    bomb = gzip.compress(piece * 70, compresslevel=1)
    assert len(bomb) < 1 << 20
    read = 0
    with pytest.raises(SadariError, match=r"a.tar unpacks to over 100 times its size, as no pictures do"):
        for member in members(io.BytesIO(bomb), "a.tar"):
            read += len(member.content)
    assert read < 1 << 27


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_damage_is_said_or_harmless(data: st.DataObject) -> None:
    good = archive([("a/b.txt", b"x" * 600), ("é" * 90 + ".txt", b"y"), ("c.jpg", bytes(700))])
    if data.draw(st.booleans()):
        good = gzip.compress(good, mtime=0)
    broken = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, min(len(good), 6000) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(broken)[: data.draw(st.integers(0, len(good)))]
    try:
        for member in members(io.BytesIO(content), "a.tar"):
            assert isinstance(member.content, bytes)
    except SadariError as error:
        assert "\n" not in str(error)


# --------------------------------------------------------------------- samples


def test_what_stands_before_the_first_dot_is_the_key(tmp_path: Path) -> None:
    files = [
        ("__index__", b"no"), ("__meta__/a.txt", b"no"), ("README", b"no"),
        ("./set.v1/0.JPG", b"one"), ("./set.v1/0.ko.txt", b"two"), ("set.v1/1.jpg", b"three"),
        (".hidden", b"no"), ("0.jpg", b"four"),
    ]  # fmt: skip
    path = tmp_path / "a.tar"
    path.write_bytes(archive(files))
    assert [(sample.key, sample.parts) for sample in Shards(path, shuffle=0)] == [
        ("set.v1/0", {"jpg": b"one", "ko.txt": b"two"}),
        ("set.v1/1", {"jpg": b"three"}),
        ("0", {"jpg": b"four"}),
    ]


def test_a_part_that_comes_twice_and_parts_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive([("0.txt", b"a"), ("0.TXT", b"b")]))
    with pytest.raises(SadariError, match=r"a.tar has 0.txt twice; give each sample a name of its own"):
        list(Shards(path))
    path.write_bytes(archive([(f"0.{n}", b"a") for n in range(65)]))
    with pytest.raises(SadariError, match=r"a.tar has over 64 parts of 0; give each sample"):
        list(Shards(path))


def test_without_shuffling_all_comes_in_order(tmp_path: Path) -> None:
    made = shards(tmp_path, [3, 0, 4, 1])
    stream = Shards(made, shuffle=0)
    assert keys(stream) == [f"{n:05d}" for n in range(8)] == keys(stream)
    assert stream.epoch == 2
    sample = next(iter(Shards(made[2], shuffle=0)))
    assert sample == Sample("00003", {"jpg": b"\3\3\3", "txt": b"picture 3"}, "part-002.tar")


def test_an_epoch_has_every_sample_once_in_the_order_of_its_seed(tmp_path: Path) -> None:
    made = shards(tmp_path, [20, 5, 30, 1])
    stream = Shards(tmp_path, seed=3, shuffle=10)
    first, second = keys(stream), keys(stream)
    assert sorted(first) == sorted(second) == [f"{n:05d}" for n in range(56)]
    assert len({tuple(order) for order in (first, second, sorted(first))}) == 3
    assert keys(Shards(made, seed=3, shuffle=10)) == first
    assert keys(Shards(made, seed=4, shuffle=10)) != first


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any),
    workers=st.integers(1, 6),
    shuffle=st.integers(0, 7),
    packed=st.booleans(),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_workers_share_nothing_and_go_on_where_they_stopped(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    workers: int,
    shuffle: int,
    packed: bool,
    seed: int,
    data: st.DataObject,
) -> None:
    made = shards(tmp_path_factory.mktemp("shards"), sizes, packed)
    seen: Counter[str] = Counter()
    for worker in range(workers):
        how: dict[str, Any] = {"seed": seed, "shuffle": shuffle, "worker": worker, "workers": workers}
        stream = Shards(made, **how)
        epochs = [keys(stream), keys(stream)]
        seen.update(epochs[0])
        stop = data.draw(st.integers(0, sum(map(len, epochs))))
        stream = Shards(made, **how)
        given = list(itertools.islice(itertools.chain(iter(stream), iter(stream)), stop))
        state = json.loads(json.dumps(stream.state()))
        again = Shards(made, **how)
        again.load_state(state)
        rest = itertools.chain(*(iter(again) for _ in range(2 - again.epoch)))
        assert [sample.key for sample in (*given, *rest)] == epochs[0] + epochs[1]
    assert seen == Counter({f"{n:05d}": 1 for n in range(sum(sizes))})


def test_a_state_is_small_and_names_what_differs(tmp_path: Path) -> None:
    made = shards(tmp_path / "a", [300, 300])
    stream = Shards(made, shuffle=200)
    list(itertools.islice(stream, 350))
    state = stream.state()
    assert len(json.dumps(state)) < 300 and state["block"] == 1 and state["given"] == 150
    moved = tmp_path / "moved"
    (tmp_path / "a").rename(moved)
    again = Shards(moved, shuffle=200)
    again.load_state(state)  # in another folder they are the same
    assert len(keys(again)) == 250
    for other, said in (
        (Shards(moved, shuffle=100), r"stopped with shuffle=200 and goes on with 100; give it what it had"),
        (Shards(moved, shuffle=200, seed=1), r"stopped with seed=0 and goes on with 1"),
        (Shards(moved / "part-000.tar", shuffle=200), r"stopped with shards='\w+' and goes on with '\w+'"),
    ):
        with pytest.raises(SadariError, match=said):
            other.load_state(state)
    for broken in (
        {**state, "block": "x"},
        {**state, "given": -1},
        {k: state[k] for k in state if k != "epoch"},
    ):
        with pytest.raises(SadariError, match=r"the stream's state is none \(.*\); start the epoch anew"):
            again.load_state(broken)


def test_a_broken_shard_stops_or_is_left_and_said(tmp_path: Path) -> None:
    made = shards(tmp_path, [4, 4, 4])
    made[1].write_bytes(made[1].read_bytes()[:2500])
    with pytest.raises(SadariError, match=r"part-001.tar is cut off"):
        list(Shards(made))
    stream = Shards(made, shuffle=0, skip_broken=True)
    found = keys(stream)
    assert found[:4] == ["00000", "00001", "00002", "00003"] and found[-4:] == [
        f"{n:05d}" for n in range(8, 12)
    ]
    assert keys(stream) == found
    assert len(stream.failures) == 1 and "part-001.tar is cut off" in stream.failures[0]


def test_addresses_are_opened_by_fsspec_and_read_alike(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    made = shards(tmp_path, [5, 6])
    system = fsspec.filesystem("memory")
    for path in made:
        system.pipe(f"/set/{path.name}", path.read_bytes())
    local = keys(Shards(made, seed=1, shuffle=3))
    for urls in ("memory://set/part-{000..001}.tar", "memory://set/*.tar"):
        assert keys(Shards(urls, seed=1, shuffle=3)) == local
    stream = Shards("memory://set/*.tar", seed=1, shuffle=3)
    list(itertools.islice(stream, 4))
    on_disk = Shards(made, seed=1, shuffle=3)
    on_disk.load_state(stream.state())
    assert keys(on_disk) == local[4:]
    with pytest.raises(SadariError, match=r"memory://set/none.tar is not there; check the name"):
        list(Shards("memory://set/none.tar"))
    with pytest.raises(SadariError, match=r"nosuch://a.tar cannot be read \(.*nosuch.*\); check the address"):
        list(Shards("nosuch://a.tar"))


def test_names_of_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_SHARDS", 1000)
    made = [str(path) for path in shards(tmp_path / "x", [1, 1, 1])]
    assert found_shards(tmp_path / "x") == found_shards(str(tmp_path / "x" / "*.tar")) == made
    assert found_shards("s3://a/{x,y}-{08..11}.tar") == [
        f"s3://a/{name}-{number}.tar" for name in "xy" for number in ("08", "09", "10", "11")
    ]
    for urls, said in (
        ([], r"nothing names no shards; give .tar files, a folder of them, or an address"),
        (tmp_path, r"names no shards"),
        ([made[0], made[0]], r"part-000.tar is named twice; name each shard once"),
        ("a-{5..1}.tar", r"\{5..1\} counts nothing, or too much; the lower number comes first"),
        ("a-{0..99999999}.tar", r"counts nothing, or too much"),
        ("a-{x}.tar", r"\{x\} is no range; write \{000..127\} or \{a,b\}"),
        ("a-" + "{0..99}" * 2, r"stands for over 1,000 shards; name some of them"),
    ):
        with pytest.raises(SadariError, match=said):
            found_shards(urls)
    with pytest.raises(SadariError, match=r"none.tar is not there; check the name"):
        list(Shards(tmp_path / "none.tar"))
    for how, said in (
        ({"worker": 2, "workers": 2}, r"worker 2 of 2 is none; count workers from 0"),
        ({"shuffle": -1}, r"shuffle=-1, seed=0: neither may be negative"),
    ):
        with pytest.raises(SadariError, match=said):
            Shards(made, **how)


def test_a_stream_holds_a_block_and_no_more(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.tar", [(f"{n:03d}", {"bin": random.Random(n).randbytes(100_000)}) for n in range(200)]
    )
    import tracemalloc

    tracemalloc.start()
    for _ in Shards(path, shuffle=10):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
