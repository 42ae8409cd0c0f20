"""The picture that a view looks at: a file of the user's, or one of the run's validation part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sadari.inspection.view import Said, say

if TYPE_CHECKING:
    from sadari.runs import Run

TRIED = 32  # pictures among which the first with a right answer is looked for
SHOWN = 24  # letters of a name in a sentence
TEXTS = {
    "file": ("{name}", "{name}"),
    "row": (
        "picture {row} of the data (validation part, class {label})",
        "데이터의 {row}번 그림(검증 부분, 클래스 {label})",
    ),
}


@dataclass(frozen=True)
class Exhibit:
    """One picture, as people and as the network see it, with the network's answer."""

    pixels: UInt8[np.ndarray, "H W C"]
    tensor: Float[Tensor, "1 C H W"]
    name: Said
    """What it is called in a sentence."""
    label: str | None
    """Its class, where that is known."""
    probabilities: Float[np.ndarray, " K"]
    """Of every class."""
    classes: tuple[str, ...]

    @property
    def answer(self) -> int:
        """Number of the class that the network finds likeliest."""
        return int(self.probabilities.argmax())

    @property
    def said(self) -> str:
        """Name of that class, shortened."""
        return self.classes[self.answer][:SHOWN]

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "picture": self.name[0],
            "label": self.label,
            "answer": self.classes[self.answer],
            "probability": float(self.probabilities[self.answer]),
        }


def exhibit(run: Run, image: str | None) -> Exhibit:
    """The picture in the file `image`, else the first of the validation part that is rightly answered.

    Raises SadariError when `image` is no picture, or when it is None and the data is gone or has changed.
    """
    if image is not None:
        pixels = np.array(run.spec.decode(image))  # a copy that torch may hold
        name = say(TEXTS, "file", name=Path(image).name[:SHOWN])
        return _shown(run, pixels, name, None, run.predictions(pixels[None])[0])
    prepared = run.data()
    part: Any = prepared.validation
    tried = np.array(part.features[:TRIED])
    predicted = run.predictions(tried)
    right = predicted.argmax(1) == part.targets[:TRIED]
    row = int(right.argmax())  # the first one; where none is right, the first of all
    label = run.spec.classes[int(part.targets[row])]
    number = int(prepared.split.validation[row]) + 1
    name = say(TEXTS, "row", row=number, label=label[:SHOWN])
    return _shown(run, tried[row], name, label, predicted[row])


def _shown(run: Run, pixels: np.ndarray, name: Said, label: str | None, predicted: np.ndarray) -> Exhibit:
    tensor = run.task.tensors(torch.from_numpy(pixels)[None])
    return Exhibit(pixels, tensor, name, label, predicted, run.spec.classes)
