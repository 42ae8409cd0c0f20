"""What a translation has in common with its reference, as counts whose sums over sentences make the scores.

| score   | counted for each sentence                                             | columns   |
|---------|-----------------------------------------------------------------------|-----------|
| bleu    | words of both; of n = 1 .. 4 words in a row, how many are right, are   | 2, 4, 4   |
| chrf    | of n = 1 .. 6 characters: in the hypothesis, in the reference, in both | 3 for n   |
| rouge   | F of single words, of pairs of words, and of the longest common        | 1, 1, 1   |
|         | subsequence, finished for the sentence: their mean is the score        |           |
| exact   | whether both are the same                                              | 1         |

A corpus score is a function of sums, so that any subset of sentences, and each resample of the bootstrap, is
scored without looking at a text again. BLEU (Papineni et al. 2002) and chrF (Popović 2015) are those of
sacrebleu (Post 2018, 1804.08771), whose word boundaries and counts BLEU takes as they are; ROUGE is Lin's
(2004), with words between white space in lower case, for a Korean word has no letters from a to z.

All scores reach from 0 to 100, and higher is better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from sadari.errors import SadariError

WORDS, CHARACTERS, BETA = 4, 6, 2  # n of BLEU, n of chrF, and how many times recall counts as precision there
LENGTHS = slice(0, 2)
RIGHT = slice(2, 2 + WORDS)
GIVEN = slice(2 + WORDS, 2 + 2 * WORDS)
CHRF = slice(2 + 2 * WORDS, 2 + 2 * WORDS + 3 * CHARACTERS)
ROUGE = slice(CHRF.stop, CHRF.stop + 3)
EXACT = ROUGE.stop
COLUMNS = EXACT + 1  # K
ROUGES = ("rouge-1", "rouge-2", "rouge-l")


def statistics(hypotheses: Sequence[str], references: Sequence[str]) -> Float64[np.ndarray, "N K"]:
    """The counts of each sentence, a row. Raises SadariError when there are not as many of both."""
    if len(hypotheses) != len(references):
        raise SadariError(
            f"{len(hypotheses):,} translations for {len(references):,} references; give one for each"
        )
    found = np.zeros((len(hypotheses), COLUMNS))
    if not len(hypotheses):
        return found
    from sacrebleu.metrics import BLEU  # takes a sixth of a second, and only scoring needs it

    counter = BLEU(max_ngram_order=WORDS, force=True)
    for row, hypothesis, reference in zip(found, hypotheses, references, strict=True):
        words = counter.corpus_score([hypothesis], [[reference]])
        row[LENGTHS] = words.sys_len, words.ref_len
        row[RIGHT], row[GIVEN] = words.counts, words.totals
        row[CHRF] = _characters(hypothesis, reference)
        row[ROUGE] = _rouge(hypothesis.lower().split(), reference.lower().split())
        row[EXACT] = hypothesis.strip() == reference.strip()
    return found


def bleu(sums: Float64[np.ndarray, "*R K"]) -> Float64[np.ndarray, "*R"]:
    """Corpus BLEU of summed statistics, as `sacrebleu.corpus_bleu` without settings.

    The geometric mean of the precisions of n = 1 .. 4 words, times exp(1 - reference / hypothesis) where the
    hypotheses are shorter. The k-th precision that would be zero counts as half a hit, a quarter, and so on;
    with none right at all, or no four words in a row anywhere, the score is 0.
    """
    right, given = sums[..., RIGHT], sums[..., GIVEN]
    ours, theirs = np.moveaxis(sums[..., LENGTHS], -1, 0)
    missed = right == 0
    hits = np.where(missed, 0.5 ** missed.cumsum(-1), right)
    logs = np.log(hits / np.where(given > 0, given, 1.0)).mean(-1)
    brevity = np.minimum(0.0, 1 - _ratio(theirs, ours))
    scored = (given > 0).all(-1) & ~missed.all(-1)
    return np.where(scored, 100 * np.exp(logs + brevity), 0.0)


def chrf(sums: Float64[np.ndarray, "*R K"]) -> Float64[np.ndarray, "*R"]:
    """Corpus chrF2 of summed statistics, as `sacrebleu.corpus_chrf` without settings.

    Precision and recall, each averaged over those n = 1 .. 6 for which both sides have characters enough, and
    of the two F, in which recall counts twice. Spaces are no characters here.
    """
    counts = sums[..., CHRF].reshape(*sums.shape[:-1], CHARACTERS, 3)
    ours, theirs, both = np.moveaxis(counts, -1, 0)  # each (..., 6)
    there = (ours > 0) & (theirs > 0)
    orders = np.maximum(there.sum(-1), 1)
    precision, recall = ((_ratio(both, each) * there).sum(-1) / orders for each in (ours, theirs))
    return 100 * _ratio((1 + BETA**2) * precision * recall, BETA**2 * precision + recall)


def rouge(means: Float64[np.ndarray, "*R K"], name: str = "rouge-l") -> Float64[np.ndarray, "*R"]:
    """The mean over sentences of ROUGE's F: name is `rouge-1`, `rouge-2` or `rouge-l`. Of means, not sums."""
    return 100 * means[..., ROUGE.start + ROUGES.index(name)]


def exact(means: Float64[np.ndarray, "*R K"]) -> Float64[np.ndarray, "*R"]:
    """The share of sentences that are their reference, white space at the ends aside. Of means, not sums."""
    return 100 * means[..., EXACT]


def signature(metric: str) -> str:
    """How a score came about, in one line: sacrebleu's own for bleu and chrf, one of that kind for others.

    Raises SadariError for another metric.
    """
    if metric in ("bleu", "chrf"):
        from sacrebleu.metrics import BLEU, CHRF

        scorer = BLEU() if metric == "bleu" else CHRF()
        scorer.corpus_score(["a"], [["a"]])  # only then does it know that there is one reference
        return str(scorer.get_signature())
    if metric in ROUGES:
        return f"nrefs:1|case:lower|tok:whitespace|f:1|type:{metric.removeprefix('rouge-')}"
    if metric == "exact":
        return "nrefs:1|case:mixed|space:stripped"
    raise SadariError(f"{metric!r} has no signature; choose one of: bleu, chrf, {', '.join(ROUGES)}, exact")


def _characters(hypothesis: str, reference: str) -> list[int]:
    """For n = 1 .. 6: character n-grams of the hypothesis, of the reference, and of both, each as often as
    the rarer side has it. As in sacrebleu, the hypothesis has none where the reference is too short."""
    ours, theirs = ("".join(text.split()) for text in (hypothesis, reference))
    found = []
    for n in range(1, CHARACTERS + 1):
        mine, right = _grams(ours, n), _grams(theirs, n)
        found += [mine.total() if right else 0, right.total(), _common(mine, right)]
    return found


def _rouge(hypothesis: list[str], reference: list[str]) -> tuple[float, float, float]:
    """F of ROUGE-1, ROUGE-2 and ROUGE-L, each in 0 .. 1."""
    pairs = [(_grams(hypothesis, n), _grams(reference, n)) for n in (1, 2)]
    one, two = (_f(_common(mine, right), mine.total(), right.total()) for mine, right in pairs)
    return one, two, _f(common_subsequence(hypothesis, reference), len(hypothesis), len(reference))


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, a whole row of the usual table in one number's bits (Hyyrö
    2004, "Bit-parallel LCS-length computation revisited")."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(one)) - 1
    row = full  # a zero bit is a place of `one` up to which the subsequence has grown by one
    for word in other:
        hit = row & places.get(word, 0)
        row = (row + hit | row - hit) & full
    return len(one) - row.bit_count()


def _grams(units: Sequence[str], n: int) -> Counter:
    """How often each n of them stand in a row."""
    if isinstance(units, str):
        return Counter(units[i : i + n] for i in range(len(units) - n + 1))
    return Counter(tuple(units[i : i + n]) for i in range(len(units) - n + 1))


def _common(one: Counter, other: Counter) -> int:
    return sum(min(count, other[unit]) for unit, count in one.items())


def _f(common: int, ours: int, theirs: int) -> float:
    """2 P R / (P + R) with P = common / ours and R = common / theirs; 0 where there is nothing."""
    return 2 * common / (ours + theirs) if common else 0.0


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, and 0 where there is nothing below."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)
