"""A text whose analogies are planted: Paris is to France as 서울 is to 한국.

Each sentence tells of one name: a country, a capital or a people. Beside it stand words of its country and
words of its role, all among filler whose counts fall as in real text (Zipf). What a name means is then its
country plus its role, and nothing else.
"""

from __future__ import annotations

import numpy as np

ROLES = {
    "country": "border government army president land flag island trade 정부 국경".split(),  # noqa: SIM905
    "capital": "city mayor streets airport station square downtown museum 도시 시장".split(),  # noqa: SIM905
    "people": "speak language proud born family ancestors songs customs 사람 말".split(),  # noqa: SIM905
}
"""What stands beside a name in each role."""
_NAMES = """
한국 서울 한국인|일본 도쿄 일본인|중국 베이징 중국인|France Paris French|Germany Berlin German
Italy Rome Italian|Spain Madrid Spaniards|Greece Athens Greeks|Egypt Cairo Egyptians|Russia Moscow Russians
India Delhi Indians|Vietnam Hanoi Vietnamese|Thailand Bangkok Thais|Turkey Ankara Turks|Poland Warsaw Poles
Sweden Stockholm Swedes|Norway Oslo Norwegians|Finland Helsinki Finns|Denmark Copenhagen Danes
Hungary Budapest Hungarians|Austria Vienna Austrians|Ireland Dublin Irish|Portugal Lisbon Portuguese
Cuba Havana Cubans
"""
NAMES = [line.split() for line in _NAMES.strip().replace("\n", "|").split("|")]
"""(24) country, capital and people."""
_OWN = 6  # words that stand beside the names of one country only
_FILLERS = 4000
_SYLLABLES = "ka lo mi ru ten sa vo pe ni dor ha li mon ta ri wen".split()  # noqa: SIM905


def sentences(count: int = 20_000, seed: int = 0, fillers: int = _FILLERS) -> list[str]:
    """`count` sentences of 14 words, one of which is a name, three of its country and three of its role."""
    draw = np.random.default_rng(seed)
    invented = _invented(len(NAMES) * _OWN + fillers)
    own, filler = invented[: len(NAMES) * _OWN], np.array(invented[len(NAMES) * _OWN :])
    share = 1 / np.arange(10, fillers + 10)
    padding = draw.choice(filler, (count, 7), p=share / share.sum())
    roles = list(ROLES.values())
    said = []
    for row in range(count):
        country, role = int(draw.integers(len(NAMES))), int(draw.integers(len(roles)))
        told = [NAMES[country][role]]
        told += [own[country * _OWN + k] for k in draw.permutation(_OWN)[:3]]
        told += [roles[role][k] for k in draw.permutation(len(roles[role]))[:3]]
        told += padding[row].tolist()
        said.append(" ".join(told[k] for k in draw.permutation(len(told))))
    return said


def analogies() -> list[tuple[str, str, str, str]]:
    """All a, b, c, d with a is to b as c is to d: two roles of one country, the same two of another."""
    roles = range(len(ROLES))
    return [
        (first[r], first[s], other[r], other[s])
        for first in NAMES
        for other in NAMES
        if first is not other
        for r in roles
        for s in roles
        if r != s
    ]


def _invented(count: int) -> list[str]:
    """Words of syllables, each once."""
    base = len(_SYLLABLES)
    words = []
    for number in range(count):
        word, rest = "", number + base**2
        while rest:
            rest, k = divmod(rest, base)
            word += _SYLLABLES[k]
        words.append(word)
    return words
