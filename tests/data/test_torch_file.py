"""Files of torch.save: the same tensors as torch reads, and nothing else, whatever the file asks for."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from sadari.data.torch_file import as_safetensors, read_torch_file
from sadari.errors import SadariError

FORMATS = pytest.mark.parametrize("zipped", [False, True], ids=["old", "new"])


def table() -> dict[str, torch.Tensor]:
    """Every kind of number, views that share one storage, and odd shapes."""
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    return {
        "whole": base,
        "turned": base.T,
        "part": base[1:3, ::2],
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(3).half(),
        "double": torch.randn(2, 2).double(),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "yes": torch.tensor([True, False]),
        "큰 이름": torch.arange(3),
    }


def saved(path: Path, content: Any, zipped: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@FORMATS
def test_the_same_tensors_as_torch_reads(tmp_path: Path, zipped: bool) -> None:
    content = table()
    for given_table in (content, OrderedDict(content)):
        found = read_torch_file(saved(tmp_path / "weights.pth", given_table, zipped))
        assert list(found) == list(content)
        for name, value in content.items():
            assert torch.equal(torch.from_numpy(found[name]), value), name
            assert found[name].flags.owndata or found[name].size == 0


@FORMATS
def test_a_networks_state_becomes_safetensors_once(tmp_path: Path, zipped: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    path = saved(tmp_path / "weights.pth", model.state_dict(), zipped)
    made = as_safetensors(path)
    assert made == tmp_path / "weights.safetensors"
    for name, value in load_file(made).items():
        assert torch.equal(value, model.state_dict()[name])
    path.unlink()
    assert as_safetensors(path) == made


class Evil:
    """What runs when a pickle is opened."""

    def __reduce__(self) -> Any:
        return os.system, ("touch opened",)


@FORMATS
def test_what_would_run_is_refused_unread(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path / "weights.pth", {"weight": Evil()}, zipped)
    with pytest.raises(
        SadariError, match=r"read safely \(it asks for Name\(module='posix', name='system'\)\)"
    ):
        read_torch_file(path)
    path = saved(tmp_path / "model.pth", {"model": nn.Linear(2, 2)}, zipped)
    with pytest.raises(SadariError, match="no file of weights that can be read safely"):
        read_torch_file(path)
    assert not (tmp_path / "opened").exists() and not Path("opened").exists()


@FORMATS
@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {3: torch.zeros(1)}, {}, torch.zeros(2), "words"])
def test_other_contents_are_refused(tmp_path: Path, zipped: bool, content: Any) -> None:
    with pytest.raises(SadariError, match="no file of weights that can be read safely"):
        read_torch_file(saved(tmp_path / "weights.pth", content, zipped))


def test_plain_pickles_and_no_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    for content in (pickle.dumps(Evil()), pickle.dumps({"a": [1]}), b"", b"PK\x05\x06" + bytes(18), b"\x80"):
        path.write_bytes(content)
        with pytest.raises(SadariError, match=r"weights\.pth is no file of weights"):
            read_torch_file(path)
    with pytest.raises(SadariError, match="cannot be read"):
        read_torch_file(tmp_path / "absent.pth")


def test_a_tensor_beyond_its_numbers_is_refused(tmp_path: Path) -> None:
    """A view is the file's word: one that reaches over the end would read memory that is not its own."""
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(6.0).view(2, 3)}, buffer, _use_new_zipfile_serialization=False)
    good, shape = buffer.getvalue(), b"K\x02K\x03\x86"  # BININT1 2, BININT1 3, TUPLE2
    assert good.count(shape) == 1
    path = tmp_path / "weights.pth"
    path.write_bytes(good.replace(shape, b"K\x02K\x09\x86"))
    with pytest.raises(SadariError, match="a tensor reaches beyond its numbers"):
        read_torch_file(path)


@example(cut=0, flip=32856, byte=255, zipped=False)  # a length of eight bytes
@given(cut=st.integers(0, 10**6), flip=st.integers(0, 10**6), byte=st.integers(1, 255), zipped=st.booleans())
def test_a_damaged_file_is_refused_or_read_but_never_breaks(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int, byte: int, zipped: bool
) -> None:
    buffer = io.BytesIO()
    torch.save(table(), buffer, _use_new_zipfile_serialization=zipped)
    whole = buffer.getvalue()
    spoilt = bytearray(whole)
    spoilt[flip % len(whole)] ^= byte
    path = tmp_path_factory.mktemp("damaged") / "weights.pth"
    for content in (whole[: cut % len(whole)], bytes(spoilt)):
        path.write_bytes(content)
        try:
            found = read_torch_file(path)
        except SadariError as error:
            assert "weights.pth" in str(error)
        else:  # a number that was spoilt, or a name
            assert all(isinstance(name, str) for name in found)


def test_needs_no_torch() -> None:
    code = "import sys, sadari.data.torch_file; print('torch' in sys.modules, 'pickle' in sys.modules)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.split()[0] == "False"
