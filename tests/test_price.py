"""Prices: counted where they can be counted, timed and measured against known work where they cannot."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sadari.data.prepare import prepare
from sadari.fitting import fit
from sadari.price import KEPT, TEXTS, Peak, Price, microseconds, peak_memory, price, size


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Price, Path]]:
    prepared = prepare("diabetes")
    found = {}
    for rung in ("mean", "line", "shallow"):
        run = fit(rung, "diabetes", out=tmp_path_factory.mktemp(rung), budget="20steps", prepared=prepared)
        found[rung] = price(run, prepared.validation, peak_memory=5), run.path
    return found


def test_counts_are_exact(priced: dict[str, tuple[Price, Path]]) -> None:
    """Ten columns: a line has ten weights and one bias; 100 hidden units have 100 * 11 + 101."""
    assert [priced[rung][0].parameters for rung in ("mean", "line", "shallow")] == [1, 11, 1201]
    assert [priced[rung][0].macs for rung in ("mean", "line", "shallow")] == [0, 10, 1100]


def test_bytes_are_those_of_the_files_that_predicting_needs(priced: dict[str, tuple[Price, Path]]) -> None:
    costs, folder = priced["shallow"]
    there = [folder / name for name in KEPT if (folder / name).is_file()]
    assert len(there) == len(KEPT) - 2  # a table has no tokenizer, let alone two
    assert costs.bytes == size(folder) == sum(path.stat().st_size for path in there)
    (folder / "log.jsonl").write_text("x" * 100_000)
    assert size(folder) == costs.bytes  # a log is not needed to predict


def test_times_are_ordered_as_the_work_is(priced: dict[str, tuple[Price, Path]]) -> None:
    for costs, _ in priced.values():
        assert 0 < costs.microseconds_at_256 < costs.microseconds_per_example
        assert costs.train_seconds > 0 and costs.peak_memory == 5
    assert priced["shallow"][0].microseconds_per_example > priced["mean"][0].microseconds_per_example


def test_microseconds_measure_a_known_wait() -> None:
    seen = []

    def answer(rows: np.ndarray) -> None:
        seen.append(len(rows))
        time.sleep(0.002)

    one, many = microseconds(answer, np.zeros((5, 3)), seconds=0.05)
    assert 2000 <= one < 20_000
    assert many == pytest.approx(one / 256, rel=0.9)
    assert set(seen) == {1, 256}  # five rows are repeated to make up a batch


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep no high-water mark that can be reset")
def test_peak_memory_sees_what_is_freed_again_and_forgets_what_came_before() -> None:
    before = np.ones(20_000_000)  # 160 MB, an earlier peak
    del before
    with peak_memory() as peak:
        inside = np.ones(8_000_000)  # 64 MB
        del inside
    assert peak.bytes is not None and 60e6 < peak.bytes < 100e6
    with peak_memory() as nothing:
        pass
    assert nothing.bytes is not None and nothing.bytes < 5e6


def test_a_system_without_measures_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sadari.price._reset", lambda: False)
    monkeypatch.setattr("sadari.price._highest", lambda: None)
    with peak_memory() as peak:
        pass
    assert peak == Peak(None)


def test_every_cost_is_defined_in_both_languages() -> None:
    assert set(TEXTS) == set(Price.__dataclass_fields__)
    assert all(english != korean for english, korean in TEXTS.values())


def test_a_long_answer_is_timed_once_and_a_short_one_often(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr("sadari.price.LONG", 0.0)
    microseconds(lambda batch: calls.append(len(batch)), np.zeros((3, 2)), seconds=1e-9)
    assert calls == [1, 256]
    calls.clear()
    monkeypatch.setattr("sadari.price.LONG", 1.0)
    microseconds(lambda batch: calls.append(len(batch)), np.zeros((3, 2)), seconds=1e-9)
    assert calls == [1] * 10 + [256] * 10
