"""Bottleneck: BLEU and chrF against the length of the source, this run beside others.

An encoder-decoder with one fixed vector between its halves falls off with length, one with attention does not
(Bahdanau et al. 2014, 1409.0473, figure 2). Lines are compared at one length: BLEU itself depends on the
length of the texts, so that a line's own slope says less than its distance from another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.bleu import statistics
from sadari.errors import SadariError
from sadari.inspection.pairs import Pairs, names_of, opened, pairs_of, translated
from sadari.inspection.rows import PARTS, Part
from sadari.inspection.view import Said, View, say
from sadari.metrics import METRICS, Resamples, bootstrap
from sadari.search import Searching

if TYPE_CHECKING:
    from sadari.runs import Run

ENOUGH = 20  # pairs that a group of lengths must have
FOUR = (
    4  # words: half of a group's references must have so many, or BLEU, which counts four in a row, is none
)
RESAMPLES = 500
FIXED = ("rnn", "lstm")  # rungs whose halves have one vector between them

TEXTS = {
    "title": (
        "{name}: {first} {metric} on sources of {short}, {last} on those of {long}",
        "{name}: 원문이 {short}일 때 {metric} {first}, {long}일 때 {last}",
    ),
    "title_many": (
        "From sources of {short} to those of {long}, {worst} goes from {a} to {b} {metric}, {best} from {c} "
        "to {d}",
        "원문이 {short}에서 {long}(으)로 길어지면 {metric}: {worst} {a}→{b}, {best} {c}→{d}",
    ),
    "caption": (
        "BLEU and chrF of greedy translations of {count} {part} pairs, by the source's length in {unit}; "
        "bars are 95% intervals. Groups have {least} pairs or more. Compare lines at one length: both scores "
        "depend on how long the texts are.",
        "{part} 쌍 {count}개를 탐욕적으로 옮긴 결과의 BLEU와 chrF, 원문 길이({unit})별. 막대는 95% 구간. "
        "묶음마다 {least}쌍 이상. 같은 길이에서 선끼리 견준다. 두 점수 모두 글의 길이에 따라 달라지기 "
        "때문이다.",
    ),
    "see": (
        "{courses} {why} Nobody closes a book and then translates its 700 pages: the page is looked up again "
        "at each word, which is what attention does.",
        "{courses} {why} 책을 덮은 뒤 700쪽을 기억만으로 번역하는 사람은 없습니다. 단어마다 그 쪽을 다시 "
        "펼쳐 보며, 어텐션이 하는 일이 바로 그것입니다.",
    ),
    "course": (
        "On the longest sources {name} scores {last} {metric} (95% interval {low} to {high}), on the "
        "shortest {first}.",
        "{name}의 {metric}는 가장 긴 원문에서 {last}(95% 구간 {low} ~ {high}), 가장 짧은 원문에서 "
        "{first}입니다.",
    ),
    "why_fixed": (
        "Between the halves of {names} stands one vector of {width} numbers, whether the source has three "
        "words or three hundred.",
        "{names}의 두 반쪽 사이에는 원문이 세 낱말이든 삼백 낱말이든 수 {width}개짜리 벡터 하나뿐입니다.",
    ),
    "why_free": (
        "Nothing here has to pass through one vector.",
        "여기서는 글이 벡터 하나를 지나지 않아도 됩니다.",
    ),
    "words": ("words", "낱말 수"),
    "characters": ("characters", "글자 수"),
    "word_range": ("{lengths} words", "낱말 {lengths}개"),
    "character_range": ("{lengths} characters", "{lengths}자"),
    "bleu": ("BLEU", "BLEU"),
    "chrf": ("chrF", "chrF"),
    "length": ("length of the source, {unit}", "원문 길이, {unit}"),
    "pairs": ("pairs", "쌍 수"),
    "low": ("{metric}, lower end", "{metric}, 구간 아래"),
    "high": ("{metric}, upper end", "{metric}, 구간 위"),
}


def bottleneck(
    runs: Sequence[Run],
    *,
    beside: Sequence[str] = (),
    part: Part = "test",
    groups: int = 5,
    most: int = 600,
) -> View:
    """Scores by length, a row for each run: bleu, bleu_low, bleu_high, chrf and so on (R, B); pairs (B,).

    beside   folders of runs on the same pairs and split, drawn along
    most     pairs that are translated at most, spread evenly over the groups of lengths

    length (B,): the shortest and longest source of a group, "1–5", in words, or in characters where sources
    have no spaces. Groups of fewer than 20 pairs join their neighbour. BLEU is NaN where references have
    hardly four words; then chrF is spoken of. SadariError when there are not two groups, or a run beside is
    of other data.
    """
    if groups < 2:
        raise SadariError(f"--groups {groups} makes no curve; give 2 or more")
    runs = [*runs, *(opened(path, runs[0]) for path in beside)]
    if any(run.config["data"]["fingerprint"] != runs[0].config["data"]["fingerprint"] for run in runs):
        raise SadariError("these runs were fitted to different pairs; give runs of one climb")
    pairs = pairs_of(runs[0], part)
    lengths, unit = lengths_of(pairs.sources)
    group, names = grouped(lengths, groups)
    rows = _chosen(group, max(most // len(names), ENOUGH))
    pairs, group = pairs.chosen(rows), group[rows]
    arrays: dict[str, np.ndarray] = {
        "length": np.array(names),
        "pairs": np.bincount(group, minlength=len(names)),
    }
    for metric in ("bleu", "chrf"):
        arrays |= {f"{metric}{end}": np.empty((len(runs), len(names))) for end in ("", "_low", "_high")}
    for i, run in enumerate(runs):
        for name, values in _scores(run, pairs, group, len(names)).items():
            arrays[name][i] = values
    drawn = "bleu" if np.isfinite(arrays["bleu"]).all() else "chrf"
    called = names_of(runs)
    facts: dict[str, Any] = {
        "rung": runs[0].rung,
        "rungs": called,
        "of": [run.rung for run in runs],
        "metric": drawn,
        "unit": unit,
        "loss": (arrays[drawn][:, 0] - arrays[drawn][:, -1]).tolist(),
    }
    return View(
        "bottleneck",
        _title(called, arrays, facts),
        say(
            TEXTS,
            "caption",
            count=len(pairs),
            part=PARTS[part],
            unit=TEXTS[unit],
            least=ENOUGH,
        ),
        say(TEXTS, "see", courses=_courses(called, arrays, drawn), why=_why(runs, called)),
        arrays,
        facts,
        {
            "length": say(TEXTS, "length", unit=TEXTS[unit]),
            "pairs": TEXTS["pairs"],
            **{
                f"{metric}{'_' + end if end else ''}": say(TEXTS, end or metric, metric=TEXTS[metric])
                for metric in ("bleu", "chrf")
                for end in ("", "low", "high")
            },
        },
    )


def lengths_of(texts: Sequence[str]) -> tuple[np.ndarray, str]:
    """Lengths (N,) in words, or in characters where half of the texts have no two words."""
    words = np.array([len(text.split()) for text in texts], int)
    if len(words) and np.median(words) < 2:
        return np.array([len(text) for text in texts], int), "characters"
    return words, "words"


def grouped(lengths: np.ndarray, groups: int) -> tuple[np.ndarray, list[str]]:
    """Which group each length is in, and the groups' names; equally wide, but the last holds all longer ones.

    A group of fewer than ENOUGH joins the next shorter one. Raises SadariError when fewer than two are left.
    """
    if len(lengths) < 2 * ENOUGH:
        raise SadariError(
            f"{len(lengths)} pairs make no two groups of {ENOUGH}, so no curve; choose a larger --part"
        )
    low, high = int(lengths.min()), int(np.quantile(lengths, 0.99, method="higher"))
    edges = np.unique(np.rint(np.linspace(low, high + 1, groups + 1)).astype(int))
    group = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, max(len(edges) - 2, 0))
    for k in range(int(group.max()), 0, -1):  # what is too small goes down
        if (group == k).sum() < ENOUGH:
            group[group == k] = k - 1
    kept = np.unique(group)
    if len(kept) > 1 and (group == kept[0]).sum() < ENOUGH:
        group[group == kept[0]] = kept[1]
        kept = kept[1:]
    if len(kept) < 2:
        raise SadariError(
            "the sources are all about equally long, so there is no curve against length; look at other data"
        )
    group = np.searchsorted(kept, group)
    ends = [(int(lengths[group == k].min()), int(lengths[group == k].max())) for k in range(len(kept))]
    return group, [f"{a}–{b}" if a < b else f"{a}" for a, b in ends]


def _chosen(group: np.ndarray, each: int) -> np.ndarray:
    """At most `each` rows of every group, always the same ones, in file order."""
    draw = np.random.default_rng(0)
    rows = [np.flatnonzero(group == k) for k in range(int(group.max()) + 1)]
    return np.sort(
        np.concatenate([r if len(r) <= each else draw.choice(r, each, replace=False) for r in rows])
    )


def _scores(run: Run, pairs: Pairs, group: np.ndarray, groups: int) -> dict[str, np.ndarray]:
    """Scores of one run with their intervals, each (B,); BLEU is NaN for groups of very short references."""
    words = np.array([len(text.split()) for text in pairs.references])
    found = translated(run, pairs.sources, Searching())
    counts = statistics([run.spec.decode(one[0].tokens) for one in found], pairs.references)
    scores: dict[str, np.ndarray] = {}
    for name in ("bleu", "chrf"):
        metric = METRICS[name]
        values = []
        for k in range(groups):
            rows = counts[group == k]
            if name == "bleu" and np.median(words[group == k]) < FOUR:
                values.append((np.nan,) * 3)
                continue
            contributed = metric.contributions(rows, np.zeros(len(rows)))
            interval = bootstrap(metric, contributed, Resamples(len(rows), RESAMPLES))
            values.append((interval.score, interval.low, interval.high))
        columns = np.array(values).T
        scores |= {f"{name}{end}": column for end, column in zip(("", "_low", "_high"), columns, strict=True)}
    return scores


def _title(names: list[str], arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> Said:
    """What becomes of this run, or of the run that loses most and the one that ends highest."""
    kind = "word_range" if facts["unit"] == "words" else "character_range"
    short, long = (say(TEXTS, kind, lengths=str(arrays["length"][end])) for end in (0, -1))
    score, common = arrays[facts["metric"]], {"metric": TEXTS[facts["metric"]], "short": short, "long": long}
    best, worst = int(score[:, -1].argmax()), int(np.argmax(facts["loss"]))
    if len(names) == 1 or best == worst:
        first, last = f"{score[best, 0]:.1f}", f"{score[best, -1]:.1f}"
        return say(TEXTS, "title", name=names[best], first=first, last=last, **common)
    ends = [f"{score[row, end]:.1f}" for row in (worst, best) for end in (0, -1)]
    named = {"worst": names[worst], "best": names[best], **dict(zip("abcd", ends, strict=True))}
    return say(TEXTS, "title_many", **named, **common)


def _courses(names: list[str], arrays: dict[str, np.ndarray], metric: str) -> Said:
    """A sentence a run: its score on the longest sources and on the shortest."""
    said = []
    for i, name in enumerate(names):
        ends = {key: f"{arrays[metric + end][i, -1]:.1f}" for key, end in _ENDS.items()}
        first = f"{arrays[metric][i, 0]:.1f}"
        said.append(say(TEXTS, "course", name=name, metric=TEXTS[metric], first=first, **ends))
    return " ".join(one for one, _ in said), " ".join(other for _, other in said)


_ENDS = {"last": "", "low": "_low", "high": "_high"}


def _why(runs: Sequence[Run], names: list[str]) -> Said:
    """How wide the one vector is, where there is one."""
    fixed = [i for i, run in enumerate(runs) if run.rung in FIXED]
    if not fixed:
        return TEXTS["why_free"]
    settings: list[Any] = [runs[i].model.config for i in fixed]
    widths = dict.fromkeys(str(one.width * one.directions) for one in settings)
    return say(TEXTS, "why_fixed", names=", ".join(names[i] for i in fixed), width=" / ".join(widths))
