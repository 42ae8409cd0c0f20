"""A Transformer of pairs as a folder that other programs open: transformers' Marian, and CTranslate2."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from sadari.data.spec_pairs import PairSpec
from sadari.errors import SadariError
from sadari.marian import to_marian
from sadari.models.translator import Translator
from sadari.runs import Run


def write_folder(run: Run, to: str, folder: Path) -> Path:
    """Write the run as `to`, "marian" or "ctranslate2", into a new folder and return it.

    It is made whole in a folder beside it and then moved, so that one that is there is complete. Raises
    SadariError when the run is of another kind, the folder has something in it, or a package is missing.
    """
    if not isinstance(run.model, Translator):
        raise SadariError(
            f"--to {to} is for a transformer of pairs, and this run is {run.rung} of task "
            f"{run.config['task']}; use --to safetensors"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SadariError(f"{folder} is there already; give another folder with --out, or remove it first")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            made = Path(scratch) / "marian"
            to_marian(run.model, made, run.spec)
            if to == "ctranslate2":
                made = _converted(made, run.spec, Path(scratch) / "ctranslate2")
            if folder.is_dir():
                folder.rmdir()
            shutil.move(made, folder)
    except OSError as error:
        raise SadariError(f"{folder} cannot be written ({error}); give another place with --out") from error
    return folder


def _converted(marian: Path, spec: PairSpec, out: Path) -> Path:
    """CTranslate2's form of a Marian folder; it reads tokens as the run's tokenizer.json writes them."""
    try:
        from ctranslate2.converters import TransformersConverter
    except ImportError as error:
        raise SadariError(
            "this export needs the packages ctranslate2 and transformers; install them with: pip install "
            "'sadari[ctranslate2]'"
        ) from error
    if not spec.shared:
        raise SadariError(
            "CTranslate2's converter knows one vocabulary for both sides; fit without --separate to export"
        )
    TransformersConverter(str(marian), copy_files=["tokenizer.json"]).convert(str(out))
    return out
