"""Learning a table's spec batch by batch: moments by Chan's merge, bounded counts of values, and what is worth a warning.

One pass, memory that does not grow with the rows; a table in memory is one that comes in few batches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from sadari.data import readings
from sadari.data.columns import ColumnSpec, as_days, as_number, as_text
from sadari.data.spec import TableSpec, target_values
from sadari.errors import SadariError
from sadari.lang import Note

TEXTS = {
    "constant": ("column `{column}` has the same value everywhere; left out", "`{column}` 열은 값이 모두 같아 뺐습니다"),
    "empty": ("column `{column}` has no value at all; left out", "`{column}` 열은 값이 하나도 없어 뺐습니다"),
    "duplicate": ("column `{column}` repeats `{other}`; left out", "`{column}` 열은 `{other}` 열과 같아 뺐습니다"),
    "kind": ("column `{column}` holds {dtype}, which no rung reads; left out", "`{column}` 열의 {dtype} 값은 어느 단도 읽지 못해 뺐습니다"),
    "id": ("column `{column}` only numbers the rows; left out", "`{column}` 열은 행 번호일 뿐이어서 뺐습니다"),
    "numbered": (
        "column `{column}` rises with every row as a row number does; if it is one, leave it out with --drop '{column}'",
        "`{column}` 열은 행 번호처럼 행마다 커집니다. 행 번호라면 --drop '{column}'으로 빼십시오",
    ),
    "unique": (
        "column `{column}` has {distinct:,} different texts in {rows:,} rows, too few of them repeated to learn from; left out",
        "`{column}` 열은 {rows:,}행에 서로 다른 글이 {distinct:,}가지이고 되풀이되는 것이 너무 적어 뺐습니다",
    ),
    "many": (
        "column `{column}` has {distinct:,} categories; the {kept} most common have a feature each ({share:.0%} of rows), the rest are (rare)",
        "`{column}` 열의 범주는 {distinct:,}가지입니다. 가장 흔한 {kept}가지({share:.0%})만 따로 두고 나머지는 (rare)로 묶었습니다",
    ),
    "rare": (
        "column `{column}`: {count} categories are in fewer than {least} rows each and count as (rare)",
        "`{column}` 열: {least}행 미만인 범주 {count}가지는 (rare)로 묶었습니다",
    ),
    "gaps": (
        "column `{column}` is missing in {share:.1%} of rows; filled, and marked by a feature of its own",
        "`{column}` 열은 {share:.1%}의 행에서 비어 있습니다. 채워 넣고 빈 곳을 따로 표시했습니다",
    ),
    "infinite": (
        "column `{column}` has {count:,} infinite values; they count as missing",
        "`{column}` 열의 무한대 값 {count:,}개는 빈 값으로 다룹니다",
    ),
    "leak": (
        "column `{column}` may be the answer in disguise: {evidence_en}. If it is not known when you predict, use --drop '{column}'",
        "`{column}` 열은 정답이 새어 든 것일 수 있습니다: {evidence_ko}. 예측할 때 알 수 없는 값이라면 --drop '{column}'으로 빼십시오",
    ),
    "skewed": (
        "target `{target}` is skewed (skewness {skewness:.1f}, with log1p {after:.1f}); try --log-target or --loss absolute",
        "목표 `{target}`의 분포가 치우쳤습니다(왜도 {skewness:.1f}, log1p 뒤 {after:.1f}). --log-target이나 --loss absolute를 써 보십시오",
    ),
    "tailed": (
        "target `{target}` is skewed (skewness {skewness:.1f}); try --loss absolute",
        "목표 `{target}`의 분포가 치우쳤습니다(왜도 {skewness:.1f}). --loss absolute를 써 보십시오",
    ),
    "imbalance": (
        "classes are unequal: `{label}` is {share:.1%} of the rows, so always saying it already scores that accuracy; judge by balanced accuracy",
        "범주가 고르지 않습니다: `{label}`이 {share:.1%}여서 늘 그렇게 답해도 그만큼 맞습니다. 균형 정확도로 판단하십시오",
    ),
    "few": (
        "class `{label}` has {count} training rows; its predictions will be guesses",
        "범주 `{label}`의 훈련 행이 {count}개뿐이라 그 예측은 짐작에 가깝습니다",
    ),
    "wide": (
        "{features:,} features for {rows:,} training rows; a model can learn the rows by heart, so drop columns or prefer a low rung",
        "훈련 {rows:,}행에 특성이 {features:,}개라 모형이 행을 외울 수 있습니다. 열을 줄이거나 낮은 단을 쓰십시오",
    ),
}

MOST_CATEGORIES = 64
LEAST_SHARE = 0.001
_KEPT_SHARE = 0.1  # of the rows: with less in kept categories, a column of text says next to nothing
_BOUND = 100_000  # different values counted in a column of text
_FEW = 64  # different values up to which a column of numbers is also counted
_IDS = re.compile(r"(?i)^(column \d+|unnamed.*|(.*[ _.-])?(id|idx|index|no|nr|num|row|rowid|rownum)|번호|순번|연번|일련번호|아이디)$")


@dataclass
class Moments:
    """Count, mean and centred sums of powers 2 and 3 of one column, merged batch by batch (Chan 1979, Pebay 2008)."""

    count: int = 0
    mean: float = 0.0
    second: float = 0.0
    third: float = 0.0
    low: float = np.inf
    high: float = -np.inf

    def add(self, values: np.ndarray) -> None:
        """Take in finite float64 values (N,)."""
        more = len(values)
        if not more:
            return
        mean = float(values.mean())
        away = values - mean
        square = away * away
        second, third = float(square.sum()), float(square @ away)
        total, gap = self.count + more, mean - self.mean
        self.third += third + gap**3 * self.count * more * (self.count - more) / total**2
        self.third += 3 * gap * (self.count * second - more * self.second) / total
        self.second += second + gap**2 * self.count * more / total
        self.mean += gap * more / total
        self.count = total
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    @property
    def deviation(self) -> float:
        return float(np.sqrt(self.second / self.count)) if self.count else 0.0

    @property
    def skewness(self) -> float:
        return self.third / self.count / self.deviation**3 if self.deviation else 0.0


@dataclass
class Pair:
    """Moments of a column and the target over the rows where the column has a value, for their correlation."""

    x: Moments = field(default_factory=Moments)
    y: Moments = field(default_factory=Moments)
    product: float = 0.0

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        if not len(x):
            return
        gaps = (float(x.mean()) - self.x.mean) * (float(y.mean()) - self.y.mean)
        self.product += float((x - x.mean()) @ (y - y.mean())) + gaps * self.x.count * len(x) / (self.x.count + len(x))
        self.x.add(x)
        self.y.add(y)

    @property
    def correlation(self) -> float:
        spread = np.sqrt(self.x.second * self.y.second)
        return self.product / spread if spread > 0 else 0.0


@dataclass
class Summary:
    """What has been seen of one column."""

    name: str
    dtype: pl.DataType
    kind: str
    """number, date, category, or none where no rung reads it."""
    pair: Pair = field(default_factory=Pair)
    rows: int = 0
    missing: int = 0
    infinite: int = 0
    rising: bool = True
    """Whole numbers, each larger than the one before."""
    last: float = -np.inf
    digest: int = 0
    """Hash of the values in order, to find columns that repeat another."""
    counts: pl.DataFrame | None = None
    """Different values with their rows and the target's sums; None once a column of numbers has too many."""
    bounded: bool = False
    """Rare values have been forgotten, for there were too many."""


class Learner:
    """Takes training rows in batches, then says the spec."""

    def __init__(
        self, schema: Mapping[str, pl.DataType], target: str, task: str, *, drop: Sequence[str] = (), log_target: bool = False
    ) -> None:
        self.target, self.task, self.log_target = target, task, log_target
        self.summaries = [Summary(name, dtype, _kind(dtype)) for name, dtype in schema.items() if name != target and name not in drop]
        self.rows = 0
        self.y, self.log_y = Moments(), Moments()
        self.classes = pl.DataFrame(schema={"class": pl.String, "rows": pl.Int64})

    def update(self, batch: pl.DataFrame) -> None:
        """Take in rows of the table; those without a target are passed over."""
        target = target_values(batch, self.target, self.task)
        if target.null_count():
            batch, target = batch.filter(target.is_not_null()), target.drop_nulls()
        if batch.is_empty():
            return
        y = self._target(target)
        weights = (2 * np.arange(self.rows, self.rows + batch.height, dtype=np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15)
        values = batch.select(_values(summary) for summary in self.summaries if summary.kind)
        for summary in self.summaries:
            if summary.kind == "category":
                _take_text(summary, values[summary.name], target, weights)
            elif summary.kind:
                given = batch[summary.name]
                _take_numbers(summary, values[summary.name], given, y, target, weights)
        self.rows += batch.height

    def _target(self, target: pl.Series) -> np.ndarray:
        """The target in float64 for correlations; for two or more classes, whether it is the first class seen."""
        if self.task == "regress":
            y = target.to_numpy().astype(np.float64)
            self.y.add(y)
            self.log_y.add(np.log1p(y[y > -1]))
            return y
        counts = target.value_counts().select(pl.col(target.name).alias("class"), pl.col("count").cast(pl.Int64).alias("rows"))
        self.classes = pl.concat([self.classes, counts]).group_by("class", maintain_order=True).sum()
        return (target == self.classes["class"].sort()[0]).to_numpy().astype(np.float64)

    def finish(self) -> TableSpec:
        """The spec of all rows that were taken in. Raises SadariError when there is nothing to predict, or nothing to predict by."""
        notes: list[Note] = []
        classes, center, scale = self._finish_target(notes)
        columns = []
        seen: dict[tuple[str, int], str] = {}
        for summary in self.summaries:
            column, found = _finish(summary, self.rows)
            same = seen.setdefault((summary.kind, summary.digest), summary.name)
            if column and same != summary.name:
                column, found = None, [Note.of(TEXTS, "duplicate", column=summary.name, other=same)]
            if column:
                columns.append(column)
                found += self._leak(summary)
            notes += found
        if not columns:
            raise SadariError(f"no column is left to predict {self.target} from: " + "; ".join(note.english for note in notes)[:300])
        spec = TableSpec(self.task, self.target, classes, center, scale, self.log_target, tuple(columns), tuple(notes))
        if spec.width > self.rows:
            notes.append(Note.of(TEXTS, "wide", "warning", features=spec.width, rows=self.rows))
        return TableSpec(self.task, self.target, classes, center, scale, self.log_target, tuple(columns), tuple(notes))

    def _finish_target(self, notes: list[Note]) -> tuple[tuple[str, ...] | None, float, float]:
        if self.task == "regress":
            y = self.log_y if self.log_target else self.y
            if self.log_target and self.log_y.count < self.y.count:
                raise SadariError(f"the target {self.target} goes down to {self.y.low:g}, and log1p needs more than -1; leave --log-target out")
            if y.deviation <= 1e-12 * abs(y.mean) or not y.count:
                raise SadariError(f"the target {self.target} is {self.y.mean:g} in all {self.rows:,} training rows; choose another --target")
            if abs(self.y.skewness) > 2 and not self.log_target:
                helps = self.y.low >= 0 and abs(self.log_y.skewness) < abs(self.y.skewness) / 2
                key = "skewed" if helps else "tailed"
                notes.append(
                    Note.of(TEXTS, key, "warning", target=self.target, skewness=self.y.skewness, after=self.log_y.skewness)
                )
            return None, y.mean, y.deviation
        counts = dict(self.classes.iter_rows())
        if len(counts) < 2:
            raise SadariError(f"the target {self.target} has one class ({next(iter(counts), 'none')!r}) in the training rows; two are needed")
        labels = tuple(sorted(counts, key=_label_order))
        largest = max(labels, key=lambda label: counts[label])
        if counts[largest] / self.rows >= 0.75:
            notes.append(Note.of(TEXTS, "imbalance", "warning", label=largest, share=counts[largest] / self.rows))
        notes += [Note.of(TEXTS, "few", "warning", label=label, count=counts[label]) for label in labels if counts[label] < 5][:5]
        return labels, 0.0, 1.0

    def _leak(self, summary: Summary) -> list[Note]:
        """A warning when the column alone tells the target."""
        evidence = self._evidence(summary)
        if evidence is None:
            return []
        english, korean = evidence
        return [Note.of(TEXTS, "leak", "warning", column=summary.name, evidence_en=english, evidence_ko=korean)]

    def _evidence(self, summary: Summary) -> tuple[str, str] | None:
        r = summary.pair.correlation if summary.kind == "number" else 0.0
        two = self.task == "regress" or self.classes.height == 2
        if two and summary.pair.x.count >= 20 and abs(r) > 0.999:
            return f"its correlation with {self.target} is {r:.5f}", f"{self.target}와의 상관계수가 {r:.5f}입니다"
        counts = summary.counts
        if counts is None or summary.bounded or self.rows < 50:
            return None
        distinct, known = counts["value"].n_unique(), int(counts["rows"].sum())
        if distinct > known / 10 or known < self.rows / 2:
            return None
        if self.task == "classify":
            right = int(counts.group_by("value").agg(pl.col("rows").max())["rows"].sum())
            base = int(counts.group_by("class").agg(pl.col("rows").sum())["rows"].max())
            if right / known > 0.999 and known > base and (right - base) / (known - base) > 0.99:
                share = right / known
                return (
                    f"its {distinct} values tell the class in {share:.2%} of rows",
                    f"값 {distinct}가지로 {share:.2%}의 행에서 범주를 알 수 있습니다",
                )
            return None
        mean = counts["sum"].sum() / known
        between = float((counts["rows"] * (counts["sum"] / counts["rows"] - mean) ** 2).sum())
        if self.y.second > 0 and between / self.y.second > 0.999 and distinct > 1:
            share = min(1.0, between / self.y.second)
            return (
                f"its {distinct} values explain {share:.2%} of the variance of {self.target}",
                f"값 {distinct}가지가 {self.target} 분산의 {share:.2%}를 설명합니다",
            )
        return None


def _kind(dtype: pl.DataType) -> str:
    for kind, read in (("number", as_number), ("date", as_days), ("category", as_text)):
        wanted = kind == "category" or dtype != pl.String
        if wanted and read(pl.col("x"), dtype) is not None:
            return kind
    return ""


def _values(summary: Summary) -> pl.Expr:
    read = {"number": as_number, "date": as_days, "category": as_text}[summary.kind]
    value = read(pl.col(summary.name), summary.dtype)
    assert value is not None  # its kind was chosen so
    return value.alias(summary.name)


def _take_numbers(
    summary: Summary, values: pl.Series, given: pl.Series, y: np.ndarray, target: pl.Series, weights: np.ndarray
) -> None:
    numbers = values.to_numpy()  # null is nan
    there = ~np.isnan(numbers)
    summary.rows += len(numbers)
    missing = len(numbers) - int(there.sum())
    summary.missing += missing
    if given.dtype.is_float() and missing:
        summary.infinite += int(given.is_infinite().sum())
    bits = np.where(there, numbers + 0.0, np.nan).view(np.uint64)  # -0.0 + 0.0 is 0.0
    summary.digest = (summary.digest + int((bits * weights).sum())) % (1 << 64)
    known = numbers[there] if missing else numbers
    summary.pair.add(known, y[there] if missing else y)
    if summary.rising and len(known):
        summary.rising = bool(
            not missing and known[0] > summary.last and (np.diff(known) > 0).all() and (known == np.floor(known)).all()
        )
        summary.last = float(known[-1])
    fresh = summary.pair.x.count == len(known)
    if fresh or summary.counts is not None:
        few = values.head(1000).n_unique() <= _FEW + 1
        counts = _merge(summary.counts, values, target) if few else None
        summary.counts = counts if counts is not None and counts["value"].n_unique() <= _FEW else None


def _take_text(summary: Summary, values: pl.Series, target: pl.Series, weights: np.ndarray) -> None:
    summary.rows += len(values)
    summary.missing += values.null_count()
    summary.digest = (summary.digest + int((values.hash().to_numpy() * weights).sum())) % (1 << 64)
    summary.counts = _merge(summary.counts, values, target)
    if summary.counts.height > _BOUND:
        summary.counts, summary.bounded = summary.counts.top_k(_BOUND // 2, by="rows"), True


def _merge(counts: pl.DataFrame | None, values: pl.Series, target: pl.Series) -> pl.DataFrame:
    """Counts with those of a batch added: (value, class) -> rows, or value -> rows and the target's sum."""
    pairs = pl.DataFrame({"value": values, "target": target}).drop_nulls("value")
    if target.dtype == pl.String:
        keys = ["value", "class"]
        fresh = pairs.rename({"target": "class"}).group_by(keys).agg(pl.len().cast(pl.Int64).alias("rows"))
    else:
        keys = ["value"]
        fresh = pairs.group_by(keys).agg(pl.len().cast(pl.Int64).alias("rows"), pl.col("target").sum().alias("sum"))
    return fresh if counts is None else pl.concat([counts, fresh]).group_by(keys).agg(pl.exclude(keys).sum())


def _finish(summary: Summary, rows: int) -> tuple[ColumnSpec | None, list[Note]]:
    name = summary.name
    if not summary.kind:
        return None, [Note.of(TEXTS, "kind", "warning", column=name, dtype=str(summary.dtype))]
    if summary.missing == rows:
        return None, [Note.of(TEXTS, "empty", column=name)]
    column, notes = (_finish_text if summary.kind == "category" else _finish_numbers)(summary)
    if column and summary.infinite:
        notes.append(Note.of(TEXTS, "infinite", "warning", column=name, count=summary.infinite))
    if column and summary.missing:
        notes.append(Note.of(TEXTS, "gaps", column=name, share=summary.missing / rows))
    return column, notes


def _finish_numbers(summary: Summary) -> tuple[ColumnSpec | None, list[Note]]:
    x = summary.pair.x
    if x.low == x.high and not summary.missing:
        return None, [Note.of(TEXTS, "constant", column=summary.name)]
    if summary.kind == "number" and summary.rising and x.count > 2:
        if _IDS.match(summary.name):
            return None, [Note.of(TEXTS, "id", column=summary.name)]
        notes = [Note.of(TEXTS, "numbered", "warning", column=summary.name)]
    else:
        notes = []
    clock = isinstance(summary.dtype, pl.Datetime)
    spec = ColumnSpec(
        summary.name, summary.kind, summary.missing > 0, x.mean, x.deviation or 1.0, clock=clock  # type: ignore[arg-type]
    )
    return spec, notes


def _finish_text(summary: Summary) -> tuple[ColumnSpec | None, list[Note]]:
    assert summary.counts is not None  # it has values
    name, known = summary.name, summary.rows - summary.missing
    counts = summary.counts.group_by("value").agg(pl.col("rows").sum()).sort(["rows", "value"], descending=[True, False])
    distinct = counts.height
    if distinct == 1 and not summary.missing:
        return None, [Note.of(TEXTS, "constant", column=name)]
    words = {str(value).lower() for value in counts["value"].head(len(readings.TRUE | readings.FALSE) * 4)}
    if words <= readings.TRUE | readings.FALSE and words & readings.TRUE and words & readings.FALSE:
        yes = sum(count for value, count in counts.iter_rows() if value.lower() in readings.TRUE) / known
        return ColumnSpec(name, "boolean", summary.missing > 0, yes, float(np.sqrt(yes * (1 - yes)))), []
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
    return ColumnSpec(name, "category", summary.missing > 0, categories=tuple(sorted(kept["value"])), rare=rare), notes


def _label_order(label: str) -> tuple[int, float, str]:
    """Whole numbers by value before text by letters."""
    whole = re.fullmatch(r"-?\d{1,15}", label)
    return (0, float(label), label) if whole else (1, 0.0, label)
