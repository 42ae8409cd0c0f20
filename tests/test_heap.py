"""Kept memory: a freed tensor's pages stay while it is open, and go back when it is closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sadari import heap
from sadari.heap import kept_memory

SIZE = 256 << 20
NAME = "THP_MEM_ALLOC_ENABLE"
ROOT = Path(__file__).parent.parent


def resident() -> int:
    """Bytes of this process that are in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    raise AssertionError("no VmRSS")


@pytest.mark.skipif(heap._glibc() is None, reason="only glibc has the call")
def test_freed_memory_stays_while_open_and_goes_back_after() -> None:
    """In a process of its own: one that has run other tests holds free memory already."""
    code = "from tests.test_heap import keep_and_give_back as test; test()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def keep_and_give_back() -> None:
    before = resident()
    with kept_memory() as kept:
        assert kept
        with kept_memory():
            torch.ones(SIZE, dtype=torch.uint8)  # written, and freed at once
        assert resident() > before + SIZE * 0.9  # the inner one's end does not give it back
    assert resident() < before + SIZE * 0.5
    torch.ones(SIZE, dtype=torch.uint8)
    assert resident() < before + SIZE * 0.5  # as it was before


@pytest.mark.parametrize("asked", ["", "0"])
def test_large_tensors_lie_in_large_pages(asked: str) -> None:
    """Where the kernel has them, unless somebody said no."""
    choice = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not choice.exists() or "[madvise]" not in choice.read_text():
        pytest.skip("the kernel gives large pages to nobody, or to everybody")
    code = "import torch, sadari.heap; from tests.test_heap import in_large_pages as test; test({})"
    environment = {name: value for name, value in os.environ.items() if name != NAME}
    environment |= {NAME: asked} if asked else {}
    done = subprocess.run(
        [sys.executable, "-c", code.format(not asked)],
        cwd=ROOT, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def in_large_pages(expected: bool) -> None:
    ones = torch.ones(SIZE, dtype=torch.uint8)
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    large = sum(int(line.split()[1]) << 10 for line in lines if line.startswith("AnonHugePages"))
    assert (large > 0) == expected
    assert ones.all()


def test_elsewhere_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    with kept_memory() as kept:
        assert not kept


def test_settings_go_back_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError), kept_memory():
        raise ZeroDivisionError
    assert heap._depth == 0
