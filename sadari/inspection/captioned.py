"""Pictures of a run with a caption each, as the views of captions look at them: all of a part, or a few."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from sadari.errors import SadariError
from sadari.inspection.rows import PARTS, Part
from sadari.tasks_images import Pictures

if TYPE_CHECKING:
    from sadari.runs import Run

MOST = 2000  # pictures that a share is taken over
BLOCK = 1024  # pictures whose captions are compared at once


@dataclass(frozen=True)
class Captioned:
    """n pictures of a part, in the table's order, and one caption of each."""

    pixels: UInt8[np.ndarray, "n H W C"]
    tokens: Int[np.ndarray, "n T"]
    texts: list[str]
    numbers: Int[np.ndarray, " n"]
    """Of the pictures in the data, from 1."""
    subjects: Int[np.ndarray, " n"]
    """The same number for pictures of the same thing."""
    wordings: Int[np.ndarray, " n"]
    """The same number for captions of the same words."""

    def __len__(self) -> int:
        return len(self.texts)

    def chosen(self, rows: Any) -> Captioned:
        """Some of them, by their places here."""
        arrays = {
            name: getattr(self, name)[rows]
            for name in ("pixels", "tokens", "numbers", "subjects", "wordings")
        }
        return replace(self, texts=[self.texts[row] for row in rows], **arrays)

    def distinct(self, count: int) -> Captioned:
        """`count` of them, evenly spread, no two of one subject or in the same words; all such if fewer."""
        rows: list[int] = []
        subjects: set[int] = set()
        wordings: set[int] = set()
        for row, (subject, wording) in enumerate(zip(self.subjects, self.wordings, strict=True)):
            if int(subject) not in subjects and int(wording) not in wordings:
                rows.append(row)
                subjects.add(int(subject))
                wordings.add(int(wording))
        few = min(count, len(rows))
        return self.chosen([rows[i * len(rows) // few] for i in range(few)])

    def true(self, rows: Any = slice(None)) -> Bool[np.ndarray, "m n"]:
        """Which captions are true of these pictures: said of the same subject, or in the same words."""
        same_subject = self.subjects[rows][:, None] == self.subjects
        return same_subject | (self.wordings[rows][:, None] == self.wordings)

    def vectors(
        self, run: Run, model: Any = None
    ) -> tuple[Float[np.ndarray, "n D"], Float[np.ndarray, "n D"]]:
        """Of length 1, of pictures and of captions, by the run's model or by another of its kind.

        Towers that are locked answer once, for all models that have the same.
        """
        network: Any = run.model if model is None else model
        pixels, tokens = torch.from_numpy(self.pixels), torch.from_numpy(self.tokens)
        if hasattr(network, "kept"):
            kept = network.kept([Pictures(pixels, run.spec.pictures)], [tokens], bf16=False)
            if kept is not None:
                network, (pixels,), (tokens,) = kept
        image, text = run.task.images(network, pixels), run.task.captions(network, tokens)
        return image.double().numpy(), text.double().numpy()


def captioned(run: Run, part: Part = "test", most: int = MOST, language: str | None = None) -> Captioned:
    """At most `most` pictures of a part, evenly spread, each with its first caption.

    language   of the captions, as `caption.ko` has it in its name; else the first that a picture has

    Raises SadariError for a part or language that there is not, and when the data has changed.
    """
    if part not in PARTS:
        raise SadariError(f"part {part!r} is no part of the split; choose train, validation or test")
    prepared: Any = run.data()
    arrays, numbers = getattr(prepared, part), getattr(prepared.split, part)
    firsts = arrays.starts[:-1] if language is None else arrays.firsts(_place(run, language))
    there = np.flatnonzero(firsts >= 0)
    if not len(there):
        raise SadariError(f"no picture of the {part} part has a caption in {language}; leave out --language")
    few = min(most, len(there))
    rows = there[np.arange(few) * len(there) // few]
    words = firsts[rows]
    return Captioned(
        np.ascontiguousarray(arrays.features[rows]),
        np.ascontiguousarray(arrays.tokens[words]),
        arrays.texts[words].to_list(),
        numbers[rows] + 1,
        arrays.subjects[rows],
        arrays.wordings[words],
    )


def logits(run: Run, cosines: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """Cosines as the run's loss sees them: times its scale, plus its bias if it has one."""
    return scale_of(run) * cosines + (bias_of(run) or 0.0)


def scale_of(run: Run) -> float:
    """The inverse of the temperature that the run has come to."""
    model: Any = run.model
    return float(model.logit_scale.detach().exp())


def bias_of(run: Run) -> float | None:
    """The bias that the sigmoid loss has come to; None with softmax, which has none."""
    model: Any = run.model
    return None if model.logit_bias is None else float(model.logit_bias.detach())


def right(
    queries: Float[np.ndarray, "n D"], items: Float[np.ndarray, "m D"], true: Bool[np.ndarray, "n m"]
) -> Bool[np.ndarray, " n"]:
    """Of each query, whether a true item is nearer than all that are false; as near is not nearer."""
    near = queries @ items.T
    return np.where(true, near, -np.inf).max(1) > np.where(true, -np.inf, near).max(1)


def _place(run: Run, language: str) -> int:
    languages = run.spec.languages
    if language not in languages:
        known = ", ".join(filter(None, languages)) or "none is named"
        raise SadariError(f"--language {language}: no column of captions has it; there are: {known}")
    return languages.index(language)
