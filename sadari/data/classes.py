"""Classes as texts and pictures have them: which labels can be learnt, in which order, and who must train."""

from __future__ import annotations

import numpy as np
import polars as pl

from sadari.data import learn
from sadari.data.split import Split
from sadari.errors import SadariError
from sadari.lang import Note, Texts

LEAST = 5
MOST = 20
_IMBALANCE = 0.75
_FEW = 5


def check_labels(name: str, target: str, labels: pl.Series, what: str) -> None:
    """Raise SadariError when labels of `what` (texts, pictures) are too few, all alike, or all different."""
    if len(labels) < LEAST:
        raise SadariError(
            f"{name} has {len(labels)} {what} with a label; {LEAST} are the least, hundreds teach"
        )
    distinct = labels.n_unique()
    if distinct == 1:
        raise SadariError(
            f"{name}: the target {target} is one class ({labels[0]!r} in all {len(labels):,} {what}); choose "
            f"another --target"
        )
    if distinct > max(MOST, len(labels) / 2):
        raise SadariError(
            f"{name}: the target {target} has {distinct:,} classes in {len(labels):,} {what}, too many to "
            "learn; choose another --target"
        )


def known_classes(split: Split, codes: np.ndarray, groups: np.ndarray) -> tuple[Split, int]:
    """The split with every class in training: groups of a class that is not there move to it, counted."""
    part = np.empty(len(codes), np.int8)
    for number, rows in enumerate((split.train, split.validation, split.test)):
        part[rows] = number
    moved = 0
    for code in np.setdiff1d(codes, codes[split.train]):
        mine = np.isin(groups, groups[(codes == code) & (part > 0)][:1])
        moved += int((mine & (part > 0)).sum())
        part[mine] = 0
    return Split(*(np.flatnonzero(part == number) for number in range(3))), moved


def class_notes(texts: Texts, training: pl.DataFrame, rows: int, every: pl.DataFrame) -> list[Note]:
    """What is worth knowing of the classes, from their counts (label, count) in training and in all.

    `texts` has the sentence `once`, for a class that is met once, and may have its own `few` and `imbalance`.
    """
    texts = {**learn.TEXTS, **texts}
    target, count = training.columns
    notes = []
    label, largest = training.row(0)
    if largest / rows >= _IMBALANCE:
        notes.append(Note.of(texts, "imbalance", "warning", label=label, share=largest / rows))
    once = set(every.filter(pl.col(count) == 1)[target])
    few = sorted((many, name) for name, many in training.iter_rows() if many < _FEW)[:5]
    for many, name in few:
        if name in once:
            notes.append(Note.of(texts, "once", "warning", label=name))
        else:
            notes.append(Note.of(texts, "few", "warning", label=name, count=many))
    return notes


def in_order(label: str) -> tuple[int, float, str]:
    """What classes are sorted by: whole numbers by value, before text by letters."""
    whole = label.removeprefix("-").isdecimal() and len(label) <= 15
    return (0, float(label), label) if whole else (1, 0.0, label)
