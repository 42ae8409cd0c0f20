"""What a run makes of pictures, how it reads them, and whether an index is its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from sadari.data.decode_image import without_warnings
from sadari.data.listed import Listed
from sadari.data.spec_images import ImageSpec
from sadari.errors import SadariError
from sadari.heap import kept_memory
from sadari.index import Index
from sadari.layers.folded import folded
from sadari.models.seeing import Seeing, has_bf16
from sadari.runs import Run
from sadari.tasks_images import normalised

Precision = Literal["auto", "fp32", "bf16"]
BLOCK = 16  # pictures that are encoded at once where it cannot be told what is best
NEAR = 0.999  # mean cosine with vectors of float32 from which `auto` takes bf16
SAID = ("pictures", "folder", "run", "weights", "reading")
"""What an index tells of its making, among other things."""
Encoder = Callable[[UInt8[np.ndarray, "N H W C"]], Float32[np.ndarray, "N D"]]
"""Pixels, as the run's spec decodes them, to vectors of any length but 0."""


def pictures_of(run: Run) -> ImageSpec:
    """How the run reads pictures."""
    spec: ImageSpec = run.spec.pictures if run.kind == "captions" else run.spec
    return spec


def encoder_of(run: Run, precision: str = "fp32") -> Encoder:
    """What makes vectors of pixels: a twin of the run's picture tower, its norms folded away and its weights
    laid out once (`layers.folded`), in fp32 or bf16. Raises SadariError for a run that makes none.
    """
    tower, spec = _Tower(run.model, _way(run)).eval(), pictures_of(run)
    twin = folded(tower, precision)

    @torch.no_grad()
    def encode(pixels: np.ndarray) -> np.ndarray:
        count = len(pixels)
        blocks = twin.blocks(count, spec.width) or -(-count // BLOCK)
        with kept_memory() if blocks > 1 else nullcontext():
            found = [
                twin(normalised(torch.from_numpy(part), spec)).float()
                for part in np.array_split(pixels, blocks)
            ]
        return torch.cat(found).numpy()

    return encode


def check_precision(precision: str) -> None:
    """Raise SadariError for a precision that there is not."""
    if precision not in get_args(Precision):
        raise SadariError(
            f"--precision {precision}: numbers of the encoder are fp32, bf16, or auto; leave it out"
        )


def settled(
    run: Run, listed: Listed, rows: Sequence[int], precision: str, opened: Index | None = None
) -> tuple[str, float]:
    """fp32 or bf16 for these rows' pictures; and the mean cosine of bf16's vectors with fp32's over a few of
    them, 1 where it is not measured.

    `auto` is bf16 where the processor multiplies such numbers itself and the cosine is at least `NEAR`: a
    Transformer's is 0.99999; a deep network of convolutions, which rounds what each gives, may fall short.
    What goes on with an index is as that was made. Raises SadariError where something else is asked for.
    """
    if opened is not None:
        kind, cosine = str(opened.about.get("precision", "fp32")), float(opened.about.get("cosine", 1.0))
        if precision not in ("auto", kind):
            raise SadariError(
                f"--precision {precision}: this index was made in {kind}, and goes on so; leave it out, or "
                "make one in another folder"
            )
        return kind if has_bf16() else "fp32", cosine
    if precision == "fp32" or (precision == "auto" and not has_bf16()):
        return "fp32", 1.0
    spec, pixels = pictures_of(run), list[np.ndarray]()
    with without_warnings():
        for row in rows[:: max(len(rows) // BLOCK, 1)][:BLOCK]:
            with suppress(SadariError):  # what cannot be read is said where all are read
                if (picture := listed.pictures[row]) is not None:
                    pixels.append(spec.decode(picture, listed.ids[row]))
    cosine = cosine_of(run, np.stack(pixels)) if pixels else 1.0
    return "bf16" if precision == "bf16" or cosine >= NEAR else "fp32", cosine


def cosine_of(run: Run, pixels: UInt8[np.ndarray, "N H W C"]) -> float:
    """The mean cosine of these pictures' vectors in bf16 with those in fp32; what has no direction is left
    out."""
    exact, near = (torch.from_numpy(encoder_of(run, precision)(pixels)) for precision in ("fp32", "bf16"))
    cosines = nn.functional.cosine_similarity(exact.double(), near.double(), dim=-1)
    sound = cosines[(exact.norm(dim=-1) > 0) & cosines.isfinite()]
    return sound.mean().item() if len(sound) else 0.0


def reading_of(run: Run) -> str:
    """A digest of how pictures and words are read."""
    content = json.dumps(run.spec.to_json(), sort_keys=True, default=str)
    if run.kind == "captions":
        content += run.spec.tokenizer.to_json()
    return blake2b(content.encode(), digest_size=16).hexdigest()


def check_made(opened: Index, folder: Path | str) -> None:
    """Raise SadariError unless the index in `folder` says what `sadari index` writes of it."""
    about = opened.about if isinstance(opened.about, dict) else {}
    if not all(isinstance(about.get(name), str) for name in SAID):
        raise SadariError(f"{folder} holds vectors that `sadari index` has not made; choose another folder")


def check_run(opened: Index, run: Run, folder: Path | str) -> None:
    """Raise SadariError unless the index in `folder` was made by the run, or one with the same weights."""
    about = opened.about
    if (about["weights"], about["reading"]) != (run.result["weights"], reading_of(run)):
        raise SadariError(
            f"{folder} was made by the run {about['run']}, and {run.path} is another: their vectors cannot "
            "be compared; give that run, or make an index in another folder"
        )


class _Tower(nn.Module):
    """A model's way from pictures to vectors, as a network of its own."""

    def __init__(self, model: nn.Module, way: str) -> None:
        super().__init__()
        self.model, self.way = model, way

    def forward(self, pictures: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        found: Tensor = getattr(self.model, self.way)(pictures)
        return found


def _way(run: Run) -> str:
    """The method by which a run's model makes vectors of pictures."""
    if run.kind == "captions":
        return "encode_image"
    if run.kind == "images" and isinstance(run.model, Seeing):
        return "features"
    raise SadariError(
        f"{run.path} is a run of {run.rung} on {run.kind}, which puts no pictures in a space to search; give "
        "one of pictures and captions (sadari fit clip), or one with an eye (sadari fit probe)"
    )
