"""`make matrix`: run the proofs, then write matrix.json and the table in README.md and README.ko.md.

A cell is filled by the tests that carry `@pytest.mark.proof(rung, kind)` and passed in this run, all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from sadari import files
from sadari.ladder import LADDERS
from tests.conftest import KINDS

ROOT = Path(__file__).parent.parent
HEADINGS = {
    "README.md": ("rung", "trains", "parity", "inside", "climbed", "exchanged", "claim"),
    "README.ko.md": ("사다리 칸", "학습", "기준과 일치", "들여다보기", "오름", "교환", "강의의 주장"),
}
BEGIN, END = "<!-- matrix -->", "<!-- /matrix -->"


def rungs() -> list[str]:
    """Every rung that can be fitted, bottom to top, each name once."""
    return list(dict.fromkeys(rung.name for ladder in LADDERS for rung in ladder.here))


def prove() -> tuple[list[dict], int]:
    """Run the marked tests; the cells that they filled, and pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "proofs.json"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "-m", "proof", "tests"]
        environment = {"SADARI_PROOFS": str(path), "CI": "true", "OMP_NUM_THREADS": "1"}
        code = subprocess.call(command, cwd=ROOT, env={**os.environ, **environment})
        return json.loads(path.read_text()), code


def table(filled: dict[tuple[str, str], int], headings: tuple[str, ...]) -> str:
    """The matrix as Markdown: the number of tests that prove each cell, or a dash."""
    rows = [
        "| " + " | ".join([f"`{rung}`", *(str(filled.get((rung, kind), "–")) for kind in KINDS)]) + " |"
        for rung in rungs()
    ]
    return "\n".join(["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|", *rows])


def main() -> int:
    cells, code = prove()
    filled = {(cell["rung"], cell["kind"]): len(cell["tests"]) for cell in cells}
    files.write_json(ROOT / "matrix.json", {"kinds": list(KINDS), "rungs": rungs(), "cells": cells})
    for name, headings in HEADINGS.items():
        path = ROOT / name
        before, rest = path.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        files.write_atomic(path, f"{before}{BEGIN}\n{table(filled, headings)}\n{END}{after}")
    print(table(filled, HEADINGS["README.md"]))
    wanted = len(rungs()) * len(KINDS)
    print(f"\n{len(filled)} of {wanted} cells proved")
    return code or int(len(filled) < wanted)


if __name__ == "__main__":
    sys.exit(main())
