"""What is worth saying of captions, and of pictures on both sides of a split."""

from __future__ import annotations

import numpy as np

from sadari.data.caption_arrays import Said
from sadari.data.captions import CaptionTable
from sadari.data.near_images import near
from sadari.data.prepare_images import TEXTS as OF_IMAGES
from sadari.data.split import Split
from sadari.lang import Note

TEXTS = {
    "repeated": (
        "{count:,} of {captions:,} captions are said of more than one picture; in a batch they count as "
        "known positives",
        "캡션 {captions:,}개 가운데 {count:,}개는 여러 그림에 쓰였습니다. 한 배치 안에서는 "
        "서로 맞는 짝으로 봅니다",
    ),
    "met": (
        "{share:.0%} of the test's captions are said of pictures that are trained on too; what is scored is "
        "new pictures, not new words",
        "테스트 캡션의 {share:.0%}는 훈련 그림에도 쓰였습니다. 새 낱말이 아니라 새 그림을 맞히는지 "
        "재는 점수입니다",
    ),
    "held out": (
        "the {count:,} pictures with `{column}` = {value} are the test; the others are divided into training "
        "and validation",
        "`{column}` 값이 {value}인 그림 {count:,}장이 테스트이고, 나머지는 훈련과 검증으로 나눕니다",
    ),
    "long": (
        "{share:.1%} of the captions have more than {length:,} tokens and are cut (--length)",
        "캡션의 {share:.1%}는 토큰이 {length:,}개를 넘어 그 뒤를 잘랐습니다(--length)",
    ),
    "missing language": (
        "{count:,} of {rows:,} pictures have no caption in {language}",
        "그림 {rows:,}장 가운데 {count:,}장은 {language} 캡션이 없습니다",
    ),
}
_MET = 0.1  # of the test's captions
_MANY = 0.1  # of the pictures
_FLATTERS = 0.01  # of the scored pictures: fewer move no score by a point


def language_notes(captions: Said, columns: tuple[str, ...], kept: np.ndarray) -> list[Note]:
    """What is said of languages that many pictures lack."""
    notes = []
    for place, name in enumerate(columns):
        count = sum(all(column != place for column, _ in captions[row]) for row in kept)
        if count > _MANY * len(kept):
            language = name.partition(".")[2] or name
            notes.append(
                Note.of(TEXTS, "missing language", "warning", count=count, rows=len(kept), language=language)
            )
    return notes


def word_notes(
    captions: Said, wordings: list[np.ndarray], subjects: np.ndarray, split: Split, kept: np.ndarray
) -> list[Note]:
    """What is said of captions that several pictures have."""
    counts = [len(captions[row]) for row in kept]
    words = np.concatenate([wordings[row] for row in kept])
    said_of = np.unique(np.stack([words, np.repeat(subjects[kept], counts)], 1), axis=0)[:, 0]
    repeated = np.bincount(said_of, minlength=int(words.max()) + 1)[words] > 1
    notes = []
    if count := int(repeated.sum()):
        notes.append(Note.of(TEXTS, "repeated", count=count, captions=len(words)))
    trained = np.concatenate([wordings[row] for row in split.train])
    tested = np.concatenate([wordings[row] for row in split.test])
    if (share := float(np.isin(tested, trained).mean())) > _MET:
        notes.append(Note.of(TEXTS, "met", share=share))
    return notes


def near_notes(table: CaptionTable, split: Split) -> list[Note]:
    """What is said of pictures to choose by or to score that look like one that is trained on."""
    scored = np.concatenate([split.validation, split.test])
    rows, likes = near(table.looks[scored], table.looks[split.train])
    if not len(rows):
        return []
    one, other = table.names[scored[rows[0]]], table.names[split.train[likes[0]]]
    level = "warning" if len(rows) > _FLATTERS * len(scored) else "info"
    return [Note.of(OF_IMAGES, "near", level, count=len(rows), one=one, other=other)]  # type: ignore[arg-type]
