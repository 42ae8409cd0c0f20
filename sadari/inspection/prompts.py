"""Prompts: how well captions are told apart by their pictures, against the sentence that they are put into.

A text tower has met captions as people write them; a bare name is seldom one (Radford et al. 2021,
2103.00020, section 3.1.4). So each caption of the part is put into a template, the pictures look for theirs,
and the templates are compared; `ensemble` is the mean of a caption's unit vectors over all of them.

    caption -- template, or each of them -- tokens -- text tower -- (mean) -- length 1 --+
    picture ------------------------------------------ picture tower ------ length 1 ----+-- nearest: right?

A run that was fitted on bare captions has met no template: expect it to lose by them, and to win only where
its captions were sentences. Captions that get longer than the run reads are cut, the template's end with
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from sadari.errors import SadariError
from sadari.inspection.captioned import BLOCK, MOST, Captioned, captioned, right
from sadari.inspection.rows import PARTS, Part
from sadari.inspection.view import View, say

if TYPE_CHECKING:
    from sadari.runs import Run

PLAIN = "{}"
TEMPLATES = ("{}", "a picture of {}", "an emoji of {}", "{} 그림", "{} 이모지")
RESAMPLES, LEVEL = 2000, 0.95
LARGEST = 12  # templates
FEWEST = 2  # captions
SHOWN = 40  # letters of a template in a sentence

TEXTS = {
    "title_gain": (
        "{rung}: with “{best}” {score} of {count} pictures find their caption, {gain} more than with the "
        "bare caption",
        "{rung}: “{best}”(으)로 그림 {count}장 중 {score}가 제 설명을 찾아, 설명만 썼을 때보다 {gain} 많다",
    ),
    "title_none": (
        "{rung}: no template is shown to be better than the bare caption, by which {score} of {count} "
        "pictures find theirs",
        "{rung}: 설명만 쓴 것보다 낫다고 할 만한 틀은 없다. 설명만으로 그림 {count}장 중 {score}가 제 설명을 "
        "찾는다",
    ),
    "caption": (
        "Share of pictures whose nearest caption, of {classes} that differ, is true of them (recall at 1), "
        "with every caption put into the same template; {{}} is the caption, the ensemble the mean of all "
        "vectors of one. Lines are 95 % intervals by bootstrap over subjects. "
        "Pictures of the {part} part.",
        "서로 다른 설명 {classes}개 가운데 가장 가까운 것이 맞는 그림의 비율(1위 재현율). 모든 설명을 같은 "
        "틀에 넣었다. {{}}는 설명, 앙상블은 한 설명의 벡터 전부의 평균. 선은 대상 단위 부트스트랩의 95% "
        "구간. {part} 부분의 그림.",
    ),
    "see": (
        "Against the bare caption, on the same pictures, the best of the others (“{best}”) makes {gain} "
        "(interval {low} to {high}, at 95 % for all {tried} together, since the best was picked), the worst "
        "(“{worst}”) {loss}. {verdict}{cut}",
        "같은 그림에서 설명만 썼을 때와 견주면 나머지 중 가장 좋은 것(“{best}”)은 {gain}(구간 {low}에서 "
        "{high}, 가장 좋은 것을 골랐으므로 {tried}개 모두에 대해 95%), 가장 나쁜 것(“{worst}”)은 "
        "{loss}입니다. {verdict}{cut}",
    ),
    "better": (
        "The sentence helps: it is nearer to what the text tower has read.",
        "문장이 도움이 됩니다. 글 인코더가 읽어 온 것에 더 가깝기 때문입니다.",
    ),
    "same": (
        "That interval holds 0: no difference is shown.",
        "이 구간은 0을 품으므로 차이가 있다고 할 수 없습니다.",
    ),
    "worse": (
        "A sentence that the text tower has not met in training moves captions away from their pictures.",
        "훈련에서 만나지 못한 문장은 설명을 그림에서 멀어지게 할 뿐입니다.",
    ),
    "cut": (
        " {count} captions are longer than the run reads ({length} tokens) in some template, and were cut.",
        " 설명 {count}개는 어떤 틀에서 이 실행이 읽는 길이(토큰 {length}개)를 넘어 잘렸습니다.",
    ),
    "points": ("{value} points", "{value}%p"),
    "ensemble": ("mean of all", "전부의 평균"),
    "score": ("recall at 1", "1위 재현율"),
    "template": ("template", "틀"),
    "low": ("lower end of the interval", "구간의 아래 끝"),
    "high": ("upper end of the interval", "구간의 위 끝"),
}


def prompts(
    run: Run,
    *,
    part: Part = "test",
    templates: Sequence[str] = TEMPLATES,
    most: int = MOST,
    language: str | None = None,
) -> View:
    """Recall at 1 of a part's pictures among its captions, put into each template and into all.

    templates   with {} where the caption stands; the bare one is always among them

    score, low, high (T + 1,): of each template, then of the ensemble; template (T + 1,).
    SadariError for a template without {}, for too many, and for a part with one caption.
    """
    given = tuple(dict.fromkeys((PLAIN, *templates)))
    for template in given:
        if PLAIN not in template:
            raise SadariError(f"--templates {template!r} has no {{}} where the caption stands; add one")
    if len(given) > LARGEST:
        raise SadariError(f"{len(given)} templates with the bare one; {LARGEST} have room, leave some out")
    pairs = captioned(run, part, most, language)
    once = np.unique(pairs.wordings, return_index=True)[1]  # captions that differ
    if len(once) < FEWEST:
        raise SadariError(f"the {part} part has captions of {len(once)} wording; take another --part")
    texts = [pairs.texts[row] for row in once]
    image, _ = pairs.vectors(run)
    vectors, long = read(run, texts, given)
    everything = vectors.mean(0)
    everything /= np.maximum(np.linalg.norm(everything, axis=-1, keepdims=True), 1e-12)
    hits = np.stack([hits_of(pairs, image, each, once) for each in (*vectors, everything)])  # (T + 1, n)
    scores, drawn = hits.mean(1), resampled(hits, pairs.subjects)
    edges = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(drawn, edges, axis=1)
    gains = scores - scores[0]
    names = [*given, TEXTS["ensemble"]]
    best, worst = 1 + int(gains[1:].argmax()), 1 + int(gains[1:].argmin())
    tail = (1 - LEVEL) / 2 / len(given)  # Bonferroni's, as many are compared with the bare one
    between = np.quantile(drawn[best] - drawn[0], [tail, 1 - tail])
    verdict = "better" if between[0] > 0 else "worse" if between[1] < 0 else "same"
    told = [name[:SHOWN] if isinstance(name, str) else name for name in names]
    return View(
        "prompts",
        say(
            TEXTS, "title_gain" if verdict == "better" else "title_none", rung=run.rung, best=told[best],
            score=f"{scores[best if verdict == 'better' else 0]:.1%}", gain=_points(gains[best], False),
            count=len(pairs),
        ),
        say(TEXTS, "caption", classes=len(once), part=PARTS[part]),
        say(
            TEXTS, "see", best=told[best], worst=told[worst], gain=_points(gains[best]),
            loss=_points(gains[worst]), tried=len(given), low=_points(between[0]), high=_points(between[1]),
            verdict=TEXTS[verdict],
            cut=say(TEXTS, "cut", count=long, length=run.spec.length) if long else ("", ""),
        ),
        {
            "score": scores,
            "low": np.minimum(low, scores),
            "high": np.maximum(high, scores),
            "template": np.array([*given, "ensemble"]),
        },
        {
            "rung": run.rung,
            "pictures": len(pairs),
            "captions": len(once),
            "best": "ensemble" if best == len(given) else given[best],
            "gain": float(gains[best]),
            "gain_low": float(between[0]),
            "gain_high": float(between[1]),
            "cut": long,
        },
        {name: TEXTS[name] for name in ("score", "low", "high", "template", "ensemble")},
    )  # fmt: skip


def read(run: Run, texts: Sequence[str], templates: Sequence[str]) -> tuple[Float[np.ndarray, "T n D"], int]:
    """Captions in each template as vectors of length 1, and how many of them were cut in one at least."""
    found, cut = [], np.zeros(len(texts), bool)
    for template in templates:
        filled = [template.replace(PLAIN, text) for text in texts]
        lengths = [len(tokens) for tokens in run.spec.tokenizer.encode(filled, special=True)]
        cut |= np.array(lengths) > run.spec.length
        tokens = torch.from_numpy(run.spec.encode_captions(filled))
        found.append(run.task.captions(run.model, tokens).double().numpy())
    return np.stack(found), int(cut.sum())


def hits_of(
    pairs: Captioned, image: Float[np.ndarray, "n D"], text: Float[np.ndarray, "m D"], once: np.ndarray
) -> Bool[np.ndarray, " n"]:
    """Of each picture, whether the nearest caption is true of it; `once`: the captions' rows in `pairs`."""
    found = []
    said = [set(pairs.wordings[pairs.subjects == subject].tolist()) for subject in np.unique(pairs.subjects)]
    place = np.unique(pairs.subjects, return_inverse=True)[1]
    wordings = pairs.wordings[once]
    for first in range(0, len(pairs), BLOCK):
        rows = range(first, min(first + BLOCK, len(pairs)))
        true = np.stack([np.isin(wordings, list(said[place[row]])) for row in rows])
        found.append(right(image[first : first + BLOCK], text, true))
    return np.concatenate(found)


def resampled(
    hits: Bool[np.ndarray, "T n"], subjects: Any, resamples: int = RESAMPLES, seed: int = 0
) -> Float[np.ndarray, "T R"]:
    """Shares of hits over resamples of the subjects, the same ones for all rows: pictures of one subject are
    found or missed together, and do not count as so many witnesses."""
    draw = np.random.default_rng(seed)
    groups = np.unique(subjects, return_inverse=True)[1]
    G = int(groups.max()) + 1
    sums = np.stack([np.bincount(groups, row, G) for row in hits.astype(float)])  # (T, G)
    sizes = np.bincount(groups, minlength=G)
    picks = draw.integers(G, size=(resamples, G))
    counts = np.stack([np.bincount(pick, minlength=G) for pick in picks])  # (R, G)
    return sums @ counts.T / (counts @ sizes)


def _points(share: Any, signed: bool = True) -> tuple[str, str]:
    """A difference of two shares, in points of a hundred."""
    value = f"{100 * float(share):{'+' if signed else ''}.1f}".replace("-", "−")
    return say(TEXTS, "points", value=value)
