"""From captioned pictures to pixels and tokens: open, split so that no picture stands on both sides, encode.

Which part a picture is in depends on the pictures, their groups and the seed alone: at another size, in other
languages and with another tokenizer the split is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from sadari.data.caption_arrays import CaptionArrays, Said, codes_of, subjects_of, wordings_of
from sadari.data.caption_columns import column_of, is_language
from sadari.data.caption_notes import TEXTS, language_notes, near_notes, word_notes
from sadari.data.caption_stream import CaptionStream, StreamedArrays, held_out
from sadari.data.captions import CaptionTable, captions_of, open_captions
from sadari.data.decode_image import CHANNELS, FITS, LARGEST
from sadari.data.image_files import Told
from sadari.data.mapped import stack
from sadari.data.prepare import Prepared
from sadari.data.prepare_images import SIZE, decoded_parts, moments
from sadari.data.prepare_images import TEXTS as OF_IMAGES
from sadari.data.prepare_text import choose_tokenizer, scratch, unknown_note
from sadari.data.spec_captions import CaptionSpec
from sadari.data.spec_images import ImageSpec
from sadari.data.spec_text import padded
from sadari.data.split import Split, joined, split_rows
from sadari.data.table import Table
from sadari.data.tokenizers import Tokenizer
from sadari.data.tokens import PARTS
from sadari.errors import SadariError
from sadari.lang import Note

LENGTH = 64
"""Tokens of a caption, START and END included, at most, unless said otherwise: those of SigLIP."""
CATEGORY = "category"
"""The column whose every value each part of a split has its share of."""
_QUANTILE = 0.999  # of the training captions that are kept whole
_LEAST = 10  # pictures
_MANY = 0.1
_BLOCK = 1 << 12


def prepare_captions(
    source: str | Path | pl.DataFrame | Table,
    *,
    image: str | None = None,
    caption: str | tuple[str, ...] | None = None,
    languages: tuple[str, ...] = (),
    hold_out: str = "",
    size: int = 0,
    fit: str = "crop",
    channels: int = 0,
    tokenizer: Tokenizer | str | Path | None = None,
    vocabulary: int = 0,
    length: int = 0,
    seed: int = 0,
    memory: int = 2 << 30,
    cache: Path | None = None,
    told: Told | None = None,
) -> Prepared:
    """Open captioned pictures, split them 60/20/20, decode the pictures and tokenise the captions.

    Pictures of the same pixels, and those of one `group`, stay in one part. An official test stays as it is,
    and `hold_out` makes one: "artist=noto" scores on all that have that value; what is in it as well is not
    trained on. `languages` keeps only captions of those. `size`, `fit` and `channels` are as in
    `prepare_images`, `tokenizer` and `vocabulary` as in `prepare_pairs`: one for all languages, learnt on the
    training part alone. Captions of more than `length` tokens are cut.
    Raises SadariError when there are too few pictures, or a setting is none.
    """
    _check_settings(size, fit, channels, length, vocabulary, languages)
    table = open_captions(source, image=image, caption=caption, memory=memory, cache=cache, told=told)
    frame = table.frame.collect()
    columns = _chosen(table, languages)
    captions = captions_of(frame, columns)
    kept = np.flatnonzero([bool(found) for found in captions])
    if len(kept) < _LEAST:
        raise SadariError(
            f"{table.name} has {len(kept)} pictures with captions; {_LEAST} are the least, thousands teach"
        )
    subjects, wordings = subjects_of(table.looks["pixels"], captions, len(columns)), wordings_of(captions)
    split, notes = _split(table, frame, kept, hold_out, seed)
    notes += language_notes(captions, columns, kept)
    notes += word_notes(captions, wordings, subjects, split, kept)
    training = [text for row in split.train for _, text in captions[row]]
    chosen = _tokenizer(table, training, tokenizer, vocabulary)
    pictures = ImageSpec(
        target="",
        image=frame.columns[0],
        classes=(),
        size=size or int(np.clip(np.median(_short_sides(table)), 1, SIZE)),
        fit=fit,
        channels=channels or int(table.looks["channels"].max()),
    )
    spec = CaptionSpec(pictures, columns, chosen, length or _length(chosen, training))
    spec, (train, validation, test) = _encode(
        spec, table, frame, split, captions, subjects, wordings, memory, told
    )
    notes = [*table.notes, *notes, *near_notes(table, split), *spec.notes]
    # the spec and the arrays are of another kind: the same names mean the same
    return Prepared(table, "match", spec, split, train, validation, test, tuple(notes), "captions")  # type: ignore[arg-type]


def resized(
    prepared: Prepared,
    *,
    size: int = 0,
    fit: str = "",
    channels: int = 0,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    tokenizer: Tokenizer | None = None,
    length: int = 0,
    memory: int = 2 << 30,
    told: Told | None = None,
) -> Prepared:
    """The same pictures and captions in the same split, with the pixels and tokens that another model reads.

    What is not given stays; `mean` and `std` of each channel, pixels from 0 to 1, are the training pictures'
    own unless given. Raises SadariError for a setting that is none.
    """
    before, table = prepared.spec, prepared.table
    assert isinstance(before, CaptionSpec) and isinstance(table, CaptionTable)
    old = before.pictures
    size, fit, channels = size or old.size, fit or old.fit, channels or old.channels
    _check_settings(size, fit, channels, length, 0, ())
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != channels:
            raise SadariError(f"{name} has {len(values)} values for {channels} channels; give one for each")
    frame = table.frame.collect()
    captions = captions_of(frame, before.captions)
    chosen = tokenizer or before.tokenizer
    if tokenizer is not None and not length:
        length = _length(tokenizer, [text for row in prepared.split.train for _, text in captions[row]])
    spec = CaptionSpec(
        replace(old, size=size, fit=fit, channels=channels), before.captions, chosen, length or before.length
    )
    subjects, wordings = (
        subjects_of(table.looks["pixels"], captions, len(before.captions)),
        wordings_of(captions),
    )
    spec, parts = _encode(spec, table, frame, prepared.split, captions, subjects, wordings, memory, told)
    pictures = replace(spec.pictures, mean=mean or spec.mean, deviation=std or spec.deviation)
    others = tuple(note for note in prepared.notes if note not in before.notes)
    return replace(
        prepared,
        spec=replace(spec, pictures=pictures),  # type: ignore[arg-type]
        train=parts[0],  # type: ignore[arg-type]
        validation=parts[1],  # type: ignore[arg-type]
        test=parts[2],  # type: ignore[arg-type]
        notes=(*others, *spec.notes),
    )


def _check_settings(
    size: int, fit: str, channels: int, length: int, vocabulary: int, languages: tuple[str, ...]
) -> None:
    if not 0 <= size <= LARGEST:
        raise SadariError(f"--size {size} is no size; give 1 to {LARGEST:,} pixels, or 0 to choose for you")
    if fit not in FITS:
        raise SadariError(f"--fit {fit!r} is no way to make a square; choose one of: {', '.join(FITS)}")
    if channels not in (0, *CHANNELS):
        raise SadariError(f"channels={channels}: pictures have 1 (grey) or 3 (colours); 0 chooses for you")
    if length < 0 or length in (1, 2) or vocabulary < 0:
        raise SadariError(
            f"length={length}, vocabulary={vocabulary}: a caption holds 3 tokens or more (START and END are "
            "two), a vocabulary too; 0 chooses for you"
        )
    if odd := [language for language in languages if not is_language(language)]:
        raise SadariError(f"{odd[0]!r} is no language's code; write ko or en")


def _chosen(table: CaptionTable, languages: tuple[str, ...]) -> tuple[str, ...]:
    """The columns of captions that are learnt from."""
    if not languages:
        return table.captions
    wanted = tuple(column_of(language) for language in languages)
    if missing := [name for name in wanted if name not in table.captions]:
        raise SadariError(
            f"{table.name} has no captions in {missing[0].partition('.')[2]}; it has: "
            f"{', '.join(table.captions)}"
        )
    return wanted


# --------------------------------------------------------------------- splitting


def _split(
    table: CaptionTable, frame: pl.DataFrame, kept: np.ndarray, hold_out: str, seed: int
) -> tuple[Split, list[Note]]:
    """A split of the rows `kept`, in the table's row numbers, no pixels of one part in another.

    Each part has its share of every `category`, where there is that column: it is then the split that
    `prepare_images` makes of the same pictures, and what a run of it tests on zero-shot it has never seen.
    """
    same = codes_of(table.looks["pixels"])[kept]
    test, notes = _held_out(table, frame, hold_out)
    test = test[kept]
    if test.any():
        use = test | ~np.isin(same, same[test])
        if count := int((~use).sum()):
            notes.append(Note.of(OF_IMAGES, "tested", "warning", count=count))
        kept, same, test = kept[use], same[use], test[use]
    kinds = None
    if CATEGORY in frame.columns:
        named = frame[CATEGORY].cast(pl.String)[kept].fill_null("").to_list()
        kinds = np.unique(named, return_inverse=True)[1].astype(np.int64)
    groups = same
    if "group" in frame.columns:
        named = frame["group"].cast(pl.String)[kept].to_list()
        alone = [f"row {row}" if name is None else f"group {name}" for row, name in enumerate(named)]
        groups = joined(same, np.unique(alone, return_inverse=True)[1])
    order = np.argsort(test, kind="stable")  # the test last, each part in file order
    strata = None if kinds is None else kinds[order]
    split = split_rows(len(kept), seed, strata=strata, groups=groups[order], official_test=int(test.sum()))
    return split.of(kept[order]), notes


def _held_out(table: CaptionTable, frame: pl.DataFrame, hold_out: str) -> tuple[np.ndarray, list[Note]]:
    """(N,) whether a picture is of the test that was asked for, or of the official one."""
    rows = np.arange(table.rows)
    if not hold_out:
        return rows >= table.rows - table.official_test, []
    column, sign, value = hold_out.partition("=")
    others = [name for name in frame.columns[1:] if name not in table.captions]
    if not sign or column not in others:
        raise SadariError(
            f"--hold-out {hold_out!r} names no column and value; write COLUMN=VALUE with one of: "
            f"{', '.join(others) or '(there is none)'}"
        )
    found = frame[column].cast(pl.String)
    test = (found == value).fill_null(False).to_numpy()
    if not test.any() or test.all():
        known = ", ".join(found.drop_nulls().unique().sort().head(6).to_list())
        raise SadariError(
            f"--hold-out {hold_out}: {int(test.sum()):,} of {len(test):,} pictures have that value, so "
            f"nothing is left to learn from or to score; values: {known}"
        )
    return test, [Note.of(TEXTS, "held out", count=int(test.sum()), column=column, value=value)]


# --------------------------------------------------------------------- pixels and tokens


def _tokenizer(
    table: CaptionTable, training: list[str], given: Tokenizer | str | Path | None, vocabulary: int
) -> Tokenizer:
    from sadari.data.builtin import BUILTIN

    if given is None and table.source in BUILTIN:
        given = BUILTIN[table.source].tokenizer or None
    size = sum(len(text.encode()) for text in training)
    return choose_tokenizer(given, vocabulary, "translate", lambda: training, size)


def _length(tokenizer: Tokenizer, training: list[str]) -> int:
    """Tokens that nearly all training captions have at most."""
    some = training[:: 1 + len(training) // 100_000]
    lengths = [len(tokens) for tokens in tokenizer.encode(some, special=True)]
    return int(np.clip(np.ceil(np.quantile(lengths, _QUANTILE)), 3, LENGTH))


def _encode(
    spec: CaptionSpec,
    table: CaptionTable,
    frame: pl.DataFrame,
    split: Split,
    captions: Said,
    subjects: np.ndarray,
    wordings: list[np.ndarray],
    memory: int,
    told: Told | None,
) -> tuple[CaptionSpec, list[CaptionArrays]]:
    """The parts as arrays; and the spec with mean and deviation, and notes on what was cut and enlarged."""
    pictures = spec.pictures
    features = decoded_parts(frame, table, split, pictures, memory, told)
    mean, deviation = moments(features[0])
    parts = (split.train, split.validation, split.test)
    total = sum(len(captions[row]) for part in parts for row in part)
    folder = scratch(table.cache) if 4 * total * spec.length > memory // 2 else None
    arrays, cut = [], 0
    for part, rows, own in zip(PARTS, parts, features, strict=True):
        said = [caption for row in rows for caption in captions[row]]
        texts = [text for _, text in said]
        blocks = _Tokens(spec, texts)
        tokens = stack(iter(blocks), spec.length, folder and folder / f"{part}.tokens", memory)
        cut += blocks.cut
        arrays.append(
            CaptionArrays(
                own,
                tokens,
                np.cumsum([0, *(len(captions[row]) for row in rows)]).astype(np.int64),
                np.array([column for column, _ in said], np.uint8),
                subjects[rows],
                np.concatenate([wordings[row] for row in rows]),
                pl.Series(texts, dtype=pl.String),
            )
        )
    notes = []
    if cut:
        level = "warning" if cut > _MANY * total else "info"
        notes.append(Note.of(TEXTS, "long", level, share=cut / total, length=spec.length))  # type: ignore[arg-type]
    if (smaller := float((_short_sides(table) < spec.size).mean())) > _MANY:
        notes.append(Note.of(OF_IMAGES, "enlarged", share=smaller, size=spec.size))
    notes += unknown_note(spec.tokenizer, arrays[1].tokens)
    pictures = replace(pictures, mean=mean, deviation=deviation)
    spec = replace(spec, pictures=pictures, notes=tuple(notes))
    if table.shards:
        kept = frame[frame.columns[0]][np.concatenate([split.validation, split.test])]
        stream = CaptionStream(table.shards, spec, held_out(kept), table.pairs)
        arrays[0] = StreamedArrays(**vars(arrays[0]), stream=stream)
    return spec, arrays


class _Tokens:
    """Blocks (n, length) of the tokens of captions; counts how many were cut."""

    def __init__(self, spec: CaptionSpec, texts: list[str]) -> None:
        self.spec, self.texts, self.cut = spec, texts, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.texts), _BLOCK):
            found = self.spec.tokenizer.encode(self.texts[start : start + _BLOCK], special=True)
            self.cut += sum(len(tokens) > self.spec.length for tokens in found)
            yield padded([self.spec.cut(tokens) for tokens in found], self.spec.length)


def _short_sides(table: CaptionTable) -> np.ndarray:
    return np.minimum(table.looks["width"], table.looks["height"])
