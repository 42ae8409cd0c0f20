"""From texts to tokens: open, split by what repeats, learn a tokenizer from the training part, encode all.

Labelled texts become an array (N, T) and class numbers; a corpus becomes one long stream of tokens a part.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl

from sadari.data.classes import check_labels, class_notes, in_order, known_classes
from sadari.data.mapped import stack
from sadari.data.prepare import Arrays, Prepared
from sadari.data.spec import target_values
from sadari.data.spec_text import LanguageSpec, TextSpec, padded
from sadari.data.split import Split, joined, split_rows
from sadari.data.table import Table
from sadari.data.text import Corpus, open_corpus, open_texts
from sadari.data.tokenizers import Kind, Tokenizer, train_tokenizer
from sadari.data.tokens import PARTS, tokenise
from sadari.errors import SadariError
from sadari.lang import Note

TEXTS = {
    "no target": (
        "{count:,} of {rows:,} rows have no `{target}` and are left out",
        "{rows:,}행 가운데 `{target}` 값이 없는 {count:,}행은 뺐습니다",
    ),
    "repeated": (
        "{count:,} of {rows:,} texts repeat another; those of the same text stay in one part of the split",
        "글 {rows:,}개 가운데 {count:,}개는 다른 글과 같습니다. 같은 글은 나눌 때 한쪽에 함께 둡니다",
    ),
    "once": (
        "class `{label}` occurs once; its text is trained on, and no score tells how well it is known",
        "범주 `{label}`의 글은 하나뿐이어서 훈련에만 쓰고, 얼마나 맞히는지는 점수로 알 수 없습니다",
    ),
    "moved": (
        "{count:,} texts whose class was in no training text were moved to training",
        "훈련 부분에 없던 범주의 글 {count:,}개를 훈련 부분으로 옮겼습니다",
    ),
    "cut": (
        "{share:.1%} of the texts have more than {length:,} tokens; the rest of them is not read (--length)",
        "글의 {share:.1%}는 토큰이 {length:,}개를 넘어 그 뒤는 읽지 않습니다(--length)",
    ),
    "unknown": (
        "{share:.1%} of the validation texts' tokens are unknown to the tokenizer; try tokenizer bpe",
        "검증 글의 토큰 {share:.1%}를 토크나이저가 모릅니다. 토크나이저 bpe를 써 보십시오",
    ),
}

LENGTH = 256
"""Tokens that are kept of a text, at most, unless said otherwise."""
_QUANTILE = 0.99  # of the training texts' lengths: one long text in a hundred need not lengthen all
_LEARNT = 50_000_000  # bytes of training text that a tokenizer is learnt from
_UNKNOWN = 0.1
_SAMPLE = 20_000  # training texts whose lengths are looked at
_BLOCK = 1 << 12  # texts encoded at once
_IN_MEMORY = 32 << 20  # bytes of text whose tokens need no file


def prepare_text(
    source: str | Path | pl.DataFrame | Table,
    *,
    target: str | None = None,
    text: str | None = None,
    seed: int = 0,
    tokenizer: Tokenizer | str | Path | None = None,
    vocabulary: int = 0,
    length: int = 0,
    memory: int = 2 << 30,
    cache: Path | None = None,
) -> Prepared:
    """Open labelled texts, split them 60/20/20 with each class in its share, and encode them.

    Texts that are the same, and those of one `group`, stay in one part. The tokenizer is a kind (bpe, words,
    unigram, characters) learnt from the training texts, a `tokenizer.json`, or one that is at hand; its
    vocabulary is `vocabulary`, or what suits the amount of text. Of each text the first `length` tokens are
    kept: by default 256, or what 99 % of the training texts have if that is less. Tokens that would take more
    than half of `memory` are mapped from raw files in `cache` (a temporary folder if None).
    Raises SadariError when there are too few texts or classes, or a setting is none.
    """
    if length < 0 or vocabulary < 0:
        raise SadariError(
            f"length={length}, vocabulary={vocabulary}: neither may be negative; 0 chooses for you"
        )
    table = open_texts(source, text=text, target=target)
    frame = table.frame.collect()
    text, target = frame.columns[:2]
    notes = list(table.notes)
    labels = target_values(frame, target, "classify", name=table.name)
    kept = np.flatnonzero(labels.is_not_null().to_numpy())
    if len(kept) < table.rows:
        lost = table.rows - len(kept)
        notes.append(Note.of(TEXTS, "no target", "warning", count=lost, rows=table.rows, target=target))
    known = frame[kept]
    check_labels(table.name, target, labels.drop_nulls(), "texts")
    codes = labels.drop_nulls().rank("dense").to_numpy().astype(np.int64) - 1
    groups, repeated = _groups(known, text)
    if repeated:
        notes.append(Note.of(TEXTS, "repeated", count=repeated, rows=len(kept)))
    split = split_rows(len(kept), seed, strata=codes, groups=groups)
    split, moved = known_classes(split, codes, groups)
    if moved:
        notes.append(Note.of(TEXTS, "moved", "warning", count=moved))
    split = split.of(kept)
    training = frame[split.train][text]
    size = int(training.str.len_bytes().sum())
    tokenizer = choose_tokenizer(tokenizer, vocabulary, "classify", lambda: training, size)
    counts = labels[split.train].value_counts(sort=True)
    classes = tuple(sorted(counts[target], key=in_order))
    said = class_notes(TEXTS, counts, len(split.train), labels.drop_nulls().value_counts())
    spec = TextSpec(target, text, classes, tokenizer, length, tuple(said))
    spec, (train, validation, test) = _encode(spec, frame, split, memory, cache)
    said = [*notes, *spec.notes]
    return Prepared(table, "classify", spec, split, train, validation, test, tuple(said), "text")  # type: ignore[arg-type]


def prepare_language(
    source: str | Path | pl.DataFrame | Table | Corpus | Sequence[str],
    *,
    text: str | None = None,
    seed: int = 0,
    tokenizer: Tokenizer | str | Path | None = None,
    vocabulary: int = 0,
    memory: int = 2 << 30,
    cache: Path | None = None,
) -> Prepared:
    """Open a corpus, split its documents 80/10/10 by file or article, and tokenise it into three streams.

    A corpus of more than 32 MB of text goes to raw files in `cache` (a temporary folder if None), which are
    found again as long as text, split and tokenizer are the same. `tokenizer` and `vocabulary` are as in
    `prepare_text`. Raises SadariError when there are too few documents, or a setting is none.
    """
    if vocabulary < 0:
        raise SadariError(f"vocabulary={vocabulary} may not be negative; 0 chooses for you")
    corpus = source if isinstance(source, Corpus) else open_corpus(source, text=text, memory=memory)
    groups = corpus.groups if len(np.unique(corpus.groups)) >= 3 else None  # too few files: by documents
    if corpus.rows < 3:
        raise SadariError(
            f"{corpus.name} is {corpus.rows} documents; three are the least: part them by "
            f"empty lines, or give more text"
        )
    split = split_rows(corpus.rows, seed, groups=groups, fractions=(0.8, 0.1, 0.1))
    part = np.empty(corpus.rows, np.int8)
    for number, rows in enumerate((split.train, split.validation, split.test)):
        part[rows] = number

    def training() -> Iterator[str]:
        return (text for text, number in zip(corpus.documents(), part, strict=True) if number == 0)

    tokenizer = choose_tokenizer(tokenizer, vocabulary, "language", training, 0.8 * corpus.bytes)
    folder = (cache or scratch()) if corpus.bytes > _IN_MEMORY else None
    train, validation, test = tokenise(corpus, tokenizer, part, folder, memory)
    said = unknown_note(tokenizer, validation.tokens)
    spec = LanguageSpec(tokenizer, tuple(said))
    # a corpus stands for the table, and streams for arrays: the same names mean the same
    return Prepared(corpus, "language", spec, split, train, validation, test, (*corpus.notes, *said), "text")  # type: ignore[arg-type]


def recoded(prepared: Prepared, tokenizer: Tokenizer, length: int = 0, memory: int = 2 << 30) -> Prepared:
    """The same labelled texts in the same split, in another tokenizer (that of a pretrained encoder).

    `length` as in `prepare_text`, for this tokenizer's tokens.
    """
    before = prepared.spec
    assert isinstance(before, TextSpec)
    said = tuple(note for note in before.notes if note.about.get("kind") not in ("cut", "unknown"))
    spec = replace(before, tokenizer=tokenizer, length=length, notes=said)
    frame = prepared.table.frame.collect()
    spec, (train, validation, test) = _encode(spec, frame, prepared.split, memory, None)
    others = tuple(note for note in prepared.notes if note not in before.notes)
    return replace(
        prepared, spec=spec, train=train, validation=validation, test=test, notes=(*others, *spec.notes)
    )


def _encode(
    spec: TextSpec, frame: pl.DataFrame, split: Split, memory: int, cache: Path | None
) -> tuple[TextSpec, list[Arrays]]:
    """The parts as arrays; and the spec with a length, where it has none, and with notes on what was cut."""
    if not spec.length:
        some = split.train[:: 1 + len(split.train) // _SAMPLE]
        found = spec.tokenizer.encode(frame[some][spec.text].to_list(), special=spec.special)
        usual = np.quantile([len(tokens) for tokens in found], _QUANTILE)
        spec = replace(spec, length=int(np.clip(np.ceil(usual), 1, LENGTH)))
    rows = sum(map(len, (split.train, split.validation, split.test)))
    folder = None
    if 4 * rows * spec.length > memory // 2:
        folder = scratch(cache)
    arrays = []
    cut = 0
    for name, part in zip(PARTS, (split.train, split.validation, split.test), strict=True):
        texts = frame[part]
        tokens, more = _tokens(spec, texts[spec.text], folder and folder / name, memory)
        arrays.append(Arrays(tokens, spec.encode_target(texts)))  # type: ignore[arg-type]
        cut += more
    said = list(spec.notes)
    if cut:
        said.append(Note.of(TEXTS, "cut", share=cut / rows, length=spec.length))
    said += unknown_note(spec.tokenizer, arrays[1].features)
    return replace(spec, notes=tuple(said)), arrays


def _tokens(spec: TextSpec, texts: pl.Series, path: Path | None, memory: int) -> tuple[np.ndarray, int]:
    """Tokens (N, T) of the texts, in memory or mapped from a raw file, and how many texts were cut."""
    cut = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal cut
        for start in range(0, len(texts), _BLOCK):
            found = spec.tokenizer.encode(texts.slice(start, _BLOCK).to_list(), special=spec.special)
            cut += sum(len(tokens) > spec.length for tokens in found)
            yield padded([spec.cut(tokens) for tokens in found], spec.length)

    tokens = stack(blocks(), spec.length, path, memory)
    return tokens, cut


def vocabulary_size(size: int, task: str) -> int:
    """How many tokens suit a training text of `size` bytes, 1,000 to 8,000; of pairs, both sides together.

    To classify, one for 100 bytes. A linear model on counted tokens (bpe; 1 MB to 4 MB of text) got better
    with each doubling to 8,000: reviews 0.70, 0.72, 0.74, 0.75 from 1,000 on, wiki 0.82 to 0.88, help-ko 0.77
    to 0.80. To learn a language, one for 1,400 bytes: bits per byte of a 4-gram model are lowest at 2,000 for
    1.9 MB of Korean and for 4 MB of English, at 4,000 for 4 MB of Korean, where 2,000 costs 2 % and 1,000
    6 %; and each token makes every step of a neural one dearer: to write it is its largest product.
    To translate, one for 400 bytes, by which 3 MB of English and Korean get 8,000: a choice, not measured.
    """
    per = {"classify": 100, "translate": 400}.get(task, 1400)
    return int(np.clip(2 ** round(np.log2(max(size, 1) / per)), 1000, 8000))


def choose_tokenizer(
    given: Tokenizer | str | Path | None,
    vocabulary: int,
    task: str,
    texts: Callable[[], Iterable[str]],
    size: float,
) -> Tokenizer:
    """The tokenizer that was given or named, or one learnt from 50 MB of texts of `size` bytes."""
    if isinstance(given, Tokenizer):
        return given
    if given is not None and str(given) not in get_args(Kind):
        if not Path(given).expanduser().is_file():
            raise SadariError(
                f"{str(given)!r} is neither a kind of tokenizer ({', '.join(get_args(Kind))}) nor a file; "
                "give a tokenizer.json"
            )
        return Tokenizer.load(given)
    learnt = list(_some(texts(), _LEARNT / max(1.0, size)))
    vocabulary = vocabulary or vocabulary_size(sum(len(text.encode()) for text in learnt), task)
    return train_tokenizer(learnt, str(given or "bpe"), vocabulary)  # type: ignore[arg-type]


def _some(texts: Iterable[str], share: float) -> Iterator[str]:
    """Texts from everywhere in their order, until there is enough to learn a tokenizer from."""
    taken = seen = 0.0
    for text in texts:
        size = len(text.encode())
        seen += size * share
        if share >= 1 or taken <= seen:
            taken += size
            yield text
        if taken > _LEARNT:
            return


def _groups(frame: pl.DataFrame, text: str) -> tuple[np.ndarray, int]:
    """(N,) what stays together: rows of one group or of one text; and how many texts repeat another."""
    same = frame[text].rank("dense").to_numpy().astype(np.int64) - 1
    repeated = len(same) - (int(same.max()) + 1)
    if "group" not in frame.columns[2:]:
        return same, repeated
    named = frame["group"].cast(pl.String).fill_null("").rank("dense").to_numpy().astype(np.int64) - 1
    return (joined(same, named), repeated) if repeated else (named, 0)


def unknown_note(tokenizer: Tokenizer, tokens: np.ndarray) -> list[Note]:
    """A warning when a tokenizer knows too few of the validation part's tokens."""
    if tokenizer.unknown is None:
        return []
    share = float((tokens == tokenizer.unknown).sum() / max(1, (tokens >= 0).sum()))
    return [Note.of(TEXTS, "unknown", "warning", share=share)] if share > _UNKNOWN else []


def scratch(cache: Path | None = None) -> Path:
    """A folder that goes when the program ends."""
    try:
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="sadari-", dir=cache))
    except OSError as error:
        raise SadariError(f"cannot write to {cache} ({error.strerror}); name another folder") from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
