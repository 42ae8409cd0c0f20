"""From pairs of texts to tokens: open, clean by rule, split so that no sentence stands on both sides, learn
tokenizers from the training part, encode all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from sadari.data.mapped import stack
from sadari.data.pairs import open_pairs
from sadari.data.prepare import Prepared
from sadari.data.prepare_text import choose_tokenizer, scratch, unknown_note
from sadari.data.spec_pairs import PairSpec
from sadari.data.split import Split, deal_groups, in_large, joined, with_training
from sadari.data.table import Table, fingerprint
from sadari.data.tokenizers import PAD, Tokenizer
from sadari.data.tokens import PARTS
from sadari.errors import SadariError
from sadari.lang import Note

if TYPE_CHECKING:
    from jaxtyping import Int32

TEXTS = {
    "empty side": (
        "{count:,} of {rows:,} pairs have an empty side and are left out",
        "쌍 {rows:,}개 가운데 한쪽이 빈 {count:,}개는 뺐습니다",
    ),
    "endless": (
        "{count:,} pairs have a side of more than {most:,} characters and are left out: it is no sentence",
        "한쪽이 {most:,}자를 넘는 쌍 {count:,}개는 문장이 아니므로 뺐습니다",
    ),
    "identical": (
        "{count:,} pairs have the same text on both sides and are left out",
        "두 쪽이 같은 쌍 {count:,}개는 뺐습니다",
    ),
    "mostly identical": (
        "{share:.0%} of the pairs have the same text on both sides; they stay, for that is usual here",
        "쌍의 {share:.0%}는 두 쪽이 같습니다. 이 자료에서는 흔한 일이므로 빼지 않았습니다",
    ),
    "ratio": (
        "{count:,} pairs are left out, for the ratio of their lengths is over {times} times off the usual",
        "한쪽이 다른 쪽에 견주어 보통보다 {times}배 넘게 길거나 짧은 쌍 {count:,}개는 뺐습니다",
    ),
    "duplicates": (
        "{count:,} pairs repeat another and are left out",
        "다른 쌍과 똑같은 쌍 {count:,}개는 뺐습니다",
    ),
    "together": (
        "{count:,} pairs share their source or target with another; they stay in one part of the split",
        "원문이나 번역이 다른 쌍과 같은 쌍 {count:,}개는 나눌 때 한쪽에 함께 둡니다",
    ),
    "moved": (
        "{count:,} pairs of a group that is not trained on have a sentence of another part, so they train",
        "훈련에 쓰지 않는 묶음의 쌍 {count:,}개는 다른 부분에도 있는 문장이라 훈련 부분으로 옮겼습니다",
    ),
    "ungrouped": (
        "groups repeat too many sentences of other groups to be kept apart; pairs are split by their "
        "sentences alone",
        "`group`끼리 같은 문장이 너무 많아 묶음대로 나눌 수 없습니다. 문장만 보고 나누었습니다",
    ),
    "long": (
        "{count:,} of {rows:,} training pairs have more than {length:,} tokens on a side and are left out "
        "(--length)",
        "훈련 쌍 {rows:,}개 가운데 한쪽의 토큰이 {length:,}개를 넘는 {count:,}개는 뺐습니다(--length)",
    ),
}

MOST = 2000
"""Pairs that validation and test hold at most. BLEU of 2,000 sentences is known to about one point, and
each of them is a search through the vocabulary, not one look: the rest teaches more than it would tell."""
LENGTH = 128
"""Tokens of a side, END included, unless said otherwise: all of a sentence. Doubled, to 512 at most, for data
of which more than a tenth would be left out."""
_LONGEST, _LOST = 512, 0.1
_SHARE = 0.1  # of the pairs in validation and in test, while there are few
_LEAST = 5
_ENDLESS = 20_000  # characters of a side; a page of a book has 2,000
_TIMES, _SHORT = 9, 20  # the ratio of lengths says nothing where both sides have at most 20 characters
_USUAL = 0.1  # pairs of unlikely lengths up to that share are errors; more are the way of the data
_MOSTLY = 0.5
_BLOCK = 1 << 12
REACH = 10
"""Tokens beyond twice its source's that a target may always have."""
_WITHIN = 0.999  # of the training pairs, those whose targets are reached


@dataclass(frozen=True)
class PairArrays:
    """Encoded pairs of one part, in file order."""

    features: Int32[np.ndarray, "N S"]
    """Source tokens, END behind, PAD at the right."""
    targets: Int32[np.ndarray, "N T1"]
    """START, target tokens, END, PAD at the right."""
    texts: pl.DataFrame
    """The pairs as they are written: the source's column, then the target's."""

    @property
    def sources(self) -> list[str]:
        return self.texts.to_series(0).to_list()

    @property
    def references(self) -> list[str]:
        """What translations of `sources` are compared with."""
        return self.texts.to_series(1).to_list()


def prepare_pairs(
    source: str | Path | pl.DataFrame | Table,
    *,
    text: str | None = None,
    target: str | None = None,
    seed: int = 0,
    tokenizer: Tokenizer | str | Path | None = None,
    source_tokenizer: Tokenizer | None = None,
    vocabulary: int = 0,
    separate: bool = False,
    length: int = 0,
    cache: Path | None = None,
    memory: int = 2 << 30,
) -> Prepared:
    """Open pairs, leave out what is none (`clean_pairs`), split them and encode them.

    Validation and test have a tenth each, 2,000 pairs at most. No source (its case and white space aside) and
    no target of one part is in another; pairs of one `group` stay together as far as that allows. Where so
    many pairs share a target that nothing would be left to choose by, sources alone decide; else both
    directions of the same pairs have the same split.

    The tokenizer is a kind (bpe unless a built-in suits another), a `tokenizer.json` or one that is at hand.
    One that is learnt knows the training part alone: both sides, or with `separate` one for each, of
    `vocabulary` tokens or what suits the amount of text. `source_tokenizer` goes with a `tokenizer` at hand.
    Training pairs with more than `length` tokens on a side are left out; validation and test keep all, and
    long sides are cut. Arrays that would take more than half of `memory` are mapped from raw files in `cache`
    (a temporary folder if None). Raises SadariError when there are too few pairs, or a setting is none.
    """
    if length < 0 or length == 1 or vocabulary < 0:
        raise SadariError(
            f"length={length}, vocabulary={vocabulary}: a side holds 2 tokens or more, a vocabulary too; 0 "
            "chooses for you"
        )
    table = clean_pairs(open_pairs(source, text=text, target=target, memory=memory))
    frame = table.frame.collect()
    split, said = _split(frame, table.name, seed)
    training = frame[split.train]
    ours, theirs = _tokenizers(table, training, tokenizer, source_tokenizer, vocabulary, separate)
    shared = ours is theirs or ours.fingerprint == theirs.fingerprint
    spec = PairSpec(frame.columns[0], frame.columns[1], ours, ours if shared else theirs, length, shared)
    spec, split, (train, validation, test) = _encode(spec, frame, split, table.name, memory, cache)
    notes = (*table.notes, *said, *spec.notes)
    # the spec and the arrays are of another kind: the same names mean the same
    return Prepared(table, "translate", spec, split, train, validation, test, notes, "pairs")  # type: ignore[arg-type]


def recoded(prepared: Prepared, tokenizer: Tokenizer, length: int = 0, memory: int = 2 << 30) -> Prepared:
    """The same pairs in the same split, both sides in another tokenizer (for a rung that reads characters).

    `length` 0 holds every training pair that there is; with a smaller one the longer of them are left out.
    """
    before = prepared.spec
    assert isinstance(before, PairSpec)
    frame = prepared.table.frame.collect()
    if not length:
        rows = frame[prepared.split.train]
        length = 1 + max(
            len(tokens) for name in rows.columns[:2] for tokens in tokenizer.encode(rows[name].to_list())
        )
    said = tuple(note for note in before.notes if note.about.get("kind") not in ("long", "unknown"))
    spec = replace(
        before,
        tokenizer=tokenizer,
        source_tokenizer=tokenizer,
        shared=True,
        length=max(2, length),
        notes=said,
    )
    spec, split, (train, validation, test) = _encode(
        spec, frame, prepared.split, prepared.table.name, memory, None
    )
    others = tuple(note for note in prepared.notes if note not in before.notes)
    return replace(
        prepared,
        spec=spec,  # type: ignore[arg-type]
        split=split,
        train=train,  # type: ignore[arg-type]
        validation=validation,  # type: ignore[arg-type]
        test=test,  # type: ignore[arg-type]
        notes=(*others, *spec.notes),
    )


# --------------------------------------------------------------------- cleaning


def clean_pairs(table: Table) -> Table:
    """The table of `open_pairs` without what is no pair, each rule with a count in the notes; in this order:

    an empty side; a side of more than 20,000 characters; the same text on both sides, unless most pairs are
    so; a ratio of lengths in characters more than 9 times from the middle one of this table, where a side has
    more than 20 characters, unless more than a tenth are so; a pair that was met before.
    Raises SadariError when fewer than five pairs are left, or most have an empty side.
    """
    frame, rows, notes = table.frame.collect(), table.rows, list(table.notes)
    text, target = frame.columns[:2]
    one, other = pl.col(text), pl.col(target)

    def leave_out(bad: pl.Series, key: str, **values: Any) -> None:
        nonlocal frame
        if count := int(bad.sum()):
            frame = frame.filter(~bad)
            notes.append(Note.of(TEXTS, key, "info", count=count, **values))

    empty = frame.select((one == "") | (other == "")).to_series()
    if empty.sum() > rows / 2:
        sides = " and ".join(
            f"`{name}` is empty in {int((frame[name] == '').sum()):,}" for name in (text, target)
        )
        raise SadariError(
            f"{table.name}: {int(empty.sum()):,} of {rows:,} pairs have an empty side ({sides}); fill them, "
            "or name other columns with --text and --target"
        )
    leave_out(empty, "empty side", rows=rows)
    lengths = frame.select(one.str.len_chars().alias("one"), other.str.len_chars().alias("other"))
    leave_out(lengths.max_horizontal() > _ENDLESS, "endless", most=_ENDLESS)
    same = frame.select(one == other).to_series()
    if (share := float(same.mean() or 0)) > _MOSTLY:  # type: ignore[arg-type]
        notes.append(Note.of(TEXTS, "mostly identical", share=share))
    else:
        leave_out(same, "identical")
    odd = _odd_lengths(frame[text].str.len_chars().to_numpy(), frame[target].str.len_chars().to_numpy())
    if odd.sum() <= _USUAL * len(odd):
        leave_out(pl.Series(odd, dtype=pl.Boolean), "ratio", times=_TIMES)
    leave_out(~frame.select(pl.struct(text, target).is_first_distinct()).to_series(), "duplicates")
    if frame.height < _LEAST:
        left_out = "; ".join(note.english for note in notes[len(table.notes) :])
        raise SadariError(
            f"{table.name} has {frame.height} pairs to learn from; {_LEAST} are the least, thousands teach"
            + f" ({left_out})" * bool(left_out)
        )
    return replace(
        table, frame=frame.lazy(), rows=frame.height, fingerprint=fingerprint(frame), notes=tuple(notes)
    )


def _odd_lengths(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) whether the ratio of two lengths is far from the usual one."""
    if not len(one):
        return np.zeros(0, bool)
    ratio = np.log(other / one)
    return (np.abs(ratio - np.median(ratio)) > np.log(_TIMES)) & (np.maximum(one, other) > _SHORT)


# --------------------------------------------------------------------- splitting


def _split(frame: pl.DataFrame, name: str, seed: int) -> tuple[Split, list[Note]]:
    """A split in which no part has a sentence of another."""
    rows, share = frame.height, min(_SHARE, MOST / frame.height)
    sources, targets = (_codes(frame[column]) for column in frame.columns[:2])
    together, notes = _in_file_order(joined(sources, targets)), []
    if in_large(together, share).sum() > rows / 2:  # a few targets for all: yes and no
        together = _in_file_order(joined(sources))
    if (distinct := len(np.unique(together))) < _LEAST:
        raise SadariError(
            f"{name} has {rows:,} pairs of {distinct} different sources; {_LEAST} are the "
            "least, thousands teach"
        )
    if twice := int((np.bincount(together)[together] > 1).sum()):
        notes.append(Note.of(TEXTS, "together", count=twice))
    if "group" in frame.columns[2:] and frame["group"].n_unique() >= _LEAST:
        by_group = deal_groups(_codes(frame["group"]), share, MOST, seed)
        split, moved = with_training(by_group, together)
        if (
            min(map(len, (split.validation, split.test)))
            >= min(len(by_group.validation), len(by_group.test)) / 2
        ):
            return split, [*notes, *([Note.of(TEXTS, "moved", count=moved)] if moved else [])]
        notes.append(Note.of(TEXTS, "ungrouped", "warning"))
    return deal_groups(together, share, MOST, seed), notes


def _in_file_order(groups: np.ndarray) -> np.ndarray:
    """The groups numbered as they are met, so that both directions of the same pairs are split alike."""
    _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[unit]


def _codes(column: pl.Series) -> np.ndarray:
    """(N,) a number for each text, the same for those that differ in case and white space only."""
    keys = [" ".join(str(text).casefold().split()) for text in column.to_list()]
    return pl.Series(keys).rank("dense").to_numpy().astype(np.int64) - 1


# --------------------------------------------------------------------- encoding


def _tokenizers(
    table: Table,
    training: pl.DataFrame,
    given: Tokenizer | str | Path | None,
    source_given: Tokenizer | None,
    vocabulary: int,
    separate: bool,
) -> tuple[Tokenizer, Tokenizer]:
    """Of the target and of the source: the same object where one serves both."""
    from sadari.data.builtin import BUILTIN

    if given is None and table.source in BUILTIN:
        given = BUILTIN[table.source].tokenizer or None
    sources, targets = (training[column] for column in training.columns[:2])
    if source_given is not None:
        if not isinstance(given, Tokenizer):
            raise SadariError("source_tokenizer goes with a tokenizer at hand; give both, or separate=True")
        return given, source_given
    if not separate or isinstance(given, Tokenizer):
        both = choose_tokenizer(
            given, vocabulary, "translate", lambda: chain(sources, targets), _bytes(sources, targets)
        )
        return both, both
    if given is not None and Path(given).expanduser().is_file():
        raise SadariError(f"{given} is one tokenizer, for both sides; leave out separate, or name a kind")
    ours, theirs = (
        choose_tokenizer(given, vocabulary, "translate", lambda side=side: side, _bytes(side))  # type: ignore[misc]
        for side in (targets, sources)
    )
    return ours, theirs


def _bytes(*columns: pl.Series) -> int:
    return sum(int(column.str.len_bytes().sum()) for column in columns)


def _encode(
    spec: PairSpec, frame: pl.DataFrame, split: Split, name: str, memory: int, cache: Path | None
) -> tuple[PairSpec, Split, list[PairArrays]]:
    """The parts as arrays, the split without too long training pairs, the spec with what was found."""
    sides = [
        _Side(frame[column], tokenizer)
        for column, tokenizer in ((spec.source, spec.source_tokenizer), (spec.target, spec.tokenizer))
    ]
    longest = np.maximum(*(side.lengths for side in sides))  # (N,) END included
    if not spec.length:
        spec = replace(spec, length=_length(longest[split.train]))
    kept = split.train[longest[split.train] <= spec.length]
    said = list(spec.notes)
    if not len(kept):
        raise SadariError(
            f"{name}: each of the {len(split.train):,} training pairs has more than {spec.length:,} tokens "
            "on a side; allow more with --length"
        )
    if lost := len(split.train) - len(kept):
        level: Literal["info", "warning"] = "info" if lost <= _LOST * len(split.train) else "warning"
        said.append(Note.of(TEXTS, "long", level, count=lost, rows=len(split.train), length=spec.length))
    spec = replace(spec, reach=_reach(*(side.lengths[kept] for side in sides)))
    split = replace(split, train=kept)
    rows = (split.train, split.validation, split.test)
    folder = scratch(cache) if 8 * spec.length * sum(map(len, rows)) > memory // 2 else None
    arrays = []
    for part, places in zip(PARTS, rows, strict=True):
        source, target = (
            stack(blocks, width, folder and folder / f"{part}.{what}", memory)
            for blocks, width, what in (
                (sides[0].sources(places, spec.length), spec.length, "features"),
                (sides[1].targets(places, spec.length), spec.length + 1, "targets"),
            )
        )
        arrays.append(PairArrays(source, target, frame[places].select(spec.source, spec.target)))
    said += unknown_note(spec.tokenizer, arrays[1].targets)
    return replace(spec, notes=tuple(said)), split, arrays


def _length(longest: np.ndarray) -> int:
    """Tokens to allow a side, by those of the training pairs."""
    length = LENGTH
    while length < _LONGEST and (longest > length).mean() > _LOST:
        length *= 2
    return length


def _reach(sources: np.ndarray, targets: np.ndarray) -> int:
    """Tokens beyond twice the source's that nearly all targets are within, by lengths (N,) with END."""
    beyond = np.quantile(targets - 1 - 2 * sources, _WITHIN, method="higher")
    return max(REACH, int(beyond))


class _Side:
    """The tokens of all texts of a side, one after another, END behind each."""

    def __init__(self, texts: pl.Series, tokenizer: Tokenizer) -> None:
        self.start, self.end = tokenizer.start, tokenizer.end
        found = [
            tokenizer.encode_flat(texts.slice(place, _BLOCK).to_list(), np.int32, tokenizer.end)
            for place in range(0, len(texts), _BLOCK)
        ]
        self.tokens = np.concatenate([tokens for tokens, _ in found])
        self.lengths = np.concatenate([lengths for _, lengths in found])  # (N,)
        self.begins = np.cumsum(self.lengths) - self.lengths

    def sources(self, rows: np.ndarray, length: int) -> Iterator[np.ndarray]:
        """Blocks (n, length); a text that is cut still ends with END."""
        for some in _blocks(rows):
            block = self._block(some, length)
            block[self.lengths[some] > length, -1] = self.end
            yield block

    def targets(self, rows: np.ndarray, length: int) -> Iterator[np.ndarray]:
        """Blocks (n, length+1), START before each text; one that is cut has no END."""
        for some in _blocks(rows):
            yield np.insert(self._block(some, length), 0, self.start, axis=1)

    def _block(self, rows: np.ndarray, width: int) -> np.ndarray:
        """(n, width) the first tokens of some texts, PAD behind."""
        place = np.arange(width)
        real = place < self.lengths[rows, None]
        where = np.where(real, self.begins[rows, None] + place, 0)
        return np.where(real, self.tokens[where], np.int32(PAD)).astype(np.int32)


def _blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[place : place + _BLOCK] for place in range(0, len(rows), _BLOCK))
