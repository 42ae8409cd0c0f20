"""`sadari fit RUNG DATA`: train one rung. Each rung is a command with its own settings in its help."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Group, Parameter

from sadari.budget import Budget
from sadari.cli import planning, say, taught
from sadari.cli.known import loop_settings, rungs_here, settings_named, teacher_settings
from sadari.cli.options import (
    LOOP,
    RUNG,
    TEACHER,
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
    LossOption,
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
    TrackerOption,
    VocabularyOption,
    reading_of,
    whole,
)
from sadari.cli.settings import option, with_options
from sadari.errors import SadariError
from sadari.lang import Lang, default_lang, in_unit, pick, unit_of

if TYPE_CHECKING:
    from sadari.fitting import Plan
    from sadari.runs import Run

TEXTS = {
    "fitted": (
        "{rung}: {metric} {score} on {rows:,} validation rows, in {seconds}; next: sadari look {path}",
        "{rung}: 검증 {rows:,}행의 {metric} {score}, {seconds}. 다음: sadari look {path}",
    ),
    "solved": (
        "{rung} is solved directly, so {options} had nothing to do",
        "{rung} 단은 바로 풀리므로 다음 옵션은 쓰이지 않았습니다: {options}",
    ),
}


def fit_rung(
    rung: str,
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
    loss: LossOption = None,
    smoothing: Annotated[
        float | None, Parameter(help="Label smoothing of the class losses, from 0 to 1.", group=LOOP)
    ] = None,
    delta: Annotated[
        float | None, Parameter(help="Where the huber loss turns from a square into a line.", group=LOOP)
    ] = None,
    budget: BudgetOption = None,
    teacher: Annotated[
        Path | None,
        Parameter(help="A run of the same task and classes to learn from too, its folder.", group=TEACHER),
    ] = None,
    unlabelled: Annotated[
        Path | None,
        Parameter(help="A folder of further pictures, which the teacher labels.", group=TEACHER),
    ] = None,
    starts: Annotated[
        int,
        Parameter(
            help="Networks trained together from as many seeds; the best is kept.",
            group=LOOP,
            converter=whole,
        ),
    ] = 1,
    seed: SeedOption = 0,
    out: OutOption = None,
    plan: PlanOption = False,
    tracker: TrackerOption = None,
    quiet: QuietOption = False,
    lang: LangOption = None,
    **settings: Any,
) -> None:
    """Prepare the data, say what was understood, train, and print the run's path."""
    lang = lang or default_lang()
    limit = Budget.parse(budget) if budget is not None else None  # before a large table is read
    given = {name: value for name, value in settings.items() if value is not None}
    loop = {field.name for field in loop_settings()}
    train = {name: given.pop(name) for name in list(given) if name in loop}
    known = {field.name for field in teacher_settings()}
    teaching = {name: given.pop(name) for name in list(given) if name in known}
    if unlabelled is not None:
        teaching["unlabelled"] = unlabelled
    if teaching and teacher is None:
        flag = f"--{next(iter(teaching))}"
        raise SadariError(f"{flag} says how a teacher teaches; give one with --teacher, or leave it out")
    shape = {"name": loss, "smoothing": smoothing, "delta": delta}
    objective = {name: value for name, value in shape.items() if value is not None}

    from sadari.data.prepare import prepare  # polars, but not yet torch: what was understood is said first

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

    from sadari.fitting import open_folder, plan_fit, run_fit
    from sadari.progress import Progress
    from sadari.trackers import tracker as make_tracker

    planned = plan_fit(
        rung,
        data,
        budget=limit,
        seed=seed,
        model=given,
        train=train,
        loss=objective,
        drop=drop,
        log_target=log_target,
        kind=kind,
        reading=reading,
        starts=starts,
        teacher=None if teacher is None else {"run": teacher, **teaching},
        prepared=prepared,
    )
    if plan:
        planning.tell({rung: planned}, lang)
        return
    planning.check(planned)
    folder = open_folder(planned.config, out)
    watchers: list[Any] = [Progress(rung, quiet=quiet, lang=lang)]
    if tracker is not None:
        watchers.append(make_tracker(tracker, folder, {**planned.config["model"], **planned.config["train"]}))
    run = run_fit(planned, folder, watchers)
    if not quiet:
        others = (("--budget", limit), ("--tracker", tracker))
        unused = [field.flag for field in loop_settings() if field.name in train]
        unused += [flag for flag, value in others if value]
        _tell(run, planned, unused, lang)
        if teacher is not None:
            taught.tell(run, planned, lang)
    say.result(run.path)


def _tell(run: Run, planned: Plan, loop: list[str], lang: Lang) -> None:
    """How well it went, what was noted, and what to do next; `loop` are the options about training."""
    from sadari.metrics import find_metric
    from sadari.scoring import own_targets

    prepared = planned.prepared
    say.notes([note for note in run.notes if note not in prepared.notes], lang)
    if run.result["solved"] and loop:
        say.aside(pick(TEXTS, "solved", lang, rung=run.rung, options=", ".join(loop)))
    metric, rows = find_metric(None, prepared.task), prepared.validation
    targets = own_targets(prepared, rows)
    template = in_unit(TEXTS["fitted"][lang == "ko"], unit_of(prepared.kind, prepared.task))
    line = template.format(
        rung=run.rung,
        metric=metric.title[lang == "ko"],
        score=metric.show(metric.score(run.answers(rows), targets)),
        rows=len(targets),
        seconds=say.duration(run.result["seconds"]),
        path=shlex.quote(str(run.path)),
    )
    say.aside(line)


def _app() -> App:
    """`fit` with one command a rung, each with the settings of that rung and of the loop."""
    app = App(
        name="fit",
        usage="Usage: sadari fit RUNG DATA [OPTIONS]",
        group_commands=Group("Rungs"),
        help_epilogue="sadari fit RUNG --help shows the settings of a rung; sadari rungs shows the ladders.",
    )
    loop = [option(field, LOOP) for field in loop_settings()]
    loop += [option(field, TEACHER) for field in teacher_settings()]
    for order, rung in enumerate(rungs_here().values()):
        settings = [option(field, RUNG) for field in settings_named(rung.name)]
        command = with_options(partial(fit_rung, rung.name), [*settings, *loop])
        more = f"sadari rungs {rung.name} explains this rung; its papers and its file say more."
        app.command(command, name=rung.name, help=rung.answers, help_epilogue=more, sort_key=order)
    return app


fit = _app()
