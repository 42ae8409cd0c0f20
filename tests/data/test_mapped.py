"""Mapped arrays: the file's values, writable without effect on it; memory that stays within its budget."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sadari.data import mapped
from sadari.data.mapped import map_array

LINUX = Path("/proc/self/statm").exists()


def test_values_are_the_files_and_writing_does_not_reach_it() -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    Path("raw").write_bytes(values.tobytes())
    array = map_array(Path("raw"), np.float32, (4, 3), 1 << 40)
    np.testing.assert_array_equal(array, values)
    assert array.flags.writeable
    array[:] = 7
    assert Path("raw").read_bytes() == values.tobytes()


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_pages_that_were_given_back_are_read_again_and_the_thread_ends_with_the_last_array() -> None:
    values = np.random.default_rng(0).normal(size=(1 << 18)).astype(np.float32)
    Path("raw").write_bytes(values.tobytes())
    array = map_array(Path("raw"), np.float32, values.shape, 0)  # a budget of nothing: always above it
    for _ in range(5):
        np.testing.assert_array_equal(array, values)
        mapped._trim()
    names = [thread.name for thread in threading.enumerate()]
    assert "mapped pages" in names
    del array
    until = time.monotonic() + 10
    while time.monotonic() < until and "mapped pages" in [thread.name for thread in threading.enumerate()]:
        time.sleep(0.01)
    assert "mapped pages" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_memory_stays_near_the_budget_while_a_larger_file_is_read() -> None:
    """600 MB read in blocks by a process that may hold 200 MB: without giving back its peak is above 600."""
    with open("raw", "wb") as file:
        file.truncate(600_000_000)
    code = """
from pathlib import Path
import numpy as np
from sadari.data.mapped import map_array
array = map_array(Path("raw"), np.float32, (1_500_000, 100), 200 << 20)
print(sum(float(array[at:at + 20_000].sum()) for at in range(0, len(array), 20_000)))
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    total, peak = done.stdout.split()
    assert float(total) == 0
    assert int(peak) < 450
