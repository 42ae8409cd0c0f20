"""Words: in one-hot every two are equally far, in an embedding those used alike are near.

Pairs that belong together were written down before any vectors were seen, and all of them that occur are
shown, each with its rank in the other's neighbours, beside pairs drawn at random. The map is the two
directions in which frequent words differ most (principal components).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sadari.errors import SadariError
from sadari.inspection.view import View, say
from sadari.vectors import WordVectors

if TYPE_CHECKING:
    from sadari.runs import Run

_PAIRS = (
    "파일:문서 은행:금융 창:화면 셀:행 행:열 표:셀 글꼴:크기 메뉴:명령 함수:수식 그림:개체 색:배경 "
    "시작:끝 위:아래 왼쪽:오른쪽 추가:삭제 가로:세로 온도:습도 연결:네트워크 비밀번호:이름 전원:배터리 "
    "켜기:끄기 계정:로그인 법원:재판 대통령:국회 비:눈 밥:국 기차:역 king:queen man:woman father:mother "
    "brother:sister war:army river:lake city:town music:song film:movie physics:chemistry planet:moon "
    "north:south east:west university:college bank:financial science:scientific winter:summer red:blue "
    "species:genus empire:emperor church:catholic file:document window:screen row:column cell:table "
    "font:size menu:command formula:function left:right width:height good:great bad:terrible "
    "actor:actress rain:snow rice:soup train:station"
)
RELATED = tuple(_PAIRS.split())
RANDOM = 2000  # pairs drawn at random
FREQUENT = 3000  # words among which they and the map are drawn
MAPPED = 400  # words of the map, at most
SHOWN = 24  # letters of a word in a sentence

TEXTS = {
    "title": (
        "Related words are near: median rank {rank} of {words}, where random pairs have {chance}",
        "관련된 낱말은 가깝다: 순위의 중앙값이 낱말 {words}개 중 {rank}위, 무작위 쌍은 {chance}위",
    ),
    "title_far": (
        "Related words are no nearer than others here: median rank {rank} of {words}, random pairs {chance}",
        "여기서는 관련된 낱말이 남보다 가깝지 않다: 순위의 중앙값이 낱말 {words}개 중 {rank}위, 무작위 쌍 "
        "{chance}위",
    ),
    "title_none": (
        "{words} words on a map of {width} numbers each",
        "낱말 {words}개, 저마다 수 {width}개로 그린 지도",
    ),
    "title_word": (
        "Nearest to “{word}” is “{first}”, cosine {cosine}",
        "“{word}”에 가장 가까운 낱말은 “{first}”, 코사인 {cosine}",
    ),
    "title_analogy": (
        "“{a}” is to “{b}” as “{c}” is to “{first}”",
        "“{a}”와(과) “{b}”의 관계는 “{c}”와(과) “{first}”의 관계",
    ),
    "caption": (
        "Above, cosine of each related pair, fixed beforehand ({pairs} of {asked} occur), with its rank in "
        "the other's neighbours both ways; grey, how many of {random} random pairs lie where. One-hot has "
        "all pairs at 0. Below, frequent words in their two main directions ({share} of the variation).",
        "위: 미리 정해 둔 관련된 쌍(목록 {asked}쌍 중 {pairs}쌍이 나옴)의 코사인과 서로의 이웃 가운데 순위. "
        "회색은 무작위 쌍 {random}개의 분포. 원-핫에서는 모든 쌍이 0에 있다. 아래: 자주 나오는 낱말을 가장 "
        "크게 다른 두 방향에 놓은 지도(변화의 {share}).",
    ),
    "caption_near": (
        "Above, the nearest words by cosine; grey, where {random} random pairs lie; one-hot has all at 0. "
        "Below, frequent words and these in their two main directions ({share} of the variation).",
        "위: 코사인이 가장 큰 낱말. 회색은 무작위 쌍 {random}개의 분포이고, 원-핫에서는 모두 0이다. 아래: "
        "자주 나오는 낱말과 이 낱말들을 가장 크게 다른 두 방향에 놓은 지도(변화의 {share}).",
    ),
    "see": (
        "In one-hot each of these pairs has cosine 0 and distance 1.41, whatever the words mean. Here the "
        "related pairs have a median cosine of {related} against {unrelated} of random pairs, and a related "
        "pair is the nearer in {better} of comparisons with a random one; the best is {best}, the worst "
        "{worst}.",
        "원-핫에서는 뜻이 무엇이든 모든 쌍의 코사인이 0, 거리가 1.41입니다. 여기서는 관련된 쌍의 코사인 "
        "중앙값이 {related}, 무작위 쌍은 {unrelated}이며, 무작위 쌍과 견주면 {better}에서 관련된 쌍이 더 "
        "가깝습니다. 가장 좋은 쌍은 {best}, 가장 나쁜 쌍은 {worst}입니다.",
    ),
    "see_none": (
        "None of the {asked} pairs written down occurs in this vocabulary; name some with --pairs a:b, or a "
        "word with --word. In one-hot every two words have cosine 0 and distance 1.41; here random pairs "
        "have cosines from {low} to {high}.",
        "적어 둔 {asked}쌍은 이 어휘에 하나도 없습니다. --pairs 가:나 로 쌍을, --word 로 낱말을 정해 "
        "보세요. 원-핫에서는 어느 두 낱말이든 코사인 0, 거리 1.41이고, 여기서는 무작위 쌍의 코사인이 "
        "{low}에서 {high}까지입니다.",
    ),
    "see_word": (
        "One-hot knows no neighbours: all cosines are 0. Here “{first}” ({cosine}), “{second}” and "
        "“{third}” come first; only {above} of random pairs are as near as the last of these {count}. Near "
        "means used alike, which opposites are too.",
        "원-핫에는 이웃이 없습니다. 코사인이 모두 0입니다. 여기서는 “{first}”({cosine}), “{second}”, "
        "“{third}” 순이고, 무작위 쌍 가운데 이 {count}개의 마지막만큼 가까운 것은 {above}뿐입니다. 가깝다는 "
        "것은 비슷하게 쓰인다는 뜻이라 반대말도 가깝습니다.",
    ),
    "see_analogy": (
        "The vector of “{b}” less that of “{a}” plus that of “{c}” points nearest to “{first}” ({cosine}), "
        "then “{second}” and “{third}”; the three given words are left out. One-hot could give no answer: "
        "the sum there is equally far from every other word.",
        "“{b}”의 벡터에서 “{a}”를 빼고 “{c}”를 더하면 “{first}”({cosine})에 가장 가깝고, 다음은 “{second}”, "
        "“{third}”입니다. 주어진 세 낱말은 뺐습니다. 원-핫은 답하지 못합니다. 거기서는 이 합이 나머지 모든 "
        "낱말과 똑같이 멉니다.",
    ),
    "pair": ("{a} – {b} (ranks {ab} and {ba})", "{a} – {b}({ab}위와 {ba}위)"),
    "cosine": ("cosine of two words", "두 낱말의 코사인"),
    "rank_ab": ("rank of the second in the first's neighbours", "첫 낱말의 이웃 중 둘째의 순위"),
    "rank_ba": ("rank of the first in the second's neighbours", "둘째 낱말의 이웃 중 첫째의 순위"),
    "count": ("random pairs", "무작위 쌍"),
    "edge": ("cosine of random pairs", "무작위 쌍의 코사인"),
    "x": ("first direction", "첫째 방향"),
    "y": ("second direction", "둘째 방향"),
    "word": ("word", "낱말"),
    "near": ("nearest words", "가까운 낱말"),
}


def words(
    run: Run,
    *,
    word: str | None = None,
    analogy: str | None = None,
    pairs: Sequence[str] = (),
    top: int = 10,
) -> View:
    """Look at the embedding of a run as word vectors; see `words_of`.

    Raises SadariError when the run's tokens are not words that can be looked up.
    """
    model: Any = run.model
    table = next(
        (part for part in (_weight(model), _weight(getattr(model, "encoder", None))) if part is not None),
        None,
    )
    if table is None:
        raise SadariError(
            f"a {run.rung} has no embedding; look at words in an embedding, rnn, lstm or transformer"
        )
    tokenizer = run.spec.tokenizer
    special = {tokenizer.unknown, tokenizer.start, tokenizer.end}
    rows, names = [], []
    seen: set[str] = set()
    for number in range(min(tokenizer.size, len(table))):
        name = tokenizer.token(number).lstrip("▁").removeprefix("##").strip()
        if number not in special and name and name not in seen:
            seen.add(name)  # of two tokens that look alike, such as with a space and without, the first
            rows.append(number)
            names.append(name)
    return words_of(
        WordVectors(names, table[rows]), word=word, analogy=analogy, pairs=pairs, top=top, rung=run.rung
    )


def _weight(module: Any) -> np.ndarray | None:
    """The table of a module that embeds: ours, a GPT's (tied or not), BERT's."""
    if module is None:
        return None
    found = getattr(getattr(module, "embedding", None), "weight", None)
    if found is None:
        found = getattr(module, "table", None)
    if found is None:
        found = getattr(getattr(getattr(module, "embeddings", None), "word_embeddings", None), "weight", None)
    return None if found is None else found.detach().float().cpu().numpy()


def words_of(
    vectors: WordVectors,
    *,
    word: str | None = None,
    analogy: str | None = None,
    pairs: Sequence[str] = (),
    top: int = 10,
    rung: str = "embedding",
) -> View:
    """How near related words are, against random pairs; or a word's neighbours; or an analogy "a:b:c".

    cosine, rank_ab, rank_ba (P,): the related pairs by falling cosine, or the `top` nearest words, which have
    a cosine only; edge (E + 1,), count (E,): histogram of the cosines of random pairs; x, y (M,): the map;
    word (M,): its words, those looked at first.
    Raises SadariError for a word that has no vector, an analogy or a pair that is not written with colons.
    """
    if word is not None and analogy is not None:
        raise SadariError("--word and --analogy were both given; give one of them")
    if top < 3:
        raise SadariError(f"--top {top}: give 3 or more")
    if len(vectors.words) < 8:
        raise SadariError(
            f"a vocabulary of {len(vectors.words)} words is too small to look at; it takes 8 or more"
        )
    draw = np.random.default_rng(0)
    frequent = _frequent(vectors)
    left, right = draw.choice(frequent, RANDOM), draw.choice(frequent, RANDOM)
    left, right = left[left != right], right[left != right]
    random = np.einsum("nc,nc->n", vectors.unit[left], vectors.unit[right]).astype(np.float64)
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {"rung": rung, "vocabulary": len(vectors.words), "width": vectors.matrix.shape[1]}
    if word is not None or analogy is not None:
        said, shown = _nearest(vectors, word, analogy, top, random, arrays, facts)
    else:
        said, shown = _related(vectors, pairs, frequent, random, arrays, facts)
    edge = np.linspace(min(-0.2, float(random.min()), *arrays["cosine"].tolist()), 1.0, 49)
    arrays |= {"edge": edge, "count": np.histogram(random, edge)[0]}
    share = _map(vectors, shown, frequent, arrays)
    facts |= {"random_median": float(np.median(random)), "explained": share, "shown": len(shown)}
    values = {"random": len(random), "share": f"{share:.0%}", **said["caption"][1]}
    labels = ("cosine", "rank_ab", "rank_ba", "count", "edge", "x", "y", "word")
    return View(
        name="words",
        title=say(TEXTS, said["title"][0], **said["title"][1]),
        caption=say(TEXTS, said["caption"][0], **values),
        see=say(TEXTS, said["see"][0], **said["see"][1]),
        arrays=arrays,
        facts=facts,
        labels={name: say(TEXTS, name) for name in labels if name in arrays},
    )


def _frequent(vectors: WordVectors) -> np.ndarray:
    """Rows of frequent words that mean something: of several letters, and not among the most frequent 1 %."""
    first = len(vectors.words) // 100
    rows = [
        row
        for row, word in enumerate(vectors.words[first : first + 2 * FREQUENT], first)
        if word.isalpha() and (len(word) > 1 or "가" <= word <= "힣") and vectors.matrix[row].any()
    ][:FREQUENT]
    return np.array(rows if len(rows) >= 8 else range(len(vectors.words)))


def _ranks(vectors: WordVectors, a: int, b: int) -> tuple[float, int, int]:
    """Cosine of two rows, the second's rank among the first's neighbours (1 the nearest), and the reverse."""
    unit = vectors.unit
    cosine = float(unit[a] @ unit[b])
    ranks = []
    for one, other in ((a, b), (b, a)):
        cosines = unit @ unit[one]
        ranks.append(int((np.delete(cosines, [one, other]) > cosine).sum()) + 1)
    return cosine, ranks[0], ranks[1]


_Words = dict[str, tuple[str, dict[str, Any]]]


def _related(
    vectors: WordVectors,
    pairs: Sequence[str],
    frequent: np.ndarray,
    random: np.ndarray,
    arrays: dict[str, np.ndarray],
    facts: dict[str, Any],
) -> tuple[_Words, list[int]]:
    asked = [_split(pair, 2, "--pairs", "파일:문서") for pair in (pairs or RELATED)]
    if pairs:
        there = [(vectors.row(a), vectors.row(b)) for a, b in asked]
    else:
        there = [(vectors.index[a], vectors.index[b]) for a, b in asked if a in vectors and b in vectors]
    there = [(a, b) for a, b in there if a != b]
    caption: dict[str, Any] = {"pairs": len(there), "asked": len(asked)}
    if not there:
        low, high = (float(value) for value in np.quantile(random, [0.025, 0.975]))
        about: dict[str, Any] = {"words": len(vectors.words), "width": vectors.matrix.shape[1]}
        nothing: dict[str, Any] = {"asked": len(asked), "low": low, "high": high}
        facts |= {"pairs": [], "better": None, "median_rank": None}
        arrays["cosine"] = np.zeros(0)
        none: _Words = {"title": ("title_none", about), "caption": ("caption", caption)}
        return none | {"see": ("see_none", nothing)}, []
    ranked = sorted(((*_ranks(vectors, a, b), a, b) for a, b in there), key=lambda pair: -pair[0])
    cosine, ab, ba = (np.array([pair[k] for pair in ranked]) for k in range(3))
    draw = np.random.default_rng(1)
    sampled = draw.choice(frequent, (100, 2))
    chance = [rank for a, b in sampled if a != b for rank in _ranks(vectors, int(a), int(b))[1:]]
    better = float((cosine[:, None] > random).mean() + (cosine[:, None] == random).mean() / 2)
    median, random_median = float(np.median([ab, ba])), float(np.median(chance))

    def told(k: int) -> Any:
        a, b = (vectors.words[row][:SHOWN] for row in ranked[k][3:])
        return say(TEXTS, "pair", a=a, b=b, ab=int(ab[k]), ba=int(ba[k]))

    arrays |= {"cosine": cosine, "rank_ab": ab, "rank_ba": ba}
    facts |= {
        "pairs": [[vectors.words[a], vectors.words[b]] for *_, a, b in ranked],
        "better": better,
        "median_rank": median,
        "random_median_rank": random_median,
        "related_median": float(np.median(cosine)),
    }
    title: dict[str, Any] = {"rank": median, "words": len(vectors.words), "chance": random_median}
    see: dict[str, Any] = {
        "related": float(np.median(cosine)),
        "unrelated": float(np.median(random)),
        "better": f"{better:.0%}",
        "best": told(int(np.argmin(ab + ba))),
        "worst": told(int(np.argmax(ab + ba))),
    }
    key = "title" if median < random_median and better > 0.5 else "title_far"
    shown = list(dict.fromkeys(row for *_, a, b in ranked for row in (a, b)))
    return {"title": (key, title), "caption": ("caption", caption), "see": ("see", see)}, shown


def _nearest(
    vectors: WordVectors,
    word: str | None,
    analogy: str | None,
    top: int,
    random: np.ndarray,
    arrays: dict[str, np.ndarray],
    facts: dict[str, Any],
) -> tuple[_Words, list[int]]:
    if word is not None:
        given, near = [word], vectors.near(word, top)
    else:
        given = _split(analogy or "", 3, "--analogy", "서울:한국:파리")
        near = vectors.analogy(given[0], given[1], given[2], top)
    names, cosines = [name for name, _ in near], np.array([cosine for _, cosine in near])
    arrays["cosine"] = cosines
    facts |= {"given": given, "near": names}
    first, second, third = (name[:SHOWN] for name in names[:3])
    values: dict[str, Any] = {"first": first, "second": second, "third": third, "cosine": float(cosines[0])}
    if word is not None:
        above = float((random >= cosines[-1]).mean())
        share = f"{above:.2%}" if above < 0.01 else f"{above:.0%}"
        values |= {"word": word, "count": len(near), "above": share}
    else:
        values |= dict(zip("abc", given, strict=True))
    kind = "word" if word is not None else "analogy"
    shown = [vectors.row(name) for name in (*given, *names)]
    said: _Words = {"title": (f"title_{kind}", values), "caption": ("caption_near", {})}
    return said | {"see": (f"see_{kind}", values)}, list(dict.fromkeys(shown))


def _split(text: str, count: int, flag: str, example: str) -> list[str]:
    parts = [part.strip() for part in text.split(":")]
    if len(parts) != count or not all(parts):
        raise SadariError(f"{flag} {text!r} is not {count} words with colons between; write it as {example}")
    return parts


def _map(
    vectors: WordVectors, shown: list[int], frequent: np.ndarray, arrays: dict[str, np.ndarray]
) -> float:
    """Two principal components of frequent words' directions, by the covariance; the share that they hold."""
    rows = list(dict.fromkeys([*shown, *frequent[: max(MAPPED - len(shown), 0)].tolist()]))
    points = vectors.unit[rows].astype(np.float64)
    points = points - points.mean(0)
    values, directions = np.linalg.eigh(points.T @ points)
    two = directions[:, : -min(3, len(values) + 1) : -1]
    two = two * np.where(two[np.abs(two).argmax(0), np.arange(two.shape[1])] < 0, -1, 1)  # the same each time
    placed = points @ two
    arrays["x"] = placed[:, 0]
    arrays["y"] = placed[:, 1] if placed.shape[1] > 1 else np.zeros(len(rows))
    arrays["word"] = np.array([vectors.words[row] for row in rows])
    whole = float(values.sum())
    return float(values[-2:].sum() / whole) if whole > 0 and math.isfinite(whole) else 0.0
