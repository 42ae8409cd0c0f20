"""Learning a table's spec from its training rows, batch by batch, and saying what is worth a reader's notice.

One pass in memory that does not grow with the rows; a table in memory is one that comes in few batches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from sadari.data import leaks, readings
from sadari.data.columns import ColumnSpec
from sadari.data.spec import TableSpec, target_values
from sadari.data.summary import Moments, Summary
from sadari.errors import SadariError
from sadari.lang import Note

TEXTS = {
    "constant": (
        "column `{column}` has the same value everywhere; left out",
        "`{column}` 열은 값이 모두 같아 뺐습니다",
    ),
    "empty": ("column `{column}` has no value at all; left out", "`{column}` 열은 값이 하나도 없어 뺐습니다"),
    "duplicate": (
        "column `{column}` repeats `{other}`; left out",
        "`{column}` 열은 `{other}` 열과 같아 뺐습니다",
    ),
    "unreadable": (
        "column `{column}` holds {dtype}, which no rung reads; left out",
        "`{column}` 열의 {dtype} 값은 어느 단도 읽지 못해 뺐습니다",
    ),
    "id": (
        "column `{column}` only numbers the rows; left out",
        "`{column}` 열은 행에 번호를 매길 뿐이어서 뺐습니다",
    ),
    "numbered": (
        "column `{column}` rises with every row as a row number does; if it is one, leave it out: --drop "
        "'{column}'",
        "`{column}` 열은 행 번호처럼 행마다 커집니다. 행 번호라면 빼십시오: --drop '{column}'",
    ),
    "unique": (
        "column `{column}` has {distinct:,} different texts in {rows:,} rows, too few of them repeated to "
        "learn from; left out",
        "`{column}` 열은 {rows:,}행에 서로 다른 글이 {distinct:,}가지이고 되풀이되는 것이 너무 적어 뺐습니다",
    ),
    "many": (
        "column `{column}` has {distinct:,} categories; the {kept} most common ({share:.0%} of its rows) "
        "have a feature each, the others count as (rare)",
        "`{column}` 열의 범주는 {distinct:,}가지입니다. 가장 흔한 {kept}가지({share:.0%})만 따로 두고 "
        "나머지는 (rare)로 묶었습니다",
    ),
    "rare": (
        "column `{column}`: categories in fewer than {least} rows count as (rare); there are {count:,}",
        "`{column}` 열에서 {least}행 미만인 범주 {count:,}가지는 (rare)로 묶었습니다",
    ),
    "gaps": (
        "column `{column}` is missing in {share:.1%} of rows; filled in, and a feature of its own says where",
        "`{column}` 열은 {share:.1%}의 행에서 비어 있습니다. 채워 넣고 빈 곳을 따로 표시했습니다",
    ),
    "infinite": (
        "column `{column}`: infinite values ({count:,}) count as missing",
        "`{column}` 열의 무한대 값 {count:,}개는 빈 값으로 다룹니다",
    ),
    "skewed": (
        "target `{target}` is skewed (skewness {skewness:.1f}, after log1p {after:.1f}); try --log-target "
        "or --loss absolute",
        "목표(`{target}`)의 분포가 치우쳤습니다(왜도 {skewness:.1f}, log1p 뒤 {after:.1f}). "
        "--log-target이나 --loss absolute를 써 보십시오",
    ),
    "tailed": (
        "target `{target}` is skewed (skewness {skewness:.1f}); try --loss absolute",
        "목표(`{target}`)의 분포가 치우쳤습니다(왜도 {skewness:.1f}). --loss absolute를 써 보십시오",
    ),
    "imbalance": (
        "classes are unequal: `{label}` is {share:.1%} of the rows, so always answering it is right that "
        "often; judge by balanced accuracy",
        "범주가 고르지 않습니다: `{label}`의 비율이 {share:.1%}여서 늘 그렇게만 답해도 그만큼 맞습니다. "
        "균형 정확도로 판단하십시오",
    ),
    "few": (
        "class `{label}` has {count} training rows; what is said of it will be a guess",
        "범주 `{label}`의 훈련 행이 {count}개뿐이라 그 예측은 짐작에 가깝습니다",
    ),
    "wide": (
        "{features:,} features for {rows:,} training rows: a tall rung can learn the rows by heart; drop "
        "columns, or trust the low rungs",
        "훈련 {rows:,}행에 특성이 {features:,}개라 높은 단은 행을 외울 수 있습니다. 열을 줄이거나 낮은 단을 "
        "믿으십시오",
    ),
}

MOST_CATEGORIES = 64
LEAST_SHARE = 0.001  # of the rows, for a category to have a feature of its own; two rows at least
_KEPT_SHARE = 0.1  # of the rows: when the kept categories cover less, a column of text says next to nothing
_UNEQUAL = 0.75  # share of the largest class
_SKEWED = 2.0  # an exponential distribution's skewness
_GUESS = 5  # rows of a class
_WORDS = readings.TRUE | readings.FALSE
_IDS = re.compile(
    r"(?i)(column \d+|unnamed.*|(.*[ _.-])?(id|idx|index|no|nr|num|row|rowid)|(일련)?번호|순번|연번|아이디)"
)


class Learner:
    """Takes training rows in batches, then says the spec."""

    def __init__(
        self,
        schema: Mapping[str, pl.DataType],
        target: str,
        task: str,
        *,
        drop: Sequence[str] = (),
        log_target: bool = False,
        written: Mapping[str, str] | None = None,
    ) -> None:
        self.written = written or {}
        self.target, self.task, self.log_target = target, task, log_target
        self.summaries = [
            Summary(name, dtype) for name, dtype in schema.items() if name not in (target, *drop)
        ]
        self.rows = 0
        self.y, self.log_y = Moments(), Moments()
        self.classes: dict[str, int] = {}
        """Rows of each class."""
        self.first = ""

    def update(self, batch: pl.DataFrame) -> None:
        """Take in rows of the table; those without a target are passed over."""
        target = target_values(batch, self.target, self.task)
        if target.null_count():
            batch, target = batch.filter(target.is_not_null()), target.drop_nulls()
        if batch.is_empty():
            return
        y = self._add_target(target)
        values = batch.select(summary.value() for summary in self.summaries if summary.kind)
        for summary in self.summaries:
            if summary.kind:
                summary.add(values[summary.name], batch[summary.name], target, y, self.rows)
        self.rows += batch.height

    def _add_target(self, target: pl.Series) -> np.ndarray:
        """The target in float64; where it is classes, whether it is that of the very first row."""
        if self.task == "regress":
            y = target.to_numpy().astype(np.float64)
            self.log_y.add(np.log1p(y[y > -1]))
        else:
            self.first = self.first or target[0]
            for label, rows in target.value_counts().iter_rows():
                self.classes[label] = self.classes.get(label, 0) + rows
            y = (target == self.first).to_numpy().astype(np.float64)
        self.y.add(y)
        return y

    def finish(self) -> TableSpec:
        """The spec of the rows taken in. Raises SadariError where nothing is to predict or to predict by."""
        classes, center, scale, notes = self._finish_target()
        columns: list[ColumnSpec] = []
        seen: dict[tuple[str, int], str] = {}
        for summary in self.summaries:
            column, found = _finish(summary)
            same = seen.setdefault((summary.kind, summary.digest), summary.name)
            if column and same != summary.name:
                column, found = None, [Note.of(TEXTS, "duplicate", column=summary.name, other=same)]
            if column:
                columns.append(replace(column, written=self.written.get(column.name, "")))
                found += leaks.found(summary, self.target, self.y, self.rows, len(self.classes))
            notes += found
        if not columns:
            why = "; ".join(note.english for note in notes[:3])
            raise SadariError(
                f"no column is left to predict {self.target} from ({why or 'all are dropped'}); add columns"
            )
        width = sum(len(column.features) for column in columns)
        if width > self.rows:
            notes.append(Note.of(TEXTS, "wide", "warning", features=width, rows=self.rows))
        return TableSpec(
            self.task, self.target, classes, center, scale, self.log_target, tuple(columns), tuple(notes)
        )

    def _finish_target(self) -> tuple[tuple[str, ...] | None, float, float, list[Note]]:
        """Classes, centre and scale of the target, and what is worth knowing of it."""
        if self.task == "classify":
            return self._labels(), 0.0, 1.0, self._class_notes()
        y = self.log_y if self.log_target else self.y
        if y.count < self.y.count:
            raise SadariError(
                f"the target {self.target} goes down to {self.y.low:g}, and log1p needs more than -1; leave "
                f"--log-target out"
            )
        if y.constant:
            raise SadariError(
                f"the target {self.target} is {self.y.mean:g} in all {self.rows:,} training rows; choose "
                f"another --target"
            )
        notes = []
        before, after = self.y.skewness, self.log_y.skewness
        if abs(before) > _SKEWED and not self.log_target:
            key = "skewed" if self.y.low >= 0 and abs(after) < abs(before) / 2 else "tailed"
            notes.append(Note.of(TEXTS, key, "warning", target=self.target, skewness=before, after=after))
        return None, y.mean, y.deviation, notes

    def _labels(self) -> tuple[str, ...]:
        if len(self.classes) < 2:
            only = next(iter(self.classes), "none")
            raise SadariError(
                f"the target {self.target} has one class in the training rows ({only}); choose another "
                f"--target"
            )
        return tuple(sorted(self.classes, key=_label_order))

    def _class_notes(self) -> list[Note]:
        notes = []
        largest = max(self.classes, key=lambda label: self.classes[label])
        if (share := self.classes[largest] / self.rows) >= _UNEQUAL:
            notes.append(Note.of(TEXTS, "imbalance", "warning", label=largest, share=share))
        few = sorted((rows, label) for label, rows in self.classes.items() if rows < _GUESS)
        return notes + [Note.of(TEXTS, "few", "warning", label=label, count=rows) for rows, label in few[:5]]


def _finish(summary: Summary) -> tuple[ColumnSpec | None, list[Note]]:
    """How a column becomes features, None when it is left out, and what is worth knowing of it."""
    name = summary.name
    if not summary.kind:
        return None, [Note.of(TEXTS, "unreadable", "warning", column=name, dtype=str(summary.dtype))]
    if summary.missing == summary.rows:
        return None, [Note.of(TEXTS, "empty", column=name)]
    column, notes = _finish_text(summary) if summary.kind == "category" else _finish_numbers(summary)
    if column and summary.infinite:
        notes.append(Note.of(TEXTS, "infinite", "warning", column=name, count=summary.infinite))
    if column and summary.missing:
        notes.append(Note.of(TEXTS, "gaps", column=name, share=summary.missing / summary.rows))
    return column, notes


def _finish_numbers(summary: Summary) -> tuple[ColumnSpec | None, list[Note]]:
    x, gaps, notes = summary.pair.x, summary.missing > 0, []
    if x.constant and not gaps:
        return None, [Note.of(TEXTS, "constant", column=summary.name)]
    if summary.kind == "number" and summary.rising and x.count > 2:
        if _IDS.fullmatch(summary.name):
            return None, [Note.of(TEXTS, "id", column=summary.name)]
        notes.append(Note.of(TEXTS, "numbered", "warning", column=summary.name))
    scale = 1.0 if x.constant else x.deviation
    if summary.kind == "date":
        clock = isinstance(summary.dtype, pl.Datetime)
        return ColumnSpec(summary.name, "date", gaps, x.mean, scale, clock=clock), notes
    return ColumnSpec(
        summary.name, "boolean" if summary.dtype == pl.Boolean else "number", gaps, x.mean, scale
    ), notes


def _finish_text(summary: Summary) -> tuple[ColumnSpec | None, list[Note]]:
    assert summary.counts is not None  # it has values
    name, gaps, known = summary.name, summary.missing > 0, summary.rows - summary.missing
    counts = (
        summary.counts.group_by("value")
        .agg(pl.col("rows").sum())
        .sort(["rows", "value"], descending=[True, False])
    )
    distinct = counts.height
    if distinct == 1 and not gaps:
        return None, [Note.of(TEXTS, "constant", column=name)]
    words = {value.lower(): rows for value, rows in counts.head(20).iter_rows()}
    if (
        distinct <= 20
        and readings.TRUE & set(words)
        and readings.FALSE & set(words)
        and not set(words) - _WORDS
    ):
        yes = sum(rows for value, rows in counts.iter_rows() if value.lower() in readings.TRUE) / known
        return ColumnSpec(name, "boolean", gaps, yes, float(np.sqrt(yes * (1 - yes)))), []
    least = max(2, int(np.ceil(LEAST_SHARE * summary.rows)))
    common = counts.filter(pl.col("rows") >= least)
    kept = common.head(MOST_CATEGORIES)
    share = kept["rows"].sum() / known
    if share < _KEPT_SHARE:
        return None, [Note.of(TEXTS, "unique", column=name, distinct=distinct, rows=summary.rows)]
    notes = []
    if common.height > MOST_CATEGORIES:
        notes.append(Note.of(TEXTS, "many", column=name, distinct=distinct, kept=kept.height, share=share))
    elif distinct > kept.height:
        notes.append(Note.of(TEXTS, "rare", column=name, count=distinct - kept.height, least=least))
    rare = distinct > kept.height or summary.bounded
    return ColumnSpec(name, "category", gaps, categories=tuple(sorted(kept["value"])), rare=rare), notes


def _label_order(label: str) -> tuple[int, float, str]:
    """Whole numbers by value, before text by letters."""
    whole = re.fullmatch(r"-?\d{1,15}", label)
    return (0, float(label), label) if whole else (1, 0.0, label)
