"""Mistakes: the pictures that a network is surest about and wrong, and the labels that it doubts.

Which class is taken for which is counted on validation and test pictures, from which it did not learn.
Wrong labels are looked for among the training pictures by confident learning (Northcutt, Jiang & Chuang 2019,
1911.00068): a class's threshold is the mean probability that pictures so labelled get for it,

    t_j = mean of p(j | x) over the x with label j,

and a picture counts for the likeliest class among those with p(j | x) >= t_j. Where that is another one than
its label, and likelier, the label is suspected. The paper asks for probabilities from outside the training; a
network that has learnt from a label may repeat it, so what is found here is a beginning of the list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.errors import SadariError
from sadari.inspection.thumbnails import thumbnails
from sadari.inspection.view import View, say

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

    from sadari.data.prepare import Prepared
    from sadari.runs import Run

SCORED = ("validation", "test")
PAIRS = 4  # pairs of classes that are shown, the most confused ones
EXAMPLES = 6  # pictures of each
KNOWS = 0.7  # share of the training labels that a network says, to be a judge of them
NAMED = 24  # letters of a class in the title
COLUMNS: dict[str, type] = {
    "reason": str,
    "part": str,
    "row": np.int64,
    "picture": str,
    "true": str,
    "said": str,
    "probability": np.float64,
    "own": np.float64,
}

TEXTS = {
    "title": (
        "{rung}: {wrong} of {rows} pictures wrong, most often {one} taken for {other}; {suspects}",
        "{rung}: 그림 {rows}장 가운데 {wrong}장 오답, 가장 흔한 혼동은 {one} → {other}; {suspects}",
    ),
    "perfect": (
        "{rung}: all {rows} pictures right; {suspects}",
        "{rung}: 그림 {rows}장 모두 정답; {suspects}",
    ),
    "suspects": (
        "it doubts {count} training labels",
        "훈련 라벨 {count}개를 의심함",
    ),
    "suspect": ("it doubts 1 training label", "훈련 라벨 1개를 의심함"),
    "trusted": ("it doubts no training label", "의심하는 훈련 라벨 없음"),
    "caption": (
        "Validation and test pictures that it got wrong, the surest first, and the pairs of classes that it "
        "confuses most; then training pictures whose label it doubts: another class is likelier there than "
        "that class usually is on its own pictures.",
        "검증과 시험에서 틀린 그림을 확신이 큰 것부터, 그리고 가장 많이 헷갈리는 클래스 쌍. 다음은 라벨이 "
        "의심스러운 훈련 그림: 다른 클래스의 확률이 라벨보다 높고, 그 클래스로 표시된 그림의 평균만큼 크다.",
    ),
    "see": (
        "Ask of each picture whether you would have known: a mistake that you would make too is the "
        "picture's, and one where you agree with the network is the label's. {honest} The whole list, with "
        "file names, is in mistakes.json, or in a table with --out list.csv.",
        "그림마다 나라면 맞혔을지 생각해 봅니다. 나도 틀릴 그림이면 그림 탓이고, 망의 답에 동의한다면 라벨 "
        "탓입니다. {honest} 파일 이름이 있는 전체 목록은 mistakes.json에 있고, --out list.csv를 주면 표로 "
        "나옵니다.",
    ),
    "honest": (
        "It has learnt from the training labels and repeats {share} of them, wrong ones perhaps among them: "
        "what it doubts is worth a look, what it does not doubt is not proven right.",
        "이 망은 훈련 라벨을 보고 배웠고 그 {share}를 그대로 말합니다. 잘못된 라벨도 외웠을 수 있으니, "
        "의심하는 라벨은 확인해 볼 만하지만 의심하지 않는다고 해서 옳다는 증거는 아닙니다.",
    ),
    "weak": (
        "It says only {share} of the training labels itself: what it doubts tells more of the network than "
        "of the labels.",
        "이 망은 훈련 라벨의 {share}만 제대로 말합니다. 이 망이 의심하는 라벨은 라벨보다 망에 대해 더 많이 "
        "말해 줍니다.",
    ),
    "reason": ("why", "이유"),
    "part": ("part", "부분"),
    "row": ("row", "행"),
    "picture": ("picture", "그림"),
    "true": ("label", "라벨"),
    "said": ("answer", "모델의 답"),
    "probability": ("probability of the answer", "답의 확률"),
    "own": ("probability of the label", "라벨의 확률"),
    "pair_true": ("label", "라벨"),
    "pair_said": ("answer", "모델의 답"),
    "pair_count": ("pictures", "그림 수"),
    "pictures": ("pictures shown", "보인 그림"),
    "shown": ("their lines in the list", "목록에서의 줄"),
}


def mistakes(run: Run, *, top: int = 12, most: int = 10_000) -> View:
    """A list of M pictures: errors on validation and test, the surest first, then doubted training labels.

    top    pictures to show of each
    most   pictures of each part to look at, spread evenly

    reason ("error" or "label"), part, row (from 1, in the table), picture (its name), true, said (M,) as
    text; probability, own (M,): of the answer and of the label. pictures (P, h, w, C): those shown, of the
    lines `shown` (P,), from 0. pair_true, pair_said, pair_count (Q,): what is taken for what, the most
    frequent first.
    Raises SadariError when `top` or `most` is below 1, or the data has changed since the fit.
    """
    if top < 1 or most < 1:
        raise SadariError(f"--top {top} with --most {most} leaves no picture to look at; give 1 or more")
    prepared = run.data()
    found = [_errors(run, prepared, part, most) for part in SCORED]
    doubted = _doubted(run, prepared, most)
    errors = _joined([one.lines for one in found], "probability")
    suspects = _joined([doubted.lines], "gap")
    lines = errors + suspects
    count: np.ndarray = np.sum([one.count for one in found], axis=0)
    Q, pairs = len(run.spec.classes), []
    for flat in np.argsort(-count, axis=None, kind="stable")[: max(PAIRS, top)]:
        if count.flat[flat]:
            pairs.append((int(flat) // Q, int(flat) % Q))
    shown = _shown(lines, len(errors), [tuple(run.spec.classes[k] for k in pair) for pair in pairs], top)
    facts = {
        "rung": run.rung,
        "rows": sum(one.rows for one in found),
        "wrong": len(errors),
        "suspects": len(suspects),
        "repeated": doubted.right,
        "top": top,
    }
    return _view(run, lines, shown, pairs, count, facts)


@dataclass(frozen=True)
class Found:
    """What was found in one part."""

    lines: list[dict[str, Any]]
    """A line of the list for each picture, its pixels with it."""
    count: Int64[np.ndarray, "K K"]
    """Pictures of class i that were given class j, the right ones left out."""
    rows: int
    """Pictures looked at."""
    right: float
    """Share of them whose label the network says."""


def _errors(run: Run, prepared: Prepared, part: str, most: int) -> Found:
    targets, odds, look = _asked(run, prepared, part, most)
    said = odds.argmax(1)
    wrong = np.flatnonzero(said != targets)
    count = np.zeros((odds.shape[1],) * 2, np.int64)
    np.add.at(count, (targets[wrong], said[wrong]), 1)
    right = 1 - len(wrong) / max(len(targets), 1)
    return Found([look(int(i), "error", int(said[i])) for i in wrong], count, len(targets), right)


def _doubted(run: Run, prepared: Prepared, most: int) -> Found:
    targets, odds, look = _asked(run, prepared, "train", most)
    said = confident(odds, targets)
    lines = [look(int(i), "label", int(said[i])) for i in np.flatnonzero(said != targets)]
    return Found(lines, np.zeros(0, np.int64), len(targets), float((odds.argmax(1) == targets).mean()))


def confident(odds: Float[np.ndarray, "N K"], labels: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    """The class that each picture counts for by confident learning; its label where that is not doubted."""
    rows = np.arange(len(labels))
    own = odds[rows, labels]
    held = np.bincount(labels, minlength=odds.shape[1])
    total = np.bincount(labels, own, minlength=odds.shape[1])
    threshold = np.where(held > 0, total / np.maximum(held, 1), np.inf)  # (K,)
    sure = np.where(odds >= threshold, odds, -1.0)
    best = sure.argmax(1)
    return np.where(sure[rows, best] > own, best, labels)


def _asked(
    run: Run, prepared: Prepared, part: str, most: int
) -> tuple[Int64[np.ndarray, " N"], Float[np.ndarray, "N K"], Callable[[int, str, int], dict[str, Any]]]:
    """Labels and probabilities of pictures of a part, and what makes a line of the list of one of them."""
    arrays: Any = getattr(prepared, part)
    table: Any = prepared.table
    numbers = getattr(prepared.split, part)
    chosen = np.arange(len(numbers))
    if len(chosen) > most:
        chosen = np.arange(most) * len(chosen) // most
    targets = arrays.targets[chosen]
    odds = run.predictions(np.ascontiguousarray(arrays.features[chosen])).astype(np.float64)

    def line(i: int, reason: str, said: int) -> dict[str, Any]:
        row = int(numbers[chosen[i]])
        return {
            "reason": reason,
            "part": part,
            "row": row + 1,
            "picture": table.names[row],
            "true": run.spec.classes[targets[i]],
            "said": run.spec.classes[said],
            "probability": float(odds[i, said]),
            "own": float(odds[i, targets[i]]),
            "gap": float(odds[i, said] - odds[i, targets[i]]),
            "pixels": arrays.features[chosen[i]],
        }

    return targets, odds, line


def _joined(parts: Sequence[list[dict[str, Any]]], by: str) -> list[dict[str, Any]]:
    return sorted((line for part in parts for line in part), key=lambda line: -line[by])


def _shown(lines: list[dict[str, Any]], errors: int, pairs: Sequence[tuple[str, ...]], top: int) -> list[int]:
    """Numbers of the lines whose pictures are drawn: the first of each reason, and some of each pair."""
    wanted = {*range(min(top, errors)), *range(errors, min(errors + top, len(lines)))}
    for pair in pairs[:PAIRS]:
        of = [i for i in range(errors) if (lines[i]["true"], lines[i]["said"]) == pair]
        wanted.update(of[:EXAMPLES])
    return sorted(wanted)


def _view(
    run: Run,
    lines: list[dict[str, Any]],
    shown: list[int],
    pairs: list[tuple[int, int]],
    count: Int64[np.ndarray, "K K"],
    facts: dict[str, Any],
) -> View:
    classes = run.spec.classes
    suspects = facts["suspects"]
    said = say(TEXTS, ("trusted", "suspect")[suspects] if suspects < 2 else "suspects", count=suspects)
    values: dict[str, Any] = {**facts, "suspects": said}
    if pairs:
        one, other = (classes[k] if len(classes[k]) <= NAMED else classes[k][:NAMED] + "…" for k in pairs[0])
        values |= {"one": one, "other": other}
    size, channels = run.spec.size, run.spec.channels
    pixels = np.stack([lines[i]["pixels"] for i in shown]) if shown else np.zeros((0, size, size, channels))
    arrays: dict[str, np.ndarray] = {
        name: np.array([line[name] for line in lines], dtype) for name, dtype in COLUMNS.items()
    }
    arrays |= {
        "pictures": thumbnails(pixels.astype(np.uint8)),
        "shown": np.array(shown, np.int64),
        "pair_true": np.array([classes[i] for i, _ in pairs], str),
        "pair_said": np.array([classes[j] for _, j in pairs], str),
        "pair_count": np.array([count[pair] for pair in pairs], np.int64),
    }
    known = facts["repeated"]
    honest = say(TEXTS, "honest" if known >= KNOWS else "weak", share=f"{known:.1%}")
    return View(
        "mistakes",
        say(TEXTS, "title" if pairs else "perfect", **values),
        TEXTS["caption"],
        say(TEXTS, "see", honest=honest),
        arrays,
        facts,
        {name: TEXTS[name] for name in arrays},
    )
