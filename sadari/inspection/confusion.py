"""Confusion: which class is taken for which, on rows that the model was not fitted to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.inspection.rows import PARTS, Part, sample
from sadari.inspection.view import View, say

if TYPE_CHECKING:
    from sadari.runs import Run

MOST_CLASSES = 20  # a larger matrix cannot be read

TEXTS = {
    "title": (
        "{rung}: {right} of {rows} right; {one} is taken for {other} most often ({count} of {total})",
        "{rung}: {rows}행 중 {right}행 정답, 가장 흔한 혼동은 {one} → {other} ({total}행 중 {count})",
    ),
    "perfect": ("{rung}: all {rows} right", "{rung}: {rows}행 모두 정답"),
    "caption": (
        "Down: the true class. Across: the answer. Each cell counts {part} rows; its colour is their share "
        "of the class.{left}",
        "세로: 실제 클래스. 가로: 모델의 답. 칸의 수는 {part} 데이터의 행 수, 색은 그 줄에서 차지하는 "
        "비율.{left}",
    ),
    "left": (
        " Shown are the {shown} classes that are mistaken most, of {all}.",
        " 전체 {all}개 클래스 중 가장 많이 틀린 {shown}개.",
    ),
    "see": (
        "The diagonal is right. Found least often: {worst}, {recall} of its {rows} rows. Always answering "
        "{common} would be right in {prior} of all rows.",
        "대각선이 정답입니다. 가장 못 찾는 클래스는 {worst}: {rows}행 중 {recall}. 늘 {common}라고만 답해도 "
        "전체의 {prior}는 맞습니다.",
    ),
    "true": ("true class", "실제 클래스"),
    "answer": ("answer", "모델의 답"),
}


def confusion(run: Run, *, part: Part = "validation") -> View:
    """matrix (K, K): rows of true class i answered with class j; recall (K,): the share of class i found.

    K is at most 20: of more classes, those with the most mistakes. facts["confused"]: the most confused pair.
    """
    rows = sample(run, part, limit=1_000_000)
    answers = run.predictions(rows.features).argmax(1)
    labels = np.array(run.spec.classes, dtype=str)
    count = len(labels)
    full = np.bincount(rows.targets * count + answers, minlength=count * count).reshape(count, count)
    shown = np.arange(count)
    if count > MOST_CLASSES:
        wrong = full.sum(0) + full.sum(1) - 2 * full.diagonal()
        shown = np.sort(np.argsort(-wrong, kind="stable")[:MOST_CLASSES])
    totals = full.sum(1)
    with np.errstate(invalid="ignore"):
        recall = np.where(totals > 0, full.diagonal() / np.maximum(totals, 1), np.nan)
    right, total = int(full.diagonal().sum()), int(full.sum())
    off = full - np.diag(full.diagonal())
    one, other = np.unravel_index(off.argmax(), off.shape)
    worst, common = int(np.nanargmin(recall)), int(totals.argmax())
    part_name = PARTS[part]
    facts: dict[str, Any] = {
        "rung": run.rung,
        "classes": labels[shown].tolist(),
        "accuracy": right / total,
        "right": right,
        "rows": total,
        "confused": None
        if right == total
        else {"true": str(labels[one]), "answer": str(labels[other]), "rows": int(off[one, other])},
        "worst": {"class": str(labels[worst]), "recall": float(recall[worst])},
        "part": part,
    }
    left = say(TEXTS, "left", shown=len(shown), all=count) if len(shown) < count else ("", "")
    title = say(
        TEXTS,
        "perfect" if right == total else "title",
        rung=run.rung,
        right=right,
        rows=total,
        one=str(labels[one]),
        other=str(labels[other]),
        count=int(off[one, other]),
        total=int(totals[one]),
    )
    see = say(
        TEXTS,
        "see",
        worst=str(labels[worst]),
        recall=f"{recall[worst]:.0%}",
        rows=int(totals[worst]),
        common=str(labels[common]),
        prior=f"{totals[common] / total:.0%}",
    )
    return View(
        "confusion",
        title,
        say(TEXTS, "caption", part=part_name, left=left),
        see,
        {"matrix": full[np.ix_(shown, shown)], "recall": recall[shown]},
        facts,
        {"matrix": TEXTS["answer"], "recall": TEXTS["true"]},
    )
