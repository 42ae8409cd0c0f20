"""What every test shares, and the record of which proofs passed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

KINDS = ("trains", "parity", "inside", "climbed", "exchanged", "claim")

# Two shared cores stall now and then: a slow example is not a failure.
settings.register_profile("sadari", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sadari")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test runs in a folder of its own, in English, and leaves no run or cache behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Keep each proof mark's arguments on the report, which travels between processes."""
    outcome = yield
    report = outcome.get_result()
    report.proofs = [tuple(mark.args) for mark in item.iter_markers("proof")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A proof that names no rung or no kind would fill nothing, silently: refuse it."""
    from sadari.ladder import LADDERS

    rungs = {rung.name for ladder in LADDERS for rung in ladder.rungs}
    for item in items:
        for mark in item.iter_markers("proof"):
            if len(mark.args) != 2 or mark.args[0] not in rungs or mark.args[1] not in KINDS:
                raise pytest.UsageError(
                    f"{item.nodeid}: proof{mark.args} names no rung and kind; kinds: {KINDS}"
                )


class Proofs:
    """Collects the proofs that passed; a failed or skipped one takes its cell away."""

    def __init__(self) -> None:
        self.passed: dict[tuple[str, str], list[str]] = {}
        self.failed: set[tuple[str, str]] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for proof in getattr(report, "proofs", []):
            if report.failed or (report.skipped and not hasattr(report, "wasxfail")):
                self.failed.add(tuple(proof))
            elif report.when == "call" and report.passed:
                self.passed.setdefault(tuple(proof), []).append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        path = os.environ.get("SADARI_PROOFS")
        if path:
            cells = [
                {"rung": rung, "kind": kind, "tests": sorted(tests)}
                for (rung, kind), tests in sorted(self.passed.items())
                if (rung, kind) not in self.failed
            ]
            Path(path).write_text(json.dumps(cells, indent=2))


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # under xdist only the controller sees every report
        config.pluginmanager.register(Proofs())
