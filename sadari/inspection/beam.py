"""Beam: the search for one translation as a tree, and what wider beams bring.

A wide beam finds likelier translations, and from some width on worse ones: models give short texts too much
(Koehn & Knowles 2017, 1706.03872, section 3.6; Stahlberg & Byrne 2019, 1908.10090: with an endless beam the
empty text often wins). Whether that shows here is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.bleu import statistics
from sadari.errors import SadariError
from sadari.inspection.bottleneck import FOUR
from sadari.inspection.pairs import Pairs, pairs_of, shown_token, translated
from sadari.inspection.rows import PARTS, Part
from sadari.inspection.view import Said, View, say
from sadari.metrics import METRICS, Resamples, bootstrap, compare
from sadari.search import Found, Searching, Step

if TYPE_CHECKING:
    from sadari.runs import Run

WIDEST = 4  # beams of a tree that can be read
STEPS = 24  # steps of a tree that are drawn at most
BEHIND = 1  # steps that are drawn behind the end of the answer and of the greedy text
PRUNED = 2  # of each step, the best; the others are counted
SHORT = (4, 12)  # tokens of an example
USUAL = 8
RESAMPLES = 500
LETTERS = 60  # of a text in a sentence

TEXTS = {
    "title_better": (
        "{rung}, beam of {beam}: “{answer}” scores {score}, greedy “{greedy}” {other}",
        "{rung}, 빔 {beam}개: “{answer}”은(는) {score}점, 탐욕 “{greedy}”은(는) {other}점",
    ),
    "title_same": (
        "{rung}, beam of {beam}: of {looked} ways to go on that were looked at the greedy text is the best",
        "{rung}, 빔 {beam}개: 이어 쓸 길 {looked}가지를 보았고, 탐욕적으로 쓴 글이 그대로 가장 낫다",
    ),
    "title_worse": (
        "{rung}, beam of {beam}: it lost the better greedy text “{greedy}” on its way",
        "{rung}, 빔 {beam}개: 빔이 더 나은 탐욕 글 “{greedy}”을(를) 도중에 놓쳤다",
    ),
    "caption": (
        "From the top, a row a token. Of all ways to go on the {beam} likeliest are kept; pale and dashed: "
        "pruned, the likeliest {pruned} of each step. Numbers: the log-probability so far, 0 being certain; "
        "at END, framed, it is divided by {rule}, so that short texts do not win. Blue: the answer; orange "
        "dots: what greedy search writes, as far as the beam kept it. Source: “{text}”. {chosen}{cut} Below: "
        "{count} {part} pairs.",
        "위에서부터 한 줄에 토큰 하나. 이어 쓸 길 가운데 가장 그럴듯한 {beam}개를 남긴다. 흐린 점선은 잘린 "
        "길(단계마다 가장 그럴듯한 {pruned}개). 수는 그때까지의 로그 확률(0이면 확실), 테를 두른 END에서는 "
        "짧은 글이 이기지 않게 {rule}(으)로 나눈 점수. 파랑은 답, 주황 점은 탐욕 탐색이 쓰는 글(빔이 남겨 둔 "
        "데까지). 원문: “{text}”. {chosen}{cut} 아래는 {part} 쌍 {count}개.",
    ),
    "rule": ("(5 + length) / 6", "(5 + 길이) / 6"),
    "power": ("((5 + length) / 6)^{to}", "((5 + 길이) / 6)^{to}"),
    "cut": (
        " Steps that are not drawn: {count}; the search ends when no beam can score better any more.",
        " 그리지 않은 단계: {count}. 어느 빔도 점수를 더 올릴 수 없을 때 탐색이 끝난다.",
    ),
    "chosen differs": (
        "It was picked: the first of the pairs on which greedy search and the beam differ.",
        "고른 예이다. 탐욕 탐색과 빔의 답이 갈리는 첫 쌍.",
    ),
    "chosen usual": (
        "On no pair of {low} to {high} tokens do greedy search and the beam differ; this one is nearest to "
        "{usual}.",
        "토큰 {low}~{high}개인 쌍에서는 탐욕 탐색과 빔의 답이 모두 같다. 이것은 {usual}개에 가장 가까운 쌍.",
    ),
    "chosen alone": (
        "A beam of one is greedy search; this pair is the one nearest to {usual} tokens.",
        "빔 하나는 곧 탐욕 탐색이다. 이것은 토큰 {usual}개에 가장 가까운 쌍.",
    ),
    "chosen given": ("As given.", "주어진 원문."),
    "see": (
        "{tree} {widths}",
        "{tree} {widths}",
    ),
    "left": (
        "Greedy search takes the likeliest token at each step and cannot take it back: at token {step} the "
        "answer takes “{kept}”, greedy search “{taken}”.",
        "탐욕 탐색은 걸음마다 가장 그럴듯한 토큰을 고르고 무르지 못합니다. {step}번째 토큰에서 답은 "
        "“{kept}”, 탐욕 탐색은 “{taken}”을(를) 골랐습니다.",
    ),
    "agrees": (
        "The likeliest token at each step led to the best text that the beam found; that is not always so.",
        "걸음마다 가장 그럴듯한 토큰이 빔이 찾은 가장 나은 글로 이어졌습니다. 늘 그렇지는 않습니다.",
    ),
    "widths": (
        "From 1 beam to {widest} the mean score goes from {low} to {high}, {metric} from {first} to {last}, "
        "the best at {best}.",
        "빔이 1개에서 {widest}개가 되면 평균 점수는 {low}에서 {high}(으)로, {metric}는 {first}에서 "
        "{last}(으)로 바뀌고, {best}개일 때 가장 높습니다.",
    ),
    "decline": (
        " From there on {metric} falls by {gain} (95% interval {down} to {up}) while the score rises: what "
        "is likelier is not better.",
        " 그 뒤로 점수는 오르는데 {metric}는 {gain} 떨어집니다(95% 구간 {down} ~ {up}). 더 그럴듯하다고 더 "
        "나은 번역은 아닙니다.",
    ),
    "no decline": (
        " The decline at large widths that is known from other models does not stand out from chance here.",
        " 다른 모델에서 알려진, 빔이 넓을 때의 하락은 여기서 우연과 구별되지 않습니다.",
    ),
    "token": ("token", "토큰"),
    "logp": ("log-probability so far", "그때까지의 로그 확률"),
    "score": ("score, over the length penalty", "길이 벌점으로 나눈 점수"),
    "step": ("step", "단계"),
    "parent": ("the node that it continues", "잇는 마디"),
    "fate": ("fate: kept, finished or pruned", "남음(kept), 끝남(finished), 잘림(pruned)"),
    "greedy": ("on the greedy path", "탐욕 탐색의 길"),
    "answer": ("on the path of the answer", "답의 길"),
    "width": ("beams", "빔 수"),
    "mean_score": ("mean score", "평균 점수"),
    "bleu": ("BLEU", "BLEU"),
    "bleu_low": ("BLEU, lower end", "BLEU, 구간 아래"),
    "bleu_high": ("BLEU, upper end", "BLEU, 구간 위"),
    "chrf": ("chrF", "chrF"),
    "chrf_low": ("chrF, lower end", "chrF, 구간 아래"),
    "chrf_high": ("chrF, upper end", "chrF, 구간 위"),
    "length": ("length, the reference's being 1", "길이 (정답을 1로)"),
}


@dataclass(frozen=True)
class Tree:
    """The ways of one search that are drawn, in the order of their steps; node 0 is START."""

    parent: list[int]
    token: list[int]
    logp: list[float]
    step: list[int]
    """0 of START, 1 of the first token."""
    fate: list[str]
    """kept, finished or pruned."""
    looked: int
    """Candidates that the search looked at, those that are not drawn included."""

    def path(self, tokens: Sequence[int]) -> list[int]:
        """The nodes of a text's tokens from START on, as far as the tree has them."""
        found = [0]
        children = {(p, t): i for i, (p, t) in enumerate(zip(self.parent, self.token, strict=True)) if i}
        for token in tokens:
            if (node := children.get((found[-1], token))) is None:
                break
            found.append(node)
        return found


def beam(
    run: Run,
    *,
    text: str | None = None,
    part: Part = "test",
    beam: int = 3,
    widths: Sequence[int] = (1, 2, 4, 8, 16),
    length_penalty: float = 1.0,
    most: int = 100,
) -> View:
    """The tree of one search: token, logp, score, step, parent, fate, greedy and answer, each (N,).

    text     what to translate; else a short source of the part, one on which greedy and beam differ if any
    beam     beams of the tree, 1 to 4
    widths   beams to measure: width, mean_score, length, bleu and chrf with their ends, each (W,)

    A node's `score` is NaN unless it is finished. SadariError for numbers out of range or an empty text.
    """
    if not 1 <= beam <= WIDEST:
        raise SadariError(f"--beam {beam}: a tree of 1 to {WIDEST} beams can be read; give one of these")
    if len(widths) < 2 or min(widths) < 1:
        raise SadariError(f"--widths {','.join(map(str, widths))}: give two or more, each 1 or larger")
    if text is not None and not text.strip():
        raise SadariError("the text has no words to translate; give some with --text")
    pairs = pairs_of(run, part, most)
    how = {width: Searching(beam=width, length_penalty=length_penalty) for width in {1, beam, *widths}}
    found = {w: [answers[0] for answers in translated(run, pairs.sources, one)] for w, one in how.items()}
    chosen = "given"
    if text is None:
        row, chosen = _example(found[1], found[beam])
        text, chosen = pairs.sources[row], "alone" if beam == 1 else chosen
    steps: list[Step] = []
    answer = translated(run, [text], how[beam], steps)[0][0]
    greedy = translated(run, [text], how[1])[0][0]
    tree, end = grown(steps, run.spec.start), run.spec.end
    ways = {"answer": tree.path([*answer.tokens, end]), "greedy": tree.path([*greedy.tokens, end])}
    ends = [tree.step[way[-1]] for way in ways.values()]
    shown = min(max(ends) + BEHIND, STEPS, max(tree.step))
    arrays = _nodes(run, tree, ways, how[beam], shown)
    arrays |= _measured(run, pairs, [found[width] for width in widths], widths)
    words = np.median([len(reference.split()) for reference in pairs.references])
    metric = "bleu" if words >= FOUR else "chrf"
    facts = {
        "rung": run.rung,
        "text": text,
        "answer": run.spec.decode(answer.tokens),
        "greedy": run.spec.decode(greedy.tokens),
        "score": answer.score,
        "greedy_score": greedy.score,
        "beam": beam,
        "length_penalty": length_penalty,
        "looked": tree.looked,
        "chosen": chosen,
        "steps": max(tree.step),
        "metric": metric,
        **_decline(run, pairs, [found[width] for width in widths], widths, metric),
    }
    behind = max(tree.step) - shown
    return View(
        "beam",
        _title(facts, answer, greedy),
        say(
            TEXTS,
            "caption",
            beam=beam,
            pruned=PRUNED,
            rule=TEXTS["rule"] if length_penalty == 1 else say(TEXTS, "power", to=f"{length_penalty:g}"),
            text=_short(text),
            chosen=say(TEXTS, f"chosen {chosen}", low=SHORT[0], high=SHORT[1], usual=USUAL),
            cut=say(TEXTS, "cut", count=behind) if behind else "",
            count=len(pairs),
            part=PARTS[part],
        ),
        say(TEXTS, "see", tree=_left(run, answer, greedy), widths=_widths(arrays, facts)),
        arrays,
        facts,
        {name: TEXTS[name] for name in arrays},
    )


def grown(steps: Sequence[Step], start: int) -> Tree:
    """The tree of a search's steps, of the pruned only the best PRUNED a step."""
    tree = Tree([-1], [start], [0.0], [0], ["kept"], sum(len(step.candidates) for step in steps))
    nodes = {0: 0}  # of each beam
    for step in steps:
        after, pruned = {}, 0
        for one in step.candidates:
            if one.fate == "pruned":
                pruned += 1
                if pruned > PRUNED:
                    continue
            if one.fate == "kept":
                after[one.beam] = len(tree.parent)
            tree.parent.append(nodes[one.parent])
            tree.token.append(one.token)
            tree.logp.append(one.logp)
            tree.step.append(step.step + 1)
            tree.fate.append(one.fate)
        nodes = after
    return tree


def _nodes(
    run: Run, tree: Tree, ways: dict[str, list[int]], how: Searching, last: int
) -> dict[str, np.ndarray]:
    """The steps of a tree up to the last one as columns."""
    step = np.array(tree.step)
    kept = step <= last  # nodes come in the order of their steps, so parents keep their places
    finished = np.array([fate == "finished" for fate in tree.fate])
    score = np.where(finished, np.array(tree.logp) / how.penalty(step), np.nan)
    ways_on = zip(tree.token[1:], tree.step[1:], strict=True)
    names = ["START", *(shown_token(run.spec.tokenizer, token, at == 1) for token, at in ways_on)]
    columns = {
        "token": np.array(names),
        "logp": np.array(tree.logp),
        "score": score,
        "step": step,
        "parent": np.array(tree.parent),
        "fate": np.array(tree.fate),
        **{name: np.isin(np.arange(len(step)), path) for name, path in ways.items()},
    }
    return {name: column[kept] for name, column in columns.items()}


def _counts(run: Run, pairs: Pairs, found: Sequence[Found]) -> np.ndarray:
    return statistics([run.spec.decode(one.tokens) for one in found], pairs.references)


def _measured(
    run: Run, pairs: Pairs, found: Sequence[Sequence[Found]], widths: Sequence[int]
) -> dict[str, np.ndarray]:
    """What each width comes to over the pairs."""
    own = run.spec.tokenizer.encode(pairs.references)
    tokens = max(sum(len(one) for one in own), 1)
    columns: dict[str, list[float]] = {"mean_score": [], "length": []}
    resamples = Resamples(len(pairs), RESAMPLES)
    for answers in found:
        columns["mean_score"].append(float(np.mean([one.score for one in answers])))
        columns["length"].append(sum(len(one.tokens) for one in answers) / tokens)
        counts = _counts(run, pairs, answers)
        for name in ("bleu", "chrf"):
            metric = METRICS[name]
            interval = bootstrap(metric, metric.contributions(counts, np.zeros(len(pairs))), resamples)
            for end, value in (("", interval.score), ("_low", interval.low), ("_high", interval.high)):
                columns.setdefault(name + end, []).append(value)
    return {"width": np.array(widths), **{name: np.array(column) for name, column in columns.items()}}


def _decline(
    run: Run, pairs: Pairs, found: Sequence[Sequence[Found]], widths: Sequence[int], name: str
) -> dict[str, Any]:
    """How far the widest beam falls behind the best one, paired; a decline where the interval says so."""
    metric = METRICS[name]
    rows = [metric.contributions(_counts(run, pairs, one), np.zeros(len(pairs))) for one in found]
    scores = [float(metric.reduce(one.mean(0))) for one in rows]
    best, widest = int(np.argmax(scores)), int(np.argmax(widths))
    seen = compare(metric, rows[best], rows[widest], Resamples(len(pairs), RESAMPLES))
    about = {"best_width": int(widths[best]), "fall": seen.gain, "fall_low": seen.low, "fall_high": seen.high}
    return {**about, "declines": bool(widths[best] < widths[widest] and seen.low > 0)}


def _example(greedy: Sequence[Found], wide: Sequence[Found]) -> tuple[int, str]:
    """A pair of SHORT length: the first on which the beam found a better text, else one of USUAL length."""
    lengths = np.array([len(one.tokens) for one in wide])
    low, high = SHORT
    for row, (one, other) in enumerate(zip(greedy, wide, strict=True)):
        if low <= lengths[row] <= high and one.tokens != other.tokens:
            return row, "differs"
    return int(np.abs(lengths - USUAL).argmin()), "usual"


def _title(facts: dict[str, Any], answer: Found, greedy: Found) -> Said:
    case = "same"
    if answer.tokens != greedy.tokens:
        case = "better" if answer.score >= greedy.score else "worse"
    return say(
        TEXTS,
        f"title_{case}",
        rung=facts["rung"],
        beam=facts["beam"],
        looked=facts["looked"],
        answer=_short(facts["answer"]),
        greedy=_short(facts["greedy"]),
        score=f"{answer.score:.2f}".replace("-", "−"),
        other=f"{greedy.score:.2f}".replace("-", "−"),
    )


def _left(run: Run, answer: Found, greedy: Found) -> Said:
    """Where the answer and the greedy text part."""
    ways = [[*one.tokens, run.spec.end] for one in (answer, greedy)]
    for step, (kept, taken) in enumerate(zip(*ways, strict=False), start=1):
        if kept != taken:
            names = [shown_token(run.spec.tokenizer, token, step == 1) for token in (kept, taken)]
            return say(TEXTS, "left", step=step, kept=names[0], taken=names[1])
    return TEXTS["agrees"]


def _widths(arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> Said:
    order = np.argsort(arrays["width"])
    score, metric = arrays["mean_score"][order], arrays[facts["metric"]][order]
    called = TEXTS[facts["metric"]]
    said = say(
        TEXTS,
        "widths",
        widest=int(arrays["width"].max()),
        low=f"{score[0]:.3f}".replace("-", "−"),
        high=f"{score[-1]:.3f}".replace("-", "−"),
        metric=called,
        first=f"{metric[0]:.1f}",
        last=f"{metric[-1]:.1f}",
        best=facts["best_width"],
    )
    fall = {"gain": facts["fall"], "down": facts["fall_low"], "up": facts["fall_high"]}
    more = say(TEXTS, "decline", metric=called, **fall) if facts["declines"] else TEXTS["no decline"]
    return said[0] + more[0], said[1] + more[1]


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"
