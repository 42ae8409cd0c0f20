"""Texts made on the spot whose truth is known, Korean and English mixed: what each rung can and cannot read.

toy-topics  which words a text has tells its class: a bag of words is enough
toy-order   every class has the same words, their order tells: a bag of words is at chance
toy-recall  the first word tells, a long filler follows: what is far must be remembered
toy-grammar sentences of a small grammar, to learn a language from
"""

from __future__ import annotations

import numpy as np
import polars as pl

_TOPICS = {
    "weather": ["rain", "snow", "cloud", "wind", "storm", "비", "눈", "구름", "바람", "태풍", "기온", "우산"],
    "food": ["rice", "soup", "bread", "salt", "kitchen", "밥", "국", "김치", "소금", "부엌", "반찬", "간장"],
    "travel": ["train", "ticket", "station", "road", "map", "기차", "표", "역", "길", "지도", "여행", "버스"],
}
_COMMON = [
    "the",
    "a",
    "today",
    "very",
    "and",
    "we",
    "then",
    "오늘",
    "아주",
    "그리고",
    "우리",
    "이제",
    "조금",
    "다시",
    "here",
    "there",
]
_ACTORS = ["cat", "dog", "teacher", "student", "고양이", "강아지", "선생님", "학생", "친구", "bird"]
_FILLER = [
    "well",
    "so",
    "and",
    "then",
    "the",
    "next",
    "day",
    "was",
    "long",
    "그리고",
    "다음",
    "날은",
    "또",
    "길고",
    "조용했다",
    "뒤에",
    "그래서",
]


def topics(rows: int = 900, seed: int = 0, *, share: float = 0.35) -> pl.DataFrame:
    """Texts of 8 to 20 words, a `share` of them of the text's own topic, the others common to all."""
    draw = np.random.default_rng(seed)
    names = sorted(_TOPICS)
    texts, labels = [], []
    for row in range(rows):
        topic = names[row % len(names)]
        own = draw.random(int(draw.integers(8, 21))) < share
        own[draw.integers(len(own))] = True  # at least one word tells
        texts.append(" ".join(str(draw.choice(_TOPICS[topic] if mine else _COMMON)) for mine in own) + ".")
        labels.append(topic)
    return pl.DataFrame({"text": texts, "topic": labels})


def order(rows: int = 1200, seed: int = 0) -> pl.DataFrame:
    """Who is above (위) and who below (아래): `up` when 위 comes first in the text, `down` when 아래 does.

    Texts come in pairs of the same words, one of each class, so that no count of words tells them apart; a
    pair is one `group`, for a twin in training would tell a bag of words the very contrary.
    """
    draw = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(rows // 2):
        one, other = (str(actor) for actor in draw.choice(_ACTORS, 2, replace=False))
        words = [str(draw.choice(_COMMON)) for _ in range(int(draw.integers(2, 7)))]
        cut = int(
            draw.integers(1, len(words) + 1)
        )  # never at the very beginning, where no space stands before
        before, after = words[:cut], words[cut:]
        for label, (first, second) in {"up": ("위", "아래"), "down": ("아래", "위")}.items():
            texts.append(" ".join([*before, first, one, *after, second, other]) + ".")
            labels.append(label)
    return pl.DataFrame({"text": texts, "order": labels, "group": np.arange(len(texts)) // 2})


def recall(rows: int = 1200, seed: int = 0, *, filler: int = 60) -> pl.DataFrame:
    """A first word out of four that is the class, then `filler` words that tell nothing."""
    draw = np.random.default_rng(seed)
    keys = ["봄", "여름", "autumn", "winter"]
    texts, labels = [], []
    for row in range(rows):
        key = keys[row % len(keys)]
        texts.append(" ".join([key, *(str(word) for word in draw.choice(_FILLER, filler))]) + ".")
        labels.append(key)
    return pl.DataFrame({"text": texts, "season": labels})


def grammar(rows: int = 3000, seed: int = 0) -> pl.DataFrame:
    """Documents of two to five sentences, each Korean or English throughout, by a grammar of a few rules."""
    draw = np.random.default_rng(seed)

    def pick(*words: str) -> str:
        return words[int(draw.integers(len(words)))]

    def english() -> str:
        many = bool(draw.random() < 0.5)
        noun = pick("cat", "dog", "bird", "child", "teacher").replace(
            "child", "children" if many else "child"
        )
        noun += "s" * (many and noun != "children")
        verb = pick("see", "like", "find", "follow") + "s" * (not many)
        adjective = pick("", "small ", "quiet ", "old ")
        thing, when = pick("house", "river", "tree", "road"), pick("", " again", " every day")
        return f"The {adjective}{noun} {verb} the {thing}{when}."

    def korean() -> str:
        noun = pick("고양이", "강아지", "새", "선생님", "학생")
        particle = "이" if (ord(noun[-1]) - 0xAC00) % 28 else "가"
        thing = pick("집", "강", "나무", "길")
        other = "을" if (ord(thing[-1]) - 0xAC00) % 28 else "를"
        adjective, when = pick("", "작은 ", "조용한 ", "늙은 "), pick("", "매일 ", "다시 ")
        verb = pick("본다", "찾는다", "좋아한다", "따라간다")
        return f"{adjective}{noun}{particle} {when}{thing}{other} {verb}."

    texts = []
    for row in range(rows):
        sentence = english if row % 2 else korean
        texts.append(" ".join(sentence() for _ in range(int(draw.integers(2, 6)))))
    return pl.DataFrame({"text": texts})
