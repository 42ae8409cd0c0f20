"""The climb: every rung of a ladder on one data set, scored on the same rows, priced, and one verdict.

1. prepare once  2. fit each rung (tuned first, if asked), and the judge beside them
3. open the test rows, once  4. score, compare and price  5. decide
6. ask whether more data would help  7. climb.json and report.html

A climb may be killed at any moment: given again, it keeps what is finished and goes on with what is not.

    settings.json  line/ shallow/ ... (a run each)  judge.safetensors  sizes/  climb.json  report.html
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sadari import files
from sadari.budget import Budget
from sadari.climbing.ascent import Order, Stages, fit_all, fit_judge
from sadari.climbing.folder import CLIMB, SETTINGS, command, only_one, open_folder
from sadari.climbing.scores import Scores, describe, notes_on, samples
from sadari.data.prepare import Prepared, prepare
from sadari.errors import SadariError
from sadari.fitting import READ, VERSIONS, missing, plain_reading, suits
from sadari.ladder import Ladder, find_rung, ladder_for
from sadari.lang import Lang, default_lang, in_unit, unit_of
from sadari.metrics import find_metric
from sadari.report import REPORT, write_report
from sadari.runs import Run
from sadari.train import Watcher
from sadari.verdict import check_worth

FORMAT = 1
# networks trained together from different seeds; the best on the validation rows stands on the rung
STARTS = 3
# the budget of a rung when none is given: this long up to so many rows
SECONDS, ROWS, MOST = 8.0, 20_000, 120.0
TEXT_SECONDS, LANGUAGE_SECONDS = 30.0, 90.0  # likewise of texts, where a row is hundreds of tokens
PAIR_SECONDS = 90.0  # likewise of pairs
MATCH_SECONDS = 90.0  # and of captions
PICTURE_SECONDS = 40.0  # likewise of pictures, where six rungs are networks
QUICK = ("mean", "prior", "line", "logistic", "one-hot", "n-gram", "lookup")  # solved or counted, not trained
QUICK_PICTURES = ("prior", "nearest", "zero-shot", "retrieval", "probe")
PICTURED = ("images", "captions")
ASKS = "zero-shot"  # the rung that needs towers from elsewhere


@dataclass(frozen=True)
class Climb:
    """A finished climb: its folder and what climb.json holds."""

    path: Path
    content: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> Climb:
        """Open a climb's folder. Raises SadariError when it is none, unfinished, or of a newer format."""
        path = Path(path)
        if (path / SETTINGS).is_file() and not (path / CLIMB).is_file():
            raise SadariError(
                f"climb {path} is unfinished; give its `sadari climb` command again and it goes on"
            )
        content = files.read_json(path / CLIMB, "a climb")
        made = content.get("format")
        if not isinstance(made, int) or made > FORMAT:
            raise SadariError(
                f"climb {path} has format {made}, this Sadari reads up to {FORMAT}; upgrade sadari"
            )
        return cls(path, content)

    @property
    def task(self) -> str:
        return self.content["task"]

    @property
    def kind(self) -> str:
        """Kind of data: table, series, text, pairs or images."""
        return self.content["kind"]

    @property
    def rungs(self) -> list[dict[str, Any]]:
        """One entry a rung, bottom to top, and the judge with `outside`."""
        return self.content["rungs"]

    @property
    def verdict(self) -> dict[str, Any]:
        return self.content["verdict"]

    @property
    def report(self) -> Path:
        return self.path / REPORT

    def run(self, name: str | None = None) -> Run:
        """The run of a rung; without a name, the one that the verdict chose."""
        name = name or self.verdict["rung"]
        for rung in self.rungs:
            if rung["name"] == name and rung["run"]:
                return Run.load(self.path / rung["run"])
        known = ", ".join(rung["name"] for rung in self.rungs if rung["run"])
        raise SadariError(f"climb {self.path} has no run of {name!r}; it has: {known}")


def climb(
    data: Any,
    *,
    target: str | None = None,
    task: str | None = None,
    out: str | Path | None = None,
    budget: Budget | str | None = None,
    rungs: Sequence[str] | None = None,
    seed: int = 0,
    jobs: int = 1,
    tune: int = 0,
    worth: float | None = None,
    metric: str | None = None,
    starts: int = STARTS,
    drop: Sequence[str] = (),
    log_target: bool = False,
    kind: str | None = None,
    reading: Mapping[str, Any] | None = None,
    towers: str | Path | None = None,
    lang: Lang | None = None,
    prepared: Prepared | None = None,
    watchers: Sequence[Watcher] = (),
) -> Climb:
    """Climb the whole ladder of the data's task and decide how far up is worth it.

    data      a file (.csv .tsv .parquet .jsonl .txt), a folder of texts or of pictures, a built-in's name,
              or a frame
    out       the climb's folder; when it holds the same climb, that one goes on, and `worth`, `metric` and
              `lang` may differ
    budget    what each rung may spend (`"90s"`, `"2000steps"`); by default 8 s, longer from 20,000 rows on;
              30 s for labelled texts, 40 s for pictures and 90 s for a language
    rungs     which rungs to climb; the ground is always among them: no score means anything without it
    jobs      rungs fitted side by side, each with its share of the cores
    tune      settings tried for each rung on the validation rows before it is fitted (0: none)
    worth     the smallest gain worth a climb, in the metric's units; by default one standard error
    starts    networks trained together for each rung, the best on the validation rows kept
    kind      table, series, text, pairs or images; else what the data holds
    reading   how texts are read: text (their column), tokenizer, vocabulary, length; how pictures are: image
              (their column), size, fit, channels
    towers    of pictures: a run of pictures with captions, or a folder of the hub, for rung zero-shot
    prepared  data already prepared with the same target, task, seed, drop, log_target, kind and reading

    A watcher is called with each record of a rung's log, `rung` added; where it has `stage(facts)`, that is
    called with what begins, its number of how many, and the seconds left as far as can be told.
    Raises SadariError for anything that the user can mend.
    """
    for name, value, least in (("jobs", jobs, 1), ("tune", tune, 0), ("starts", starts, 1)):
        if value < least:
            raise SadariError(f"--{name} {value} is below {least}; give {least} or more")
    check_worth(worth)
    began = time.perf_counter()
    if prepared is None:
        prepared = prepare(
            data,
            target=target,
            task=task,
            seed=seed,
            drop=drop,
            log_target=log_target,
            kind=kind,
            reading=reading,
        )
    measure = find_metric(metric, prepared.task)
    ladder = ladder_for(prepared.task, prepared.kind)
    usual = default_budget(prepared.table.rows, prepared.kind, prepared.task)
    limit = Budget.parse(budget) if isinstance(budget, str) else budget or usual
    table, models = prepared.table, models_for(ladder, towers)
    settings: dict[str, Any] = {
        "format": FORMAT,
        "source": table.source,
        "fingerprint": table.fingerprint,
        "task": prepared.task,
        "target": prepared.spec.target,
        "drop": list(drop),
        "log_target": log_target,
        "rungs": choose(ladder, rungs, prepared, models),
        "budget": str(limit),
        "seed": seed,
        "tune": tune,
        "starts": starts,
    }
    if prepared.kind != "table":
        settings["kind"] = prepared.kind
    if prepared.kind in READ:
        settings["reading"] = plain_reading(reading)
    if towers is not None:
        settings["from"] = str(towers)
    folder = open_folder(settings, table.name, out)
    absent = [] if rungs is not None else [r for r in ladder.here if r.name not in settings["rungs"]]
    left_out = [note for rung in absent if prepared.kind in PICTURED and (note := missing(rung))]
    threads = max(torch.get_num_threads() // jobs, 1)
    orders = [
        Order(
            name,
            prepared,
            folder,
            limit,
            seed,
            starts,
            tune,
            tuple(drop),
            log_target,
            threads,
            dict(reading or {}),
            model=models.get(name, {}),
        )
        for name in settings["rungs"]
    ]
    spend = limit.seconds or SECONDS
    quick = QUICK_PICTURES if prepared.kind in PICTURED else QUICK
    costs = {name: 0.3 if name in quick else spend for name in settings["rungs"]}
    outside = {"judge": spend / 2} if ladder.judge else {}
    stages = Stages({**costs, **outside, "sizes": spend, "report": 3.0}, watchers)
    with only_one(folder):
        files.write_json(folder / SETTINGS, settings)
        fitted = fit_all(orders, jobs, stages, watchers)
        if ladder.judge:
            stages.begin("judge")
        judged = fit_judge(prepared, folder, limit, seed)
        scores = Scores(prepared, fitted, measure, seed)
        verdict = scores.decide(worth)
        stages.begin("sizes")
        sizes = scores.sizes(verdict, folder)
        content = {
            "format": FORMAT,
            **describe(prepared, measure, worth),
            "rungs": scores.entries(verdict, judged),
            "verdict": verdict.to_json(lang or default_lang()),
            "sizes": sizes,
            "samples": samples(prepared, fitted, seed),
            "pictures": scores.pictures(verdict),
            "retrieval": scores.retrieval(verdict),
            "notes": [note.to_json() for note in (*notes_on(prepared, measure), *left_out)],
            "settings": {**settings, "jobs": jobs, "worth": worth, "metric": measure.name},
            "command": command(settings, worth, measure),
            "seconds": time.perf_counter() - began,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
        }
        content = _in_unit(content, unit_of(prepared.kind, prepared.task))
        stages.begin("report")
        runs = [each.run for each in fitted]
        write_report(folder, content, runs, lang or default_lang(), prepared)
        files.write_json(folder / CLIMB, content)
    return Climb(folder, content)


def _in_unit(content: dict[str, Any], unit: str) -> dict[str, Any]:
    """climb.json with its sentences about rows said of what the data is made of."""

    def said(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: said(inner) for name, inner in value.items()}
        return in_unit(value, unit) if isinstance(value, str) else value

    verdict, metric, sizes = content["verdict"], content["metric"], content["sizes"]
    if sizes and sizes["answer"]:
        sizes = {**sizes, "answer": {**sizes["answer"], "reasons": said(sizes["answer"]["reasons"])}}
    sentences = ("headline", "headlines", "reason", "reasons")
    verdict = {name: said(value) if name in sentences else value for name, value in verdict.items()}
    return {**content, "verdict": verdict, "metric": said(metric), "sizes": sizes}


def default_budget(rows: int, kind: str = "table", task: str = "") -> Budget:
    """Eight seconds for each rung (30 of texts, 40 of pictures, 90 of a language, of pairs or of captions),
    and more of very many rows, up to two minutes."""
    usual = SECONDS
    if kind == "images":
        usual = PICTURE_SECONDS
    if kind == "captions":
        usual = MATCH_SECONDS
    if kind == "pairs":
        usual = PAIR_SECONDS
    if kind == "text":
        usual = LANGUAGE_SECONDS if task == "language" else TEXT_SECONDS
    return Budget(seconds=round(min(max(usual, SECONDS * rows / ROWS), MOST), 1))


def models_for(ladder: Ladder, towers: str | Path | None) -> dict[str, dict[str, Any]]:
    """Settings that a climb hands on, by rung. Raises SadariError where no rung asks, or nothing is there."""
    if towers is None:
        return {}
    if ASKS not in ladder.names:
        raise SadariError(
            f"--from {towers} is for rung {ASKS}, which the ladder {ladder.title} has not; leave it out"
        )
    given = {"towers": str(towers)}
    find_rung(ASKS, ladder.task, ladder.kind).load().Config(**given)
    return {ASKS: given}


def choose(
    ladder: Ladder,
    rungs: Sequence[str] | None,
    prepared: Prepared,
    models: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[str]:
    """Names of the rungs to climb, bottom to top. Raises SadariError for one that is not on the ladder.

    Unless named, a rung on weights from elsewhere is climbed only where they are on this machine, or among
    the settings `models` by rung, and know the language of the texts.
    """
    given = models or {}
    if rungs is None:
        return [rung.name for rung in ladder.here if suits(rung, prepared, given.get(rung.name))]
    wanted = {find_rung(name, ladder.task, ladder.kind).name for name in rungs}
    return [rung.name for number, rung in enumerate(ladder.here) if rung.name in wanted or number == 0]
