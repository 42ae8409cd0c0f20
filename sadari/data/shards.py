"""WebDataset shards (Aizman et al. 2019, arXiv 2001.01858) as a stream that stops and goes on anywhere.

A shard is a tar whose members follow each other by sample: what stands before the first dot of a name is the
sample's key, what follows tells the part:

    000017.jpg  000017.txt  000017.ko.txt  000017.json      ->   Sample("000017", {"jpg": ..., "txt": ...})

1. deal      the shards in an order drawn by (seed, epoch), every worker its own; no two have one sample
2. read      one after another, from disk or over the network, never unpacked to disk
3. shuffle   a block of samples at a time, in an order drawn by (seed, epoch, worker, block)
4. say where `state` is where the block began and how much of it is out: a few numbers, not the block

What differs from the shuffle of `webdataset`: it swaps each sample with one of a buffer, whose content no
state can tell. A block is read, given out in a drawn order, and only then is the next one read; samples a
block apart never change places, and what is resumed goes on exactly as if it had not stopped.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from sadari.data.tar_stream import MOST_BYTES, Member, members
from sadari.errors import SadariError

SHUFFLED = 1000
"""Samples of a block, unless told otherwise."""
ENDINGS = (".tar", ".tar.gz", ".tgz")
_FORMAT = 1
_MOST_SHARDS = 1_000_000
_MOST_PARTS = 64  # of a sample
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_BEHIND = -1  # where the next sample begins, after the last of a shard
_META = re.compile(r"__[^/]*__($|/)")  # webdataset's own notes in a shard


@dataclass(frozen=True)
class Sample:
    """What belongs together in a shard."""

    key: str
    parts: dict[str, bytes] = field(repr=False)
    """Contents by what follows the key, in small letters: jpg, txt, ko.txt, json."""
    shard: str = ""


@dataclass(frozen=True)
class _Place:
    """Where a sample begins."""

    shard: int = 0
    """Place in the worker's order."""
    begins: int = 0
    """Bytes of the shard before it."""
    number: int = 0
    """Samples of the shard before it."""


class Shards:
    """The samples of shards, an epoch at each iteration, shuffled by `seed`.

    `urls` are files or addresses that fsspec opens (s3://, https://), one or many; `{000..127}`, `{a,b}` and
    `*` stand for several. `shuffle` samples are drawn from at a time, 0 keeps the order of shards and
    samples. Worker `worker` of `workers` has shards of its own; where there are fewer shards than workers,
    those of one shard take turns. Shards that are broken raise SadariError or, with `skip_broken`, are left
    where they break and said in `failures`. Raises SadariError for no shards, and settings that are none.
    """

    def __init__(
        self,
        urls: str | Path | Sequence[str | Path],
        *,
        seed: int = 0,
        shuffle: int = SHUFFLED,
        worker: int = 0,
        workers: int = 1,
        skip_broken: bool = False,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.urls = found_shards(urls)
        if not 0 <= worker < workers:
            raise SadariError(f"worker {worker} of {workers} is none; count workers from 0")
        if shuffle < 0 or seed < 0:
            raise SadariError(
                f"shuffle={shuffle}, seed={seed}: neither may be negative; shuffle=0 keeps the order"
            )
        self.seed, self.shuffle, self.worker, self.workers = seed, shuffle, worker, workers
        self.skip_broken, self.most_bytes = skip_broken, most_bytes
        self.failures: list[str] = []
        """What was wrong with shards that were left."""
        self._epoch, self._block, self._given, self._from = 0, 0, 0, _Place()

    @property
    def epoch(self) -> int:
        """How many epochs were given out whole."""
        return self._epoch

    def __iter__(self) -> Iterator[Sample]:
        """The samples of this epoch that were not given out yet; the next iteration is the next epoch."""
        source = self._samples(self._from)
        place: _Place | None = self._from
        while place is not None:
            block, place = self._read(source)
            skipped = self._given
            for number in self._order(len(block))[skipped:]:
                self._given += 1  # before it is out: whoever asks for the state then has it
                yield block[number]
            if place is not None:
                self._block, self._given, self._from = self._block + 1, 0, place
        self._epoch, self._block, self._given, self._from = self._epoch + 1, 0, 0, _Place()

    def state(self) -> dict[str, Any]:
        """Where the stream is, as plain JSON: what was given out last is behind it."""
        return {
            **self._about(),
            "epoch": self._epoch,
            "block": self._block,
            "given": self._given,
            "shard": self._from.shard,
            "begins": self._from.begins,
            "number": self._from.number,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken; the next iteration gives the rest of that epoch.

        Raises SadariError when it is of other shards or settings, under which it would mean another place.
        """
        about = self._about()
        if odd := [name for name, value in about.items() if state.get(name) != value]:
            name = odd[0]
            raise SadariError(
                f"the stream stopped with {name}={state.get(name)!r} and goes on with {about[name]!r}; give "
                "it what it had"
            )
        try:
            epoch, block, given, *place = (
                int(state[name]) for name in ("epoch", "block", "given", "shard", "begins", "number")
            )
            if min(epoch, block, given, *place) < 0:
                raise ValueError("a number below 0")
        except (KeyError, TypeError, ValueError) as error:
            raise SadariError(f"the stream's state is none ({error}); start the epoch anew") from error
        self._epoch, self._block, self._given, self._from = epoch, block, given, _Place(*place)

    def _about(self) -> dict[str, Any]:
        """What a state depends on. Shards may move to another folder."""
        names = "\0".join(_base(url) for url in self.urls)
        return {
            "format": _FORMAT,
            "shards": hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:16],
            "seed": self.seed,
            "shuffle": self.shuffle,
            "worker": self.worker,
            "workers": self.workers,
        }

    def _read(self, source: Iterator[tuple[Sample, _Place]]) -> tuple[list[Sample], _Place | None]:
        """The next block, and where the one behind it begins; None at the end."""
        block: list[Sample] = []
        for sample, after in source:
            block.append(sample)
            if len(block) >= max(1, self.shuffle):
                return block, after
        return block, None

    def _order(self, samples: int) -> list[int]:
        if not self.shuffle:
            return list(range(samples))
        draw = np.random.default_rng((self.seed, self._epoch, self.worker, self._block))
        return draw.permutation(samples).tolist()

    def _dealt(self) -> tuple[list[str], int, int]:
        """This worker's shards in their order; it takes each n-th sample, the k-th first: n, k."""
        order = list(range(len(self.urls)))
        if self.shuffle:
            order = np.random.default_rng((self.seed, self._epoch)).permutation(len(order)).tolist()
        shards = [self.urls[number] for number in order]
        if self.workers <= len(shards):
            return shards[self.worker :: self.workers], 1, 0
        own = self.worker % len(shards)
        return [shards[own]], len(range(own, self.workers, len(shards))), self.worker // len(shards)

    def _samples(self, start: _Place) -> Iterator[tuple[Sample, _Place]]:
        """This worker's samples of the epoch, each with the place of the sample behind it."""
        shards, stride, phase = self._dealt()
        for position in range(start.shard, len(shards)):
            begins, number = (start.begins, start.number) if position == start.shard else (0, 0)
            try:
                for sample, after in self._shard(shards[position], begins):
                    number += 1
                    if (number - 1) % stride == phase:
                        behind = _Place(position + 1) if after == _BEHIND else _Place(position, after, number)
                        yield sample, behind
            except SadariError as error:
                if not self.skip_broken:
                    raise
                if str(error) not in self.failures:  # it is met once an epoch
                    self.failures.append(str(error))

    def _shard(self, url: str, begins: int) -> Iterator[tuple[Sample, int]]:
        """The samples of a shard from a byte on, each with the byte at which the next one begins."""
        name = _base(url)
        with opened(url) as file:
            found = members(file, name, start=begins, most=self.most_bytes)
            named = ((*_key(member.name), member) for member in found)
            whole = ((key, ending, member) for key, ending, member in named if ending)
            held: Sample | None = None
            for key, together in itertools.groupby(whole, key=lambda part: part[0]):
                first, sample = _gathered(key, together, name)
                if held is not None:
                    yield held, first
                held = sample
            if held is not None:
                yield held, _BEHIND


def _gathered(key: str, together: Iterator[tuple[str, str, Member]], shard: str) -> tuple[int, Sample]:
    """A sample of members with one key, and where the first of them begins."""
    parts: dict[str, bytes] = {}
    begins = -1
    for _, ending, member in together:
        begins = member.begins if begins < 0 else begins
        if ending in parts:
            raise SadariError(f"{shard} has {key}.{ending} twice; give each sample a name of its own")
        parts[ending] = member.content
        if len(parts) > _MOST_PARTS:
            raise SadariError(
                f"{shard} has over {_MOST_PARTS} parts of {key}; give each sample a name of its own"
            )
    return begins, Sample(key, parts, shard)


def _key(name: str) -> tuple[str, str]:
    """Key and ending of a member's name; no ending for what is no part of a sample."""
    folder, _, base = name.removeprefix("./").rpartition("/")
    stem, dot, ending = base.partition(".")
    if not dot or not stem or not ending or _META.match(name):
        return name, ""
    return f"{folder}/{stem}" if folder else stem, ending.lower()


# --------------------------------------------------------------------- which shards, and opening them


def found_shards(urls: str | Path | Sequence[str | Path]) -> list[str]:
    """The shards that names, patterns, folders and addresses stand for, in order.

    Raises SadariError when there are none, or one is named twice.
    """
    given = [urls] if isinstance(urls, str | Path) else list(urls)
    found: list[str] = []
    for one in given:
        for name in _expanded(os.fspath(one)):
            found += _matching(name)
            if len(found) > _MOST_SHARDS:
                raise SadariError(f"{one} stands for over {_MOST_SHARDS:,} shards; name some of them")
    if not found:
        shown = ", ".join(map(str, given[:3])) or "nothing"
        raise SadariError(f"{shown} names no shards; give .tar files, a folder of them, or an address")
    if len(set(found)) < len(found):
        twice = next(name for place, name in enumerate(found) if name in found[:place])
        raise SadariError(f"{twice} is named twice; name each shard once")
    return found


@contextmanager
def opened(url: str) -> Iterator[IO[bytes]]:
    """A shard on disk, or at an address that fsspec opens. Raises SadariError when it cannot be read."""
    try:
        if "://" in url:
            import fsspec

            with fsspec.open(url, "rb") as remote:
                yield remote
        else:
            with open(url, "rb") as local:
                yield local
    except ImportError as error:
        raise SadariError(f"{url} needs a driver ({str(error)[:200]}); install it with pip") from error
    except FileNotFoundError as error:
        raise SadariError(f"{url} is not there; check the name") from error
    except (OSError, ValueError) as error:  # ValueError: an address of a kind that fsspec does not know
        why = getattr(error, "strerror", None) or str(error).split("\n")[0][:200] or type(error).__name__
        raise SadariError(f"{url} cannot be read ({why}); check the address and your rights") from error


def shard_bytes(url: str) -> int:
    """How long a shard is. Raises SadariError when it cannot be read."""
    with opened(url) as file:
        return int(file.seek(0, os.SEEK_END))


def _expanded(pattern: str) -> Iterator[str]:
    """The names that `{000..127}` and `{a,b}` in a pattern stand for."""
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    before, behind = pattern[: match.start()], pattern[match.end() :]
    numbers = _RANGE.fullmatch(match[1])
    if numbers is None and "," not in match[1]:
        raise SadariError(f"{pattern}: {match[0]} is no range; write {{000..127}} or {{a,b}}")
    choices: Iterator[str] | list[str] = match[1].split(",")
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if not 0 <= last - first < _MOST_SHARDS:
            raise SadariError(
                f"{pattern}: {match[0]} counts nothing, or too much; the lower number comes first"
            )
        choices = (str(number).zfill(len(numbers[1])) for number in range(first, last + 1))
    for choice in choices:
        yield from _expanded(before + choice + behind)


def _matching(name: str) -> list[str]:
    """The shards of a folder, or those that a name with * matches."""
    if "://" in name:
        return _matching_remote(name) if "*" in name else [name]
    if os.path.isdir(name):
        inside = sorted(entry for entry in os.listdir(name) if not entry.startswith("."))
        return [os.path.join(name, entry) for entry in inside if entry.lower().endswith(ENDINGS)]
    if "*" in name and not os.path.exists(name):
        return sorted(glob.glob(name))
    return [name]


def _matching_remote(pattern: str) -> list[str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(pattern)
        return sorted(system.unstrip_protocol(found) for found in system.glob(path))
    except (ImportError, OSError, ValueError) as error:
        raise SadariError(f"{pattern} cannot be listed ({str(error)[:200]}); name the shards") from error


def _base(url: str) -> str:
    """The last part of a path or an address."""
    return url.rstrip("/").replace(os.sep, "/").rpartition("/")[2]
