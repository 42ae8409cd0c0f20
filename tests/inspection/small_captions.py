"""Small runs of match for the views of captions: drawings of eighteen things, fitted once a process."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from sadari.fitting import fit
from sadari.inspection.view import View
from sadari.models.eye import SMALLEST
from sadari.runs import Run
from tests.drawings import WORDS, captioned
from tests.models.test_encoder import plant

HOME = tempfile.TemporaryDirectory(prefix="small-captions-", ignore_cleanup_errors=True)
_SMALL = {"layers": 1, "text_layers": 1, "width": 16, "heads": 2, "text_width": 16, "text_heads": 2}
SIZES: dict[str, dict[str, Any]] = {
    "bag-of-words": {"dimension": 12, "pixels": 6},
    "clip": {**_SMALL, "dimension": 12},
    "siglip": {**_SMALL, "inner": 32, "text_inner": 32},
    "locked": {"weights": "", "backbone": SMALLEST, "dimension": 12},
}
RUNGS = tuple(SIZES)


@cache
def small(rung: str, steps: int = 60, name: str = "", each: int = 6, **settings: Any) -> Run:
    """A run on so many drawings of each thing; `settings` are the loop's."""
    folder = Path(HOME.name)
    data = folder / f"drawings-{each}" / "captions.jsonl"
    if not data.exists():
        captioned(data.parent, each)
    model = SIZES[rung] | ({"texts": str(reader())} if rung == "locked" else {})
    training = {"batch_size": 32, "precision": "fp32", "learning_rate": 0.01, **settings}
    out = folder / (name or f"{rung}-{steps}-{each}")
    return fit(rung, str(data), out=out, budget=f"{steps}steps", model=model, train=training)


@cache
def reader() -> Path:
    """A sentence encoder that knows the words of the captions."""
    draw = torch.Generator().manual_seed(0)
    return plant(Path(HOME.name) / "reader", {word: torch.randn(16, generator=draw) for word in WORDS})


def marks(drawing: str) -> str:
    """A drawing without its pictures, whose letters may spell anything."""
    return re.sub(r'base64,[^"]*', "", drawing)


def check_words(view: View) -> None:
    """Every sentence is there in both languages, filled in."""
    for part in ("title", "caption", "see"):
        english, korean = getattr(view, part)
        for text in (english, korean):
            assert text and "  " not in text and "nan" not in text.replace(".", " ").split()
            assert "{" not in text.replace("{}", "")
        assert any("가" <= letter <= "힣" for letter in korean)
        assert not any("가" <= letter <= "힣" for letter in english.partition("“")[0])
