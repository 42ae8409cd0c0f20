"""Fit what a climb needs: each rung in its run folder, one after another or side by side, and the judge
beside them.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sadari import files
from sadari.budget import Budget
from sadari.climbing.folder import kept
from sadari.data.prepare import Prepared
from sadari.errors import SadariError
from sadari.fitting import Plan, can_solve, plan_fit, run_fit
from sadari.judge import Judged, judge
from sadari.ladder import find_rung, ladder_for
from sadari.price import Price, peak_memory
from sadari.runs import CONFIG, RESULT, Run
from sadari.train import Watcher
from sadari.tune import tune

MEMORY, TUNING = "memory.json", "tuning"
DOUBT = 5.0  # seconds to be seen before the pace so far counts as much as what was foreseen


@dataclass(frozen=True)
class Order:
    """One rung to fit, with all that decides how. It travels to a worker process as it is."""

    rung: str
    prepared: Prepared
    folder: Path
    """The climb's; the run goes into a folder in it that is called like the rung."""
    budget: Budget
    seed: int
    starts: int
    trials: int
    drop: tuple[str, ...]
    log_target: bool
    threads: int
    reading: dict[str, Any] | None = None
    """How texts are read, as `fit` takes it."""
    teachers: tuple[str, ...] = ()
    """Rungs of the same climb of which the best teaches this one."""
    model: dict[str, Any] = field(default_factory=dict)
    """Settings of the rung that the climb was given."""

    @property
    def run(self) -> Path:
        return self.folder / self.rung


@dataclass(frozen=True)
class Fitted:
    """A rung's run, the plan that it was fitted by, the settings that tuning found, and the memory that it
    took.
    """

    run: Run
    plan: Plan
    tuned: dict[str, Any] | None
    peak_memory: int | None


def fit_all(orders: Sequence[Order], jobs: int, stages: Stages, watchers: Sequence[Watcher]) -> list[Fitted]:
    """Every rung's run, bottom to top; those that an interrupted climb finished are taken up.

    A rung that learns from another run learns from the best of the others, once they are all there.
    """
    orders = _with_teachers(orders)
    if jobs == 1:
        for order in orders:
            stages.begin(order.rung)
            carry_out(order, [Named(watcher, order.rung) for watcher in watchers])
    else:
        import joblib

        alone, taught = ([o for o in orders if bool(o.teachers) is late] for late in (False, True))
        for several in filter(None, (alone, taught)):
            stages.begin(*[order.rung for order in several])
            joblib.Parallel(n_jobs=jobs)(joblib.delayed(_work)(order) for order in several)
    return [_collect(order) for order in orders]


def _with_teachers(orders: Sequence[Order]) -> list[Order]:
    """The orders, the last ones those that are taught. SadariError where nobody is there to teach them."""
    taught, alone = ([o for o in orders if _is_taught(o) is asked] for asked in (True, False))
    ground = ladder_for(orders[0].prepared.task, orders[0].prepared.kind).names[0]
    teachers = tuple(order.rung for order in alone if order.rung != ground)
    if taught and not teachers:
        raise SadariError(
            f"rung {taught[0].rung!r} learns from the best of the others, and only {ground} is climbed; name "
            f"another one in --rungs too"
        )
    return [*alone, *(replace(order, teachers=teachers) for order in taught)]


def _is_taught(order: Order) -> bool:
    rung = find_rung(order.rung, order.prepared.task, order.prepared.kind)
    return bool(getattr(rung.load(), "taught", False))


def _teacher(order: Order) -> Path | None:
    """The run with the fewest errors on the validation rows, of two with as few that of the smaller loss."""
    if not order.teachers:
        return None
    results = {name: files.read_json(order.folder / name / RESULT, "a run") for name in order.teachers}

    def score(name: str) -> list[float]:
        found = [results[name].get(f"validation_{part}") for part in ("error", "loss")]
        return [math.inf if value is None else value for value in found]

    return order.folder / min(order.teachers, key=score)


def carry_out(order: Order, watchers: Sequence[Watcher] = ()) -> None:
    """Tune and fit one rung in its folder. What is finished there already is left as it is."""
    torch.set_num_threads(order.threads)
    plan = _plan(order, _tuned(order))
    if order.run.is_dir() and not (order.run / CONFIG).is_file():
        shutil.rmtree(order.run)  # killed before it wrote what it is: nothing in it is of use
    if (order.run / RESULT).is_file():
        return
    with peak_memory() as peak:
        run_fit(plan, order.run, watchers)
    files.write_json(order.run / MEMORY, {"peak": peak.bytes})


def _work(order: Order) -> None:
    """`carry_out` in a process of its own, which must not outlive a climb that is killed: it would write
    on.
    """
    if sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    carry_out(order)


def _collect(order: Order) -> Fitted:
    """What `carry_out` left in the folder. The memory is not known of a run whose last instant was cut
    off.
    """
    tuned = _tuned(order)
    path = order.run / MEMORY
    memory = files.read_json(path, "a run")["peak"] if path.is_file() else None
    return Fitted(Run.load(order.run), _plan(order, tuned), tuned, memory)


def _tuned(order: Order) -> dict[str, Any] | None:
    """The best settings that tuning finds for the rung: searched once, then read. None where there was no
    search.
    """
    if not order.trials:
        return None
    path = order.folder / TUNING / f"{order.rung}.json"
    if not path.is_file():
        found = tune(_plan(order, None), order.trials, path.with_suffix(".sqlite"))
        files.write_json(path, {"found": asdict(found) if found else None})
    return files.read_json(path, "a tuning")["found"]


def _plan(order: Order, tuned: dict[str, Any] | None) -> Plan:
    """How the rung is fitted. One that is solved directly has one answer, so it gets one start."""

    def plan(starts: int) -> Plan:
        return plan_fit(
            order.rung,
            order.prepared.table.source,
            budget=order.budget,
            seed=order.seed,
            model={**order.model, **(tuned["model"] if tuned else {})},
            train=tuned["train"] if tuned else None,
            drop=order.drop,
            log_target=order.log_target,
            kind=order.prepared.kind,
            reading=order.reading,
            starts=starts,
            teacher=_teacher(order),
            prepared=order.prepared,
        )

    single = plan(1)
    return single if can_solve(single.networks()[0], single.loss) else plan(order.starts)


def fit_judge(prepared: Prepared, folder: Path, budget: Budget, seed: int) -> Judged | None:
    """The judge's answers, fitted once and then read; None where none stands beside the ladder."""
    if not ladder_for(prepared.task, prepared.kind).judge:
        return None

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        ask = judge
        if prepared.kind == "text":
            from sadari import judge_text

            ask = judge_text.judge_language if prepared.task == "language" else judge_text.judge_text
        made = ask(prepared, seconds=budget.seconds, seed=seed)
        return {"validation": made.validation, "test": made.test}, {
            "trees": made.trees,
            "price": asdict(made.price),
            "facts": made.facts,
        }

    answers, facts = kept(folder / "judge.safetensors", make)
    price = Price(**facts["price"])
    return Judged(answers["validation"], answers["test"], facts["trees"], price, facts["facts"])


class Stages:
    """Tells watchers what begins, and about how long the rest will take."""

    def __init__(self, expected: dict[str, float], watchers: Sequence[Watcher]) -> None:
        """`expected`: seconds that each stage may need, in their order."""
        self.expected, self.watchers = expected, watchers
        self.running: tuple[str, ...] = ()
        self.began = time.perf_counter()
        self.spent = self.foreseen = 0.0

    def begin(self, *names: str) -> None:
        """The stages that ran are over, these run now. Watchers with `stage(facts)` hear of it."""
        now = time.perf_counter()
        if self.running:
            self.spent += now - self.began
            self.foreseen += sum(self.expected[name] for name in self.running)
        self.running, self.began = names, now
        order = list(self.expected)
        left = sum(self.expected[name] for name in order[order.index(names[0]) :])
        pace = (self.spent + DOUBT) / (self.foreseen + DOUBT)
        number = order.index(names[0]) + 1
        facts = {"stage": ", ".join(names), "number": number, "of": len(order), "seconds_left": left * pace}
        for watcher in self.watchers:
            if hasattr(watcher, "stage"):
                watcher.stage(facts)


class Named:
    """A watcher of one rung: the climb's own, told which rung each record is of."""

    start: Any
    live: Any
    planned: Any

    def __init__(self, watcher: Watcher, rung: str) -> None:
        self.watcher, self.rung = watcher, rung
        for name in ("start", "live"):
            if hasattr(watcher, name):
                setattr(self, name, self._naming(getattr(watcher, name)))
        if hasattr(watcher, "planned"):
            self.planned = watcher.planned

    def _naming(self, tell: Any) -> Any:
        return lambda record: tell({"rung": self.rung, **record})

    def __call__(self, record: dict[str, Any]) -> None:
        self.watcher({"rung": self.rung, **record})

    def close(self) -> None:
        """One rung is done; the watcher stays for the next."""
