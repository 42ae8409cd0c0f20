"""What a run makes of pictures, how it reads them, and whether an index is its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from sadari.data.spec_images import ImageSpec
from sadari.errors import SadariError
from sadari.index import Index
from sadari.models.seeing import Seeing
from sadari.runs import Run

BLOCK = 16  # pictures that an eye sees at once
SAID = ("pictures", "folder", "run", "weights", "reading")
"""What an index tells of its making, among other things."""
Encoder = Callable[[UInt8[np.ndarray, "N H W C"]], Float32[np.ndarray, "N D"]]
"""Pixels, as the run's spec decodes them, to vectors of any length but 0."""


def pictures_of(run: Run) -> ImageSpec:
    """How the run reads pictures."""
    spec: ImageSpec = run.spec.pictures if run.kind == "captions" else run.spec
    return spec


def encoder_of(run: Run) -> Encoder:
    """What makes vectors of pixels. Raises SadariError for a run that makes none."""
    task, model = run.task, run.model
    if run.kind == "captions":

        def match(pixels: np.ndarray) -> np.ndarray:
            found: np.ndarray = task.images(model, torch.from_numpy(pixels)).numpy()
            return found

        return match
    if run.kind == "images" and isinstance(model, Seeing):
        eye = model

        @torch.no_grad()
        def see(pixels: np.ndarray) -> np.ndarray:
            found = [eye.features(task.tensors(some)) for some in torch.from_numpy(pixels).split(BLOCK)]
            return torch.cat(found).float().numpy()

        return see
    raise SadariError(
        f"{run.path} is a run of {run.rung} on {run.kind}, which puts no pictures in a space to search; give "
        "one of pictures and captions (sadari fit clip), or one with an eye (sadari fit probe)"
    )


def reading_of(run: Run) -> str:
    """A digest of how pictures and words are read."""
    content = json.dumps(run.spec.to_json(), sort_keys=True, default=str)
    if run.kind == "captions":
        content += run.spec.tokenizer.to_json()
    return blake2b(content.encode(), digest_size=16).hexdigest()


def check_made(opened: Index, folder: Path) -> None:
    """Raise SadariError unless the index in `folder` says what `sadari index` writes of it."""
    about = opened.about if isinstance(opened.about, dict) else {}
    if not all(isinstance(about.get(name), str) for name in SAID):
        raise SadariError(f"{folder} holds vectors that `sadari index` has not made; choose another folder")


def check_run(opened: Index, run: Run, folder: Path) -> None:
    """Raise SadariError unless the index in `folder` was made by the run, or one with the same weights."""
    about = opened.about
    if (about["weights"], about["reading"]) != (run.result["weights"], reading_of(run)):
        raise SadariError(
            f"{folder} was made by the run {about['run']}, and {run.path} is another: their vectors cannot "
            "be compared; give that run, or make an index in another folder"
        )
