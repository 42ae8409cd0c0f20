"""`sadari climb DATA`: a whole ladder, one table of scores and prices, one verdict."""

from __future__ import annotations

import math
from contextlib import closing
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from sadari.budget import Budget
from sadari.cli import planning, say
from sadari.cli.options import (
    LOOP,
    BudgetOption,
    DataArgument,
    DropOption,
    FitOption,
    HoldOutOption,
    ImageOption,
    KindOption,
    LangOption,
    LengthOption,
    LogTargetOption,
    OutOption,
    PlanOption,
    QuietOption,
    SeedOption,
    SeparateOption,
    SizeOption,
    TargetOption,
    TaskOption,
    TextOption,
    TokenizerOption,
    VocabularyOption,
    reading_of,
    split_names,
    whole,
)
from sadari.errors import SadariError
from sadari.lang import Lang, default_lang, in_unit, pick, unit_of

if TYPE_CHECKING:
    from rich.table import Table

    from sadari.climbing import Climb
    from sadari.data.prepare import Prepared
    from sadari.fitting import Plan
    from sadari.metrics import Metric

TEXTS = {
    "rung": ("rung", "단"),
    "score": ("score", "점수"),
    "interval": ("95 %", "95 %"),
    "gain": ("gain", "차이"),
    "better": ("better", "확률"),
    "parameters": ("weights", "가중치"),
    "seconds": ("train", "훈련"),
    "micro": ("µs/row", "µs/행"),
    "legend": (
        "score: {metric} on {rows:,} test rows, {better}. gain: over the rung below; better: how likely.",
        "점수: 시험 {rows:,}행의 {metric}, {better}. 차이: 아랫단보다 나은 정도, 확률: 정말 나을 확률.",
    ),
    "higher": ("higher is better", "높을수록 좋음"),
    "lower": ("lower is better", "낮을수록 좋음"),
    "outside": (
        "{name} is no rung: it stands outside the ladder to keep it honest.",
        "{name}: 단이 아니라 사다리 바깥에서 견주는 모델입니다.",
    ),
    "turns": ("{rung}: ", "{rung} 단: "),
    "writes": ("{rung} goes on: ", "{rung} 단이 이어 쓴 글: "),
    "report": ("report: {path}", "보고서: {path}"),
}


def climb(
    data: DataArgument,
    /,
    *,
    target: TargetOption = None,
    task: TaskOption = None,
    drop: DropOption = (),
    log_target: LogTargetOption = False,
    kind: KindOption = None,
    text: TextOption = None,
    tokenizer: TokenizerOption = None,
    vocabulary: VocabularyOption = None,
    length: LengthOption = None,
    separate: SeparateOption = False,
    image: ImageOption = None,
    size: SizeOption = None,
    fit: FitOption = None,
    hold_out: HoldOutOption = None,
    rungs: Annotated[
        tuple[str, ...] | None,
        Parameter(
            help="Rungs to climb, with commas between; else all. The ground is always among them.",
            group=LOOP,
            converter=split_names,
            negative=(),
        ),
    ] = None,
    budget: BudgetOption = None,
    starts: Annotated[
        int,
        Parameter(
            help="Networks trained together for each rung; the best stands on it.",
            group=LOOP,
            converter=whole,
        ),
    ] = 3,
    tune: Annotated[
        int,
        Parameter(
            help="Settings to try for each rung, on validation rows only.", group=LOOP, converter=whole
        ),
    ] = 0,
    jobs: Annotated[
        int,
        Parameter(
            help="Rungs fitted side by side, each on its share of the cores.", group=LOOP, converter=whole
        ),
    ] = 1,
    metric: Annotated[
        str | None, Parameter(help="What to score by; a wrong name lists those there are.", group=LOOP)
    ] = None,
    worth: Annotated[
        float | None,
        Parameter(
            help="The least gain worth a climb, in the metric's units; else one standard error.", group=LOOP
        ),
    ] = None,
    towers: Annotated[
        str | None,
        Parameter(
            name="--from",
            help="What rung zero-shot asks: a run of pictures with captions, or a folder of the hub.",
            group=LOOP,
        ),
    ] = None,
    seed: SeedOption = 0,
    out: OutOption = None,
    plan: PlanOption = False,
    quiet: QuietOption = False,
    lang: LangOption = None,
) -> None:
    """Train every rung of a ladder on your data and say how far up is worth it."""
    lang = lang or default_lang()
    limit = Budget.parse(budget) if budget is not None else None  # before a large table is read
    if rungs == ():
        raise SadariError("--rungs names no rung; give names with commas between, or leave it out")
    from sadari.data.prepare import prepare

    reading = reading_of(
        text=text,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        length=length,
        separate=separate,
        image=image,
        size=size,
        fit=fit,
        hold_out=hold_out,
    )
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
    if not quiet:
        say.prepared(prepared, target=target, task=task, lang=lang)

    if plan:
        planning.tell(_plans(prepared, rungs, limit, starts, seed, drop, log_target, reading, towers), lang)
        return
    from sadari.cli.ascent import Ascent
    from sadari.climbing import climb as ascend

    watcher = Ascent(quiet=quiet, lang=lang)
    with closing(watcher):
        done = ascend(
            data,
            target=target,
            task=task,
            out=out,
            budget=limit,
            rungs=rungs,
            seed=seed,
            jobs=jobs,
            tune=tune,
            worth=worth,
            metric=metric,
            starts=starts,
            drop=drop,
            log_target=log_target,
            kind=kind,
            reading=reading,
            towers=towers,
            lang=lang,
            prepared=prepared,
            watchers=[watcher],
        )
    if not quiet:
        show(done, lang)
    say.result(done.path)


def _plans(
    prepared: Prepared,
    rungs: tuple[str, ...] | None,
    budget: Budget | None,
    starts: int,
    seed: int,
    drop: tuple[str, ...],
    log_target: bool,
    reading: dict[str, Any],
    towers: str | None,
) -> dict[str, Plan]:
    """What would be fitted for each rung, as the climb would do it."""
    from sadari.climbing import choose, default_budget, models_for
    from sadari.fitting import plan_fit
    from sadari.ladder import ladder_for

    ladder = ladder_for(prepared.task, prepared.kind)
    models = models_for(ladder, towers)
    return {
        name: plan_fit(
            name,
            prepared.table.source,
            budget=budget or default_budget(prepared.table.rows, prepared.kind, prepared.task),
            seed=seed,
            model=models.get(name),
            drop=drop,
            log_target=log_target,
            kind=prepared.kind,
            reading=reading,
            starts=starts,
            prepared=prepared,
        )
        for name in choose(ladder, rungs, prepared, models)
    }


def show(done: Climb, lang: Lang) -> None:
    """The table, the verdict and where the report is, on standard output before the path."""
    from rich.text import Text

    from sadari.metrics import find_metric

    content, out = done.content, say.console(stderr=False)
    metric = find_metric(content["metric"]["name"], content["task"])
    better = pick(TEXTS, "higher" if metric.higher else "lower", lang)
    rows = content["data"]["split"]["test"]
    out.print(_table(content, metric, lang))
    unit = unit_of(content["kind"], content["task"])
    legend = in_unit(TEXTS["legend"][lang == "ko"], unit)
    legend = legend.format(metric=metric.title[lang == "ko"], rows=rows, better=better)
    out.print(legend, style="dim", markup=False)
    for rung in content["rungs"]:
        if rung["outside"]:
            out.print(pick(TEXTS, "outside", lang, name=rung["name"]), style="dim", markup=False)
    out.print()
    headline, reason = done.verdict["headlines"][lang], done.verdict["reasons"][lang]
    out.print(Text.assemble((f"{headline}. ", "bold green"), reason))
    if samples := content.get("samples"):
        rung = content["verdict"]["rung"]
        written, key = samples["written"][rung], "turns" if "sources" in samples else "writes"
        begun, written = (
            (f"{samples['sources'][0]} → ", written[0]) if key == "turns" else (samples["prompt"], written)
        )
        line = Text.assemble((begun, "bold"), written)
        out.print(Text.assemble((pick(TEXTS, key, lang, rung=rung), "dim"), line))
    if content["sizes"] and content["sizes"]["answer"]:
        out.print(content["sizes"]["answer"]["reasons"][lang], markup=False)
    out.print(pick(TEXTS, "report", lang, path=done.report), markup=False)


def _table(content: dict[str, Any], metric: Metric, lang: Lang) -> Table:
    """One line a rung, bottom to top, at most 80 columns wide."""
    from rich.table import Table

    rungs = content["rungs"]
    scores = Scores([rung["score"] for rung in rungs], metric.shares)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(f"  {pick(TEXTS, 'rung', lang)}", no_wrap=True)
    table.add_column(pick(TEXTS, "score", lang) + " %" * metric.shares, justify="right", no_wrap=True)
    for key in ("interval", "gain", "better", "parameters", "seconds", "micro"):
        unit = unit_of(content["kind"], content["task"], price=True)
        table.add_column(in_unit(pick(TEXTS, key, lang), unit), justify="right", no_wrap=True)
    for rung in rungs:
        gain = rung["from_below"]
        chosen = rung["name"] == content["verdict"]["rung"]
        table.add_row(
            ("→ " if chosen else "  ") + rung["name"],
            scores.show(rung["score"]),
            f"{scores.show(rung['low'])}–{scores.show(rung['high'])}",
            scores.show(gain["gain"], sign="+") if gain else "",
            _probability(gain["better"]) if gain else "",
            f"{rung['parameters']:,}",
            say.duration(rung["train_seconds"]),
            _digits(rung["microseconds_per_example"]),
            style="bold" if chosen else "dim" if rung["outside"] else None,
        )
    return table


class Scores:
    """Shows scores with the same digits: shares in per cent, else so many that the middle one has three."""

    def __init__(self, scores: list[float], share: bool) -> None:
        middle = median(abs(score) for score in scores)
        self.factor = 100 if share else 1
        self.digits = 1 if share else max(0, 2 - math.floor(math.log10(middle))) if middle > 0 else 2

    def show(self, score: float, sign: str = "") -> str:
        return f"{score * self.factor:{sign},.{self.digits}f}"


def _probability(share: float) -> str:
    return ">0.99" if share > 0.99 else "<0.01" if share < 0.01 else f"{share:.2f}"


def _digits(value: float) -> str:
    """Three digits, or as many as there are before the point."""
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"
