"""What a teacher's lessons came to: before and after in one table, score, size and time for an answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sadari.cli import say
from sadari.lang import Lang, in_unit, pick, unit_of

if TYPE_CHECKING:
    from sadari.fitting import Plan
    from sadari.runs import Run

TEXTS = {
    "teacher": ("teacher: {rung}", "교사: {rung}"),
    "student": ("student: {rung}", "학생: {rung}"),
    "parameters": ("weights", "가중치"),
    "bytes": ("on disk", "디스크"),
    "micro": ("µs/row", "µs/행"),
    "ratio": ("student / teacher", "학생 / 교사"),
}
TIMED = 256  # rows that a time for an answer is taken of


def tell(run: Run, planned: Plan, lang: Lang) -> None:
    """Three lines: the teacher, the student, and the one over the other. The teacher is scored as it taught,
    on what the student is shown, and neither on the test part."""
    from rich.table import Table

    from sadari.metrics import find_metric
    from sadari.plan import bytes_text
    from sadari.price import price
    from sadari.runs import Run
    from sadari.scoring import own_targets

    prepared, task = planned.prepared, planned.task
    metric, rows = find_metric(None, prepared.task), prepared.validation
    targets = own_targets(prepared, rows)
    teacher = Run.load(planned.config["teacher"]["run"])
    scores = [metric.score(answers, targets) for answers in (lessons(task, teacher, rows), run.answers(rows))]
    prices = [price(teacher, asked_of(teacher, rows)), price(run, rows)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    unit = unit_of(prepared.kind, prepared.task, price=True)
    heads = (
        metric.title[lang == "ko"],
        *(pick(TEXTS, key, lang) for key in ("parameters", "bytes", "micro")),
    )
    for head in heads:
        table.add_column(in_unit(head, unit), justify="right", no_wrap=True)
    for key, rung, score, cost in zip(
        ("teacher", "student"), (teacher.rung, run.rung), scores, prices, strict=True
    ):
        table.add_row(
            pick(TEXTS, key, lang, rung=rung),
            metric.show(score),
            f"{cost.parameters:,}",
            bytes_text(cost.bytes),
            f"{cost.microseconds_per_example:,.0f}",
        )
    before, after = prices
    shares = (
        getattr(after, name) / getattr(before, name)
        for name in ("parameters", "bytes", "microseconds_per_example")
    )
    table.add_row(pick(TEXTS, "ratio", lang), "", *(f"{share:.2g}" for share in shares), style="dim")
    say.console().print(table)


def lessons(task: Any, teacher: Run, part: Any) -> Any:
    """The teacher's answers for a part, as it gives them to the student."""
    import torch

    with torch.inference_mode():
        found = [
            (rows, task.teacher(task.seen(block)))
            for rows, block in task.task.blocks(torch.from_numpy(part.features))
        ]
    output = torch.empty(len(part.features), found[0][1].shape[1])
    for rows, some in found:
        output[rows] = some
    return teacher.loss.predict(output).numpy()


def asked_of(teacher: Run, part: Any) -> Any:
    """Rows in the teacher's own shape, to be timed on: of pictures blank ones of its size."""
    import numpy as np

    spec: Any = teacher.spec
    if teacher.kind != "images":
        return part
    count = min(len(part.features), TIMED)
    return SimpleNamespace(features=np.zeros((count, spec.size, spec.size, spec.channels), np.uint8))
