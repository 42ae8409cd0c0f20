"""Kill -9 at thirty random moments of a climb: nothing is ever half-written, and what is taken up ends as if
undisturbed.

A climb runs in a process of its own and is killed after a random while. Then every file that is there must be
whole: JSON that parses, runs that open. The same command is given again, killed at most once more, then let
through to its end: its scores and its verdict must equal, to the last bit, those of a climb that nobody
disturbed. Then the next folder begins.

    python benchmarks/kill.py [KILLS]       writes benchmarks/results/kill.csv
"""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sadari.climbing import Climb
from sadari.errors import SadariError
from sadari.runs import CONFIG, RESULT, Run

KILLS, EACH = 30, 2
RESULTS = Path(__file__).parent / "results" / "kill.csv"
CLIMB = """
import sys
from sadari.climbing import climb
climb("diabetes", out=sys.argv[1], budget="1500steps", starts=2, lang="en")
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CLIMB, str(folder)], stderr=subprocess.PIPE)


def outcome(folder: Path) -> dict[str, Any]:
    """What must not depend on interruptions: every score, interval and comparison, and the verdict."""
    content = Climb.load(folder).content
    keep = ("name", "score", "low", "high", "validation", "beside", "from_below", "from_best", "parameters")
    rungs = [{key: rung[key] for key in keep} for rung in content["rungs"] if not rung["outside"]]
    return {"rungs": rungs, "verdict": content["verdict"], "sizes": content["sizes"]}


def check(folder: Path) -> str:
    """How far the climb came. Raises when anything in the folder is half-written."""
    for path in folder.rglob("*.json"):
        if not path.name.startswith("."):  # a file that was about to take another's place
            json.loads(path.read_text(encoding="utf-8"))
    finished = sorted(path.parent.name for path in folder.glob(f"*/{RESULT}"))
    for name in finished:
        Run.load(folder / name)
    for path in folder.glob(f"*/{CONFIG}"):
        if path.parent.name not in finished:
            try:
                Run.load(path.parent)
            except SadariError as error:
                assert "is unfinished" in str(error)
    return " ".join(finished) or "-"


def main(kills: int = KILLS) -> None:
    draw, rows = random.Random(0), []
    with tempfile.TemporaryDirectory() as place:
        calm = Path(place) / "calm"
        began = time.perf_counter()
        assert start(calm).wait() == 0
        whole = time.perf_counter() - began
        expected = outcome(calm)
        print(f"undisturbed: {whole:.1f} s")
        number = ended = struck = 0
        folder = Path(place) / "climb-0"
        while number < kills or (folder / "settings.json").is_file():
            process = start(folder)
            delay = draw.uniform(0, 1.1 * whole)
            if number < kills and struck < EACH:
                try:
                    process.wait(delay)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
            stopped, (_, errors) = process.wait() == -signal.SIGKILL, process.communicate()
            if stopped:
                number, struck = number + 1, struck + 1
                rows.append([number, f"{delay:.2f}", folder.name, check(folder)])
                print(f"kill {number:2} after {delay:5.2f} s in {folder.name}: finished {rows[-1][3]}")
                continue
            assert process.returncode == 0, errors.decode()
            assert outcome(folder) == expected, f"{folder.name} ended differently"
            print(f"{folder.name} let through: equal to the undisturbed climb")
            ended, struck = ended + 1, 0
            folder = Path(place) / f"climb-{ended}"
    print(f"{number} kills, {ended} climbs taken up to the end, each equal to the undisturbed one")
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["kill", "seconds", "climb", "rungs finished"])
        writer.writerows(rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
