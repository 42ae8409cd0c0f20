"""Kept memory: a freed tensor's pages stay while it is open, and go back when it is closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sadari import heap
from sadari.heap import kept_memory

SIZE = 256 << 20
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


def test_elsewhere_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    with kept_memory() as kept:
        assert not kept


def test_settings_go_back_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError), kept_memory():
        raise ZeroDivisionError
    assert heap._depth == 0
