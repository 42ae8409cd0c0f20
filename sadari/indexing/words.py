"""Whether a run knows the words that it is asked with: where it does not, what is found means little."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import torch

from sadari.data.tokenizers import Tokenizer, clean_text
from sadari.lang import Note
from sadari.models.encoder import FOREIGN, unknown_share
from sadari.models.encoder import TEXTS as OF_ENCODERS
from sadari.runs import Run

TEXTS = {
    "unknown": (
        "the run knows none of the words in {queries}, so what is found means little; try other words",
        "{queries}: 모두 이 run이 모르는 낱말이라 결과에 뜻이 거의 없습니다. 다른 낱말로 찾아보십시오",
    ),
    "spelt": (
        "most words in {queries} are unknown to the run, which sees them letter by letter; other words may "
        "find more",
        "{queries}: 이 run이 모르는 낱말이 많아 글자 하나하나로 봅니다. 다른 낱말이 더 잘 찾을 수 있습니다",
    ),
}
SPELT, WHOLE = 3, 2  # tokens at least, and letters of each at most, of a word that is cut into letters
WORD = re.compile(r"[^\W\d_]+")


def word_notes(run: Run, queries: Sequence[str]) -> list[Note]:
    """One note of each sort for the queries whose words the run does not know, else none."""
    if run.kind != "captions" or not queries:
        return []
    tokenizer: Tokenizer = run.spec.tokenizer
    if getattr(run.model.config, "texts", ""):  # a reader that has learnt elsewhere
        found = torch.from_numpy(run.spec.encode_captions(list(queries)))
        spelt, unknown = unknown_share(found, tokenizer.to_json())
        if spelt > FOREIGN:
            shares = {"spelt": f"{spelt:.0%}", "unknown": f"{unknown:.0%}"}
            return [Note.of(OF_ENCODERS, "foreign", "warning", **shares)]
    sorts = [_sort(tokenizer, query) for query in queries]
    notes = []
    for key in TEXTS:
        named = [repr(query) for query, sort in zip(queries, sorts, strict=True) if sort == key]
        if named:
            notes.append(Note.of(TEXTS, key, "warning", queries=", ".join(named)))
    return notes


def _sort(tokenizer: Tokenizer, query: str) -> str:
    """unknown where all tokens are; spelt where most words are unknown or cut into hardly more than letters;
    else ""."""
    text = clean_text(query)
    tokens = tokenizer.encode([text])[0].tolist()
    if tokens and all(token == tokenizer.unknown for token in tokens):
        return "unknown"
    words = WORD.findall(text)
    if tokenizer.kind == "characters" or not words:
        return ""
    odd = sum(
        tokenizer.unknown in found or (len(found) >= SPELT and _letters(word) < WHOLE * len(found))
        for word, found in zip(words, tokenizer.encode(words), strict=True)
    )
    return "spelt" if 2 * odd > len(words) else ""


def _letters(word: str) -> int:
    """How many letters there are; of Hangul, each syllable has two or three."""
    return len(unicodedata.normalize("NFD", word))
