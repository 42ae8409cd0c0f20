"""How far up is worth it: one decision from what every rung contributes on the same test rows.

The rule, in full (`RULE` says it to people):

1. A rung counts if it scored better on the validation rows than every rung below it. The ground counts.
2. Among those that count, the best is the one with the best score on the test rows. A rung is as good as it
   when the best one's paired gain over it is within `worth`: one standard error of that gain, or a number in
   the metric's own units. The lowest such rung is the candidate.
3. The candidate must beat every one below it: the 95 % interval of each gain lies above zero. If it does not,
   the next one up that is as good as the best may try.
4. The candidate is the ground: `stay`. A rung passed: `climb` to it. None passed: `unclear`, there is not
   enough data to tell; the answer until then is what the rule says of the rungs below the candidate alone.

Step 2 follows the one-standard-error rule of Breiman et al. 1984 (CART, section 3.4.3), with the error of the
*paired* difference in place of the error of one score: both rungs answer the same rows, so most of their
errors are shared. Steps 1 and 3 keep step 2 honest: among several rungs one always happens to look best on
the test rows.
`benchmarks/verdict.py` measures how often the whole rule misleads. LOG.md has the rule it replaced.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from scipy import stats

from sadari.errors import SadariError
from sadari.lang import Lang, Note
from sadari.metrics import Comparison, Metric, Resamples, compare

Action = Literal["stay", "climb", "unclear"]
PROBABILITY = 0.975  # a 95 % interval leaves 2.5 % below it

RULE = (
    "A rung counts if it scored better on the validation rows than every rung below it. Of those, the "
    "answer is the lowest whose paired difference from the best on the test rows is within {worth}. It must "
    "also beat each one below it, with the 95% interval of the gain above zero; else there is not enough "
    "data to tell.",
    "검증 행에서 아래의 모든 단보다 나은 단만 셉니다. 답은 그 가운데 시험 행에서 가장 좋은 단과의 짝지은 "
    "차이가 {worth} 이내인, 가장 낮은 단입니다. 또 답은 아래의 단보다 하나하나 나아야 합니다. 곧 차이의 95% "
    "구간이 0보다 커야 하며, 아니면 아직 판단할 데이터가 모자란 것입니다.",
)

TEXTS = {
    "one error": ("one standard error of that difference", "그 차이의 표준 오차 한 개"),
    "own units": ("{worth} of {metric}", "{metric} {worth}"),
    "head stay": (
        "Stay on the ground: {answer} is enough",
        "바닥에 머무는 것이 좋습니다: {answer} 단이면 됩니다",
    ),
    "head climb": ("Climb to {answer}", "{answer} 단까지 올라갈 만합니다"),
    "head unclear": (
        "Not enough data to tell: take {answer} for now",
        "아직 판단할 데이터가 모자랍니다: 당분간 {answer} 단이 낫습니다",
    ),
    "stay, best": (
        "No rung above scores better on validation and test rows alike.",
        "위의 어느 단도 검증 행과 시험 행에서 모두 더 낫지는 않습니다.",
    ),
    "stay": (
        "The best rung above, {best}, gains {gain} of {metric} (95% interval {low} to {high}), which is "
        "within {worth}.",
        "위에서 가장 좋은 {best} 단도 {metric} {gain} 나을 뿐이고(95% 구간 {low} ~ {high}), 이는 {worth} "
        "이내입니다.",
    ),
    "climb": (
        "It gains {gain} of {metric} over {below} (95% interval {low} to {high}) and is better with a "
        "probability of {better}.",
        "{below} 단보다 {metric} {gain} 낫고(95% 구간 {low} ~ {high}), 정말 나을 확률은 {better}입니다.",
    ),
    "top": (
        " No rung above does better on validation and test rows alike, and none below comes as near as "
        "{worth}.",
        " 위의 어느 단도 검증 행과 시험 행에서 모두 더 낫지는 않고, 아래에는 {worth} 이내로 따라온 단이 "
        "없습니다.",
    ),
    "no further": (
        " No further: {best} adds {further}, which is within {worth}.",
        " 그 위로는 갈 까닭이 없습니다. {best} 단이 {further} 더하지만 {worth} 이내입니다.",
    ),
    "unclear": (
        "On the test rows {rung} looks {gain} of {metric} better than {below} (95% interval {low} to "
        "{high}), but with a probability of {better} only.{more}",
        "시험 행에서 {rung} 단이 {below} 단보다 {metric} {gain} 나아 보이지만(95% 구간 {low} ~ {high}), "
        "정말 나을 확률이 {better}에 그칩니다.{more}",
    ),
    "more": (
        " If the difference stays what it is, about {rows:,} more rows would settle it.",
        " 차이가 그대로라면 행이 약 {rows:,}개 더 있으면 판가름 납니다.",
    ),
}


@dataclass(frozen=True)
class Candidate:
    """A rung of the ladder as the rule sees it."""

    name: str
    validation: float
    """The metric on the validation rows."""
    contributions: np.ndarray
    """What each test row contributes to the metric (N, J)."""


@dataclass(frozen=True)
class Verdict:
    """What to do, and why."""

    rung: str
    action: Action
    headline: Note
    """What to do, in a few words."""
    reason: Note
    """Why, with its numbers."""
    best: str
    """The rung with the best score, of those that count."""
    more_rows: int | None = None
    """For `unclear`: how many more rows of data would settle it, if the difference stays what it is."""

    def to_json(self, lang: Lang) -> dict[str, Any]:
        return {
            "rung": self.rung,
            "action": self.action,
            "reason": f"{self.headline.say(lang)}. {self.reason.say(lang)}",
            "best": self.best,
            "more_rows": self.more_rows,
            "headlines": {"en": self.headline.english, "ko": self.headline.korean},
            "reasons": {"en": self.reason.english, "ko": self.reason.korean},
        }


def check_worth(worth: float | None) -> None:
    """Raise SadariError when `--worth` is not a number from 0 up."""
    if worth is not None and not (math.isfinite(worth) and worth >= 0):
        raise SadariError(f"--worth {worth} is no gain; give a number from 0 up, in the metric's own units")


def decide(
    rungs: Sequence[Candidate], metric: Metric, resamples: Resamples, *, rows: int, worth: float | None = None
) -> Verdict:
    """The verdict over rungs from the ground up, by the rule at the top of this file.

    `rows` counts all rows of the data set: what "about N more rows" is reckoned from. `worth` None: one
    error.
    """
    check_worth(worth)
    sign = 1 if metric.higher else -1
    rungs = [
        rung
        for i, rung in enumerate(rungs)
        if all(sign * rung.validation > sign * below.validation for below in rungs[:i])
    ]
    scores = [sign * float(metric.reduce(rung.contributions.mean(0))) for rung in rungs]
    best = scores.index(max(scores))

    @cache
    def against(one: int, other: int) -> Comparison:
        return compare(metric, rungs[one].contributions, rungs[other].contributions, resamples)

    def as_good(i: int) -> bool:
        paired = against(best, i)
        return i == best or paired.gain <= (paired.error if worth is None else worth)

    def verdict(
        keys: tuple[str, ...], i: int, below: int, action: Action, more: int | None = None
    ) -> Verdict:
        further = None if i == best else against(best, i)
        names = {
            "rung": rungs[i].name,
            "below": rungs[below].name,
            "best": rungs[best].name,
            "answer": answer,
        }
        reason = _reason(keys, names, against(i, below), further, metric, worth, more)
        headline = Note.of(TEXTS, f"head {action}", answer=answer)
        return Verdict(answer, action, headline, reason, rungs[best].name, more)

    lowest = next(i for i in range(best + 1) if as_good(i))
    answer = rungs[lowest].name
    if lowest == 0:
        return verdict(("stay, best" if best == 0 else "stay",), best, 0, "stay")

    # for every rung that may be the answer: the one below, the nearest of equals, it beats least surely
    hardest = {
        i: min(range(lowest), key=lambda below: (against(i, below).better, -below))
        for i in range(lowest, best + 1)
        if as_good(i)
    }
    for i, below in hardest.items():
        if against(i, below).better >= PROBABILITY:
            answer = rungs[i].name
            return verdict(("climb", "top" if i == best else "no further"), i, below, "climb")

    answer = decide(rungs[:lowest], metric, resamples, rows=rows, worth=worth).rung
    surest = max(hardest, key=lambda i: against(i, hardest[i]).better)
    more = rows_to_settle(against(surest, hardest[surest]).better, rows)
    return verdict(("unclear",), surest, hardest[surest], "unclear", more)


def rows_to_settle(better: float, rows: int) -> int | None:
    """How many rows to add to `rows` so that a difference now better with probability `better` passes.

    The standard error of a mean falls with 1 / sqrt(rows), so gain / error must grow from z to 1.96 and the
    rows by (1.96 / z)². None when it is no better than a coin. Rounded up to two digits: it is an estimate.
    """
    z = float(stats.norm.ppf(min(better, PROBABILITY)))
    if z <= 0.01:  # a million-fold and beyond is no advice
        return None
    more = rows * ((stats.norm.ppf(PROBABILITY) / z) ** 2 - 1)
    unit = 10 ** max(math.floor(math.log10(max(more, 1))) - 1, 0)
    return math.ceil(more / unit) * unit


def say_worth(worth: float | None, metric: Metric, lang: Lang) -> str:
    """`--worth` in words."""
    english, korean = TEXTS["one error" if worth is None else "own units"]
    gain = "" if worth is None else metric.show_gain(worth, lang)
    return (korean if lang == "ko" else english).format(worth=gain, metric=metric.call(lang))


def rule(worth: float | None, metric: Metric, lang: Lang) -> str:
    """The rule in words, as reports print it."""
    return RULE[lang == "ko"].format(worth=say_worth(worth, metric, lang))


def _reason(
    keys: Sequence[str],
    names: Mapping[str, str],
    paired: Comparison,
    further: Comparison | None,
    metric: Metric,
    worth: float | None,
    more: int | None,
) -> Note:
    """The sentence in both languages; its names and numbers are kept beside it."""
    said = []
    languages: tuple[Lang, Lang] = ("en", "ko")
    for column, lang in enumerate(languages):
        words = {
            **names,
            "metric": metric.call(lang),
            "worth": say_worth(worth, metric, lang),
            "gain": metric.show_gain(paired.gain, lang),
            "low": metric.show_gain(paired.low, lang, unit=False),
            "high": metric.show_gain(paired.high, lang, unit=False),
            "further": metric.show_gain(further.gain, lang) if further else "",
            "better": ">0.99" if paired.better > 0.995 else f"{paired.better:.2f}",
            "more": TEXTS["more"][column].format(rows=more) if more else "",
        }
        said.append("".join(TEXTS[key][column].format(**words) for key in keys))
    return Note(said[0], said[1], "info", {**names, **asdict(paired)})
