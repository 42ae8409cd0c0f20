"""Does one column alone tell the target? Then it may be the answer in disguise, known only afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from sadari.data.summary import Moments, Summary
from sadari.lang import Note

TEXTS = {
    "leak, correlation": (
        "column `{column}` may be the answer in disguise: its correlation with `{target}` is "
        "{evidence:.5f}; if it is not known when you predict, leave it out: --drop '{column}'",
        "`{column}` 열은 정답이 새어 든 것일 수 있습니다: 목표(`{target}`)와의 상관계수가 "
        "{evidence:.5f}입니다. 예측할 때 알 수 없는 값이라면 빼십시오: --drop '{column}'",
    ),
    "leak, classes": (
        "column `{column}` may be the answer in disguise: its {distinct} values tell `{target}` in "
        "{evidence:.2%} of rows; if it is not known when you predict, leave it out: --drop '{column}'",
        "`{column}` 열은 정답이 새어 든 것일 수 있습니다: 값 {distinct}가지가 {evidence:.2%}의 행에서 "
        "목표(`{target}`)를 말해 줍니다. 예측할 때 알 수 없는 값이라면 빼십시오: --drop '{column}'",
    ),
    "leak, variance": (
        "column `{column}` may be the answer in disguise: its {distinct} values explain {evidence:.2%} of "
        "the variance of `{target}`; if it is not known when you predict, leave it out: --drop '{column}'",
        "`{column}` 열은 정답이 새어 든 것일 수 있습니다: 값 {distinct}가지가 목표(`{target}`) 분산의 "
        "{evidence:.2%}를 설명합니다. 예측할 때 알 수 없는 값이라면 빼십시오: --drop '{column}'",
    ),
    "leak, gaps": (
        "column `{column}` may be the answer in disguise: where it is empty tells `{target}` (correlation "
        "{evidence:.5f}); if it is not known when you predict, leave it out: --drop '{column}'",
        "`{column}` 열은 정답이 새어 든 것일 수 있습니다: 비어 있는지가 목표(`{target}`)를 말해 "
        "줍니다(상관계수 {evidence:.5f}). 예측할 때 알 수 없는 값이라면 빼십시오: --drop '{column}'",
    ),
}

_ALL = 0.999  # of a correlation, of the rows, of the variance
_EVIDENCE = 20  # rows below which chance tells the target too

Evidence = tuple[str, dict[str, Any]] | None


def found(summary: Summary, target: str, y: Moments, rows: int, classes: int) -> list[Note]:
    """A warning with its evidence, if the column tells the target.

    `y` are the moments of the target, or of whether it is one of the classes; `classes` is 0 for numbers.
    """
    if rows < _EVIDENCE:
        return []
    evidence = _values(summary, y, rows, classes)
    if classes <= 2:
        evidence = _correlation(summary) or _presence(summary, y, rows) or evidence
    if evidence is None:
        return []
    key, values = evidence
    return [Note.of(TEXTS, key, "warning", column=summary.name, target=target, **values)]


def _correlation(summary: Summary) -> Evidence:
    r = summary.pair.correlation
    if summary.kind == "number" and abs(r) > _ALL and summary.pair.x.count >= _EVIDENCE:
        return "leak, correlation", {"evidence": round(r, 6)}
    return None


def _presence(summary: Summary, y: Moments, rows: int) -> Evidence:
    """The correlation of the target with whether the column is empty."""
    empty, there = summary.missing, rows - summary.missing
    if not (empty and there and y.deviation):
        return None
    r = (summary.missing_target / empty - y.mean) * float(np.sqrt(empty / there)) / y.deviation
    return ("leak, gaps", {"evidence": round(r, 6)}) if abs(r) > _ALL else None


def _values(summary: Summary, y: Moments, rows: int, classes: int) -> Evidence:
    """How well the best guess for each different value does, where there are few of them."""
    counts, known = summary.counts, rows - summary.missing
    if counts is None or summary.bounded or known < rows / 2:
        return None
    distinct = counts["value"].n_unique()
    if not 1 < distinct <= known / 10:
        return None
    if classes:
        right = int(counts.group_by("value").agg(pl.col("rows").max())["rows"].sum())
        blind = max(counts.group_by("class").agg(pl.col("rows").sum())["rows"])
        if right > _ALL * known and right - blind > 0.99 * (known - blind):
            return "leak, classes", {"distinct": distinct, "evidence": right / known}
        return None
    sizes, sums = counts["rows"].to_numpy(), counts["sum"].to_numpy()
    mean = float(sums.sum()) / known
    between = float(((sums / sizes - mean) ** 2 * sizes).sum())
    if not summary.missing and between > _ALL * y.second:
        return "leak, variance", {"distinct": distinct, "evidence": round(between / y.second, 6)}
    return None
