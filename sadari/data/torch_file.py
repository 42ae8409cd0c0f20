"""Weights out of a file of `torch.save`, without running anything in it and without torch.

Such a file is a program for a small stack machine (Python's pickle) and the numbers behind it. Its
instructions are read one by one and only those are followed that a table of tensors is made of; the only
names known are those of tensors' storages and of what puts a view on one. All else is refused.

    old (before torch 1.6)   magic, version, machine, table, keys; then for each key a count and its numbers
    new                      a zip archive: NAME/data.pkl is the table, NAME/data/KEY the numbers
"""

from __future__ import annotations

import io
import math
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors.numpy import save

from sadari.errors import SadariError
from sadari.files import write_atomic

MAGIC = 0x1950A86A20F9469CFC6C  # the first number of an old file
MOST = 1 << 32  # bytes of a file that is believed
DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "<b1",
}
MARK = object()
_BROKEN = (ValueError, KeyError, IndexError, TypeError, EOFError, OverflowError, NotImplementedError)


@dataclass(frozen=True)
class Name:
    """A name that the file asks for: never looked up, only compared."""

    module: str
    name: str


@dataclass(frozen=True)
class Storage:
    """A row of numbers that lies behind the table."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class View:
    """A tensor: which of a storage's numbers, in which order."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by their names. SadariError for a file that holds anything else."""
    try:
        if path.stat().st_size > MOST:
            raise ValueError(f"larger than {MOST >> 30} GiB")
        with open(path, "rb") as file:
            views, storages = _new(file) if zipfile.is_zipfile(file) else _old(file)
            return {name: _numbers(view, storages) for name, view in views.items()}
    except OSError as error:
        raise SadariError(f"{path} cannot be read ({error}); fetch it again") from error
    except (*_BROKEN, zipfile.BadZipFile) as error:
        raise SadariError(
            f"{path} is no file of weights that can be read safely ({error}); save it as safetensors"
        ) from error


def as_safetensors(path: Path) -> Path:
    """The same tensors as NAME.safetensors beside the file NAME, written once; its path.

    SadariError as `read_torch_file`, and when the disk is full.
    """
    made = path.with_suffix(".safetensors")
    if not made.exists():
        write_atomic(made, save(read_torch_file(path), {"format": "pt"}))
    return made


def _old(file: IO[bytes]) -> tuple[dict[str, View], dict[str, bytes]]:
    file.seek(0)
    if _follow(file) != MAGIC:
        raise ValueError("no file of torch.save")
    _follow(file)  # version
    if _of(_follow(file), dict).get("little_endian") is not True:
        raise ValueError("written on another kind of machine")
    views = _table(_follow(file))
    wanted = {view.storage.key: view.storage for view in views.values()}
    storages = {}
    for key in _follow(file):
        count = int.from_bytes(_exactly(file, 8), "little")
        size = np.dtype(wanted[key].dtype).itemsize  # a storage that no tensor has would have no size
        storages[key] = _exactly(file, count * size)
    return views, storages


def _new(file: IO[bytes]) -> tuple[dict[str, View], dict[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        sizes = {entry.filename: entry for entry in archive.infolist()}
        (table,) = (name for name in sizes if name.endswith("/data.pkl"))
        folder = table.removesuffix("data.pkl")
        order = folder + "byteorder"
        if order in sizes and archive.read(order).strip() != b"little":
            raise ValueError("written on another kind of machine")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in sizes.values()):
            raise ValueError("compressed, which torch.save never does")
        views = _table(_follow(io.BytesIO(archive.read(table))))
        keys = {view.storage.key for view in views.values()}
        return views, {key: archive.read(f"{folder}data/{key}") for key in keys}


def _exactly(file: IO[bytes], count: int) -> bytes:
    found = file.read(count) if count <= MOST else b""
    if len(found) != count:
        raise ValueError("cut short")
    return found


def _table(content: Any) -> dict[str, View]:
    if not isinstance(content, dict) or not content:
        raise ValueError(f"it holds {type(content).__name__}, no table of weights")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, View):
            raise ValueError(f"{name!r} is no tensor")
    return content


def _numbers(view: View, storages: Mapping[str, bytes]) -> np.ndarray:
    """The tensor as an array of its own, if all of it lies inside its storage."""
    dtype = np.dtype(view.storage.dtype)
    row = np.frombuffer(storages[view.storage.key], dtype)
    sizes = (view.offset, *view.shape, *view.strides)
    if len(view.shape) != len(view.strides) or any(type(n) is not int or n < 0 for n in sizes):
        raise ValueError(f"shape {view.shape}, strides {view.strides}, offset {view.offset}")
    if math.prod(view.shape) == 0:
        return np.empty(view.shape, dtype)
    last = view.offset + sum((n - 1) * step for n, step in zip(view.shape, view.strides, strict=True))
    if last >= len(row) or math.prod(view.shape) > len(row):
        raise ValueError("a tensor reaches beyond its numbers")
    strides = tuple(step * dtype.itemsize for step in view.strides)
    return np.lib.stride_tricks.as_strided(row[view.offset :], view.shape, strides).copy()


class _Bounded:
    """A file of which no more is asked for than it holds: a length in a damaged one may be any number."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.tell, self.readline = file, file.tell, file.readline
        here = file.tell()
        self.end = file.seek(0, io.SEEK_END)
        file.seek(here)

    def read(self, count: int) -> bytes:
        return self.file.read(min(count, self.end - self.file.tell()))


def _follow(file: IO[bytes]) -> Any:
    """What the next program in the file leaves: numbers, strings, tuples, lists, dicts and `View`s."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    program: Any = _Bounded(file)
    for code, argument, _ in pickletools.genops(program):
        name = code.name
        if name == "STOP":
            return stack.pop()
        if name in ("PROTO", "FRAME"):
            continue
        if name in PUSHED:
            stack.append(argument)
        elif name in MADE:
            stack.append(MADE[name]())
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(Name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            last = stack.pop()
            stack.append(Name(stack.pop(), last))
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            count = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}.get(name)
            stack.append(
                tuple(_marked(stack) if count is None else [stack.pop() for _ in range(count)][::-1])
            )
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else _marked(stack)
            _of(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else _marked(stack)
            _of(stack[-1], dict).update(zip(items[::2], items[1::2], strict=True))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(_called(stack.pop(), arguments))
        elif name == "BUILD":  # the version numbers that a state dict carries beside its tensors
            stack.pop()
            _of(stack[-1], dict)
        else:
            raise ValueError(f"it asks for {name}")
    raise ValueError("cut short")


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": MARK, "EMPTY_TUPLE": ()}
MADE: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict}
PUSHED = ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")


def _marked(stack: list[Any]) -> list[Any]:
    """What lies above the last mark, taken off with it."""
    place = len(stack) - 1
    while stack[place] is not MARK:
        place -= 1
        if place < 0:
            raise ValueError("no mark")
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _of(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{type(value).__name__} in place of {kind.__name__}")
    return value


def _storage(words: Any) -> Storage:
    """The storage that ("storage", kind, key, device, count, ...) names."""
    word, kind, key, _, count = words[:5]
    if word != "storage" or not isinstance(kind, Name) or kind.module != "torch":
        raise ValueError(f"it asks for {kind}")
    if not isinstance(key, str) or type(count) is not int or (len(words) > 5 and words[5] is not None):
        raise ValueError(f"storage {words[2:]}")
    return Storage(key, DTYPES[kind.name], count)


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    """The answer of the two functions that a state dict asks for."""
    if function == Name("collections", "OrderedDict") and arguments == ():
        return {}
    if function == Name("torch._utils", "_rebuild_tensor_v2"):
        storage, offset, shape, strides = arguments[:4]
        return View(_of(storage, Storage), offset, _of(shape, tuple), _of(strides, tuple))
    if function == Name("torch._utils", "_rebuild_parameter"):
        return _of(arguments[0], View)
    raise ValueError(f"it asks for {function}")
